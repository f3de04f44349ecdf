//! gRPC and WebSocket with TLS on both sides of the proxy: clients, servers and certificates not ours.
//!
//! Encryption must change nothing of what passes: every kind of call and every frame arrives as it does
//! in the clear, and a protocol is agreed on by ALPN alone.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::nginx::Nginx;
use crate::support::process::{Stranger, interpreter};
use crate::support::tls::{Authority, Signed};
use crate::support::{Proxy, needs, tools};

/// An authority, and certificates of the proxy and of an origin.
fn identities() -> (Authority, Signed, Signed) {
    let ca = Authority::new();
    let front = ca.sign("front", "/CN=front", "DNS:localhost");
    let origin = ca.sign("origin", "/CN=origin", "DNS:app.test");
    (ca, front, origin)
}

/// A proxy with TLS on both sides, in front of `https://ADDRESS`.
fn between(ca: &Authority, front: &Signed, origin: SocketAddr, protocol: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:@web@\", tls: {{ certificates: [{}] }} }}]\n\
         upstreams:\n  app: {{ endpoints: [\"https://{origin}\"], protocol: {protocol}, \
         tls: {{ ca: \"{}\", serverName: app.test }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}, upgrades: [websocket], timeouts: {{ request: 60s, upstream: 60s }} }}]\n",
        front.yaml(),
        ca.path("ca.crt"),
    ))
}

fn files(pair: &Signed) -> [String; 2] {
    [&pair.cert, &pair.key].map(|file| file.display().to_string())
}

/// What cases came to for a client over TLS.
fn ask(script: &str, ca: &Authority, url: &str, cases: &[&str]) -> Value {
    let mut command = interpreter(script);
    command.args(["client", url]).args(cases);
    command.env("TRUSTED", ca.ca()).env("SSL_CERT_FILE", ca.ca());
    let finished = tools::run(&mut command, b"");
    assert_eq!(finished.code, Some(0), "{cases:?}: {}", finished.err);
    serde_json::from_str(&finished.out).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[test]
fn every_kind_of_call_passes_through_tls_on_both_sides() {
    needs!("python:grpc", "openssl");
    let (ca, front, origin) = identities();
    let [cert, key] = files(&origin);
    let server = Stranger::script("grpc_peer.py", &["server", &cert, &key]);
    let rows = [
        ("unary", "OK"),
        ("unary_large", "OK"),
        ("unary_many", ""),
        ("server_stream", "OK"),
        ("no_message", "OK"),
        ("client_stream", "OK"),
        ("bidi", "OK"),
        ("tiny_up_to_a_slow_server", "OK"),
        ("tiny_both_ways", "OK"),
        ("unknown_method", "UNIMPLEMENTED"),
        ("broken_stream", "DATA_LOSS"),
        ("deadline", "DEADLINE_EXCEEDED"),
        ("cancel", "CANCELLED"),
    ];
    for protocol in ["h2", "auto"] {
        let proxy = between(&ca, &front, server.addr(), protocol);
        let url = format!("localhost:{}", proxy.web().port());
        let outcomes = ask("grpc_peer.py", &ca, &url, &rows.map(|(case, _)| case));
        for (case, code) in rows {
            let outcome = &outcomes[case];
            assert!(code.is_empty() || outcome["code"] == code, "{protocol} {case}: {outcome}");
            assert_ne!(outcome["right"], json!(false), "{protocol} {case}: {outcome}");
        }
        assert_eq!(outcomes["unary"]["initial"], "kept as it is", "{protocol}");
    }
    let proxy = between(&ca, &front, server.addr(), "h2");
    let url = format!("localhost:{}", proxy.web().port());
    let killed = ask("grpc_peer.py", &ca, &url, &["killed_in_a_stream", "nobody_there"]);
    assert_ne!(killed["killed_in_a_stream"]["code"], "OK", "{killed}");
    assert_eq!(killed["killed_in_a_stream"]["messages"], 2, "{killed}");
    assert_eq!(killed["nobody_there"]["code"], "UNAVAILABLE", "{killed}");
}

#[test]
fn websockets_pass_through_tls_on_both_sides() {
    needs!("python:websockets", "openssl", "nginx");
    let (ca, front, origin) = identities();
    let [cert, key] = files(&origin);
    let server = Stranger::script("ws_peer.py", &["server", &cert, &key]);
    // One that would rather speak HTTP/2, in which there is no such tunnel.
    let plain = Stranger::script("ws_peer.py", &["server"]);
    let body = format!(
        "ssl_certificate {cert}; ssl_certificate_key {key}; location / {{ proxy_pass {}; proxy_http_version 1.1; \
         proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $http_connection; \
         proxy_set_header Host $http_host; proxy_set_header Origin $http_origin; }}",
        plain.url()
    );
    let nginx = Nginx::serving(&[("app".to_owned(), "ssl http2".to_owned(), body)]);
    let beyond = SocketAddr::from(([127, 0, 0, 1], nginx.port("app")));
    let cases = ["texts", "binaries", "fragments", "pings", "many_at_once", "refused", "closed_by_server"];
    for (what, address, protocol) in
        [("http1", server.addr(), "http1"), ("auto", server.addr(), "auto"), ("of two", beyond, "auto")]
    {
        let proxy = between(&ca, &front, address, protocol);
        let url = format!("wss://localhost:{}", proxy.web().port());
        let said = ask("ws_peer.py", &ca, &url, &cases);
        assert_eq!(said["texts"], json!([true, true, true, true, true, true, true]), "{what}");
        assert_eq!(said["binaries"], json!([true, true, true, true, true]), "{what}");
        assert_eq!(said["fragments"], json!(["one two three", ["one ", "two ", "three", ""]]), "{what}");
        assert_eq!((&said["pings"], &said["many_at_once"]), (&json!("after"), &json!(true)), "{what}");
        assert_eq!(said["refused"][0], 403, "{what}");
        let codes: Vec<_> =
            said["closed_by_server"].as_array().expect("codes").iter().map(|one| &one[0]).collect();
        assert_eq!(codes, [1000, 1001, 1011, 3001, 4999], "{what}");
    }
}
