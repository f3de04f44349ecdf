//! L01-L07: clients that are slow on purpose (faults 1C). TLS stalls (L06) are in `tls.rs`.
//!
//! Every limit is a second or two; the connection must end at it, not before, and at most a second
//! after. Waiting for a peer to act is the subject here, so times are measured, never slept.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::{Stage, Table};
use crate::support::client::heard;
use crate::support::h2raw::{self, H2Raw, SETTINGS};
use crate::support::recorder::{After, Recorder};
use crate::support::{Conn, eventually, get};

const LIMIT: Duration = Duration::from_secs(2);
/// The promise is one second; a busy machine is granted one more.
const LATE: Duration = Duration::from_secs(2);
/// Clocks tick coarsely, and a connection lives a little before the client knows it.
const EARLY: Duration = Duration::from_millis(100);

fn stage(timeouts: &str, up: Recorder) -> Stage {
    stage_with(timeouts, up, "")
}

fn stage_with(timeouts: &str, up: Recorder, route: &str) -> Stage {
    let listener = format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:@web@\", protocol: h2c, timeouts: {{ {timeouts} }} }}]\n"
    );
    Stage::new(up, &listener, route)
}

/// Everything said until the end, which must come at the limit counted from `since`.
#[track_caller]
fn ends_at_limit(conn: &mut Conn, since: Instant) -> String {
    let said = String::from_utf8_lossy(&conn.rest()).into_owned();
    in_time(since);
    said
}

#[track_caller]
fn in_time(since: Instant) {
    let took = since.elapsed();
    assert!(took + EARLY >= LIMIT && took < LIMIT + LATE, "ended after {took:?}");
}

/// Sends a head's beginning and then a byte each tenth of the limit, until the proxy ends it.
fn drips(addr: SocketAddr, begin: &str) -> String {
    let mut wire = TcpStream::connect(addr).expect("connect");
    wire.set_read_timeout(Some(LIMIT * 10)).expect("a read timeout");
    let mut writer = wire.try_clone().expect("a second handle");
    writer.write_all(begin.as_bytes()).expect("send");
    let dripping = std::thread::spawn(move || {
        while writer.write_all(b"x").is_ok() {
            // The pace is the attack.
            std::thread::sleep(LIMIT / 10);
        }
    });
    let mut said = Vec::new();
    // A reset after the answer is an end too.
    let _ = heard(wire.read_to_end(&mut said));
    drop(wire);
    dripping.join().expect("the dripping ends");
    String::from_utf8_lossy(&said).into_owned()
}

#[test]
fn connections_that_say_nothing_or_half() {
    let mut table = Table::new();
    let quiet = stage("firstByte: 2s, header: 60s, idle: 60s", Recorder::polite());
    table.row("L01", "silent", || {
        let since = Instant::now();
        assert_eq!(ends_at_limit(&mut Conn::open(quiet.proxy.web()), since), "");
    });
    let stage = stage("firstByte: 60s, header: 2s, idle: 60s", Recorder::polite());
    table.row("L02", "part of an HTTP/2 preface", || {
        let mark = stage.mark("client_timeout");
        let (since, mut conn) = (Instant::now(), Conn::open(stage.proxy.web()));
        conn.write(b"PRI * HTTP/2.0\r\n").expect("send");
        ends_at_limit(&mut conn, since);
        stage.refused(&mark);
    });
    table.row("L03", "a head that stops: 408", || {
        let mark = stage.mark("client_timeout");
        let (since, mut conn) = (Instant::now(), Conn::open(stage.proxy.web()));
        conn.write(b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow").expect("send");
        let said = ends_at_limit(&mut conn, since);
        assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
        stage.refused(&mark);
    });
    table.row("L03", "a head that drips: 408", || {
        let mark = stage.mark("client_timeout");
        let since = Instant::now();
        let said = drips(stage.proxy.web(), "GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ");
        in_time(since);
        assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
        stage.refused(&mark);
    });
    table.row("L03", "a second head that stops", || {
        let mut conn = Conn::open(stage.proxy.web());
        conn.ask(&get("/")).expect_status(200);
        let since = Instant::now();
        conn.write(b"GET /").expect("send");
        let said = ends_at_limit(&mut conn, since);
        assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
    });
    for (what, cut) in [("without its end", false), ("cut in its frame", true)] {
        table.row("L03", &format!("an HTTP/2 header block {what}"), || {
            let mark = stage.mark("client_timeout");
            let mut conn = H2Raw::open(stage.proxy.web());
            assert!(conn.is_alive(), "settings are exchanged");
            let block = h2raw::block(&h2raw::request("GET", "shop.test", "/x"));
            let since = Instant::now();
            if cut {
                let mut bytes = vec![0, 0, u8::try_from(block.len()).expect("short"), 1, 5, 0, 0, 0, 1];
                bytes.extend_from_slice(&block[..10]);
                conn.write(&bytes);
            } else {
                conn.frame(h2raw::HEADERS, h2raw::END_STREAM, 1, &block);
            }
            conn.ended();
            in_time(since);
            stage.refused(&mark);
        });
    }
    table.end();
}

#[test]
fn bodies_that_stop() {
    let mut table = Table::new();
    let stage = stage("bodyIdle: 2s, header: 60s, idle: 60s", Recorder::polite());
    for (what, framing) in
        [("with a length", "Content-Length: 10"), ("in chunks", "Transfer-Encoding: chunked")]
    {
        table.row("L04", &format!("a body {what} that stops: 408"), || {
            let mark = stage.mark("client_timeout");
            let (since, mut conn) = (Instant::now(), Conn::open(stage.proxy.web()));
            conn.write(format!("POST / HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n5\r\nhe").as_bytes())
                .expect("send");
            let said = ends_at_limit(&mut conn, since);
            assert!(said.starts_with("HTTP/1.1 408 "), "{said:?}");
            stage.proxy.settles("switchback_rejected_total", &[("reason", mark.reason)], mark.rejected + 1);
            eventually("the upstream is let go", || stage.up.open() == 0);
            assert!(stage.up.messages().iter().all(|one| !one.whole), "{:?}", stage.up.messages());
            assert_eq!(stage.charged(), mark.charged, "no arm is to blame");
        });
    }
    table.row("L04", "a body that drips goes on", || {
        stage.up.clear();
        let mut conn = Conn::open(stage.proxy.web());
        conn.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n").expect("send");
        let since = Instant::now();
        for _ in 0..6 {
            std::thread::sleep(LIMIT / 2);
            conn.write(b"x").expect("send a byte");
        }
        assert!(since.elapsed() > LIMIT * 2);
        assert_eq!(conn.read_head("POST").expect("an answer").status, 200);
    });
    table.row("L04", "an HTTP/2 body that stops", || {
        let mark = stage.mark("client_timeout");
        let mut conn = H2Raw::open(stage.proxy.web());
        let since = Instant::now();
        let stream = conn.open_stream(&h2raw::request("POST", "shop.test", "/x"), false);
        conn.data(stream, b"hello", false);
        conn.end_of(stream);
        in_time(since);
        assert_eq!(stage.charged(), mark.charged, "no arm is to blame");
    });
    let answering = self::stage_with(
        "bodyIdle: 2s, header: 2s, idle: 60s",
        Recorder::polite(),
        ", matches: [{ path: /only }]",
    );
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        table.row("L04", &format!("a body that stops, of a request nobody serves ({framing})"), || {
            let (since, mut conn) = (Instant::now(), Conn::open(answering.proxy.web()));
            conn.write(format!("POST /none HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n").as_bytes())
                .expect("send");
            ends_at_limit(&mut conn, since);
        });
    }
    table.row("L03", "a head that drips after a body that was thrown away", || {
        let begin =
            "POST /none HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhiGET / HTTP/1.1\r\nHost: a\r\nX: ";
        let since = Instant::now();
        let said = drips(answering.proxy.web(), begin);
        in_time(since);
        assert!(said.contains("HTTP/1.1 408 "), "{said:?}");
    });
    let hurried =
        self::stage_with("bodyIdle: 60s", Recorder::polite(), ", timeouts: { request: 2s, upstream: 2s }");
    table.row("L04", "an upload may take longer than an upstream may take to answer", || {
        let mark = hurried.mark("client_timeout");
        let mut conn = Conn::open(hurried.proxy.web());
        conn.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n").expect("send");
        for _ in 0..6 {
            std::thread::sleep(LIMIT / 4);
            conn.write(b"x").expect("send a byte");
        }
        assert_eq!(conn.read_head("POST").expect("an answer").status, 200);
        assert_eq!(hurried.charged(), mark.charged);
    });
    let early = Recorder::start(|exchange| {
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        After::Hang
    });
    let early = self::stage("bodyIdle: 2s, header: 60s, idle: 60s", early);
    table.row("L04", "answered early, then a body that stops: never a request", || {
        let mut conn = Conn::open(early.proxy.web());
        conn.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nhello").expect("send");
        let response = conn.read_head("POST").expect("an answer");
        assert_eq!(response.status, 200);
        assert_eq!(conn.piece().expect("its body").expect("its body"), b"ok");
        // Longer than an idle connection keeps its parser, shorter than the limit after each piece.
        for _ in 0..3 {
            std::thread::sleep(LIMIT * 3 / 4);
            if conn.write(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").is_err() {
                break;
            }
        }
        let since = Instant::now();
        let said = conn.rest();
        assert!(said.is_empty(), "{:?}", String::from_utf8_lossy(&said));
        assert!(since.elapsed() < LIMIT + LATE, "an upload left over ends at the body's limit");
        assert!(early.up.messages().iter().all(|one| one.target == "/"), "{:?}", early.up.messages());
    });
    table.end();
}

#[test]
fn floods() {
    let mut table = Table::new();
    let stage = stage("idle: 60s", Recorder::polite());
    let mut neighbour = H2Raw::open(stage.proxy.web());
    let frames: [(&str, &str, u8, &[u8]); 4] = [
        ("D15", "pings", h2raw::PING, b"12345678"),
        ("D15", "pings nobody asked for", h2raw::PING, b"unasked!"),
        ("D15", "settings", SETTINGS, b""),
        ("D15", "frames of no known kind", 0x42, b"?"),
    ];
    for (id, what, kind, payload) in frames {
        table.row(id, what, || {
            let mut conn = H2Raw::open(stage.proxy.web());
            let flags = if what.contains("nobody") { h2raw::ACK } else { 0 };
            for _ in 0..5_000 {
                conn.frame(kind, flags, 0, payload);
            }
            conn.ended();
        });
    }
    table.row("D11", "streams opened and reset, one after the other", || {
        let before = stage.up.connections();
        let mut conn = H2Raw::open(stage.proxy.web());
        for _ in 0..2_000 {
            let stream = conn.open_stream(&h2raw::request("GET", "shop.test", "/x"), true);
            conn.frame(h2raw::RST_STREAM, 0, stream, &8_u32.to_be_bytes());
        }
        conn.ended();
        let opened = stage.up.connections() - before;
        assert!(opened <= 220, "{opened} upstream connections for one client connection");
    });
    // Far from the protocol library's own bound, which is 1,024 for a whole connection.
    table.row("D11", "streams that we must reset for the client's errors", || {
        let mut conn = H2Raw::open(stage.proxy.web());
        let cut = (0..18).any(|_| {
            for _ in 0..50 {
                let stream = conn.open_stream(&h2raw::request("GET", "shop.test", "/x"), true);
                conn.frame(h2raw::WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes());
            }
            !conn.is_alive()
        });
        assert!(cut, "900 of them are let pass");
    });
    assert!(neighbour.is_alive(), "nobody else is cut");
    table.end();
}

#[test]
fn readers_that_stop_and_connections_that_idle() {
    let mut table = Table::new();
    let endless = Recorder::start(|exchange| {
        exchange.read_body();
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
        while exchange.send(&[b'x'; 65536]) {}
        After::Close
    });
    let stalled = stage("sendStall: 2s, idle: 60s", endless);
    table.row("L05", "a reader that stops", || {
        let mark = stalled.mark("malformed");
        let since = Instant::now();
        let mut conn = Conn::open(stalled.proxy.web());
        conn.begin(&get("/")).expect("a head");
        eventually("the upstream is let go", || stalled.up.open() == 0);
        in_time(since);
        assert_eq!(stalled.charged(), mark.charged, "no arm is to blame");
    });
    table.row("L05", "an HTTP/2 reader that gives no window", || {
        let since = Instant::now();
        let mut conn = H2Raw::open(stalled.proxy.web());
        // No stream may send a byte.
        conn.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        conn.open_stream(&h2raw::request("GET", "shop.test", "/x"), true);
        eventually("a request is upstream", || stalled.up.open() == 1);
        eventually("the upstream is let go", || stalled.up.open() == 0);
        in_time(since);
    });
    let idle = stage("idle: 2s, header: 60s, firstByte: 60s", Recorder::polite());
    table.row("L07", "idle after an answer", || {
        let mut conn = Conn::open(idle.proxy.web());
        conn.ask(&get("/")).expect_status(200);
        let since = Instant::now();
        assert_eq!(ends_at_limit(&mut conn, since), "", "closed without a word");
    });
    table.row("L07", "idle HTTP/2, before and after a stream", || {
        let mut conn = H2Raw::open(idle.proxy.web());
        let since = Instant::now();
        conn.ended();
        in_time(since);
        let mut conn = H2Raw::open(idle.proxy.web());
        let stream = conn.open_stream(&h2raw::request("GET", "shop.test", "/x"), true);
        conn.end_of(stream);
        let since = Instant::now();
        conn.ended();
        in_time(since);
    });
    let header = stage("idle: 60s, header: 2s, firstByte: 2s", Recorder::polite());
    table.row("L07", "HTTP/2 without a stream lives by the idle limit alone", || {
        let mut conn = H2Raw::open(header.proxy.web());
        let since = Instant::now();
        while since.elapsed() < LIMIT + LATE {
            assert!(conn.is_alive());
            std::thread::sleep(LIMIT / 4);
        }
    });
    table.end();
}
