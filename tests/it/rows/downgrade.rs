//! D01-D10: HTTP/2 requests on their way to an HTTP/1 origin (faults 1B).
//!
//! What is forwarded is read by two reference parsers, which must see the same single request; what
//! is refused must end its stream, and reach nobody.

use super::{Stage, Table};
use crate::support::h2c::H2c;
use crate::support::h2raw::{End, H2Raw, request};
use crate::support::parsers;
use crate::support::recorder::{After, Message, Recorder};
use crate::support::{Conn, get};

type Field = (&'static [u8], &'static [u8]);

/// One stream with these fields, and a body if there is one.
fn send(stage: &Stage, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) -> (End, H2Raw) {
    let mut conn = H2Raw::open(stage.proxy.web());
    let stream = conn.open_stream(fields, body.is_none());
    if let Some(body) = body {
        conn.data(stream, body, true);
    }
    let (end, _) = conn.end_of(stream);
    (end, conn)
}

/// The origin's view of a request that must pass.
fn passes(stage: &Stage, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) -> Message {
    stage.up.clear();
    let (end, mut conn) = send(stage, fields, body);
    assert_eq!(end, End::Status(200));
    assert!(conn.is_alive());
    stage.heard(1);
    let message = stage.up.last();
    assert!(message.is_canonical(), "{message:?}");
    parsers::agree(&message);
    message
}

/// A refusal: an answer of 400 or the end of the stream; the connection only where it must.
fn refuses(stage: &Stage, fields: &[(&[u8], &[u8])], body: Option<&[u8]>) {
    let mark = stage.mark("bad_host");
    let (end, mut conn) = send(stage, fields, body);
    match end {
        // The protocol library sees some of these before us and answers in its own way.
        End::Status(400 | 405) | End::Reset(_) => {
            assert!(conn.is_alive(), "other streams live on after {end:?}");
        }
        End::GoAway(_) => {}
        End::Status(_) | End::Closed => panic!("{end:?}"),
    }
    assert_eq!((stage.up.bytes(), stage.charged()), (0, mark.charged), "{:?}", stage.up.messages());
}

fn with(more: &[Field]) -> Vec<(&'static [u8], &'static [u8])> {
    let mut fields = request("GET", "shop.test", "/x");
    fields.extend_from_slice(more);
    fields
}

/// An ordinary request with one pseudo-field changed, or taken away.
fn but(name: &'static [u8], value: Option<&'static [u8]>) -> Vec<(&'static [u8], &'static [u8])> {
    let fields = request("GET", "shop.test", "/x").into_iter();
    fields
        .filter_map(|field| if field.0 == name { value.map(|value| (name, value)) } else { Some(field) })
        .collect()
}

#[test]
fn authorities() {
    let stage = Stage::polite();
    let mut table = Table::new();
    table.row("D01", ":authority alone", || {
        assert_eq!(passes(&stage, &with(&[]), None).values("host"), ["shop.test"]);
    });
    table.row("D01", ":authority and the same Host", || {
        assert_eq!(passes(&stage, &with(&[(b"host", b"shop.test")]), None).values("host"), ["shop.test"]);
    });
    table.row("D01", "Host alone", || {
        let mut fields = but(b":authority", None);
        fields.push((b"host", b"other.test"));
        assert_eq!(passes(&stage, &fields, None).values("host"), ["other.test"]);
    });
    for (id, what, fields) in [
        ("D01", "another Host", with(&[(b"host", b"evil.test")])),
        ("D01", "two Hosts", with(&[(b"host", b"shop.test"), (b"host", b"shop.test")])),
        ("D01", "none at all", but(b":authority", None)),
        ("D01", "an empty :authority", but(b":authority", Some(b""))),
        ("D01", "a port over 65535", but(b":authority", Some(b"shop.test:99999"))),
        ("D01", "another scheme", but(b":scheme", Some(b"ftp"))),
        ("D02", "a user in :authority", but(b":authority", Some(b"user@shop.test"))),
        ("D02", "a user and a password", but(b":authority", Some(b"u:p@shop.test"))),
        ("D02", "a path in :authority", but(b":authority", Some(b"shop.test/x"))),
    ] {
        table.row(id, what, || refuses(&stage, &fields, None));
    }
    table.end();
}

#[test]
fn headers_and_lengths() {
    let stage = Stage::polite();
    let mut table = Table::new();
    table.row("D03", "cookie crumbs are one line", || {
        let message = passes(&stage, &with(&[(b"cookie", b"a=1"), (b"x", b"y"), (b"cookie", b"b=2")]), None);
        assert_eq!(message.values("cookie"), ["a=1; b=2"]);
    });
    for (what, value) in [
        ("leading space", &b" 1"[..]),
        ("trailing space", b"1 "),
        ("a leading tab", b"\t1"),
        ("only space", b" "),
    ] {
        table.row("D04", what, || refuses(&stage, &with(&[(b"x-padded", value)]), None));
    }
    table.row("D04", "space within", || {
        assert_eq!(passes(&stage, &with(&[(b"x-padded", b"1 2")]), None).values("x-padded"), ["1 2"]);
    });
    let post = |more: &[Field]| {
        let mut fields = request("POST", "shop.test", "/x");
        fields.extend_from_slice(more);
        fields
    };
    let length: Field = (b"content-length", b"5");
    table.row("D05", "a length", || {
        let message = passes(&stage, &post(&[length]), Some(b"hello"));
        assert_eq!((message.values("content-length"), message.body.as_slice()), (vec!["5"], &b"hello"[..]));
    });
    table.row("D05", "a padded length", || {
        let message = passes(&stage, &post(&[(b"content-length", b"005")]), Some(b"hello"));
        assert_eq!(message.values("content-length"), ["5"]);
    });
    table.row("D05", "two equal lengths: one, or refused", || {
        stage.up.clear();
        let (end, _) = send(&stage, &post(&[length, length]), Some(b"hello"));
        assert!(matches!(end, End::Status(200 | 400) | End::Reset(_)), "{end:?}");
        assert!(stage.up.messages().iter().all(Message::is_canonical), "{:?}", stage.up.messages());
    });
    for (what, fields, body) in [
        ("two different lengths", post(&[length, (b"content-length", b"4")]), &b"hello"[..]),
        ("a list of lengths", post(&[(b"content-length", b"5, 5")]), b"hello"),
        ("a signed length", post(&[(b"content-length", b"+5")]), b"hello"),
    ] {
        table.row("D05", what, || refuses(&stage, &fields, Some(body)));
    }
    for (what, body) in
        [("fewer bytes than the length", &b"hell"[..]), ("more bytes than the length", b"hello!")]
    {
        table.row("D05", what, || {
            let mark = stage.mark("malformed");
            let (end, _) = send(&stage, &post(&[length]), Some(body));
            assert!(matches!(end, End::Reset(_) | End::Status(400) | End::GoAway(_)), "{end:?}");
            crate::support::eventually("the upstream's connection is ended", || stage.up.open() == 0);
            assert!(stage.up.messages().iter().all(|one| !one.whole), "{:?}", stage.up.messages());
            assert_eq!(stage.charged(), mark.charged, "no arm is to blame");
        });
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        table.row("D06", &format!("{method} with a body and no length"), || {
            let fields = request(method, "shop.test", "/x");
            let message = passes(&stage, &fields, Some(b"GET /smuggled HTTP/1.1\r\n\r\n"));
            assert_eq!(message.body, b"GET /smuggled HTTP/1.1\r\n\r\n");
        });
    }
    table.end();
}

/// Of these only the first two are harmless.
const SENT: [Field; 5] = [
    (b"x-sum", b"1"),
    (b"x-other", b"2"),
    (b"content-length", b"9"),
    (b"authorization", b"Basic x"),
    (b"host", b"evil.test"),
];

#[test]
fn trailers() {
    let stage = Stage::polite();
    let mut table = Table::new();
    for (what, announce, expected) in [
        ("of a request: the announced and harmless one", Some("x-sum, authorization, host"), vec!["x-sum"]),
        ("of a request: none announced", None, vec![]),
    ] {
        table.row("D07", what, || {
            stage.up.clear();
            let mut conn = H2Raw::open(stage.proxy.web());
            let mut fields = request("POST", "shop.test", "/x");
            fields.extend(announce.map(|names| (&b"trailer"[..], names.as_bytes())));
            let stream = conn.open_stream(&fields, false);
            conn.data(stream, b"hello", false);
            conn.trailers(stream, &SENT);
            let (end, _) = conn.end_of(stream);
            assert_eq!(end, End::Status(200));
            let message = stage.up.last();
            let names: Vec<_> = message.trailers.iter().map(|(name, _)| name.as_str()).collect();
            assert_eq!((names, message.body.as_slice()), (expected.clone(), &b"hello"[..]));
            assert!(message.is_canonical() && message.header("x-sum").is_none(), "never merged: {message:?}");
        });
    }
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum, set-cookie, content-length\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Other: 2\r\nSet-Cookie: a=1\r\nContent-Length: 9\r\n\r\n";
    let up = Recorder::start(move |exchange| {
        exchange.read_body();
        exchange.send(answer.as_bytes());
        After::Keep
    });
    let stage = Stage::new(up, "", "");
    let expected = vec![("x-sum".to_owned(), "1".to_owned())];
    table.row("D07", "of an answer, to HTTP/2", || {
        let response = H2c::open(stage.proxy.web()).send(&get("/")).expect("an answer");
        assert_eq!((response.text().as_str(), &response.trailers), ("hello", &expected));
        assert_eq!((response.header("x-sum"), response.header("set-cookie")), (None, None), "never merged");
    });
    table.row("D07", "of an answer, to HTTP/1", || {
        let mut conn = Conn::open(stage.proxy.web());
        let response = conn.ask(&get("/").header("te", "trailers").header("connection", "te"));
        assert_eq!((response.text().as_str(), &conn.trailers), ("hello", &expected));
        assert_eq!((response.header("x-sum"), response.header("set-cookie")), (None, None), "never merged");
        assert_eq!(conn.ask(&get("/")).text(), "hello", "the connection is in step");
    });
    table.end();
}

#[test]
fn fields_and_targets() {
    let stage = Stage::polite();
    let mut table = Table::new();
    table.row("D08", "te: trailers ends here", || {
        assert!(passes(&stage, &with(&[(b"te", b"trailers")]), None).values("te").is_empty());
    });
    for (what, field) in [
        ("te: gzip", (&b"te"[..], &b"gzip"[..])),
        ("connection", (b"connection", b"close")),
        ("keep-alive", (b"keep-alive", b"1")),
        ("proxy-connection", (b"proxy-connection", b"close")),
        ("transfer-encoding", (b"transfer-encoding", b"chunked")),
        ("upgrade", (b"upgrade", b"websocket")),
    ] {
        table.row("D08", what, || refuses(&stage, &with(&[field]), None));
    }
    for (id, what, fields) in [
        ("D09", "GET *", but(b":path", Some(b"*"))),
        ("D09", "OPTIONS *", request("OPTIONS", "shop.test", "*")),
        ("D09", "an empty :path", but(b":path", Some(b""))),
        ("D09", "no :path", but(b":path", None)),
        ("D09", "an absolute :path", but(b":path", Some(b"http://evil.test/x"))),
        ("D09", "a :path without its slash", but(b":path", Some(b"x"))),
        ("D09", "CONNECT", vec![(&b":method"[..], &b"CONNECT"[..]), (b":authority", b"shop.test:80")]),
        ("D10", "8 bits in :path", but(b":path", Some(b"/caf\xc3\xa9"))),
        ("D10", "8 bits in the query", but(b":path", Some(b"/x?a=\xe9"))),
        ("D10", "a space in :path", but(b":path", Some(b"/a b"))),
        ("D10", "a line end in :path", but(b":path", Some(b"/ HTTP/1.1\r\nx: y"))),
        ("D10", "a line end in :method", but(b":method", Some(b"GET / HTTP/1.1\r\nx: y"))),
        ("D10", "a line end in :authority", but(b":authority", Some(b"a\r\nx: y"))),
        ("D10", "a line end in a value", with(&[(b"x-a", b"1\r\ny: z")])),
        ("D10", "NUL in a value", with(&[(b"x-a", b"1\x002")])),
        ("D10", "a line end in a name", with(&[(b"x\r\ny", b"1")])),
        ("D10", "a capital in a name", with(&[(b"X-A", b"1")])),
        ("D10", "an empty name", with(&[(b"", b"1")])),
        ("D10", "a pseudo-field after others", with(&[(b"x-a", b"1"), (b":path", b"/y")])),
        ("D10", "a pseudo-field twice", with(&[(b":path", b"/y")])),
        ("D10", "an unknown pseudo-field", with(&[(b":evil", b"1")])),
        ("D10", ":protocol without CONNECT", with(&[(b":protocol", b"websocket")])),
    ] {
        table.row(id, what, || refuses(&stage, &fields, None));
    }
    table.end();
}
