//! What rollouts make the controller do: decisions of the state machine become plans, writes, records.
//!
//! Toward the new version what will be is written before it is published, toward the old one after.
//! A decision that cannot be written down never raises a weight. It must never decide by itself.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::batch::{Asked, Change, Reply};
use super::command::{By, RolloutAsk};
use super::controller::{Candidate, Controller};
use super::load::Loaded;
use super::notices::{self, About};
use super::order::{self, Direction};
use super::outbox::{self, Delivered, Parcel, To};
use super::refusal::{Refusal, RefusalKind, find, mismatch};
use super::rollouts::Now;
use super::rollouts::live::{Live, identity};
use super::rollouts::report::{Conducted, Line};
use super::store::Kept;
use crate::model::{Diagnostic, Generation, Place, RouteOverlay};
use crate::plan::{Plan, Route};
use crate::rollout::event::Role;
use crate::rollout::moves::Level;
use crate::rollout::{Event, Identity, Move, Outcome, Record, Refused, Rollout, Scheme, Share};

/// Seconds between two writes of a rollout that only gathers evidence.
const WRITE_EVERY: u64 = 5;
/// How far into a second the one before is read: its last outcomes are known by then.
const INTO_SECOND: Duration = Duration::from_millis(20);

impl Controller {
    pub(super) fn moment(&self) -> Now {
        Now { wall: self.clock.now(), monotonic: self.began.elapsed() }
    }

    /// Until the next second of the wall clock has just begun.
    pub(super) fn to_next_second(&self) -> Duration {
        Duration::from_millis(1_000 - self.clock.now().0 % 1_000) + INTO_SECOND
    }

    pub(super) fn kept(&self) -> Kept {
        let now = self.moment();
        Kept {
            by_route: self.rollouts.to_remember(now),
            absent: self.rollouts.absent.clone(),
            outbox: self.outbox.to_remember(),
            flips: self.flips.to_remember(),
            at_millis: now.wall.0,
        }
    }

    /// The process began: rollouts go on where they were, never above what was written down.
    pub(super) async fn begin_rollouts(&mut self) {
        self.recall_objectives();
        let known = self.rollouts.iter().map(|(route, _)| (route.clone(), Event::Restarted));
        let known: Vec<_> = known.collect();
        self.happen_all(known).await;
        if let Some(why) = self.lost.take() {
            let plan = self.publisher.current();
            let mut events = Vec::new();
            for route in &plan.routes {
                let (Some(policy), Some(Event::Version(identity))) = (&route.policy, version(route, None))
                else {
                    continue;
                };
                self.declare(route);
                self.rollouts.claim(&route.name, &identity.version);
                let known = self.rollouts.get(&route.name).map(|live| live.rollout.clone());
                let Rollout { run, seq, spoiled, .. } = known.unwrap_or_default();
                if spoiled.contains(&identity.version) {
                    let version = &identity.version;
                    tracing::error!(route = %route.name, version, "it was put back before and stays so: {why}");
                    continue;
                }
                let mut live = Live::new(Arc::clone(policy));
                live.rollout = Rollout::new(identity);
                (live.rollout.run, live.rollout.seq, live.rollout.spoiled) = (run, seq, spoiled);
                self.rollouts.insert(&route.name, live);
                events.push((route.name.to_string(), Event::StateLost { why: why.clone() }));
            }
            self.happen_all(events).await;
        }
        self.follow_file().await;
        // The plan of the start counts for nobody: from now on it does.
        if self.rollouts.renew_epochs() {
            let compiled = self.compile(Arc::clone(&self.loaded), self.overlay.clone()).await;
            if let Ok(Ok(Candidate { plan, .. })) = compiled {
                self.publish(plan);
            }
        }
        for (number, route, hook) in self.outbox.numbers() {
            self.send(number, &route, &hook);
        }
        self.deliver();
    }

    /// Tells receivers of notices what is theirs.
    pub(super) fn deliver(&mut self) {
        self.outbox.deliver(&self.publisher.current().notify);
    }

    pub(super) fn send(&self, number: u64, route: &str, hook: &str) {
        let plan = self.publisher.current();
        let policy = plan.route_named(route).and_then(|route| route.policy.as_ref());
        let hooks = policy.map(|policy| policy.conduct.hooks.iter());
        self.outbox.send(number, hooks.into_iter().flatten().find(|one| one.name == hook));
    }

    /// Something was heard outside, or given up.
    pub(super) async fn heard(&mut self, delivered: Delivered) {
        self.outbox.remove(delivered.number);
        if let Some(why) = &delivered.given_up {
            tracing::error!(route = delivered.route, "given up: {why}");
            self.journal("not-heard", &delivered.route, &By::actor("outbox"), json!(null), json!(why));
        }
        if let Some(answer) = delivered.answer {
            self.happen_all(vec![(delivered.route, Event::Hook(answer))]).await;
        }
        self.deliver();
        // What was heard long ago must not be said again at some later start.
        if !self.rollouts.iter().any(|(_, live)| live.rollout.is_live()) {
            self.submit(Vec::new(), Vec::new(), Vec::new());
        }
    }

    /// What an outcome has to say to the outside, put into the outbox.
    pub(super) fn put_out(&mut self, route: &Route, outcome: &Outcome) -> Vec<(u64, String)> {
        let hooks = route.policy.as_ref().map_or(&[][..], |policy| &policy.conduct.hooks);
        let calls = outcome.moves.iter().filter_map(|one| match one {
            Move::Hook(call) => hooks.iter().find(|hook| hook.name == call.name).zip(Some(call)),
            _ => None,
        });
        let share = outcome.next.canary_share().map_or(0.0, |share| share.ratio() * 100.0);
        let parcels: Vec<Parcel> = calls
            .map(|(hook, call)| Parcel {
                route: route.name.to_string(),
                hook: call.name.clone(),
                to: To::Hook,
                key: call.key,
                run: outcome.next.run,
                since: outcome.next.started_at_millis,
                answer: call.answer,
                body: outbox::body(&route.name, call, hook, outcome.next.phase.name(), share),
            })
            .collect();
        let notices = self.notices(&route.name, outcome);
        parcels
            .into_iter()
            .chain(notices)
            .map(|parcel| (parcel.hook.clone(), self.outbox.add(parcel)))
            .map(|(hook, number)| (number, hook))
            .collect()
    }

    /// What an outcome has to say to people, for every receiver.
    fn notices(&self, route: &str, outcome: &Outcome) -> Vec<Parcel> {
        let Some(live) = self.rollouts.get(route) else { return Vec::new() };
        let checks: Vec<String> = live.checks.report().iter().map(ToString::to_string).collect();
        let (before, after, at) = (&live.rollout, &outcome.next, self.clock.now());
        let suffered = live.suffered();
        let about = About { route, before, after, at, checks: &checks, suffered: &suffered };
        let notices = outcome.moves.iter().filter_map(|one| match one {
            Move::Notify(notice) => Some(notice),
            _ => None,
        });
        let plan = self.publisher.current();
        notices
            .flat_map(|notice| {
                plan.notify.iter().map(move |receiver| notices::parcel(receiver, about, notice))
            })
            .collect()
    }

    /// Makes rollouts what the file in force says.
    pub(super) async fn follow_file(&mut self) {
        let plan = self.publisher.current();
        let gone: Vec<(String, Event)> = self
            .rollouts
            .iter()
            .filter(|(route, live)| {
                live.rollout.block && plan.route_named(route).is_none_or(|route| route.policy.is_none())
            })
            .map(|(route, _)| (route.clone(), Event::BlockRemoved))
            .collect();
        self.happen_all(gone).await;
        let mut events = Vec::new();
        for route in &plan.routes {
            // A rollout waits until what happens to its slots is over.
            let event = version(route, self.rollouts.get(&route.name));
            let Some(event) = event.filter(|_| !self.flips.is_busy(&route.name)) else { continue };
            self.declare(route);
            if let Event::Version(identity) = &event {
                self.rollouts.claim(&route.name, &identity.version);
            }
            events.push((route.name.to_string(), event));
        }
        self.happen_all(events).await;
        self.deliver();
        self.tell();
    }

    /// Tells rollouts what an edit of their arms means.
    pub(super) async fn follow_edits(&mut self, old: &Plan) {
        let plan = self.publisher.current();
        let mut events = Vec::new();
        for (name, live) in self.rollouts.iter() {
            let (Some(before), Some(after)) = (old.route_named(name), plan.route_named(name)) else {
                continue;
            };
            let identity = &live.rollout.identity;
            for (role, arm) in [(Role::From, &identity.from), (Role::To, &identity.to)] {
                let leads = |route: &Route| {
                    route.arms.iter().find(|one| *one.name == **arm).map(|one| Arc::clone(&one.upstream.name))
                };
                if leads(before) != leads(after) {
                    events.push((name.clone(), Event::ArmEdited(role)));
                }
            }
            let (before, after) = (written_share(before, identity), written_share(after, identity));
            if before != after {
                events.push((name.clone(), Event::SplitEdited { before, after }));
            }
        }
        self.happen_all(events).await;
    }

    fn declare(&mut self, route: &Route) {
        if let (None, Some(policy)) = (self.rollouts.get(&route.name), &route.policy) {
            let mut live = Live::new(Arc::clone(policy));
            if let Some(known) = self.rollouts.absent.remove(&*route.name) {
                live.rollout = known.back(policy, false);
            }
            self.rollouts.insert(&route.name, live);
        }
    }

    /// What rollouts have against a plan that is about to be published.
    pub(super) fn refused_by_rollouts(&self, plan: &Plan, loaded: &Loaded) -> Vec<Diagnostic> {
        let now = self.moment();
        let refused = plan.routes.iter().filter_map(|route| {
            let event = version(route, self.rollouts.get(&route.name))?;
            let refused = self.rollouts.decide(route, &event, now)?.err()?;
            let message = format!("route `{}`: {}", route.name, refused.message);
            let place = place_of_version(loaded, &route.name, refused.code != "from-is-not-serving");
            Some(Diagnostic::error(refused.code, message).at(place).hint(refused.hint))
        });
        refused.collect()
    }

    /// A second passed.
    pub(super) async fn second(&mut self) {
        let now = self.moment();
        self.look_at_objectives(now);
        let book = Arc::clone(&self.book);
        let events = self.rollouts.look(&book, now);
        let written = self.happen_all(events).await;
        let live = self.rollouts.iter().any(|(_, live)| live.rollout.is_live());
        // What could not be written down is tried again every second, and what speaks against a canary
        // must outlive a crash that it may have caused.
        let bad = self.rollouts.bad_seen();
        let news = std::mem::replace(&mut self.bad_written, bad) != bad;
        let due = live && (news || self.rollouts.second(now).is_multiple_of(WRITE_EVERY));
        if !written && (due || !self.rollouts.store) {
            self.submit(Vec::new(), Vec::new(), Vec::new());
        }
        self.flips_second(now).await;
        self.drains_second();
        self.put_back_second();
        self.tell();
    }

    /// An operator moves a rollout; the answer goes when it is done, and written if it can be.
    pub(super) async fn rollout(&mut self, ask: RolloutAsk, reply: Reply) {
        let words = Some(json!({ "verb": ask.verb.name(), "force": ask.force }));
        let by = ask.by.clone();
        match self.asked(ask) {
            Ok(change) => {
                let asked = Some(Asked { by, what: "rollout", words, reply });
                self.change(Change { asked, ..change }).await;
            }
            // An asker that went away loses only the answer.
            Err(refusal) => _ = reply.send(Err(refusal)),
        }
    }

    fn asked(&self, ask: RolloutAsk) -> Result<Change, Refusal> {
        let plan = self.publisher.current();
        let route = find(&plan, &ask.route)?;
        let no_rollout = || {
            let message = format!("route `{}` has no rollout", ask.route);
            Refusal::new(RefusalKind::Conflict, "no-rollout", message)
                .hint("add a `rollout` block to the route")
                .generation(route.generation)
        };
        if self.rollouts.get(&ask.route).is_none() {
            return Err(no_rollout());
        }
        if ask.verb.needs_generation() {
            self.no_flip_under_way(route)?;
        }
        let direction =
            if ask.verb.needs_generation() { Direction::TowardCanary } else { Direction::TowardStable };
        order::check(direction, ask.expected, route.generation)
            .map_err(|found| mismatch(found, route.generation))?;
        let event =
            Event::Operator { verb: ask.verb, version: ask.version, force: ask.force, by: said(&ask.by) };
        self.decide(&plan, &ask.route, &event)?.ok_or_else(no_rollout)
    }

    /// What weights set by hand, or given back, are to the rollout of their route.
    pub(super) fn weights_event(&self, route: &str, set: Option<&RouteOverlay>, by: &By) -> Option<Event> {
        let live = self.rollouts.get(route)?;
        let by = said(by);
        Some(match set {
            Some(set) => {
                let weight = |arm: &str| f64::from(set.weights.get(arm).copied().unwrap_or(0));
                let (from, to) = (weight(&live.rollout.identity.from), weight(&live.rollout.identity.to));
                let both = from + to;
                Event::Weights { canary: Share::of(if both > 0.0 { to / both } else { 0.0 }), by }
            }
            None => Event::WeightsReset { by },
        })
    }

    pub(super) fn tell_people(&mut self, route: &str, outcome: &Outcome) {
        for one in &outcome.moves {
            match one {
                Move::Notify(notice) => match notice.level {
                    Level::Info => tracing::info!(route, code = %notice.code, "{}", notice.text),
                    Level::Warning => tracing::warn!(route, code = %notice.code, "{}", notice.text),
                    Level::Error => tracing::error!(route, code = %notice.code, "{}", notice.text),
                },
                Move::Record(record) => self.record(route, record),
                _ => {}
            }
        }
        // A decision is logged once: by the notice that goes with it, or for itself.
        let noticed = outcome.moves.iter().any(|one| matches!(one, Move::Notify(_)));
        for one in outcome.moves.iter().filter(|_| !noticed) {
            if let Move::Record(record) = one {
                tracing::info!(route, code = %record.code, "{}: {}", record.to, record.reason);
            }
        }
    }

    pub(super) fn record(&mut self, route: &str, record: &Record) {
        let by = By { actor: record.who.clone().unwrap_or_else(|| "rollout".to_owned()), ..By::default() };
        // Whatever weights it speaks of were published before it is told.
        let record = Record { in_force_at_millis: Some(self.clock.now().0), ..record.clone() };
        let (before, after) = (json!(record.before), json!(record));
        self.journal("rollout-transition", route, &by, before, after);
        self.history.append(&Line { route: route.to_owned(), record: record.clone() });
        self.decisions.add(route, record);
    }

    /// Tells how rollouts are, and what was decided since the last time.
    pub(super) fn tell(&mut self) {
        let rollouts = self.rollouts.report();
        let slo = self.rollouts.objectives.standings();
        let flips = Arc::new(self.flips.report());
        self.conducted.store(Arc::new(Conducted { rollouts, slo, flips, ..self.decisions.told() }));
    }

    /// Tells what was decided, when anything was: whoever gets an answer finds it in the history.
    pub(super) fn tell_decided(&mut self) {
        if self.decisions.is_untold() {
            self.tell();
        }
    }
}

/// The `to` arm's share of both as the file's own split has it.
fn written_share(route: &Route, identity: &Identity) -> Share {
    let weight = |name: &str| {
        let arm = route.arms.iter().find(|arm| &*arm.name == name);
        arm.map_or(0.0, |arm| f64::from(arm.written))
    };
    let (from, to) = (weight(&identity.from), weight(&identity.to));
    Share::of(if from + to > 0.0 { to / (from + to) } else { 0.0 })
}

/// Where a route's version is written when that is meant, else its block, else its name.
fn place_of_version(loaded: &Loaded, name: &str, version: bool) -> Place {
    let routes =
        loaded.spec.files.iter().flat_map(|(source, file)| file.routes.iter().map(move |one| (source, one)));
    let Some((source, route)) = routes.into_iter().find(|(_, route)| route.name.value == name) else {
        return Place::default();
    };
    let block = route.rollout.as_ref();
    let version =
        block.filter(|_| version).and_then(|block| block.version.as_ref()).map(|version| version.with(()));
    let spot = version.or_else(|| block.map(|block| block.with(()))).unwrap_or_else(|| route.name.with(()));
    Place { file: source.name.clone(), line: spot.line, column: spot.column, length: spot.length }
}

pub(super) fn said(by: &By) -> crate::rollout::By {
    let By { actor, reason, annotations } = by.clone();
    crate::rollout::By { actor, reason, annotations }
}

/// What a route's block says of its rollout.
fn version(route: &Route, live: Option<&Live>) -> Option<Event> {
    let policy = route.policy.as_ref()?;
    let mut identity = identity(policy, route.policy_fingerprint, route.slots.is_some());
    if let Some(live) = live.filter(|_| identity.scheme == Scheme::Slots) {
        live.keeps_its_slots(&mut identity);
    }
    Some(Event::Version(identity))
}

pub(super) fn refusal(refused: &Refused, generation: Generation) -> Refusal {
    use crate::rollout::moves::RefusedKind;
    let kind = match refused.kind {
        RefusedKind::Conflict => RefusalKind::Conflict,
        RefusedKind::Invalid => RefusalKind::Invalid,
        RefusedKind::Edit => RefusalKind::Diagnostics,
    };
    Refusal::new(kind, refused.code, format!("{} (it is {})", refused.message, refused.state))
        .hint(refused.hint.clone())
        .generation(generation)
}
