//! What an operator asks for, and when it is not possible.
//!
//! Moves toward the reference are always accepted; moves toward the candidate say what stands
//! against them, and `force` with a reason overrules what is a judgement. Nothing overrules a state
//! that cannot be written down.

use super::event::{By, Verb};
use super::forward::{barred, step_forward};
use super::moves::{Actor, Level, Move, Refused, RefusedKind};
use super::state::{Base, Direction, Hold, PauseCause, Phase, Reason, Scheme, Share};
use super::transition::{begin, complete, end, end_walk_back, enter_step};
use super::turn::Turn;
use crate::analysis::Verdict;

type Done = Result<(), Refused>;

/// An operator asks.
pub(super) fn operator(
    turn: &mut Turn<'_>,
    verb: &Verb,
    version: Option<&str>,
    force: bool,
    by: &By,
) -> Done {
    match verb {
        Verb::Abort | Verb::Pause => known_version(turn, version)?,
        _ => right_version(turn, version)?,
    }
    if force && by.reason.is_empty() && verb.needs_generation() {
        return Err(invalid(turn, "reason-missing", "`--force` needs a reason", "say why with --reason"));
    }
    match verb {
        Verb::Start | Verb::Advance | Verb::Promote if force && turn.next.phase == Phase::Pending => {
            storable(turn)?;
            pass_the_bars(turn, by);
            Ok(())
        }
        Verb::Start => start(turn, force, by),
        Verb::Pause => pause(turn, by),
        Verb::Resume => resume(turn, force, by),
        Verb::Advance => advance(turn, force, by),
        Verb::Promote => promote(turn, force, by),
        Verb::Finish => finish(turn, by),
        Verb::Abort if slots_swapped(turn) => {
            let hint = "`flip ROUTE --back`";
            Err(conflict(turn, "slots", "the slots have swapped: it is stable now", hint))
        }
        Verb::Abort => {
            abort(turn, by);
            Ok(())
        }
        Verb::Retry => retry(turn, by),
    }
}

fn conflict(turn: &Turn<'_>, code: &'static str, message: impl Into<String>, hint: &str) -> Refused {
    turn.refuse(RefusedKind::Conflict, code, message, hint)
}

fn invalid(turn: &Turn<'_>, code: &'static str, message: &str, hint: &str) -> Refused {
    turn.refuse(RefusedKind::Invalid, code, message, hint)
}

fn right_version(turn: &Turn<'_>, version: Option<&str>) -> Done {
    let pending = turn.next.next.as_ref().unwrap_or(&turn.next.identity);
    match version {
        Some(version) if version != pending.version => {
            let message = format!("the rollout is of {}, not of {version}", pending.version);
            Err(conflict(turn, "other-version", message, "the version comes from the file's rollout block"))
        }
        _ => Ok(()),
    }
}

/// What is stopped is the version under way or the last one: a late word about an older one is not
/// about this one.
fn known_version(turn: &Turn<'_>, version: Option<&str>) -> Done {
    let present = &turn.next.identity.version;
    if version.is_some_and(|version| version == present) {
        return Ok(());
    }
    right_version(turn, version)
}

/// What a person said, as the reason in force.
fn said(by: &By, otherwise: &str) -> String {
    if by.reason.is_empty() { otherwise.to_owned() } else { by.reason.clone() }
}

/// Windows and the error budget hold nothing back any more in this run; everything else still does.
fn pass_the_bars(turn: &mut Turn<'_>, by: &By) {
    turn.next.overruled.bars = true;
    let text = format!("{} overruled windows and the error budget: {}", by.actor, by.reason);
    turn.next.reason = Reason { code: "overruled".into(), text };
    turn.announce(Actor::Operator, Some(by), Level::Warning);
}

fn start(turn: &mut Turn<'_>, force: bool, by: &By) -> Done {
    let identity = turn.next.next.as_ref().unwrap_or(&turn.next.identity).clone();
    let locked = turn.next.is_spoiled(&identity.version);
    let hint = match turn.next.phase {
        Phase::Idle if !turn.next.block => "write a rollout block first",
        Phase::Idle | Phase::Superseded if !locked => {
            storable(turn)?;
            begin(turn, identity, Direction::Forward, true);
            turn.next.reason.text = said(by, "started");
            turn.announce(Actor::Operator, Some(by), Level::Info);
            if force {
                pass_the_bars(turn, by);
            }
            return Ok(());
        }
        Phase::Idle | Phase::Superseded | Phase::Reverted | Phase::Aborted => {
            "it was put back: `rollout retry --reason …` or a new version"
        }
        Phase::Promoted | Phase::Finished => "write a new version into the file",
        Phase::Paused { .. } => "`rollout resume`",
        Phase::Pending if is_barred(turn) => PASS,
        _ => "it is under way: `rollout pause` or `rollout abort`",
    };
    Err(conflict(turn, "cannot-start", "it cannot be started now", hint))
}

/// How a person passes a closed window or a spent budget.
const PASS: &str = "`rollout start ROUTE --force --reason …` overrules the window and the error budget";

fn is_barred(turn: &Turn<'_>) -> bool {
    !turn.next.overruled.bars && (turn.scene.budget_frozen || !turn.scene.window_open)
}

fn pause(turn: &mut Turn<'_>, by: &By) -> Done {
    if turn.next.phase.base().is_none() {
        let hint = "only what is under way can be paused";
        return Err(conflict(turn, "not-live", "there is nothing to pause", hint));
    }
    let keeps = matches!(
        turn.next.phase,
        Phase::Paused { cause: PauseCause::StateLost | PauseCause::Weights | PauseCause::Harm, .. }
    );
    if !keeps {
        turn.pause(PauseCause::Operator, said(by, "paused"));
    }
    turn.announce(Actor::Operator, Some(by), Level::Info);
    Ok(())
}

fn resume(turn: &mut Turn<'_>, force: bool, by: &By) -> Done {
    let held =
        matches!(turn.next.phase, Phase::Pending | Phase::Hold { reason: Hold::Window | Hold::Budget, .. });
    if force && held {
        storable(turn)?;
        pass_the_bars(turn, by);
        return Ok(());
    }
    let Phase::Paused { cause, over } = turn.next.phase else {
        if held && is_barred(turn) {
            let hint = "`--force --reason …` overrules the window and the error budget";
            return Err(conflict(turn, "not-paused", "it is not paused", hint));
        }
        return Err(conflict(turn, "not-paused", "it is not paused", "a hold ends by itself"));
    };
    no_manual_weights(turn)?;
    match cause {
        PauseCause::Harm if !force => {
            let hint = "`--force --reason …` overrules it; `rollout abort` puts it back";
            return Err(conflict(turn, "harmful", "the evidence says that it is harmful", hint));
        }
        PauseCause::Harm => {
            let guard = turn.next.found.as_ref().is_some_and(|found| found.rule == "guard");
            turn.next.overruled.relative = true;
            turn.next.overruled.guard |= guard;
        }
        PauseCause::Step => turn.next.released = true,
        PauseCause::StepDeadline => turn.next.clocks.step = 0,
        PauseCause::RolloutDeadline => (turn.next.clocks.rollout, turn.next.clocks.step) = (0, 0),
        PauseCause::Gate => turn.next.waits.clear(),
        PauseCause::StateLost => {
            let arm = turn.next.candidate().to_owned();
            turn.put_in_force(Move::AllowOverridesAndPins(arm));
        }
        PauseCause::Operator | PauseCause::Weights => {}
    }
    let bars = force && is_barred(turn);
    turn.enter(over.phase(), "resumed", said(by, "resumed"));
    turn.announce(Actor::Operator, Some(by), Level::Info);
    if bars {
        pass_the_bars(turn, by);
    }
    Ok(())
}

/// Weights rise only when that can be written down.
fn storable(turn: &Turn<'_>) -> Done {
    if turn.scene.store {
        return Ok(());
    }
    let hint = "make the state folder writable; weights can still be put back";
    Err(conflict(turn, "store", "the state cannot be written down", hint))
}

fn no_manual_weights(turn: &Turn<'_>) -> Done {
    if turn.next.manual.is_none() && (turn.next.is_live() || !turn.scene.weights_by_hand) {
        return Ok(());
    }
    let hint = "`weights ROUTE --reset` first";
    Err(conflict(turn, "manual-weights", "weights set by hand are in force", hint))
}

/// What stands against more weight, for a person who asks for it.
fn may_rise(turn: &Turn<'_>, force: bool) -> Done {
    storable(turn)?;
    no_manual_weights(turn)?;
    let alive = turn.alive(turn.candidate());
    if !alive {
        let hint = "look at its health checks";
        return Err(conflict(turn, "canary-down", "the canary has no endpoint", hint));
    }
    if force {
        return Ok(());
    }
    let hint = "`--force --reason …` overrules it";
    let found = turn.next.found.as_ref().map(|found| &*found.verdict);
    let bad = [Verdict::Harmful.label(), Verdict::Suspect.label()];
    if found.is_some_and(|verdict| bad.contains(&verdict)) || !turn.alive(turn.reference()) {
        return Err(conflict(turn, "doubt", "something speaks against it", hint));
    }
    if turn.next.waits.iter().any(|wait| wait.good != Some(true) && is_gate(turn, &wait.name)) {
        return Err(conflict(turn, "gate", "a gate has not let it through", hint));
    }
    match barred(turn) {
        Some((_, text)) => Err(conflict(turn, "barred", text, hint)),
        None => Ok(()),
    }
}

fn is_gate(turn: &Turn<'_>, name: &str) -> bool {
    use crate::spec::rollout::HookEvent::{ConfirmPromotion, ConfirmRollout, ConfirmTrafficIncrease};
    let gates = [ConfirmPromotion, ConfirmRollout, ConfirmTrafficIncrease];
    turn.policy.conduct.hooks.iter().any(|hook| hook.name == name && gates.contains(&hook.event))
}

/// What a person may move forward: not what has not begun.
fn under_way(turn: &Turn<'_>) -> Result<Base, Refused> {
    match turn.next.phase.base() {
        Some(at) if at != Base::Pending => Ok(at),
        Some(_) => {
            let hint = if is_barred(turn) {
                PASS
            } else {
                "it begins by itself when it is ready; see what it waits for"
            };
            Err(conflict(turn, "not-begun", "it has no traffic yet", hint))
        }
        None => Err(conflict(turn, "not-live", "no rollout is under way", "`rollout start` or `retry`")),
    }
}

fn advance(turn: &mut Turn<'_>, force: bool, by: &By) -> Done {
    if under_way(turn)? == Base::Bake {
        let hint = "`rollout promote` ends the bake";
        return Err(conflict(turn, "last-step", "there is no step after this one", hint));
    }
    may_rise(turn, force)?;
    if force {
        turn.next.overruled.relative = true;
    }
    step_forward(turn, Actor::Operator, "advanced", &said(by, "advanced by hand"), Some(by));
    Ok(())
}

fn promote(turn: &mut Turn<'_>, force: bool, by: &By) -> Done {
    let at = under_way(turn)?;
    may_rise(turn, force)?;
    turn.next.overruled.relative = true;
    if at == Base::Bake {
        complete(turn, Actor::Operator, Some(by));
        return Ok(());
    }
    let last = u32::try_from(turn.policy.steps.len().saturating_sub(1)).unwrap_or(u32::MAX);
    enter_step(turn, last, "promoted-by-hand", said(by, "promoted by hand"));
    turn.announce(Actor::Operator, Some(by), Level::Info);
    Ok(())
}

/// Promoted, and the other slot is the active one: nothing of a rollout is left to move.
fn slots_swapped(turn: &Turn<'_>) -> bool {
    turn.next.phase == Phase::Promoted && turn.next.identity.scheme == Scheme::Slots
}

fn finish(turn: &mut Turn<'_>, by: &By) -> Done {
    if turn.next.phase != Phase::Promoted {
        let hint = "it ends what was promoted";
        return Err(conflict(turn, "not-promoted", "nothing is promoted", hint));
    }
    if slots_swapped(turn) {
        let hint = "the next version goes to the idle slot";
        return Err(conflict(turn, "slots", "the slots have swapped: there is nothing to finish", hint));
    }
    if !turn.next.block {
        let hint = "edit the split instead";
        return Err(conflict(turn, "no-block", "the rollout block is gone from the file", hint));
    }
    storable(turn)?;
    let identity = turn.next.identity.clone();
    begin(turn, identity, Direction::Back, true);
    turn.next.reason = Reason { code: "finish".into(), text: said(by, "traffic walks back") };
    turn.announce(Actor::Operator, Some(by), Level::Info);
    Ok(())
}

/// The way back is never refused. A version that waited for this one to end then waits for a person.
pub(super) fn abort(turn: &mut Turn<'_>, by: &By) {
    drop_weights_by_hand(turn);
    let reason = Reason { code: "abort".into(), text: said(by, "aborted") };
    let live = turn.next.phase.base().is_some();
    match (turn.next.phase, turn.next.direction) {
        (Phase::Reverting, _) => {
            turn.next.parked |= turn.next.next.is_some();
            turn.lower(Share::NONE);
            turn.record(Actor::Operator, Some(by));
        }
        (_, Direction::Back) if live => {
            turn.clear_manual();
            turn.next.reason = reason;
            end_walk_back(turn, Actor::Operator, Some(by));
        }
        (Phase::Superseded, _) => {
            if let Some(identity) = turn.next.next.take() {
                turn.next.identity = identity;
                put_away(turn, reason, by);
            }
        }
        (Phase::Promoted, _) => put_away(turn, reason, by),
        (Phase::Idle, _) if turn.next.block => put_away(turn, reason, by),
        _ if live => put_away(turn, reason, by),
        // It already is where an abort would bring it.
        _ => turn.next.parked |= turn.next.next.is_some(),
    }
}

/// Weights that a person set are in force in any state, also after the end.
fn drop_weights_by_hand(turn: &mut Turn<'_>) {
    let guided = turn.next.canary_share().is_some();
    if turn.next.manual.take().is_some() || guided && turn.scene.weights_by_hand {
        turn.put_in_force(Move::ClearManualWeights);
    }
}

fn put_away(turn: &mut Turn<'_>, reason: Reason, by: &By) {
    turn.clear_manual();
    turn.next.next = None;
    turn.next.spoil();
    turn.next.reason = reason;
    end(turn, Phase::Aborted, Actor::Operator, Some(by));
}

fn retry(turn: &mut Turn<'_>, by: &By) -> Done {
    let put_back = match turn.next.phase {
        Phase::Reverted | Phase::Aborted | Phase::Superseded => true,
        Phase::Idle => turn.next.block,
        _ => false,
    };
    if !put_back {
        let hint = "`retry` begins again what was put back";
        return Err(conflict(turn, "not-put-back", "nothing was put back", hint));
    }
    if by.reason.is_empty() {
        return Err(invalid(turn, "reason-missing", "`retry` needs a reason", "say why with --reason"));
    }
    if !turn.next.block {
        let hint = "write a rollout block first";
        return Err(conflict(turn, "no-block", "the rollout block is gone from the file", hint));
    }
    storable(turn)?;
    no_manual_weights(turn)?;
    let identity = turn.next.next.take().unwrap_or_else(|| turn.next.identity.clone());
    begin(turn, identity, Direction::Forward, true);
    turn.next.reason.text.clone_from(&by.reason);
    turn.announce(Actor::Operator, Some(by), Level::Info);
    Ok(())
}

/// Weights set by hand pause what is live; to 0 for the candidate they abort it.
pub(super) fn weights(turn: &mut Turn<'_>, canary: Share, by: &By) -> Done {
    let candidate = match turn.next.direction {
        Direction::Forward => canary,
        Direction::Back => canary.rest(),
    };
    if turn.next.phase == Phase::Reverting && candidate > turn.next.share {
        let hint = "wait until it is REVERTED";
        return Err(conflict(turn, "reverting", "it is being put back", hint));
    }
    if !turn.next.is_live() {
        return Ok(());
    }
    if candidate == Share::NONE {
        abort(turn, by);
        return Ok(());
    }
    if turn.next.phase != Phase::Reverting {
        turn.next.manual = Some(candidate);
        turn.pause(PauseCause::Weights, said(by, "weights were set by hand"));
        turn.announce(Actor::Operator, Some(by), Level::Warning);
    }
    Ok(())
}

/// The rollout's own weights are in force again; it stays paused.
pub(super) fn weights_reset(turn: &mut Turn<'_>, by: &By) {
    if turn.next.manual.take().is_none() {
        return;
    }
    turn.pause(PauseCause::Operator, said(by, "weights set by hand were reset"));
    turn.announce(Actor::Operator, Some(by), Level::Info);
}
