//! Steering: which requests an override forces to an arm, and when it no longer may.
//!
//! Every row is asked twice: of the real data path, and of the counters that name the rule, so that
//! an override that "works" by luck of the bucket fails. Users here are chosen by bucket to be on
//! stable without the override. Nothing may be steered that no rule names.

use jiff::{SignedDuration, Timestamp};

use crate::support::crowd;
use crate::support::split::user_in;
use crate::support::tools::switchback;
use crate::support::{
    Behaviour, Origin, Proxy, Request, Site, ask, eventually, get, raw, share_is, upstreams, users,
};

const CHOICES: &str = "switchback_choices_total";

/// A user outside the canary's five percent under the salt used here.
fn stable_user() -> String {
    user_in("all", 1_000..9_000)
}

fn from_stable_user(target: &str) -> Request {
    get(target).header("x-user-id", &stable_user())
}

fn text(origins: &[&Origin], overrides: &str) -> String {
    format!(
        "trustedProxies: [127.0.0.0/8]\n{}routes:\n  - name: all\n    split: {{ stable: 95, canary: 5 }}\n    \
         sticky: {{ by: [{{ header: x-user-id }}] }}\n    overrides:\n{overrides}",
        upstreams(origins)
    )
}

/// One rule, a request it must catch, and one it must let go.
struct Row {
    when: &'static str,
    hit: Request,
    miss: Request,
}

fn row(when: &'static str, hit: Request, miss: Request) -> Row {
    Row { when, hit, miss }
}

fn with(name: &str, value: &str) -> Request {
    from_stable_user("/").header(name, value)
}

fn header_rows() -> Vec<Row> {
    vec![
        row(
            "headers: [{ name: x-canary, value: always }]",
            with("X-Canary", "always"),
            with("x-canary", "Always"),
        ),
        row(
            "headers: [{ name: x-plan, in: [enterprise, pro] }]",
            with("x-plan", "pro"),
            with("x-plan", "prod"),
        ),
        row(
            "headers: [{ name: x-build, regex: \"v[0-9]+\" }]",
            with("x-build", "v12"),
            with("x-build", "v12-rc"),
        ),
        row("headers: [{ name: x-build, prefix: v2. }]", with("x-build", "v2.7"), with("x-build", "av2.7")),
        row(
            "headers: [{ name: x-mail, suffix: \"@corp.test\" }]",
            with("x-mail", "a@corp.test"),
            with("x-mail", "a@corp.test.evil"),
        ),
        row(
            "headers: [{ name: x-agent, contains: beta }]",
            with("x-agent", "app/beta/9"),
            with("x-agent", "app/9"),
        ),
        row(
            "headers: [{ name: x-debug, present: true }]",
            with("x-debug", "anything"),
            from_stable_user("/"),
        ),
        row("headers: [{ name: x-old, present: false }]", from_stable_user("/"), with("x-old", "1")),
        row("headers: [{ name: x-age, greaterThan: 17 }]", with("x-age", "18"), with("x-age", "17")),
        row("headers: [{ name: x-age, greaterThan: 9 }]", with("x-age", "10"), with("x-age", "not a number")),
        row("headers: [{ name: x-age, lessThan: 17 }]", with("x-age", "9"), with("x-age", "17")),
        row("headers: [{ name: x-list, inFile: listed.txt }]", with("x-list", "bob"), with("x-list", "bo")),
        row("headers: [{ name: x-flag, value: no }]", with("x-flag", "no"), with("x-flag", "false")),
    ]
}

fn other_rows() -> Vec<Row> {
    let cookie = |value: &str| with("cookie", value);
    let from = |address: &str| with("x-forwarded-for", address);
    let other = get("/").header("x-user-id", "somebody-else-on-stable-0");
    vec![
        row("cookies: [{ name: lab, present: true }]", cookie("a=1; lab=x"), cookie("a=1; label=x")),
        row("cookies: [{ name: lab, value: \"1\" }]", cookie("lab=1"), cookie("lab=01")),
        row(
            "queryParams: [{ name: preview, value: \"1\" }]",
            from_stable_user("/?preview=1"),
            from_stable_user("/?preview=2"),
        ),
        row("clientIP: [192.0.2.0/24]", from("192.0.2.77"), from("192.0.3.77")),
        row("clientIP: [\"2001:db8::/32\", 198.51.100.7]", from("2001:db8::9"), from("198.51.100.8")),
        row("clientIP: [192.0.2.0/24]", from("203.0.113.9, 192.0.2.77"), from("192.0.2.77, 203.0.113.9")),
        row("stickyKey: { inFile: users.txt }", from_stable_user("/"), other),
        row(
            "headers: [{ name: x-a, value: \"1\" }, { name: x-b, value: \"2\" }], cookies: [{ name: lab, present: true }]",
            with("x-a", "1").header("x-b", "2").header("cookie", "lab=1"),
            with("x-a", "1").header("x-b", "2"),
        ),
    ]
}

/// Runs rows against one proxy per row, because the first hit of a list would hide the later ones.
fn check_rows(rows: &[Row]) {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let origins = [&stable, &canary];
    let rule = |row: &Row| {
        text(&origins, &format!("      - {{ name: rule, when: {{ {} }}, arm: canary }}\n", row.when))
    };
    let site = Site::new(&rule(&rows[0]));
    site.place("listed.txt", "alice\nbob\n");
    site.place("users.txt", &format!("{}\n", stable_user()));
    let proxy = site.start();
    for (index, row) in rows.iter().enumerate() {
        if index > 0 {
            proxy.reload(&rule(row));
        }
        assert_eq!(proxy.ask(&row.hit).origin(), "canary", "{}: {:?}", row.when, row.hit);
        let miss = proxy.ask(&row.miss);
        assert_eq!(miss.status, 200, "{}: {miss:?}", row.when);
        // Two requests a row were counted, and of each row only the hit by its rule.
        proxy.settles(CHOICES, &[], 2 * (index as u64 + 1));
        assert_eq!(steered(&proxy, "rule"), index as u64 + 1, "{}: only the hit is steered", row.when);
    }
}

fn steered(proxy: &Proxy, rule: &str) -> u64 {
    let labels = [("route", "all"), ("reason", "override"), ("rule", rule)];
    proxy.metrics().count(CHOICES, &labels)
}

#[test]
fn header_conditions_steer_exactly_their_requests() {
    check_rows(&header_rows());
}

#[test]
fn cookies_queries_networks_and_lists_steer_exactly_their_requests() {
    check_rows(&other_rows());
}

#[test]
fn the_first_override_that_holds_wins() {
    let origins = ["stable", "canary", "third"].map(Origin::start);
    let proxy = Proxy::start(&text(
        &origins.each_ref(),
        "      - { name: one, when: { headers: [{ name: x-one, present: true }] }, arm: canary }\n      \
         - { name: two, when: { headers: [{ name: x-two, present: true }] }, arm: stable }\n",
    ));
    let both = with("x-two", "1").header("x-one", "1");
    assert_eq!(proxy.ask(&both).origin(), "canary");
    proxy.settles(CHOICES, &[("reason", "override")], 1);
    assert_eq!((steered(&proxy, "one"), steered(&proxy, "two")), (1, 0));
}

#[test]
fn an_edited_list_file_steers_without_a_touch_of_the_configuration() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let site = Site::new(&text(
        &[&stable, &canary],
        "      - { name: beta, when: { stickyKey: { inFile: beta.txt } }, arm: canary }\n",
    ));
    site.place("beta.txt", "nobody\n");
    let proxy = site.start();
    assert_eq!(proxy.ask(&from_stable_user("/")).origin(), "stable");
    site.place("beta.txt", &format!("nobody\n{}\n", stable_user()));
    eventually("the new list steers", || proxy.ask(&from_stable_user("/")).origin() == "canary");
}

#[test]
fn a_window_opens_by_itself_and_never_outside_its_times() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let at = |seconds: i64| (Timestamp::now() + SignedDuration::from_secs(seconds)).to_string();
    let rule = |name: &str, window: &str| {
        format!(
            "      - {{ name: {name}, when: {{ headers: [{{ name: x-{name}, present: true }}] }}, arm: canary, {window} }}\n"
        )
    };
    let (hour, day) = (3_600, 86_400);
    let rules = [
        rule("past", &format!("activeUntil: {}", at(-day))),
        rule("future", &format!("activeFrom: {}", at(hour))),
        rule("current", &format!("activeFrom: {}, activeUntil: {}", at(-hour), at(hour))),
        rule("soon", &format!("activeFrom: {}", at(3))),
    ];
    let proxy = Proxy::start(&text(&[&stable, &canary], &rules.concat()));

    for (name, expected) in [("past", "stable"), ("future", "stable"), ("current", "canary")] {
        assert_eq!(proxy.ask(&with(&format!("x-{name}"), "1")).origin(), expected, "{name}");
    }
    let generation = proxy.generation();
    eventually("the window opens", || proxy.ask(&with("x-soon", "1")).origin() == "canary");
    assert_eq!(proxy.generation(), generation, "no reload was needed");
}

#[test]
fn a_window_that_expired_yesterday_is_one_warning_and_no_obstacle() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let yesterday = (Timestamp::now() - SignedDuration::from_hours(24)).to_string();
    let rule = format!(
        "      - {{ name: black-friday, when: {{ headers: [{{ name: x-bf, present: true }}] }}, arm: canary, activeUntil: {yesterday} }}\n"
    );
    let proxy = Proxy::start(&text(&[&stable, &canary], &rule));
    assert_eq!(proxy.ask(&with("x-bf", "1")).origin(), "stable");
    let warnings: Vec<_> = proxy.err().into_iter().filter(|line| line.contains("black-friday")).collect();
    assert_eq!(warnings.len(), 1, "{:?}", proxy.err());
    assert!(warnings[0].to_ascii_lowercase().contains("warn"), "{warnings:?}");

    let file = proxy.site.file().display().to_string();
    let check = switchback(&proxy.site.folder(), &["check", &file]);
    assert_eq!(check.code, Some(0), "{check:?}");
    assert!(format!("{}{}", check.out, check.err).contains("black-friday"), "{check:?}");
}

#[test]
fn a_split_inside_a_segment_divides_only_that_segment() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&text(
        &[&stable, &canary],
        "      - { name: office, when: { clientIP: [192.0.2.0/24] }, trusted: true, split: { stable: 50, canary: 50 } }\n",
    ));
    let users = users(2_000);
    let arms = |address: &'static str| {
        ask(proxy.web(), users.len(), |index| {
            get("/").header("x-user-id", &users[index]).header("x-forwarded-for", address)
        })
    };
    let inside = arms("192.0.2.9");
    share_is("canary inside", crowd::count(&inside, "canary"), users.len(), 0.5, 4.0);
    assert_eq!(arms("192.0.2.10"), inside, "sticky inside the segment");
    proxy.settles(CHOICES, &[("rule", "office")], 2 * users.len() as u64);
    let outside = arms("203.0.113.9");
    share_is("canary outside", crowd::count(&outside, "canary"), users.len(), 0.05, 4.0);
}

#[test]
fn weights_by_verb_to_zero_void_an_override_unless_it_is_forced() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&text(
        &[&stable, &canary],
        "      - { name: qa, when: { headers: [{ name: x-qa, present: true }] }, arm: canary }\n      \
         - { name: boss, when: { headers: [{ name: x-boss, present: true }] }, arm: canary, force: true }\n",
    ));
    let (qa, boss) = (with("x-qa", "1"), with("x-boss", "1"));
    assert_eq!(proxy.ask(&qa).origin(), "canary");

    proxy.weights("all", &[("stable", 100), ("canary", 0)]);
    assert_eq!(proxy.ask(&qa).origin(), "stable", "void at once");
    assert_eq!(proxy.ask(&boss).origin(), "canary", "forced");

    proxy.reset_weights("all");
    assert_eq!(proxy.ask(&qa).origin(), "canary", "back with the file's weights");
}

#[test]
fn an_arm_of_weight_zero_in_the_file_is_reached_by_override_alone() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let dark = text(
        &[&stable, &canary],
        "      - { name: qa, when: { headers: [{ name: x-qa, present: true }] }, arm: canary }\n",
    );
    let proxy = Proxy::start(&dark.replace("stable: 95, canary: 5", "stable: 1, canary: 0"));
    let users = users(500);
    let arms = ask(proxy.web(), users.len(), |index| get("/").header("x-user-id", &users[index]));
    assert_eq!(crowd::count(&arms, "canary"), 0, "0 is never");
    assert_eq!(proxy.ask(&with("x-qa", "1")).origin(), "canary");
}

#[test]
fn a_header_that_steers_stops_here_unless_it_may_pass() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&text(
        &[&stable, &canary],
        "      - { name: qa, when: { headers: [{ name: x-qa, value: \"1\" }] }, arm: canary }\n      \
         - { name: plan, when: { headers: [{ name: x-plan, value: pro }] }, arm: canary, pass: true }\n",
    ));
    let seen = |request: &Request| match proxy.ask(request).origin() {
        "canary" => canary.last(),
        _ => stable.last(),
    };
    assert_eq!(seen(&with("x-qa", "1").header("x-other", "kept")).header("x-qa"), None);
    assert_eq!(canary.last().header("x-other"), Some("kept"));
    assert_eq!(seen(&with("x-qa", "guess")).header("x-qa"), None, "a guess stops here too");
    assert_eq!(seen(&with("x-plan", "pro")).header("x-plan"), Some("pro"));
}

#[test]
fn one_upstream_under_two_arm_names_is_told_apart_by_headers_and_metrics() {
    let app = Origin::start("app");
    let proxy = Proxy::start(&format!(
        "{}routes:\n  - name: all\n    defaultArm: old\n    sticky: {{ by: [{{ header: x-user-id }}] }}\n    split:\n      \
         old: {{ weight: 50, upstream: app, responseHeaders: {{ set: {{ x-arm: old }} }} }}\n      \
         new: {{ weight: 50, upstream: app, requestHeaders: {{ set: {{ x-variant: new }} }}, responseHeaders: {{ set: {{ x-arm: new }} }} }}\n",
        upstreams(&[&app])
    ));
    for (buckets, arm, variant) in [(0..5_000, "new", Some("new")), (5_000..10_000, "old", None)] {
        let request = get("/").header("x-user-id", &user_in("all", buckets));
        assert_eq!(proxy.ask(&request).header("x-arm"), Some(arm));
        assert_eq!(app.last().header("x-variant"), variant, "{arm}");
        let labels = [("arm", arm), ("upstream", "app")];
        proxy.settles("switchback_requests_total", &labels, 1);
    }
}

#[test]
fn the_arm_header_names_the_arm_and_cannot_be_forged() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let on = "      - { name: qa, when: { headers: [{ name: x-qa, present: true }] }, arm: canary }\n    \
              armHeader: { upstream: x-switchback-arm, client: x-arm }\n";
    let proxy = Proxy::start(&text(&[&stable, &canary], on));
    let forged = from_stable_user("/").header("x-switchback-arm", "canary");
    let response = proxy.ask(&forged);
    assert_eq!(response.header("x-arm"), Some("stable"));
    assert_eq!(stable.last().joined("x-switchback-arm").as_deref(), Some("stable"));
    assert_eq!(proxy.ask(&with("x-qa", "1")).header("x-arm"), Some("canary"));
    assert_eq!(canary.last().header("x-switchback-arm"), Some("canary"));

    proxy.reload(&text(&[&stable, &canary], &on[..on.find("    armHeader").expect("its line")]));
    assert_eq!(proxy.ask(&from_stable_user("/")).header("x-arm"), None, "off until written");
    assert_eq!(stable.last().header("x-switchback-arm"), None);
}

#[test]
fn an_arm_nobody_serves_is_replaced_or_refused_as_written() {
    let stable = Origin::start("stable");
    let text = |mode: &str| {
        format!(
            "upstreams: {{ stable: \"{}\", canary: \"{}\" }}\nroutes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, \
             sticky: {{ by: [{{ header: x-user-id }}] }}{mode} }}]\n",
            stable.url(),
            raw::refused()
        )
    };
    let canary_user = get("/").header("x-user-id", &user_in("all", 0..500));
    let proxy = Proxy::start(&text(""));
    let response = proxy.ask(&canary_user);
    assert_eq!((response.status, response.origin()), (200, "stable"), "redistributed by default");
    let posted = Request { body: b"whole".to_vec(), method: "POST".to_owned(), ..canary_user.clone() };
    proxy.ask(&posted).expect_status(200);
    assert_eq!(stable.last().body, b"whole", "the body goes where the request goes");
    let charged = [("arm", "canary"), ("upstream", "stable"), ("code", "2xx"), ("outcome", "error")];
    proxy.settles("switchback_requests_total", &charged, 2);
    proxy.settles("switchback_requests_in_flight", &[], 0);

    proxy.reload(&text(", whenUnavailable: fail"));
    assert_eq!(proxy.ask(&canary_user).status, 503);
    assert_eq!(proxy.ask(&from_stable_user("/")).origin(), "stable", "the others notice nothing");
}

#[test]
fn blue_green_serves_the_active_slot_and_previews_the_idle_one() {
    let (blue, green) = (Origin::start("blue"), Origin::start("green"));
    green.on("/missing", Behaviour::Answer(404, "not here"));
    let route = |hostnames: &str| {
        format!(
            "{}routes:\n  - name: web\n{hostnames}    blueGreen: {{ slots: [blue, green], active: blue, \
             preview: {{ headers: [{{ name: x-preview, value: \"1\" }}], hostnames: [preview.test] }} }}\n",
            upstreams(&[&blue, &green])
        )
    };
    let proxy = Proxy::start(&route(""));
    let rows = |app: &str| {
        [
            (get("/").host(app), "blue"),
            (get("/").host(app).header("x-preview", "1"), "green"),
            (get("/").host(app).header("x-preview", "0"), "blue"),
            (get("/").host("preview.test"), "green"),
            (get("/").host("preview.test:8080"), "green"),
        ]
    };
    for (request, expected) in rows("shop.test") {
        assert_eq!(proxy.ask(&request).origin(), expected, "{request:?}");
    }
    assert_eq!(proxy.ask(&get("/missing").header("x-preview", "1")).status, 404);

    proxy.reload(&route("    hostnames: [app.test]\n"));
    for (request, expected) in rows("app.test") {
        assert_eq!(proxy.ask(&request).origin(), expected, "with hostnames: {request:?}");
    }
    assert_eq!(proxy.ask(&get("/").host("other.test")).status, 404);
}
