//! Healthy versions climb and are promoted while nobody helps, one after the other, and nobody goes back.
//!
//! Every answer names the version that gave it. From the moment a version is seen to be promoted, no
//! request that begins may reach an older one: not in the walk back, not in the next climb.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{LIMIT, QUICK, await_state, figure, nginx, records, rollout, upstreams, verb, within};
use crate::support::load::Load;
use crate::support::site::replace;
use crate::support::{Conn, Proxy, Stranger, get, long, needs};

/// Clients, each with a request every so often: 200 a second, and more where time is short.
const CLIENTS: usize = 8;
const PACE: Duration = Duration::from_millis(40);
const SHORT_PACE: Duration = Duration::from_millis(12);
/// The times that everybody gets; only the bake is shorter than ten minutes.
const DEFAULT: &str = "analysis: { confidence: normal }, bake: 1m";

/// An nginx that answers `/version` with what was deployed to it.
fn deployed(name: &str, version: usize) -> Stranger {
    let nginx = nginx(name, 0, "", "location = /version { root @dir@; }");
    deploy(&nginx, version);
    nginx
}

fn deploy(nginx: &Stranger, version: usize) {
    replace(&nginx.folder().join("version"), &version.to_string());
}

fn text(pair: &[Stranger; 2], version: usize) -> String {
    let policy = if long() { DEFAULT } else { QUICK };
    format!(
        "{}routes: [{{ name: r0, split: {{ stable: 95, canary: 5 }}, \
         rollout: {{ version: v{version}, steps: [10, 50, 100], {policy} }} }}]\n",
        upstreams(pair)
    )
}

/// Asks for the version and holds the answer against what was promoted before it was asked.
fn ask(conn: &mut Conn, promoted: &AtomicUsize) -> Result<(), String> {
    let floor = promoted.load(Ordering::SeqCst);
    let answer = conn.send(&get("/version")).map_err(|error| error.to_string())?;
    match answer.text().parse::<usize>() {
        Ok(version) if answer.status == 200 && version >= floor => Ok(()),
        _ => Err(format!("v{floor} is promoted, and this came after it: {answer:?}")),
    }
}

#[test]
fn versions_in_a_row_are_promoted_and_nobody_is_thrown_back() {
    needs!("nginx");
    let last = if long() { 3 } else { 2 };
    let (limit, pace) = if long() { (30 * LIMIT, PACE) } else { (LIMIT, SHORT_PACE) };
    let mut pair = [deployed("stable", 0), deployed("canary", 1)];
    let proxy = Proxy::start(&text(&pair, 1));
    let promoted = Arc::new(AtomicUsize::new(0));
    let floor = Arc::clone(&promoted);
    let load = Load::each(proxy.web(), CLIENTS, pace, move |conn, _| ask(conn, &floor));
    let (mut climbs, mut walks) = (Vec::new(), Vec::new());
    for version in 1..=last {
        if version > 1 {
            deploy(&pair[1], version);
            proxy.site.write(&text(&pair, version));
            within(LIMIT, "the next version is known", || {
                rollout(&proxy, "r0")["version"] == format!("v{version}")
            });
        }
        let began = Instant::now();
        let ended = await_state(&proxy, "r0", &["PROMOTED", "REVERTED", "ABORTED", "PAUSED"], limit);
        assert_eq!(ended["state"], "PROMOTED", "{ended:#}\n{:#?}", records(&proxy, "r0"));
        promoted.store(version, Ordering::SeqCst);
        climbs.push(began.elapsed().as_secs_f64());
        if version == last && !long() {
            break;
        }
        // Stable is deployed anew: another process, another address in the file.
        pair[0] = deployed("stable", version);
        proxy.reload(&text(&pair, version));
        let began = Instant::now();
        let (status, answer) = verb(&proxy, "r0", "finish", "stable has it as well");
        assert_eq!(status, 200, "{answer:#}");
        let ended = await_state(&proxy, "r0", &["FINISHED", "PROMOTED", "PAUSED"], limit);
        assert_eq!(ended["state"], "FINISHED", "{ended:#}\n{:#?}", records(&proxy, "r0"));
        walks.push(began.elapsed().as_secs_f64());
    }
    let report = load.stop();
    for one in records(&proxy, "r0") {
        println!("         {} {} {}: {}", one["at"], one["version"], one["to"], one["reason"]);
    }
    assert_eq!(report.failed, 0, "{report:?}");
    assert!(report.done > 500, "{report:?}");
    let helped = records(&proxy, "r0").into_iter().filter(|one| one["kind"] == "operator").count();
    assert_eq!(helped, walks.len(), "nobody did anything but `finish`");
    figure(&format!("healthy 10-50-100, {CLIENTS} requests each {pace:?}, to PROMOTED"), "seconds", climbs);
    figure("walk back after `finish`, to FINISHED", "seconds", walks);
    println!("         {} requests, none reached a version older than the last promoted", report.done);
}
