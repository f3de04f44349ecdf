//! Rates: who is told to wait, for how long, and that nobody else notices.
//!
//! A limit that differs per worker, forgets at a reload or charges an arm does harm that looks like
//! something else, so each is looked at by itself.

use crate::support::h2c::H2c;
use crate::support::{Conn, Origin, Proxy, get, post, upstreams};

fn limited(origin: &Origin, limit: &str, rest: &str) -> String {
    format!(
        "{}{rest}routes: [{{ name: all, split: {{ app: 1 }}, rateLimit: {{ {limit} }} }}]\n",
        upstreams(&[origin])
    )
}

#[test]
fn a_client_over_its_rate_gets_429_with_retry_after_while_others_are_served() {
    let origin = Origin::start("app");
    // Nobody gets a second one within the test's time.
    let proxy = Proxy::start(&limited(&origin, "requests: 1, per: 10m, burst: 5, by: clientIP", ""));
    let mut conn = proxy.conn();
    for _ in 0..5 {
        conn.ask(&get("/")).expect_status(200);
    }
    for request in [get("/"), post("/", "an order")] {
        let refused = conn.ask(&request).expect_status(429);
        let wait: u64 = refused.header("retry-after").expect("Retry-After").parse().expect("seconds");
        assert!((1..=600).contains(&wait), "{wait}");
        assert!(!refused.closes() && refused.header("x-request-id").is_some(), "{refused:?}");
        assert_eq!(refused.origin(), "");
    }
    Conn::open_from([127, 0, 0, 9], proxy.web()).ask(&get("/")).expect_status(200);
    assert_eq!(origin.requests(), 6);
    let metrics = proxy.settles("switchback_rejected_total", &[("reason", "rate_limited")], 2);
    assert_eq!(metrics.count("switchback_rate_limited_total", &[("route", "all")]), 2, "of which route");
    assert_eq!(metrics.count("switchback_requests_total", &[]), 6, "no arm is charged");
    assert_eq!(metrics.count("switchback_requests_total", &[("outcome", "ok")]), 6);
}

#[test]
fn a_limit_is_of_the_process_and_outlives_reloads() {
    let origin = Origin::start("app");
    for by in ["", ", by: clientIP"] {
        let before = origin.requests();
        let text = limited(&origin, &format!("requests: 1, per: 10m, burst: 20{by}"), "workers: 2\n");
        let proxy = Proxy::start(&text);
        // Connections of their own are spread over the workers.
        let count = |proxy: &Proxy| (0..30).filter(|_| proxy.ask(&get("/")).status == 200).count();
        assert_eq!(count(&proxy), 20, "{by}");
        let generation = proxy.generation();
        proxy.reload(&text.replace("rateLimit", "priority: 1, rateLimit"));
        assert!(proxy.generation() > generation);
        assert_eq!(count(&proxy), 0, "{by}: a reload gives nothing back");
        assert_eq!(origin.requests() - before, 20);
    }
}

#[test]
fn keys_are_counted_apart_and_who_sends_none_by_address() {
    let origin = Origin::start("app");
    let rows =
        [("{ header: x-user }", "x-user", ["a", "b"]), ("{ cookie: uid }", "cookie", ["uid=a", "uid=b"])];
    for (by, name, values) in rows {
        let proxy = Proxy::start(&limited(&origin, &format!("requests: 2, per: 10m, by: {by}"), ""));
        let mut conn = proxy.conn();
        let mut ask = |value: Option<&str>| {
            let request = value.map_or_else(|| get("/"), |value| get("/").header(name, value));
            conn.ask(&request).status
        };
        for value in [Some(values[0]), None, Some(values[1])] {
            assert_eq!([ask(value), ask(value), ask(value)], [200, 200, 429], "{by} {value:?}");
        }
    }
}

#[test]
fn a_grpc_client_is_told_in_its_own_way() {
    let origin = Origin::start("app");
    let text = limited(&origin, "requests: 1, per: 10m", "");

    let proxy = Proxy::start(&text);
    let client = H2c::open(proxy.web());
    let call =
        || client.send(&post("/a.B/C", "").header("content-type", "application/grpc")).expect("an answer");
    assert_eq!(call().status, 200);
    let refused = call().expect_status(200);
    assert_eq!(refused.header("grpc-status"), Some("8"), "{refused:?}");
    assert!(refused.header("retry-after").is_some() && refused.body.is_empty(), "{refused:?}");
}
