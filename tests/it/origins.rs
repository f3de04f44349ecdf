//! Origins as they are: several, some dead, some at their limit, some with bad manners.
//!
//! A user must not notice that one of many endpoints is gone, nor get bytes of somebody else's
//! answer. Overload protection must let go of what it holds when the client leaves.

use crate::support::h2c::H2c;
use crate::support::raw::{self, RawOrigin, Script};
use crate::support::{Behaviour, Conn, Gate, Origin, Proxy, Request, ask, crowd, eventually, get, post};

fn before(upstream: &str) -> Proxy {
    Proxy::start(&format!(
        "upstreams: {{ app: {upstream} }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n"
    ))
}

fn script(bytes: &[u8]) -> (RawOrigin, Proxy) {
    let origin = RawOrigin::start(Script::Send(bytes.to_vec()));
    let proxy = before(&format!("\"{}\"", origin.url()));
    (origin, proxy)
}

/// The endpoint of each of `count` requests made one after the other on one worker.
fn one_by_one(endpoints: &str, policy: &str, count: usize) -> Vec<String> {
    let proxy = Proxy::start(&format!(
        "workers: 1\nupstreams: {{ app: {{ endpoints: {endpoints}, loadBalance: {policy} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\n"
    ));
    let mut conn = proxy.conn();
    (0..count).map(|_| conn.ask(&get("/")).origin().to_owned()).collect()
}

#[test]
fn round_robin_takes_each_endpoint_in_turn_by_its_weight() {
    let origins = ["one", "two"].map(Origin::start);
    let [one, two] = origins.each_ref().map(Origin::url);
    let answers = one_by_one(&format!("[\"{one}\", \"{two}\"]"), "roundRobin", 40);
    assert!(answers.windows(2).all(|pair| pair[0] != pair[1]), "{answers:?}");
    let weighted = format!("[\"{one}\", {{ url: \"{two}\", weight: 3 }}]");
    let answers = one_by_one(&weighted, "roundRobin", 40);
    assert_eq!((crowd::count(&answers, "one"), crowd::count(&answers, "two")), (10, 30), "{answers:?}");
}

#[test]
fn policies_that_follow_the_load_use_every_endpoint_and_heed_weights() {
    let origins = ["one", "two"].map(Origin::start);
    let [one, two] = origins.each_ref().map(Origin::url);
    let count = 400;
    for policy in ["p2c", "leastRequest"] {
        let answers = one_by_one(&format!("[\"{one}\", \"{two}\"]"), policy, count);
        for name in ["one", "two"] {
            let hits = crowd::count(&answers, name);
            assert!(hits > count / 4, "{policy}: {name} got {hits} of {count} equal choices");
        }
        let weighted =
            format!("{{ endpoints: [\"{one}\", {{ url: \"{two}\", weight: 3 }}], loadBalance: {policy} }}");
        let answers = ask(before(&weighted).web(), count * 4, |_| get("/"));
        let (lighter, heavier) = (crowd::count(&answers, "one"), crowd::count(&answers, "two"));
        assert!(heavier > lighter && lighter > 0, "{policy}: {lighter} against {heavier}");
    }
}

#[test]
fn a_dead_endpoint_among_live_ones_is_never_seen() {
    let live = Origin::start("live");
    for policy in ["p2c", "roundRobin", "leastRequest"] {
        let endpoints = format!("[\"{}\", \"{}\"]", raw::refused(), live.url());
        let proxy = before(&format!("{{ endpoints: {endpoints}, loadBalance: {policy} }}"));
        let mut conn = proxy.conn();
        for round in 0..100 {
            let response = conn.ask(&post("/", "a body that must arrive"));
            assert_eq!((response.status, response.origin()), (200, "live"), "{policy}, round {round}");
            assert_eq!(live.last().body, b"a body that must arrive");
        }
    }
}

#[test]
fn a_name_is_resolved_to_whatever_address_answers() {
    let origin = Origin::start("app");
    let proxy = before(&format!("\"http://localhost:{}\"", origin.addr.port()));
    assert_eq!(proxy.ask(&get("/")).origin(), "app");
}

#[test]
fn an_upstream_at_its_limit_refuses_and_recovers() {
    let (origin, gate) = (Origin::start("app"), Gate::closed());
    origin.on("/hang", Behaviour::Hang).on("/slow", Behaviour::Gated(gate.clone()));
    // One worker, so that the count is exact at every moment.
    let proxy = Proxy::start(&format!(
        "workers: 1\nupstreams: {{ app: {{ endpoints: [\"{}\"], limits: {{ maxRequests: 3 }} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        origin.url()
    ));
    let hold = |target: &str| {
        let mut conn = proxy.conn();
        conn.write(format!("{}\r\n", get(target).head()).as_bytes()).expect("send");
        conn
    };
    let held: Vec<Conn> = (0..3).map(|_| hold("/hang")).collect();
    origin.await_requests(3);
    let refused = proxy.ask(&get("/"));
    assert_eq!(refused.status, 503, "one too many");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    drop(held);
    eventually("clients that leave free their places", || proxy.ask(&get("/")).status == 200);

    let mut slow: Vec<Conn> = (0..3).map(|_| hold("/slow")).collect();
    eventually("it is full again", || proxy.ask(&get("/")).status == 503);
    gate.open();
    for conn in &mut slow {
        assert_eq!(conn.read_head("GET").expect("an answer").status, 200);
        while conn.piece().expect("its body").is_some() {}
    }
    eventually("answers free their places", || ask_many(&proxy).iter().all(|status| *status == 200));
}

/// Three at once: only when every place is free do all of them succeed.
fn ask_many(proxy: &Proxy) -> Vec<u16> {
    let asking: Vec<_> = (0..3)
        .map(|_| {
            let addr = proxy.web();
            std::thread::spawn(move || Conn::open(addr).ask(&get("/")).status)
        })
        .collect();
    asking.into_iter().map(|one| one.join().expect("a client thread")).collect()
}

#[test]
fn connections_are_bounded_and_requests_wait_for_one_in_bounded_number() {
    let (origin, gate) = (Origin::start("app"), Gate::closed());
    origin.on("/slow", Behaviour::Gated(gate.clone()));
    let proxy = Proxy::start(&format!(
        "workers: 1\nupstreams: {{ app: {{ endpoints: [\"{}\"], limits: {{ maxConnections: 2, maxPending: 3 }} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        origin.url()
    ));
    let addr = proxy.web();
    let ask = || std::thread::spawn(move || Conn::open(addr).ask(&get("/slow")).status);
    let first: Vec<_> = (0..2).map(|_| ask()).collect();
    origin.await_requests(2);
    // Two hold the connections, three wait, whoever comes then is refused at once.
    let mut waiting: Vec<_> = (0..6).map(|_| ask()).collect();
    eventually("three are refused", || waiting.iter().filter(|one| one.is_finished()).count() == 3);
    let (refused, waited): (Vec<_>, Vec<_>) =
        waiting.drain(..).partition(std::thread::JoinHandle::is_finished);
    assert!(refused.into_iter().all(|one| one.join().expect("an answer") == 503));
    assert_eq!(origin.connections(), 2);
    gate.open();
    let answered = first.into_iter().chain(waited).map(|one| one.join().expect("an answer"));
    assert_eq!(answered.collect::<Vec<_>>(), [200; 5]);
    assert_eq!(origin.connections(), 2, "those that waited used what was given back");
}

#[test]
fn a_least_number_of_connections_is_ready_before_anybody_asks() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&format!(
        "workers: 1\nupstreams: {{ app: {{ endpoints: [\"{}\"], connection: {{ minIdle: 3 }} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        origin.url()
    ));
    eventually("three are open", || origin.open() == 3);
    proxy.ask(&get("/")).expect_status(200);
    assert_eq!((origin.connections(), origin.requests()), (3, 1), "the request found one ready");
}

#[test]
fn a_limit_holds_however_connections_fall_on_workers() {
    const LIMIT: usize = 20;
    const WORKERS: usize = 2;
    let origin = Origin::start("app");
    origin.on("/hang", Behaviour::Hang);
    let proxy = Proxy::start(&format!(
        "workers: {WORKERS}\nupstreams: {{ app: {{ endpoints: [\"{}\"], limits: {{ maxRequests: {LIMIT} }} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}, timeouts: {{ request: 0s, upstream: 0s }} }}]\n",
        origin.url()
    ));
    // A connection lives on one worker, so the first one alone takes the whole limit there.
    let conns: Vec<_> = (0..8).map(|_| H2c::open(proxy.web())).collect();
    let mut running = Vec::new();
    for conn in &conns {
        running.extend((0..LIMIT).map(|_| conn.start(&get("/hang"))));
        eventually("every stream is held or refused", || {
            let refused = running.iter().filter(|stream| stream.is_finished()).count();
            refused + origin.requests() == running.len()
        });
    }
    let held = origin.requests();
    assert!((LIMIT..=LIMIT + WORKERS).contains(&held), "{held} in flight under a limit of {LIMIT}");
    running.iter().for_each(tokio::task::JoinHandle::abort);
}

#[test]
fn interim_answers_are_not_the_answer() {
    let (_origin, proxy) = script(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
          HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    );
    let mut conn = proxy.conn();
    for _ in 0..3 {
        let response = conn.ask(&get("/"));
        assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    }
}

#[test]
fn surplus_bytes_never_become_somebody_elses_answer() {
    let rows: [(&str, &[u8]); 3] = [
        ("after a length", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil"),
        ("after a 204", b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nX-Evil: 1\r\nContent-Length: 4\r\n\r\nevil"),
        ("after a 304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"),
    ];
    for (what, bytes) in rows {
        let (_origin, proxy) = script(bytes);
        let mut conn = proxy.conn();
        for round in 0..10 {
            let response = conn.ask(&get("/"));
            assert_eq!(response.header("x-evil"), None, "{what}, round {round}: {response:?}");
            assert!(!response.text().contains("evil"), "{what}, round {round}: {response:?}");
        }
    }
}

#[test]
fn the_body_of_an_answer_to_head_is_not_the_next_answer() {
    let (_origin, proxy) = script(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
    let mut conn = proxy.conn();
    let head = conn.ask(&Request::new("HEAD", "/"));
    assert_eq!((head.status, head.header("content-length")), (200, Some("4")));
    let next = conn.ask(&get("/"));
    assert_eq!((next.status, next.text().as_str()), (200, "evil"), "its own answer, from the start");
}

#[test]
fn an_answer_with_two_framings_is_whole_or_refused_but_never_empty() {
    let (_origin, proxy) = script(
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
    let mut conn = proxy.conn();
    let response = conn.ask(&get("/"));
    let expected = if response.status == 200 { "ok".to_owned() } else { response.text() };
    assert!([200, 502].contains(&response.status), "{response:?}");
    assert_eq!(response.text(), expected);
    assert!(!response.text().is_empty(), "{response:?}");
}

#[test]
fn a_switch_of_protocols_nobody_asked_for_is_a_502() {
    let (_origin, proxy) =
        script(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: evil\r\n\r\n");
    assert_eq!(proxy.ask(&get("/")).status, 502);
}

#[test]
fn a_head_without_bounds_is_a_502_and_costs_no_memory() {
    let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
    for index in 0..200_000 {
        head.extend_from_slice(format!("X-{index}: {index:064}\r\n").as_bytes());
    }
    let (_origin, proxy) = script(&head);
    let before = proxy.memory().peak_kib;
    assert_eq!(proxy.ask(&get("/")).status, 502);
    let grown = proxy.memory().peak_kib - before;
    assert!(grown < 8 * 1024, "memory grew by {grown} KiB for one head");
}

#[test]
fn an_early_answer_to_a_long_upload_is_relayed() {
    let refusal = b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\nConnection: close\r\n\r\ntoo much";
    for (how, ending) in [
        ("and stays", Script::SendAndHang(refusal.to_vec())),
        ("and ends its side", Script::SendAndLinger(refusal.to_vec())),
    ] {
        let origin = RawOrigin::start(ending);
        let proxy = before(&format!("\"{}\"", origin.url()));
        let mut conn = proxy.conn();
        let head = format!("{}content-length: 50000000\r\n\r\n", Request::new("POST", "/").head());
        conn.write(head.as_bytes()).expect("send the head");
        conn.write(&[b'u'; 100_000]).expect("send the first part");
        assert_eq!(conn.read_head("POST").expect("an answer before the end").status, 413, "{how}");
        assert_eq!(conn.piece().expect("its body").expect("text"), b"too much");
    }
}

#[test]
fn idle_and_old_connections_to_an_origin_are_let_go_as_written() {
    let (strict, patient) = (Origin::start("strict"), Origin::start("patient"));
    let text = |setting: &str| {
        format!(
            "upstreams:\n  strict: {{ endpoints: [\"{}\"], connection: {{ {setting} }} }}\n  \
             patient: {{ endpoints: [\"{}\"], connection: {{ idleTimeout: 60s }} }}\nroutes:\n  \
             - {{ name: strict, matches: [{{ path: /strict }}], split: {{ strict: 1 }} }}\n  \
             - {{ name: patient, split: {{ patient: 1 }} }}\n",
            strict.url(),
            patient.url()
        )
    };
    let proxy = Proxy::start(&text("idleTimeout: 1s"));
    let mut conn = proxy.conn();
    for target in ["/strict", "/patient"] {
        conn.ask(&get(target)).expect_status(200);
    }
    eventually("the idle connection is closed", || strict.open() == 0);
    assert_eq!(patient.open(), 1, "only where it is configured");

    proxy.reload(&text("idleTimeout: 60s, maxAge: 1s"));
    let before = (strict.connections(), patient.connections());
    eventually("an old connection is replaced", || {
        for target in ["/strict", "/patient"] {
            conn.ask(&get(target)).expect_status(200);
        }
        strict.connections() >= before.0 + 3
    });
    assert_eq!(patient.connections(), before.1, "only where it is configured");
}
