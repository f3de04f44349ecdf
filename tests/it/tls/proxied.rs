//! The PROXY protocol: from listed peers alone, before TLS and HTTP, believed for everything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::request;
use crate::support::tls::{Authority, Client};
use crate::support::{Origin, Proxy, needs, upstreams};

const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = V2.to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
    header.extend(rest);
    header
}

fn config(origin: &Origin, peers: &str, more: &str) -> String {
    format!(
        "listeners:\n  - {{ name: web, address: \"127.0.0.1:@web@\", proxyProtocol: {{ peers: [{peers}] }}{more} }}\n\
         {}routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        upstreams(&[origin])
    )
}

/// Sends pieces, each by itself, and reads to the end.
fn say(proxy: &Proxy, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(proxy.web()).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    for piece in pieces {
        // Whoever is refused in the middle may be reset.
        let _ = stream.write_all(piece);
        std::thread::yield_now();
    }
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";

#[test]
fn a_listed_peer_says_whose_connection_it_is() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&config(&origin, "127.0.0.0/8", ""));
    let four = v2(1, 0x11, &[203, 0, 113, 9, 10, 0, 0, 1, 0x12, 0x34, 1, 187]);
    let mut six = [0_u8; 36];
    six[..4].copy_from_slice(&[0x20, 1, 0x0d, 0xb8]);
    six[15] = 7;
    let six = v2(1, 0x21, &six);
    let more = v2(1, 0x11, &[203, 0, 113, 10, 10, 0, 0, 1, 0x12, 0x34, 1, 187, 4, 0, 2, 0, 0]);
    let datagrams = v2(1, 0x12, &[203, 0, 113, 11, 10, 0, 0, 1, 0x12, 0x34, 1, 187]);
    let rows: [(&[u8], &str); 8] = [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::9 ::1 4711 443\r\n", "2001:db8::9"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (&four, "203.0.113.9"),
        (&six, "2001:db8::7"),
        (&more, "203.0.113.10"),
        (&v2(0, 0, &[]), "127.0.0.1"),
        // Of UDP: nobody's connection to us.
        (&datagrams, "127.0.0.1"),
    ];
    for (header, expected) in rows {
        let together: Vec<u8> = [header, GET].concat();
        let apart: Vec<&[u8]> = header.chunks(1).chain([GET]).collect();
        for answer in [say(&proxy, &[&together]), say(&proxy, &apart)] {
            assert!(answer.starts_with("HTTP/1.1 200"), "{expected}: {answer}");
            assert_eq!(origin.last().header("x-forwarded-for"), Some(expected));
        }
    }
}

#[test]
fn what_is_no_header_is_not_served_and_others_are_not_believed() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&config(&origin, "127.0.0.0/8", ""));
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 120]].concat();
    let rows: [&[u8]; 6] = [
        GET,
        b"PROXY TCP4 192.0.2.7\r\n",
        b"PROXY TCP4 a b 1 2\r\n",
        &long,
        &v2(1, 0x11, &[1, 2, 3]),
        &[V2, &[0x21, 0x11, 0xff, 0xff]].concat(),
    ];
    for (wrong, count) in rows.iter().zip(1_u64..) {
        let said = say(&proxy, &[wrong, GET]);
        assert_eq!(said, "", "{wrong:?}");
        proxy.settles("switchback_rejected_total", &[("reason", "handshake")], count);
    }
    assert_eq!(origin.requests(), 0);
    // A peer that is not listed: its header is a bad request, and without one it is served.
    let proxy = Proxy::start(&config(&origin, "10.0.0.0/8", ""));
    let said = say(&proxy, &[b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n", GET]);
    assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    assert!(say(&proxy, &[GET]).starts_with("HTTP/1.1 200"));
    assert_eq!(origin.last().header("x-forwarded-for"), Some("127.0.0.1"));
}

#[test]
fn limits_of_an_address_are_the_clients_and_a_silent_peer_is_ended() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&config(&origin, "127.0.0.0/8", ", limits: { connectionsPerIp: 1 }"));
    let silent = TcpStream::connect(proxy.web()).unwrap();
    let mut first = TcpStream::connect(proxy.web()).unwrap();
    first.write_all(b"PROXY TCP4 192.0.2.7 10.0.0.1 1 443\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut piece = [0_u8; 12];
    first.read_exact(&mut piece).unwrap();
    assert_eq!(&piece, b"HTTP/1.1 200");
    let other = say(&proxy, &[b"PROXY TCP4 192.0.2.8 10.0.0.1 2 443\r\n", GET]);
    assert!(other.starts_with("HTTP/1.1 200"), "{other}");
    let same = say(&proxy, &[b"PROXY TCP4 192.0.2.7 10.0.0.1 3 443\r\n", GET]);
    assert!(same.starts_with("HTTP/1.1 503"), "{same}");
    silent.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!((&silent).read(&mut piece).unwrap_or(0), 0, "ended");
}

#[test]
fn it_comes_before_tls() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
    let tls = format!(", tls: {{ certificates: [{}] }}", pair.yaml());
    let proxy = Proxy::start(&config(&origin, "127.0.0.1", &tls));
    for header in [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 443\r\n".to_vec(),
        v2(1, 0x11, &[192, 0, 2, 7, 1, 1, 1, 1, 0, 1, 0, 2]),
    ] {
        let mut stream = TcpStream::connect(proxy.web()).unwrap();
        stream.write_all(&header).unwrap();
        let mut conn = Client::new(&ca.ca()).over(stream, "a.test").unwrap();
        assert!(conn.ask(&request("a.test")).unwrap().starts_with("HTTP/1.1 200"));
        assert_eq!(origin.last().header("x-forwarded-for"), Some("192.0.2.7"));
        assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
    }
}
