//! What is left where nobody new goes: requests end, tunnels stay until the drain's time is over, and
//! people are told once nothing is left.
//!
//! Tunnels are bytes that come back; how long they may stay is written short.

use serde_json::{Value, json};

use crate::support::recorder::{After, Recorder};
use crate::support::{Conn, Proxy, eventually, get};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Agrees on `/ws` and echoes.
fn echoing() -> Recorder {
    Recorder::start(|exchange| {
        if exchange.message.target != "/ws" {
            return if exchange.read_body() { exchange.ok() } else { After::Close };
        }
        exchange.send(AGREE.as_bytes());
        exchange.echo();
        After::Close
    })
}

fn start(origins: &[Recorder; 2], names: [&str; 2], split: &str) -> Proxy {
    let named: Vec<_> =
        names.iter().zip(origins).map(|(name, one)| format!("{name}: \"{}\"", one.url())).collect();
    Proxy::start(&format!(
        "upstreams: {{ {} }}\nroutes: [{{ name: web, {split}, upgrades: [websocket] }}]\n",
        named.join(", ")
    ))
}

fn tunnel(proxy: &Proxy) -> Conn {
    let mut conn = Conn::open(proxy.web());
    conn.write(ASK.as_bytes()).expect("send");
    assert_eq!(conn.read_head("GET").expect("an answer").status, 101);
    assert!(passes(&mut conn));
    conn
}

/// Whether a byte comes back.
fn passes(tunnel: &mut Conn) -> bool {
    tunnel.write(b"x").is_ok() && tunnel.byte().is_ok_and(|byte| byte == b'x')
}

fn told(proxy: &Proxy, code: &str) -> Vec<Value> {
    let history = proxy.read("/api/v1/routes/web/history");
    let records = history["records"].as_array().cloned().unwrap_or_default();
    records.into_iter().filter(|record| record["code"] == code).collect()
}

fn logged(proxy: &Proxy, words: &str) -> usize {
    proxy.err().iter().filter(|line| line.contains(words)).count()
}

fn done(proxy: &Proxy, verb: &str, body: &Value) {
    let answer = proxy.admin(&proxy.verb(&format!("/api/v1/routes/web/{verb}"), body));
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[test]
fn tunnels_of_the_old_slot_stay_until_its_time_is_over() {
    let origins = [echoing(), echoing()];
    let slots = "blueGreen: { slots: [blue, green], active: blue, verify: { for: 0 }, drain: 3s }";
    let proxy = start(&origins, ["blue", "green"], slots);
    let mut old = tunnel(&proxy);
    done(&proxy, "flip", &json!({}));
    assert!(passes(&mut old), "it ends where it began");
    let mut new = tunnel(&proxy);
    eventually("it is waited for", || proxy.read("/api/v1/routes/web")["blueGreen"]["draining"] == 1);
    assert!(told(&proxy, "drained").is_empty());
    eventually("the old one is closed", || !passes(&mut old));
    eventually("that is told", || told(&proxy, "drain-over").len() == 1);
    eventually("and that nothing is left", || told(&proxy, "drained").len() == 1);
    assert!(passes(&mut new), "nobody else's is");
    assert_eq!(origins.each_ref().map(Recorder::open), [0, 1]);
}

#[test]
fn an_arm_drained_by_hand_is_told_when_nothing_is_left() {
    let origins = [echoing(), echoing()];
    let mut proxy = start(&origins, ["stable", "canary"], "split: { stable: 0, canary: 100 }");
    let open = tunnel(&proxy);
    proxy.weights("web", &[("stable", 50), ("canary", 50)]);
    done(&proxy, "drain", &json!({ "arm": "canary" }));
    proxy.ask(&get("/")).expect_status(200);
    let arm = |proxy: &Proxy| {
        let route = proxy.read("/api/v1/routes/web");
        let arms = route["arms"].as_array().cloned().unwrap_or_default();
        arms.into_iter().find(|arm| arm["name"] == "canary").expect("the arm")["drain"].clone()
    };
    eventually("seconds pass", || proxy.metrics().sum("switchback_requests_total", &[("code", "2xx")]) > 0.0);
    assert_eq!((&arm(&proxy)["state"], &arm(&proxy)["inFlight"]), (&json!("draining"), &json!(1)));
    assert!(told(&proxy, "drained").is_empty());
    drop(open);
    eventually("it is told", || told(&proxy, "drained").len() == 1);
    assert_eq!(logged(&proxy, "canary is drained"), 1);
    assert_eq!(arm(&proxy)["state"], "drained");
    // What was told is not told again by the next process.
    proxy = proxy.stop().start();
    eventually("it is known", || arm(&proxy)["state"] == "drained");
    done(&proxy, "weights", &json!({ "reset": true }));
    assert_eq!(told(&proxy, "drained").len(), 1);
    assert_eq!(logged(&proxy, "canary is drained"), 0);
}

#[test]
fn tunnels_of_an_arm_drained_by_hand_stay_until_its_time_is_over() {
    let origins = [echoing(), echoing()];
    let slots = "blueGreen: { slots: [blue, green], active: blue, drain: 2s }";
    let proxy = start(&origins, ["blue", "green"], slots);
    proxy.weights("web", &[("blue", 1), ("green", 1_000_000)]);
    let mut old = tunnel(&proxy);
    done(&proxy, "drain", &json!({ "arm": "green" }));
    assert!(passes(&mut old));
    eventually("it is closed", || !passes(&mut old));
    eventually("it is told", || told(&proxy, "drained").len() == 1);
    assert_eq!(logged(&proxy, "tunnels are closed"), 1);
}

#[test]
fn tunnels_of_what_a_rollout_puts_back_stay_until_its_time_is_over() {
    let origins = [echoing(), echoing()];
    let rollout = "rollout: { version: v1, steps: [{ weight: 50, dwell: 1h }, 100], deadline: { step: 2h } }";
    let slots = format!(
        "blueGreen: {{ slots: [blue, green], active: blue, verify: {{ for: 0 }}, drain: 3s }}, {rollout}"
    );
    let proxy = start(&origins, ["blue", "green"], &slots);
    let weight = || proxy.read("/api/v1/routes/web")["arms"][1]["weight"].clone();
    eventually("half of the clients", || weight() == 50);
    let mut tunnels: Vec<Conn> = Vec::new();
    eventually("both have tunnels", || {
        tunnels.push(tunnel(&proxy));
        origins.iter().all(|origin| origin.open() > 0)
    });
    let all = tunnels.len();
    let put_back = origins[1].open();
    let abort = proxy.verb("/api/v1/routes/web/rollout/abort", &json!({ "reason": "test" }));
    assert_eq!(proxy.admin(&abort).status, 200);
    assert_eq!(tunnels.iter_mut().filter_map(|one| passes(one).then_some(())).count(), all, "not at once");
    eventually("those of the arm that was put back are closed", || origins[1].open() == 0);
    let left = tunnels.iter_mut().filter_map(|one| passes(one).then_some(())).count();
    assert_eq!(left, all - put_back, "nobody else's are");
    // Whoever gives the arm weight again keeps what is opened from then on.
    proxy.weights("web", &[("blue", 0), ("green", 100)]);
    let mut new = tunnel(&proxy);
    let seconds = proxy.read("/api/v1/status")["uptimeSeconds"].as_u64().expect("seconds") + 5;
    eventually("its time would be over", || {
        assert!(passes(&mut new));
        proxy.read("/api/v1/status")["uptimeSeconds"].as_u64() >= Some(seconds)
    });
}
