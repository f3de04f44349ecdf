//! Origins that speak HTTP/2 with prior knowledge, and gRPC through the proxy.
//!
//! Nobody on either side may notice the hop: heads, bodies and trailers pass, many streams share few
//! connections, and whatever one stream suffers stays with it.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request};

use crate::support::h2_origin::{Caller, H2Origin, told};
use crate::support::{Origin, Proxy, eventually, get, raw, runtime};

fn before(upstream: &str, rest: &str) -> Proxy {
    Proxy::start(&format!(
        "workers: 1\nupstreams: {{ app: {upstream} }}\nroutes: [{{ name: all, split: {{ app: 1 }}{rest} }}]\n"
    ))
}

fn speaking_h2(origin: &H2Origin) -> Proxy {
    before(&format!("{{ endpoints: [\"{}\"], protocol: h2 }}", origin.url()), "")
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://shop.example{path}"))
}

fn plain(path: &str) -> Request<()> {
    request("GET", path).body(()).unwrap()
}

fn grpc(path: &str) -> Request<()> {
    let request = request("POST", path).header("content-type", "application/grpc").header("te", "trailers");
    request.body(()).unwrap()
}

#[test]
fn heads_bodies_and_trailers_pass_unchanged() {
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    let crumbs = request("GET", "/a//b;c?d=%2F")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let answer = runtime().block_on(caller.call(crumbs, None, None)).unwrap();
    assert_eq!((answer.status, &*answer.body), (200, &b"ok"[..]));
    let seen = origin.last();
    assert_eq!((&*seen.method, &*seen.uri), ("GET", "http://shop.example/a//b;c?d=%2F"));
    assert_eq!((seen.headers["te"].as_bytes(), seen.ended_at_head), (&b"trailers"[..], true));
    let cookies: Vec<_> = seen.headers.get_all("cookie").iter().map(|one| one.to_str().unwrap()).collect();
    assert_eq!(cookies.join("; "), "a=1; b=2");
    for name in ["host", "connection", "transfer-encoding", "upgrade", "keep-alive"] {
        assert!(!seen.headers.contains_key(name), "{name}");
    }
    assert!(seen.headers.contains_key("x-request-id") && seen.headers.contains_key("x-forwarded-for"));

    // A body without a length, on a method that rarely has one, with trailers behind it.
    let trailers = HeaderMap::from_iter([("x-sum".parse().unwrap(), "7".parse().unwrap())]);
    let call = caller.call(plain("/get"), Some(Bytes::from_static(b"seven!!")), Some(trailers));
    assert_eq!(runtime().block_on(call).unwrap().status, 200);
    let seen = origin.last();
    assert_eq!((&*seen.method, seen.body, seen.ended_at_head), ("GET", 7, false));
    assert_eq!(seen.trailers.unwrap()["x-sum"], "7");
    assert!(!seen.headers.contains_key("te") && !seen.headers.contains_key("content-length"));

    // The same origin for a client of HTTP/1.1.
    let answer = proxy.ask(
        &get("/old").header("connection", "te, x-hop").header("te", "gzip, Trailers").header("x-hop", "1"),
    );
    assert_eq!(answer.status, 200);
    let seen = origin.last();
    assert!(seen.ended_at_head && !seen.headers.contains_key("x-hop"), "{seen:?}");
    assert_eq!(seen.headers["te"], "trailers");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn large_bodies_pass_both_ways() {
    const SIZE: usize = 8 << 20;
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    let up = request("POST", "/up").header("content-length", SIZE).body(()).unwrap();
    runtime().block_on(caller.call(up, Some(vec![b'x'; SIZE].into()), None)).unwrap();
    let seen = origin.last();
    assert_eq!((seen.body, seen.headers["content-length"].to_str().unwrap()), (SIZE, &*SIZE.to_string()));
    let down = runtime().block_on(caller.call(plain(&format!("/download/{SIZE}")), None, None)).unwrap();
    assert_eq!(
        (down.body.len(), down.headers["content-length"].to_str().unwrap()),
        (SIZE, &*SIZE.to_string())
    );
}

#[test]
fn many_streams_share_few_connections() {
    let origin = H2Origin::with(20);
    let proxy = speaking_h2(&origin);
    let callers: Vec<_> = (0..3).map(|_| Caller::open(proxy.web())).collect();
    // 8 connections of 20 streams each, and 20 exchanges that wait for room.
    let under_way: Vec<_> = (0..180)
        .map(|at| {
            let caller = callers[at % callers.len()].clone();
            runtime().spawn(async move { caller.call(plain("/gated"), None, None).await })
        })
        .collect();
    eventually("every connection is full", || origin.streams() == 160);
    assert_eq!(origin.connections(), 8);
    origin.gate.open();
    for one in under_way {
        assert_eq!(runtime().block_on(one).unwrap().unwrap().status, 200);
    }
    assert_eq!((origin.connections(), origin.seen().len()), (8, 180));
    // One after the other they need one connection; the others go when they were idle for long.
    let count = 50;
    for _ in 0..count {
        assert_eq!(runtime().block_on(callers[0].call(plain("/"), None, None)).unwrap().status, 200);
    }
    assert_eq!(origin.connections(), 8);
    let used: std::collections::HashSet<_> =
        origin.seen().iter().rev().take(count).map(|seen| seen.connection).collect();
    assert_eq!(used.len(), 1);
    eventually("idle connections are closed", || origin.open() == 0);
}

#[test]
fn a_client_that_leaves_resets_its_stream_alone() {
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    runtime().block_on(async {
        for path in ["/hang", "/hold"] {
            let (response, _) = caller.begin(plain(path), true).await;
            if path == "/hold" {
                // Dropped in mid-body.
                drop(response.await.unwrap());
            } else {
                while origin.streams() == 0 {
                    tokio::task::yield_now().await;
                }
                drop(response);
            }
        }
    });
    eventually("both streams were reset", || origin.resets().len() == 2);
    assert_eq!(origin.resets(), [Reason::CANCEL; 2]);
    assert_eq!(runtime().block_on(caller.call(plain("/"), None, None)).unwrap().status, 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn thousands_of_clients_that_leave_cost_no_connection() {
    const CANCELS: usize = 5_000;
    let origin = H2Origin::with(200);
    let proxy = speaking_h2(&origin);
    runtime().block_on(async {
        for _ in 0..CANCELS / 100 {
            // One client that leaves so often would itself be cut.
            let caller = Caller::open_within(proxy.web()).await;
            let mut responses = Vec::new();
            for _ in 0..100 {
                let (response, _) = caller.begin(plain("/download/65536"), true).await;
                responses.push(response);
            }
            for response in responses {
                // With bytes of each under way.
                drop(response.await.unwrap());
            }
        }
    });
    let caller = Caller::open(proxy.web());
    assert_eq!(runtime().block_on(caller.call(plain("/"), None, None)).unwrap().status, 200);
    assert!(origin.streams() > CANCELS, "{}", origin.streams());
    assert!(origin.connections() <= 2, "one connection a worker served all: {}", origin.connections());
}

#[test]
fn a_drain_of_the_origin_loses_no_request() {
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    let (total, drains) = (400, 8);
    let mut under_way = Vec::new();
    for at in 0..total {
        if at % (total / drains) == total / drains - 1 {
            origin.go_away();
        }
        let (caller, body) = (caller.clone(), (at % 2 == 0).then(|| Bytes::from_static(b"a body")));
        let method = if at % 2 == 0 { "POST" } else { "GET" };
        let request = request(method, "/x").body(()).unwrap();
        under_way.push(runtime().spawn(async move { caller.call(request, body, None).await }));
        if at % 20 == 0 {
            for one in under_way.drain(..) {
                assert_eq!(runtime().block_on(one).unwrap().unwrap().status, 200);
            }
        }
    }
    for one in under_way {
        assert_eq!(runtime().block_on(one).unwrap().unwrap().status, 200);
    }
    assert_eq!(origin.seen().len(), total, "each once");
    assert!(origin.connections() > drains / 2, "{}", origin.connections());
}

#[test]
fn a_refused_stream_is_sent_again_and_any_other_reset_is_not() {
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    for path in ["/refuse/1", "/refuse/2"] {
        assert_eq!(runtime().block_on(caller.call(plain(path), None, None)).unwrap().status, 200);
    }
    assert_eq!((origin.streams(), origin.connections()), (4, 1));
    let reset = request("POST", "/reset").body(()).unwrap();
    assert_eq!(runtime().block_on(caller.call(reset, None, None)).unwrap().status, 502);
    assert_eq!(origin.streams(), 5, "sent once");
}

#[test]
fn an_origin_that_speaks_http1_alone_answers_h2_wrongly() {
    let origin = Origin::start("old");
    let proxy = before(&format!("{{ endpoints: [\"{}\"], protocol: h2 }}", origin.url()), "");
    // Somebody is there, and not what the file says: the operator must not look for a dead server.
    assert_eq!(proxy.ask(&get("/")).status, 502);
    assert_eq!(origin.requests(), 0);
    for protocol in ["http1", "auto"] {
        let proxy = before(&format!("{{ endpoints: [\"{}\"], protocol: {protocol} }}", origin.url()), "");
        assert_eq!(proxy.ask(&get("/")).status, 200, "{protocol}");
    }
}

#[test]
fn tiny_messages_pass_whoever_is_slow() {
    const MESSAGES: usize = 20_000;
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    runtime().block_on(async {
        // A server that streams to a client who reads late.
        let (response, _) = caller.begin(grpc(&format!("/tiny/{MESSAGES}")), true).await;
        let response = response.await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let answer = told(response).await.unwrap();
        assert_eq!((answer.body.len(), answer.grpc()), (MESSAGES * 6, Some("0")));
        // A client that streams to a server who reads late.
        let (response, mut stream) = caller.begin(grpc("/late"), false).await;
        for _ in 0..MESSAGES {
            stream.send_data(Bytes::from_static(b"\0\0\0\0\x01x"), false).unwrap();
        }
        stream.send_data(Bytes::new(), true).unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        origin.gate.open();
        assert_eq!(told(response.await.unwrap()).await.unwrap().status, 200);
    });
    assert_eq!(origin.last().body, MESSAGES * 6);
}

#[test]
fn errors_reach_grpc_clients_as_trailers_alone() {
    let origin = H2Origin::start();
    let alive = format!("{{ endpoints: [\"{}\"], protocol: h2 }}", origin.url());
    let dead = format!("{{ endpoints: [\"{}\"], protocol: h2 }}", raw::refused());
    let rows = [
        (alive.as_str(), "", "/reset", "14", "reset"),
        (&dead, "", "/", "14", "connect"),
        (&alive, ", timeouts: { request: 200ms }", "/hang", "4", "timeout"),
        (&alive, ", matches: [{ path: { prefix: /only } }]", "/other", "12", "match"),
        (&alive, "", "/a/%2e%2e/b", "13", "bad_path"),
    ];
    for (upstream, rest, path, status, label) in rows {
        let proxy = before(upstream, rest);
        let caller = Caller::open(proxy.web());
        let answer = runtime().block_on(caller.call(grpc(path), Some(Bytes::new()), None)).unwrap();
        assert!(answer.head_alone && answer.status == 200, "{label}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/grpc");
        assert_eq!(answer.grpc(), Some(status), "{label}");
        assert!(answer.headers["grpc-message"].to_str().unwrap().ends_with(label), "{answer:?}");
        assert!(answer.headers.contains_key("x-request-id"));
    }
}

#[test]
fn grpc_statuses_pass_and_are_charged() {
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    let rows = [("0", "ok"), ("5", "ok"), ("13", "error"), ("14", "error")];
    for place in ["grpc", "grpc-head"] {
        for (status, _) in rows {
            let call = caller.call(grpc(&format!("/{place}/{status}")), Some(Bytes::from_static(b"x")), None);
            let answer = runtime().block_on(call).unwrap();
            assert_eq!(
                (answer.status, answer.grpc(), answer.head_alone),
                (200, Some(status), place == "grpc-head")
            );
        }
    }
    proxy.settles("switchback_requests_total", &[("code", "2xx"), ("outcome", "ok")], 4);
    proxy.settles("switchback_requests_total", &[("code", "2xx"), ("outcome", "error")], 4);
    proxy.settles("switchback_upstream_failures_total", &[("reason", "grpc_status")], 4);
}

#[test]
fn a_stream_that_dies_after_its_head_never_ends_cleanly() {
    let origin = H2Origin::start();
    let proxy = speaking_h2(&origin);
    let caller = Caller::open(proxy.web());
    let error = runtime().block_on(async {
        let (response, _) = caller.begin(grpc("/cut"), true).await;
        let response = response.await.unwrap();
        origin.gate.open();
        told(response).await.unwrap_err()
    });
    assert!(error.is_reset() && error.is_remote(), "{error}");
    proxy.settles("switchback_upstream_failures_total", &[("reason", "truncated")], 1);
}
