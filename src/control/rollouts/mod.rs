//! Rollouts under way, second by second: counts in, findings, moves out.
//!
//! The controller owns it and does what comes out. Decisions are made in [`crate::rollout`] and
//! [`crate::analysis`], both pure. It must never publish or write by itself.

mod after;
pub mod counts;
pub mod live;
mod rate;
pub mod report;
pub mod ring;
pub mod sampled;
#[cfg(test)]
mod single_users;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::absent::Absent;
use super::differences::Differences;
use super::objectives::Objectives;
use super::putback::{Marks, mark};
use super::store::Kept;
use crate::ledger::Book;
use crate::model::Guided;
use crate::model::time::UnixMillis;
use crate::plan::{Plan, Route, WeightSource};
use crate::rollout::{Event, Outcome, Refused, Scene, transition, windows};

use live::guide;
pub use live::{Live, Remembered};
pub use report::RolloutReport;

/// All rollouts by route.
#[derive(Debug, Default)]
pub struct Rollouts {
    lives: BTreeMap<String, Live>,
    /// The analyzer's second when the process began, and how long it was away.
    base: u64,
    down: u64,
    /// Marks of versions that were put back and that no route has had since the start.
    pub unseen: Marks,
    /// How rollouts ended of routes that the file does not have.
    pub absent: BTreeMap<String, Absent>,
    /// What is done can be written down.
    pub store: bool,
    /// What routes promise, with a rollout or without.
    pub objectives: Objectives,
    /// What mirrored requests showed.
    pub differences: Differences,
}

/// What an event does to a rollout, and what was true when that was decided.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What it does.
    pub outcome: Outcome,
    /// What was true.
    pub scene: Scene,
    /// The analyzer's second.
    pub second: u64,
    /// The event was that a second passed.
    pub tick: bool,
}

/// What time it is, on every clock that matters.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Wall clock.
    pub wall: UnixMillis,
    /// Since the process began, on a clock that never steps.
    pub monotonic: std::time::Duration,
}

impl Rollouts {
    /// None yet.
    #[must_use]
    pub fn new(base: u64, down: u64) -> Self {
        Self { base, down, store: true, ..Self::default() }
    }

    /// The analyzer's second.
    #[must_use]
    pub fn second(&self, now: Now) -> u64 {
        self.base + now.monotonic.as_secs()
    }

    /// A rollout.
    #[must_use]
    pub fn get(&self, route: &str) -> Option<&Live> {
        self.lives.get(route)
    }

    /// A rollout, to be changed.
    pub fn get_mut(&mut self, route: &str) -> Option<&mut Live> {
        self.lives.get_mut(route)
    }

    /// Adds or replaces a rollout.
    pub fn insert(&mut self, route: &str, live: Live) {
        self.lives.insert(route.to_owned(), live);
    }

    /// Every rollout by route.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Live)> {
        self.lives.iter()
    }

    /// A route has this version in the file: when it is marked as put back, it does not start by itself.
    pub fn claim(&mut self, route: &str, version: &str) {
        let Some(live) = self.lives.get_mut(route) else { return };
        let under_way = live.rollout.is_live() && live.rollout.identity.version == version;
        if self.unseen.remove(&mark(route, version)).is_some() && !under_way {
            live.rollout.lock(version);
        }
    }

    /// Begins a new weight epoch wherever two arms are compared; whether there is one.
    pub fn renew_epochs(&mut self) -> bool {
        let mut any = false;
        for live in self.lives.values_mut().filter(|live| live.guided().compared.is_some()) {
            live.next_epoch(fastrand::u64(..));
            any = true;
        }
        any
    }

    /// Bad outcomes of all canaries in their present steps.
    #[must_use]
    pub fn bad_seen(&self) -> u64 {
        self.lives.values().filter_map(|live| live.finding.as_ref()).map(|finding| finding.canary.e).sum()
    }

    /// What the plan must be compiled with.
    #[must_use]
    pub fn guided(&self) -> BTreeMap<String, Guided> {
        self.lives.iter().map(|(route, live)| (route.clone(), live.guided())).collect()
    }

    /// What these routes must be compiled with.
    #[must_use]
    pub fn guided_of(&self, names: &BTreeSet<String>) -> BTreeMap<String, Guided> {
        let known = names.iter().filter_map(|name| Some((name.clone(), self.lives.get(name)?.guided())));
        known.collect()
    }

    /// What to remember.
    #[must_use]
    pub fn to_remember(&self, now: Now) -> BTreeMap<String, Remembered> {
        let second = self.second(now);
        self.lives.iter().map(|(route, live)| (route.clone(), live.to_remember(second))).collect()
    }

    /// How all of them are.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, RolloutReport> {
        self.lives.iter().map(|(route, live)| (route.clone(), RolloutReport::of(live))).collect()
    }

    /// Reads what a second left of every route, and gives the events it is.
    pub fn look(&mut self, book: &Book, now: Now) -> Vec<(String, Event)> {
        let second = self.second(now);
        let ended = (now.wall.0 / 1_000).saturating_sub(1);
        let (routes, differences) = (self.lives.len(), &self.differences);
        let events = self.lives.iter_mut().map(|(route, live)| {
            let warm = live.analyzer.as_ref().is_some_and(|analyzer| analyzer.is_warm(second + 1));
            live.rate.see(second, counted(book, route, &live.rollout));
            let ticks = live.counts.take(book, route, second, ended, warm, &mut live.sampled);
            live.after.look(book, route, &live.rollout);
            live.ticks.share(routes);
            let finding = live.judge(ticks).or_else(|| live.judge_shadow(route, second, differences));
            live.checks.follow(route, &live.rollout, &live.policy);
            (route.clone(), Event::Tick(finding.map(Box::new)))
        });
        events.collect()
    }

    /// What an event does to the rollout of a route; nothing has changed yet.
    ///
    /// # Errors
    /// When it is asked for and not possible now.
    pub fn decide(&self, route: &Route, event: &Event, now: Now) -> Option<Result<Decided, Refused>> {
        let live = self.lives.get(&*route.name)?;
        let policy = route.policy.as_deref().unwrap_or(&live.policy);
        let (scene, second) = (self.scene(route, live, now), self.second(now));
        let tick = matches!(event, Event::Tick(_));
        let outcome = transition(&live.rollout, policy, event, &scene);
        Some(outcome.map(|outcome| Decided { outcome, scene, second, tick }))
    }

    /// Takes an outcome as the state from now on, out of what was decided; gives whether the plan must
    /// change for it.
    pub fn accept(&mut self, route: &Route, decided: &mut Decided, seed: u64, now: Now) -> bool {
        use crate::rollout::moves::{Analyze, Move};
        let Decided { outcome, scene, tick, .. } = decided;
        let (second, down) = (self.second(now), self.down);
        let Some(live) = self.lives.get_mut(&*route.name) else { return false };
        let was = std::mem::replace(&mut live.rollout, std::mem::take(&mut outcome.next));
        live.entered(&was, &route.name, &self.differences);
        if *tick {
            live.decided(&was, scene, decided.second);
        }
        let policy = Arc::clone(&live.policy);
        if let Some(policy) = &route.policy {
            live.policy = Arc::clone(policy);
        }
        let mut steps = false;
        for one in &outcome.moves {
            if let Move::Analyze(what) = one {
                steps |= matches!(what, Analyze::EnterStep { .. });
                live.analyze(what, second, down);
                if !matches!(what, Analyze::Resume | Analyze::Policy) {
                    live.sampled.begin(live.epoch + 1);
                }
            }
        }
        if !*tick {
            live.moved(&was, scene.monotonic, second);
        }
        if guide(&live.rollout, &live.policy) != guide(&was, &policy) || steps {
            live.next_epoch(seed);
            return true;
        }
        false
    }

    /// The plan is in force: epochs that it opened are read from now on.
    pub fn published(&mut self, plan: &Plan) {
        for (route, live) in &mut self.lives {
            if let Some(route) = plan.route_named(route) {
                live.published(route);
            }
        }
    }

    /// The same of a plan in which only these routes are new.
    pub fn reweighed(&mut self, plan: &Plan, names: &BTreeSet<String>) {
        for name in names {
            if let (Some(live), Some(route)) = (self.lives.get_mut(name), plan.route_named(name)) {
                live.published(route);
            }
        }
    }

    fn scene(&self, route: &Route, live: &Live, now: Now) -> Scene {
        let alive = |name: &str| {
            let arm = route.arms.iter().find(|arm| &*arm.name == name);
            let endpoints = arm.into_iter().flat_map(|arm| &*arm.upstream.endpoints);
            endpoints.into_iter().any(|endpoint| !endpoint.cell.addresses.get().is_empty())
        };
        let all = &live.policy.conduct.windows;
        let window_open = windows::is_open(all, now.wall, offset);
        let frozen = self.objectives.frozen(&route.name);
        Scene {
            monotonic: u64::try_from(now.monotonic.as_millis()).unwrap_or(u64::MAX),
            wall: now.wall,
            window_open,
            opens: if window_open { None } else { windows::opens(all, now.wall, offset) },
            budget_frozen: frozen.is_some(),
            budget: frozen.unwrap_or_default(),
            from_alive: alive(&live.rollout.identity.from),
            to_alive: alive(&live.rollout.identity.to),
            store: self.store,
            checks: live.checks.word(),
            check: live.checks.number(),
            suffered: live.sampled.suffered(),
            lately: live.after.lately(),
            rate: live.rate.steady(),
            weights_by_hand: by_hand(route, live),
        }
    }
}

/// Whether a person's weights are in force on one of the two arms.
fn by_hand(route: &Route, live: &Live) -> bool {
    let identity = &live.rollout.identity;
    let arms = route.arms.iter().filter(|arm| [&*identity.from, &*identity.to].contains(&&*arm.name));
    arms.into_iter().any(|arm| arm.source == WeightSource::Operator)
}

/// Requests that have ended on the two arms of a rollout.
fn counted(book: &Book, route: &str, rollout: &crate::rollout::Rollout) -> u64 {
    let arms = [rollout.identity.from.as_str(), rollout.identity.to.as_str()];
    let cells = book.route_cells(route);
    cells.iter().filter(|cell| arms.contains(&&*cell.arm)).map(|cell| cell.requests_and_errors().0).sum()
}

/// Seconds east of UTC of a zone; `None` for one that this machine does not know.
fn offset(zone: &str, wall: UnixMillis) -> Option<i32> {
    let zone = jiff::tz::TimeZone::get(zone).ok()?;
    let at = jiff::Timestamp::from_second(wall.seconds()).ok()?;
    Some(zone.to_offset(at).seconds())
}

/// Rollouts as they were remembered, for the routes that the plan still has.
#[must_use]
pub fn recall(kept: Kept, plan: &Plan, wall: UnixMillis) -> Rollouts {
    let base = kept.by_route.values().map(|known| known.second + 1).max().unwrap_or(0);
    let down = wall.0.saturating_sub(kept.at_millis) / 1_000;
    let mut rollouts = Rollouts::new(base, if kept.by_route.is_empty() { 0 } else { down });
    rollouts.absent = kept.absent;
    for (route, known) in kept.by_route {
        let policy = plan.route_named(&route).map(|route| route.policy.clone().unwrap_or_default());
        // A route that is gone has no weights to guide.
        if let Some(policy) = policy {
            rollouts.insert(&route, Live::remembered(policy, known));
        }
    }
    rollouts
}
