//! The admin listener: who may read, who may act, and what a mistake is told.
//!
//! Whoever reaches a verb moves production traffic, so every guard is tested by taking exactly one
//! thing away from a request that works. A refused verb must change nothing.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::tools::{Finished, switchback};
use crate::support::{Conn, Origin, Proxy, Request, Site, eventually, get, post, private_network, upstreams};

const WEIGHTS: &str = "/api/v1/routes/all/weights";

fn text(origins: &[&Origin]) -> String {
    format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, sticky: {{ by: [{{ header: x-user-id }}] }} }}]\n",
        upstreams(origins)
    )
}

fn pair() -> [Origin; 2] {
    ["stable", "canary"].map(Origin::start)
}

fn without(request: &Request, name: &str) -> Request {
    let mut request = request.clone();
    request.headers.retain(|(known, _)| known != name);
    request
}

fn with(request: &Request, name: &str, value: &str) -> Request {
    without(request, name).header(name, value)
}

#[test]
fn reads_are_free_on_loopback_and_complete() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    for path in [
        "/livez",
        "/readyz",
        "/startupz",
        "/metrics",
        "/api/v1/status",
        "/api/v1/routes",
        "/api/v1/routes/all",
        "/api/v1/config",
    ] {
        assert_eq!(proxy.admin(&proxy.admin_request("GET", path)).status, 200, "{path}");
    }
    let ready = proxy.read("/readyz");
    assert_eq!(ready["status"], "ready", "{ready}");
    for check in ["config", "listeners", "state"] {
        assert_eq!(ready["checks"][check], "ok", "{ready}");
    }
    let route = proxy.read("/api/v1/routes/all");
    assert_eq!(route["name"], "all");
    let arms = route["arms"].as_array().expect("arms");
    let arm = |name: &str| arms.iter().find(|arm| arm["name"] == name).expect("an arm of that name");
    assert_eq!((&arm("canary")["weight"], &arm("canary")["source"]), (&json!(5), &json!("spec")), "{route}");
    assert_eq!(arm("stable")["upstream"], "stable");
    // Bare or under a key: either way the list holds the same object.
    let listed = proxy.read("/api/v1/routes");
    let list = listed.as_array().or_else(|| listed["routes"].as_array()).expect("a list of routes");
    assert_eq!((list.len(), &list[0]["name"]), (1, &json!("all")), "{listed}");
    assert_eq!(proxy.admin(&proxy.admin_request("GET", "/api/v1/routes/none")).status, 404);
    assert_eq!(proxy.admin(&proxy.admin_request("GET", "/nowhere")).status, 404);
}

#[test]
fn a_verb_says_what_changed_and_everything_agrees() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let before = proxy.generation();
    let done = proxy.weights("all", &[("stable", 60), ("canary", 40)]);
    assert!(done["generation"].as_u64() > Some(before), "{done}");
    let changed = done["changed"].as_array().expect("changed");
    let canary = changed.iter().find(|change| change["arm"] == "canary").expect("the canary changed");
    assert_eq!((&canary["before"], &canary["after"]), (&json!(5), &json!(40)), "{done}");
    let route = proxy.read("/api/v1/routes/all");
    let arms = route["arms"].as_array().expect("arms").clone();
    for arm in arms {
        assert_eq!(arm["source"], "operator", "{arm}");
    }

    // The whole split is meant: an arm that is not named gets nothing.
    proxy.weights("all", &[("canary", 1)]);
    for user in 0..50 {
        assert_eq!(proxy.ask(&get("/").header("x-user-id", &user.to_string())).origin(), "canary");
    }
    proxy.reset_weights("all");
    let route = proxy.read("/api/v1/routes/all");
    assert!(
        route["arms"].as_array().is_some_and(|arms| arms.iter().all(|arm| arm["source"] == "spec")),
        "{route}"
    );
}

#[test]
fn every_missing_guard_is_a_refusal_that_changes_nothing() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let good = proxy.verb(WEIGHTS, &json!({ "weights": { "stable": 1, "canary": 1 } }));
    let body = |text: &str| Request { body: text.as_bytes().to_vec(), ..good.clone() };
    let admin = proxy.site.admin().to_string();
    let rows: Vec<(&str, Request, &[u16])> = vec![
        ("no token", without(&good, "authorization"), &[401]),
        ("a wrong token", with(&good, "authorization", "Bearer 0000"), &[401, 403]),
        (
            "another scheme",
            with(&good, "authorization", &format!("Basic {}", proxy.site.token())),
            &[401, 403],
        ),
        ("another Host", good.clone().host("evil.test"), &[403, 421]),
        ("a Host that only starts like loopback", good.clone().host("127.0.0.1.evil.test"), &[403, 421]),
        ("another Origin", with(&good, "origin", "http://evil.test"), &[403]),
        ("a null Origin", with(&good, "origin", "null"), &[403]),
        ("a form", with(&good, "content-type", "application/x-www-form-urlencoded"), &[415, 400, 403]),
        ("plain text", with(&good, "content-type", "text/plain"), &[415, 400, 403]),
        ("no content type", without(&good, "content-type"), &[415, 400, 403]),
        ("no If-Match", without(&good, "if-match"), &[412]),
        ("a stale If-Match", with(&good, "if-match", "0"), &[409]),
        ("an If-Match that is no generation", with(&good, "if-match", "soon"), &[400, 409, 412]),
        ("GET", Request { method: "GET".to_owned(), ..good.clone() }, &[405]),
        (
            "an unknown route",
            Request { target: "/api/v1/routes/none/weights".to_owned(), ..good.clone() },
            &[404],
        ),
        ("an unknown arm", body(r#"{"weights":{"stable":1,"canry":1}}"#), &[400, 422]),
        ("an unknown key", body(r#"{"weight":{"stable":1}}"#), &[400, 422]),
        ("a negative weight", body(r#"{"weights":{"stable":-1}}"#), &[400, 422]),
        ("no JSON", body("weights"), &[400]),
        ("an oversized body", body(&"x".repeat(2 << 20)), &[413]),
    ];
    let before = proxy.generation();
    for (what, request, expected) in &rows {
        let response = proxy.admin(request);
        assert!(expected.contains(&response.status), "{what}: {response:?}");
        assert_eq!(proxy.generation(), before, "{what} changes nothing");
    }
    for host in [admin.as_str(), "localhost", "127.0.0.1", "[::1]"] {
        let response = proxy.admin(&good.clone().host(host));
        assert_eq!(response.status, 200, "{host}: {response:?}");
    }
    let same_origin = with(&good, "origin", &format!("http://{admin}"));
    assert_eq!(proxy.admin(&same_origin).status, 200, "the page the listener serves itself");
}

#[test]
fn if_match_admits_the_current_generation_once() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let current = proxy.read("/api/v1/routes/all")["generation"].as_u64().expect("a generation");
    let ask = |generation: u64, canary: u32| {
        let verb = proxy.verb(WEIGHTS, &json!({ "weights": { "stable": 90, "canary": canary } }));
        proxy.admin(&with(&verb, "if-match", &generation.to_string())).status
    };
    assert_eq!(ask(current, 10), 200);
    assert_eq!(ask(current, 20), 409, "somebody else was here");
    let now = proxy.read("/api/v1/routes/all")["generation"].as_u64().expect("a generation");
    assert_eq!(ask(now, 20), 200);
}

#[test]
fn a_verb_on_one_route_is_no_news_for_another() {
    let origins = pair();
    let two = text(&origins.each_ref()).replace(
        "routes: [",
        "routes: [{ name: other, matches: [{ path: /other }], split: { stable: 1, canary: 1 } }, ",
    );
    let proxy = Proxy::start(&two);
    let generation = |route: &str| proxy.read(&format!("/api/v1/routes/{route}"))["generation"].as_u64();
    let (all, other) = (generation("all"), generation("other"));
    proxy.weights("all", &[("stable", 1), ("canary", 1)]);
    assert!(generation("all") > all, "its own plan moved");
    assert_eq!(generation("other"), other, "the other's did not");
}

#[test]
fn every_verb_is_in_the_journal_with_who_and_why() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let body =
        json!({ "weights": { "stable": 50, "canary": 50 }, "reason": "incident 4711", "actor": "ada" });
    proxy.admin(&proxy.verb(WEIGHTS, &body)).expect_status(200);
    proxy.admin(&without(&proxy.verb(WEIGHTS, &json!({ "weights": { "stable": 1 } })), "authorization"));
    let journal = || -> String {
        let files = std::fs::read_dir(proxy.site.state()).expect("the state folder");
        files.filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok()).collect()
    };
    eventually("the journal has it", || journal().contains("incident 4711"));
    let journal = journal();
    let line = journal.lines().find(|line| line.contains("incident 4711")).expect("its line");
    assert!(line.contains("ada") && line.contains("canary"), "{line}");
    assert!(!journal.contains(&format!("Bearer {}", proxy.site.token())), "no secrets");
}

#[test]
fn a_move_toward_stable_needs_no_generation() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let verb = |stable: u32, canary: u32| {
        let body = json!({ "weights": { "stable": stable, "canary": canary } });
        proxy.admin(&without(&proxy.verb(WEIGHTS, &body), "if-match")).status
    };
    assert_eq!(verb(90, 10), 412, "more canary needs the operator to have looked");
    assert_eq!(verb(99, 1), 200);
    assert_eq!(verb(100, 0), 200, "in an incident nobody looks up a generation");
}

#[test]
fn errors_have_one_shape() {
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let unknown = proxy.verb("/api/v1/routes/none/weights", &json!({ "weights": {} }));
    for request in [unknown.clone(), without(&unknown, "authorization"), without(&unknown, "if-match")] {
        let error = proxy.admin(&request).json();
        for key in ["code", "message"] {
            assert!(error[key].as_str().is_some_and(|text| !text.is_empty()), "{key} in {error}");
        }
    }
}

#[test]
fn reads_check_the_host_too_and_secrets_stay_inside() {
    let origins = pair();
    let proxy = Proxy::start(&format!(
        "{}admin: {{ address: \"127.0.0.1:@admin@\", allowedHosts: [ops.test] }}\n",
        text(&origins.each_ref())
    ));
    let read = |host: &str| proxy.admin(&get("/api/v1/status").host(host)).status;
    assert!([403, 421].contains(&read("evil.test")), "a rebound name reads nothing");
    assert_eq!(read("ops.test"), 200);
    let config = proxy.admin(&proxy.admin_request("GET", "/api/v1/config")).text();
    assert!(!config.contains(&proxy.site.token()), "the token is not in the effective configuration");
    assert!(!proxy.err().join("\n").contains(&proxy.site.token()), "nor in the log");
    let file = proxy.site.state().join("admin.token");
    let mode = std::fs::metadata(file).expect("the token file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_metrics_address_serves_probes_and_metrics_and_nothing_else() {
    let origins = pair();
    let proxy = Proxy::start(&format!(
        "metrics: {{ address: \"127.0.0.1:@metrics@\" }}\n{}",
        text(&origins.each_ref())
    ));
    let ask = |request: &Request| Conn::open(proxy.site.metrics()).ask(request);
    for path in ["/metrics", "/livez", "/readyz", "/startupz"] {
        assert_eq!(ask(&get(path).host("any.name.test:9902")).status, 200, "{path}");
    }
    for path in ["/api/v1/status", "/api/v1/config", "/api/v1/explain?method=GET&url=http://a/", "/"] {
        assert_eq!(ask(&get(path)).status, 404, "{path}");
    }
    let verb = proxy.verb(WEIGHTS, &json!({ "weights": { "stable": 1 } }));
    assert!([404, 405].contains(&ask(&verb).status), "no verbs, token or not");
}

fn refused_start(site: &Site) -> Finished {
    switchback(&site.folder(), &["run", "-c", &site.file().display().to_string()])
}

fn open_to_all(origins: &[Origin; 2], extra: &str) -> Site {
    let routes = text(&origins.each_ref());
    Site::new(&format!("{routes}admin: {{ address: \"0.0.0.0:@admin@\"{extra} }}\n"))
}

#[test]
fn an_admin_address_beyond_loopback_needs_tls_or_a_written_exception() {
    private_network!();
    let origins = pair();
    let refused = refused_start(&open_to_all(&origins, ""));
    assert!(matches!(refused.code, Some(1 | 2)), "{refused:?}");
    assert!(refused.err.contains("admin"), "{refused:?}");

    let proxy = Proxy::spawn(open_to_all(&origins, ", insecure: true"));
    let status = proxy.admin_request("GET", "/api/v1/status");
    let read = |request: &Request| {
        Conn::try_open(proxy.site.admin())
            .and_then(|mut conn| conn.send(request))
            .map(|response| response.status)
    };
    eventually("it starts with the exception", || read(&status).is_ok());
    assert_eq!(read(&status).ok(), Some(401), "reads need the token there");
    let token = format!("Bearer {}", proxy.site.token());
    assert_eq!(read(&status.header("authorization", &token)).ok(), Some(200));
}

#[test]
fn a_unix_socket_is_its_own_permission() {
    let origins = pair();
    let site =
        Site::new(&format!("{}admin: {{ address: \"unix:@dir@/admin.sock\" }}\n", text(&origins.each_ref())));
    let proxy = Proxy::spawn(site);
    let socket = proxy.site.folder().join("admin.sock");
    eventually("the socket answers", || {
        Conn::open_unix(&socket)
            .and_then(|mut conn| conn.send(&get("/readyz").host("localhost")))
            .is_ok_and(|response| response.status == 200)
    });
    let mode = std::fs::metadata(&socket).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let verb = post(WEIGHTS, r#"{"weights":{"stable":0,"canary":1}}"#)
        .host("localhost")
        .header("content-type", "application/json")
        .header("if-match", "*");
    let mut conn = Conn::open_unix(&socket).expect("connect");
    conn.ask(&verb).expect_status(200);
    assert_eq!(proxy.ask(&get("/")).origin(), "canary", "no token was needed");
}

#[test]
fn a_viewer_token_reads_and_cannot_act() {
    private_network!();
    let site = open_to_all(&pair(), ", insecure: true, viewerTokenFile: \"@dir@/viewer.token\"");
    let viewer = "v".repeat(64);
    site.place("viewer.token", &viewer);
    let proxy = Proxy::spawn(site);
    let bearer = format!("Bearer {viewer}");
    let status = proxy.admin_request("GET", "/api/v1/status").header("authorization", &bearer);
    eventually("the viewer reads", || {
        Conn::try_open(proxy.site.admin())
            .and_then(|mut conn| conn.send(&status))
            .is_ok_and(|response| response.status == 200)
    });
    let verb = proxy.verb(WEIGHTS, &json!({ "weights": { "stable": 1 } }));
    assert!([401, 403].contains(&proxy.admin(&with(&verb, "authorization", &bearer)).status));
    assert_eq!(proxy.admin(&verb).status, 200, "the operator acts");
}

#[test]
fn a_thousand_connections_that_say_nothing_lock_no_operator_out() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("more files");
    let origins = pair();
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let address = proxy.site.admin();
    let began = std::time::Instant::now();
    let held: Vec<Conn> = (0..1_100).map(|_| Conn::open(address)).collect();
    let opened = began.elapsed();
    let status = Conn::open(address).ask(&proxy.admin_request("GET", "/api/v1/status"));
    assert_eq!(status.status, 200);
    // Silent ones are closed after five seconds in any case; a machine so slow shows nothing here.
    let (took, second) = (began.elapsed().saturating_sub(opened), std::time::Duration::from_secs(1));
    assert!(opened > second || took < 3 * second, "{took:?}");
    drop(held);
}
