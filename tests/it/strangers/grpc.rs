//! gRPC between grpcio's client and server: status, details and trailers exact in every kind of call.
//!
//! Each case runs straight and through the proxy in the same client; both must come to the same
//! JSON, and to what the table says. The heavy streams of tiny messages run through the proxy only.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::process::{Stranger, interpreter};
use crate::support::{Proxy, needs, raw, tools};

fn server() -> Stranger {
    Stranger::script("grpc_peer.py", &["server"])
}

fn before(origin: &str) -> Proxy {
    Proxy::start(&format!(
        "upstreams: {{ app: {{ endpoints: [\"{origin}\"], protocol: h2 }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}, timeouts: {{ request: 60s, upstream: 60s }} }}]\n"
    ))
}

/// What each case came to for a client that talks to this address.
fn ask(addr: SocketAddr, cases: &[&str]) -> Value {
    let mut command = interpreter("grpc_peer.py");
    command.args(["client", &addr.to_string()]).args(cases);
    let finished = tools::run(&mut command, b"");
    assert_eq!(finished.code, Some(0), "{cases:?}: {}", finished.err);
    serde_json::from_str(&finished.out).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// The same outcome straight and through, and the code that the table names.
fn same(rows: &[(&str, &str)]) {
    let server = server();
    let proxy = before(&server.url());
    let cases: Vec<_> = rows.iter().map(|(case, _)| *case).collect();
    let straight = ask(server.addr(), &cases);
    let through = ask(proxy.web(), &cases);
    for (case, code) in rows {
        assert_eq!(through[case], straight[case], "{case}");
        let outcome = &through[case];
        assert!(code.is_empty() || outcome["code"] == *code, "{case}: {outcome}");
        assert_ne!(outcome["right"], json!(false), "{case}: {outcome}");
        println!("{case}: {}", outcome["code"].as_str().unwrap_or("as expected"));
    }
}

#[test]
fn every_kind_of_call_ends_as_it_does_without_us() {
    needs!("python:grpc");
    same(&[
        ("unary", "OK"),
        ("unary_empty", "OK"),
        ("unary_large", "OK"),
        ("unary_many", ""),
        ("server_stream", "OK"),
        ("no_message", "OK"),
        ("client_stream", "OK"),
        ("bidi", "OK"),
    ]);
}

#[test]
fn every_status_arrives_with_its_details_and_trailers() {
    needs!("python:grpc");
    same(&[("status_of_each_code", ""), ("unknown_method", "UNIMPLEMENTED"), ("broken_stream", "DATA_LOSS")]);
}

#[test]
fn deadlines_and_cancellations_reach_the_server() {
    needs!("python:grpc");
    let rows = [
        ("timeout_reaches_the_server", ""),
        ("deadline", "DEADLINE_EXCEEDED"),
        ("deadline_seen", ""),
        ("cancel", "CANCELLED"),
    ];
    same(&rows);
    let server = server();
    let outcome = ask(before(&server.url()).web(), &["deadline", "deadline_seen", "cancel"]);
    assert_eq!(outcome["deadline_seen"]["server"], "seen", "{outcome}");
    assert_eq!(outcome["cancel"]["server"], "seen", "{outcome}");
}

#[test]
fn twenty_thousand_tiny_messages_arrive_in_order_each_way() {
    needs!("python:grpc");
    let server = server();
    let proxy = before(&server.url());
    let cases = ["tiny_down_to_a_slow_reader", "tiny_up_to_a_slow_server", "tiny_both_ways"];
    let outcomes = ask(proxy.web(), &cases);
    for case in cases {
        let outcome = &outcomes[case];
        assert_eq!((&outcome["code"], &outcome["right"]), (&json!("OK"), &json!(true)), "{case}: {outcome}");
    }
}

#[test]
fn a_server_that_dies_or_is_not_there_is_unavailable_never_ok() {
    needs!("python:grpc");
    let straight = server();
    let expected = ask(straight.addr(), &["killed_in_a_stream"]);
    assert_eq!(expected["killed_in_a_stream"], json!({ "code": "UNAVAILABLE", "messages": 2 }));
    let server = server();
    let proxy = before(&server.url());
    let outcome = ask(proxy.web(), &["killed_in_a_stream", "nobody_there"]);
    let killed = &outcome["killed_in_a_stream"];
    assert_eq!(killed["messages"], 2, "what was sent arrives");
    // A client with a connection of its own sees it go. One behind us sees its stream reset, which
    // gRPC calls INTERNAL; a status of ours in trailers would say UNAVAILABLE as well.
    let code = killed["code"].as_str().unwrap_or_default();
    assert!(["UNAVAILABLE", "INTERNAL"].contains(&code), "{outcome}");
    println!("killed in a stream: {code}, without us UNAVAILABLE");
    assert_eq!(outcome["nobody_there"]["code"], "UNAVAILABLE", "after it died");

    let outcome = ask(before(&raw::refused()).web(), &["nobody_there"]);
    assert_eq!(outcome["nobody_there"]["code"], "UNAVAILABLE", "from the start");
}
