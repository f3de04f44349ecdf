//! Objectives of routes, second by second: what users saw, what is left of each error budget, and
//! what of it outlives the process.
//!
//! Counts come from the ledger's own cells, all arms together, so that a request pays nothing for
//! them. It must never decide what a spent budget does: [`crate::rollout`] does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde_json::json;
use tokio::task::{JoinHandle, spawn_blocking};

use super::controller::Controller;
use super::rollouts::Now;
use super::store::Store;
use crate::analysis::slo::{ALARMS, Burn, MAX_LATENCY, Objective, Reading, WINDOWS};
use crate::ledger::{Book, Cell};
use crate::model::time::UnixMillis;
use crate::plan::{Plan, Route};

/// File name in the state folder.
pub const FILE: &str = "slo.json";
/// Version of the file's layout.
const SCHEMA: u64 = 1;
/// Seconds between two writes while a rollout of a route with objectives is live, and otherwise:
/// what a crash can lose of the counts.
const WRITE_EVERY: (u64, u64) = (5, 60);
/// Objectives that are written at most: each takes up to 8 kB of a file of at most 64 MiB.
const MAX_WRITTEN: usize = 5_000;
/// Objectives that are remembered although no plan has them any more: an edit may come back.
const MAX_IDLE: usize = 100;
/// How long they are, in seconds since they last counted.
const IDLE: u64 = 86_400;

/// Requests, failures and slow requests by latency objective, as a cell has them.
type Counts = [u64; 2 + MAX_LATENCY];
/// How objectives stand, by route.
pub type Standings = Arc<BTreeMap<String, Arc<[Standing]>>>;

/// How an objective stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    /// What is promised.
    pub objective: Objective,
    /// What is left of it.
    pub reading: Reading,
}

impl Standing {
    /// What is left, in words: `availability has 4.2 % of its error budget left, below 10 %`.
    #[must_use]
    pub fn words(&self) -> String {
        let Objective { name, freeze_below, .. } = &self.objective;
        let (left, limit) = (self.reading.budget * 100.0, freeze_below * 100.0);
        format!("{name} has {left:.1} % of its error budget left, below {limit} %")
    }

    /// The alarm that sounds, in words: `14.4x over 1h and 5m`.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        let (limit, long, short) = ALARMS.get(self.reading.alarm?)?;
        let window = |at: &usize| WINDOWS.get(*at).map_or("", |(label, _)| label);
        Some(format!("{limit}x over {} and {}", window(long), window(short)))
    }
}

/// Objectives of every route that has some.
#[derive(Debug, Default)]
pub struct Objectives {
    routes: BTreeMap<String, Tracked>,
    /// What was counted of routes and objectives, in the plan or not.
    burns: BTreeMap<(String, String), Arc<Burn>>,
    standings: Standings,
    /// Looks so far.
    looks: u64,
    writer: Writer,
}

/// Objectives of one route as they are counted.
#[derive(Debug)]
struct Tracked {
    objectives: Box<[Objective]>,
    /// What each cell had counted by the last look, by arm and answering upstream.
    before: Vec<(Arc<str>, Arc<str>, Counts)>,
    standings: Arc<[Standing]>,
    /// The minute of the last look, and its number.
    minute: u64,
    looked: u64,
}

impl Objectives {
    /// What was remembered, for a plan that has not counted yet.
    #[must_use]
    pub fn recall(store: &Store, plan: &Plan, book: &Book, now: UnixMillis) -> Self {
        let mut objectives = Self::default();
        let known = store.recall::<BTreeMap<String, BTreeMap<String, Burn>>>(FILE, SCHEMA, now);
        match known {
            Ok(known) => {
                let known = known.unwrap_or_default().into_iter();
                let burns = known.flat_map(|(route, burns)| {
                    burns.into_iter().map(move |(name, burn)| ((route.clone(), name), Arc::new(burn)))
                });
                objectives.burns = burns.collect();
            }
            Err(why) => tracing::error!("{why}: error budgets begin anew"),
        }
        objectives.look(plan, book, now);
        objectives.writer = Writer { written: seconds(now), ..Writer::default() };
        objectives
    }

    /// Counts what was seen since the last call, and tells what changed.
    pub fn look(&mut self, plan: &Plan, book: &Book, now: UnixMillis) {
        let second = seconds(now);
        let mut changed = false;
        self.looks += 1;
        for route in plan.routes.iter().filter(|route| !route.objectives.is_empty()) {
            let cells = book.route_cells(&route.name);
            let tracked = self.routes.get_mut(&*route.name);
            if let Some(tracked) = tracked.filter(|tracked| tracked.objectives == route.objectives) {
                tracked.looked = self.looks;
                changed |= tracked.look(&cells, &mut self.burns, &mut self.writer, route, second);
            } else {
                let tracked =
                    Tracked { looked: self.looks, ..Tracked::new(route, &cells, &self.burns, second) };
                self.routes.insert(route.name.to_string(), tracked);
                changed = true;
            }
        }
        let before = self.routes.len();
        self.routes.retain(|_, tracked| tracked.looked == self.looks);
        if changed || self.routes.len() != before {
            let standings = self.routes.iter();
            let standings = standings.map(|(name, one)| (name.clone(), Arc::clone(&one.standings)));
            self.standings = Arc::new(standings.collect());
        }
    }

    /// How all of them stand.
    #[must_use]
    pub fn standings(&self) -> Standings {
        Arc::clone(&self.standings)
    }

    /// Why no weight of a route may rise, when an error budget is frozen.
    #[must_use]
    pub fn frozen(&self, route: &str) -> Option<String> {
        let standings = &self.routes.get(route)?.standings;
        standings.iter().find(|standing| standing.reading.frozen).map(Standing::words)
    }

    /// Whether a route has objectives.
    #[must_use]
    pub fn has(&self, route: &str) -> bool {
        self.routes.contains_key(route)
    }

    /// Writes what was counted when it is time, beside everything else that goes on.
    fn write(&mut self, store: &Store, live: bool, now: UnixMillis) {
        let second = seconds(now);
        if !self.writer.is_due(live, second) {
            return;
        }
        self.forget(second);
        self.begin(store, second);
    }

    fn begin(&mut self, store: &Store, second: u64) {
        let burns = self.burns.iter().take(MAX_WRITTEN);
        let burns = burns.map(|(name, burn)| (name.clone(), Arc::clone(burn))).collect();
        self.writer.begin(store, burns, second);
    }

    /// Writes what was counted, and waits until it is written: another process counts on from there.
    pub async fn write_down(&mut self, store: &Store, second: u64) {
        for last in [false, true] {
            if let Some(running) = self.writer.running.take() {
                // One that failed has said so.
                let _ = running.await;
            }
            if !last && self.writer.dirty {
                self.begin(store, second);
            }
        }
    }

    /// Lets go of what nobody counts any more.
    fn forget(&mut self, second: u64) {
        let routes = &self.routes;
        let counted = |(route, name): &(String, String)| {
            let tracked = routes.get(route);
            tracked.is_some_and(|tracked| tracked.objectives.iter().any(|one| one.name == *name))
        };
        let mut idle = 0;
        self.burns.retain(|name, burn| {
            if counted(name) {
                return true;
            }
            idle += 1;
            idle <= MAX_IDLE && second.saturating_sub(burn.last()) < IDLE
        });
    }
}

impl Tracked {
    fn new(
        route: &Route,
        cells: &[Arc<Cell>],
        burns: &BTreeMap<(String, String), Arc<Burn>>,
        second: u64,
    ) -> Self {
        let standing = |objective: &Objective| {
            let burn = burns.get(&(route.name.to_string(), objective.name.clone()));
            let reading = burn
                .map_or_else(|| Burn::default().read(objective, second), |burn| burn.read(objective, second));
            Standing { objective: objective.clone(), reading }
        };
        let objectives = route.objectives.clone();
        Self {
            before: totals(cells, &objectives),
            standings: objectives.iter().map(standing).collect(),
            minute: second / 60,
            looked: 0,
            objectives,
        }
    }

    /// Counts a second; whether anything is different now.
    fn look(
        &mut self,
        cells: &[Arc<Cell>],
        burns: &mut BTreeMap<(String, String), Arc<Burn>>,
        writer: &mut Writer,
        route: &Route,
        second: u64,
    ) -> bool {
        let seen = self.since(cells);
        // Without traffic nothing changes but what a minute makes old.
        if seen == Counts::default() && std::mem::replace(&mut self.minute, second / 60) == second / 60 {
            return false;
        }
        let mut slow = seen.iter().skip(2);
        let standings = self.objectives.iter().map(|objective| {
            let bad = if objective.slower_than.is_some() { slow.next() } else { seen.get(1) };
            let burn = burns.entry((route.name.to_string(), objective.name.clone())).or_default();
            if seen[0] > 0 {
                Arc::make_mut(burn).add(second, seen[0], bad.copied().unwrap_or(0));
                writer.dirty = true;
            }
            Standing { objective: objective.clone(), reading: burn.read(objective, second) }
        });
        let standings: Arc<[Standing]> = standings.collect();
        for (before, now) in self.standings.iter().zip(standings.iter()) {
            writer.urgent |= tell(&route.name, before, now);
        }
        self.standings = standings;
        true
    }

    /// What cells counted since the last call.
    fn since(&mut self, cells: &[Arc<Cell>]) -> Counts {
        let now = totals(cells, &self.objectives);
        let mut sum = Counts::default();
        for (arm, upstream, counts) in &now {
            let mut known = self.before.iter();
            let before =
                known.find(|(name, by, _)| name == arm && by == upstream).map(|(_, _, counts)| *counts);
            for ((sum, now), before) in sum.iter_mut().zip(counts).zip(before.unwrap_or_default()) {
                *sum += now.saturating_sub(before);
            }
        }
        self.before = now;
        sum
    }
}

/// What cells have counted, by arm and answering upstream.
fn totals(cells: &[Arc<Cell>], objectives: &[Objective]) -> Vec<(Arc<str>, Arc<str>, Counts)> {
    let of = |cell: &Arc<Cell>| {
        let mut counts = Counts::default();
        let (n, bad) = cell.requests_and_errors();
        let slow = objectives.iter().filter_map(|objective| objective.slower_than);
        let all = [n, bad].into_iter().chain(slow.map(|nanos| cell.slower_than(nanos)));
        counts.iter_mut().zip(all).for_each(|(count, value)| *count = value);
        (Arc::clone(&cell.arm), Arc::clone(&cell.upstream), counts)
    };
    cells.iter().filter(|cell| cell.is_live()).map(of).collect()
}

/// Says what began and what ended; whether anything did.
fn tell(route: &str, before: &Standing, now: &Standing) -> bool {
    let objective = now.objective.name.as_str();
    let alarms = before.reading.alarm != now.reading.alarm;
    match now.alarm().filter(|_| alarms) {
        Some(alarm) => tracing::warn!(route, objective, %alarm, "the error budget burns too fast"),
        None if alarms => tracing::info!(route, objective, "the error budget no longer burns too fast"),
        None => {}
    }
    let freezes = before.reading.frozen != now.reading.frozen;
    match (freezes, now.reading.frozen) {
        (true, true) => tracing::warn!(route, objective, "no weight rises: {}", now.words()),
        (true, false) => tracing::info!(route, objective, "weights may rise again: there is error budget"),
        _ => {}
    }
    alarms || freezes
}

/// Writes what was counted, one write at a time.
#[derive(Debug, Default)]
struct Writer {
    /// Something was counted since the last write.
    dirty: bool,
    /// Something changed that a restart must know.
    urgent: bool,
    /// When it was last written, in Unix seconds.
    written: u64,
    running: Option<JoinHandle<()>>,
    /// The last write failed.
    failed: Arc<AtomicBool>,
}

impl Writer {
    fn is_due(&self, live: bool, second: u64) -> bool {
        let every = if live { WRITE_EVERY.0 } else { WRITE_EVERY.1 };
        let free = self.running.as_ref().is_none_or(JoinHandle::is_finished);
        let wanted = self.dirty || self.failed.load(Relaxed);
        free && wanted && (self.urgent || self.written.abs_diff(second) >= every)
    }

    fn begin(&mut self, store: &Store, burns: BTreeMap<(String, String), Arc<Burn>>, second: u64) {
        (self.dirty, self.urgent, self.written) = (false, false, second);
        let (store, failed) = (store.clone(), Arc::clone(&self.failed));
        self.running = Some(spawn_blocking(move || {
            let mut routes: BTreeMap<&str, BTreeMap<&str, &Burn>> = BTreeMap::new();
            for ((route, name), burn) in &burns {
                routes.entry(route).or_default().insert(name, burn);
            }
            let saved = store.keep(FILE, SCHEMA, &json!(routes));
            let before = failed.swap(saved.is_err(), Relaxed);
            if let Some(error) = saved.err().filter(|_| !before) {
                tracing::error!(%error, "error budgets cannot be written down; a restart would forget them");
            }
        }));
    }
}

impl Controller {
    /// The process began: what is left of error budgets is what was written down.
    pub(super) fn recall_objectives(&mut self) {
        let (plan, now) = (self.publisher.current(), self.clock.now());
        self.rollouts.objectives = Objectives::recall(&Store::at(&self.state_dir), &plan, &self.book, now);
    }

    /// A second passed: what users saw in it is counted toward objectives.
    pub(super) fn look_at_objectives(&mut self, now: Now) {
        let has = |route: &String| self.rollouts.objectives.has(route);
        let live = self.rollouts.iter().any(|(route, live)| live.rollout.is_live() && has(route));
        let objectives = &mut self.rollouts.objectives;
        objectives.look(&self.publisher.current(), &self.book, now.wall);
        objectives.write(&Store::at(&self.state_dir), live, now.wall);
    }
}

const fn seconds(now: UnixMillis) -> u64 {
    now.0 / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChoiceReason, CodeClass, Outcome, Overlay, Verdict, WorkerId};
    use crate::plan::tests::{BASE, load_files};

    const DAY: u64 = 86_400;

    fn plan(book: &Book, slo: &str) -> Plan {
        let text = format!("{BASE}routes: [{{ name: all, split: {{ stable: 1, canary: 1 }}{slo} }}]\n");
        load_files(&[("a.yaml", &text)], &Overlay::default(), book, None).expect("a plan").plan
    }

    fn serve(book: &Book, arm: &str, count: usize, verdict: Verdict, millis: u64) {
        let cell = book.cell(&"all".into(), &arm.into(), &arm.into());
        let outcome = Outcome {
            code: CodeClass::Success,
            verdict,
            choice: ChoiceReason::Random,
            failure: None,
            total_nanos: millis * 1_000_000,
            upstream_nanos: None,
            retries: [0; 5],
        };
        let shard = cell.shard(WorkerId(0)).expect("a shard");
        (0..count).for_each(|_| shard.record(&outcome));
    }

    const fn at(second: u64) -> UnixMillis {
        UnixMillis(second * 1_000)
    }

    fn budgets(objectives: &Objectives) -> Vec<f64> {
        let standings = objectives.standings();
        standings["all"].iter().map(|one| (one.reading.budget * 1e6).round() / 1e6).collect()
    }

    #[test]
    fn all_arms_together_are_counted_once() {
        let book = Book::new(1, 1);
        let slo =
            ", slo: { availability: 90%, latency: [{ threshold: 300ms, target: 50% }], freezeBelow: 10% }";
        let plan = plan(&book, slo);
        let mut objectives = Objectives::default();
        // What was before there were objectives is not theirs.
        serve(&book, "stable", 50, Verdict::Error, 400);
        objectives.look(&plan, &book, at(1_000_000));
        assert_eq!(budgets(&objectives), [1.0, 1.0]);
        serve(&book, "stable", 90, Verdict::Ok, 300);
        serve(&book, "canary", 5, Verdict::Error, 301);
        serve(&book, "canary", 5, Verdict::ClientClosed, 301);
        objectives.look(&plan, &book, at(1_000_001));
        assert_eq!(budgets(&objectives), [0.5, 0.8]);
        (2..10).for_each(|second| objectives.look(&plan, &book, at(1_000_000 + second)));
        assert_eq!((budgets(&objectives), objectives.frozen("all")), (vec![0.5, 0.8], None));
        serve(&book, "stable", 50, Verdict::Error, 1);
        objectives.look(&plan, &book, at(1_000_020));
        let words = "availability has -266.7 % of its error budget left, below 10 %";
        assert_eq!(objectives.frozen("all").as_deref(), Some(words));
        // Twenty seconds say nothing of three days.
        assert_eq!(objectives.standings()["all"][0].alarm(), None);
    }

    #[test]
    fn what_an_edit_takes_away_comes_back_with_it_within_a_day() {
        let book = Book::new(1, 1);
        let (with, without) = (plan(&book, ", slo: { availability: 90% }"), plan(&book, ""));
        let mut objectives = Objectives::default();
        objectives.look(&with, &book, at(10 * DAY));
        serve(&book, "stable", 100, Verdict::Error, 1);
        objectives.look(&with, &book, at(10 * DAY + 1));
        objectives.look(&without, &book, at(10 * DAY + 2));
        assert!(objectives.standings().is_empty() && !objectives.has("all"));
        serve(&book, "stable", 1_000, Verdict::Error, 1);
        for (second, left) in [(11 * DAY - 60, -9.0), (12 * DAY, 1.0)] {
            objectives.forget(second);
            objectives.look(&with, &book, at(second));
            assert_eq!(budgets(&objectives), [left]);
            objectives.look(&without, &book, at(second));
        }
    }

    #[tokio::test]
    async fn what_was_written_is_recalled() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path(), at(1)).store;
        let book = Book::new(1, 1);
        let plan = plan(&book, ", slo: { availability: 90%, window: 1h }");
        let mut objectives = Objectives::recall(&store, &plan, &book, at(1_000_000));
        serve(&book, "stable", 99, Verdict::Ok, 1);
        serve(&book, "stable", 1, Verdict::Error, 1);
        objectives.look(&plan, &book, at(1_000_001));
        objectives.write(&store, true, at(1_000_004));
        assert!(objectives.writer.running.is_none(), "not yet");
        objectives.write(&store, false, at(1_000_059));
        assert!(objectives.writer.running.is_none(), "not yet");
        objectives.write(&store, true, at(1_000_005));
        objectives.writer.running.take().expect("it writes").await.expect("written");
        let again = Objectives::recall(&store, &plan, &Book::new(1, 1), at(1_000_009));
        assert_eq!(again.standings(), objectives.standings());
        assert_eq!(again.burns, objectives.burns);
        // Nothing new is nothing to write.
        objectives.write(&store, false, at(2_000_000));
        assert!(objectives.writer.running.is_none());
    }
}
