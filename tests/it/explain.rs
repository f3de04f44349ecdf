//! `explain` tells what a request will get, and it is the same code that decides.
//!
//! Operators debug routing with it; an answer that differs from the data path even once is worse
//! than none. Random requests are explained, then sent.

use serde_json::Value;

use crate::support::{Origin, Proxy, Request, get, long, upstreams};

const CHOICES: &str = "switchback_choices_total";
const SEED: u64 = 0xE7;

fn text(origins: &[&Origin]) -> String {
    format!(
        "{}routes:
  - name: exact
    hostnames: [shop.test]
    matches: [{{ path: {{ exact: /pay }} }}]
    split: {{ stable: 50, canary: 50 }}
    sticky: {{ by: [{{ header: x-user-id }}] }}
    armHeader: {{ client: x-arm }}
  - name: shop
    hostnames: [shop.test, \"*.shop.test\"]
    matches: [{{ path: /cart, method: POST }}, {{ path: /cart, headers: [{{ name: x-beta, value: \"1\" }}] }}, {{ path: /a }}]
    split: {{ stable: 70, canary: 20, third: 10 }}
    sticky: {{ by: [{{ header: x-user-id }}, {{ cookie: uid }}, {{ query: user }}], salt: s }}
    overrides:
      - {{ name: qa, when: {{ headers: [{{ name: x-qa, present: true }}] }}, arm: canary }}
      - {{ name: some, when: {{ queryParams: [{{ name: seg, value: \"1\" }}] }}, split: {{ stable: 50, third: 50 }} }}
    armHeader: {{ client: x-arm }}
  - name: office
    hostnames: [office.test]
    split: {{ stable: 1, canary: 0 }}
    overrides: [{{ name: office, when: {{ clientIP: [192.0.2.0/24] }}, arm: canary }}]
  - name: rest
    matches: [{{ path: {{ regex: \"/v[0-9]/.*\" }} }}, {{ queryParams: [{{ name: any, present: true }}] }}]
    split: {{ third: 1 }}
    armHeader: {{ client: x-arm }}
",
        upstreams(origins)
    )
}

fn random_request(random: &mut fastrand::Rng) -> Request {
    let pick = |random: &mut fastrand::Rng, of: &[&str]| of[random.usize(..of.len())].to_owned();
    let path =
        pick(random, &["/", "/pay", "/pay/", "/cart", "/cart/items", "/cartoon", "/a/b", "/v1/x", "/vx/x"]);
    let query = pick(random, &["", "", "?seg=1", "?any=", "?user=u7", "?user=u8&seg=1"]);
    let host = pick(random, &["shop.test", "shop.test:81", "eu.shop.test", "other.test"]);
    let method = pick(random, &["GET", "GET", "POST", "PUT"]);
    let mut request = Request::new(&method, &format!("{path}{query}")).host(&host);
    let user = format!("user-{}", random.u16(..));
    if random.bool() {
        request = request.header("x-user-id", &user);
    }
    if random.u8(0..3) == 0 {
        request = request.header("cookie", &format!("a=b; uid={user}"));
    }
    for (name, value) in [("x-beta", "1"), ("x-qa", "yes")] {
        if random.u8(0..4) == 0 {
            request = request.header(name, value);
        }
    }
    request
}

fn field<'a>(answer: &'a Value, name: &str) -> &'a str {
    answer[name].as_str().unwrap_or_default()
}

#[test]
fn explain_agrees_with_what_random_requests_then_get() {
    let origins = ["stable", "canary", "third"].map(Origin::start);
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let mut random = fastrand::Rng::with_seed(SEED);
    let count = if long() { 10_000 } else { 1_000 };
    let (mut conn, mut reasons) = (proxy.conn(), std::collections::BTreeMap::new());
    for _ in 0..count {
        let request = random_request(&mut random);
        let told = proxy.explain(&request);
        let labels = labels(&request, &told);
        let counted = proxy.metrics().count(CHOICES, &labels);
        let got = conn.ask(&request);

        let reason = field(&told, "reason").to_owned();
        if field(&told, "route").is_empty() {
            assert_eq!(got.status, 404, "{request:?}: {told}");
        } else {
            assert_eq!(got.status, 200, "{request:?}: {told}");
            // Route, reason and rule are what the counters say they were.
            proxy.settles(CHOICES, &labels, counted + 1);
        }
        if !drawn(&request, &told) {
            let arm = got.header("x-arm").unwrap_or_default();
            assert_eq!(arm, field(&told, "arm"), "{request:?}: {told}");
        }
        *reasons.entry(reason).or_insert(0) += 1;
    }
    println!("{reasons:?}");
    for reason in ["sticky", "override", "random"] {
        assert!(reasons.get(reason).is_some_and(|times| *times > 20), "{reason} in {reasons:?}");
    }
}

/// Whether the arm is drawn anew each time: without a key, by the route's split or by a segment's.
fn drawn(request: &Request, told: &Value) -> bool {
    let keyless = !request.target.contains("user=")
        && !request.headers.iter().any(|(name, _)| ["x-user-id", "cookie"].contains(&name.as_str()));
    field(told, "reason") == "random" || (keyless && field(told, "rule") == "some")
}

/// The counter a request explained like this moves; its arm only where it is not drawn anew.
fn labels<'a>(request: &Request, told: &'a Value) -> Vec<(&'a str, &'a str)> {
    let mut labels = vec![
        ("route", field(told, "route")),
        ("reason", field(told, "reason")),
        ("rule", field(told, "rule")),
    ];
    if !drawn(request, told) {
        labels.push(("arm", field(told, "arm")));
    }
    labels
}

#[test]
fn explain_knows_buckets_rules_and_the_client() {
    let origins = ["stable", "canary", "third"].map(Origin::start);
    let proxy = Proxy::start(&text(&origins.each_ref()));
    let told = proxy.explain(&get("/pay").header("x-user-id", "u42"));
    let bucket = crate::support::bucket("exact", "u42");
    let arm = if bucket < 5_000 { "canary" } else { "stable" };
    assert_eq!((field(&told, "route"), field(&told, "arm")), ("exact", arm), "{told}");
    assert_eq!((field(&told, "reason"), &told["bucket"]), ("sticky", &Value::from(bucket)), "{told}");
    let told = proxy.explain(&get("/a").header("x-qa", "1"));
    assert_eq!((field(&told, "reason"), field(&told, "rule")), ("override", "qa"), "{told}");
    let from = |address: &str| {
        proxy.read(&format!("/api/v1/explain?method=GET&url=http%3A%2F%2Foffice.test%2F&clientIP={address}"))
    };
    assert_eq!((field(&from("192.0.2.9"), "arm"), field(&from("192.0.2.9"), "rule")), ("canary", "office"));
    assert_eq!(field(&from("203.0.113.9"), "arm"), "stable");
    assert!(field(&proxy.explain(&get("/none").host("other.test")), "route").is_empty());
}
