//! What a second changes: harm first, then deadlines, then holds, and only then a step forward.
//!
//! The order of the functions called in [`live`] is the order of safety. It must never take a step
//! on a second it does not trust, or on the silence of whoever had to be asked.

use super::clocks::millis;
use super::event::CheckWord;
use super::forward::{first_step, forward, gate_is_late, hold, step_deadline};
use super::gates::{self, Stand};
use super::harm::{doubt, harm, rollout_deadline};
use super::moves::{Actor, Level, Move, Summary, lacks_of};
use super::recovery;
use super::state::{Base, Direction, Hold, Mark, Phase, Reason, Share};
use super::transition::{base, begin, end, end_walk_back, restart_step};
use super::turn::Turn;
use crate::analysis::{Finding, Verdict, Waiting};
use crate::spec::rollout::HookEvent;

/// Milliseconds the checks before the first traffic may take.
pub const PENDING_DEADLINE: u64 = 600_000;
/// Milliseconds after a revert when it is said whether the reference recovered.
pub const RECOVERY: u64 = 60_000;
/// A second passed.
pub(super) fn tick(turn: &mut Turn<'_>, finding: Option<&Finding>) {
    if turn.next.is_live() {
        turn.next.found = finding.map(Summary::of).or(turn.next.found.take());
    }
    match turn.next.phase {
        Phase::Pending => pending(turn),
        Phase::Reverting => reverting(turn),
        Phase::Idle | Phase::Promoted => {}
        Phase::Reverted | Phase::Aborted | Phase::Superseded | Phase::Finished => ended(turn),
        _ => live(turn, finding),
    }
}

/// What must be true before the first traffic, in the order in which it is looked at.
fn pending(turn: &mut Turn<'_>) {
    turn.next.waiting_for.clear();
    turn.next.patient = false;
    if turn.next.clocks.step >= PENDING_DEADLINE {
        let why = turn.before.waiting_for.join(", ");
        let text = format!("it was not ready for traffic within 10 minutes: {why}");
        turn.next.reason = Reason { code: "not-ready".into(), text };
        return match turn.next.direction {
            Direction::Forward => {
                turn.next.spoil();
                end(turn, Phase::Aborted, Actor::Timer, None);
            }
            Direction::Back => end_walk_back(turn, Actor::Timer, None),
        };
    }
    let candidate = turn.candidate();
    for (role, what) in
        [(candidate, "an endpoint of the canary"), (turn.reference(), "an endpoint of stable")]
    {
        if !turn.alive(role) {
            return turn.next.waiting_for.push(what.to_owned());
        }
    }
    if gates::ask(turn, HookEvent::PreRollout) != Stand::Open {
        return;
    }
    if !turn.scene.store {
        return turn.next.waiting_for.push("the state to be writable".to_owned());
    }
    turn.next.patient = true;
    match gates::ask(turn, HookEvent::ConfirmRollout) {
        Stand::Open => {}
        Stand::Waiting => return,
        Stand::Late => return gate_is_late(turn),
    }
    let (scene, barred) = (turn.scene, !turn.next.overruled.bars);
    if barred && !scene.window_open {
        return turn.next.waiting_for.push(scene.window_words());
    }
    if barred && scene.budget_frozen {
        return turn.next.waiting_for.push(scene.budget_words());
    }
    if !turn.gap {
        leave_pending(turn);
    }
}

fn leave_pending(turn: &mut Turn<'_>) {
    let shadow = turn.policy.shadow.filter(|_| turn.next.direction == Direction::Forward);
    match shadow {
        Some(share) => {
            restart_step(turn);
            turn.enter(Phase::Shadow, "shadow", "what is mirrored to it is compared");
            turn.put_in_force(Move::Mirror(Share::of(share)));
            gates::enter_step(turn);
        }
        None if turn.next.direction == Direction::Back => {
            let text = format!("{} has the version and takes traffic back", turn.next.candidate());
            first_step(turn, "first-step", &text);
        }
        None => first_step(turn, "first-step", "it is ready for its first traffic"),
    }
    turn.announce(Actor::Timer, None, Level::Info);
}

/// Weights return, and when that is written down it is over.
fn reverting(turn: &mut Turn<'_>) {
    let ramp = millis(turn.policy.conduct.revert_ramp);
    let spent = turn.next.clocks.phase;
    if turn.next.share > Share::NONE {
        let left = ramp.saturating_sub(spent);
        let share = u64::from(turn.next.ramp_from.0) * left / ramp.max(1);
        let share = Share(u32::try_from(share).unwrap_or(0)).min(turn.next.share);
        if share < turn.next.share {
            turn.lower(share);
        }
        return;
    }
    if turn.scene.store && turn.before.share == Share::NONE {
        settle(turn, Actor::Timer);
    }
}

/// A return that is complete.
pub(super) fn settle(turn: &mut Turn<'_>, actor: Actor) {
    match turn.next.direction {
        Direction::Back => end_walk_back(turn, actor, None),
        Direction::Forward if turn.next.block => {
            turn.next.spoil();
            end(turn, Phase::Reverted, actor, None);
        }
        Direction::Forward => {
            turn.next.kept = true;
            end(turn, Phase::Idle, actor, None);
        }
    }
}

/// After an end: whether the reference recovered, and what comes next.
fn ended(turn: &mut Turn<'_>) {
    let put_back = matches!(turn.next.phase, Phase::Reverted | Phase::Aborted);
    if put_back && turn.next.clocks.phase >= RECOVERY && turn.once(Mark::Recovery) {
        recovery::tell(turn);
    }
    if turn.scene.store
        && let Some(identity) = turn.next.next.take()
    {
        begin(turn, identity, Direction::Forward, false);
        turn.announce(Actor::Config, None, Level::Info);
    }
}

/// A second with the candidate on trial, or paused while it is.
fn live(turn: &mut Turn<'_>, finding: Option<&Finding>) {
    let at = base(&turn.next);
    // Before its first step users see it only when a person gave it weight by hand.
    if at == Base::Pending && turn.next.manual.is_none() {
        return;
    }
    if harm(turn, finding) || rollout_deadline(turn) {
        return;
    }
    gates::poll(turn);
    if turn.next.phase.is_paused() || step_deadline(turn, finding) {
        return;
    }
    turn.next.waiting_for = finding
        .map(|found| found.waiting_for.iter().map(|one| lacks_of(&turn.next, one)).collect())
        .unwrap_or_default();
    if let Some((reason, text)) = doubt(turn, finding) {
        return hold(turn, reason, text);
    }
    if let CheckWord::Waiting(name) = &turn.scene.checks {
        turn.next.waiting_for.push(format!("the first answer of the check `{name}` in this step"));
        return go_on(turn, at);
    }
    if !shown(turn, finding, at) {
        let late = turn.next.clocks.dwell >= dwell(turn, at);
        return if late {
            let text = if turn.next.waiting_for.is_empty() {
                "no traffic is counted".to_owned()
            } else {
                format!("it needs {}", turn.next.waiting_for.join(", "))
            };
            hold(turn, Hold::LowData, text);
        } else {
            go_on(turn, at);
        };
    }
    if !turn.gap {
        forward(turn, at);
    }
}

/// The minimum time of what it is at, in milliseconds.
pub(super) fn dwell(turn: &Turn<'_>, at: Base) -> u64 {
    let policy = turn.policy;
    match at {
        Base::Bake => millis(policy.conduct.bake),
        Base::Stage => millis(policy.dwell_of(turn.next.step)),
        Base::Pending | Base::Shadow => millis(policy.dwell),
    }
}

/// Whether everything the step demands has been shown.
fn shown(turn: &Turn<'_>, finding: Option<&Finding>, at: Base) -> bool {
    let Some(found) = finding.filter(|found| at == Base::Shadow || found.step == turn.next.step) else {
        return false;
    };
    let enough = match found.verdict {
        // What is left of a suspicion here was overruled by a person.
        Verdict::Healthy | Verdict::Suspect | Verdict::Harmful => true,
        // Steps before it have shown what had to be detectable.
        Verdict::Undecided => {
            let later =
                |waiting: &Waiting| matches!(waiting, Waiting::Dwell { .. } | Waiting::Detectable { .. });
            at == Base::Bake && turn.next.step > 0 && found.waiting_for.iter().all(later)
        }
    };
    enough && turn.next.clocks.dwell >= dwell(turn, at)
}

/// Goes on by itself after a hold.
fn go_on(turn: &mut Turn<'_>, at: Base) {
    if turn.next.phase != at.phase() {
        let waiting = std::mem::take(&mut turn.next.waiting_for);
        turn.enter(at.phase(), "going-on", "nothing holds it any more");
        turn.next.waiting_for = waiting;
    }
}
