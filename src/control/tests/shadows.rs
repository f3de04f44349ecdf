//! A rollout's shadow phase with pairs made by hand: let through, put back, held, and gone on with.

use http::{HeaderValue, Method};

use super::*;
use crate::control::differences::Wanted;
use crate::model::{BodyRule, CompareRules, Heard, Pair};

const POLICY: &str = "rollout: { version: v2, steps: [{ shadow: 10 }, 50, 100], \
    analysis: { confidence: low, minRequests: 60, dwell: 1s, warmup: { errors: 0, latency: 0 } } }";

struct Stage {
    running: Running,
    /// Pairs sent so far.
    sent: u64,
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.running.stop();
    }
}

fn site() -> Site {
    Site::new(&config(5).replace("canary: 5 }", &format!("canary: 5 }}, {POLICY}")))
}

fn booted(site: &Site) -> Booted {
    let state = site.path("state").display().to_string();
    let env = Arc::new(BTreeMap::from([("STATE_DIRECTORY".to_owned(), state)]));
    boot(&site.file(), &env, |_| 1, SystemClock.now()).expect("a good configuration")
}

/// Starts with one mirror that compares JSON and belongs to the phase.
fn started(site: &Site) -> Stage {
    let cold = Cold::new();
    let options = Options {
        health: Arc::new(Health::default()),
        meters: Meters::new(cold.recorder()),
        clock: Arc::new(SystemClock),
        upkeep: Arc::new(|| {}),
        reloading: |_| {},
    };
    let rules = CompareRules { body: BodyRule::Json, ..CompareRules::default() };
    let wanted = Wanted { to: "canary".into(), rules: Some(rules), live: true };
    let running = start::start_comparing(booted(site), options, Box::new(move |_, _| Some(wanted.clone())));
    Stage { running, sent: 0 }
}

fn heard(failed: bool, body: &'static str) -> Heard {
    let status = if failed { 500 } else { 200 };
    Heard { status, failed, body: bytes::Bytes::from_static(body.as_bytes()), ..Heard::default() }
}

impl Stage {
    fn state(&self) -> &'static str {
        let told = self.running.control.rollouts();
        told.rollouts.get("all").map_or("", |report| report.rollout.phase.name())
    }

    fn said(&self) -> String {
        let told = self.running.control.rollouts();
        let reason = told.rollouts.get("all").map(|report| report.rollout.reason.clone());
        reason.map_or_else(String::new, |reason| format!("{}: {}", reason.code, reason.text))
    }

    /// Sends a pair of a moment of its own.
    fn pair(&mut self, noise: bool, shadow: Heard) {
        self.sent += 1;
        let taken = self.running.pairs.pair(Pair {
            route: "all".into(),
            mirror: 0,
            request_id: HeaderValue::from_static("id"),
            method: Method::GET,
            path: "/".into(),
            noise,
            primary: heard(false, r#"{"total":1}"#),
            shadow,
            unix_millis: self.sent * 100,
        });
        assert!(taken, "there is room");
    }

    async fn becomes(&self, state: &str) {
        let reached = async {
            while self.state() != state {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(in_time, "never {state}: {} {}", self.state(), self.said());
    }

    /// Waits until so many pairs were judged.
    async fn judged(&self, pairs: u64) {
        let reached = async {
            loop {
                let told = self.running.control.rollouts();
                let finding = told.rollouts.get("all").and_then(|report| report.finding.as_ref());
                if finding.is_some_and(|finding| finding.canary.n >= pairs) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("all pairs are judged");
    }
}

#[tokio::test]
async fn enough_good_pairs_lead_to_the_first_weight() {
    let site = site();
    let mut stage = started(&site);
    stage.becomes("SHADOW").await;
    (0..59).for_each(|_| stage.pair(false, heard(false, r#"{"total":1}"#)));
    stage.judged(59).await;
    assert_ne!(stage.state(), "STAGE", "one is missing: {}", stage.said());
    stage.pair(false, heard(false, r#"{"total":1}"#));
    stage.becomes("STAGE").await;
}

#[tokio::test]
async fn a_canary_that_fails_copies_is_put_back_before_any_user_saw_it() {
    let site = site();
    let mut stage = started(&site);
    stage.becomes("SHADOW").await;
    for at in 0..60 {
        stage.pair(false, heard(at % 4 == 0, r#"{"total":1}"#));
    }
    stage.becomes("REVERTED").await;
    let told = stage.running.control.rollouts();
    let records = told.history.get("all").expect("records");
    let revert = records.iter().find(|one| one.to == "REVERTING").expect("a revert");
    assert_eq!((&*revert.code, &*revert.from), ("pairs", "SHADOW"));
    assert!(revert.reason.contains("canary failed 15 and stable 0"), "{}", revert.reason);
    let most = records.iter().filter_map(|one| one.after).max();
    assert!(most.is_none_or(|share| share.0 == 0), "it never had weight: {records:?}");
}

#[tokio::test]
async fn a_confirmed_difference_holds_and_names_the_place() {
    let site = site();
    let mut stage = started(&site);
    stage.becomes("SHADOW").await;
    for at in 0..500 {
        let noise = at % 5 == 0;
        stage.pair(noise, heard(false, if noise { r#"{"total":1}"# } else { r#"{"total":2}"# }));
    }
    let held = async {
        while !stage.said().starts_with("behaviour: ") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, held).await.is_ok(), "{}", stage.said());
    assert_eq!(stage.state(), "HOLD");
    assert!(stage.said().contains("json-value $.total"), "{}", stage.said());
}

#[tokio::test]
async fn a_restart_goes_on_copying_and_keeps_what_was_shown() {
    let site = site();
    let mut stage = started(&site);
    stage.becomes("SHADOW").await;
    // What speaks against it is written down at once.
    (0..40).for_each(|at| stage.pair(false, heard(at == 0, r#"{"total":1}"#)));
    stage.judged(40).await;
    let file = site.path("state").join(store::FILE);
    let written = async {
        while !fs::read_to_string(&file)
            .is_ok_and(|text| text.replace(['\\', ' '], "").contains("\"bothGood\":39"))
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("it is written down");
    drop(stage);
    let guided = booted(&site).overlay.guided;
    assert_eq!(guided.get("all").and_then(|guide| guide.shadow), Some(100_000), "from the first request on");
    let mut stage = started(&site);
    stage.judged(40).await;
    (0..20).for_each(|_| stage.pair(false, heard(false, r#"{"total":1}"#)));
    stage.becomes("STAGE").await;
}
