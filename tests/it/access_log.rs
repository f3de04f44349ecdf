//! The access log: one JSON line per exchange, with the documented keys and nothing raw.
//!
//! Log pipelines parse these lines and people read them in terminals, so a line that a client can
//! shape is an attack. Keys outside the contract may not appear: somebody would come to rely on them.

use serde_json::Value;

use crate::support::split::user_in;
use crate::support::{Behaviour, Origin, Proxy, Site, bucket, eventually, get, post, raw, upstreams};

const DOCUMENTED: &[&str] = &[
    "ts",
    "request_id",
    "trace_id",
    "listener",
    "client",
    "method",
    "host",
    "path",
    "status",
    "route",
    "arm",
    "upstream",
    "endpoint",
    "choice",
    "rule",
    "bucket",
    "key_digest",
    "duration_ms",
    "upstream_ms",
    "bytes_in",
    "bytes_out",
    "attempts",
    "error",
    "shadow",
];

fn start(origins: &[&Origin], log: &str) -> Proxy {
    Proxy::start(&text(origins, log))
}

fn text(origins: &[&Origin], log: &str) -> String {
    format!(
        "{log}{}routes:\n  - name: all\n    hostnames: [shop.test]\n    split: {{ stable: 70, canary: 30 }}\n    \
         timeouts: {{ request: 300ms }}\n    sticky: {{ by: [{{ header: x-user-id }}] }}\n    overrides:\n      \
         - {{ name: qa, when: {{ headers: [{{ name: x-qa, present: true }}] }}, arm: canary }}\n",
        upstreams(origins)
    )
}

fn lines(proxy: &Proxy, count: usize) -> Vec<Value> {
    eventually(&format!("{count} lines are written"), || proxy.out().len() >= count);
    let parse = |line: &String| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not a JSON line ({error}): {line:?}"))
    };
    proxy.out().iter().map(parse).collect()
}

#[test]
fn each_exchange_is_one_line_with_the_documented_keys() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    stable.on("/hang", Behaviour::Hang);
    let proxy = start(&[&stable, &canary], "accessLog: { path: stdout, format: json }\n");
    let user = user_in("all", 5_000..10_000);
    let as_user = |target: &str| get(target).header("x-user-id", &user);
    proxy.ask(&as_user("/one?secret=1")).expect_status(200);
    proxy.ask(&post("/two", "four").header("x-qa", "1")).expect_status(200);
    proxy.ask(&as_user("/hang")).expect_status(504);
    proxy.ask(&get("/").host("unknown.test")).expect_status(404);

    let lines = lines(&proxy, 4);
    assert_eq!(lines.len(), 4, "{lines:?}");
    for line in &lines {
        let keys = line.as_object().expect("an object").keys();
        let unknown: Vec<_> = keys.filter(|key| !DOCUMENTED.contains(&key.as_str())).collect();
        assert!(unknown.is_empty(), "{unknown:?} in {line}");
        assert!(line["duration_ms"].as_f64().is_some_and(|millis| millis >= 0.0), "{line}");
        assert_eq!(line["listener"], "web");
        assert_eq!(line["client"], "127.0.0.1");
        assert!(!line["ts"].is_null(), "{line}");
    }
    expect(
        &lines[0],
        &[
            ("method", "GET"),
            ("host", "shop.test"),
            ("route", "all"),
            ("arm", "stable"),
            ("upstream", "stable"),
            ("choice", "sticky"),
        ],
    );
    assert_eq!(lines[0]["bucket"], bucket("all", &user));
    assert_eq!(lines[0]["status"], 200);
    assert!(lines[0]["path"].as_str().is_some_and(|path| path.starts_with("/one")), "{}", lines[0]);
    assert!(!lines[0].to_string().contains(&user), "a user can be followed without being named");
    let sent = stable.seen()[0].joined("x-request-id");
    assert_eq!(lines[0]["request_id"].as_str(), sent.as_deref(), "the id the origin got");

    expect(&lines[1], &[("method", "POST"), ("arm", "canary"), ("choice", "override"), ("rule", "qa")]);
    assert_eq!(lines[1]["bytes_in"], 4);
    assert!(lines[1]["bytes_out"].as_u64() > Some(0));

    assert_eq!(lines[2]["status"], 504);
    assert!(lines[2]["error"].as_str().is_some_and(|error| !error.is_empty()), "{}", lines[2]);
    assert_eq!(lines[3]["status"], 404);
    assert!(lines[3]["arm"].as_str().unwrap_or_default().is_empty(), "{}", lines[3]);
}

fn expect(line: &Value, fields: &[(&str, &str)]) {
    for (key, value) in fields {
        assert_eq!(line[key], *value, "{key} in {line}");
    }
}

#[test]
fn a_client_cannot_write_control_bytes_into_the_log() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "accessLog: { path: stdout, format: json }\n");
    for target in ["/del\u{7f}", "/csi\u{9b}31m", "/quote\"}{\"status\":1", "/%1b%5b31m%0a"] {
        let bytes = format!("GET {target} HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n");
        raw::exchange(proxy.web(), bytes.as_bytes());
    }
    let hostile =
        b"GET / HTTP/1.1\r\nHost: sh\xc2\x9bop.test\r\nX-User-Id: \xff\xfe\r\nConnection: close\r\n\r\n";
    raw::exchange(proxy.web(), hostile);
    proxy.ask(&get("/end")).expect_status(200);
    eventually("the last line is written", || proxy.out().iter().any(|line| line.contains("/end")));
    for line in lines(&proxy, 1) {
        assert!(line.is_object());
    }
    for line in proxy.out() {
        let raw: Vec<_> = line.chars().filter(|character| character.is_control()).collect();
        assert!(raw.is_empty(), "{raw:?} in {line:?}");
    }
}

#[test]
fn the_log_is_off_until_written_and_samples_only_successes() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    stable.on("/bad", Behaviour::Answer(500, "oops"));
    canary.on("/bad", Behaviour::Answer(500, "oops"));
    let quiet = start(&[&stable, &canary], "");
    quiet.ask(&get("/")).expect_status(200);
    let sampled = start(
        &[&stable, &canary],
        "accessLog: { path: stdout, sample: 0%, sampleCanary: 0%, errors: always }\n",
    );
    sampled.ask(&get("/fine")).expect_status(200);
    sampled.ask(&get("/bad")).expect_status(500);
    let lines = lines(&sampled, 1);
    assert_eq!((lines.len(), &lines[0]["status"]), (1, &Value::from(500)), "{lines:?}");
    assert!(quiet.out().is_empty(), "{:?}", quiet.out());
}

#[test]
fn the_log_can_be_a_file() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "accessLog: { path: \"@dir@/access.log\" }\n");
    proxy.ask(&get("/in-a-file")).expect_status(200);
    let file = proxy.site.folder().join("access.log");
    eventually("the line is in the file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.contains("/in-a-file") && text.ends_with('\n'))
    });
    assert!(proxy.out().is_empty());
}

#[test]
fn a_log_that_cannot_be_opened_is_told_and_opened_once_it_can() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let site = Site::new(&text(&[&stable, &canary], "accessLog: { path: \"@dir@/logs/access.log\" }\n"));
    let folder = site.folder().join("logs");
    std::fs::write(&folder, "in the way").expect("a file");
    let proxy = site.start();
    let told = || proxy.read("/api/v1/status")["checks"]["accessLog"].clone();
    eventually("readiness says so", || told().as_str().is_some_and(|why| why.contains("cannot be made")));
    proxy.ask(&get("/lost")).expect_status(200);
    proxy.admin(&proxy.admin_request("GET", "/readyz")).expect_status(200);
    std::fs::remove_file(&folder).expect("removed");
    eventually("it is well by itself", || told().is_null());
    proxy.ask(&get("/kept")).expect_status(200);
    eventually("the line is in the file", || {
        std::fs::read_to_string(folder.join("access.log")).is_ok_and(|text| text.contains("/kept"))
    });
}
