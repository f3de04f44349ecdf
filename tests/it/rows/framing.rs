//! F01-F30: framing, request line and header syntax (faults 1A).
//!
//! Every row pipelines a second request behind the first: where the connection is said to end, that
//! request must be nowhere; where it goes on, it must be answered as itself.

use super::{Stage, Table, answers};
use crate::support::recorder::Message;
use crate::support::{Conn, eventually};

const PROBE: &str = "GET /probe HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n";
/// More than any row may be answered.
const MANY: usize = 5;

/// What must come of a request.
enum Want {
    /// One of these statuses, the connection ends, nobody upstream hears of it.
    Refused(&'static [u16], &'static str),
    /// One canonical request upstream with this body; then the connection ends.
    Last(&'static str),
    /// The same, and the connection serves the next request.
    Kept(&'static str),
    /// A broken body: 400 or nothing, the connection ends, upstream sees no clean end.
    Broken,
}

use Want::{Broken, Kept, Last, Refused};

const POST: &str = "POST /x HTTP/1.1\r\nHost: shop.test\r\n";

fn post(rest: &str) -> String {
    format!("{POST}{rest}")
}

fn chunked(rest: &str) -> String {
    format!("{POST}Transfer-Encoding: chunked\r\n\r\n{rest}")
}

fn play(stage: &Stage, sent: &str, want: &Want) -> Option<Message> {
    let mark = stage.mark(if let Refused(_, reason) = want { reason } else { "malformed" });
    let mut conn = Conn::open(stage.proxy.web());
    let method = sent.split(' ').next().unwrap_or_default();
    let bytes: Vec<u8> = format!("{sent}{PROBE}").chars().map(|one| one as u8).collect();
    conn.write(&bytes).expect("send");
    let heard = answers(&mut conn, &[method], MANY);
    let rest = conn.rest();
    assert!(rest.is_empty(), "bytes after the answers: {:?}", String::from_utf8_lossy(&rest));
    match want {
        Refused(statuses, _) => {
            assert_eq!(heard.statuses.len(), 1, "{heard:?}");
            assert!(statuses.contains(&heard.statuses[0]), "{heard:?}");
            stage.refused(&mark);
            None
        }
        Last(body) | Kept(body) => {
            let kept = matches!(want, Kept(_));
            let expected: &[u16] = if kept { &[200, 200] } else { &[200] };
            assert_eq!(heard.statuses, expected, "{heard:?}");
            stage.heard(expected.len());
            let messages = stage.up.messages();
            assert!(messages.iter().all(Message::is_canonical), "{messages:?}");
            assert_eq!(messages[0].body, body.as_bytes(), "{messages:?}");
            assert!(!kept || messages[1].target == "/probe" && heard.bodies[1] == "GET /probe", "{heard:?}");
            Some(messages[0].clone())
        }
        Broken => {
            assert!(heard.statuses.is_empty() || heard.statuses == [400], "{heard:?}");
            eventually("the upstream's connection is ended", || stage.up.open() == 0);
            for message in stage.up.messages() {
                assert!(!message.whole, "a clean end: {message:?}");
                assert!(!message.raw.ends_with(b"0\r\n\r\n"), "a last chunk: {message:?}");
            }
            assert_eq!(stage.charged(), mark.charged, "no arm is to blame");
            None
        }
    }
}

#[test]
fn lengths_and_codings() {
    let stage = Stage::polite();
    let mut table = Table::new();
    let five = "5\r\nhello\r\n0\r\n\r\n";
    let length = |value: &str| post(&format!("Content-Length: {value}\r\n\r\nhello"));
    let coding = |lines: &str| post(&format!("{lines}\r\n\r\n{five}"));
    let malformed = || Refused(&[400], "malformed");
    let rows = [
        (
            "F01",
            "length, then coding",
            post(&format!("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n{five}")),
            Last("hello"),
        ),
        (
            "F02",
            "coding, then length",
            post(&format!("Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n{five}")),
            Last("hello"),
        ),
        (
            "F03",
            "two equal lengths",
            post("Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"),
            Kept("hello"),
        ),
        ("F03", "a padded length", length("005"), Kept("hello")),
        (
            "F04",
            "two different lengths",
            post("Content-Length: 5\r\nContent-Length: 4\r\n\r\nhello"),
            malformed(),
        ),
        ("F05", "a list of lengths", length("5, 5"), malformed()),
        ("F06", "a signed length", length("+5"), malformed()),
        ("F06", "a negative length", length("-5"), malformed()),
        ("F06", "a hexadecimal length", length("0x5"), malformed()),
        ("F06", "an empty length", length(""), malformed()),
        ("F06", "a length over 64 bits", length("18446744073709551621"), malformed()),
        ("F06", "a length over 63 bits", length("9223372036854775813"), Refused(&[400], "bad_header")),
        (
            "F07",
            "gzip, chunked",
            coding("Transfer-Encoding: gzip, chunked"),
            Refused(&[400, 501], "bad_header"),
        ),
        (
            "F08",
            "two lines of chunked",
            coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
            Refused(&[400, 501], "bad_header"),
        ),
        (
            "F08",
            "chunked twice in a line",
            coding("Transfer-Encoding: chunked, chunked"),
            Refused(&[400, 501], "bad_header"),
        ),
        ("F09", "a leading comma", coding("Transfer-Encoding: ,chunked"), Refused(&[400, 501], "bad_header")),
        ("F09", "a trailing comma", coding("Transfer-Encoding: chunked,"), malformed()),
        ("F09", "a vertical tab", coding("Transfer-Encoding: \u{b}chunked"), malformed()),
        ("F09", "xchunked", coding("Transfer-Encoding: xchunked"), malformed()),
        ("F09", "a space before the colon", coding("Transfer-Encoding : chunked"), malformed()),
        ("F09", "a folded line", coding("Transfer-Encoding:\r\n chunked"), malformed()),
        ("F10", "identity", coding("Transfer-Encoding: identity"), malformed()),
        (
            "F10",
            "identity beside chunked",
            coding("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
            Refused(&[400, 501], "bad_header"),
        ),
        ("F11", "a parameter", coding("Transfer-Encoding: chunked;q=1"), malformed()),
        (
            "F12",
            "HTTP/1.0",
            format!("POST /x HTTP/1.0\r\nHost: shop.test\r\nTransfer-Encoding: chunked\r\n\r\n{five}"),
            malformed(),
        ),
        (
            "F12",
            "HTTP/1.0 without a length",
            "POST /x HTTP/1.0\r\nHost: shop.test\r\n\r\n".to_owned(),
            Last(""),
        ),
    ];
    for (id, what, sent, want) in rows {
        table.row(id, what, || {
            play(&stage, &sent, &want);
        });
    }
    table.end();
}

#[test]
fn broken_bodies() {
    let stage = Stage::polite();
    let mut table = Table::new();
    let rows = [
        ("F13", "0x5", chunked("0x5\r\nhello\r\n0\r\n\r\n")),
        ("F13", "+5", chunked("+5\r\nhello\r\n0\r\n\r\n")),
        ("F13", "5_", chunked("5_\r\nhello\r\n0\r\n\r\n")),
        ("F13", "no size", chunked("\r\nhello\r\n0\r\n\r\n")),
        ("F13", "17 digits", chunked("10000000000000005\r\nhello\r\n0\r\n\r\n")),
        ("F13", "in a later chunk", chunked("5\r\nhello\r\n-1\r\nx\r\n0\r\n\r\n")),
        ("F14", "LF ends a size", chunked("5\nhello\r\n0\r\n\r\n")),
        ("F14", "LF ends a chunk", chunked("5\r\nhello\n0\r\n\r\n")),
        ("F15", "CR in an extension", chunked("5;a\rb\r\nhello\r\n0\r\n\r\n")),
        ("F15", "LF in an extension", chunked("5;a\nb\r\nhello\r\n0\r\n\r\n")),
        (
            "F15",
            "extensions without end",
            chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(20_000))),
        ),
        ("F16", "spill", chunked("5\r\nhello!\r\n0\r\n\r\n")),
        ("F17", "other bytes after the last chunk", chunked("5\r\nhello\r\n0\r\nX")),
    ];
    for (id, what, sent) in rows {
        table.row(id, what, || {
            play(&stage, &sent, &Broken);
        });
    }
    for (id, what, sent) in [
        ("F17", "no line after the last chunk", chunked("5\r\nhello\r\n0\r\n")),
        ("F18", "a chunk cut off", chunked("5\r\nhel")),
        ("F18", "chunks without a last one", chunked("5\r\nhello\r\n")),
        ("F18", "a length cut off", post("Content-Length: 11\r\n\r\nhello")),
    ] {
        table.row(id, what, || {
            let mark = stage.mark("malformed");
            let mut conn = Conn::open(stage.proxy.web());
            conn.write(sent.as_bytes()).expect("send");
            eventually("the upstream is asked", || stage.up.bytes() > 0);
            drop(conn);
            eventually("the upstream's connection is ended", || stage.up.open() == 0);
            let messages = stage.up.messages();
            assert!(
                messages.iter().all(|one| !one.whole && !one.raw.ends_with(b"0\r\n\r\n")),
                "{messages:?}"
            );
            assert_eq!(stage.charged(), mark.charged, "no arm is to blame");
        });
    }
    table.end();
}

#[test]
fn hosts_and_targets() {
    let stage = Stage::polite();
    let mut table = Table::new();
    let get = |target: &str, lines: &str| format!("GET {target} HTTP/1.1\r\n{lines}\r\n");
    let host = "Host: shop.test\r\n";
    let bad_host = || Refused(&[400], "bad_host");
    let rows = [
        ("F19", "no Host", get("/", ""), bad_host()),
        ("F19", "two Hosts", get("/", "Host: a\r\nHost: b\r\n"), bad_host()),
        ("F19", "two equal Hosts", get("/", "Host: a\r\nHost: a\r\n"), bad_host()),
        ("F19", "an empty Host", get("/", "Host: \r\n"), bad_host()),
        ("F19", "a path in Host", get("/", "Host: a/b\r\n"), bad_host()),
        ("F19", "a user in Host", get("/", "Host: u@a\r\n"), bad_host()),
        ("F19", "a list in Host", get("/", "Host: a, b\r\n"), bad_host()),
        ("F19", "a port over 65535", get("/", "Host: a:99999\r\n"), bad_host()),
        ("F19", "a port that is none", get("/", "Host: a:http\r\n"), bad_host()),
        ("F19", "a bracket left open", get("/", "Host: [::1\r\n"), bad_host()),
        ("F20", "another host in the target", get("http://real.test/x", "Host: other.test\r\n"), Kept("")),
        ("F20", "a target with a host, no Host", get("http://real.test/x", ""), bad_host()),
        ("F20", "a user in the target", get("http://u@real.test/x", "Host: real.test\r\n"), bad_host()),
        ("F20", "a port over 65535 in the target", get("http://real.test:99999/x", host), bad_host()),
        ("F20", "https on plaintext", get("https://shop.test/x", host), Refused(&[400], "bad_target")),
        ("F20", "another scheme", get("ftp://shop.test/x", host), Refused(&[400], "bad_target")),
        ("F21", "GET foo", get("foo", host), Refused(&[400], "bad_target")),
        ("F21", "GET *", get("*", host), Refused(&[400], "bad_target")),
        ("F21", "8-bit target", get("/caf\u{e9}", host), Refused(&[400], "malformed")),
        ("F21", "a space in the target", get("/a b", host), Refused(&[400], "malformed")),
        ("F22", "a fragment", get("/a?q#b", host), Kept("")),
        (
            "F23",
            "CONNECT",
            "CONNECT shop.test:80 HTTP/1.1\r\nHost: shop.test:80\r\n\r\n".to_owned(),
            Refused(&[405], "method"),
        ),
        (
            "F23",
            "CONNECT with a path",
            "CONNECT /x HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_owned(),
            Refused(&[400, 405], "method"),
        ),
        ("F24", "TRACE", "TRACE / HTTP/1.1\r\nHost: shop.test\r\n\r\n".to_owned(), Refused(&[405], "method")),
    ];
    for (id, what, sent, want) in rows {
        table.row(id, what, || {
            let message = play(&stage, &sent, &want);
            match (id, message) {
                ("F20", Some(message)) => {
                    assert_eq!((message.values("host"), message.target.as_str()), (vec!["real.test"], "/x"));
                }
                ("F22", Some(message)) => assert_eq!(message.target, "/a?q"),
                (_, message) => assert!(message.is_none(), "{message:?}"),
            }
        });
    }
    for (what, line) in [
        ("HTTP/0.9", "GET /\r\n"),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a\r\n\r\n"),
        ("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
        ("a TLS hello", "\u{16}\u{3}\u{1}\u{0}\u{a5}\u{1}\u{0}\u{0}\r\n"),
    ] {
        table.row("F21", what, || {
            play(&stage, line, &Refused(&[400, 505], "malformed"));
        });
    }
    table.end();
}

#[test]
fn header_syntax() {
    let stage = Stage::polite();
    let mut table = Table::new();
    let with = |lines: &str| format!("GET /x HTTP/1.1\r\nHost: shop.test\r\n{lines}\r\n\r\n");
    let rows = [
        ("F25", "a folded line", with("X-A: 1\r\n 2")),
        ("F25", "a folded first line", "GET /x HTTP/1.1\r\n Host: shop.test\r\n\r\n".to_owned()),
        ("F26", "CR in a value", with("X-A: 1\r2")),
        ("F26", "NUL in a value", with("X-A: 1\u{0}2")),
        ("F26", "a control byte in a value", with("X-A: 1\u{1}2")),
        ("F26", "a control byte in a name", with("X\u{1}A: 12")),
        ("F27", "a space before the colon", with("X-A : 1")),
        ("F27", "an empty name", with(": 1")),
        ("F27", "no colon", with("X-A")),
    ];
    for (id, what, sent) in rows {
        table.row(id, what, || {
            play(&stage, &sent, &Refused(&[400], "malformed"));
        });
    }
    table.row("F27", "bare LF ends a line: written anew with CRLF", || {
        let message = play(&stage, &with("X-A: 1\nX-B: 2"), &Kept("")).expect("passed");
        assert_eq!((message.header("x-a"), message.header("x-b")), (Some("1"), Some("2")));
    });
    table.row("F28", "underscores kept", || {
        let message = play(&stage, &with("X_A: 1"), &Kept("")).expect("passed");
        assert_eq!(message.header("x_a"), Some("1"));
    });
    let listener =
        "listeners: [{ name: web, address: \"127.0.0.1:@web@\", paths: { underscores: reject } }]\n";
    let strict = Stage::new(crate::support::recorder::Recorder::polite(), listener, "");
    table.row("F28", "underscores refused", || {
        play(&strict, &with("X_A: 1"), &Refused(&[400], "bad_header"));
    });
    table.end();
}

#[test]
fn bodies_of_methods_that_seldom_have_one() {
    let stage = Stage::polite();
    let mut table = Table::new();
    for method in ["GET", "DELETE", "OPTIONS", "HEAD"] {
        // The body looks like a request: re-read it and it becomes one.
        let body = "GET /smuggled HTTP/1.1\r\nHost: shop.test\r\n\r\n";
        for (framing, lines, content) in [
            ("chunks", "Transfer-Encoding: chunked", format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len())),
            ("a length", &*format!("Content-Length: {}", body.len()), body.to_owned()),
        ] {
            table.row("F29", &format!("{method} with {framing}"), || {
                let sent = format!("{method} /x HTTP/1.1\r\nHost: shop.test\r\n{lines}\r\n\r\n{content}");
                play(&stage, &sent, &Kept(body));
            });
        }
    }
    table.end();
}

#[test]
fn expectations() {
    let stage = Stage::polite();
    let mut table = Table::new();
    let head =
        |expect: &str, length: usize| post(&format!("Expect: {expect}\r\nContent-Length: {length}\r\n\r\n"));
    table.row("F30", "asked for, then sent: exactly one interim answer", || {
        stage.up.clear();
        let mut conn = Conn::open(stage.proxy.web());
        conn.write(head("100-continue", 5).as_bytes()).expect("send the head");
        // The interim answer must come before a byte of the body.
        let mut interim = String::new();
        while !interim.ends_with("\r\n\r\n") {
            interim.push(char::from(conn.byte().expect("an interim answer")));
        }
        assert!(interim.starts_with("HTTP/1.1 100 "), "{interim:?}");
        conn.write(b"hello").expect("send the body");
        conn.write(PROBE.as_bytes()).expect("send another");
        let heard = answers(&mut conn, &["POST"], MANY);
        assert_eq!((heard.statuses.as_slice(), heard.interims.len()), (&[200, 200][..], 0), "{heard:?}");
        let message = &stage.up.messages()[0];
        assert_eq!((message.body.as_slice(), message.header("expect")), (&b"hello"[..], None));
    });
    table.row("F30", "sent at once", || {
        let message =
            play(&stage, &format!("{}hello", head("100-continue", 5)), &Kept("hello")).expect("passed");
        assert_eq!(message.header("expect"), None);
    });
    for unknown in ["y 100-continue", "100-continue, x", "200-ok"] {
        table.row("F30", &format!("unknown: {unknown}"), || {
            play(&stage, &head(unknown, 5), &Refused(&[417], "expectation"));
        });
    }
    let early = super::Recorder::start(|exchange| {
        exchange.send(b"HTTP/1.1 401 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        crate::support::recorder::After::Hang
    });
    let stage = Stage::new(early, "", "");
    table.row("F30", "refused by the upstream before the body: the connection ends", || {
        let mut conn = Conn::open(stage.proxy.web());
        conn.write(head("100-continue", 100_000).as_bytes()).expect("send the head");
        let answer = conn.read_head("POST").expect("an answer");
        assert_eq!((answer.status, answer.closes()), (401, true), "{answer:?}");
        assert!(conn.interims.len() <= 1, "{:?}", conn.interims);
        assert!(conn.rest().is_empty());
    });
    table.end();
}
