//! An origin killed with SIGKILL under load, beside one that lives on.
//!
//! Two real processes write down every request they get. Of what was under way at the kill, a GET
//! without a byte of its answer succeeds elsewhere, no POST is delivered twice, and an answer cut
//! off looks cut off. Without `retry` nothing written is ever sent again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, Conn, Proxy, Request, Stranger, Witness, get, long, needs, post};

/// Together 500 requests a second.
const CLIENTS: usize = 40;
const PACE: Duration = Duration::from_millis(80);
/// Clients that always have a long answer under way.
const READERS: usize = 6;
const END: &[u8] = b"the end\n";

/// What one request came to for its client.
#[derive(Debug)]
struct Outcome {
    method: &'static str,
    target: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq)]
enum Kind {
    Complete,
    /// An answer of the proxy's own, or none.
    Failed(String),
    /// An answer that began and visibly broke off.
    Truncated,
    /// An answer that ended properly without being all of it.
    Lost,
}

fn judge(conn: &mut Conn, request: &Request, complete: impl Fn(&[u8]) -> bool) -> Kind {
    let head = match conn.begin(request) {
        Ok(head) if head.status == 200 => head,
        Ok(head) => {
            while matches!(conn.piece(), Ok(Some(_))) {}
            return Kind::Failed(format!("{}", head.status));
        }
        Err(error) => return Kind::Failed(error.to_string()),
    };
    let mut body = head.body;
    loop {
        match conn.piece() {
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) if complete(&body) => return Kind::Complete,
            Ok(None) => return Kind::Lost,
            Err(_) => return Kind::Truncated,
        }
    }
}

/// Asks at a steady pace until told to stop; every third request is a POST.
fn client(addr: SocketAddr, index: usize, stop: &AtomicBool) -> Vec<Outcome> {
    let (mut conn, mut outcomes) = (Conn::open(addr), Vec::new());
    // Spread over the pace, so that some request is always under way.
    let offset = PACE * u32::try_from(index).unwrap_or(0) / u32::try_from(CLIENTS).unwrap_or(1);
    let mut next = Instant::now() + offset;
    std::thread::sleep(offset);
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let target = format!("/{index}/{round}");
        let is_post = (index + round).is_multiple_of(3);
        let request = if is_post { post(&target, "charge me once") } else { get(&target) };
        let answer = format!("answer to {target}");
        let kind = judge(&mut conn, &request, |body| body == answer.as_bytes());
        if kind != Kind::Complete {
            conn = Conn::open(addr);
        }
        outcomes.push(Outcome { method: if is_post { "POST" } else { "GET" }, target, kind });
        next = (next + PACE).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    outcomes
}

fn reader(addr: SocketAddr, index: usize, stop: &AtomicBool) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let target = format!("/long/{index}/{}", outcomes.len());
        let kind = judge(&mut Conn::open(addr), &get(&target), |body| body.ends_with(END));
        outcomes.push(Outcome { method: "GET", target, kind });
    }
    outcomes
}

/// Lets traffic flow, kills one of the two origins in the middle of it, and collects the outcomes.
fn under_fire(proxy: &Proxy, one: &mut Stranger, other: &Stranger) -> Vec<Outcome> {
    let (addr, stop) = (proxy.web(), AtomicBool::new(false));
    let flowing = if long() { Duration::from_secs(5) } else { Duration::from_millis(1500) };
    std::thread::scope(|scope| {
        let stop = &stop;
        let mut threads = Vec::new();
        threads.extend((0..CLIENTS).map(|index| scope.spawn(move || client(addr, index, stop))));
        threads.extend((0..READERS).map(|index| scope.spawn(move || reader(addr, index, stop))));
        let asked = |stranger: &Stranger| stranger.requests().len();
        // Load for a while, not an order of events: the kill may fall anywhere in it.
        std::thread::sleep(flowing);
        assert!(asked(one) > 50 && asked(other) > 50, "both are asked");
        one.kill();
        std::thread::sleep(flowing);
        stop.store(true, Ordering::SeqCst);
        threads.into_iter().flat_map(|thread| thread.join().expect("a client")).collect()
    })
}

#[test]
fn a_killed_origin_costs_no_get_no_double_post_and_no_quiet_truncation() {
    needs!("node");
    let (mut one, other) = (Stranger::script("recording.js", &[]), Stranger::script("recording.js", &[]));
    let proxy = Proxy::start(&format!(
        "upstreams: {{ app: {{ endpoints: [\"{}\", \"{}\"] }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}, retry: {{ attempts: 1, when: [connect, reset] }} }}]\n",
        one.url(),
        other.url()
    ));
    let outcomes = under_fire(&proxy, &mut one, &other);
    let mut delivered: HashMap<String, usize> = HashMap::new();
    for line in one.requests().into_iter().chain(other.requests()) {
        *delivered.entry(line).or_default() += 1;
    }
    let of = |kind: fn(&Kind) -> bool| outcomes.iter().filter(|one| kind(&one.kind)).collect::<Vec<_>>();
    let failed = of(|kind| matches!(kind, Kind::Failed(_)));
    let truncated = of(|kind| *kind == Kind::Truncated);
    println!(
        "{} requests, {} failed ({} GET), {} visibly truncated, {} GETs asked twice",
        outcomes.len(),
        failed.len(),
        failed.iter().filter(|one| one.method == "GET").count(),
        truncated.len(),
        delivered.iter().filter(|(line, count)| line.starts_with("GET") && **count > 1).count(),
    );

    assert_eq!(of(|kind| *kind == Kind::Lost).len(), 0, "an answer ended early and looked complete");
    assert!(failed.iter().all(|one| one.method == "POST"), "a GET without a byte must succeed: {failed:#?}");
    let under_way = CLIENTS + READERS;
    assert!(failed.len() + truncated.len() <= under_way, "{failed:#?} {truncated:#?}");
    for one in outcomes.iter().filter(|one| one.method == "POST") {
        let count = delivered.get(&format!("POST {}", one.target)).copied().unwrap_or(0);
        assert!(count <= 1, "{one:?} was delivered {count} times");
        assert!(one.kind != Kind::Complete || count == 1, "{one:?} was delivered {count} times");
    }
}

#[test]
fn without_retry_a_request_that_was_read_is_never_sent_again() {
    for (method, rounds) in [("GET", 1), ("GET", 3), ("POST", 1), ("POST", 3), ("PUT", 2)] {
        // The last request is read and answered by an end, on a new connection or on a used one,
        // while a second endpoint would take it.
        let witness = Witness::start(move |request| match request.header("x-last") {
            Some(_) => Answer { pieces: Vec::new(), close: true },
            None => super::echo(request),
        });
        let proxy = Proxy::start(&format!(
            "workers: 1\nupstreams: {{ app: {{ endpoints: [\"{url}\", \"{url}\"], loadBalance: roundRobin }} }}\n\
             routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
            url = witness.url()
        ));
        let mut conn = proxy.conn();
        let mut request = Request::new(method, "/once");
        if method != "GET" {
            request.body = b"a body".to_vec();
        }
        for _ in 1..rounds {
            conn.ask(&request).expect_status(200);
        }
        let answer = conn.ask(&request.header("x-last", "1"));
        assert_eq!(answer.status, 502, "{method} after {rounds} rounds: {answer:?}");
        assert_eq!(witness.take().len(), rounds, "{method} after {rounds} rounds: requests at the origin");
    }
}
