//! Origins behind TLS: real nginx with certificates of the test's own authority.
//!
//! Whoever cannot be trusted gets no request, and the reason is told; who can is spoken to by the
//! protocol both sides agree on.

use std::path::Path;

use bytes::Bytes;
use http::Request;

use crate::support::h2_origin::{Caller, H2Origin};
use crate::support::nginx::Nginx;
use crate::support::pki::Authority;
use crate::support::{Behaviour, Origin, Proxy, Site, eventually, get, needs, post, runtime};

/// What every server answers: how it was spoken to.
const TELL: &str = "add_header x-protocol $server_protocol always; add_header x-connection $connection always; \
    add_header x-name $ssl_server_name always; add_header x-reused $ssl_session_reused always; \
    add_header x-client $ssl_client_s_dn always; return 200 ok;";

/// A server with a certificate; `rest` are its directives.
fn server(name: &str, certificate: &Path, rest: &str) -> (String, String, String) {
    let files = certificate.display();
    let body = format!(
        "ssl_certificate {files}.crt; ssl_certificate_key {files}.key; ssl_session_cache shared:{name}:1m; {rest}"
    );
    (name.to_owned(), "ssl http2".to_owned(), body)
}

fn telling(name: &str, certificate: &Path) -> (String, String, String) {
    server(name, certificate, &format!("location / {{ {TELL} }}"))
}

/// A site in front of `https://127.0.0.1:port`, with the authority's root beside the configuration.
fn site(ca: &Authority, port: u16, upstream: &str, rest: &str) -> Site {
    let site = Site::new(&text(port, upstream, rest));
    site.place("ca.crt", &ca.text("ca.crt"));
    site
}

fn text(port: u16, upstream: &str, rest: &str) -> String {
    format!(
        "workers: 1\nupstreams: {{ app: {{ endpoints: [\"https://127.0.0.1:{port}\"]{upstream} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}{rest} }}]\n"
    )
}

const TRUSTED: &str = ", tls: { ca: ca.crt, serverName: app.test }";

#[test]
fn only_who_can_be_trusted_gets_a_request_and_the_reason_is_told() {
    needs!("nginx", "openssl");
    let (ca, other) = (Authority::new(), Authority::new());
    let nginx = Nginx::serving(&[
        telling("good", &ca.signs("app.test")),
        telling("unknown", &other.signs("app.test")),
        telling("named", &ca.signs("other.test")),
        telling("expired", &ca.signed_long_ago("app.test")),
        ("plain".to_owned(), String::new(), format!("location / {{ {TELL} }}")),
    ]);
    let rows = [("good", true), ("unknown", false), ("named", false), ("expired", false), ("plain", false)];
    for (name, trusted) in rows {
        let proxy = site(&ca, nginx.port(name), TRUSTED, "").start();
        let answer = proxy.ask(&get("/"));
        let all = [("route", "all"), ("arm", "app"), ("upstream", "app")];
        let label = |key: &'static str, value: &'static str| [&all[..], &[(key, value)]].concat();
        if trusted {
            assert_eq!((answer.status, answer.header("x-name")), (200, Some("app.test")));
            let metrics = proxy.settles("switchback_upstream_duration_seconds_count", &all, 1);
            assert_eq!(metrics.count("switchback_upstream_failures_total", &label("reason", "tls")), 0);
            continue;
        }
        assert_eq!(answer.status, 502, "{name}");
        let metrics = proxy.settles("switchback_upstream_failures_total", &label("reason", "tls"), 1);
        // It counts as connecting, never as an answer that took its time.
        assert_eq!(metrics.count("switchback_upstream_duration_seconds_count", &all), 0, "{name}");
    }
}

#[test]
fn the_roots_of_the_system_are_trusted_where_none_are_named() {
    needs!("nginx", "openssl");
    let ca = Authority::new();
    let nginx = Nginx::serving(&[telling("app", &ca.signs("app.test"))]);
    let site = site(&ca, nginx.port("app"), ", tls: { serverName: app.test }", "");
    let proxy = Proxy::start_with(site.twin(), "SSL_CERT_FILE", &ca.path("ca.crt"));
    assert_eq!(proxy.ask(&get("/")).status, 200);
    assert_eq!(site.start().ask(&get("/")).status, 502);
}

#[test]
fn a_client_certificate_is_shown_to_who_asks_and_a_changed_one_counts_at_once() {
    needs!("nginx", "openssl");
    let ca = Authority::new();
    let demand = format!(
        "ssl_client_certificate {}; ssl_verify_client on; location / {{ {TELL} }}",
        ca.path("ca.crt").display()
    );
    let nginx = Nginx::serving(&[server("app", &ca.signs("app.test"), &demand)]);
    let port = nginx.port("app");
    // nginx shakes hands with everybody and refuses the request.
    assert_eq!(site(&ca, port, TRUSTED, "").start().ask(&get("/")).status, 400);

    let shown = ", tls: { ca: ca.crt, serverName: app.test, clientCert: c.crt, clientKey: c.key }";
    let site = site(&ca, port, shown, "");
    for (name, file) in [("one", "c"), ("two", "d")] {
        ca.signs(name);
        for ending in ["crt", "key"] {
            site.place(&format!("{file}.{ending}"), &ca.text(&format!("{name}.{ending}")));
        }
    }
    let proxy = site.start();
    let client = || proxy.ask(&get("/")).expect_status(200).header("x-client").map(str::to_owned);
    assert_eq!(client().as_deref(), Some("CN=one"));
    // The key alone is another's: refused, and the pair in force serves on.
    let before = proxy.generation();
    proxy.site.place("c.key", &ca.text("two.key"));
    eventually("the pair that is none is refused", || {
        proxy.metrics().count("switchback_config_last_reload_successful", &[]) == 0
    });
    assert_eq!((client().as_deref(), proxy.generation()), (Some("CN=one"), before));
    proxy.site.place("c.crt", &ca.text("two.crt"));
    proxy.await_generation_after(before);
    // No connection of the one before is used for the new one.
    assert_eq!(client().as_deref(), Some("CN=two"));
}

#[test]
fn the_protocol_is_agreed_on_and_connections_are_shared_and_resumed() {
    needs!("nginx", "openssl");
    let ca = Authority::new();
    let certificate = ca.signs("app.test");
    let (name, _, body) = telling("old", &certificate);
    let old = (name, "ssl".to_owned(), body);
    let nginx = Nginx::serving(&[telling("new", &certificate), old]);
    let rows = [
        ("new", "http1", Some("HTTP/1.1")),
        ("new", "h2", Some("HTTP/2.0")),
        ("new", "auto", Some("HTTP/2.0")),
        ("old", "http1", Some("HTTP/1.1")),
        ("old", "auto", Some("HTTP/1.1")),
        ("old", "h2", None),
    ];
    for (name, protocol, agreed) in rows {
        let upstream = format!("{TRUSTED}, protocol: {protocol}");
        let proxy = site(&ca, nginx.port(name), &upstream, "").start();
        let mut client = proxy.conn();
        let answers: Vec<_> = (0..10).map(|_| client.ask(&get("/"))).collect();
        for answer in &answers {
            assert_eq!(answer.header("x-protocol"), agreed, "{name} {protocol}: {}", answer.status);
            assert_eq!(answer.header("x-connection"), answers[0].header("x-connection"), "{name} {protocol}");
        }
        assert_eq!(answers[0].status, if agreed.is_some() { 200 } else { 502 });
    }
    // Without connections to keep, the second resumes the session of the first.
    let upstream = format!("{TRUSTED}, connection: {{ maxIdle: 0 }}");
    let proxy = site(&ca, nginx.port("old"), &upstream, "").start();
    eventually("a session is resumed", || proxy.ask(&get("/")).header("x-reused") == Some("r"));
}

#[test]
fn bodies_streams_and_grpc_pass_through_tls() {
    const SIZE: usize = 4 << 20;
    needs!("nginx", "openssl");
    let ca = Authority::new();
    let certificate = ca.signs("app.test");
    let (origin, calls) = (Origin::start("app"), H2Origin::start());
    // nginx sends no more of a request whose answer has begun once its origin was slow to take it: what
    // is answered while it comes would now and then stand still in there.
    origin.on("/back", Behaviour::Return).on("/down", Behaviour::Download(SIZE as u64));
    let pass = format!(
        "client_max_body_size 0; location / {{ proxy_pass {}; proxy_http_version 1.1; \
         proxy_request_buffering off; proxy_buffering off; }}",
        origin.url()
    );
    let grpc = format!("location / {{ grpc_pass grpc://{}; }}", calls.url().trim_start_matches("http://"));
    let nginx = Nginx::serving(&[server("http", &certificate, &pass), server("grpc", &certificate, &grpc)]);
    for protocol in ["http1", "h2"] {
        let upstream = format!("{TRUSTED}, protocol: {protocol}");
        let proxy = site(&ca, nginx.port("http"), &upstream, "").start();
        let body: Vec<u8> = (0..SIZE).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let answer = proxy.ask(&post("/back", body.clone()));
        assert!(answer.status == 200 && answer.body == body, "{protocol}: {}", answer.status);
        assert_eq!(proxy.ask(&get("/down")).body.len(), SIZE, "{protocol}");
    }
    let proxy = site(&ca, nginx.port("grpc"), &format!("{TRUSTED}, protocol: auto"), "").start();
    let caller = Caller::open(proxy.web());
    let request = Request::builder().method("POST").uri("http://shop.example/a.B/C");
    let request =
        request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
    let answer =
        runtime().block_on(caller.call(request, Some(Bytes::from_static(b"\0\0\0\0\0")), None)).unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(calls.last().headers["te"], "trailers");
}

#[test]
fn warm_connections_and_copies_are_secured_too() {
    needs!("nginx", "openssl");
    let ca = Authority::new();
    let origin = Origin::start("shadow");
    let pass = format!("location / {{ proxy_pass {}; }}", origin.url());
    let certificate = ca.signs("app.test");
    let nginx = Nginx::serving(&[telling("app", &certificate), server("shadow", &certificate, &pass)]);
    let (app, shadow) = (nginx.port("app"), nginx.port("shadow"));
    let tls = "tls: { ca: ca.crt, serverName: app.test }";
    let text = format!(
        "workers: 1\nupstreams:\n  app: {{ endpoints: [\"https://127.0.0.1:{app}\"], {tls}, \
         connection: {{ minIdle: 2, idleTimeout: 60s }} }}\n  \
         shadow: {{ endpoints: [\"https://127.0.0.1:{shadow}\"], {tls} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }}, mirror: {{ to: shadow, percent: 100% }} }}]\n"
    );
    let site = Site::new(&text);
    site.place("ca.crt", &ca.text("ca.crt"));
    let proxy = site.start();
    let answer = proxy.ask(&get("/x"));
    assert_eq!(answer.status, 200);
    origin.await_requests(1);
    let label = [("route", "all"), ("upstream", "shadow"), ("result", "ok")];
    proxy.settles("switchback_mirror_requests_total", &label, 1);
}

#[test]
fn files_that_cannot_serve_refuse_the_configuration() {
    needs!("openssl");
    let (ca, other) = (Authority::new(), Authority::new());
    ca.signs("c");
    other.signs("c");
    let rows = [
        ("ca: none.crt", "cannot be read"),
        ("ca: key.pem", "holds no certificate"),
        ("clientCert: c.crt", "needs its key"),
        ("clientCert: c.crt, clientKey: other.key", "another certificate"),
        ("clientCert: c.crt, clientKey: ca.crt", "no private key"),
        ("serverName: \"a b\"", "no name that a certificate can have"),
    ];
    for (tls, says) in rows {
        let site = site(&ca, 443, &format!(", tls: {{ {tls} }}"), "");
        let files =
            [("key.pem", ca.text("ca.key")), ("c.crt", ca.text("c.crt")), ("other.key", other.text("c.key"))];
        for (name, content) in files {
            site.place(name, &content);
        }
        let mut proxy = Proxy::spawn(site);
        assert!(!proxy.await_exit().success(), "{tls}");
        eventually(&format!("{tls}: {says}"), || proxy.err().iter().any(|line| line.contains(says)));
    }
}
