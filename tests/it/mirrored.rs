//! Differences of mirrored requests, live: what differs is found and named, what is noise is not, and a
//! shadow phase judges a canary that no user sees.
//!
//! Origins whose every answer has a time and an id of its own. Nothing may depend on how fast
//! anything is.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::support::load::Load;
use crate::support::tools::switchback;
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Proxy, eventually, get};

/// An origin that counts its answers.
struct Shop(SocketAddr);

impl Shop {
    /// `price` is for paths that end with 7; of `fails` answers to `/pay` one is 500, 0 for none.
    fn start(price: u32, fails: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = listener.local_addr().expect("an address");
        let answers = Arc::new(AtomicU64::new(0));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let answers = Arc::clone(&answers);
                thread::spawn(move || serve(&stream, price, fails, &answers));
            }
        });
        Self(address)
    }
}

/// Answers until the client goes.
fn serve(stream: &TcpStream, price: u32, fails: u64, answers: &AtomicU64) {
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(first)) = lines.next() {
        while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
        let path = first.split(' ').nth(1).unwrap_or_default();
        let number = answers.fetch_add(1, Ordering::Relaxed) + 1;
        let price = if path.ends_with('7') { price } else { 10 };
        let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let body =
            format!(r#"{{"at":{number},"id":"{id:x}","session":"s{number}","items":[{{"price":{price}}}]}}"#);
        let bad = path == "/pay" && fails > 0 && number.is_multiple_of(fails);
        let status = if bad { "500 Broken" } else { "200 OK" };
        let head = format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let mut out = stream;
        // In one piece: the second of two small ones waits for the acknowledgement of the first.
        if out.write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

fn start(stable: &Shop, canary: &Shop, blocks: &str) -> Proxy {
    let (stable, canary) = (stable.0, canary.0);
    Proxy::start(&format!(
        "upstreams: {{ stable: \"http://{stable}\", canary: \"http://{canary}\" }}\n\
         routes: [{{ name: all, split: {{ stable: 100, canary: 0 }}, {blocks} }}]\n"
    ))
}

fn mirror(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all/differences")["mirrors"][0].clone()
}

/// Standing of a place.
fn standing(mirror: &Value, path: &str) -> Option<String> {
    let places = mirror["differences"].as_array().into_iter().flatten();
    let found = places.into_iter().find(|one| one["path"] == path)?;
    found["standing"].as_str().map(str::to_owned)
}

#[test]
fn one_field_for_one_user_in_fifty_is_found_and_times_and_ids_are_noise() {
    let (stable, canary) = (Shop::start(10, 0), Shop::start(11, 0));
    let proxy = start(&stable, &canary, "mirror: { to: canary, percent: 100%, compare: [status, json] }");
    let mut conn = proxy.conn();
    let found = becomes_true(4 * PATIENCE, || {
        for user in 0..50 {
            let path = if user == 7 { "/cart/7".to_owned() } else { format!("/cart/{user}0") };
            conn.ask(&get(&path)).expect_status(200);
        }
        standing(&mirror(&proxy), "$.items[*].price").as_deref() == Some("confirmed")
    });
    let known = mirror(&proxy);
    assert!(found, "{known:#}");
    for noise in ["$.at", "$.id", "$.session"] {
        assert_eq!(standing(&known, noise).as_deref(), Some("noise"), "{known:#}");
    }
    let samples = known["samples"].as_array().expect("samples");
    let good = |one: &Value| {
        (&one["target"], &one["primary"], &one["shadow"]) == (&"/cart/7".into(), &"10".into(), &"11".into())
    };
    assert!(!samples.is_empty() && samples.iter().all(good), "{known:#}");
    let pairs = known["pairs"].as_u64().unwrap_or(0) + known["noisePairs"].as_u64().unwrap_or(0);
    assert!(pairs < 10_000, "{pairs} pairs");
    let told = switchback(
        &proxy.site.folder(),
        &["status", "all", "--admin", &format!("http://{}", proxy.site.admin())],
    );
    assert!(told.out.contains("mirror -> canary 100%: ") && told.out.contains("DIFFERS in 1: "), "{told:?}");
    let labels = [("route", "all"), ("upstream", "canary"), ("kind", "json-value")];
    assert!(proxy.metrics().sum("switchback_mirror_differences_total", &labels) > 0.0);
}

const QUICK: &str = "analysis: { confidence: low, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 } }";

fn rollout(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all")["rollout"].clone()
}

#[test]
fn a_shadow_phase_puts_back_a_canary_with_one_failure_in_a_hundred() {
    let (stable, canary) = (Shop::start(10, 0), Shop::start(10, 110));
    let blocks = format!("rollout: {{ version: v2, steps: [{{ shadow: 100 }}, 5, 100], {QUICK} }}")
        .replace("confidence: low", "confidence: high");
    let proxy = start(&stable, &canary, &blocks);
    eventually("it is at its shadow", || rollout(&proxy)["state"] == "SHADOW");
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(4), |_| get("/pay"));
    eventually("it is put back", || rollout(&proxy)["state"] == "REVERTED");
    drop(load.stop());
    let history = proxy.read("/api/v1/routes/all/history");
    let records = history["records"].as_array().expect("records");
    let revert = records.iter().find(|one| one["to"] == "REVERTING").expect("a revert");
    assert_eq!(revert["code"], "pairs", "{revert:#}");
    // A thousand and a half on average.
    let pairs = revert["samples"]["canary"]["n"].as_u64();
    assert!(pairs.is_some_and(|pairs| (500..5_000).contains(&pairs)), "{revert:#}");
    let metrics = proxy.metrics();
    assert_eq!(metrics.count("switchback_requests_total", &[("route", "all"), ("code", "5xx")]), 0);
    assert_eq!(metrics.count("switchback_requests_total", &[("route", "all"), ("arm", "canary")]), 0);
}

#[test]
fn a_good_shadow_leads_to_the_first_weight() {
    let (stable, canary) = (Shop::start(10, 0), Shop::start(10, 0));
    let proxy = start(
        &stable,
        &canary,
        &format!("rollout: {{ version: v2, steps: [{{ shadow: 100 }}, 50, 100], {QUICK} }}"),
    );
    let load = Load::h1(proxy.web(), 2, Duration::from_millis(4), |_| get("/pay"));
    eventually("it has its first weight", || {
        rollout(&proxy)["step"] == 0 && rollout(&proxy)["state"] == "STAGE"
    });
    drop(load.stop());
}
