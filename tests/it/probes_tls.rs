//! Probes of endpoints behind TLS: asked by the same trust and protocol as clients' requests are sent.
//!
//! An endpoint that cannot be trusted is not healthy, whatever is asked, and the reason is told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use serde_json::Value;

use crate::health::health_server;
use crate::support::nginx::Nginx;
use crate::support::pki::Authority;
use crate::support::{Behaviour, Origin, Proxy, Site, eventually, needs};

const QUICK: &str = "interval: 200ms, timeout: 5s, healthyThreshold: 1, unhealthyThreshold: 1";

fn server(name: &str, certificate: &str, listen: &str, location: &str) -> (String, String, String) {
    let body =
        format!("ssl_certificate {certificate}.crt; ssl_certificate_key {certificate}.key; {location}");
    (name.to_owned(), listen.to_owned(), body)
}

/// A proxy that probes `https://127.0.0.1:port` and trusts one authority.
fn probing(ca: &Authority, port: u16, protocol: &str, check: &str) -> Proxy {
    let site = Site::new(&format!(
        "workers: 1\nupstreams: {{ app: {{ endpoints: [\"https://127.0.0.1:{port}\"], protocol: {protocol}, \
         tls: {{ ca: ca.crt, serverName: app.test }}, healthCheck: {{ {check}, {QUICK} }} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\n"
    ));
    site.place("ca.crt", &ca.text("ca.crt"));
    site.start()
}

fn endpoint(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all")["arms"][0]["endpoints"][0].clone()
}

fn becomes(proxy: &Proxy, healthy: bool, why: &str) {
    eventually(&format!("healthy is {healthy} {why}: {}", endpoint(proxy)), || {
        let endpoint = endpoint(proxy);
        endpoint["healthy"] == healthy && endpoint["why"].as_str().unwrap_or_default().contains(why)
    });
}

#[test]
fn probes_ask_over_tls_and_by_the_protocol_agreed_on() {
    needs!("nginx", "openssl");
    let ca = Authority::new();
    let certificate = ca.signs("app.test").display().to_string();
    let origin = Origin::start("app");
    let (status, asked) = (Arc::new(AtomicU8::new(1)), Arc::new(AtomicUsize::new(0)));
    let calls = health_server(&status, &asked).replace("http://", "grpc://");
    let http = format!("location / {{ proxy_pass {}; }}", origin.url());
    let nginx = Nginx::serving(&[
        server("new", &certificate, "ssl http2", &http),
        server("old", &certificate, "ssl", &http),
        server("calls", &certificate, "ssl http2", &format!("location / {{ grpc_pass {calls}; }}")),
    ]);
    for (name, protocol) in [("old", "http1"), ("old", "auto"), ("new", "auto"), ("new", "h2")] {
        origin.on("/healthz", Behaviour::Answer(200, "up"));
        let before = origin.requests();
        let proxy = probing(&ca, nginx.port(name), protocol, "path: /healthz");
        eventually("it is probed", || origin.requests() > before + 1);
        becomes(&proxy, true, "");
        origin.on("/healthz", Behaviour::Answer(503, "down"));
        becomes(&proxy, false, "status 503");
        origin.on("/healthz", Behaviour::Answer(200, "up"));
        becomes(&proxy, true, "");
    }
    let proxy = probing(&ca, nginx.port("calls"), "h2", "type: grpc, service: shop");
    eventually("it is probed", || asked.load(Ordering::SeqCst) > 1);
    becomes(&proxy, true, "");
    status.store(2, Ordering::SeqCst);
    becomes(&proxy, false, "NOT_SERVING");
    status.store(1, Ordering::SeqCst);
    becomes(&proxy, true, "");
    // That a connection is accepted includes that it is secured.
    let proxy = probing(&ca, nginx.port("new"), "auto", "type: tcp");
    becomes(&proxy, true, "");
}

#[test]
fn who_cannot_be_trusted_fails_every_kind_of_probe() {
    needs!("nginx", "openssl");
    let (ca, other) = (Authority::new(), Authority::new());
    let named = |ca: &Authority, name: &str| ca.signs(name).display().to_string();
    let nginx = Nginx::serving(&[
        server("unknown", &named(&other, "app.test"), "ssl http2", "return 200;"),
        server("named", &named(&ca, "other.test"), "ssl http2", "return 200;"),
        server("root", &ca.signs_itself("root").display().to_string(), "ssl http2", "return 200;"),
        ("plain".to_owned(), String::new(), "return 200;".to_owned()),
    ]);
    let checks = [("auto", "path: /"), ("auto", "type: tcp"), ("h2", "type: grpc")];
    for (name, why) in [
        ("unknown", "comes from nobody in `tls.ca`"),
        ("named", "is for another name"),
        ("root", "shows a CA certificate (CA:TRUE); it needs a certificate of its own"),
        ("plain", "does not speak TLS"),
    ] {
        for (protocol, check) in checks {
            let proxy = probing(&ca, nginx.port(name), protocol, check);
            becomes(&proxy, false, why);
        }
    }
}
