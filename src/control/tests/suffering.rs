//! After a revert, minute by minute, with time that the test moves: what the records say at the end.
//!
//! Outcomes are counted straight into the ledger; no request is sent.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::ledger::samples::{Kind, Words};
use crate::ledger::trial::{Ended, Fate, Placement, Side};
use crate::model::time::{Clock, UnixMillis};
use crate::model::{Cause, ChoiceReason, CodeClass, MethodClass, Outcome, Verdict, WorkerId};
use crate::rollout::Record;

/// A wall clock that goes only as far as the test says.
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> UnixMillis {
        UnixMillis(self.0.load(Ordering::Relaxed))
    }
}

struct Stage {
    plans: Plans,
    running: Running,
    clock: Arc<Hand>,
    turn: u64,
}

const POLICY: &str = "rollout: { version: v2, steps: [50, 100], \
    analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 } } }";

fn start_with(site: &Site, clock: &Arc<Hand>) -> Stage {
    let state = site.path("state").display().to_string();
    let env = Arc::new(BTreeMap::from([("STATE_DIRECTORY".to_owned(), state)]));
    let booted = boot(&site.file(), &env, |_| 1, clock.now()).expect("a good configuration");
    let (plans, cold) = (booted.publisher.plans(), Cold::new());
    let running = start(
        booted,
        Options {
            health: Arc::new(Health::default()),
            meters: Meters::new(cold.recorder()),
            clock: Arc::clone(clock) as Arc<dyn Clock>,
            upkeep: Arc::new(|| {}),
            reloading: |_| {},
        },
    );
    Stage { plans, running, clock: Arc::clone(clock), turn: 0 }
}

impl Stage {
    fn state(&self) -> &'static str {
        let told = self.running.control.rollouts();
        told.rollouts.get("all").map_or("", |report| report.rollout.phase.name())
    }

    fn records(&self) -> Vec<Record> {
        self.running.control.rollouts().history.get("all").map(|records| records.to_vec()).unwrap_or_default()
    }

    /// A tenth of a second, in which each arm of a comparison gets one request.
    async fn tenth(&mut self, canary: Fate, stable: Verdict) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        if ["PENDING", "REVERTING"].contains(&self.state()) {
            // The disk takes real time, and the clock of the test does not run while this does.
            let disk = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(20)));
            disk.await.expect("a pause");
        }
        let now = self.clock.0.fetch_add(100, Ordering::Relaxed) + 100;
        self.turn += 1;
        let plan = self.plans.load_full();
        let route = plan.route_named("all").expect("the route");
        for (side, fate) in [(Side::Canary, canary), (Side::Stable, Fate::Good)] {
            let Some(compare) = &route.trial else { continue };
            let ended = Ended {
                side,
                placement: Placement::Placed,
                fate,
                client_error: false,
                slot: None,
                nanos: Some(1_000_000),
                address: [127, 0, 0, 1].into(),
                unix_millis: now,
            };
            if compare.trial.record(WorkerId(0), &ended) {
                let (method, cause) = (MethodClass::Put, Cause::Status(502));
                let kind = Kind { rule: (1, 0), method, cause, endpoint: None };
                let words = || Words { rule: "/cart".to_owned(), endpoint: Some("http://new".into()) };
                compare.trial.sample(WorkerId(0), &ended, kind, &format!("id-{}", self.turn), words);
            }
        }
        let arm = route.arms.iter().position(|arm| &*arm.name == "stable").expect("an arm");
        let shard = route.arms[arm].cells[arm].shard(WorkerId(0)).expect("one worker");
        shard.begin();
        shard.record(&Outcome {
            code: CodeClass::Success,
            verdict: stable,
            choice: ChoiceReason::Random,
            failure: None,
            total_nanos: 1_000_000,
            upstream_nanos: None,
            retries: [0; 5],
        });
    }

    async fn until(&mut self, what: &str, verdict: Verdict, done: impl Fn(&Self) -> bool) {
        for _ in 0..2_000 {
            if done(self) {
                return;
            }
            self.tenth(Fate::Bad, verdict).await;
        }
        panic!("never {what}: {} {:?}", self.state(), self.records());
    }
}

#[tokio::test(start_paused = true)]
async fn a_minute_after_a_revert_the_record_says_whether_stable_recovered() {
    for (afterwards, word) in [(Verdict::Ok, "recovered"), (Verdict::Error, "not-recovered")] {
        let site = Site::new(&config(5).replace("canary: 5 }", &format!("canary: 5 }}, {POLICY}")));
        let clock = Arc::new(Hand(AtomicU64::new(1_700_000_000_000)));
        let mut stage = start_with(&site, &clock);
        stage.until("reverted", Verdict::Ok, |stage| stage.state() == "REVERTED").await;
        let reverted_at = clock.now().0;
        let records = stage.records();
        let revert = records.iter().find(|one| one.to == "REVERTING").expect("a record of the revert");
        let failing = revert.failing.first().expect("what failed");
        assert_eq!(
            (&*failing.rule, &*failing.method, failing.status, &*failing.endpoint),
            ("/cart", "PUT", Some(502), "http://new")
        );
        assert_eq!((failing.request_ids.len(), failing.count >= 5), (5, true), "{failing:?}");
        let (first, at) = (revert.first_bad_at_millis.expect("a moment"), revert.in_force_at_millis);
        assert!(first < revert.at_millis && at >= Some(revert.at_millis), "{revert:?}");
        let said = |stage: &Stage| stage.records().iter().any(|one| one.code.contains("recover"));
        assert!(!said(&stage));
        stage.until("said", afterwards, said).await;
        let waited = clock.now().0 - reverted_at;
        assert!((50_000..75_000).contains(&waited), "said after {waited} ms");
        let last = stage.records().last().cloned().expect("a record");
        assert_eq!((&*last.code, last.run, &*last.to), (word, revert.run, "REVERTED"));
        let harms = stage.running.control.rollouts().harms.get("all").copied().expect("harms");
        assert!(harms.excess >= 5.0 && harms.recovery_seconds >= harms.detection_seconds, "{harms:?}");
        stage.running.stop();
        // What it cost is in the journal, not in memory alone.
        let again = start_with(&site, &clock);
        assert_eq!(again.running.control.rollouts().harms.get("all"), Some(&harms));
        again.running.stop();
    }
}
