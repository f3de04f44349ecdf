//! What an edit of the file and a start of the process do to a rollout.
//!
//! A baseline that changed proves nothing: weights return. A promoted version is never left by an
//! edit that nobody meant. It must never raise a weight above what was written down.

use super::event::Role;
use super::moves::{Actor, Analyze, Level, Refused, RefusedKind};
use super::state::{Base, Direction, Identity, PauseCause, Phase, Reason, Scheme, Share};
use super::tick::settle;
use super::transition::{begin, end, end_walk_back, enter_step, is_candidate};
use super::turn::Turn;

/// The file has a rollout block with this identity.
pub(super) fn version(turn: &mut Turn<'_>, identity: &Identity) -> Result<(), Refused> {
    (turn.next.block, turn.next.kept) = (true, false);
    let same = turn.next.identity.is_same(identity);
    match turn.next.phase {
        Phase::Idle if same && turn.before.block && turn.next.run > 0 => {}
        Phase::Idle => {
            serving(turn, identity)?;
            turn.next.parked &= same;
            declare(turn, identity);
        }
        Phase::Promoted if same => turn.keep(),
        Phase::Promoted if turn.next.identity.scheme == Scheme::Arms => return Err(unfinished(turn)),
        _ if turn.next.is_live() && same => turn.next.next = None,
        _ if turn.next.direction == Direction::Back && turn.next.is_live() => return Err(unfinished(turn)),
        _ if !same && serving(turn, identity).is_err() => return serving(turn, identity),
        Phase::Reverting => {
            unpark(turn, identity);
            turn.next.next = Some(identity.clone());
            turn.keep();
        }
        _ if turn.next.is_live() => supersede(turn, Some(identity.clone()), "the file has another version"),
        _ if turn.next.next.is_some() => {
            unpark(turn, identity);
            let begins_again = turn.next.phase == Phase::Superseded || !same;
            turn.next.next = begins_again.then(|| identity.clone());
            turn.keep();
        }
        _ if same => turn.keep(),
        _ => declare(turn, identity),
    }
    let still = turn.next.run == turn.before.run && turn.next.phase != Phase::Superseded;
    if same && still && turn.next.identity.policy != identity.policy {
        policy(turn, identity.policy);
    }
    Ok(())
}

/// A version that was written after an abort is meant.
fn unpark(turn: &mut Turn<'_>, identity: &Identity) {
    turn.next.parked &= turn.next.next.as_ref().is_some_and(|next| next.is_same(identity));
}

/// A rollout gives everything to its `from` at once: that must be the arm that has it already.
fn serving(turn: &Turn<'_>, identity: &Identity) -> Result<(), Refused> {
    let old = &turn.next.identity;
    // Slots know themselves which of them serves.
    let (Some(canary), Scheme::Arms) = (turn.next.seen_canary_share(), identity.scheme) else {
        return Ok(());
    };
    let of_both = |arm: &str| arm == old.from || arm == old.to;
    let serves = match canary {
        Share::NONE => identity.from == old.from,
        Share::ALL => identity.from == old.to,
        _ => false,
    };
    let elsewhere = !of_both(&identity.from) && !of_both(&identity.to);
    if serves || identity.from == old.from || elsewhere || turn.next.run == 0 {
        return Ok(());
    }
    let message = format!("`from: {}` does not serve everything now, and would at once", identity.from);
    let hint = format!("keep `from: {}`, or remove the rollout block and move the split first", old.from);
    Err(turn.refuse(RefusedKind::Edit, "from-is-not-serving", message, &hint))
}

fn declare(turn: &mut Turn<'_>, identity: &Identity) {
    begin(turn, identity.clone(), Direction::Forward, false);
    turn.announce(Actor::Config, None, Level::Info);
}

fn unfinished(turn: &Turn<'_>) -> Refused {
    let version = &turn.next.identity.version;
    let message = format!("{version} is promoted and not finished: another one would throw users back");
    let hint = "deploy it to the `from` arm, then `rollout finish`";
    turn.refuse(RefusedKind::Edit, "not-finished", message, hint)
}

/// Weights return because what was on trial, or what it was compared with, is no more.
fn supersede(turn: &mut Turn<'_>, next: Option<Identity>, text: &str) {
    turn.clear_manual();
    turn.next.next = next;
    turn.next.reason = Reason { code: "superseded".into(), text: text.to_owned() };
    end(turn, Phase::Superseded, Actor::Config, None);
}

/// The policy changed: it stays at the largest new weight that is not above the old one.
pub(super) fn policy(turn: &mut Turn<'_>, fingerprint: u64) {
    turn.next.identity.policy = fingerprint;
    turn.keep();
    if !turn.next.is_live() {
        let locked = turn.next.is_spoiled(&turn.next.identity.version);
        let waits = turn.next.phase == Phase::Idle && turn.next.block;
        if waits && !locked && !turn.next.parked && turn.policy.conduct.auto_start {
            let identity = turn.next.identity.clone();
            declare(turn, &identity);
        }
        return;
    }
    let known =
        |wait: &super::gates::Wait| turn.policy.conduct.hooks.iter().any(|hook| hook.name == wait.name);
    let waits: Vec<_> = turn.next.waits.iter().filter(|wait| known(wait)).cloned().collect();
    turn.next.waits = waits;
    turn.analyze(Analyze::Policy);
    let text = "the file's policy has changed";
    turn.notify(Level::Info, "policy", text);
    let phase = turn.next.phase;
    let Some(at) = phase.base().filter(|at| *at != Base::Pending) else { return };
    if at == Base::Shadow {
        if turn.policy.shadow.is_none() {
            restart_at(turn, phase, None);
        }
        return;
    }
    let nominal = if at == Base::Bake { Share::ALL } else { turn.next.share };
    let steps = turn.policy.steps.iter().zip(0_u32..);
    let fits = steps.filter(|(step, _)| Share::of(step.weight) <= nominal).map(|(_, index)| index).last();
    match fits {
        Some(step) if at == Base::Bake => turn.next.step = step,
        Some(step) if Share::of(turn.policy.steps[step as usize].weight) == turn.next.share => {
            turn.next.step = step;
        }
        other => restart_at(turn, phase, other),
    }
}

/// Goes down to a step of the new policy, or before its first one; a pause stays.
fn restart_at(turn: &mut Turn<'_>, was: Phase, step: Option<u32>) {
    let text = "the new policy has a lower step";
    let (manual, reason) = (turn.next.manual, turn.next.reason.clone());
    match step {
        Some(step) => enter_step(turn, step, "policy", text),
        None => {
            super::transition::restart_step(turn);
            turn.next.step = 0;
            turn.lower(Share::NONE);
            turn.enter(Phase::Pending, "policy", text);
        }
    }
    turn.next.manual = manual;
    if let Phase::Paused { cause, .. } = was {
        turn.pause(cause, reason.text);
    }
    turn.announce(Actor::Config, None, Level::Warning);
}

/// What an arm leads to has changed.
pub(super) fn arm_edited(turn: &mut Turn<'_>, role: Role) {
    if !turn.next.is_live() || turn.next.phase == Phase::Reverting {
        return;
    }
    if turn.next.direction == Direction::Back {
        turn.clear_manual();
        let text = "an arm was edited while traffic walked back".to_owned();
        turn.next.reason = Reason { code: "superseded".into(), text };
        return end_walk_back(turn, Actor::Config, None);
    }
    if is_candidate(turn, role) {
        let identity = turn.next.identity.clone();
        supersede(turn, Some(identity), "the canary leads elsewhere now");
    } else {
        supersede(turn, None, "stable leads elsewhere now: there is nothing to compare with");
    }
}

/// The file's own weight of the `to` arm was edited: lower is an abort, higher is refused.
pub(super) fn split_edited(turn: &mut Turn<'_>, before: Share, after: Share) -> Result<(), Refused> {
    if !turn.next.block && (turn.next.kept || turn.next.phase != Phase::Idle) {
        if turn.next.is_live() {
            return Ok(());
        }
        if !turn.scene.store {
            let hint = "make the state folder writable";
            return Err(turn.refuse(RefusedKind::Edit, "store", "the state cannot be written down", hint));
        }
        let text = "the split was edited: the file's own weights hold".to_owned();
        release(turn, text);
        return Ok(());
    }
    if before == after || turn.next.phase.base().is_none() || turn.next.direction == Direction::Back {
        return Ok(());
    }
    if after > turn.next.seen_share() {
        let hint = "`rollout advance`, or `weights` which pauses it";
        let message = "a rollout is under way, and its steps give the canary its weight";
        return Err(turn.refuse(RefusedKind::Edit, "rollout-live", message, hint));
    }
    if after < turn.next.seen_share() {
        let reason = "the file's own weight of the canary was lowered".to_owned();
        let by = super::event::By { actor: "file".to_owned(), reason, ..Default::default() };
        super::verbs::abort(turn, &by);
    }
    Ok(())
}

/// The file has no rollout block any more: weights return, but what was promoted stays.
pub(super) fn block_removed(turn: &mut Turn<'_>) {
    if !turn.next.block {
        return;
    }
    turn.next.block = false;
    turn.next.next = None;
    let text = "the rollout block was removed from the file";
    match (turn.next.phase, turn.next.direction) {
        (Phase::Idle, _) if turn.scene.store => release(turn, text.to_owned()),
        (Phase::Reverting, _) => turn.keep(),
        (_, Direction::Back) if turn.next.is_live() => {
            turn.clear_manual();
            turn.next.reason = Reason { code: "block-removed".into(), text: text.to_owned() };
            end_walk_back(turn, Actor::Config, None);
        }
        _ if turn.next.is_live() => super::transition::revert(turn, "block-removed", text, Actor::Config),
        _ => {
            turn.next.kept = true;
            let text = format!("{text}; weights stay as they are until the split itself is edited");
            turn.notify(Level::Warning, "block-removed", text);
        }
    }
}

/// The file's own split is in force.
fn release(turn: &mut Turn<'_>, text: String) {
    let (identity, seq, run) = (turn.next.identity.clone(), turn.next.seq, turn.next.run);
    let (spoiled, last) = (std::mem::take(&mut turn.next.spoiled), turn.next.last);
    let clocks = turn.next.clocks;
    turn.next = super::Rollout { run, seq, clocks, spoiled, last, ..super::Rollout::new(identity) };
    turn.next.block = false;
    turn.enter(Phase::Idle, "released", text);
    turn.raise(Share::NONE);
    turn.announce(Actor::Config, None, Level::Info);
}

/// The process began: what was in force is in force, and who was asked is asked again.
pub(super) fn restarted(turn: &mut Turn<'_>) {
    turn.next.waits.clear();
    turn.next.clocks.phase = if turn.next.phase == Phase::Reverting { 0 } else { turn.next.clocks.phase };
    if turn.next.phase == Phase::Reverting {
        turn.lower(Share::NONE);
        return settle(turn, Actor::Restart);
    }
    turn.lower(turn.next.share);
    if matches!(turn.next.phase, Phase::Reverted | Phase::Aborted) {
        turn.void();
    }
    if turn.next.phase.base() == Some(Base::Shadow) {
        let share = Share::of(turn.policy.shadow.unwrap_or(0.0));
        turn.put_in_force(super::moves::Move::Mirror(share));
    }
    if turn.next.phase.base().is_some() {
        turn.analyze(Analyze::Resume);
        let other_steps = turn.next.phase.base() == Some(Base::Stage)
            && turn.next.share != turn.next.step_share(turn.policy);
        if other_steps && turn.policy.version == turn.next.identity.version {
            let fingerprint = turn.next.identity.policy;
            policy(turn, fingerprint);
        }
        turn.notify(Level::Info, "restarted", "the process began again; the rollout goes on where it was");
    }
}

/// What was written down cannot be understood: nothing for the canary until a person looked.
pub(super) fn state_lost(turn: &mut Turn<'_>, why: &str) {
    let old = &turn.next;
    turn.next = super::Rollout {
        run: old.run + 1,
        seq: old.seq,
        last: old.last,
        // A person who resumes it starts this version, and no other.
        spoiled: old.spoiled.iter().filter(|one| **one != old.identity.version).cloned().collect(),
        started_at_millis: turn.scene.wall.0,
        step_entered_at_millis: turn.scene.wall.0,
        ..super::Rollout::new(old.identity.clone())
    };
    turn.lower(Share::NONE);
    turn.void();
    turn.analyze(Analyze::Begin);
    turn.enter(Phase::Pending, "state-lost", "");
    let text = format!("what was remembered of the rollout is lost: {why}");
    turn.pause(PauseCause::StateLost, text);
    turn.announce(Actor::Restart, None, Level::Error);
}
