//! The one function that moves an exchange of slots.
//!
//! The way back is always open while something answers there. It must never send anybody to a slot
//! that was not written down first, nor move anything while a rollout does.

use super::super::event::By;
use super::super::moves::{Actor, Level, Notice, Order, Record, Refused, RefusedKind};
use super::super::state::{Reason, Share};
use super::{Event, Flip, Move, Outcome, Phase, Rules, Scene, invariants, notes};
use crate::analysis::verify::{Harmful, Left, Verifier};

/// Moves an exchange by one event.
///
/// # Errors
/// When the event is something asked for, and not possible now. Nothing has changed then.
pub fn step(flip: &Flip, rules: &Rules<'_>, event: &Event, scene: &Scene) -> Result<Outcome, Refused> {
    let mut turn = Turn { before: flip, next: flip.clone(), moves: Vec::new(), rules, scene };
    match event {
        Event::Asked { back: true, force, by } => turn.asked_back(*force, by)?,
        Event::Asked { back: false, force, by } => turn.asked(*force, by)?,
        Event::Smoked { run, failed, by } => turn.smoked(*run, failed.as_ref(), by),
        Event::Second { second, left, in_flight } => turn.second(*second, left, *in_flight),
        Event::Weights(by) => turn.weights(by),
        Event::Promoted => turn.promoted(),
        Event::Restarted => turn.restarted(),
    }
    let outcome = Outcome { next: turn.next, moves: turn.moves };
    let broken = invariants::check(flip, event, scene, &outcome);
    debug_assert_eq!(broken, Ok(()), "{event:?}\n{flip:?}\n{outcome:?}");
    Ok(outcome)
}

struct Turn<'a> {
    before: &'a Flip,
    next: Flip,
    moves: Vec<Move>,
    rules: &'a Rules<'a>,
    scene: &'a Scene,
}

/// Why it is so, and who says it.
struct Why<'a> {
    actor: Actor,
    by: Option<&'a By>,
    level: Level,
    code: &'static str,
    text: String,
}

impl<'a> Why<'a> {
    fn operator(by: &'a By, level: Level, code: &'static str, otherwise: String) -> Self {
        let text = if by.reason.is_empty() { otherwise } else { format!("{otherwise}: {}", by.reason) };
        Self { actor: Actor::Operator, by: Some(by), level, code, text }
    }

    fn itself(actor: Actor, level: Level, code: &'static str, text: String) -> Self {
        Self { actor, by: None, level, code, text }
    }
}

impl Turn<'_> {
    fn conflict(&self, code: &'static str, message: impl Into<String>, hint: impl Into<String>) -> Refused {
        let (kind, state) = (RefusedKind::Conflict, self.before.phase.name());
        Refused { kind, code, state, message: message.into(), hint: hint.into() }
    }

    fn possible(&self, force: bool) -> Result<(), Refused> {
        if self.scene.rollout_live {
            let hint = "`rollout promote`, or `rollout abort` and then flip";
            return Err(self.conflict("rollout-live", "a rollout moves these slots", hint));
        }
        if !self.scene.idle_alive && !force {
            let message = format!("`{}` has no endpoint that could answer", self.next.idle);
            return Err(self.conflict("no-endpoint", message, "`--force` flips all the same"));
        }
        Ok(())
    }

    fn asked(&mut self, force: bool, by: &By) -> Result<(), Refused> {
        if self.next.phase.is_busy() {
            let hint = "`flip --back` ends it, or wait";
            return Err(self.conflict("flip-under-way", "a flip is under way", hint));
        }
        self.possible(force)?;
        self.next.run += 1;
        self.next.started_at_millis = self.scene.wall.0;
        if force {
            self.flip(by, ", which was not tried");
            return Ok(());
        }
        self.next.phase = Phase::Smoke;
        let text = format!("{} is tried before it serves", self.next.idle);
        self.decide(Why::operator(by, Level::Info, "smoke", text), None);
        self.moves.push(Move::Smoke);
        Ok(())
    }

    fn asked_back(&mut self, force: bool, by: &By) -> Result<(), Refused> {
        if self.next.phase == Phase::Smoke {
            self.next.phase = Phase::Steady;
            let text = format!("the flip to {} was called off", self.next.idle);
            self.decide(Why::operator(by, Level::Info, "called-off", text), None);
            return Ok(());
        }
        if !self.next.way_back {
            let message = format!("`{}` serves, and no flip is to be undone", self.next.active);
            return Err(self.conflict(
                "nothing-to-undo",
                message,
                "`flip` without `--back` goes to the other slot",
            ));
        }
        self.possible(force)?;
        let text = format!("back from {} to {}", self.next.active, self.next.idle);
        self.back(Phase::Steady, Why::operator(by, Level::Warning, "flip-back", text));
        Ok(())
    }

    fn smoked(&mut self, run: u64, failed: Option<&(&'static str, String)>, by: &By) {
        if self.next.phase != Phase::Smoke || self.next.run != run {
            return;
        }
        let called_off = self.scene.rollout_live.then(|| ("rollout-live", "a rollout began".to_owned()));
        if let Some((code, why)) = called_off.as_ref().or(failed) {
            self.next.phase = Phase::Steady;
            let text = format!("{} goes on, {} is not fit to serve: {why}", self.next.active, self.next.idle);
            self.decide(
                Why::operator(&By { reason: String::new(), ..by.clone() }, Level::Warning, code, text),
                None,
            );
            return;
        }
        self.flip(by, "");
    }

    /// Everything goes to the idle slot.
    fn flip(&mut self, by: &By, untried: &str) {
        self.exchange(Order::BeforePublish);
        self.next.way_back = true;
        self.next.told_closed = false;
        self.next.phase = Phase::Steady;
        if self.rules.verify_ms > 0 {
            self.next.phase = Phase::Verifying;
            self.next.verifier = Some(Verifier::new(self.scene.before.clone()));
        }
        let text = format!("everything goes from {} to {}{untried}", self.next.idle, self.next.active);
        self.decide(Why::operator(by, Level::Info, "flip", text), Some((Share::NONE, Share::ALL)));
    }

    /// Everything goes back to where it came from.
    fn back(&mut self, phase: Phase, why: Why<'_>) {
        self.exchange(Order::AfterPublish);
        (self.next.phase, self.next.way_back) = (phase, false);
        self.decide(why, Some((Share::ALL, Share::NONE)));
    }

    fn exchange(&mut self, order: Order) {
        std::mem::swap(&mut self.next.active, &mut self.next.idle);
        (self.next.watched_ms, self.next.verifier) = (0, None);
        self.next.drain_ms = Some(self.rules.drain_ms.max(1));
        self.moves.push(Move::Persist(order));
        self.moves.push(Move::SetActive(self.next.active.clone()));
    }

    fn second(&mut self, second: u64, left: &Left, in_flight: u64) {
        let passed = self.next.at.map_or(0, |at| self.scene.monotonic.saturating_sub(at));
        self.next.at = Some(self.scene.monotonic);
        self.drain(passed, in_flight);
        if self.next.phase != Phase::Verifying {
            return;
        }
        self.next.watched_ms += passed;
        let Some(verifier) = &mut self.next.verifier else { return };
        if let Some(harm) = verifier.second(self.rules.limits, second, left) {
            self.harmful(harm);
        } else if self.next.watched_ms >= self.rules.verify_ms {
            self.verified();
        }
    }

    fn harmful(&mut self, harm: Harmful) {
        let code = if harm.rule == "guard" { "guard" } else { "threshold" };
        if self.scene.idle_alive && !self.scene.rollout_live {
            let text =
                format!("{} is harmful, {} serves again: {}", self.next.active, self.next.idle, harm.text);
            return self.back(Phase::FlippedBack, Why::itself(Actor::Analyzer, Level::Error, code, text));
        }
        if !std::mem::replace(&mut self.next.told_closed, true) {
            let text = format!(
                "{} is harmful, and {} has no endpoint to go back to: {}",
                self.next.active, self.next.idle, harm.text
            );
            self.decide(Why::itself(Actor::Analyzer, Level::Error, "way-back-closed", text), None);
        }
    }

    fn verified(&mut self) {
        let (n, e) = self.next.verifier.as_ref().map_or((0, 0), Verifier::seen);
        let little = self.next.verifier.as_ref().is_some_and(|one| one.saw_little(self.rules.limits));
        (self.next.phase, self.next.verifier) = (Phase::Steady, None);
        let (level, more) =
            if little { (Level::Warning, "; that is too little to say anything") } else { (Level::Info, "") };
        let text = format!("{} was watched: {e} of {n} requests failed{more}", self.next.active);
        self.keep();
        self.decide(Why::itself(Actor::Timer, level, "verified", text), None);
    }

    /// Tells once nothing runs on the idle slot any more; closes its tunnels when that takes too long.
    fn drain(&mut self, passed: u64, in_flight: u64) {
        let Some(left) = self.next.drain_ms else { return };
        let idle = self.next.idle.clone();
        if in_flight == 0 {
            self.next.drain_ms = None;
            let text = format!("{idle} is drained: nothing is in flight on it");
            self.keep();
            return self.tell(Why::itself(Actor::Timer, Level::Info, "drained", text), None);
        }
        self.next.drain_ms = Some(left.saturating_sub(passed));
        if left == 0 || self.next.drain_ms != Some(0) {
            return;
        }
        let text = format!(
            "{idle} still has {in_flight} requests or tunnels: tunnels are closed, requests end where they began"
        );
        self.keep();
        self.moves.push(Move::EndTunnels(idle));
        self.tell(Why::itself(Actor::Timer, Level::Warning, "drain-over", text), None);
    }

    fn weights(&mut self, by: &By) {
        self.next.drain_ms = None;
        if !self.next.phase.is_busy() {
            return;
        }
        (self.next.phase, self.next.verifier) = (Phase::Steady, None);
        self.keep();
        let text = "weights were set by hand: nothing is watched any more".to_owned();
        self.decide(Why::operator(by, Level::Warning, "weights", text), None);
    }

    fn promoted(&mut self) {
        self.exchange(Order::BeforePublish);
        (self.next.phase, self.next.way_back) = (Phase::Steady, true);
        let text = format!("a rollout gave everything to {}", self.next.active);
        self.next.reason = Reason { code: "promoted".into(), text };
    }

    fn restarted(&mut self) {
        self.next.at = None;
        if self.next.phase == Phase::Smoke {
            self.next.phase = Phase::Steady;
            let text = format!("the flip to {} ended with the process", self.next.idle);
            self.decide(Why::itself(Actor::Restart, Level::Warning, "restarted", text), None);
        }
    }

    /// Writes it down without a hurry.
    fn keep(&mut self) {
        if !self.moves.iter().any(|one| matches!(one, Move::Persist(_))) {
            self.moves.push(Move::Persist(Order::AfterPublish));
        }
    }

    /// Makes it the reason in force, and tells.
    fn decide(&mut self, why: Why<'_>, shares: Option<(Share, Share)>) {
        self.next.reason = Reason { code: why.code.into(), text: why.text.clone() };
        self.tell(why, shares);
    }

    /// Records it and tells people. Shares are of the slot that the flip goes to.
    fn tell(&mut self, why: Why<'_>, shares: Option<(Share, Share)>) {
        self.next.seq += 1;
        let key = self.next.seq;
        let Why { actor, by, level, code, text } = why;
        let (from, to) = (self.before.phase.name().into(), self.next.phase.name().into());
        let record = Record {
            key,
            run: self.next.run,
            who: by.map(|by| by.actor.clone()),
            code: code.into(),
            reason: text.clone(),
            annotations: notes(by),
            before: shares.map(|(before, _)| before),
            after: shares.map(|(_, after)| after),
            ..Record::plain(self.scene.wall.0, from, to, actor)
        };
        // Nobody need be told of an attempt; its end is told.
        if self.next.phase != Phase::Smoke {
            self.moves.push(Move::Notify(Notice { key, level, code: code.into(), text }));
        }
        self.moves.push(Move::Record(Box::new(record)));
    }
}
