//! One step of the machine while it is being made: the next rollout, and the moves so far.
//!
//! It exists so that the order of writing and publishing is decided in one place. Toward the
//! candidate it writes first, toward the reference it publishes first. It must never decide whether
//! a weight moves, only carry out that it does.

use std::borrow::Cow;

use super::clocks::LONGEST_GAP;
use super::event::{By, Role, Scene};
use super::failing::Suffered;
use super::moves::{Actor, Analyze, Call, Level, Move, Notice, Order, Outcome, Record, Refused, RefusedKind};
use super::state::{Base, Direction, Hold, Mark, PauseCause, Phase, Reason, Rollout, Share};
use crate::analysis::Policy;
use crate::spec::rollout::HookEvent;

/// A step in the making.
pub struct Turn<'a> {
    /// As it was.
    pub before: &'a Rollout,
    /// As it will be.
    pub next: Rollout,
    /// What it goes by.
    pub policy: &'a Policy,
    /// What is true.
    pub scene: &'a Scene,
    /// Too much time has passed since the last event to trust what was counted in it.
    pub gap: bool,
    order: Option<Order>,
    publish: Vec<Move>,
    tell: Vec<Move>,
    dirty: bool,
}

impl<'a> Turn<'a> {
    /// Begins one, with the time charged to the phase it passed in.
    pub fn new(before: &'a Rollout, policy: &'a Policy, scene: &'a Scene) -> Self {
        let mut next = before.clone();
        let passed = before.last.map_or(0, |last| scene.monotonic.saturating_sub(last));
        let gap = passed > LONGEST_GAP;
        next.clocks.charge(&before.phase, before.patient, if gap { 0 } else { passed });
        next.last = Some(before.last.map_or(scene.monotonic, |last| last.max(scene.monotonic)));
        let (order, publish, tell) = (None, Vec::new(), Vec::new());
        Self { before, next, policy, scene, gap, order, publish, tell, dirty: false }
    }

    /// The next key.
    pub fn key(&mut self) -> u64 {
        self.next.seq += 1;
        self.dirty = true;
        self.next.seq
    }

    /// Whether the arm has an endpoint.
    pub fn alive(&self, role: Role) -> bool {
        match role {
            Role::From => self.scene.from_alive,
            Role::To => self.scene.to_alive,
        }
    }

    /// The candidate's role.
    pub fn candidate(&self) -> Role {
        match self.next.direction {
            Direction::Forward => Role::To,
            Direction::Back => Role::From,
        }
    }

    /// The reference's role.
    pub fn reference(&self) -> Role {
        match self.next.direction {
            Direction::Forward => Role::From,
            Direction::Back => Role::To,
        }
    }

    /// Gives the candidate more: written first, and only then published.
    pub fn raise(&mut self, share: Share) {
        self.next.share = share;
        self.order = Some(Order::BeforePublish);
        self.set_share();
    }

    /// Gives the candidate less, or the same: published first.
    pub fn lower(&mut self, share: Share) {
        self.next.share = share;
        self.order.get_or_insert(Order::AfterPublish);
        self.set_share();
    }

    /// Publishes the share as it is.
    pub fn set_share(&mut self) {
        self.dirty = true;
        let Some(canary) = self.next.canary_share() else {
            return self.put_in_force(Move::ReleaseShare);
        };
        let (from, to) = (self.next.identity.from.clone(), self.next.identity.to.clone());
        self.put_in_force(Move::SetShare { from, to, canary });
    }

    /// Voids overrides and pins to the candidate.
    pub fn void(&mut self) {
        let arm = self.next.candidate().to_owned();
        self.put_in_force(Move::VoidOverridesAndPins(arm));
    }

    /// Drops weights set by hand.
    pub fn clear_manual(&mut self) {
        if self.next.manual.take().is_some() {
            self.put_in_force(Move::ClearManualWeights);
        }
    }

    /// Something of the plan.
    pub fn put_in_force(&mut self, one: Move) {
        self.dirty = true;
        self.publish.push(one);
    }

    /// Something for the analyzer.
    pub fn analyze(&mut self, what: Analyze) {
        self.tell.push(Move::Analyze(what));
    }

    /// Something that is not of the plan.
    pub fn tell(&mut self, one: Move) {
        self.dirty = true;
        self.tell.push(one);
    }

    /// Asks for the rollout to be written down.
    pub fn keep(&mut self) {
        self.dirty = true;
    }

    /// Goes to a phase, with the reason; its clock begins again.
    pub fn enter(&mut self, phase: Phase, code: &'static str, text: impl Into<String>) {
        if self.next.phase.name() != phase.name() {
            self.next.clocks.phase = 0;
        }
        self.next.phase = phase;
        self.next.patient = false;
        self.next.reason = Reason { code: code.into(), text: text.into() };
        self.next.waiting_for.clear();
        self.keep();
    }

    /// Pauses over what is going on.
    pub fn pause(&mut self, cause: PauseCause, text: impl Into<String>) {
        if let Some(over) = self.next.phase.base() {
            self.enter(Phase::Paused { cause, over }, cause.label(), text);
        }
    }

    /// Whether this is the first time in the step; remembers it.
    pub fn once(&mut self, mark: Mark) -> bool {
        let first = self.next.told.insert(mark);
        self.dirty |= first;
        first
    }

    /// Tells people, and the hooks that want to know everything.
    pub fn notify(&mut self, level: Level, code: &'static str, text: impl Into<String>) {
        let (key, text) = (self.key(), text.into());
        self.tell(Move::Notify(Notice { key, level, code: Cow::Borrowed(code), text }));
        self.call(HookEvent::Event);
    }

    /// Calls the hooks of an event whose answers nobody waits for.
    pub fn call(&mut self, event: HookEvent) {
        let policy = self.policy;
        for hook in policy.conduct.hooks.iter().filter(|hook| hook.event == event) {
            let key = self.key();
            self.tell(Move::Hook(Call { name: hook.name.clone(), event, key, answer: false }));
        }
    }

    /// Keeps the decision: from where the turn began to where it is now, for the reason in force.
    pub fn record(&mut self, actor: Actor, by: Option<&By>) {
        let key = self.key();
        let (before, next) = (self.before, &self.next);
        let suffered = self.suffered();
        let record = Record {
            key,
            run: next.run,
            at_millis: self.scene.wall.0,
            version: next.identity.version.clone(),
            from: before.phase.name().into(),
            to: next.phase.name().into(),
            step: next.step,
            actor,
            who: by.map(|by| by.actor.clone()),
            code: next.reason.code.clone(),
            reason: next.reason.text.clone(),
            annotations: by.map(|by| by.annotations.clone()).unwrap_or_default(),
            before: before.seen_canary_share(),
            after: next.seen_canary_share(),
            found: next.found.clone(),
            failing: suffered.map(|suffered| suffered.failing.clone()).unwrap_or_default(),
            first_bad_at_millis: suffered.and_then(|suffered| suffered.since_millis),
            in_force_at_millis: None,
            weights: None,
        };
        self.tell(Move::Record(Box::new(record)));
    }

    /// Keeps the decision, calls the hooks of a transition, and tells people.
    pub fn announce(&mut self, actor: Actor, by: Option<&By>, level: Level) {
        self.record(actor, by);
        self.call(HookEvent::OnTransition);
        let code = self.next.reason.code.clone();
        let text = format!("{}: {}", self.next.phase.name(), self.next.reason.text);
        let text = match self.next.phase {
            Phase::Reverting
            | Phase::Paused { cause: PauseCause::Harm, .. }
            | Phase::Hold { reason: Hold::Suspicious, .. } => self.with_failing(text, "canary"),
            Phase::Hold { reason: Hold::StableUnhealthy, .. } => self.with_failing(text, "stable"),
            _ => text,
        };
        let key = self.key();
        self.tell(Move::Notify(Notice { key, level, code, text }));
        self.call(HookEvent::Event);
    }

    /// A text with what fails of an arm, when anything does.
    pub fn with_failing(&self, text: String, arm: &str) -> String {
        match self.suffered().and_then(|suffered| suffered.words(arm)) {
            Some(failing) => format!("{text}; {failing}"),
            None => text,
        }
    }

    /// What failed in the step; `None` when a run begins, for what failed was the one before it.
    fn suffered(&self) -> Option<&Suffered> {
        (self.next.run == self.before.run).then_some(&self.scene.suffered)
    }

    /// Nothing is done, and this is why.
    pub fn refuse(
        &self,
        kind: RefusedKind,
        code: &'static str,
        message: impl Into<String>,
        hint: &str,
    ) -> Refused {
        let state = self.before.phase.name();
        Refused { kind, code, state, message: message.into(), hint: hint.to_owned() }
    }

    /// The outcome, its moves in the order of safety.
    pub fn done(mut self) -> Outcome {
        let shadow = |one: &Rollout| one.phase.base() == Some(Base::Shadow);
        if shadow(self.before) && !shadow(&self.next) {
            self.put_in_force(Move::Mirror(Share::NONE));
        }
        if self.next.phase.base().is_none() {
            // Nobody waits for an answer any more.
            self.tell.retain(|one| !matches!(one, Move::Hook(Call { answer: true, .. })));
        }
        let order = self.order.unwrap_or(Order::AfterPublish);
        let persist = self.dirty.then_some(Move::Persist(order));
        let (first, last) = match order {
            Order::BeforePublish => (persist, None),
            Order::AfterPublish => (None, persist),
        };
        let moves = first.into_iter().chain(self.publish).chain(last).chain(self.tell).collect();
        Outcome { next: self.next, moves }
    }
}
