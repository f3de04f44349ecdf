//! An endpoint that goes up and down every few hundred milliseconds, beside one that lasts.
//!
//! Whatever a client sees fail was on the endpoint when it went; nothing that changes something is
//! sent twice; that it is gone is found out in time; and while it is gone hardly anybody knocks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::support::flapper::{Flapper, Mode};
use crate::support::load::Load;
use crate::support::{Conn, Origin, Proxy, eventually, get, long, post, private_network};

const CLIENTS: usize = 8;
/// How long it is up, and how long it is down.
const SPELL: Duration = Duration::from_millis(250);

fn before(endpoints: &[String], upstream: &str) -> Proxy {
    let endpoints: Vec<_> = endpoints.iter().map(|url| format!("\"{url}\"")).collect();
    Proxy::start(&format!(
        "workers: 2\nupstreams: {{ app: {{ endpoints: [{}], loadBalance: roundRobin{upstream} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        endpoints.join(", ")
    ))
}

/// Clients that number their requests, every third of which changes something; gives the load.
fn numbered(proxy: &Proxy) -> Load {
    Load::each(proxy.web(), CLIENTS, Duration::from_millis(4), |conn: &mut Conn, id| {
        let request = if id % 3 == 0 { post("/", "once") } else { get("/") };
        let answer = conn.send(&request.header("x-id", &format!("{id}.")));
        match answer {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.status.to_string()),
            Err(error) => Err(error.to_string()),
        }
    })
}

/// How often each number reached somebody who could have acted on it, of requests of this method.
fn delivered(flapper: &Flapper, lasting: &Origin, method: &str) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    let here = flapper
        .heads()
        .into_iter()
        .filter(|head| head.starts_with(method))
        .filter_map(|head| head.lines().find_map(|line| line.strip_prefix("x-id: ").map(str::to_owned)));
    let seen = lasting.seen();
    let there = seen.iter().filter(|one| one.method == method);
    let there = there.filter_map(|one| one.header("x-id").map(str::to_owned));
    for id in here.chain(there) {
        *counts.entry(id).or_default() += 1;
    }
    counts
}

#[test]
fn one_that_comes_and_goes_costs_what_was_on_it_and_nothing_is_sent_twice() {
    const WATCHED: &str = ", outlier: { consecutiveErrors: 3, baseEjection: 300ms }, \
        healthCheck: { type: tcp, interval: 200ms, timeout: 200ms, unhealthyThreshold: 2 }";
    let modes: Vec<Mode> = [Mode::Gone, Mode::Silent].into_iter().chain(Mode::CUTS).collect();
    for (what, upstream) in [("not watched", ""), ("ejected and probed", WATCHED)] {
        let (flapper, lasting) = (Flapper::start(), Origin::start("lasting"));
        let proxy = before(&[flapper.url(), lasting.url()], upstream);
        let load = numbered(&proxy);
        eventually("both serve", || flapper.answered() > 20 && lasting.requests() > 20);
        // What was open on it when it changed, over all the times it did: connections do not outlive that.
        let mut on_it = 0;
        for mode in modes.iter().cycle().take(modes.len() * if long() { 10 } else { 1 }) {
            // A pace of the origin, not an order of events.
            on_it += flapper.becomes(*mode).min(CLIENTS);
            std::thread::sleep(SPELL);
            on_it += flapper.becomes(Mode::Up).min(CLIENTS);
            std::thread::sleep(SPELL);
        }
        let served = flapper.answered();
        eventually(&format!("{what}: it is asked again"), || flapper.answered() > served);
        let report = load.stop();
        let unanswered = flapper.heads().len() - flapper.answered();
        println!(
            "FIGURE | flapping {what} | {} requests | {} failed | {unanswered} left unanswered, {on_it} open when it changed",
            report.done, report.failed
        );
        assert!(report.done > 200, "{what}: {report:?}");
        assert!(unanswered > 0, "{what}: somebody was on it");
        assert!(report.failed <= unanswered + on_it, "{what}: {report:?}, {unanswered} and {on_it} on it");
        let posts = delivered(&flapper, &lasting, "POST");
        let twice: Vec<_> = posts.iter().filter(|(_, count)| **count > 1).collect();
        assert!(posts.len() > 60 && twice.is_empty(), "{what}: of {} POSTs {twice:?}", posts.len());
    }
}

#[test]
fn one_that_stays_away_is_found_out_in_time_and_costs_nothing_more() {
    for check in [
        "outlier: { consecutiveErrors: 3, baseEjection: 1h }, healthCheck: { type: tcp, interval: 300ms, timeout: 200ms }",
        "healthCheck: { path: /, interval: 300ms, timeout: 200ms }",
    ] {
        for mode in [Mode::Gone, Mode::Silent, Mode::Cut(0)] {
            if mode != Mode::Gone && !check.contains("path") {
                continue;
            }
            let (flapper, lasting) = (Flapper::start(), Origin::start("lasting"));
            let upstream = format!(", {check}");
            let proxy = before(&[flapper.url(), lasting.url()], &upstream);
            for mode in [Mode::Gone, Mode::Up, mode] {
                flapper.becomes(mode);
                if mode == Mode::Up {
                    eventually("it serves", || proxy.ask(&get("/")).origin() == "flapper");
                }
            }
            let gone = Instant::now();
            let healthy = || proxy.read("/api/v1/routes/all")["arms"][0]["endpoints"][0]["healthy"].clone();
            eventually(&format!("{mode:?} is found out"), || healthy() == false);
            assert!(gone.elapsed() <= Duration::from_secs(15), "{mode:?} after {:?}", gone.elapsed());
            for turn in 0..40 {
                let answer = proxy.ask(&get("/"));
                assert_eq!((answer.status, answer.origin()), (200, "lasting"), "{mode:?}: {turn} after that");
            }
        }
    }
}

/// Connections of this network that nobody accepted, of everybody in it.
fn refused_connects() -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("the counts of this network");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, counts) = (lines.next().expect("names"), lines.next().expect("counts"));
    let found = names.split(' ').zip(counts.split(' ')).find(|(name, _)| *name == "AttemptFails");
    found.and_then(|(_, count)| count.parse().ok()).expect("a count of refused connects")
}

#[test]
fn while_it_is_gone_it_is_knocked_at_ten_times_a_second() {
    // Those under way when the first was refused, and two more in the time until it is looked at.
    const ONCE: u64 = CLIENTS as u64 + 3;
    private_network!();
    for alone in [true, false] {
        let (flapper, lasting) = (Flapper::start(), Origin::start("lasting"));
        let mut urls = vec![flapper.url()];
        if !alone {
            urls.push(lasting.url());
        }
        let proxy = before(&urls, "");
        let load = numbered(&proxy);
        let mut tried = Vec::new();
        for _ in 0..if long() { 40 } else { 4 } {
            let answered = flapper.answered();
            eventually("it serves", || flapper.answered() > answered + CLIENTS);
            let all = refused_connects();
            flapper.becomes(Mode::Gone);
            eventually("somebody is refused", || refused_connects() > all);
            // Whoever was connecting by then had begun before that was known.
            std::thread::sleep(SPELL / 2);
            let (before, began) = (refused_connects(), Instant::now());
            // A pace of the origin, not an order of events.
            std::thread::sleep(2 * SPELL);
            let (more, took) = (refused_connects() - before, began.elapsed());
            let first = before - all;
            flapper.becomes(Mode::Up);
            let allowed = u64::try_from(took.as_millis() / 100).expect("short") + 1;
            assert!(more <= allowed, "alone {alone}: {more} connects in {took:?}, {tried:?} before");
            assert!(first <= ONCE, "alone {alone}: {first} connects at once, {tried:?} before");
            tried.push((first, more));
        }
        assert!(tried.iter().any(|(_, more)| *more >= 2), "it is tried again while it is gone: {tried:?}");
        println!(
            "FIGURE | connects to one that is gone, at once and in {:?} | alone {alone} | {tried:?}",
            2 * SPELL
        );
        drop(load.stop());
    }
}
