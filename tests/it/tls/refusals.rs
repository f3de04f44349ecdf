//! Handshakes that come to nothing: counted by reason, told now and then, and bounded in number.
//!
//! Whoever can connect can cause them, so that neither the log nor the memory may grow with them, and
//! somebody who means well must get through.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::{config, request};
use crate::support::raw;
use crate::support::tls::{Authority, Client};
use crate::support::wait::becomes_true;
use crate::support::{Origin, Proxy, eventually, needs};

/// Handshakes under way at once on one worker.
const PLACES: usize = 2_048;
/// The beginning of a ClientHello's record.
const HALF: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

fn refused(proxy: &Proxy, reason: &str) -> u64 {
    proxy.metrics().count("switchback_handshakes_refused_total", &[("reason", reason)])
}

#[test]
fn what_was_wrong_is_counted_by_reason_and_told_at_a_bounded_rate() {
    const TIMES: u64 = 20;
    needs!("openssl");
    let (origin, ca, stranger) = (Origin::start("app"), Authority::new(), Authority::new());
    let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
    let mallory = stranger.sign("mallory", "/CN=alice", "DNS:alice.test");
    let auth =
        format!(", minVersion: \"1.3\", clientAuth: {{ ca: \"{}\", mode: required }}", ca.path("ca.crt"));
    let proxy = Proxy::start(&format!("workers: 1\n{}", config(&origin, &[&pair], &auth)));
    let rows: [(&str, &str, bool, &dyn Fn()); 6] = [
        ("no_certificate", "no certificate was shown", true, &|| {
            let asked = Client::new(&ca.ca()).ask(proxy.web(), "a.test", &request("a.test"));
            assert!(asked.is_err(), "{asked:?}");
        }),
        ("certificate", "one of another authority", true, &|| {
            let asked = Client::showing(&ca.ca(), &mallory).ask(proxy.web(), "a.test", &request("a.test"));
            assert!(asked.is_err(), "{asked:?}");
        }),
        ("protocol", "no protocol in common", true, &|| {
            assert!(Client::offering(&ca.ca(), &[b"spdy/3"]).open(proxy.web(), "a.test").is_err());
        }),
        ("parameters", "no version in common", true, &|| {
            assert!(Client::older(&ca.ca()).open(proxy.web(), "a.test").is_err());
        }),
        ("client", "a client that does not trust us", true, &|| {
            assert!(Client::new(&stranger.ca()).open(proxy.web(), "a.test").is_err());
        }),
        ("not_tls", "no TLS at all", false, &|| {
            let said = raw::exchange(proxy.web(), request("a.test").as_bytes());
            assert!(!said.starts_with("HTTP"), "{said}");
        }),
    ];
    let began = Instant::now();
    for (reason, what, _, cause) in rows {
        (0..TIMES).for_each(|_| cause());
        eventually(&format!("{what}: counted as {reason}"), || refused(&proxy, reason) == TIMES);
    }
    let all = TIMES * u64::try_from(rows.len()).expect("few");
    proxy.settles("switchback_rejected_total", &[("reason", "handshake")], all);
    assert_eq!(proxy.metrics().count("switchback_handshakes_refused_total", &[]), all);
    assert_eq!(origin.requests(), 0);
    // A line at once, and then one in ten seconds at most.
    let most = 1 + usize::try_from(began.elapsed().as_secs() / 10).expect("short");
    for (reason, what, told, _) in rows {
        let lines = || proxy.err().iter().filter(|line| line.contains(&format!("reason={reason} "))).count();
        if told {
            eventually(&format!("{what} is told: {:?}", proxy.err()), || lines() > 0);
        }
        assert!(lines() <= if told { most } else { 0 }, "{what}: {} lines", lines());
    }
}

#[test]
fn handshakes_under_way_are_bounded_and_who_waits_gets_a_place() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
    let proxy = Proxy::start(&format!("workers: 1\n{}", config(&origin, &[&pair], "")));
    let client = Client::new(&ca.ca());
    let mut kept = client.open(proxy.web(), "a.test").expect("a handshake");
    let began = Instant::now();
    let crowd: Vec<_> = (0..PLACES)
        .map(|_| {
            let mut stream = TcpStream::connect(proxy.web()).expect("a connection");
            stream.write_all(HALF).expect("half a hello");
            stream
        })
        .collect();
    // Who has a connection notices nothing.
    assert!(kept.ask(&request("a.test")).expect("an answer").starts_with("HTTP/1.1 200"));
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| client.ask(proxy.web(), "a.test", &request("a.test")));
        becomes_true(Duration::from_millis(500), || asked.is_finished());
        let early = asked.is_finished();
        // On a machine so busy that the first of them are over by now, this tells nothing.
        assert!(!early || began.elapsed() > Duration::from_secs(4), "it waits for a place");
        drop(crowd);
        asked.join().expect("a client").expect("an answer")
    });
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let all = u64::try_from(PLACES).expect("few");
    eventually("all of them are counted", || refused(&proxy, "closed") + refused(&proxy, "timeout") == all);
    proxy.settles("switchback_connections", &[("listener", "web")], 1);
}

#[test]
fn a_request_that_names_no_host_is_misdirected_to_none() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
    let client = Client::new(&ca.ca());
    let any = config(&origin, &[&pair], "");
    let one = any.replace("name: all,", "name: all, hostnames: [a.test],");
    for (text, what, asked, status) in [
        (&any, "any host", "GET / HTTP/1.0\r\n\r\n", 200),
        (&any, "any host", "GET / HTTP/1.0\r\nhost: b.test\r\n\r\n", 421),
        (&any, "any host", "GET / HTTP/1.0\r\nhost: a.test\r\n\r\n", 200),
        (&any, "any host", "GET https://b.test/ HTTP/1.0\r\n\r\n", 421),
        (&any, "any host", "GET / HTTP/1.1\r\n\r\n", 400),
        (&one, "one host", "GET / HTTP/1.0\r\n\r\n", 404),
        (&one, "one host", "GET / HTTP/1.0\r\nhost: a.test\r\n\r\n", 200),
    ] {
        let proxy = Proxy::start(text);
        let answer = client.ask(proxy.web(), "a.test", asked).expect("an answer");
        assert!(answer.split(' ').nth(1) == Some(&status.to_string()), "{what} {asked:?}: {answer}");
    }
}
