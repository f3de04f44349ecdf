//! Bodies flow as they come, in constant memory, and end when either side does.
//!
//! Event streams, uploads and downloads break when a proxy waits for the end, buffers, or keeps
//! working for a client that left. Each test holds one end still and watches the other.

use std::time::Duration;

use crate::support::raw::{RawOrigin, Script};
use crate::support::{Behaviour, Gate, Origin, Proxy, Request, eventually, get, long, upstreams};

const MIB: u64 = 1024 * 1024;
const SOON: Duration = Duration::from_millis(5);

fn in_front_of(origin: &Origin, rest: &str) -> Proxy {
    Proxy::start(&format!("{}routes: [{{ name: all, split: {{ app: 1 }}{rest} }}]\n", upstreams(&[origin])))
}

#[test]
fn events_reach_the_client_while_the_origin_is_still_sending() {
    let (origin, gate) = (Origin::start("app"), Gate::closed());
    origin.on("/events", Behaviour::Lines("text/event-stream", SOON, gate.clone()));
    let proxy = in_front_of(&origin, "");
    let mut conn = proxy.conn();

    let head = conn.begin(&get("/events")).expect("a head");
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let mut got = String::new();
    while !got.contains("data: 9\n") {
        let piece = conn.piece().expect("the stream goes on").expect("the stream has no end yet");
        got.push_str(&String::from_utf8_lossy(&piece));
    }
    gate.open();
    while let Some(piece) = conn.piece().expect("a proper end") {
        got.push_str(&String::from_utf8_lossy(&piece));
    }
    let lines = got.split_terminator("\n\n").enumerate();
    lines.for_each(|(number, line)| assert_eq!(line, format!("data: {number}")));
    assert_eq!(conn.ask(&get("/")).status, 200, "the connection lives on");
}

#[test]
fn a_request_body_and_its_answer_flow_at_the_same_time() {
    let origin = Origin::start("app");
    origin.on("/loop", Behaviour::Loopback);
    let proxy = in_front_of(&origin, "");
    let mut conn = proxy.conn();
    let head = format!("{}transfer-encoding: chunked\r\n\r\n", Request::new("POST", "/loop").head());
    conn.write(head.as_bytes()).expect("send the head");
    conn.write_chunk(b"piece 0").expect("send a piece");
    assert_eq!(conn.read_head("POST").expect("a head before the end of the body").status, 200);
    for number in 0..20 {
        let expected = format!("piece {number}").into_bytes();
        let mut got = Vec::new();
        while got.len() < expected.len() {
            got.extend(conn.piece().expect("open").expect("no end yet"));
        }
        assert_eq!(got, expected);
        conn.write_chunk(format!("piece {}", number + 1).as_bytes()).expect("send the next piece");
    }
    conn.write(b"0\r\n\r\n").expect("end the body");
    while conn.piece().expect("a proper end").is_some() {}
}

#[test]
fn an_upload_reaches_the_origin_before_it_is_complete() {
    let origin = Origin::start("app");
    origin.on("/up", Behaviour::Swallow);
    let proxy = in_front_of(&origin, "");
    let mut conn = proxy.conn();
    let head = format!("{}content-length: 100000\r\n\r\n", Request::new("PUT", "/up").head());
    conn.write(head.as_bytes()).expect("send the head");
    conn.write(&[b'u'; 60_000]).expect("send the first part");
    eventually("the first part is at the origin", || origin.received() == 60_000);
    conn.write(&[b'u'; 40_000]).expect("send the rest");
    let response = conn.read_head("PUT").expect("an answer");
    assert_eq!(response.status, 200);
    assert_eq!(conn.piece().expect("its body").expect("a count"), b"100000");
}

#[test]
fn large_bodies_pass_in_constant_memory() {
    let size = if long() { 1024 * MIB } else { 256 * MIB };
    let origin = Origin::start("app");
    origin.on("/down", Behaviour::Download(size)).on("/up", Behaviour::Swallow);
    let proxy = in_front_of(&origin, "");
    let mut conn = proxy.conn();
    conn.ask(&get("/")).expect_status(200);
    let before = proxy.memory().peak_kib;

    let mut got = 0;
    conn.begin(&get("/down")).expect("a head");
    while let Some(piece) = conn.piece().expect("the download goes on") {
        got += piece.len() as u64;
    }
    assert_eq!(got, size);

    let head = format!("{}content-length: {size}\r\n\r\n", Request::new("POST", "/up").head());
    conn.write(head.as_bytes()).expect("send the head");
    let piece = vec![b'u'; 1024 * 1024];
    for _ in 0..size / MIB {
        conn.write(&piece).expect("the upload goes on");
    }
    assert_eq!(conn.read_head("POST").expect("an answer").status, 200);
    assert_eq!(conn.piece().expect("its body").expect("a count"), size.to_string().as_bytes());

    let grown = proxy.memory().peak_kib - before;
    assert!(grown < 16 * 1024, "memory grew by {grown} KiB for bodies of {size} bytes");
}

#[test]
fn a_reader_that_stops_stops_the_origin_instead_of_filling_memory() {
    let origin = Origin::start("app");
    origin.on("/down", Behaviour::Download(512 * MIB));
    let proxy = in_front_of(&origin, "");
    let before = proxy.memory().peak_kib;
    let mut conns: Vec<_> = (0..4).map(|_| proxy.conn()).collect();
    for conn in &mut conns {
        conn.begin(&get("/down")).expect("a head");
        conn.piece().expect("a first piece");
    }
    // Something else keeps working, which also gives a broken proxy time to read ahead.
    for _ in 0..200 {
        proxy.ask(&get("/")).expect_status(200);
    }
    let grown = proxy.memory().peak_kib - before;
    assert!(grown < 32 * 1024, "memory grew by {grown} KiB for four clients that do not read");
    drop(conns);
    eventually("the origin is told to stop", || origin.abandoned() == 4);
}

#[test]
fn a_client_that_leaves_cancels_its_origin() {
    let origin = Origin::start("app");
    origin.on("/hang", Behaviour::Hang).on("/stall", Behaviour::Stall);
    let proxy = in_front_of(&origin, "");

    let mut waiting = proxy.conn();
    waiting.write(format!("{}\r\n", get("/hang").head()).as_bytes()).expect("send");
    origin.await_requests(1);
    drop(waiting);
    eventually("the exchange without a head is cancelled", || origin.abandoned() == 1);

    let mut reading = proxy.conn();
    reading.begin(&get("/stall")).expect("a head");
    reading.piece().expect("a first piece");
    drop(reading);
    eventually("the exchange in its body is cancelled", || origin.abandoned() == 2);

    eventually("both are counted as the client's doing", || {
        let labels = [("route", "all"), ("outcome", "client_closed")];
        proxy.metrics().count("switchback_requests_total", &labels) == 2
    });
}

#[test]
fn a_stream_may_be_slow_but_not_silent() {
    let (origin, gate) = (Origin::start("app"), Gate::closed());
    // Slower than the deadline in total, faster from piece to piece.
    origin.on("/slow", Behaviour::Lines("text/plain", Duration::from_millis(100), gate.clone()));
    origin.on("/stall", Behaviour::Stall);
    let proxy = in_front_of(&origin, ", timeouts: { request: 1s, upstream: 1s, streamIdle: 1s }");

    let mut slow = proxy.conn();
    slow.begin(&get("/slow")).expect("a head");
    let mut got = String::new();
    while !got.contains("data: 20\n") {
        let piece = slow.piece().expect("a slow stream is not cut").expect("no end yet");
        got.push_str(&String::from_utf8_lossy(&piece));
    }
    gate.open();
    while slow.piece().expect("a proper end").is_some() {}

    let mut stalled = proxy.conn();
    assert_eq!(stalled.begin(&get("/stall")).expect("a head").status, 200);
    let end = std::iter::repeat_with(|| stalled.piece()).find(|piece| !matches!(piece, Ok(Some(_))));
    assert!(matches!(end, Some(Err(_))), "a cut body must not look complete: {end:?}");
}

#[test]
fn an_answer_cut_off_by_its_origin_is_visibly_cut() {
    let rows: [(&str, &[u8]); 2] = [
        ("with a length", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
        ("in chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nonly this\r\n"),
    ];
    for (framing, bytes) in rows {
        for script in [Script::SendAndClose(bytes.to_vec()), Script::SendAndReset(bytes.to_vec())] {
            let origin = RawOrigin::start(script);
            let proxy = Proxy::start(&format!(
                "upstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n",
                origin.url()
            ));
            let outcome = proxy.conn().send(&get("/"));
            let cut = match &outcome {
                Ok(response) => response.status == 502,
                Err(_) => true,
            };
            assert!(cut, "{framing}: a cut answer looks complete: {outcome:?}");
        }
    }
}
