//! TLS of clients: versions, names, client certificates, files that change, and what stays the same.
//!
//! Certificates are made by openssl; clients are rustls, openssl, curl, nghttp and h2load. The rows
//! T01 to T05 and L06 of the fault matrix are here.

mod proxied;
mod refusals;
mod swap;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::rows::row;
use crate::support::tls::{Authority, Client, Signed};
use crate::support::{Origin, Proxy, Site, get, needs, tools, upstreams};

/// A listener with TLS and these certificates, in front of an origin.
fn config(origin: &Origin, pairs: &[&Signed], more: &str) -> String {
    let pairs: Vec<_> = pairs.iter().map(|pair| pair.yaml()).collect();
    format!(
        "listeners:\n  - {{ name: web, address: \"127.0.0.1:@web@\", tls: {{ certificates: [{}]{more} }} }}\n\
         {}routes: [{{ name: all, split: {{ app: 1 }}, upgrades: [websocket] }}]\n",
        pairs.join(", "),
        upstreams(&[origin])
    )
}

fn request(host: &str) -> String {
    format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

/// One openssl client; its exit code and everything it said.
fn s_client(addr: SocketAddr, arguments: &[&str]) -> (Option<i32>, String) {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &addr.to_string(), "-servername", "a.test"]).args(arguments);
    let finished = tools::run(&mut command, b"");
    (finished.code, finished.out + &finished.err)
}

#[test]
fn old_versions_are_refused_and_new_ones_served() {
    needs!("openssl");
    row("T01", "TLS 1.0 and 1.1 are refused, 1.2 and 1.3 served, nothing in the clear", || {
        let (origin, ca) = (Origin::start("app"), Authority::new());
        let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
        let proxy = Proxy::start(&config(&origin, &[&pair], ""));
        for old in ["-tls1", "-tls1_1"] {
            // Security level 0, or openssl itself would refuse to ask.
            let (code, said) = s_client(proxy.web(), &[old, "-cipher", "ALL:@SECLEVEL=0"]);
            assert_ne!(code, Some(0), "{old}: {said}");
            // Which of its words for it the server says depends on what else was offered.
            let words = ["alert protocol version", "unsupported protocol", "alert handshake failure"];
            assert!(words.iter().any(|word| said.contains(word)), "{old}: {said}");
            assert!(said.contains("Cipher is (NONE)"), "{old}: {said}");
        }
        for (version, word) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
            let (code, said) = s_client(proxy.web(), &[version]);
            assert_eq!(code, Some(0), "{version}: {said}");
            assert!(said.contains(&format!("New, {word}")), "{version}: {said}");
        }
        let (_, said) = s_client(proxy.web(), &["-tls1_2"]);
        assert!(
            said.contains("Compression: NONE") && said.contains("Secure Renegotiation IS supported"),
            "{said}"
        );

        let strict = Proxy::start(&config(&origin, &[&pair], ", minVersion: \"1.3\""));
        assert_ne!(s_client(strict.web(), &["-tls1_2"]).0, Some(0), "minVersion holds");
        assert_eq!(s_client(strict.web(), &["-tls1_3"]).0, Some(0));
        // What is no TLS at all.
        let mut plain = TcpStream::connect(proxy.web()).unwrap();
        plain.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        std::io::Write::write_all(&mut plain, request("a.test").as_bytes()).unwrap();
        let mut said = Vec::new();
        let _ = plain.read_to_end(&mut said);
        assert!(!said.starts_with(b"HTTP"), "nothing is served in the clear");
        proxy.settles("switchback_rejected_total", &[("reason", "handshake")], 3);
        assert_eq!(origin.requests(), 0);
    });
}

#[test]
fn alpn_picks_the_protocol_or_ends_the_handshake() {
    needs!("openssl");
    row("T02", "ALPN picks the protocol, none in common ends the handshake", || {
        let (origin, ca) = (Origin::start("app"), Authority::new());
        let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
        let proxy = Proxy::start(&config(&origin, &[&pair], ""));
        let rows: [(&[&[u8]], Option<&[u8]>); 4] = [
            (&[b"h2", b"http/1.1"], Some(b"h2")),
            (&[b"http/1.1", b"h2"], Some(b"h2")),
            (&[b"http/1.1"], Some(b"http/1.1")),
            (&[], None),
        ];
        for (offered, expected) in rows {
            let conn = Client::offering(&ca.ca(), offered).open(proxy.web(), "a.test").unwrap();
            assert_eq!(conn.alpn(), expected, "{offered:?}");
        }
        let error =
            Client::offering(&ca.ca(), &[b"spdy/3"]).open(proxy.web(), "a.test").err().expect("a refusal");
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
        let answer = Client::new(&ca.ca()).ask(proxy.web(), "a.test", &request("a.test")).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(origin.last().header("x-forwarded-proto"), Some("https"));
        let other = "GET http://a.test/ HTTP/1.1\r\nhost: a.test\r\n\r\n";
        let answer = Client::new(&ca.ca()).ask(proxy.web(), "a.test", other).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "a scheme the listener does not speak: {answer}");
    });
}

#[test]
fn http2_is_served_to_real_clients() {
    needs!("openssl", "nghttp", "h2load", "curl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let pair = ca.sign("a", "/CN=localhost", "DNS:localhost,IP:127.0.0.1");
    let proxy = Proxy::start(&config(&origin, &[&pair], ""));
    let url = format!("https://127.0.0.1:{}/", proxy.web().port());
    let said = tools::run(Command::new("nghttp").args(["-nv", &url]), b"").out;
    assert!(said.contains("The negotiated protocol: h2") && said.contains(":status: 200"), "{said}");
    let said = tools::run(Command::new("h2load").args(["-n", "400", "-c", "4", "-m", "10", &url]), b"").out;
    assert!(said.contains("400 succeeded, 0 failed, 0 errored"), "{said}");
    let url = format!("https://localhost:{}/", proxy.web().port());
    for (flag, version) in [("--http1.1", "1.1"), ("--http2", "2")] {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--cacert",
            &ca.path("ca.crt"),
            flag,
            "-w",
            "%{http_code} %{http_version}",
            "-o",
            "/dev/null",
        ])
        .arg(&url);
        let finished = tools::run(&mut curl, b"");
        assert_eq!(finished.out, format!("200 {version}"), "{}", finished.err);
    }
}

#[test]
fn the_name_asked_for_picks_and_a_host_beside_it_is_misdirected() {
    needs!("openssl");
    row("T03", "a Host that the certificate does not cover: 421", || {
        let (origin, ca) = (Origin::start("app"), Authority::new());
        let first = ca.sign("first", "/CN=first", "DNS:first.test,DNS:also.test");
        let exact = ca.sign("exact", "/CN=exact", "DNS:one.wild.test");
        let wild = ca.sign("wild", "/CN=wild", "DNS:*.wild.test");
        let proxy = Proxy::start(&config(&origin, &[&first, &wild, &exact], ""));
        let client = Client::new(&ca.ca());
        for (name, expected) in [
            ("first.test", &first),
            ("also.test", &first),
            ("one.wild.test", &exact),
            ("two.wild.test", &wild),
        ] {
            let conn = client.open(proxy.web(), name).unwrap();
            assert_eq!(conn.leaf(), expected.leaf(), "{name}");
        }
        // Nobody's name: the first certificate, which this client does not take for it.
        assert!(client.open(proxy.web(), "a.two.wild.test").is_err());
        let rows = [
            ("first.test", "first.test", 200),
            ("first.test", "First.Test:8443", 200),
            ("first.test", "also.test", 200),
            ("first.test", "one.wild.test", 421),
            ("two.wild.test", "three.wild.test", 200),
            ("two.wild.test", "one.wild.test", 200),
            ("two.wild.test", "wild.test", 421),
            ("one.wild.test", "two.wild.test", 421),
            ("one.wild.test", "127.0.0.1", 421),
        ];
        for (name, host, status) in rows {
            let answer = client.ask(proxy.web(), name, &request(host)).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{name} {host}: {answer}");
        }
        assert_eq!(origin.requests(), 5);
        proxy.settles("switchback_rejected_total", &[("reason", "misdirected")], 4);
    });
}

#[test]
fn clients_show_certificates_where_they_must_and_upstreams_hear_whose() {
    needs!("openssl");
    row("T04", "client certificates: required, none, of another authority", || {
        let (origin, ca, stranger) = (Origin::start("app"), Authority::new(), Authority::new());
        let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
        let alice = ca.sign("alice", "/O=Shop, Inc/CN=alice", "URI:spiffe://shop/alice,DNS:alice.test");
        let mallory = stranger.sign("mallory", "/CN=alice", "DNS:alice.test");
        let auth = |mode: &str| format!(", clientAuth: {{ ca: \"{}\", mode: {mode} }}", ca.path("ca.crt"));
        let spoof = "GET / HTTP/1.1\r\nhost: a.test\r\nx-forwarded-client-cert: Hash=1\r\n\
                 X_Forwarded_Client_Cert: Hash=2\r\nx-forwarded-client_cert: Hash=3\r\n\r\n";
        for mode in ["required", "optional"] {
            let proxy = Proxy::start(&config(&origin, &[&pair], &auth(mode)));
            let ask = |client: Client| client.ask(proxy.web(), "a.test", spoof);
            let answer = ask(Client::showing(&ca.ca(), &alice)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{mode}: {answer}");
            let seen = origin.last();
            assert_eq!(seen.lines("x-forwarded-client-cert"), 1);
            let told = seen.header("x-forwarded-client-cert").unwrap();
            assert!(told.starts_with("Hash=") && !told.contains("Hash=1") || told.len() > 64, "{told}");
            assert!(
                told.ends_with(
                    "Subject=\"O=Shop\\\\, Inc,CN=alice\";URI=\"spiffe://shop/alice\";DNS=\"alice.test\""
                ),
                "{told}"
            );
            for name in ["x_forwarded_client_cert", "x-forwarded-client_cert"] {
                assert_eq!(seen.lines(name), 0, "{name}");
            }
            assert!(ask(Client::showing(&ca.ca(), &mallory)).is_err(), "{mode}: another authority's");
            let without = ask(Client::new(&ca.ca()));
            if mode == "required" {
                assert!(without.is_err(), "none was shown: {without:?}");
            } else {
                assert!(without.unwrap().starts_with("HTTP/1.1 200"));
                assert_eq!(origin.last().lines("x-forwarded-client-cert"), 0, "nobody was verified");
            }
            // A resumed session would show no certificate.
            let client = Client::showing(&ca.ca(), &alice);
            for _ in 0..3 {
                let mut conn = client.open(proxy.web(), "a.test").unwrap();
                assert!(conn.ask(&request("a.test")).unwrap().starts_with("HTTP/1.1 200"));
                assert!(!conn.resumed(), "{mode}");
            }
        }
        // Without any TLS the header is nobody's to send either, trusted proxy or not.
        let text = format!(
            "trustedProxies: [127.0.0.0/8]\n{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
            upstreams(&[&origin])
        );
        let proxy = Proxy::start(&text);
        let spoof = get("/").header("x-forwarded-client-cert", "Hash=1").header("x-forwarded-for", "1.2.3.4");
        proxy.ask(&spoof).expect_status(200);
        assert_eq!(origin.last().lines("x-forwarded-client-cert"), 0);
    });
}

#[test]
fn a_client_that_stalls_its_handshake_is_ended() {
    needs!("openssl");
    row("L06", "a handshake that stalls", || {
        let (origin, ca) = (Origin::start("app"), Authority::new());
        let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
        let proxy = Proxy::start(&config(&origin, &[&pair], ""));
        let mut silent = TcpStream::connect(proxy.web()).unwrap();
        let mut halfway = TcpStream::connect(proxy.web()).unwrap();
        // The beginning of a ClientHello's record.
        std::io::Write::write_all(&mut halfway, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03").unwrap();
        let began = std::time::Instant::now();
        let mut shaken = Client::new(&ca.ca()).open(proxy.web(), "a.test").unwrap();
        for stream in [&mut silent, &mut halfway] {
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut said = Vec::new();
            let _ = stream.read_to_end(&mut said);
            assert!(!said.starts_with(b"HTTP"), "{said:?}");
        }
        assert!(began.elapsed() >= Duration::from_secs(4), "not before the limit");
        assert_eq!(shaken.rest().expect("a close that says so"), "", "and one that never asks as well");
        proxy.settles("switchback_rejected_total", &[("reason", "handshake")], 1);
        proxy.settles("switchback_connections", &[("listener", "web")], 0);
    });
}

#[test]
fn idle_connections_and_drains_are_what_they_are_without_encryption() {
    needs!("openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let pair = ca.sign("a", "/CN=a.test", "DNS:a.test");
    let text = config(&origin, &[&pair], "").replace("tls:", "timeouts: { idle: 3s, header: 1s }, tls:");
    let mut proxy = Proxy::start(&text);
    let client = Client::new(&ca.ca());
    let mut conn = client.open(proxy.web(), "a.test").unwrap();
    assert!(conn.ask(&request("a.test")).unwrap().starts_with("HTTP/1.1 200"));
    // Longer than it takes to be parked, which is what is looked at.
    std::thread::sleep(Duration::from_millis(1800));
    assert!(conn.ask(&request("a.test")).unwrap().starts_with("HTTP/1.1 200"), "after it was parked");
    assert_eq!(conn.rest().expect("a close that says so"), "");
    let mut slow = client.open(proxy.web(), "a.test").unwrap();
    slow.write(b"GET / HTTP/1.1\r\nhost").unwrap();
    assert!(slow.rest().expect("an answer and a close").starts_with("HTTP/1.1 408"));
    let mut idle = client.open(proxy.web(), "a.test").unwrap();
    assert!(idle.ask(&request("a.test")).unwrap().starts_with("HTTP/1.1 200"));
    proxy.signal("TERM");
    assert_eq!(idle.rest().expect("a close that says so"), "");
    assert!(proxy.await_exit().success());
}

#[test]
fn websockets_pass_under_tls() {
    needs!("openssl", "python:websockets");
    let ca = Authority::new();
    let pair = ca.sign("a", "/CN=localhost", "DNS:localhost");
    let server = crate::support::Stranger::script("ws_peer.py", &["server"]);
    let proxy = Proxy::start(&format!(
        "listeners:\n  - {{ name: web, address: \"127.0.0.1:@web@\", tls: {{ certificates: [{}] }} }}\n\
         upstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }}, upgrades: [websocket] }}]\n",
        pair.yaml(),
        server.url()
    ));
    let mut command = crate::support::process::interpreter("ws_peer.py");
    let url = format!("wss://localhost:{}", proxy.web().port());
    command.args(["client", &url, "texts", "binaries", "fragments", "pings", "closed_by_server"]);
    command.env("SSL_CERT_FILE", ca.ca());
    let finished = tools::run(&mut command, b"");
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    let said: serde_json::Value = serde_json::from_str(&finished.out).expect("its report");
    assert_eq!(said["texts"], serde_json::json!([true, true, true, true, true, true, true]));
    assert_eq!(said["binaries"], serde_json::json!([true, true, true, true, true]));
}

#[test]
fn the_admin_listener_speaks_tls() {
    needs!("openssl", "curl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let pair = ca.sign("a", "/CN=localhost", "DNS:localhost");
    let site = Site::new(&format!(
        "admin: {{ address: \"127.0.0.1:@admin@\", tls: {} }}\n{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        pair.yaml(),
        upstreams(&[&origin])
    ));
    let admin = site.admin();
    let proxy = Proxy::spawn(site);
    let ask = || {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--cacert",
            &ca.path("ca.crt"),
            &format!("https://localhost:{}/metrics", admin.port()),
        ]);
        tools::run(&mut curl, b"")
    };
    crate::support::eventually("the admin listener answers", || ask().code == Some(0));
    assert!(ask().out.contains("switchback_tls_certificate_expiry_timestamp_seconds{certificate="));
    let mut plain = Command::new("curl");
    plain.args(["-sS", &format!("http://localhost:{}/metrics", admin.port())]);
    assert_ne!(tools::run(&mut plain, b"").code, Some(0), "nothing in the clear");
    drop(proxy);
}

#[test]
fn testssl_finds_nothing_weak() {
    needs!("testssl", "openssl");
    let (origin, ca) = (Origin::start("app"), Authority::new());
    let pair = ca.sign("a", "/CN=localhost", "DNS:localhost,IP:127.0.0.1");
    let proxy = Proxy::start(&config(&origin, &[&pair], ""));
    let report = ca.path("report.csv");
    let mut command = Command::new("testssl");
    command
        .args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1"])
        .args(["--protocols", "--std", "--vulnerable", "--severity", "LOW", "--csvfile", &report])
        .arg(format!("localhost:{}", proxy.web().port()));
    let finished = tools::run(&mut command, b"");
    let found = std::fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    let weak: Vec<_> = found
        .lines()
        .filter(|line| {
            ["\"LOW\"", "\"MEDIUM\"", "\"HIGH\"", "\"CRITICAL\""].iter().any(|one| line.contains(one))
        })
        .collect();
    assert_eq!(weak, Vec::<&str>::new(), "{}", finished.out);
    assert!(finished.out.contains("TLS 1.3") && finished.out.contains("Heartbleed"), "{}", finished.out);
}
