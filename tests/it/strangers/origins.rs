//! Servers of six makes as origins: what a client asks straight, it gets through the proxy.
//!
//! The same rows go to each server by itself and through switchback; the answers, what the servers
//! say they received, and the number of requests they logged must be the same.

use std::net::SocketAddr;

use super::echo;
use crate::support::process::{Stranger, stranger_file};
use crate::support::tools::python;
use crate::support::wire::{Framing, Lines};
use crate::support::{Message, Proxy, Wire, Witness, needs};

const MIB5: usize = 5 * 1024 * 1024;
const SEQUENTIAL: usize = 200;
const PARALLEL: usize = 16;
const EACH: usize = 13;

/// What the proxy may add or drop on the way; everything else must be equal on both sides.
const HOPS: &[&str] = &[
    "connection",
    "date",
    "expect",
    "keep-alive",
    "te",
    "traceparent",
    "transfer-encoding",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
];

fn before(origin: SocketAddr) -> Proxy {
    Proxy::start(&format!(
        "upstreams: {{ app: \"http://{origin}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n"
    ))
}

/// The requests of the table, as bytes.
fn rows() -> Vec<(&'static str, Vec<u8>)> {
    let head = |line: &str, rest: &str| {
        format!("{line} HTTP/1.1\r\nHost: shop.test\r\nX-Kept: as it is\r\n{rest}\r\n").into_bytes()
    };
    let sized = |line: &str, body: &[u8]| {
        let length = format!("Content-Type: text/plain\r\nContent-Length: {}\r\n", body.len());
        [head(line, &length), body.to_vec()].concat()
    };
    let chunked = |line: &str, pieces: &[&[u8]]| {
        let mut bytes = head(line, "Transfer-Encoding: chunked\r\n");
        for piece in pieces {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(&[piece, b"\r\n".as_slice()].concat());
        }
        [bytes, b"0\r\n\r\n".to_vec()].concat()
    };
    let large: Vec<u8> = (0..MIB5).map(|at| b'a' + u8::try_from(at % 23).unwrap_or(0)).collect();
    let large_pieces: Vec<&[u8]> = large.chunks(60_001).collect();
    vec![
        ("GET", head("GET /echo/a%2Fb;v=1/%C3%A9?q=1&q=2&empty=", "")),
        ("GET with an empty query", head("GET /echo?", "")),
        ("HEAD", head("HEAD /echo/head", "")),
        ("HEAD of a large body", head("HEAD /down/100000", "")),
        ("POST with a length", sized("POST /echo/post", b"one body\r\n\r\nwith lines")),
        ("POST of nothing", sized("POST /echo/nothing", b"")),
        ("POST in chunks", chunked("POST /echo/chunks", &[b"one ", b"body ", b"in pieces"])),
        ("POST of no chunk", chunked("POST /echo/none", &[])),
        ("PUT", sized("PUT /echo/put", b"{}")),
        ("DELETE", head("DELETE /echo/delete", "")),
        ("DELETE with a body", sized("DELETE /echo/delete", b"why")),
        ("PATCH in chunks", chunked("PATCH /echo/patch", &[b"x"])),
        ("OPTIONS", head("OPTIONS /echo/options", "")),
        ("204", head("GET /status/204", "")),
        ("304", head("GET /status/304", "If-None-Match: \"v1\"\r\n")),
        ("404", head("GET /status/404", "")),
        ("500", head("GET /status/500", "")),
        ("a chunked answer", head("GET /chunked", "")),
        ("5 MiB down", head(&format!("GET /down/{MIB5}"), "")),
        ("5 MiB up and down", sized("POST /echo/large", &large)),
        ("5 MiB up in chunks and down", chunked("POST /echo/large", &large_pieces)),
    ]
}

fn kept(lines: &Lines) -> Lines {
    let mut kept: Lines = lines.iter().filter(|(name, _)| !HOPS.contains(&name.as_str())).cloned().collect();
    // Order counts only among lines of one name.
    kept.sort_by(|one, other| one.0.cmp(&other.0));
    kept
}

/// An echo of a head without the lines a proxy adds or drops.
fn echoed(body: &[u8]) -> Vec<u8> {
    let end = body.windows(2).position(|pair| pair == b"\n\n").unwrap_or(body.len());
    let is_kept = |line: &&[u8]| {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        !HOPS.iter().any(|hop| hop.as_bytes() == name)
    };
    let lines = body[..end].split(|byte| *byte == b'\n').filter(is_kept);
    [lines.collect::<Vec<_>>().join(&b'\n'), body[end..].to_vec()].concat()
}

/// Sends every row on one connection, opened again when the server ends it.
fn ask_all(addr: SocketAddr) -> Vec<Message> {
    let mut wire = Wire::open(addr);
    let mut answers = Vec::new();
    for (name, bytes) in rows() {
        let answer = wire.exchange(&bytes).unwrap_or_else(|error| panic!("{name} at {addr}: {error}"));
        if answer.closes() {
            wire = Wire::open(addr);
        }
        answers.push(answer);
    }
    answers
}

/// The body shortened for a failure's message.
fn shown(bytes: &[u8]) -> String {
    format!("{} bytes: {}", bytes.len(), bytes[..bytes.len().min(600)].escape_ascii())
}

/// Rows straight and through; returns how many requests each side made of the origin.
fn same_answers(server: SocketAddr, proxied: SocketAddr) -> usize {
    let (straight, through) = (ask_all(server), ask_all(proxied));
    for (((name, request), straight), through) in rows().iter().zip(&straight).zip(&through) {
        assert_eq!(through.status(), straight.status(), "{name}");
        let (mut expected, mut got) = (kept(&straight.headers), kept(&through.headers));
        let (mut expected_body, mut got_body) = (straight.body.clone(), through.body.clone());
        if straight.framing == Framing::Chunked {
            // A length that a proxy adds to a body it has in whole is framing, not meaning.
            got.retain(|(name, _)| name != "content-length");
        }
        if request.split(|byte| *byte == b' ').nth(1).is_some_and(|target| target.starts_with(b"/echo")) {
            // The echo of a head is as long as the head.
            expected.retain(|(name, _)| name != "content-length");
            got.retain(|(name, _)| name != "content-length");
            expected_body = echoed(&expected_body);
            got_body = echoed(&got_body);
        }
        assert_eq!(got, expected, "{name}");
        assert!(
            got_body == expected_body,
            "{name}: {} instead of {}",
            shown(&got_body),
            shown(&expected_body)
        );
    }
    straight.len()
}

/// Nothing fails in sequence or side by side.
fn holds(proxied: SocketAddr) {
    let ask = |wire: &mut Wire, number: usize| {
        let request =
            format!("POST /echo/{number} HTTP/1.1\r\nHost: shop.test\r\nContent-Length: 4\r\n\r\nbody");
        let answer = wire.exchange(request.as_bytes()).unwrap_or_else(|error| panic!("{number}: {error}"));
        assert_eq!(answer.status(), 200, "{number}: {answer:?}");
        assert!(answer.body.starts_with(format!("POST /echo/{number}\n").as_bytes()), "{number}: {answer:?}");
        assert!(answer.body.ends_with(b"\n\nbody"), "{number}: {answer:?}");
        assert!(!answer.closes(), "{number}: the proxy ends a client's connection");
    };
    let mut wire = Wire::open(proxied);
    (0..SEQUENTIAL).for_each(|number| ask(&mut wire, number));
    std::thread::scope(|scope| {
        for client in 0..PARALLEL {
            scope.spawn(move || {
                let mut wire = Wire::open(proxied);
                (0..EACH).for_each(|number| ask(&mut wire, client * 1000 + number));
            });
        }
    });
}

/// The whole table against a server that keeps its own log.
fn agrees(server: &Stranger, keeps_alive: bool) {
    let proxy = before(server.addr());
    let rows = same_answers(server.addr(), proxy.web());
    let first = |lines: &[String]| -> Vec<String> {
        lines.iter().map(|line| line.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect()
    };
    let logged = server.requests();
    assert_eq!(logged.len(), 2 * rows, "{logged:#?}");
    let (straight, through) = logged.split_at(rows);
    assert_eq!(first(through), first(straight), "method, target and length at the origin");
    holds(proxy.web());
    let logged = server.requests();
    let sequence = &logged[2 * rows..2 * rows + SEQUENTIAL];
    assert_eq!(logged.len(), 2 * rows + SEQUENTIAL + PARALLEL * EACH, "one request each");
    let mut ports: Vec<_> = sequence.iter().filter_map(|line| line.split(' ').nth(3)).collect();
    ports.sort_unstable();
    ports.dedup();
    let reused = ports.len() <= SEQUENTIAL / 20;
    assert!(reused || !keeps_alive, "{} connections for {SEQUENTIAL} requests", ports.len());
}

/// The same for a server that hands everything on to a witness.
fn agrees_before_a_witness(server: SocketAddr, proxied: SocketAddr, witness: &Witness) {
    let rows = same_answers(server, proxied);
    let seen = witness.take();
    assert_eq!(seen.len(), 2 * rows, "requests behind the server");
    let (straight, through) = seen.split_at(rows);
    for (straight, through) in straight.iter().zip(through) {
        assert_eq!(through.start, straight.start);
        assert!(through.body == straight.body, "{}: another body", straight.start);
        assert_eq!(kept(&through.headers), kept(&straight.headers), "{}", straight.start);
    }
    holds(proxied);
    assert_eq!(witness.take().len(), SEQUENTIAL + PARALLEL * EACH, "one request each");
    assert_eq!(witness.broken(), Vec::<String>::new());
}

#[test]
fn node_is_asked_and_answers_the_same() {
    needs!("node");
    agrees(&Stranger::script("origin.js", &[]), true);
}

#[test]
fn h11_is_asked_and_answers_the_same() {
    needs!("python:h11");
    let server = Stranger::script("origin_h11.py", &[]);
    agrees(&server, true);
    assert!(!server.requests().iter().any(|line| line.starts_with("REFUSED")), "h11 found a fault");
}

/// Its synchronous worker closes every connection after one answer.
#[test]
fn gunicorn_is_asked_and_answers_the_same() {
    needs!("python:gunicorn");
    let server = Stranger::start("gunicorn", |folder, port| {
        let mut command = std::process::Command::new(python());
        command
            .args(["-m", "gunicorn", "--workers", "2", "--worker-class", "sync", "--no-control-socket"])
            .args(["--bind", &format!("127.0.0.1:{port}"), "--worker-tmp-dir"])
            .arg(folder)
            .arg("--chdir")
            .arg(stranger_file(""))
            .arg("wsgi:app")
            .env("PYTHONDONTWRITEBYTECODE", "1");
        command
    });
    agrees(&server, false);
}

#[test]
fn nginx_is_asked_and_answers_the_same() {
    needs!("nginx");
    let witness = Witness::start(echo);
    let server = Stranger::nginx(&super::nginx::before(witness.addr));
    let proxy = before(server.addr());
    agrees_before_a_witness(server.addr(), proxy.web(), &witness);
}

#[test]
fn apache_is_asked_and_answers_the_same() {
    needs!("apache2");
    let witness = Witness::start(echo);
    let server = Stranger::apache(&format!(
        "AllowEncodedSlashes NoDecode\nProxyPreserveHost On\nProxyAddHeaders Off\n\
         ProxyPass / http://{}/ nocanon\n",
        witness.addr
    ));
    let proxy = before(server.addr());
    agrees_before_a_witness(server.addr(), proxy.web(), &witness);
}

#[test]
fn haproxy_is_asked_and_answers_the_same() {
    needs!("haproxy");
    let witness = Witness::start(echo);
    let server = Stranger::haproxy(witness.addr);
    let proxy = before(server.addr());
    agrees_before_a_witness(server.addr(), proxy.web(), &witness);
}

#[test]
fn haproxy_in_front_notices_nothing() {
    needs!("haproxy");
    let witness = Witness::start(echo);
    let proxy = before(witness.addr);
    let (straight, through) = (Stranger::haproxy(witness.addr), Stranger::haproxy(proxy.web()));
    agrees_before_a_witness(straight.addr(), through.addr(), &witness);
}
