//! Draining: an arm gets no new users, and keeps those pinned to it until their pins are over.
//!
//! When its time is over tunnels that are left are closed, and people are told once nothing is left.
//! Its counterpart is here too: what ends the pins of an arm at once. It must never end pins of an arm
//! that is drained, nor leave those of one that was put back.

use std::collections::{BTreeMap, BTreeSet};

use super::batch::{Asked, Change, Reply};
use super::command::DrainAsk;
use super::controller::Controller;
use super::flips;
use super::refusal::{Refusal, RefusalKind, find, whole_split};
use crate::ledger::Book;
use crate::plan::{Arm, Route};
use crate::rollout::moves::{Actor, Level, Notice};
use crate::rollout::{Phase, Record, Rollout};

impl Controller {
    /// Takes an arm's weight; the answer goes when it is done.
    pub(super) async fn drain(&mut self, ask: DrainAsk, reply: Reply) {
        let DrainAsk { route: name, arm, by, expected } = ask;
        let wanted = find(&self.publisher.current(), &name).and_then(|route| without(route, &arm));
        let change = match wanted {
            Ok((weights, mut draining)) => {
                draining.entry(arm).or_insert(self.clock.now().0);
                self.weights_change(&name, Some(weights), &draining, &by, expected).await
            }
            Err(refusal) => Err(refusal),
        };
        self.weights_changed(&name, change, Asked { by, what: "drain", words: None, reply }).await;
    }

    /// A second passed: drains that are over are told.
    pub(super) fn drains_second(&mut self) {
        let (plan, now) = (self.publisher.current(), self.clock.now().0);
        let mut over = Vec::new();
        for (name, entry) in &self.overlay.routes {
            let Some(route) = plan.route_named(name).filter(|_| !entry.draining.is_empty()) else { continue };
            for arm in &route.arms {
                let Some(drain) = route.drain(arm) else { continue };
                let left = running(&self.book, name, &arm.name);
                if now >= drain.tunnels_until {
                    end_tunnels(&self.book, name, &arm.name, drain.tunnels_until);
                }
                let told = entry.drained.get(&*arm.name) == Some(&drain.since);
                if !told && drain.is_over(left, now) {
                    over.push((name.clone(), arm.name.to_string(), drain.since));
                }
            }
        }
        if over.is_empty() {
            return;
        }
        let mut parcels = Vec::new();
        for (name, arm, since) in over {
            parcels.extend(self.drained(&name, &arm, since));
            if let Some(entry) = self.overlay.routes.get_mut(&name) {
                entry.drained.insert(arm, since);
            }
        }
        self.submit(Vec::new(), parcels, Vec::new());
    }

    /// A second passed: tunnels of what a rollout put back stay as long as those of a drained arm. One
    /// that a person gave weight again, or drains, is theirs.
    pub(super) fn put_back_second(&mut self) {
        let (plan, now) = (self.publisher.current(), self.clock.now().0);
        let put_back =
            |rollout: &Rollout| matches!(rollout.phase, Phase::Reverting | Phase::Reverted | Phase::Aborted);
        let mut known = std::mem::take(&mut self.reverted);
        for (name, live) in self.rollouts.iter().filter(|(_, live)| put_back(&live.rollout)) {
            let arm = live.rollout.void_arm();
            let Some((route, arm)) = plan.route_named(name).zip(arm) else { continue };
            let idle = |one: &Arm| *one.name == *arm && one.weight == 0 && one.draining.is_none();
            if !route.arms.iter().any(idle) {
                continue;
            }
            let key = (name.to_owned(), arm.to_owned());
            let since = known.remove(&key).unwrap_or(now);
            let until = since.saturating_add(route.tunnels_stay());
            if now >= until {
                end_tunnels(&self.book, name, arm, until);
            }
            self.reverted.insert(key, since);
        }
    }

    /// Nothing is left of a drained arm: the log, the history and every receiver hear of it.
    fn drained(&mut self, route: &str, arm: &str, since: u64) -> Vec<Parcelled> {
        let text = format!("{arm} is drained: nothing is in flight on it, and no pin to it holds");
        let notice = Notice { key: 0, level: Level::Info, code: "drained".into(), text };
        tracing::info!(route, arm, code = "drained", "{}", notice.text);
        self.record(route, &record(&notice, self.clock.now().0));
        let plan = self.publisher.current();
        let said = plan.notify.iter().map(|to| flips::drained(to, route, arm, since, &notice));
        said.map(|one| (one.hook.clone(), self.outbox.add(one)))
            .map(|(hook, number)| (number, route.to_owned(), hook))
            .collect()
    }

    /// The arms whose pins end with a change: those that a person or a rollout takes back.
    pub(super) fn pins_ended_by(&self, change: &Change) -> Vec<String> {
        let plan = self.publisher.current();
        let pinned = plan.route_named(&change.route).is_some_and(|route| route.split.pin.is_some());
        if !pinned {
            return Vec::new();
        }
        let set = change.weights.as_ref().and_then(Option::as_ref);
        let zeroed = set.into_iter().flat_map(|set| &set.weights).filter(|(_, weight)| **weight == 0);
        let before = self.rollouts.get(&change.route).and_then(|live| live.rollout.void_arm());
        let back = change.outcome().and_then(|outcome| outcome.next.void_arm());
        let mut ended: BTreeSet<&str> = zeroed.map(|(arm, _)| arm.as_str()).collect();
        ended.extend(back.filter(|_| back != before));
        // Nobody is kept on the slot that served before.
        let slots = self.slots_after(change);
        ended.extend(slots.as_ref().map(|slots| slots.idle.as_str()));
        let drained = |arm: &str| set.is_some_and(|set| set.draining.contains_key(arm));
        ended.into_iter().filter(|arm| !drained(arm)).map(str::to_owned).collect()
    }
}

/// Has tunnels of an arm closed that were opened until a moment in Unix milliseconds.
pub(super) fn end_tunnels(book: &Book, route: &str, arm: &str, until_millis: u64) {
    let cells = book.route_cells(route);
    let of_arm = cells.iter().filter(|cell| *cell.arm == *arm);
    let news: u64 = of_arm.filter(|cell| cell.end_tunnels(until_millis)).map(|cell| cell.tunnels()).sum();
    if news > 0 {
        tracing::warn!(route, arm, tunnels = news, "the time of the drain is over: tunnels are closed");
    }
}

/// Requests and tunnels of an arm.
fn running(book: &Book, route: &str, arm: &str) -> u64 {
    let cells = book.route_cells(route);
    cells.iter().filter(|cell| *cell.arm == *arm).map(|cell| cell.in_flight() + cell.tunnels()).sum()
}

/// Something to say: its number, the route and whom it is for.
type Parcelled = (u64, String, String);

fn record(notice: &Notice, now: u64) -> Record {
    Record {
        key: notice.key,
        code: notice.code.clone(),
        reason: notice.text.clone(),
        ..Record::plain(now, "DRAINING".into(), "DRAINED".into(), Actor::Timer)
    }
}

/// Weights by arm, and since when arms are drained.
type Wanted = (BTreeMap<String, u32>, BTreeMap<String, u64>);

/// The weights in force without an arm's, and the arms that are drained already.
fn without(route: &Route, arm: &str) -> Result<Wanted, Refusal> {
    let others = route.arms.iter().filter(|other| *other.name != *arm);
    let mut weights: BTreeMap<String, u32> =
        others.map(|other| (other.name.to_string(), other.weight)).collect();
    let left = weights.values().any(|weight| *weight > 0);
    weights.insert(arm.to_owned(), 0);
    let weights = whole_split(route, &weights)?;
    if !left {
        let message = format!("no other arm of route `{}` has weight", route.name);
        return Err(Refusal::new(RefusalKind::Conflict, "last-arm", message)
            .hint("give another arm weight first")
            .generation(route.generation));
    }
    let draining = route.arms.iter().filter_map(|one| Some((one.name.to_string(), one.draining?)));
    Ok((weights, draining.collect()))
}
