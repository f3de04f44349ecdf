//! Thousands of clients that are slow or say nothing, in front of a handful that are served.
//!
//! Each kind of slowness has its own limit, and each costs us something while it lasts. What is proven is
//! that all are ended at their limits, that they cost little memory, and that nobody else notices. The crowd
//! must stay below the limits of an upstream: what holds a place at an origin is bounded there.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::{figure, float, within};
use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::tools::long;
use crate::support::{Origin, Proxy, get, upstreams};

/// Most memory of the process, in KiB.
const MOST_KIB: u64 = 400 << 10;
/// Clients that are served meanwhile.
const SERVED: usize = 4;

/// What a client sends before it stops, and whether it takes an answer first.
const KINDS: [(&str, &str, bool); 5] = [
    ("says nothing", "", false),
    ("stops in its head", "GET / HTTP/1.1\r\nhost: a\r\nx-slow", false),
    ("idles after an answer", "GET /quick HTTP/1.1\r\nhost: a\r\n\r\n", true),
    ("stops in its body", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf", false),
    ("does not read", "GET /down HTTP/1.1\r\nhost: a\r\n\r\n", false),
];

/// Clients of each kind. The last two hold a place at the origin.
fn counts(all: usize) -> [usize; 5] {
    let [bodies, readers] = [all / 20, all / 50];
    let rest = all - bodies - readers;
    [rest / 2, rest / 4, rest - rest / 2 - rest / 4, bodies, readers]
}

fn open(proxy: &Proxy, (what, text, answered): (&str, &str, bool)) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.web()).unwrap_or_else(|error| panic!("{what}: {error}"));
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a read timeout");
    stream.write_all(text.as_bytes()).unwrap_or_else(|error| panic!("{what}: {error}"));
    if answered {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert!(piece[..count].starts_with(b"HTTP/1.1 200"), "{what}");
    }
    stream
}

/// Reads to the end of a connection; false when it has none.
fn has_ended(mut stream: TcpStream) -> bool {
    let mut piece = [0; 65_536];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn a_crowd_of_slow_clients_is_ended_and_harms_nobody() {
    let (all, limit) = if long() { (10_000, "20s") } else { (1_000, "5s") };
    let origin = Origin::start("app");
    origin.on("/quick", Behaviour::Answer(200, "ok")).on("/down", Behaviour::Download(64 << 20));
    let proxy = Proxy::start(&format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:@web@\", timeouts: {{ firstByte: {limit}, header: {limit}, \
         bodyIdle: {limit}, idle: {limit}, sendStall: {limit} }} }}]\n{}\
         routes: [{{ name: all, split: {{ app: 1 }}, timeouts: {{ request: 0s, upstream: 0s, streamIdle: 0s }} }}]\n",
        upstreams(&[&origin])
    ));
    let before = proxy.memory().now_kib;
    let served = Load::h1(proxy.web(), SERVED, Duration::from_millis(10), |_| get("/quick"));
    let mut crowd = Vec::with_capacity(all);
    for (kind, count) in KINDS.into_iter().zip(counts(all)) {
        crowd.extend((0..count).map(|_| open(&proxy, kind)));
    }
    let open = || proxy.metrics().count("switchback_connections", &[("listener", "web")]);
    let most = open();
    let memory = proxy.memory();
    within(Duration::from_secs(120), "all are ended", || open() <= SERVED as u64);
    let served = served.stop();
    assert_eq!((served.failed, served.closed), (0, 0), "{served:?}");
    assert!(served.done >= 100, "{served:?}");
    // On a slow machine the first are ended before the last come.
    assert!(most >= all as u64 / 2, "{most} were open at once");
    assert_eq!(crowd.into_iter().filter_map(|stream| (!has_ended(stream)).then_some(())).count(), 0);
    assert!(memory.peak_kib <= MOST_KIB, "{} KiB", memory.peak_kib);
    figure("open slow clients at once", "connections", vec![float(most)]);
    figure("memory with them", "KiB", vec![float(memory.peak_kib)]);
    figure("memory before", "KiB", vec![float(before)]);
    let metrics = proxy.metrics();
    assert!(metrics.count("switchback_rejected_total", &[("reason", "client_timeout")]) > 0);
    assert_eq!(metrics.count("switchback_requests_total", &[("outcome", "error")]), 0, "no arm is charged");
}
