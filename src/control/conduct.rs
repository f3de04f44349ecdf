//! What rollouts make the controller do: decisions of the state machine become plans, writes, records.
//!
//! Toward the new version what will be is written before it is published, toward the old one after.
//! A decision that cannot be written down never raises a weight. It must never decide by itself.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::command::{By, Changed, RolloutAsk, WeightsDone};
use super::controller::{Candidate, Controller};
use super::load::Loaded;
use super::order::{self, Direction};
use super::outbox::{self, Delivered, Parcel};
use super::refusal::{Refusal, RefusalKind, find, mismatch};
use super::rollouts::live::{Live, identity};
use super::rollouts::report::Line;
use super::rollouts::{Now, Remembered};
use super::store::Kept;
use crate::model::{Diagnostic, Generation};
use crate::plan::{Plan, Route};
use crate::rollout::event::Role;
use crate::rollout::moves::Level;
use crate::rollout::{Event, Identity, Move, Order, Outcome, Record, Refused, Rollout, Share};

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
            outbox: self.outbox.to_remember(),
            at_millis: now.wall.0,
        }
    }

    /// The process began: rollouts go on where they were, never above what was written down.
    pub(super) async fn begin_rollouts(&mut self) {
        let known: Vec<String> = self.rollouts.iter().map(|(route, _)| route.clone()).collect();
        for route in known {
            self.happen(&route, Event::Restarted).await;
        }
        if let Some(why) = self.lost.take() {
            let plan = self.publisher.current();
            for route in &plan.routes {
                let (Some(policy), Some(Event::Version(identity))) = (&route.policy, version(route)) else {
                    continue;
                };
                let mut live = Live::new(Arc::clone(policy));
                live.rollout = Rollout::new(identity);
                self.rollouts.insert(&route.name, live);
                self.happen(&route.name, Event::StateLost { why: why.clone() }).await;
            }
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
    }

    fn send(&self, number: u64, route: &str, hook: &str) {
        let plan = self.publisher.current();
        let policy = plan.route_named(route).and_then(|route| route.policy.as_ref());
        let hooks = policy.map(|policy| policy.conduct.hooks.iter());
        self.outbox.send(number, hooks.into_iter().flatten().find(|one| one.name == hook));
    }

    /// A hook was asked, or given up.
    pub(super) async fn heard(&mut self, delivered: Delivered) {
        self.outbox.remove(delivered.number);
        if let Some(answer) = delivered.answer {
            self.happen(&delivered.route, Event::Hook(answer)).await;
        }
    }

    /// What an outcome has to say to the outside, put into the outbox.
    fn put_out(&mut self, route: &Route, outcome: &Outcome) -> Vec<(u64, String)> {
        let Some(policy) = &route.policy else { return Vec::new() };
        let calls = outcome.moves.iter().filter_map(|one| match one {
            Move::Hook(call) => {
                policy.conduct.hooks.iter().find(|hook| hook.name == call.name).zip(Some(call))
            }
            _ => None,
        });
        let share = outcome.next.canary_share().map_or(0.0, |share| share.ratio() * 100.0);
        let parcels: Vec<Parcel> = calls
            .map(|(hook, call)| Parcel {
                route: route.name.to_string(),
                hook: call.name.clone(),
                key: call.key,
                answer: call.answer,
                body: outbox::body(&route.name, call, hook, outcome.next.phase.name(), share),
            })
            .collect();
        parcels
            .into_iter()
            .map(|parcel| (parcel.hook.clone(), self.outbox.add(parcel)))
            .map(|(hook, number)| (number, hook))
            .collect()
    }

    /// Makes rollouts what the file in force says.
    pub(super) async fn follow_file(&mut self) {
        let plan = self.publisher.current();
        let gone: Vec<String> = self
            .rollouts
            .iter()
            .filter(|(route, live)| {
                live.rollout.block && plan.route_named(route).is_none_or(|route| route.policy.is_none())
            })
            .map(|(route, _)| route.clone())
            .collect();
        for route in gone {
            self.happen(&route, Event::BlockRemoved).await;
        }
        for route in &plan.routes {
            let Some(event) = version(route) else { continue };
            self.declare(route);
            self.happen(&route.name, event).await;
        }
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
        for (route, event) in events {
            self.happen(&route, event).await;
        }
    }

    fn declare(&mut self, route: &Route) {
        if let (None, Some(policy)) = (self.rollouts.get(&route.name), &route.policy) {
            self.rollouts.insert(&route.name, Live::new(Arc::clone(policy)));
        }
    }

    /// What rollouts have against a plan that is about to be published.
    pub(super) fn refused_by_rollouts(&self, plan: &Plan, loaded: &Loaded) -> Vec<Diagnostic> {
        let now = self.moment();
        let refused = plan.routes.iter().filter_map(|route| {
            let event = version(route)?;
            let refused = self.rollouts.decide(route, &event, now)?.err()?;
            let file = loaded.spec.files.first().map_or_else(String::new, |(source, _)| source.name.clone());
            let message = format!("route `{}`: {}", route.name, refused.message);
            let place = crate::model::Place { file: file.as_str().into(), line: 1, column: 1, length: 1 };
            Some(Diagnostic::error(refused.code, message).at(place).hint(refused.hint))
        });
        refused.collect()
    }

    /// A second passed.
    pub(super) async fn second(&mut self) {
        let now = self.moment();
        let book = Arc::clone(&self.book);
        for (route, event) in self.rollouts.look(&book, now) {
            self.happen(&route, event).await;
        }
        let live = self.rollouts.iter().any(|(_, live)| live.rollout.is_live());
        // What could not be written down is tried again every second, and what speaks against a canary
        // must outlive a crash that it may have caused.
        let bad = self.rollouts.bad_seen();
        let news = std::mem::replace(&mut self.bad_written, bad) != bad;
        if !self.rollouts.store || live && (news || self.rollouts.second(now).is_multiple_of(WRITE_EVERY)) {
            self.rollouts.store = self.save(self.overlay.clone()).await.is_ok();
        }
        self.tell();
    }

    /// An operator moves a rollout.
    pub(super) async fn rollout(&mut self, ask: RolloutAsk) -> Result<WeightsDone, Refusal> {
        let plan = self.publisher.current();
        let route = find(&plan, &ask.route)?;
        if self.rollouts.get(&ask.route).is_none() {
            let message = format!("route `{}` has no rollout", ask.route);
            return Err(Refusal::new(RefusalKind::Conflict, "no-rollout", message)
                .hint("add a `rollout` block to the route")
                .generation(route.generation));
        }
        let direction =
            if ask.verb.needs_generation() { Direction::TowardCanary } else { Direction::TowardStable };
        order::check(direction, ask.expected, route.generation)
            .map_err(|found| mismatch(found, route.generation))?;
        let by = crate::rollout::By {
            actor: ask.by.actor.clone(),
            reason: ask.by.reason.clone(),
            annotations: ask.by.annotations.clone(),
        };
        let what = ask.verb.name();
        let event = Event::Operator { verb: ask.verb, version: ask.version, force: ask.force, by };
        let done = self.try_happen(&ask.route, event).await?;
        let words = json!({ "verb": what, "force": ask.force });
        self.journal("rollout", &ask.route, &ask.by, words, json!(done.generation.0));
        self.tell();
        Ok(done)
    }

    /// Weights of a route were set by hand, or given back.
    pub(super) async fn weights_were_set(&mut self, route: &str, by: By) {
        let by = crate::rollout::By { actor: by.actor, reason: by.reason, annotations: by.annotations };
        let Some(live) = self.rollouts.get(route) else { return };
        let event = match self.overlay.routes.get(route) {
            Some(set) => {
                let weight = |arm: &str| f64::from(set.weights.get(arm).copied().unwrap_or(0));
                let (from, to) = (weight(&live.rollout.identity.from), weight(&live.rollout.identity.to));
                let both = from + to;
                Event::Weights { canary: Share::of(if both > 0.0 { to / both } else { 0.0 }), by }
            }
            None => Event::WeightsReset { by },
        };
        self.happen(route, event).await;
        self.tell();
    }

    /// Something happened that nobody waits for.
    async fn happen(&mut self, route: &str, event: Event) {
        if let Err(refusal) = self.try_happen(route, event).await {
            tracing::warn!(
                route,
                code = refusal.code,
                "a rollout did not take an event: {}",
                refusal.message
            );
        }
    }

    async fn try_happen(&mut self, name: &str, event: Event) -> Result<WeightsDone, Refusal> {
        let plan = self.publisher.current();
        let route = find(&plan, name)?;
        let now = self.moment();
        let unchanged = || WeightsDone { generation: route.generation, changed: Vec::new() };
        let Some(decided) = self.rollouts.decide(route, &event, now) else { return Ok(unchanged()) };
        let outcome = decided.map_err(|refused| refusal(&refused, route.generation))?;
        let before_publish = outcome.moves.contains(&Move::Persist(Order::BeforePublish));
        let parcels = self.put_out(route, &outcome);
        if before_publish && let Err(why) = self.write_ahead(name, &outcome, now).await {
            for (number, _) in &parcels {
                self.outbox.remove(*number);
            }
            self.rollouts.store = false;
            return Err(Refusal::new(RefusalKind::Conflict, "state-not-writable", why)
                .hint("more weight for a canary must survive a restart; repair the state folder")
                .generation(route.generation));
        }
        let seed = fastrand::u64(..);
        let weights_change = self.rollouts.accept(route, &outcome, seed, now);
        let cleared =
            outcome.moves.contains(&Move::ClearManualWeights) && self.overlay.routes.remove(name).is_some();
        let mut changed = Vec::new();
        if weights_change || cleared {
            changed = self.republish(name).await?;
        }
        if outcome.moves.contains(&Move::Persist(Order::AfterPublish)) || cleared {
            self.rollouts.store = self.save(self.overlay.clone()).await.is_ok();
        } else if before_publish {
            self.rollouts.store = true;
        }
        for (number, hook) in &parcels {
            self.send(*number, name, hook);
        }
        self.tell_people(name, &outcome);
        let generation =
            self.publisher.current().route_named(name).map_or(route.generation, |now| now.generation);
        Ok(WeightsDone { generation, changed })
    }

    /// Writes what will be, before it is.
    async fn write_ahead(&self, route: &str, outcome: &Outcome, now: Now) -> Result<(), String> {
        let mut kept = self.kept();
        let known = kept.by_route.remove(route);
        let (analyzer, epoch, rate) =
            known.map_or((None, 0, 0.0), |known| (known.analyzer, known.epoch, known.rate));
        let second = self.rollouts.second(now);
        let rollout = outcome.next.clone();
        kept.by_route.insert(route.to_owned(), Remembered { rollout, analyzer, epoch, second, rate });
        self.write(self.overlay.clone(), kept).await
    }

    async fn republish(&mut self, name: &str) -> Result<Vec<Changed>, Refusal> {
        let compiled = self.compile(Arc::clone(&self.loaded), self.overlay.clone()).await?;
        let Candidate { plan, .. } = compiled.map_err(|diagnostics| {
            // What compiled a moment ago compiles with other weights.
            super::refusal::refused(self.publisher.current().generation, diagnostics)
        })?;
        let before = self.publisher.current();
        let changed = match (before.route_named(name), plan.route_named(name)) {
            (Some(before), Some(after)) => order::changed(before, after),
            _ => Vec::new(),
        };
        self.publish(plan);
        Ok(changed)
    }

    fn tell_people(&mut self, route: &str, outcome: &Outcome) {
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
    }

    fn record(&mut self, route: &str, record: &Record) {
        tracing::info!(
            route,
            version = %record.version,
            from = %record.from,
            to = %record.to,
            "{}",
            record.reason
        );
        let by = By { actor: record.who.clone().unwrap_or_else(|| "rollout".to_owned()), ..By::default() };
        let (before, after) = (json!(record.before), json!(record));
        self.journal("rollout-transition", route, &by, before, after);
        self.history.append(&Line { route: route.to_owned(), record: record.clone() });
        let mut conducted = (*self.conducted.load_full()).clone();
        conducted.add(route, record.clone());
        self.conducted.store(Arc::new(conducted));
    }

    /// Tells how rollouts are.
    fn tell(&self) {
        let mut conducted = (*self.conducted.load_full()).clone();
        conducted.rollouts = self.rollouts.report();
        self.conducted.store(Arc::new(conducted));
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

/// What a route's block says of its rollout.
fn version(route: &Route) -> Option<Event> {
    let policy = route.policy.as_ref()?;
    Some(Event::Version(identity(policy, route.policy_fingerprint, route.slots.is_some())))
}

fn refusal(refused: &Refused, generation: Generation) -> Refusal {
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
