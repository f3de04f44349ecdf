//! One client among two hundred must not decide for them: neither flip slots back, nor open a breaker,
//! nor have an endpoint taken out by asking for what fails. Where many fail, that still happens.
//!
//! Clients are loopback addresses of their own. Everything is awaited as a condition.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Behaviour, Conn, Origin, Proxy, eventually, get, upstreams};

const CLIENTS: u8 = 200;

/// Clients that ask in turn, from addresses of their own, until dropped.
struct Asking {
    over: Arc<AtomicBool>,
    asked: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Asking {
    /// Two hundred addresses; the first so many ask for one path, the others for `/`.
    fn crowd(web: SocketAddr, failing: u8, path: &'static str) -> Self {
        Self::begin(1, move || {
            let conns = (1..=CLIENTS).map(|last| (last, Conn::open_from([127, 0, 7, last], web)));
            let mut conns: Vec<_> = conns.collect();
            move |round| {
                let at = round % conns.len();
                let (last, conn) = &mut conns[at];
                conn.ask(&get(if *last <= failing { path } else { "/" }));
                Duration::from_millis(4)
            }
        })
    }

    /// One address over some connections, as often as it can.
    fn flood(web: SocketAddr, address: [u8; 4], path: &'static str) -> Self {
        Self::begin(4, move || {
            let mut conn = Conn::open_from(address, web);
            move |_| {
                conn.ask(&get(path));
                Duration::from_millis(2)
            }
        })
    }

    fn begin<F: FnMut(usize) -> Duration>(
        threads: usize,
        start: impl Fn() -> F + Send + Clone + 'static,
    ) -> Self {
        let (over, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let one = |_| {
            let (over, asked, start) = (Arc::clone(&over), Arc::clone(&asked), start.clone());
            std::thread::spawn(move || {
                let mut ask = start();
                for round in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    let pause = ask(round);
                    asked.fetch_add(1, Ordering::Relaxed);
                    // A rate, not an order.
                    std::thread::sleep(pause);
                }
            })
        };
        let threads = (0..threads).map(one).collect();
        Self { over, asked, threads }
    }

    #[track_caller]
    fn await_asked(&self, least: usize) {
        eventually("enough was asked", || self.asked.load(Ordering::Relaxed) >= least);
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // One that failed has told why.
            let _ = thread.join();
        }
    }
}

fn slots(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/web")["blueGreen"].clone()
}

/// What becomes of a flip to a slot that fails one path and is slow on another, when so many of the
/// crowd ask for the first, beside one client that asks for both all the time.
fn flipped(failing: u8) -> Value {
    let origins = ["blue", "green"].map(Origin::start);
    origins[1].on("/broken", Behaviour::Answer(500, "broken"));
    origins[1].on("/late", Behaviour::Late(Duration::from_millis(400)));
    let limits = "{ for: 10s, thresholds: { maxErrorRate: 2%, maxP99: 300ms, interval: 4s } }";
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: web, blueGreen: {{ slots: [blue, green], active: blue, verify: {limits} }} }}]\n",
        upstreams(&origins.each_ref())
    ));
    let crowd = Asking::crowd(proxy.web(), failing, "/broken");
    crowd.await_asked(2 * usize::from(CLIENTS));
    let floods = ["/broken", "/late"].map(|path| Asking::flood(proxy.web(), [127, 0, 8, 1], path));
    floods[0].await_asked(100);
    let answer = proxy.admin(&proxy.verb("/api/v1/routes/web/flip", &json!({})));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let mut last = Value::Null;
    let ended = becomes_true(3 * PATIENCE, || {
        last = slots(&proxy);
        last["state"] != "VERIFYING"
    });
    assert!(ended, "{last:#}");
    assert!(floods.iter().all(|flood| flood.asked.load(Ordering::Relaxed) > 20), "nothing was asked for");
    last
}

#[test]
fn one_client_that_asks_for_what_fails_flips_nothing_back() {
    let told = flipped(0);
    assert_eq!((&told["active"], &told["code"]), (&json!("green"), &json!("verified")), "{told:#}");
}

#[test]
fn a_slot_that_fails_a_tenth_of_the_clients_is_flipped_back() {
    let told = flipped(CLIENTS / 10);
    assert_eq!((&told["active"], &told["state"]), (&json!("blue"), &json!("FLIPPED_BACK")), "{told:#}");
    assert!(!told["reason"].to_string().contains("few clients"), "{told:#}");
}

#[test]
fn one_client_neither_opens_a_breaker_nor_takes_an_endpoint_out_and_many_do() {
    let origins = ["one", "two"].map(Origin::start);
    for origin in &origins {
        origin.on("/broken", Behaviour::Answer(500, "broken"));
    }
    let proxy = Proxy::start(&format!(
        "upstreams: {{ app: {{ endpoints: [\"{}\", \"{}\"], breaker: {{ errorRate: 20%, window: 5s, open: 1h }}, \
         outlier: {{ consecutiveErrors: 3, baseEjection: 1h }} }} }}\nroutes: [{{ name: web, split: {{ app: 1 }} }}]\n",
        origins[0].url(),
        origins[1].url()
    ));
    let sum = |name: &str| proxy.metrics().sum(name, &[("upstream", "app")]);
    let crowd = Asking::crowd(proxy.web(), 0, "/");
    crowd.await_asked(usize::from(CLIENTS));
    let flood = Asking::flood(proxy.web(), [127, 0, 8, 1], "/broken");
    // Far more than the crowd asks for, over more than a window.
    flood.await_asked(3_000);
    crowd.await_asked(8 * usize::from(CLIENTS));
    assert!(sum("switchback_breaker_openings_total") < 1.0, "one client opened it");
    assert!(sum("switchback_endpoint_ejections_total") < 1.0, "one client took an endpoint out");
    drop(flood);
    let failing = Asking::crowd(proxy.web(), CLIENTS, "/broken");
    eventually("many are believed", || sum("switchback_breaker_openings_total") > 0.0);
    drop((crowd, failing));
}
