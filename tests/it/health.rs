//! Endpoints that are dead, dying or new: who is asked, who is spared, and what an operator sees.
//!
//! A user must notice no more of a dead endpoint than the requests that were on it, nothing may be
//! sent twice that could have been acted on, and the last endpoint is never given up.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::raw::{self, RawOrigin, Script};
use crate::support::site::replace;
use crate::support::tools::{cli, switchback};
use crate::support::{
    Behaviour, Conn, Origin, Proxy, Response, Stranger, eventually, get, needs, post, runtime,
};

/// Probes that decide quickly.
const PROBES: &str = "healthCheck: { path: /healthz, interval: 200ms, timeout: 1s, healthyThreshold: 1, unhealthyThreshold: 2 }";

/// One upstream `app` of these endpoints, which one route serves.
fn before(urls: &[String], rest: &str) -> Proxy {
    let urls: Vec<_> = urls.iter().map(|url| format!("\"{url}\"")).collect();
    Proxy::start(&format!(
        "upstreams: {{ app: {{ endpoints: [{}], loadBalance: roundRobin, {rest} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\nworkers: 2\n",
        urls.join(", ")
    ))
}

fn down(origin: &Origin) {
    origin.on("/healthz", Behaviour::Answer(503, "down"));
}

fn up(origin: &Origin) {
    origin.on("/healthz", Behaviour::Answer(200, "up"));
}

/// What the API says of the endpoints of the route's first arm.
fn healthy(proxy: &Proxy) -> Vec<bool> {
    let route = proxy.read("/api/v1/routes/all");
    let list = route["arms"][0]["endpoints"].as_array().expect("endpoints").clone();
    list.iter().map(|one| one["healthy"].as_bool().expect("healthy")).collect()
}

fn becomes_healthy(proxy: &Proxy, expected: &[bool]) {
    eventually(&format!("endpoints become {expected:?}"), || healthy(proxy) == expected);
}

/// Users' requests that an origin saw: all but probes.
fn users(origin: &Origin) -> usize {
    origin.seen().iter().filter(|seen| !seen.target.starts_with("/healthz")).count()
}

#[test]
fn an_endpoint_that_fails_its_probes_gets_nothing_until_it_passes_them() {
    let (one, other) = (Origin::start("one"), Origin::start("other"));
    [&one, &other].into_iter().for_each(up);
    let proxy = before(&[one.url(), other.url()], PROBES);
    down(&one);
    becomes_healthy(&proxy, &[false, true]);
    let gauge = |origin: &Origin| {
        proxy
            .metrics()
            .count("switchback_endpoint_healthy", &[("upstream", "app"), ("endpoint", &origin.url())])
    };
    assert_eq!((gauge(&one), gauge(&other)), (0, 1));
    let said = proxy.read("/api/v1/routes/all")["arms"][0]["endpoints"][0]["why"].clone();
    assert_eq!(said, json!("status 503"));
    let before = users(&one);
    for _ in 0..40 {
        assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "other");
    }
    assert_eq!(users(&one), before);
    up(&one);
    becomes_healthy(&proxy, &[true, true]);
    eventually("it is asked again", || proxy.ask(&get("/")).origin() == "one");
    assert_eq!(gauge(&one), 1);
}

#[test]
fn what_probes_found_survives_a_reload() {
    let (one, other) = (Origin::start("one"), Origin::start("other"));
    [&one, &other].into_iter().for_each(up);
    down(&one);
    let proxy = before(&[one.url(), other.url()], PROBES);
    becomes_healthy(&proxy, &[false, true]);
    let text = std::fs::read_to_string(proxy.site.file()).expect("the file");
    let generation = proxy.generation();
    replace(&proxy.site.file(), &text.replace("split: { app: 1 }", "split: { app: 2 }"));
    for _ in 0..200 {
        assert!(!healthy(&proxy)[0], "not for a moment");
        if proxy.generation() > generation {
            break;
        }
    }
    eventually("it is loaded", || proxy.generation() > generation);
    assert_eq!(healthy(&proxy), [false, true]);
    for _ in 0..10 {
        assert_eq!(proxy.ask(&get("/")).origin(), "other");
    }
}

#[test]
fn an_endpoint_that_fails_users_is_ejected_tried_and_taken_back() {
    let (bad, good) = (Origin::start("bad"), Origin::start("good"));
    bad.on("/", Behaviour::Answer(500, "broken"));
    let proxy = before(&[bad.url(), good.url()], "outlier: { consecutiveErrors: 3, baseEjection: 2s }");
    eventually("it fails often enough", || {
        proxy.ask(&get("/"));
        !healthy(&proxy)[0]
    });
    let labels = [("upstream", "app"), ("reason", "status")];
    assert!(proxy.metrics().count("switchback_endpoint_ejections_total", &labels) >= 1);
    bad.on("/", Behaviour::Echo);
    eventually("it stands its trial", || {
        proxy.ask(&get("/"));
        healthy(&proxy)[0]
    });
    let ended = bad.requests();
    eventually("it is asked as before", || {
        proxy.ask(&get("/"));
        bad.requests() > ended + 5
    });
}

#[test]
fn the_last_endpoint_is_never_ejected_and_clients_eject_nobody() {
    let (one, other) = (Origin::start("one"), Origin::start("other"));
    for origin in [&one, &other] {
        origin.on("/", Behaviour::Answer(500, "broken"));
        origin.on("/hang", Behaviour::Hang);
        origin.on("/up", Behaviour::Swallow);
    }
    let rules = "outlier: { consecutiveErrors: 2, baseEjection: 1h, maxEjectedPercent: 100% }";
    let proxy = before(&[one.url(), other.url()], rules);
    let asked = || one.requests() + other.requests();
    // Clients that leave before their answer, and clients that promise a body and break it off.
    for text in [
        "GET /hang HTTP/1.1\r\nhost: a\r\n\r\n",
        "POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 100\r\n\r\nhalf",
    ] {
        let asked_before = asked();
        let left = [("outcome", "client_closed")];
        let left_before = proxy.metrics().count("switchback_requests_total", &left);
        let mut clients: Vec<_> = (0..8).map(|_| proxy.conn()).collect();
        for client in &mut clients {
            client.write(text.as_bytes()).expect("send");
        }
        eventually("all of them are on an origin", || asked() == asked_before + 8);
        drop(clients);
        proxy.settles("switchback_requests_total", &left, left_before + 8);
    }
    assert_eq!(healthy(&proxy), [true, true]);
    eventually("one is ejected", || {
        proxy.ask(&get("/")).expect_status(500);
        healthy(&proxy) != [true, true]
    });
    for _ in 0..50 {
        proxy.ask(&get("/")).expect_status(500);
    }
    assert_eq!(healthy(&proxy).iter().filter(|one| **one).count(), 1);
    let metrics = proxy.metrics();
    assert_eq!(metrics.count("switchback_endpoint_ejections_total", &[]), 1);
    assert_eq!(metrics.count("switchback_upstream_fail_open_total", &[]), 0);
}

#[test]
fn when_all_look_dead_all_are_asked_and_it_is_told() {
    let (one, other) = (Origin::start("one"), Origin::start("other"));
    [&one, &other].into_iter().for_each(down);
    let proxy = before(&[one.url(), other.url()], PROBES);
    becomes_healthy(&proxy, &[false, false]);
    for _ in 0..20 {
        proxy.ask(&get("/")).expect_status(200);
    }
    assert!(users(&one) > 0 && users(&other) > 0, "all of them");
    assert_eq!(proxy.metrics().count("switchback_upstream_fail_open_total", &[("upstream", "app")]), 20);
    assert_eq!(proxy.read("/api/v1/status")["allOut"], json!(["app"]));
    assert!(proxy.err().iter().chain(&proxy.out()).any(|line| line.contains("every endpoint is out")));
    up(&one);
    becomes_healthy(&proxy, &[true, false]);
    for _ in 0..10 {
        assert_eq!(proxy.ask(&get("/")).origin(), "one");
    }
}

#[test]
fn an_arm_that_is_out_is_answered_for_where_the_route_says_so_and_charged_all_the_same() {
    for (when, answering) in [("redistribute", "stable"), ("fail", "canary")] {
        let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
        down(&canary);
        let proxy = Proxy::start(&format!(
            "upstreams: {{ stable: \"{}\", canary: {{ endpoints: [\"{}\"], {PROBES} }} }}\n\
             routes: [{{ name: all, split: {{ stable: 1, canary: 1 }}, whenUnavailable: {when} }}]\n",
            stable.url(),
            canary.url()
        ));
        becomes_healthy(&proxy, &[false]);
        let answers: Vec<_> = (0..40).map(|_| proxy.ask(&get("/")).expect_status(200)).collect();
        assert!(answers.iter().any(|answer| answer.origin() == answering), "{when}");
        let labels = [("arm", "canary"), ("reason", "no_endpoint")];
        let metrics = proxy.metrics();
        let told = metrics.count("switchback_upstream_failures_total", &labels);
        assert_eq!(told > 0, when == "redistribute", "{}", metrics.family("switchback_upstream"));
        let again = |reason| metrics.count("switchback_retries_total", &[("reason", reason)]);
        assert_eq!((again("redistributed"), again("connect")), (told, 0), "no arm's own retry");
        assert_eq!(users(&canary) == 0, when == "redistribute");
        assert_eq!(metrics.count("switchback_upstream_fail_open_total", &[]) > 0, when == "fail");
    }
}

#[test]
fn an_endpoint_that_returns_gets_its_share_slowly() {
    let (slow, other) = (Origin::start("slow"), Origin::start("other"));
    [&slow, &other].into_iter().for_each(up);
    down(&slow);
    let proxy = before(&[slow.url(), other.url()], &format!("{PROBES}, slowStart: 24h"));
    becomes_healthy(&proxy, &[false, true]);
    up(&slow);
    becomes_healthy(&proxy, &[true, true]);
    let mut conn = proxy.conn();
    let asked = (0..1_000).filter(|_| conn.ask(&get("/")).origin() == "slow").count();
    // A tenth of its half; six standard deviations (6.9) to either side.
    assert!((10..=92).contains(&asked), "{asked} of 1000");
}

/// A server of `grpc.health.v1` over HTTP/2 that answers this status; 0xff is `UNIMPLEMENTED`.
pub fn health_server(status: &Arc<AtomicU8>, asked: &Arc<AtomicUsize>) -> String {
    let listener = runtime().block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (status, asked) = (Arc::clone(status), Arc::clone(asked));
    runtime().spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (status, asked) = (Arc::clone(&status), Arc::clone(&asked));
            tokio::spawn(async move {
                let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let head = http::Response::builder().header("content-type", "application/grpc");
                    let status = status.load(Ordering::SeqCst);
                    if request.uri().path() != "/grpc.health.v1.Health/Check" {
                        let answer = http::Response::builder().header("x-origin", "grpc").body(()).unwrap();
                        let _ = respond.send_response(answer, true);
                        continue;
                    }
                    let (parts, mut body) = request.into_parts();
                    assert_eq!(parts.headers["te"], "trailers");
                    tokio::spawn(async move {
                        let mut message = Vec::new();
                        while let Some(Ok(piece)) = body.data().await {
                            message.extend_from_slice(&piece);
                        }
                        assert_eq!(message, *b"\0\0\0\0\x06\x0a\x04shop", "HealthCheckRequest");
                        if status == 0xff {
                            let _ = respond
                                .send_response(head.header("grpc-status", "12").body(()).unwrap(), true);
                            return;
                        }
                        let mut stream = respond.send_response(head.body(()).unwrap(), false).unwrap();
                        let _ = stream.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, status]), false);
                        let mut trailers = http::HeaderMap::new();
                        trailers.insert("grpc-status", "0".parse().unwrap());
                        let _ = stream.send_trailers(trailers);
                    });
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    url
}

#[test]
fn grpc_health_is_asked_for_as_its_protocol_says() {
    let (status, asked) = (Arc::new(AtomicU8::new(1)), Arc::new(AtomicUsize::new(0)));
    let url = health_server(&status, &asked);
    let check = "protocol: h2, healthCheck: { type: grpc, service: shop, interval: 200ms, timeout: 5s, healthyThreshold: 1, unhealthyThreshold: 1 }";
    let proxy = before(&[url], check);
    let why = || proxy.read("/api/v1/routes/all")["arms"][0]["endpoints"][0]["why"].clone();
    eventually("it is asked", || asked.load(Ordering::SeqCst) > 1);
    assert_eq!((healthy(&proxy), why()), (vec![true], Value::Null));
    for (says, told) in [
        (2, "health NOT_SERVING"),
        (0, "health UNKNOWN"),
        (3, "health SERVICE_UNKNOWN"),
        (0xff, "gRPC status 12"),
    ] {
        status.store(says, Ordering::SeqCst);
        eventually(told, || !healthy(&proxy)[0] && why() == json!(told));
    }
    status.store(1, Ordering::SeqCst);
    becomes_healthy(&proxy, &[true]);
}

#[test]
fn a_tcp_probe_finds_out_who_accepts_nobody() {
    let good = Origin::start("good");
    let check = "healthCheck: { type: tcp, interval: 200ms, timeout: 1s, healthyThreshold: 1, unhealthyThreshold: 2 }, slowStart: 0s";
    let proxy = before(&[raw::refused(), good.url()], check);
    becomes_healthy(&proxy, &[false, true]);
    let why = proxy.read("/api/v1/routes/all")["arms"][0]["endpoints"][0]["why"].to_string();
    assert!(why.contains("cannot connect"), "{why}");
}

/// A listener whose backlog is full: who connects hears nothing.
struct BlackHole {
    listener: socket2::Socket,
    _full: Vec<socket2::Socket>,
}

impl BlackHole {
    fn start() -> Self {
        let tcp =
            || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let listener = tcp();
        listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).expect("bind");
        listener.listen(0).expect("listen");
        let address = listener.local_addr().expect("an address");
        let mut full = Vec::new();
        for _ in 0..8 {
            let socket = tcp();
            socket.set_nonblocking(true).expect("non-blocking");
            let _ = socket.connect(&address);
            full.push(socket);
        }
        Self { listener, _full: full }
    }

    fn url(&self) -> String {
        let address = self.listener.local_addr().expect("an address").as_socket().expect("of the internet");
        format!("http://{address}")
    }
}

#[test]
fn a_black_hole_is_found_in_time_with_probes_and_without() {
    let good = Origin::start("good");
    let hole = BlackHole::start();
    let check = "connection: { connectTimeout: 300ms }, healthCheck: { type: tcp, interval: 300ms, timeout: 300ms, unhealthyThreshold: 3 }";
    let began = Instant::now();
    let proxy = before(&[hole.url(), good.url()], check);
    becomes_healthy(&proxy, &[false, true]);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "good");
    }
    // Without probes the first to try finds out, and is sent to the other.
    let proxy = before(&[hole.url(), good.url()], "connection: { connectTimeout: 300ms }");
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "good");
    }
}

#[test]
fn an_endpoint_that_is_killed_costs_no_more_than_what_was_on_it() {
    const CLIENTS: usize = 8;
    needs!("nginx");
    let server = |name: &str| {
        Stranger::nginx(&format!(
            "server {{ listen 127.0.0.1:@port@; location / {{ add_header x-origin {name} always; return 200 ok; }} }}"
        ))
    };
    let (mut dying, lasting) = (server("dying"), server("lasting"));
    let proxy = before(&[dying.url(), lasting.url()], "outlier: {}");
    let load = Load::h1(proxy.web(), CLIENTS, Duration::from_millis(2), |_| get("/"));
    eventually("both serve", || proxy.ask(&get("/")).origin() == "dying");
    dying.kill();
    for _ in 0..200 {
        proxy.ask(&get("/"));
    }
    let report = load.stop();
    assert!(report.done > 50, "{report:?}");
    assert!(report.failed <= CLIENTS, "{report:?}");
}

#[test]
fn no_post_is_sent_twice_wherever_the_connection_breaks() {
    let scripts = [
        Script::SendAndReset(Vec::new()),
        Script::SendAndClose(Vec::new()),
        Script::SendAndReset(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
        Script::SendAndReset(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_vec()),
        Script::SendAndReset(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()),
    ];
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec();
    for (row, script) in scripts.into_iter().enumerate() {
        let (bad, good) = (RawOrigin::start(script), RawOrigin::start(Script::Send(ok.clone())));
        let proxy = before(&[bad.url(), good.url()], "outlier: { consecutiveErrors: 3, baseEjection: 1h }");
        let mut failed = 0;
        for id in 0..60 {
            let request = post("/", "body").header("x-id", &format!("{id}."));
            let answer = proxy.conn().send(&request);
            failed += usize::from(!answer.is_ok_and(|answer| answer.status == 200));
            if id == 29 {
                becomes_healthy(&proxy, &[false, true]);
            }
        }
        let heads = [bad.heads(), good.heads()].concat();
        for id in 0..60 {
            let sent = heads.iter().filter(|head| head.contains(&format!("x-id: {id}.\r\n"))).count();
            assert_eq!(sent, 1, "row {row}: {id}");
        }
        assert_eq!(failed, bad.heads().len(), "row {row}: who was on it, nobody else");
        assert!(failed <= 15, "row {row}: {failed} before it was ejected");
    }
}

#[test]
fn an_endpoint_that_refuses_is_not_stormed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let accepted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&accepted);
    // It accepts and says nothing of HTTP/2, so that every connect fails.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            counter.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let proxy = before(&[url], "protocol: h2");
    proxy.ask(&get("/"));
    let (began, first) = (Instant::now(), accepted.load(Ordering::SeqCst));
    let load = Load::each(proxy.web(), 16, Duration::from_millis(1), |conn: &mut Conn, _| {
        let answer: Response = conn.send(&get("/")).map_err(|error| error.to_string())?;
        if answer.status >= 500 { Ok(()) } else { Err(format!("{answer:?}")) }
    });
    while began.elapsed() < Duration::from_secs(2) {
        proxy.ask(&get("/"));
    }
    let report = load.stop();
    let tries = accepted.load(Ordering::SeqCst) - first;
    let allowed = usize::try_from(began.elapsed().as_millis() / 100).unwrap() + 2;
    assert!(tries <= allowed, "{tries} connects, {allowed} allowed");
    assert!(tries >= 2, "it is tried again: {tries}");
    assert!(report.done > tries, "{report:?}");
}

// --- breaker ---

/// An upstream that fails, with a breaker, in front of another.
fn broken(rest: &str) -> (Origin, Origin, Proxy) {
    let (app, spare) = (Origin::start("app"), Origin::start("spare"));
    app.on("/", Behaviour::Answer(500, "broken"));
    let proxy = Proxy::start(&format!(
        "upstreams:\n  app: {{ endpoints: [\"{}\"], breaker: {{ minRequests: 10, window: 10s, {rest} }} }}\n  spare: \"{}\"\n\
         routes:\n  - {{ name: all, split: {{ app: 1 }} }}\n  - {{ name: other, hostnames: [other.test], split: {{ spare: 1 }} }}\nworkers: 2\n",
        app.url(),
        spare.url()
    ));
    (app, spare, proxy)
}

fn breaker(proxy: &Proxy) -> String {
    proxy.read("/api/v1/status")["breakers"]["app"].as_str().expect("a breaker").to_owned()
}

fn asked_until(proxy: &Proxy, state: &str) {
    eventually(&format!("the breaker is {state}"), || {
        proxy.ask(&get("/"));
        breaker(proxy) == state
    });
}

#[test]
fn a_breaker_opens_falls_back_tries_and_closes() {
    let (app, spare, proxy) = broken("open: 1s, fallback: spare");
    asked_until(&proxy, "open");
    let reached = app.requests();
    let answer = proxy.ask(&get("/"));
    assert_eq!((answer.status, answer.origin()), (200, "spare"));
    assert!(spare.requests() > 0 && reached >= 10);
    let served = [("arm", "app"), ("upstream", "spare"), ("code", "2xx"), ("outcome", "error")];
    eventually("the chosen arm is charged", || {
        proxy.metrics().count("switchback_requests_total", &served) > 0
    });
    let metrics = proxy.metrics();
    assert!(
        metrics.count("switchback_upstream_failures_total", &[("arm", "app"), ("reason", "breaker")]) > 0
    );
    assert!(metrics.count("switchback_breaker_openings_total", &[("reason", "error_rate")]) == 1);
    eventually("a few requests are let through, and fail", || {
        proxy.ask(&get("/"));
        proxy.metrics().count("switchback_breaker_openings_total", &[("reason", "half_open")]) >= 1
    });
    assert!(app.requests() <= reached + 20, "a few: {} after {reached}", app.requests());
    app.on("/", Behaviour::Echo);
    asked_until(&proxy, "closed");
    assert_eq!(proxy.ask(&get("/")).origin(), "app");
    let state = [("upstream", "app"), ("state", "closed")];
    assert_eq!(proxy.metrics().count("switchback_breaker_state", &state), 1);
    assert_eq!(proxy.metrics().count("switchback_requests_in_flight", &[]), 0, "every exchange has its end");
    let journal = proxy.site.state().join("audit.jsonl");
    eventually("the journal has both turns", || {
        let text = std::fs::read_to_string(&journal).unwrap_or_default();
        text.contains("breaker-open") && text.contains("breaker-close")
    });
}

#[test]
fn a_breaker_can_answer_by_itself_or_leave_it_to_the_route() {
    let (app, _spare, proxy) =
        broken("open: 1h, fallback: { respond: { status: 429, body: \"later\", retryAfter: 7s } }");
    asked_until(&proxy, "open");
    let reached = app.requests();
    let answer = proxy.ask(&get("/")).expect_status(429);
    assert_eq!((answer.text().as_str(), answer.header("retry-after")), ("later", Some("7")));
    assert_eq!(app.requests(), reached);
    let (app, _spare, proxy) = broken("open: 1h");
    asked_until(&proxy, "open");
    let reached = app.requests();
    let answer = proxy.ask(&get("/")).expect_status(503);
    assert!(answer.text().contains("breaker"), "{answer:?}");
    assert_eq!(app.requests(), reached);
}

#[test]
fn a_breaker_is_turned_by_hand_and_stays_so() {
    let (app, _spare, proxy) = broken("open: 100ms, fallback: spare");
    app.on("/", Behaviour::Echo);
    assert_eq!(proxy.ask(&get("/")).origin(), "app");
    let turn = |verb, upstream| cli(&proxy.site, &["breaker", verb, upstream, "--reason", "drill"]);
    let done = turn("open", "app");
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.out.contains("breaker of app: closed -> open"), "{done:?}");
    assert_eq!((breaker(&proxy).as_str(), proxy.ask(&get("/")).origin()), ("held", "spare"));
    let generation = proxy.generation();
    let text = std::fs::read_to_string(proxy.site.file()).expect("the file");
    replace(&proxy.site.file(), &text.replace("window: 10s", "window: 11s"));
    eventually("it is loaded", || proxy.generation() > generation);
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("/")).origin(), "spare", "over a reload, and longer than `open`");
    }
    assert_eq!(turn("close", "app").code, Some(0));
    assert_eq!((breaker(&proxy).as_str(), proxy.ask(&get("/")).origin()), ("closed", "app"));
    let journal = std::fs::read_to_string(proxy.site.state().join("audit.jsonl")).expect("the journal");
    assert!(journal.contains("\"reason\":\"drill\""), "{journal}");
    for (upstream, status, code) in [("none", 404, "unknown-upstream"), ("spare", 409, "no-breaker")] {
        let request =
            proxy.verb(&format!("/api/v1/upstreams/{upstream}/breaker"), &json!({ "state": "open" }));
        assert_eq!(proxy.admin(&request).expect_status(status).json()["code"], code);
    }
}

#[test]
fn what_cannot_work_is_refused() {
    let rows = [
        ("healthCheck: { path: healthz }", "bad-path"),
        ("healthCheck: { expect: [] }", "empty-expect"),
        ("healthCheck: { interval: 1ms }", "bad-value"),
        ("healthCheck: { unhealthyThreshold: 0 }", "bad-value"),
        ("healthCheck: { type: grpc, path: /x }", "bad-value"),
        ("outlier: { consecutiveErrors: 0 }", "bad-value"),
        ("breaker: { errorRate: 0% }", "bad-value"),
        ("breaker: { fallback: app }", "bad-fallback"),
        ("breaker: { fallback: nobody }", "unknown-upstream"),
        ("breaker: { fallback: { respond: { status: 99 } } }", "bad-status"),
    ];
    for (keys, code) in rows {
        let site = crate::support::Site::new(&format!(
            "upstreams: {{ app: {{ endpoints: [\"http://127.0.0.1:1\"], {keys} }} }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n"
        ));
        let done = switchback(&site.folder(), &["check", site.file().to_str().expect("a path")]);
        assert_eq!(done.code, Some(1), "{keys}: {done:?}");
        assert!(done.err.contains(code) || done.out.contains(code), "{keys}: {done:?}");
    }
}

#[test]
fn an_arm_that_looks_dead_is_asked_when_the_other_one_has_an_open_breaker() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    down(&stable);
    let proxy = Proxy::start(&format!(
        "upstreams: {{ stable: {{ endpoints: [\"{}\"], {PROBES} }}, canary: {{ endpoints: [\"{}\"], breaker: {{}} }} }}\n\
         routes: [{{ name: all, split: {{ stable: 1, canary: 1 }} }}]\n",
        stable.url(),
        canary.url()
    ));
    let opened = proxy.verb("/api/v1/upstreams/canary/breaker", &json!({ "state": "open" }));
    proxy.admin(&opened).expect_status(200);
    eventually("stable looks dead", || proxy.read("/api/v1/status")["allOut"] == json!(["stable"]));
    for _ in 0..40 {
        assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "stable");
    }
}
