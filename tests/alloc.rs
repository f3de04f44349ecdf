//! Allocations per proxied keep-alive request, counted exactly on the worker's own thread.
//!
//! All features of the default configuration are on (split, sticky key, RED, request id, forwarded
//! headers, timeouts). It must never count the client's or the origin's allocations.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use switchback::app::worker::{Birth, run};
use switchback::ledger::Book;
use switchback::model::log::{AccessRecord, AccessSink};
use switchback::model::shadow::{Pair, PairSink};
use switchback::model::{Generation, Overlay, WorkerId};
use switchback::net::bind::bind;
use switchback::plan::{Inputs, Plans, compile};
use switchback::spec::{Source, parse};

/// The bound of the project: allocations per request.
const MOST: f64 = 12.0;
/// Requests before counting begins, so that pools and buffers are there.
const WARM_UP: u32 = 300;
/// Requests counted.
const COUNTED: u32 = 2_000;

struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static COUNTED_THREAD: Cell<bool> = const { Cell::new(false) };
}

/// Takes every pair and forgets it.
struct Nobody;

impl PairSink for Nobody {
    fn pair(&self, _: Pair) -> bool {
        true
    }
}

fn note() {
    if COUNTED_THREAD.try_with(Cell::get).unwrap_or(false) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed to the system's allocator unchanged.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        unsafe { System.alloc(layout) }
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct NoLog;

impl AccessSink for NoLog {
    fn record(&self, _: AccessRecord) {}
}

/// An origin that answers every head with the same 200 and keeps the connection.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

fn answer(mut stream: TcpStream) {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        seen.extend_from_slice(&piece[..count]);
        while let Some(end) = seen.windows(4).position(|window| window == b"\r\n\r\n") {
            seen.drain(..end + 4);
            if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").is_err() {
                return;
            }
        }
    }
}

fn proxy(origin: SocketAddr, mirror: &str) -> SocketAddr {
    let text = format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         upstreams: {{ stable: \"http://{origin}\", canary: \"http://{origin}\", shadow: \"http://{origin}\" }}\n\
         routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, sticky: {{ by: [{{ header: x-user-id }}] }}{mirror} }}]\n"
    );
    let spec = parse(vec![Source { name: "alloc.yaml".into(), text }]).unwrap();
    let book = Arc::new(Book::new(1, 1));
    let compiled = compile(Inputs {
        spec: &spec,
        lists: &BTreeMap::new(),
        env: &BTreeMap::new(),
        overlay: &Overlay::default(),
        book: &book,
        previous: None,
        now: 0,
    });
    let plan = compiled.unwrap().plan;
    let socket = bind(plan.listeners[0].address, 1).unwrap().remove(0);
    let address = socket.local_addr().unwrap();
    let plans = Plans::new(Arc::new(arc_swap::ArcSwap::from_pointee(plan)));
    std::thread::spawn(move || {
        let (_keep, published) = tokio::sync::watch::channel(Generation(1));
        let (_keep_too, stop) = tokio::sync::watch::channel(false);
        COUNTED_THREAD.set(true);
        run(Birth {
            id: WorkerId(0),
            sockets: vec![(0, socket)],
            plans,
            published,
            book,
            certificates: Arc::new(switchback::certs::Certificates::new(".".into()).unwrap()),
            sink: Arc::new(NoLog),
            pairs: Arc::new(Nobody),
            seed: 1,
            stop,
        })
        .unwrap();
    });
    address
}

fn send(stream: &mut TcpStream, count: u32) {
    let mut answer = [0; 1024];
    for user in 0..count {
        // In one piece: a head that comes in several costs the allocations of several.
        let head = format!("GET /a HTTP/1.1\r\nhost: shop.example.com\r\nx-user-id: u{user}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut got = 0;
        while !answer[..got].ends_with(b"hello") {
            let count = stream.read(&mut answer[got..]).unwrap();
            assert!(count > 0, "the proxy closed the connection");
            got += count;
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer[..got]));
    }
}

/// Allocations of one request in the mean.
fn each(mirror: &str) -> f64 {
    let mut stream = TcpStream::connect(proxy(origin(), mirror)).unwrap();
    stream.set_nodelay(true).unwrap();
    send(&mut stream, WARM_UP);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    send(&mut stream, COUNTED);
    f64::from(u32::try_from(ALLOCATIONS.load(Ordering::Relaxed) - before).unwrap()) / f64::from(COUNTED)
}

#[test]
fn a_keep_alive_request_costs_at_most_twelve_allocations() {
    let plain = each("");
    println!("{plain:.2} allocations per request");
    assert!(plain > 1.0, "nothing was counted");
    assert!(plain <= MOST, "{plain:.2} allocations per request, more than {MOST}");
    // A request that no mirror draws costs nothing more; one that is drawn does.
    let undrawn = each(", mirror: { to: shadow, percent: 0%, compare: [status] }");
    assert!(undrawn < plain + 0.1, "{undrawn:.2} allocations per request, without a mirror {plain:.2}");
    let copied = each(", mirror: { to: shadow, percent: 100% }");
    println!("{copied:.2} with a copy");
    assert!(copied > plain + 1.0, "nothing was copied");
}
