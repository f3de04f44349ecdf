//! R09-R14: origins that answer wrongly, endlessly, too early or not to the end (faults 1C).
//!
//! The client gets a clean answer or a 502 (504 for time), never an empty reply and never bytes of
//! another exchange: after every odd answer, requests on the client's and the pool's connections
//! must get their own. What is cut must look cut.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Stage, Table};
use crate::support::recorder::{After, Exchange, Recorder};
use crate::support::{Conn, Request, Response, eventually, get, post};

/// Polite everywhere but on `/odd`.
fn odd_with(
    resets: usize,
    odd: impl Fn(&mut Exchange<'_>) -> After + Send + Sync + 'static,
    route: &str,
) -> Stage {
    let up = Recorder::start_after_resets(resets, move |exchange| {
        if exchange.message.target == "/odd" {
            return odd(exchange);
        }
        if exchange.read_body() { exchange.ok() } else { After::Close }
    });
    Stage::new(up, "", route)
}

fn odd(odd: impl Fn(&mut Exchange<'_>) -> After + Send + Sync + 'static) -> Stage {
    odd_with(0, odd, "")
}

/// Reads the request, sends these bytes.
fn says(bytes: impl Into<Vec<u8>>, after: After) -> Stage {
    let bytes = bytes.into();
    odd(move |exchange| {
        exchange.read_body();
        exchange.send(&bytes);
        after
    })
}

/// Asks for `/odd` and then for other things, which must be what is answered.
#[track_caller]
fn ask(stage: &Stage, request: &Request) -> io::Result<Response> {
    let mut conn = Conn::open(stage.proxy.web());
    let outcome = conn.send(request);
    let goes_on = outcome.as_ref().is_ok_and(|response| !response.closes());
    for number in 0..4 {
        let target = format!("/next/{number}");
        let mut fresh = Conn::open(stage.proxy.web());
        // On the same connection where it goes on, and on others that share the pool.
        let own = if goes_on { &mut conn } else { &mut fresh };
        let next = own.ask(&get(&target));
        assert_eq!((next.status, next.text()), (200, format!("GET {target}")), "after {outcome:?}");
    }
    outcome
}

/// Asks, and wants one of these statuses, with this body for a 200; a failure is charged.
#[track_caller]
fn wants(stage: &Stage, request: &Request, statuses: &[u16], body: &str) {
    let before = stage.charged();
    let response = ask(stage, request).unwrap_or_else(|error| panic!("an empty or broken reply: {error}"));
    assert!(statuses.contains(&response.status), "{} instead of one of {statuses:?}", response.status);
    if response.status >= 500 {
        let labels = [("outcome", "error")];
        stage.proxy.settles("switchback_requests_total", &labels, before + 1);
    } else if request.method != "HEAD" {
        assert_eq!(response.text(), body);
    }
}

/// Asks, and wants a 502 or an answer that shows that it is cut.
#[track_caller]
fn cut(stage: &Stage, request: &Request) {
    let before = stage.charged();
    match ask(stage, request) {
        Ok(response) => assert_eq!(response.status, 502, "a cut answer looks whole: {response:?}"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{error}"),
    }
    stage.proxy.settles("switchback_requests_total", &[("outcome", "error")], before + 1);
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
/// An answer that belongs to nobody.
const STOLEN: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nstolen";

#[test]
fn interim_answers_and_upgrades_nobody_asked_for() {
    let mut table = Table::new();
    let interims =
        |count: usize| format!("{}{OK}", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(count));
    table.row("R09", "one interim answer", || {
        wants(&says(interims(1), After::Keep), &get("/odd"), &[200], "ok");
    });
    table.row("R09", "32 interim answers", || {
        wants(&says(interims(32), After::Keep), &get("/odd"), &[200], "ok");
    });
    table.row("R09", "33 interim answers", || {
        wants(&says(interims(33), After::Keep), &get("/odd"), &[502], "");
    });
    table.row("R09", "2,000 interim answers", || {
        wants(&says(interims(2_000), After::Keep), &get("/odd"), &[502], "");
    });
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n";
    for (what, request) in [("a GET", get("/odd")), ("a POST", post("/odd", "body"))] {
        table.row("R10", &format!("101 to {what}"), || {
            wants(&says(format!("{switched}{STOLEN}"), After::Keep), &request, &[502], "");
        });
    }
    table.row("R10", "101 to an upgrade that was taken away", || {
        let request = get("/odd").header("connection", "upgrade").header("upgrade", "foo");
        wants(&says(switched, After::Hang), &request, &[502], "");
    });
    table.end();
}

#[test]
fn answers_framed_twice_or_not_at_all() {
    let mut table = Table::new();
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for (what, lines, statuses) in [
        ("length and chunks", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", &[200, 502][..]),
        ("chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", &[200, 502]),
        ("two different lengths", "Content-Length: 5\r\nContent-Length: 4\r\n", &[502]),
        ("a signed length", "Content-Length: +5\r\n", &[502]),
        ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n", &[502]),
        ("chunked, then gzip", "Transfer-Encoding: chunked, gzip\r\n", &[502]),
    ] {
        table.row("R11", what, || {
            let answer = format!("HTTP/1.1 200 OK\r\n{lines}\r\n{chunks}");
            wants(&says(answer, After::Close), &get("/odd"), statuses, "hello");
        });
    }
    table.row("R11", "two equal lengths", || {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok";
        wants(&says(answer, After::Keep), &get("/odd"), &[200, 502], "ok");
    });
    table.row("R11", "a malformed chunk", || {
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxx\r\n";
        cut(&says(answer, After::Hang), &get("/odd"));
    });
    for status in ["099", "999", "600", "20", "2000", "abc"] {
        table.row("R11", &format!("status {status}"), || {
            let answer = format!("HTTP/1.1 {status} Odd\r\nContent-Length: 0\r\n\r\n");
            wants(&says(answer, After::Keep), &get("/odd"), &[502], "");
        });
    }
    table.end();
}

#[test]
fn surplus_bytes() {
    let mut table = Table::new();
    let head = Request::new("HEAD", "/odd");
    for (what, request, answer, status) in [
        ("after HEAD", head.clone(), format!("{OK}{STOLEN}"), 200),
        (
            "a body to HEAD",
            head,
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{STOLEN}", STOLEN.len()),
            200,
        ),
        ("after a body", get("/odd"), format!("{OK}{STOLEN}"), 200),
        (
            "after the last chunk",
            get("/odd"),
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{STOLEN}"),
            200,
        ),
        ("after 204", get("/odd"), format!("HTTP/1.1 204 No Content\r\n\r\n{STOLEN}"), 204),
        (
            "a body to 204",
            get("/odd"),
            format!("HTTP/1.1 204 No Content\r\nContent-Length: {}\r\n\r\n{STOLEN}", STOLEN.len()),
            204,
        ),
        (
            "a body to 304",
            get("/odd"),
            format!("HTTP/1.1 304 Not Modified\r\nContent-Length: {}\r\n\r\n{STOLEN}", STOLEN.len()),
            304,
        ),
    ] {
        table.row("R12", what, || {
            let body = if status == 200 { "ok" } else { "" };
            wants(&says(answer, After::Keep), &request, &[status, 502], body);
        });
    }
    table.row("R12", "bytes before anything was asked", || {
        let out = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&out);
        let stage = odd(move |exchange| {
            exchange.read_body();
            let after = exchange.ok();
            exchange.send(STOLEN.as_bytes());
            counted.fetch_add(1, Ordering::SeqCst);
            after
        });
        for round in 1..=5 {
            let response = Conn::open(stage.proxy.web()).ask(&get("/odd")).expect_status(200);
            assert_eq!(response.text(), "GET /odd");
            // Bytes that come later than the next question are its answer, to everybody.
            eventually("they are on their way", || out.load(Ordering::SeqCst) >= round);
        }
    });
    table.end();
}

#[test]
fn heads_without_end() {
    let mut table = Table::new();
    table.row("R13", "a head over 32 KiB", || {
        let answer =
            format!("HTTP/1.1 200 OK\r\nX-Big: {}\r\nContent-Length: 2\r\n\r\nok", "x".repeat(64 << 10));
        wants(&says(answer, After::Keep), &get("/odd"), &[502], "");
    });
    table.row("R13", "101 headers", || {
        let lines: String = (0..100).map(|number| format!("X-{number}: 1\r\n")).collect();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{lines}\r\nok");
        wants(&says(answer, After::Keep), &get("/odd"), &[502], "");
    });
    table.row("R13", "a head without end", || {
        let stage = odd(|exchange| {
            exchange.read_body();
            exchange.send(b"HTTP/1.1 200 OK\r\n");
            while exchange.send(b"X-More: and more and more and more and more\r\n") {}
            After::Close
        });
        wants(&stage, &get("/odd"), &[502], "");
    });
    let short = ", timeouts: { upstream: 1s, request: 0s }";
    table.row("R13", "a head that drips", || {
        let drips = |exchange: &mut Exchange<'_>| {
            exchange.read_body();
            exchange.send(b"HTTP/1.1 200 OK\r\nX-Slow: ");
            while exchange.send(b"x") {
                // The pace is the fault.
                std::thread::sleep(Duration::from_millis(100));
            }
            After::Close
        };
        wants(&odd_with(0, drips, short), &get("/odd"), &[504], "");
    });
    table.row("R13", "no head at all", || {
        let hangs = |exchange: &mut Exchange<'_>| {
            exchange.read_body();
            After::Hang
        };
        wants(&odd_with(0, hangs, short), &get("/odd"), &[504], "");
    });
    table.row("R13", "interim answers and then nothing", || {
        let hangs = |exchange: &mut Exchange<'_>| {
            exchange.read_body();
            exchange.send(b"HTTP/1.1 103 Early Hints\r\n\r\n");
            After::Hang
        };
        wants(&odd_with(0, hangs, short), &get("/odd"), &[504], "");
    });
    table.end();
}

#[test]
fn resets_at_five_points() {
    let mut table = Table::new();
    let requests = [("GET", get("/odd")), ("POST", post("/odd", "body"))];
    for (what, request) in &requests {
        table.row("R14", &format!("reset on accept, {what}"), || {
            let stage = odd_with(
                1,
                |exchange| {
                    exchange.read_body();
                    exchange.ok()
                },
                "",
            );
            wants(&stage, request, &[200, 502, 503], &format!("{what} /odd"));
            let delivered = stage.up.messages().iter().filter(|one| one.target == "/odd").count();
            assert!(delivered <= 1, "delivered {delivered} times");
        });
    }
    let long = format!("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n{}", "x".repeat(100_000));
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let rows: [(&str, &str, bool); 7] = [
        ("after the request", "", true),
        ("inside the head", "HTTP/1.1 200 OK\r\nContent-Le", true),
        ("after the head, with a length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false),
        ("after the head, in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false),
        ("inside the body, with a length", &long, false),
        ("inside the body, in chunks", chunked, false),
        (
            "inside the body, in chunks, cut within one",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
            false,
        ),
    ];
    for (point, bytes, before_head) in rows {
        for (end, after) in [("reset", After::Reset), ("closed", After::Close)] {
            for (what, request) in &requests {
                table.row("R14", &format!("{end} {point}, {what}"), || {
                    let stage = says(bytes, after);
                    if before_head {
                        wants(&stage, request, &[502], "");
                    } else {
                        cut(&stage, request);
                    }
                    let delivered = stage.up.messages().iter().filter(|one| one.target == "/odd").count();
                    assert_eq!(delivered, 1, "an origin that may have acted is not asked again");
                });
            }
        }
    }
    for (what, bytes) in [
        (
            "a good chunk and a broken one",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nbad\r\n",
        ),
        ("half a body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"),
    ] {
        table.row("R14", &format!("{what} at once: never an empty reply"), || {
            let stage = says(bytes, After::Close);
            for _ in 0..20 {
                let mut conn = Conn::open(stage.proxy.web());
                conn.write(b"GET /odd HTTP/1.1\r\nHost: a\r\n\r\n").expect("send");
                let said = String::from_utf8_lossy(&conn.rest()).into_owned();
                assert!(said.starts_with("HTTP/1.1 "), "{said:?}");
                assert!(said.starts_with("HTTP/1.1 502") || !said.ends_with("0\r\n\r\n"), "{said:?}");
            }
        });
    }
    table.row("R14", "reset inside a body that ends with its connection", || {
        cut(&says("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhello", After::Reset), &get("/odd"));
    });
    table.end();
}

#[test]
fn early_answers() {
    let mut table = Table::new();
    let upload = post("/odd", vec![b'u'; 4 << 20]);
    for (what, status, after) in [
        ("200, and reads on", 200, After::Hang),
        ("401, and reads on", 401, After::Hang),
        ("413, and closes", 413, After::Close),
        ("503, and closes", 503, After::Close),
    ] {
        table.row("R14", &format!("answers before the body: {what}"), || {
            let stage = odd(move |exchange| {
                let close = if after == After::Hang { "" } else { "Connection: close\r\n" };
                exchange.send(
                    format!("HTTP/1.1 {status} Early\r\n{close}Content-Length: 5\r\n\r\nearly").as_bytes(),
                );
                // One that reads on may get the whole upload, and then serves the next request.
                if after == After::Hang && exchange.read_body() { After::Keep } else { after }
            });
            let response = ask(&stage, &upload).expect("an answer, not an empty reply");
            // A close with bytes unread is a reset, which may overtake the answer.
            assert!(
                response.status == status || after == After::Close && response.status == 502,
                "{response:?}"
            );
            assert!(response.status == 502 || response.text() == "early", "{response:?}");
        });
    }
    table.row("R14", "answers inside the body, and keeps the connection", || {
        let stage = odd(|exchange| {
            exchange.send(OK.as_bytes());
            if exchange.read_body() { After::Keep } else { After::Close }
        });
        wants(&stage, &upload, &[200], "ok");
    });
    table.end();
}
