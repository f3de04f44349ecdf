//! The slots of every blue-green route: which one serves, what it left lately, what is under way.
//!
//! Decisions are made in [`crate::rollout::flip`], which is pure; the controller does what comes out.
//! It must never read a number of a request that is not in a cell already.

mod asked;
mod seen;
mod smoke;
mod told;
mod waits;

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::batch::{Asked, Change};
use super::command::By;
use super::controller::Controller;
use super::drain::end_tunnels;
use super::refusal::{Refusal, RefusalKind};
use super::rollouts::Now;
use super::store::Kept;
use crate::analysis::verify::Left;
use crate::ledger::Book;
use crate::model::{Generation, Overlay, Provenance, SlotOverlay};
use crate::plan::{Plan, Route};
use crate::rollout::flip::{Event, Flip, Move, Outcome, Phase, Rules, Scene, step};
use crate::rollout::{Move as RolloutMove, Order, Refused};

use seen::Seen;
pub use told::FlipReport;
pub(super) use told::drained;
pub use waits::waits;

/// Results of smoke tests waiting for the controller at most.
const RESULTS: usize = 64;

/// All slots by route.
#[derive(Debug)]
pub struct Flips {
    lives: BTreeMap<String, Live>,
    told: mpsc::Sender<Smoked>,
    answers: Option<mpsc::Receiver<Smoked>>,
}

/// How a smoke test went.
#[derive(Debug)]
pub(super) struct Smoked {
    route: String,
    run: u64,
    failed: Option<(&'static str, String)>,
}

/// The slots of one route.
#[derive(Debug, Default)]
struct Live {
    flip: Flip,
    seen: Seen,
    trying: Option<Trying>,
}

/// A smoke test under way.
#[derive(Debug)]
struct Trying {
    asked: Asked,
    /// What the slot was when it was tried.
    of: String,
    task: JoinHandle<()>,
}

impl Live {
    /// The slots are no more: whoever waits for a test of one hears that, and how it is now.
    fn forget(self, present: Option<Generation>) {
        let Some(Trying { asked, task, .. }) = self.trying else { return };
        task.abort();
        let message =
            format!("the slots were edited away while `{}` was tried: nothing moved", self.flip.idle);
        let refusal = Refusal::new(RefusalKind::Conflict, "slot-edited", message)
            .hint("look at the route as it is now, then flip again if that is still meant");
        // An asker that went away loses only the answer.
        let _ = asked.reply.send(Err(Refusal { generation: present, ..refusal }));
    }
}

/// What the idle slot has in flight.
fn in_flight(book: &Book, route: &str, idle: &str) -> u64 {
    let cells = book.route_cells(route);
    cells.iter().filter(|cell| *cell.arm == *idle).map(|cell| cell.in_flight() + cell.tunnels()).sum()
}

impl Flips {
    /// As they were remembered.
    #[must_use]
    pub fn recalled(kept: BTreeMap<String, Flip>) -> Self {
        let (told, answers) = mpsc::channel(RESULTS);
        let lives = kept.into_iter().map(|(route, flip)| (route, Live { flip, ..Live::default() }));
        Self { lives: lives.collect(), told, answers: Some(answers) }
    }

    /// Where results of smoke tests come from; once.
    pub(super) fn answers(&mut self) -> Option<mpsc::Receiver<Smoked>> {
        self.answers.take()
    }

    /// What to remember.
    #[must_use]
    pub fn to_remember(&self) -> BTreeMap<String, Flip> {
        let known = self.lives.iter().filter(|(_, live)| live.flip.run > 0 || live.flip.way_back);
        known.map(|(route, live)| (route.clone(), live.flip.clone())).collect()
    }

    /// Whether a flip of a route is under way.
    #[must_use]
    pub fn is_busy(&self, route: &str) -> bool {
        self.lives.get(route).is_some_and(|live| live.flip.phase.is_busy())
    }

    /// Knows the slots of a plan and no others. Who serves is the plan's to say.
    fn follow(&mut self, plan: &Plan) {
        let has_slots = |name: &str| plan.route_named(name).is_some_and(|route| route.slots.is_some());
        let gone: Vec<String> = self.lives.keys().filter(|name| !has_slots(name)).cloned().collect();
        for name in gone {
            let present = plan.route_named(&name).map(|route| route.generation);
            if let Some(live) = self.lives.remove(&name) {
                live.forget(present);
            }
        }
        for route in &plan.routes {
            let Some((active, idle)) = names(route) else { continue };
            let known = self.lives.get(&*route.name).map(|live| (&*live.flip.active, &*live.flip.idle));
            if known != Some((active, idle)) {
                let flip = Flip::new(active, idle);
                let live = Live { flip, ..Live::default() };
                if let Some(before) = self.lives.insert(route.name.to_string(), live) {
                    before.forget(Some(route.generation));
                }
            }
        }
    }
}

/// The slots of a route by name: the one that serves, and the other.
fn names(route: &Route) -> Option<(&str, &str)> {
    let (active, idle) = route.slots?;
    Some((route.arm_name(active), route.arm_name(idle)))
}

/// Whether an outcome is written down.
pub(super) fn persists(outcome: &Outcome) -> bool {
    outcome.moves.contains(&Move::Persist(Order::AfterPublish))
}

/// Drops exchanges whose slots the file has no more; gives their routes.
fn drop_stale_slots(overlay: &mut Overlay, plan: &Plan) -> Vec<String> {
    let holds = |name: &str, slots: &SlotOverlay| {
        let pair = plan.route_named(name).and_then(|route| names(route));
        pair.is_some_and(|(one, other)| slots.is_of(one, other))
    };
    let stale: Vec<String> = overlay
        .slots
        .iter()
        .filter(|(name, slots)| !holds(name, slots))
        .map(|(name, _)| name.clone())
        .collect();
    overlay.slots.retain(|name, _| !stale.contains(name));
    stale
}

impl Controller {
    /// The process began: slots are what was written down.
    pub(super) async fn begin_flips(&mut self) {
        self.slots_ended();
        let plan = self.publisher.current();
        let changes = plan.routes.iter().filter_map(|route| self.happen_to_slots(route, &Event::Restarted));
        let changes: Vec<Change> = changes.collect();
        self.carry_out_flips(changes).await;
    }

    /// A second passed.
    pub(super) async fn flips_second(&mut self, now: Now) {
        let plan = self.publisher.current();
        self.flips.follow(&plan);
        let second = self.rollouts.second(now);
        let mut changes = Vec::new();
        for route in &plan.routes {
            let Some(live) = self.flips.lives.get_mut(&*route.name) else { continue };
            let left = live.seen.second(route, live.flip.verifier.as_ref(), second, fastrand::u64(..));
            let in_flight = in_flight(&self.book, &route.name, &live.flip.idle);
            let (run, untried) = (live.flip.run, live.flip.phase == Phase::Smoke && live.trying.is_none());
            // What is being written down is not true yet.
            if self.waits(&route.name) {
                continue;
            }
            let event = if untried {
                let failed = Some(("not-written", "it could not be written down".to_owned()));
                Event::Smoked { run, failed, by: super::conduct::said(&By::actor("flip")) }
            } else {
                Event::Second { second, left, in_flight }
            };
            changes.extend(self.happen_to_slots(route, &event));
        }
        self.carry_out_flips(changes).await;
    }

    async fn carry_out_flips(&mut self, changes: Vec<Change>) {
        if changes.is_empty() {
            return;
        }
        let mut batch = super::batch::Batch::default();
        let plan = self.publisher.current();
        for change in changes {
            self.admit(&plan, change, false, &mut batch);
        }
        self.carry_out(batch).await;
        // A rollout may have waited for the end of it, and goes from whichever slot serves now.
        self.follow_file().await;
    }

    /// What an event that nobody asked for makes of slots; a change when somebody must do something.
    fn happen_to_slots(&mut self, route: &Route, event: &Event) -> Option<Change> {
        let outcome = self.step_slots(route, event)?.ok()?;
        if !outcome.moves.is_empty() {
            return Some(flip_change(route, outcome));
        }
        if let Some(live) = self.flips.lives.get_mut(&*route.name) {
            live.flip = outcome.next;
        }
        None
    }

    /// What an event does to the slots of a route; nothing has changed yet.
    fn step_slots(&self, route: &Route, event: &Event) -> Option<Result<Outcome, Refused>> {
        let (live, rules) = (self.flips.lives.get(&*route.name)?, route.flip.as_ref()?);
        let millis = |span: std::time::Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let limits = rules.limits.as_ref();
        let written = Rules { verify_ms: millis(rules.verify), limits, drain_ms: millis(rules.drain) };
        let now = self.moment();
        let (_, idle) = names(route)?;
        let idle = route.arms.iter().find(|arm| *arm.name == *idle)?;
        let endpoints = idle.upstream.endpoints.iter();
        let rollout = self.rollouts.get(&route.name);
        let asks = !matches!(event, Event::Second { .. });
        let scene = Scene {
            monotonic: millis(now.monotonic),
            wall: now.wall,
            idle_alive: endpoints.into_iter().any(|endpoint| !endpoint.cell.addresses.get().is_empty()),
            rollout_live: rollout.is_some_and(|live| live.rollout.is_live()),
            before: if asks { live.seen.minute(route) } else { Left::default() },
        };
        Some(step(&live.flip, &written, event, &scene))
    }

    /// What a change makes of the slots in force.
    pub(super) fn slots_after(&self, change: &Change) -> Option<SlotOverlay> {
        let of_rollout = change.outcome().and_then(|outcome| {
            outcome.moves.iter().find_map(|one| match one {
                RolloutMove::SwapSlots { active } => Some(active.as_str()),
                _ => None,
            })
        });
        let active = change.flip.as_ref().and_then(Outcome::active).or(of_rollout)?;
        let flip = &self.flips.lives.get(&change.route)?.flip;
        let idle = if flip.active == active { &flip.idle } else { &flip.active };
        let asked = change.asked.as_ref().map(|asked| asked.by.clone());
        let by =
            asked.unwrap_or_else(|| By::actor(if of_rollout.is_some() { "rollout" } else { "analyzer" }));
        let by = Provenance { actor: by.actor, reason: by.reason, at_millis: self.clock.now().0 };
        Some(SlotOverlay { active: active.to_owned(), idle: idle.clone(), by })
    }

    /// What slots will be once a change is written down.
    pub(super) fn draft_slots(&self, change: &Change, overlay: &mut Overlay, kept: &mut Kept) {
        if let Some(slots) = self.slots_after(change) {
            overlay.slots.insert(change.route.clone(), slots);
        }
        if let Some(outcome) = self.slots_outcome(change) {
            if outcome.active().is_some() {
                overlay.routes.remove(&change.route);
            }
            kept.flips.insert(change.route.clone(), outcome.next);
        }
    }

    /// Makes what a change does to slots true; whether the plan must follow.
    pub(super) fn take_slots(&mut self, change: &Change) -> bool {
        let slots = self.slots_after(change);
        let Some(outcome) = self.slots_outcome(change) else { return false };
        let moved = outcome.active().is_some();
        for one in &outcome.moves {
            if let Move::EndTunnels(slot) = one {
                end_tunnels(&self.book, &change.route, slot, self.clock.now().0);
            }
        }
        if let Some(slots) = slots {
            self.overlay.slots.insert(change.route.clone(), slots);
            self.overlay.routes.remove(&change.route);
        }
        let plan = self.publisher.current();
        if let Some(live) = self.flips.lives.get_mut(&change.route) {
            live.flip = outcome.next;
            if let Some(route) = plan.route_named(&change.route).filter(|_| moved) {
                live.seen.begin(route, fastrand::u64(..));
            }
            if live.flip.phase != Phase::Smoke
                && let Some(trying) = live.trying.take()
            {
                trying.task.abort();
                // Whoever asked hears why.
                let why = live.flip.reason.text.clone();
                let refusal = Refusal::new(RefusalKind::Conflict, "called-off", why);
                let _ = trying.asked.reply.send(Err(refusal.hint("look at it again, then repeat it")));
            }
        }
        moved
    }

    /// A flip's own outcome, or what a promotion is to the slots.
    fn slots_outcome(&self, change: &Change) -> Option<Outcome> {
        if change.flip.is_some() {
            return change.flip.clone();
        }
        let swaps = |one: &RolloutMove| matches!(one, RolloutMove::SwapSlots { .. });
        change.outcome().filter(|outcome| outcome.moves.iter().any(swaps))?;
        let plan = self.publisher.current();
        self.step_slots(plan.route_named(&change.route)?, &Event::Promoted)?.ok()
    }

    /// What weights set by hand are to a flip that is under way.
    pub(super) fn weights_over_flip(&self, name: &str, by: &By) -> Option<Outcome> {
        let plan = self.publisher.current();
        let event = Event::Weights(super::conduct::said(by));
        self.step_slots(plan.route_named(name)?, &event)?.ok()
    }
}

/// What an outcome makes of a route.
fn flip_change(route: &Route, outcome: Outcome) -> Change {
    Change {
        route: route.name.to_string(),
        decided: None,
        weights: None,
        ahead: outcome.moves.contains(&Move::Persist(Order::BeforePublish)),
        flip: Some(outcome),
        parcels: Vec::new(),
        asked: None,
    }
}
