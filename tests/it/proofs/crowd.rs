//! Thousands of clients that are slow or say nothing, in front of a handful that are served.
//!
//! Each kind of slowness has its own limit, and each costs us something while it lasts. What is proven is
//! that all are ended at their limits, that they cost little memory, and that nobody else notices. The crowd
//! must stay below the limits of an upstream: what holds a place at an origin is bounded there.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{figure, float, within};
use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::tls::{Authority, Client, Secure};
use crate::support::tools::long;
use crate::support::{Conn, Origin, Proxy, get, needs, upstreams};

/// Most memory of the process, in KiB: in the clear, and under TLS.
const MOST_KIB: [u64; 2] = [400 << 10, 900 << 10];
/// Clients that are served meanwhile.
const SERVED: usize = 4;
/// Requests that are timed, before the crowd comes and while it is there.
const TIMED: usize = 500;

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

/// One of the crowd.
enum Slow {
    Plain(TcpStream),
    Tls(Box<Secure>),
}

impl Slow {
    fn open(addr: SocketAddr, client: Option<&Client>, kind: (&str, &str, bool)) -> Self {
        let (what, text, answered) = kind;
        Self::try_open(addr, client, text, answered).unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    fn try_open(addr: SocketAddr, client: Option<&Client>, text: &str, answered: bool) -> io::Result<Self> {
        let Some(client) = client else {
            let mut stream = TcpStream::connect(addr)?;
            stream.set_read_timeout(Some(Duration::from_secs(30)))?;
            stream.write_all(text.as_bytes())?;
            if answered {
                let mut piece = [0; 4096];
                let count = stream.read(&mut piece)?;
                assert!(piece[..count].starts_with(b"HTTP/1.1 200"), "{text}");
            }
            return Ok(Self::Plain(stream));
        };
        let mut secure = client.open(addr, "a")?;
        if answered {
            assert!(secure.ask(text)?.starts_with("HTTP/1.1 200"), "{text}");
        } else {
            secure.write(text.as_bytes())?;
        }
        Ok(Self::Tls(Box::new(secure)))
    }

    /// Reads to the end of the connection; false when it has none.
    fn has_ended(self) -> bool {
        let ended = match self {
            Self::Plain(mut stream) => read_out(&mut stream),
            Self::Tls(mut secure) => secure.rest().map(drop),
        };
        !ended.is_err_and(|error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
    }
}

fn read_out(stream: &mut TcpStream) -> io::Result<()> {
    let mut piece = [0; 65_536];
    while stream.read(&mut piece)? > 0 {}
    Ok(())
}

/// How long the slowest hundredth of some requests took, in milliseconds.
fn slowest(addr: SocketAddr) -> f64 {
    let mut conn = Conn::open(addr);
    let mut times: Vec<Duration> = (0..TIMED)
        .map(|_| {
            let began = Instant::now();
            conn.ask(&get("/quick")).expect_status(200);
            began.elapsed()
        })
        .collect();
    times.sort();
    times[TIMED * 99 / 100].as_secs_f64() * 1000.0
}

/// A crowd of so many, each of whom is ended after `limit`, in the clear or under TLS.
fn crowd(all: usize, limit: &str, ca: Option<&Authority>) {
    let what = if ca.is_some() { "under TLS" } else { "in the clear" };
    let origin = Origin::start("app");
    origin.on("/quick", Behaviour::Answer(200, "ok")).on("/down", Behaviour::Download(64 << 20));
    let tls = ca.map(|ca| {
        let pair = ca.sign("a", "/CN=a", "DNS:a");
        format!(", tls: {{ certificates: [{}] }}", pair.yaml())
    });
    let proxy = Proxy::start(&format!(
        "listeners:\n  - {{ name: web, address: \"127.0.0.1:@web@\"{}, timeouts: {{ firstByte: {limit}, header: {limit}, \
         bodyIdle: {limit}, idle: {limit}, sendStall: {limit} }} }}\n  \
         - {{ name: good, address: \"127.0.0.1:@second@\" }}\n{}\
         routes: [{{ name: all, split: {{ app: 1 }}, timeouts: {{ request: 0s, upstream: 0s, streamIdle: 0s }} }}]\n",
        tls.unwrap_or_default(),
        upstreams(&[&origin])
    ));
    let client = ca.map(|ca| Client::new(&ca.ca()));
    let good = proxy.site.second();
    let before = (proxy.memory().now_kib, slowest(good));
    let served = Load::h1(good, SERVED, Duration::from_millis(10), |_| get("/quick"));
    let mut crowd = Vec::with_capacity(all);
    for (kind, count) in KINDS.into_iter().zip(counts(all)) {
        crowd.extend((0..count).map(|_| Slow::open(proxy.web(), client.as_ref(), kind)));
    }
    let open = || proxy.metrics().count("switchback_connections", &[("listener", "web")]);
    let most = open();
    let during = slowest(good);
    let memory = proxy.memory();
    within(Duration::from_secs(240), "all are ended", || open() == 0);
    let served = served.stop();
    assert_eq!((served.failed, served.closed), (0, 0), "{served:?}");
    assert!(served.done >= 100, "{served:?}");
    // On a slow machine the first are ended before the last come.
    assert!(most >= all as u64 / 2, "{most} were open at once");
    assert_eq!(crowd.into_iter().filter_map(|slow| (!slow.has_ended()).then_some(())).count(), 0);
    assert!(memory.peak_kib <= MOST_KIB[usize::from(ca.is_some())], "{} KiB", memory.peak_kib);
    figure(&format!("open slow clients at once, {what}"), "connections", vec![float(most)]);
    figure(&format!("memory with them, {what}"), "KiB", vec![float(memory.peak_kib)]);
    figure(&format!("memory before, {what}"), "KiB", vec![float(before.0)]);
    figure(&format!("p99 of others before, {what}"), "ms", vec![before.1]);
    figure(&format!("p99 of others with them, {what}"), "ms", vec![during]);
    let metrics = proxy.metrics();
    assert!(metrics.count("switchback_rejected_total", &[("reason", "client_timeout")]) > 0);
    let charged = metrics.count("switchback_requests_total", &[("outcome", "error")]);
    assert_eq!(charged, 0, "an arm is charged: {}", metrics.family("switchback_upstream_failures_total"));
}

#[test]
fn a_crowd_of_slow_clients_is_ended_and_harms_nobody() {
    let (all, limit) = if long() { (10_000, "20s") } else { (1_000, "5s") };
    crowd(all, limit, None);
}

#[test]
fn a_crowd_under_tls_is_ended_and_harms_nobody() {
    needs!("openssl");
    // Each of them shakes hands first, which takes this test as long as the proxy.
    let (all, limit) = if long() { (10_000, "90s") } else { (300, "5s") };
    crowd(all, limit, Some(&Authority::new()));
}
