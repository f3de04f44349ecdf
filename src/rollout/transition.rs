//! The one function that moves a rollout, and the few moves every part of it makes.
//!
//! What a tick does is in `tick`, what people do in `verbs`, what edits and restarts do in `reload`.
//! Moves toward the reference are always accepted. It must never give the candidate more without a
//! store that can write it down.

use super::event::{By, Event, Role, Scene};
use super::invariants;
use super::moves::{Actor, Analyze, Level, Move, Outcome, Refused};
use super::state::{Base, Direction, Identity, Phase, Rollout, Scheme, Share};
use super::turn::Turn;
use super::{gates, reload, tick, verbs};
use crate::analysis::{Policy, Verdict};
use crate::spec::rollout::HookEvent;

/// Requests per second from which a small holdback is enough to compare with.
const MUCH_TRAFFIC: f64 = 1_000.0;

/// Moves a rollout by one event.
///
/// The policy is the one in force; an event that brings another one ([`Event::PolicyChanged`],
/// [`Event::Version`]) comes with the new one.
///
/// # Errors
/// When the event is something asked for, and not possible now. Nothing has changed then.
pub fn transition(
    rollout: &Rollout,
    policy: &Policy,
    event: &Event,
    scene: &Scene,
) -> Result<Outcome, Refused> {
    let mut turn = Turn::new(rollout, policy, scene);
    match event {
        Event::Tick(finding) => tick::tick(&mut turn, finding.as_deref()),
        Event::Operator { verb, version, force, by } => {
            verbs::operator(&mut turn, verb, version.as_deref(), *force, by)?;
        }
        Event::Weights { canary, by } => verbs::weights(&mut turn, *canary, by)?,
        Event::WeightsReset { by } => verbs::weights_reset(&mut turn, by),
        Event::Version(identity) => reload::version(&mut turn, identity)?,
        Event::PolicyChanged { fingerprint } => reload::policy(&mut turn, *fingerprint),
        Event::ArmEdited(role) => reload::arm_edited(&mut turn, *role),
        Event::SplitEdited { before, after } => reload::split_edited(&mut turn, *before, *after)?,
        Event::BlockRemoved => reload::block_removed(&mut turn),
        Event::Restarted => reload::restarted(&mut turn),
        Event::StateLost { why } => reload::state_lost(&mut turn, why),
        Event::Hook(answer) => gates::answered(&mut turn, answer),
        Event::ClockJump(millis) => {
            let text = format!("the wall clock stepped by {millis} ms; nothing is measured by it");
            turn.notify(Level::Info, "clock-jump", text);
        }
    }
    let outcome = turn.done();
    debug_assert_eq!(
        invariants::check(rollout, policy, event, scene, &outcome),
        Ok(()),
        "{event:?}\n{rollout:?}\n{outcome:?}"
    );
    Ok(outcome)
}

/// The candidate's share at the last step: all but what keeps the comparison alive.
#[must_use]
pub fn bake_share(rate: f64) -> Share {
    if rate < MUCH_TRAFFIC { Share(950_000) } else { Share(990_000) }
}

/// Begins a run of an identity: pending when it may start by itself or is told to, else idle.
pub(super) fn begin(turn: &mut Turn<'_>, identity: Identity, direction: Direction, told: bool) {
    let old = std::mem::take(&mut turn.next);
    let locked = old.is_spoiled(&identity.version);
    let starts = told || (turn.policy.conduct.auto_start && !locked && !old.parked);
    turn.next = Rollout {
        run: old.run + 1,
        seq: old.seq,
        spoiled: old.spoiled,
        manual: old.manual,
        parked: old.parked && !starts,
        last: old.last,
        started_at_millis: turn.scene.wall.0,
        step_entered_at_millis: turn.scene.wall.0,
        direction,
        ..Rollout::new(identity)
    };
    if told {
        let version = turn.next.identity.version.clone();
        turn.next.spoiled.retain(|spoiled| *spoiled != version);
    }
    turn.lower(Share::NONE);
    if starts {
        turn.clear_manual();
        let arm = turn.next.candidate().to_owned();
        turn.put_in_force(Move::AllowOverridesAndPins(arm));
        turn.analyze(Analyze::Begin);
        let text = format!("{} is checked before its first traffic", turn.next.identity.version);
        turn.enter(Phase::Pending, "begin", text);
    } else {
        turn.next.manual = None;
        let version = &turn.next.identity.version;
        let (code, text, wants) = if locked {
            ("version-locked", format!("{version} was put back before; it starts by `retry`"), "retry")
        } else if turn.next.parked {
            let text = format!("the one before it was aborted: {version} waits for `rollout start`");
            ("parked", text, "start")
        } else {
            ("auto-start-off", format!("{version} waits for `rollout start`"), "start")
        };
        turn.enter(Phase::Idle, code, text);
        turn.next.waiting_for.push(wants.to_owned());
    }
}

/// Goes to a step: its weight, its clocks, and what the analyzer and the hooks are told.
pub(super) fn enter_step(turn: &mut Turn<'_>, step: u32, code: &'static str, text: impl Into<String>) {
    let before = turn.next.share;
    turn.next.step = step;
    let written = turn.next.step_share(turn.policy);
    let last = written >= Share::ALL;
    let share = if last { bake_share(turn.scene.rate) } else { written };
    restart_step(turn);
    turn.enter(if last { Phase::Bake } else { Phase::Stage }, code, text);
    if share > before {
        turn.raise(share);
    } else {
        turn.lower(share);
    }
    turn.analyze(Analyze::EnterStep { step, share });
    gates::enter_step(turn);
}

/// Begins everything that is counted per step again.
pub(super) fn restart_step(turn: &mut Turn<'_>) {
    turn.next.clocks.enter_step();
    turn.next.step_entered_at_millis = turn.scene.wall.0;
    turn.next.told.clear();
    turn.next.observed_at_millis = None;
    turn.next.waits.clear();
    turn.next.released = false;
}

/// Gives the candidate everything: the end of a forward run, or of `finish`.
pub(super) fn complete(turn: &mut Turn<'_>, actor: Actor, by: Option<&By>) {
    turn.clear_manual();
    turn.raise(Share::ALL);
    let overruled = turn.next.overruled.relative;
    if let Some(found) = turn.next.found.as_mut().filter(|_| actor == Actor::Analyzer && !overruled) {
        // At the bake little can be detected; what had to be was by the steps before it, and it is
        // not worse than stable was in them.
        if found.verdict == Verdict::Undecided.label() {
            found.verdict = Verdict::Healthy.label().into();
        }
    }
    let version = turn.next.identity.version.clone();
    match turn.next.direction {
        Direction::Forward => {
            turn.enter(Phase::Promoted, "promoted", format!("{version} has everything"));
            if turn.next.identity.scheme == Scheme::Slots {
                let active = turn.next.identity.to.clone();
                turn.put_in_force(Move::SwapSlots { active });
            }
        }
        Direction::Back => {
            let text = format!("{version} is on {} again", turn.next.identity.from);
            turn.enter(Phase::Finished, "finished", text);
        }
    }
    turn.next.waits.clear();
    turn.announce(actor, by, Level::Info);
    turn.call(HookEvent::PostRollout);
}

/// Puts the candidate back, at once or over the policy's ramp.
pub(super) fn revert(turn: &mut Turn<'_>, code: &'static str, text: impl Into<String>, actor: Actor) {
    let seen = turn.next.seen_share();
    let at_once = turn.policy.conduct.revert_ramp <= 0.0 || seen == Share::NONE;
    turn.clear_manual();
    turn.next.ramp_from = seen;
    turn.next.told.clear();
    turn.next.waits.clear();
    if turn.next.direction == Direction::Forward && turn.next.block {
        turn.next.spoil();
    }
    turn.lower(if at_once { Share::NONE } else { seen.min(turn.next.share) });
    turn.void();
    turn.enter(Phase::Reverting, code, text);
    turn.announce(actor, None, Level::Error);
}

/// Ends a live run at weight 0, at once.
pub(super) fn end(turn: &mut Turn<'_>, phase: Phase, actor: Actor, by: Option<&By>) {
    let reason = turn.next.reason.clone();
    turn.next.waits.clear();
    turn.next.told.clear();
    turn.lower(Share::NONE);
    turn.void();
    turn.enter(phase, "ended", "");
    turn.next.reason = reason;
    let level = if phase == Phase::Aborted { Level::Warning } else { Level::Info };
    turn.announce(actor, by, level);
    turn.call(HookEvent::PostRollout);
}

/// A walk back that failed leaves what was promoted in force.
pub(super) fn end_walk_back(turn: &mut Turn<'_>, actor: Actor, by: Option<&By>) {
    let reason = turn.next.reason.clone();
    turn.lower(Share::NONE);
    turn.void();
    (turn.next.direction, turn.next.share) = (Direction::Forward, Share::ALL);
    turn.next.waits.clear();
    turn.enter(Phase::Promoted, "ended", "");
    turn.next.reason = reason;
    turn.announce(actor, by, Level::Warning);
}

/// The role an arm edit is about, as the present direction sees it.
pub(super) fn is_candidate(turn: &Turn<'_>, role: Role) -> bool {
    turn.candidate() == role
}

/// What a live rollout is at; pending when it is not.
pub(super) fn base(rollout: &Rollout) -> Base {
    rollout.phase.base().unwrap_or(Base::Pending)
}
