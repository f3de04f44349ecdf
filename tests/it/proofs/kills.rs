//! kill -9 at random moments of a rollout: what was written down holds, and everything is told.
//!
//! A rollout goes round and round (promoted or put back, and again), and the process is killed at
//! moments that nobody chose. Before each new start the state file says what was durable; after all of
//! them every decision in the history must have been told outside. The runs over deliberate moments
//! are in `rollouts.rs`. Nothing here may wait for a quiet moment before a kill.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{LIMIT, figure, rollout, verb, within};
use crate::support::load::Load;
use crate::support::{Behaviour, Origin, Proxy, Site, get, long, upstreams};

/// Longest time between a start and the next kill, in milliseconds: a round of the rollout
/// is some seconds.
const LONGEST: u64 = 4_000;
/// A step takes two seconds, whatever was shown: what is tried is what is kept.
const HASTY: &str = "analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, \
                     latency: 1h } }, bake: 1s, onStepDeadline: promote, deadline: { step: 2s, rollout: 10h }";
/// States out of which nothing but a person leads.
const PUT_BACK: [&str; 3] = ["REVERTING", "REVERTED", "ABORTED"];
const SEED: u64 = 0x5eed_0004;

/// What the state file says of the rollout.
struct Durable {
    /// Parts per million.
    share: u64,
    phase: String,
}

fn durable(site: &Site) -> Durable {
    let text = fs::read_to_string(site.state().join("overlay.json")).expect("a state file");
    let whole: Value = serde_json::from_str(&text).expect("a whole state file");
    let rollout = &whole["state"]["rollouts"]["r0"]["rollout"];
    Durable {
        share: rollout["share"].as_u64().unwrap_or_else(|| panic!("no share in {rollout:#}")),
        phase: rollout["phase"].to_string().to_uppercase(),
    }
}

fn text(origins: &[Origin; 2], outside: &Origin) -> String {
    let hook =
        |event: &str| format!("{{ name: {event}, event: {event}, url: \"{}/{event}\" }}", outside.url());
    format!(
        "{}routes: [{{ name: r0, split: {{ stable: 95, canary: 5 }}, rollout: {{ version: v2, \
         steps: [10, 50, 100], {HASTY}, hooks: [{}, {}] }} }}]\n",
        upstreams(&origins.each_ref()),
        hook("onTransition"),
        hook("event"),
    )
}

/// Everything that kills may not lose.
struct Life {
    proxy: Proxy,
    origins: [Origin; 2],
    random: fastrand::Rng,
    ready: Vec<f64>,
    /// Rounds that ended, and kills after which a version had to stay put back.
    ends: usize,
    backs: usize,
}

impl Life {
    /// One life: some time, a kill, and a new start.
    fn kill(mut self) -> Self {
        // The moment itself is what is random; nothing is waited for.
        std::thread::sleep(Duration::from_millis(self.random.u64(0..LONGEST)));
        let said = rollout(&self.proxy, "r0");
        self.proxy.signal("KILL");
        self.proxy.await_exit();
        let site = self.proxy.site.clone();
        let before = durable(&site);
        let began = Instant::now();
        self.proxy = site.start();
        self.ready.push(began.elapsed().as_secs_f64() * 1e3);
        let now = rollout(&self.proxy, "r0");
        let share = now["share"].as_f64().expect("a share") * 1e6;
        let most = super::float(before.share);
        assert!(share <= most + 0.5, "{most} was durable ({}): {now:#}", before.phase);
        let back = |state: &str| PUT_BACK.contains(&state);
        let was_back = PUT_BACK.iter().any(|state| before.phase.contains(state));
        if was_back || said["state"].as_str().is_some_and(back) {
            assert!(now["state"].as_str().is_some_and(back), "forgot {}: {now:#}\n{said:#}", before.phase);
            self.backs += 1;
            self.nobody_is_on_the_canary();
        }
        if said["state"] == "PROMOTED" {
            assert_eq!(now["state"], "PROMOTED", "{now:#}");
        }
        self.go_on();
        self
    }

    fn nobody_is_on_the_canary(&self) {
        let before = (self.origins[0].requests(), self.origins[1].requests());
        within(LIMIT, "stable answers", || self.origins[0].requests() >= before.0 + 20);
        assert_eq!(self.origins[1].requests(), before.1, "the canary got a request");
    }

    /// Begins another round when this one is over.
    fn go_on(&mut self) {
        let state = rollout(&self.proxy, "r0")["state"].as_str().expect("a state").to_owned();
        if !["PROMOTED", "REVERTED", "ABORTED"].contains(&state.as_str()) {
            return;
        }
        self.ends += 1;
        if state == "PROMOTED" {
            assert_eq!(verb(&self.proxy, "r0", "abort", "another round").0, 200);
        }
        // A good version in one round of two.
        let kind = if self.random.bool() { Behaviour::Echo } else { Behaviour::Answer(500, "broken") };
        self.origins[1].on("/", kind);
        assert_eq!(verb(&self.proxy, "r0", "retry", "another round").0, 200);
    }
}

/// Keys of every decision in the history; a line that a kill cut off is none.
fn decided(site: &Site) -> Vec<u64> {
    let text = fs::read_to_string(site.state().join("history.jsonl")).expect("a history");
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| key_of(&line).unwrap_or_else(|| panic!("no key in {line:#}"))).collect()
}

fn key_of(line: &Value) -> Option<u64> {
    line["record"]["key"].as_u64().or_else(|| line["key"].as_u64())
}

/// Keys of the calls of a hook, each once, and how many calls came in all.
fn told(outside: &Origin, hook: &str) -> (BTreeSet<u64>, usize) {
    let path = format!("/{hook}");
    let calls: Vec<_> = outside.seen().into_iter().filter(|one| one.target == path).collect();
    let key = |text: &str| text.rsplit('-').next().and_then(|key| key.parse().ok());
    let keys = calls.iter().map(|one| one.header("idempotency-key").and_then(key).expect("a key")).collect();
    (keys, calls.len())
}

#[test]
fn killed_at_any_moment_it_keeps_its_word_and_tells_everything() {
    let kills = if long() { 200 } else { 8 };
    let outside = Origin::start("outside");
    let origins = ["stable", "canary"].map(Origin::start);
    origins[1].on("/", Behaviour::Answer(500, "broken"));
    let proxy = Site::new(&text(&origins, &outside)).start();
    let load = Load::each(proxy.web(), 4, Duration::from_millis(8), |conn, _| {
        conn.send(&get("/")).map(drop).map_err(|error| error.to_string())
    });
    let random = fastrand::Rng::with_seed(SEED);
    let mut life = Life { proxy, origins, random, ready: Vec::new(), ends: 0, backs: 0 };
    // More than asked for, until one of them met a version that was put back.
    for round in 0..3 * kills {
        if round >= kills && life.backs > 0 {
            break;
        }
        life = life.kill();
    }
    let report = load.stop();
    let keys = decided(&life.proxy.site);
    assert!(keys.len() > kills / 2, "{} decisions in {kills} lives", keys.len());
    // A decision's number is followed by those of its call, of the notice, and of the notice's call.
    let missing = || {
        let heard = ["onTransition", "event"].map(|hook| told(&outside, hook).0);
        let lost = |key: &&u64| !heard[0].contains(&(**key + 1)) || !heard[1].contains(&(**key + 3));
        keys.iter().filter(lost).copied().collect::<Vec<_>>()
    };
    within(LIMIT, "every decision was told", || missing().is_empty());
    let (once, calls) = told(&outside, "onTransition");
    let unwritten = once.iter().filter(|key| !keys.contains(&(*key - 1))).count();
    println!(
        "         {} kills, {} of them of what was put back, {} rounds ended, {} decisions, {} told in {calls} calls, \
         {unwritten} of them missing in the history, {} requests answered",
        life.ready.len(),
        life.backs,
        life.ends,
        keys.len(),
        once.len(),
        report.done,
    );
    assert!(life.backs > 0, "no kill met a version that was put back");
    let late = life.ready.iter().filter(|millis| **millis > 500.0).count();
    let (_, most) = figure("ready after kill -9", "ms", life.ready);
    println!("         {late} of {kills} took longer than 500 ms");
    // Four times what is promised, for the traffic and the origins share the machine.
    assert!(!long() || most <= 2_000.0, "{most} ms");
}
