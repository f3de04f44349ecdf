//! How soon a bad canary is put back, and that a healthy one stays: nginx origins, 200 requests a second.
//!
//! Every run is a route of its own with a rollout held at its first step; the long forms judge with
//! the default analysis at 5 % weight, a few runs at a time. What is counted is what users asked for
//! and got, from the metrics. It must never help the analyzer, but for the shorter warm-up that the
//! short forms say they use.

use std::fs;
use std::time::Duration;

use super::{
    LIMIT, await_state, counted, figure, float, never_put_back, nginx, pair, record_to, requests, rollout,
    route, routes, seconds_between, start_all, traffic, upstreams, within,
};
use crate::support::load::Load;
use crate::support::{Behaviour, Origin, Proxy, Stranger, get, long, needs};

/// Routes under traffic at a time: the load, the origins and the proxy share the machine.
const AT_ONCE: usize = 5;
/// Requests a second on each route.
const RPS: u32 = 200;
/// Held at 5 % with the analysis everybody gets.
const DEFAULT: &str = "steps: [{ weight: 5, dwell: 1h }, 100], deadline: { step: 2h }, bake: 10m";
/// Held at a fifth of the traffic, and judged from the first second.
const SOON: &str = "steps: [{ weight: 20, dwell: 1h }, 100], deadline: { step: 2h }, bake: 10m, \
                    analysis: { warmup: { errors: 0 } }";

/// How one bad canary ended.
struct Caught {
    /// Requests that users sent to it.
    requests: u64,
    seconds: f64,
    rule: String,
}

/// Puts canaries that fail so much on trial, until all are put back.
fn catch(failing: u32, block: &str, runs: usize, limit: Duration) -> Vec<Caught> {
    let pair = pair(failing);
    let mut caught = Vec::new();
    while caught.len() < runs {
        let count = AT_ONCE.min(runs - caught.len());
        let proxy = Proxy::start(&(upstreams(&pair) + &routes(count, block, "")));
        let load = traffic(&proxy, count, RPS);
        start_all(&proxy, count);
        for index in 0..count {
            let name = format!("r{index}");
            let ended = await_state(&proxy, &name, &["REVERTED", "ABORTED", "PROMOTED", "PAUSED"], limit);
            assert_eq!(ended["state"], "REVERTED", "{ended:#}");
        }
        load.stop();
        for index in 0..count {
            let name = format!("r{index}");
            let back = record_to(&proxy, &name, "REVERTING").expect("a record of the revert");
            let staged = record_to(&proxy, &name, "STAGE").expect("a record of the first step");
            assert_eq!((back["after"].as_f64(), &back["kind"]), (Some(0.0), &"analyzer".into()), "{back:#}");
            caught.push(Caught {
                requests: requests(&proxy, &name, "canary"),
                seconds: seconds_between(&staged, &back),
                rule: back["evidence"]["rule"].as_str().expect("a rule").to_owned(),
            });
        }
    }
    caught
}

fn tell(what: &str, caught: &[Caught]) -> ((f64, f64), (f64, f64)) {
    let asked = caught.iter().map(|one| float(one.requests)).collect();
    let took = caught.iter().map(|one| one.seconds).collect();
    let figures =
        (figure(&format!("{what}: canary requests"), "requests", asked), figure(what, "seconds", took));
    let by_guard = caught.iter().filter(|one| one.rule == "guard").count();
    println!("         {by_guard} of {} by the guard", caught.len());
    figures
}

#[test]
fn a_canary_that_always_fails_is_gone_within_fifteen_requests() {
    needs!("nginx");
    let runs = if long() { 20 } else { 2 };
    let caught = catch(100, DEFAULT, runs, LIMIT);
    let ((median, most), _) = tell("100 % failing at 5 %, back at weight 0", &caught);
    if long() {
        assert!(median <= 15.0, "{median} canary requests in the median");
    }
    // One run may have the bad luck that none of a second's requests went to the canary.
    assert!(most <= 60.0, "{most} canary requests");
}

#[test]
fn a_canary_that_fails_one_in_twenty_is_gone_within_a_minute() {
    needs!("nginx");
    if !long() {
        let caught = catch(5, SOON, 1, LIMIT);
        tell("5 % failing at 20 %, no warm-up", &caught);
        return;
    }
    let caught = catch(5, DEFAULT, 20, 4 * LIMIT);
    let (_, (median, most)) = tell("5 % failing at 5 %, back at weight 0", &caught);
    let late = caught.iter().filter(|one| one.seconds > 60.0).count();
    println!("         {late} of {} took longer than 60 s", caught.len());
    assert!(median <= 60.0, "{median} s in the median, {most} at most");
}

/// Runs canaries that nobody may put back, with `trouble` going on while they are watched.
fn survive(pair: &[Stranger; 2], runs: usize, trouble: impl Fn(&Proxy, usize)) {
    let block = if long() { DEFAULT } else { SOON };
    let mut done = 0;
    while done < runs {
        let count = AT_ONCE.min(runs - done);
        let proxy = Proxy::start(&(upstreams(pair) + &routes(count, block, "")));
        let load = traffic(&proxy, count, RPS);
        start_all(&proxy, count);
        trouble(&proxy, count);
        for index in 0..count {
            let name = format!("r{index}");
            never_put_back(&proxy, &name);
            let now = rollout(&proxy, &name);
            assert!(now["state"] == "STAGE" || now["state"] == "HOLD", "{now:#}");
            assert!(now["share"].as_f64() > Some(0.04), "{now:#}");
        }
        load.stop();
        done += count;
    }
}

/// Waits until the analyzer has counted so many canary requests in every run.
fn judged(proxy: &Proxy, count: usize, enough: u64) {
    for index in 0..count {
        let name = format!("r{index}");
        within(5 * LIMIT, &format!("{enough} canary requests are judged"), || {
            never_put_back(proxy, &name);
            counted(proxy, &name, "canary").0 >= enough
        });
    }
}

#[test]
fn a_healthy_canary_stays() {
    needs!("nginx");
    // At 5 % of 200 requests a second 1,200 of the canary's are two minutes.
    let (runs, enough) = if long() { (20, 1_200) } else { (1, 300) };
    survive(&pair(0), runs, |proxy, count| judged(proxy, count, enough));
    println!("FIGURE | healthy pair, {enough} canary requests each: {runs} of {runs} runs survived");
}

#[test]
fn an_outage_of_both_arms_puts_nobody_back() {
    needs!("nginx");
    let pair = pair(0);
    let (runs, enough) = if long() { (20, 400) } else { (1, 100) };
    let down = || pair.iter().map(|nginx| nginx.folder().join("down"));
    survive(&pair, runs, |proxy, count| {
        judged(proxy, count, 50);
        down().for_each(|file| fs::write(file, "").expect("the outage begins"));
        for index in 0..count {
            let name = format!("r{index}");
            within(2 * LIMIT, "the canary has failed a lot", || {
                never_put_back(proxy, &name);
                counted(proxy, &name, "canary").1 >= enough
            });
            assert!(counted(proxy, &name, "stable").1 >= 50, "stable fails as well");
        }
        down().for_each(|file| fs::remove_file(file).expect("the outage ends"));
        let before = counted(proxy, "r0", "canary").0;
        within(2 * LIMIT, "the canary answers again", || counted(proxy, "r0", "canary").0 >= before + 50);
    });
    println!("FIGURE | outage of both arms, {enough} canary failures each: {runs} of {runs} runs survived");
}

/// One exchange that its client spoils, in one of three ways.
fn spoil(conn: &mut crate::support::Conn, number: usize) -> Result<(), String> {
    let host = "host: r0.test\r\n";
    match number % 3 {
        0 => {
            conn.begin(&get("/big").host("r0.test")).map_err(|error| error.to_string())?;
            conn.piece().map_err(|error| error.to_string())?;
        }
        1 => {
            let head =
                format!("POST /post HTTP/1.1\r\n{host}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
            conn.write(head.as_bytes()).map_err(|error| error.to_string())?;
            conn.write(b"this is no chunk\r\n\r\n").map_err(|error| error.to_string())?;
            conn.rest();
        }
        _ => {
            let head = format!("POST /post HTTP/1.1\r\n{host}content-length: 100000\r\n\r\n");
            conn.write(head.as_bytes()).map_err(|error| error.to_string())?;
            conn.write(&[b'x'; 1000]).map_err(|error| error.to_string())?;
        }
    }
    // Leaves in the middle of it: the connection is given up.
    Err("left".to_owned())
}

#[test]
fn clients_that_leave_or_send_broken_bodies_are_not_charged_to_anybody() {
    needs!("nginx");
    let reader = Origin::start("reader");
    reader.on("/post", Behaviour::Swallow);
    let more = format!(
        "location = /big {{ root @dir@; }}\nlocation = /post {{ proxy_pass {}; proxy_request_buffering off; \
         proxy_http_version 1.1; }}",
        reader.url()
    );
    let pair = ["stable", "canary"].map(|name| nginx(name, 0, "", &more));
    for nginx in &pair {
        fs::write(nginx.folder().join("big"), vec![b'b'; 8 << 20]).expect("a large file");
    }
    let (runs, enough) = if long() { (5, 3_000) } else { (1, 600) };
    survive(&pair, runs, |proxy, _| {
        let before = requests(proxy, "r0", "canary");
        let spoilers = Load::each(proxy.web(), 8, Duration::from_millis(20), spoil);
        within(5 * LIMIT, "many requests were spoiled", || {
            never_put_back(proxy, "r0");
            let metrics = proxy.metrics();
            metrics.count("switchback_requests_total", &[("route", "r0"), ("outcome", "client_closed")])
                + metrics.count("switchback_rejected_total", &[])
                >= enough
        });
        judged(proxy, 1, 200);
        let report = spoilers.stop();
        assert_eq!(report.done, 0);
        assert!(requests(proxy, "r0", "canary") > before);
        let left = [("route", "r0"), ("arm", "canary"), ("outcome", "client_closed")];
        let left = proxy.metrics().count("switchback_requests_total", &left);
        assert!(left >= 20, "{left} clients left the canary");
        let (n, bad) = counted(proxy, "r0", "canary");
        assert_eq!(bad, 0, "of {n}: {:#}", route(proxy, "r0"));
    });
    println!(
        "FIGURE | clients that leave or break their bodies, {enough} times: {runs} of {runs} runs survived"
    );
}
