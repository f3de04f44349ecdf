//! What a shadow phase finds before any user sees the new version, and what a hung shadow costs users.
//!
//! nginx origins whose failures have nothing to do with each other. It must never count what users
//! sent to the canary for the shadow: they sent nothing.

use std::time::{Duration, Instant};

use super::{LIMIT, await_state, figure, float, record_to, requests, routes, start_all, traffic, upstreams};
use crate::support::raw::{RawOrigin, Script};
use crate::support::{Conn, Proxy, Stranger, eventually, get, long, needs};

/// Routes under traffic at a time.
const AT_ONCE: usize = 5;
/// Requests a second on each, and as many copies.
const RPS: u32 = 200;
/// A phase that only evidence ends.
const BLOCK: &str = "steps: [{ shadow: 100 }, 5, 100], deadline: { step: 2h }, \
                     analysis: { minRequests: 1000000, warmup: { errors: 0 } }";

/// An nginx that fails so much of its answers, in percent.
fn failing(name: &str, share: &str) -> Stranger {
    Stranger::nginx(&format!(
        "access_log off;\nsplit_clients $request_id $fate {{ {share}% bad; * good; }}\n\
         server {{ listen 127.0.0.1:@port@;\nadd_header x-origin {name} always;\n\
         location / {{ if ($fate = bad) {{ return 500 \"broken\\n\"; }}\nreturn 200 \"{name}\\n\"; }} }}"
    ))
}

#[test]
fn a_shadow_phase_finds_one_failure_in_a_hundred_in_fifteen_hundred_pairs() {
    needs!("nginx");
    let (share, runs) = if long() { ("1", 20) } else { ("10", 1) };
    let pair = [failing("stable", "0.1"), failing("canary", share)];
    let mut pairs = Vec::new();
    while pairs.len() < runs {
        let count = AT_ONCE.min(runs - pairs.len());
        let proxy = Proxy::start(&(upstreams(&pair) + &routes(count, BLOCK, "")));
        let load = traffic(&proxy, count, RPS);
        start_all(&proxy, count);
        // Before it began the canary had the weight of the file.
        let shadowed: Vec<u64> = (0..count)
            .map(|index| {
                let name = format!("r{index}");
                await_state(&proxy, &name, &["SHADOW", "REVERTED"], LIMIT);
                requests(&proxy, &name, "canary")
            })
            .collect();
        for (index, before) in shadowed.into_iter().enumerate() {
            let name = format!("r{index}");
            await_state(&proxy, &name, &["REVERTED"], 2 * LIMIT);
            let back = record_to(&proxy, &name, "REVERTING").expect("a record of the revert");
            assert_eq!(back["code"], "pairs", "{back:#}");
            assert!(record_to(&proxy, &name, "STAGE").is_none(), "no user saw it");
            assert_eq!(requests(&proxy, &name, "canary"), before, "no user saw it");
            pairs.push(float(back["samples"]["canary"]["n"].as_u64().expect("pairs")));
        }
        load.stop();
    }
    let (median, most) = figure(&format!("{share} % failing shadow, stable 0.1 %: put back"), "pairs", pairs);
    if long() {
        assert!(median <= 2_000.0, "{median} pairs in the median, {most} at most");
    }
}

/// The p99 of originals beside a shadow that hangs, and without one, in turns.
#[test]
fn a_hung_shadow_costs_users_nothing_once_it_is_given_up() {
    needs!("nginx");
    let (stable, hung) = (failing("stable", "0.1"), RawOrigin::start(Script::SendAndHang(Vec::new())));
    let text = |percent: &str| {
        format!(
            "workers: 1\nupstreams: {{ stable: \"{}\", hung: \"{}\" }}\n\
             routes: [{{ name: all, split: {{ stable: 1 }}, mirror: {{ to: hung, percent: {percent}, timeout: 500ms }} }}]\n",
            stable.url(),
            hung.url()
        )
    };
    let proxies = [Proxy::start(&text("0%")), Proxy::start(&text("100%"))];
    let mut conns = proxies.each_ref().map(Proxy::conn);
    let dropped = || proxies[1].read("/api/v1/routes/all")["mirrors"][0]["dropped"]["backed_off"].as_u64();
    eventually("it is given up", || {
        ask(&mut conns[1]);
        dropped() > Some(0)
    });
    let (runs, rounds) = if long() { (20, 20_000) } else { (1, 500) };
    let ratios = (0..runs).map(|_| {
        let mut took = [Vec::new(), Vec::new()];
        for _ in 0..rounds {
            for (conn, took) in conns.iter_mut().zip(&mut took) {
                took.push(ask(conn));
            }
        }
        let [without, with] = took.map(|mut took: Vec<Duration>| {
            took.sort_unstable();
            took[took.len() * 99 / 100].as_secs_f64()
        });
        with / without
    });
    let (median, _) = figure("p99 with a hung shadow over p99 without", "ratio", ratios.collect());
    let mirror = proxies[1].read("/api/v1/routes/all")["mirrors"][0].clone();
    // A few before it was given up, and ten a second.
    let (sent, drawn) = (mirror["sent"].as_u64(), mirror["sampled"].as_u64());
    assert!(long() || sent < Some(450) && drawn >= Some(500), "{mirror:#}");
    if long() {
        assert!(median <= 1.05, "{median}");
    }
}

fn ask(conn: &mut Conn) -> Duration {
    let begun = Instant::now();
    let answer = conn.ask(&get("/"));
    assert!([200, 500].contains(&answer.status), "{answer:?}");
    begun.elapsed()
}
