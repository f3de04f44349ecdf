//! Decisions made together, carried out together: one compilation, one publish, one write.
//!
//! What goes toward stable is published at once and written after; what goes toward the new version
//! waits for the disk without holding up anything, and gives way to whatever is safer. It must never
//! decide by itself, and never wait for a disk.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::by_hand;
use super::command::{By, WeightsDone};
use super::controller::{Controller, blocking};
use super::flips;
use super::order;
use super::refusal::{Refusal, RefusalKind, find, refused};
use super::rollouts::Decided;
use crate::model::{Overlay, RouteOverlay};
use crate::plan::{Inputs, Plan, Route, reweigh};
use crate::rollout::state::Phase;
use crate::rollout::{Event, Move, Order, Outcome, flip};

/// Changes that wait for the disk at most; beyond that they are refused.
const MAX_AHEAD: usize = 1_024;

/// Where an answer goes.
pub(super) type Reply = oneshot::Sender<Result<WeightsDone, Refusal>>;

/// Who asked for a change.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) by: By,
    /// What was asked, as the journal has it.
    pub(super) what: &'static str,
    /// The words of it; `None` are the weights themselves.
    pub(super) words: Option<Value>,
    pub(super) reply: Reply,
}

/// One change of one route, decided and not yet done.
pub(super) struct Change {
    pub(super) route: String,
    pub(super) decided: Option<Decided>,
    /// Weights by hand: set, or given back.
    pub(super) weights: Option<Option<RouteOverlay>>,
    /// What became of its slots.
    pub(super) flip: Option<flip::Outcome>,
    /// It gives the new version more: it must be on the disk first.
    pub(super) ahead: bool,
    /// What is to be said, by number and hook.
    pub(super) parcels: Vec<(u64, String)>,
    pub(super) asked: Option<Asked>,
}

/// Changes of one moment.
#[derive(Default)]
pub(super) struct Batch {
    /// Accepted: what is in force must follow.
    pub(super) now: Vec<Change>,
    /// Nothing of it is true before it is written.
    ahead: Vec<Change>,
    /// Routes with a change that waits for the disk, of this batch and of those before it.
    waits: BTreeSet<String>,
    /// Routes that must be compiled anew.
    pub(super) moved: BTreeSet<String>,
}

impl Change {
    /// What an outcome makes of a route.
    pub(super) fn of(route: &Route, decided: Decided) -> Self {
        Self {
            route: route.name.to_string(),
            ahead: decided.outcome.moves.contains(&Move::Persist(Order::BeforePublish)),
            decided: Some(decided),
            weights: None,
            flip: None,
            parcels: Vec::new(),
            asked: None,
        }
    }

    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.decided.as_ref().map(|decided| &decided.outcome)
    }

    pub(super) fn has(&self, one: &Move) -> bool {
        self.outcome().is_some_and(|outcome| outcome.moves.contains(one))
    }

    fn persists(&self) -> bool {
        self.weights.is_some()
            || self.flip.as_ref().is_some_and(flips::persists)
            || self.has(&Move::Persist(Order::AfterPublish))
            || self.has(&Move::ClearManualWeights)
    }

    pub(super) fn refuse(self, refusal: Refusal) {
        if let Some(asked) = self.asked {
            // An asker that went away loses only the answer.
            let _ = asked.reply.send(Err(refusal));
        }
    }
}

impl Controller {
    /// Decides events in their order and carries out what comes of them; whether anything is written.
    pub(super) async fn happen_all(&mut self, events: Vec<(String, Event)>) -> bool {
        let plan = self.publisher.current();
        let mut batch = self.batch();
        for (name, event) in events {
            match self.decide(&plan, &name, &event) {
                Ok(Some(change)) => self.admit(&plan, change, matches!(event, Event::Tick(_)), &mut batch),
                Ok(None) => {}
                Err(refusal) => {
                    let (code, why) = (refusal.code, refusal.message);
                    tracing::warn!(route = name, code, "a rollout did not take an event: {why}");
                }
            }
        }
        self.carry_out(batch).await
    }

    /// One change that somebody asked for.
    pub(super) async fn change(&mut self, change: Change) {
        let mut batch = self.batch();
        self.admit(&self.publisher.current(), change, false, &mut batch);
        self.carry_out(batch).await;
        self.tell();
    }

    /// What an event does to the rollout of a route; nothing has changed yet.
    pub(super) fn decide(&self, plan: &Plan, name: &str, event: &Event) -> Result<Option<Change>, Refusal> {
        let route = match event {
            // A route that is gone has no traffic to judge.
            Event::Tick(_) if plan.route_named(name).is_none() => return Ok(None),
            _ => find(plan, name)?,
        };
        match self.rollouts.decide(route, event, self.moment()) {
            None => Ok(None),
            Some(Ok(decided)) => Ok(Some(Change::of(route, decided))),
            Some(Err(why)) => Err(super::conduct::refusal(&why, route.generation)),
        }
    }

    /// Takes a change into a batch; what is safer overtakes what still waits for the disk.
    pub(super) fn admit(&mut self, plan: &Plan, mut change: Change, tick: bool, batch: &mut Batch) {
        let Some(route) = plan.route_named(&change.route) else { return };
        if batch.waits.contains(&change.route) {
            let idle = !self.matters(&change) && (tick || change.asked.is_none() && !change.persists());
            if idle || tick && change.ahead {
                return;
            }
            if change.ahead {
                return change.refuse(busy(route));
            }
            self.overtake(route, batch);
        }
        if change.ahead && batch.waits.len() >= MAX_AHEAD {
            // What a second asked for is asked for again by the next one.
            return change.refuse(busy(route));
        }
        if let Some(outcome) = change.outcome() {
            change.parcels = self.put_out(route, outcome);
        }
        if let Some(flip) = &change.flip {
            change.parcels.extend(self.put_out_flip(&route.name, flip));
        }
        if change.ahead {
            batch.waits.insert(change.route.clone());
            batch.ahead.push(change);
        } else {
            batch.moved.extend(self.take(route, &mut change));
            batch.now.push(change);
        }
    }

    /// Makes a change the state from now on, and takes the state out of it; gives its route when the plan must follow.
    pub(super) fn take(&mut self, route: &Arc<Route>, change: &mut Change) -> Option<String> {
        let mut moved = false;
        let ended = self.pins_ended_by(change);
        self.overlay.end_pins(&change.route, &ended, self.clock.now().0);
        if let Some(decided) = &mut change.decided {
            let outcome = &decided.outcome;
            self.look_again |=
                leaves_promotion(self.rollouts.get(&change.route).map(|live| live.rollout.phase), outcome);
            let now = self.moment();
            moved |= self.rollouts.accept(route, decided, fastrand::u64(..), now);
        }
        if change.has(&Move::ClearManualWeights) {
            moved |= self.overlay.routes.remove(&change.route).is_some();
        }
        if let Some(weights) = &change.weights {
            match weights {
                Some(entry) => self.overlay.routes.insert(change.route.clone(), entry.clone()),
                None => self.overlay.routes.remove(&change.route),
            };
            moved = true;
        }
        moved |= self.take_slots(change);
        moved.then(|| change.route.clone())
    }

    /// Publishes what moved, and has the rest written; whether anything is.
    pub(super) async fn carry_out(&mut self, batch: Batch) -> bool {
        let Batch { now, ahead, moved, .. } = batch;
        let before = self.publisher.current();
        let failed = self.republish(&moved).await.err();
        let persist = now.iter().any(Change::persists) || !ahead.is_empty();
        if persist {
            self.writer.hold();
        }
        let (mut parcels, mut answers) = (Vec::new(), Vec::new());
        for change in now {
            let done = self.finish(&before, change, &mut parcels);
            if let Some((reply, done)) = done {
                answers.push((reply, failed.clone().map_or(Ok(done), Err)));
            }
        }
        self.tell_decided();
        if persist {
            let answers = answers.into_iter().filter_map(|(reply, done)| match done {
                Ok(done) => Some((reply, done)),
                Err(refusal) => {
                    let _ = reply.send(Err(refusal));
                    None
                }
            });
            let answers = answers.collect();
            self.submit(ahead, parcels, answers);
            return true;
        }
        for (reply, done) in answers {
            let _ = reply.send(done);
        }
        for (number, route, hook) in parcels {
            self.send(number, &route, &hook);
        }
        self.deliver();
        false
    }

    /// Tells what a change did; gives what is to be answered.
    pub(super) fn finish(
        &mut self,
        before: &Plan,
        change: Change,
        parcels: &mut Vec<(u64, String, String)>,
    ) -> Option<(Reply, WeightsDone)> {
        let Change { route: name, decided, flip, parcels: said, asked, .. } = change;
        parcels.extend(said.into_iter().map(|(number, hook)| (number, name.clone(), hook)));
        let now = self.publisher.current();
        let (old, new) = (before.route_named(&name), now.route_named(&name));
        if let Some(Decided { outcome, .. }) = &decided {
            self.tell_people(&name, outcome);
        }
        if let Some(flip) = &flip {
            let shifted = old.zip(new).map(|(old, new)| by_hand::shifted(old, new));
            self.tell_flip(&name, flip, shifted.as_ref());
        }
        let (asked, old, new) = (asked?, old?, new?);
        self.record_by_hand(&asked, old, new);
        let done = WeightsDone {
            generation: new.generation,
            changed: order::changed(old, new),
            flip: flip.map(|outcome| outcome.next),
        };
        let (from, to) = match asked.words {
            Some(words) => (words, json!(done.generation.0)),
            None => (super::weights::weights_json(old), super::weights::weights_json(new)),
        };
        tracing::info!(route = name, actor = %asked.by.actor, reason = ?asked.by.reason, before = %from, after = %to, "{}", asked.what);
        self.journal(asked.what, &name, &asked.by, from, to);
        Some((asked.reply, done))
    }

    /// Puts routes in force as they are meant now.
    pub(super) async fn republish(&mut self, moved: &BTreeSet<String>) -> Result<(), Refusal> {
        if moved.is_empty() {
            return Ok(());
        }
        let routes =
            moved.iter().filter_map(|name| Some((name.clone(), self.overlay.routes.get(name)?.clone())));
        let slots =
            moved.iter().filter_map(|name| Some((name.clone(), self.overlay.slots.get(name)?.clone())));
        let ended = self.overlay.pins_ended.iter().filter(|(name, _)| moved.contains(*name));
        let overlay = Overlay {
            routes: routes.collect(),
            pins_ended: ended.map(|(name, arms)| (name.clone(), arms.clone())).collect(),
            slots: slots.collect(),
            guided: self.rollouts.guided_of(moved),
        };
        let plan = self.weigh(overlay, moved.clone()).await.inspect_err(|refusal| {
            tracing::error!(
                code = refusal.code,
                "weights that moved cannot be compiled: {}",
                refusal.message
            );
        })?;
        let generation = plan.generation;
        self.publisher.publish(plan);
        self.meters.published(generation);
        self.rollouts.reweighed(&self.publisher.current(), moved);
        Ok(())
    }

    /// The plan in force with other weights of some routes.
    pub(super) async fn weigh(&self, overlay: Overlay, names: BTreeSet<String>) -> Result<Plan, Refusal> {
        let (loaded, book, previous) =
            (Arc::clone(&self.loaded), Arc::clone(&self.book), self.publisher.current());
        let (now, generation) = (self.clock.now().seconds(), previous.generation);
        let weighed = blocking(move || {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let inputs = Inputs {
                spec: &loaded.spec,
                lists: &loaded.lists,
                env: &loaded.env,
                overlay: &overlay,
                book: &book,
                previous: Some(&previous),
                now,
            };
            reweigh(inputs, &names)
        });
        // What compiled a moment ago compiles with other weights.
        let plan = weighed.await?.map_err(|found| refused(generation, found))?;
        plan.ok_or_else(|| refused(generation, Vec::new()))
    }

    pub(super) fn waits(&self, route: &str) -> bool {
        self.waiting.iter().flat_map(|one| &one.ahead).any(|change| change.route == route)
    }

    /// Nothing yet, beside what waits for the disk already.
    fn batch(&self) -> Batch {
        let waits = self.waiting.iter().flat_map(|one| &one.ahead).map(|change| change.route.clone());
        Batch { waits: waits.collect(), ..Batch::default() }
    }

    /// What a safer change takes the place of.
    fn overtake(&mut self, route: &Route, batch: &mut Batch) {
        batch.waits.remove(&*route.name);
        let lists = self.waiting.iter_mut().map(|one| &mut one.ahead).chain([&mut batch.ahead]);
        let over: Vec<Change> =
            lists.flat_map(|list| list.extract_if(.., |change| *change.route == *route.name)).collect();
        for change in over {
            for (number, _) in &change.parcels {
                self.outbox.remove(*number);
            }
            change.refuse(overtaken(route));
        }
    }

    /// Whether a second changes more than the time that passed.
    fn matters(&self, change: &Change) -> bool {
        let Some((live, outcome)) = self.rollouts.get(&change.route).zip(change.outcome()) else {
            return false;
        };
        let key = |one: &crate::rollout::Rollout| {
            (one.phase, one.share, one.manual, one.step, one.direction, one.run)
        };
        key(&live.rollout) != key(&outcome.next)
    }
}

/// A version that was promoted and stood in the way of the file's next one does so no longer.
fn leaves_promotion(before: Option<Phase>, outcome: &Outcome) -> bool {
    before != Some(outcome.next.phase) && matches!(outcome.next.phase, Phase::Finished | Phase::Aborted)
}

fn busy(route: &Route) -> Refusal {
    Refusal::new(RefusalKind::Conflict, "busy", "a change of this route is being written down")
        .hint("repeat it in a moment; moves back need not wait")
        .generation(route.generation)
}

pub(super) fn overtaken(route: &Route) -> Refusal {
    Refusal::new(RefusalKind::Conflict, "overtaken", "something safer happened while it was written down")
        .hint("look at it again, then repeat it if it is still meant")
        .generation(route.generation)
}
