//! Tracing to a collector that is not ours: the official protobuf classes read what we write by hand.
//!
//! Spans must say who chose what, hang together over processes, and never cost a request anything,
//! whatever the collector does.

use serde_json::Value;

use crate::support::{Origin, Proxy, Stranger, eventually, get, needs, upstreams};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const SPAN: &str = "b7ad6b7169203331";

fn collector(refusals: u32) -> Stranger {
    Stranger::start("otlp_receiver.py", |_, _| {
        let mut command = crate::support::process::interpreter("otlp_receiver.py");
        command.env("REFUSALS", refusals.to_string());
        command
    })
}

fn spans(collector: &Stranger) -> Vec<Value> {
    let lines = collector.requests();
    lines.iter().map(|line| serde_json::from_str(line).expect("a span")).collect()
}

fn of_kind(collector: &Stranger, kind: &str, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    eventually(&format!("{count} spans of kind {kind}"), || {
        found = spans(collector).into_iter().filter(|span| span["kind"] == kind).collect();
        found.len() >= count
    });
    assert_eq!(found.len(), count, "{found:?}");
    found
}

fn config(collector: &Stranger, origins: &[&Origin], sample: &str, route: &str) -> String {
    let url = collector.url();
    format!(
        "tracing: {{ otlp: \"{url}\", sample: {sample} }}\n{}routes: [{{ name: all, {route} }}]\n",
        upstreams(origins)
    )
}

#[test]
fn a_collector_gets_arm_bucket_and_choice_and_upstreams_our_span() {
    needs!("python:opentelemetry.proto");
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let collector = collector(0);
    let route = "split: { stable: 0, canary: 1 }, sticky: { by: [{ header: x-user }] }";
    let proxy = Proxy::start(&config(&collector, &[&stable, &canary], "0%", route));
    let asked = get("/cart?secret=1").header("x-user", "ada").header("traceparent", PARENT);
    proxy.ask(&asked).expect_status(200);
    // Neither of these is sampled.
    proxy.ask(&get("/quiet")).expect_status(200);
    proxy.ask(&get("/quiet").header("traceparent", &PARENT.replace("-01", "-00"))).expect_status(200);
    let server = &of_kind(&collector, "server", 1)[0];
    let client = &of_kind(&collector, "client", 1)[0];
    let explained = proxy.explain(&asked);
    let said = &server["attributes"];
    assert_eq!((&server["service"], &server["name"]), (&"switchback".into(), &"GET all".into()));
    assert_eq!((&server["trace"], &server["parent"]), (&PARENT[3..35].into(), &SPAN.into()));
    assert_eq!(
        (&said["switchback.arm"], &said["switchback.choice"]),
        (&"canary".into(), &"sticky".into()),
        "{said}"
    );
    assert_eq!(said["switchback.bucket"], explained["bucket"], "{explained}");
    assert_eq!((&said["switchback.route"], &said["switchback.upstream"]), (&"all".into(), &"canary".into()));
    assert_eq!(said["switchback.endpoint"], canary.url());
    assert_eq!((&said["http.request.method"], &said["url.path"]), (&"GET".into(), &"/cart".into()));
    assert_eq!(said["http.response.status_code"], 200);
    assert!(!server.to_string().contains("secret"), "no query: {server}");
    assert_eq!((&client["parent"], &client["trace"]), (&server["span"], &server["trace"]));
    let (start, end) = (server["start"].as_u64(), server["end"].as_u64());
    assert!(start <= client["start"].as_u64() && client["end"].as_u64() <= end && start < end);
    let passed = canary.seen()[0].header("traceparent").expect("a parent").to_owned();
    assert_eq!(passed, format!("00-{}-{}-01", &PARENT[3..35], server["span"].as_str().expect("an id")));
    assert_eq!(
        canary.seen()[2].header("traceparent"),
        Some(&*PARENT.replace("-01", "-00")),
        "not ours to change"
    );
}

#[test]
fn a_trace_begun_here_has_no_parent_and_every_attempt_its_span() {
    needs!("python:opentelemetry.proto");
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let collector = collector(0);
    let dead = crate::support::raw::refused();
    let text = config(&collector, &[&stable, &canary], "100%", "split: { canary: 999999, stable: 1 }");
    let text = text.replace(&canary.url(), &dead);
    let proxy = Proxy::start(&text);
    proxy.ask(&get("/")).expect_status(200);
    let server = &of_kind(&collector, "server", 1)[0];
    assert_eq!(server["parent"], "");
    assert_eq!(server["attributes"]["switchback.choice"], "redistributed");
    let clients = of_kind(&collector, "client", 2);
    let failed: Vec<_> = clients.iter().map(|span| span["failed"].as_bool()).collect();
    assert_eq!(failed, [Some(true), Some(false)], "{clients:?}");
    assert_eq!(clients[0]["attributes"]["error.type"], "connect");
    assert_eq!(clients[0]["attributes"]["switchback.endpoint"], dead);
    assert_eq!(clients[1]["attributes"]["switchback.endpoint"], stable.url());
    let passed = stable.last().header("traceparent").expect("a parent").to_owned();
    assert_eq!(passed[36..52], server["span"].as_str().expect("an id")[..]);
}

#[test]
fn a_copy_is_linked_to_its_original() {
    needs!("python:opentelemetry.proto");
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let collector = collector(0);
    let route = "split: { stable: 1 }, mirror: [{ to: canary, percent: 100% }]";
    let proxy = Proxy::start(&config(&collector, &[&stable, &canary], "100%", route));
    proxy.ask(&get("/")).expect_status(200);
    let server = &of_kind(&collector, "server", 1)[0];
    let clients = of_kind(&collector, "client", 2);
    let copy = clients.iter().find(|span| span["attributes"]["switchback.shadow"] == "copy").expect("a copy");
    assert_eq!(copy["links"], serde_json::json!([server["span"]]));
    assert_eq!(
        (&copy["trace"], &copy["attributes"]["switchback.upstream"]),
        (&server["trace"], &"canary".into())
    );
}

#[test]
fn a_collector_that_is_busy_is_asked_again_and_one_that_is_away_costs_only_spans() {
    needs!("python:opentelemetry.proto");
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let busy = collector(1);
    let route = "split: { stable: 1, canary: 0 }";
    let proxy = Proxy::start(&config(&busy, &[&stable, &canary], "100%", route));
    proxy.ask(&get("/")).expect_status(200);
    of_kind(&busy, "server", 1);
    let text = config(&busy, &[&stable, &canary], "100%", route);
    proxy.reload(&text.replace(&busy.url(), &crate::support::raw::refused()));
    proxy.ask(&get("/")).expect_status(200);
    proxy.settles("switchback_spans_dropped_total", &[], 1);
    proxy.ask(&get("/")).expect_status(200);
    // The last spans are sent when the process ends, with everything else.
    proxy.reload(&text);
    for _ in 0..5 {
        proxy.ask(&get("/last")).expect_status(200);
    }
    proxy.stop();
    let last = spans(&busy).iter().filter(|span| span["attributes"]["url.path"] == "/last").count();
    assert_eq!(last, 5, "what waited at the end was sent");
}
