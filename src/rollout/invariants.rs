//! What is true of every rollout, and of every step from one to the next.
//!
//! Checked after each transition in debug builds, and by the simulation in the tests. It must never
//! share code with what it checks.

use std::collections::BTreeSet;

use super::event::{Event, Scene, Verb};
use super::moves::{Move, Order, Outcome};
use super::state::{Base, Direction, MAX_SPOILED, Phase, Rollout, Share};
use crate::analysis::Policy;

/// The first thing that is not true of a step.
pub(super) fn check(
    before: &Rollout,
    policy: &Policy,
    event: &Event,
    scene: &Scene,
    outcome: &Outcome,
) -> Result<(), &'static str> {
    state(&outcome.next, policy)?;
    step(before, event, scene, &outcome.next)?;
    moves(before, outcome)
}

fn must(true_: bool, what: &'static str) -> Result<(), &'static str> {
    if true_ { Ok(()) } else { Err(what) }
}

/// What is true of a rollout by itself.
pub(super) fn state(one: &Rollout, policy: &Policy) -> Result<(), &'static str> {
    let (phase, share) = (one.phase, one.share);
    must(share <= Share::ALL && one.manual.is_none_or(|manual| manual <= Share::ALL), "a share is a share")?;
    must(one.manual.is_none() || phase.is_paused(), "weights set by hand pause")?;
    must(one.manual != Some(Share::NONE), "weights set to 0 by hand abort")?;
    must(one.spoiled.len() <= MAX_SPOILED, "what is remembered is bounded")?;
    let asked: BTreeSet<&str> = one.waits.iter().map(|wait| wait.name.as_str()).collect();
    must(asked.len() == one.waits.len(), "a hook has one open question")?;
    let idle = matches!(
        phase,
        Phase::Idle | Phase::Pending | Phase::Shadow | Phase::Reverted | Phase::Aborted | Phase::Superseded
    );
    must(!idle || share == Share::NONE, "only what is at a step or complete has a weight")?;
    match phase.base() {
        Some(Base::Pending | Base::Shadow) => must(share == Share::NONE, "no traffic before the first step")?,
        Some(Base::Stage) if policy.version == one.identity.version => {
            must(share == one.step_share(policy), "the weight is the step's")?;
            must(share < Share::ALL, "a stage leaves something to compare with")?;
        }
        Some(Base::Bake) => {
            must(share < Share::ALL && share > Share(900_000), "the bake keeps a holdback")?;
        }
        _ => {}
    }
    let (forward, spoiled) = (one.direction == Direction::Forward, one.is_spoiled(&one.identity.version));
    must(phase != Phase::Promoted || (share == Share::ALL && forward), "promoted is everything")?;
    must(phase != Phase::Finished || (share == Share::ALL && !forward), "finished is everything, back")?;
    must(phase.base().is_none() || !forward || !spoiled, "what was put back is not live")?;
    must(phase != Phase::Aborted || spoiled, "an abort is remembered")?;
    must(phase != Phase::Reverted || spoiled, "a revert is remembered")?;
    must(forward || one.is_live() || phase == Phase::Finished, "a walk back ends")
}

/// What is true of two rollouts in a row.
fn step(before: &Rollout, event: &Event, scene: &Scene, next: &Rollout) -> Result<(), &'static str> {
    must(next.seq >= before.seq && next.run >= before.run, "numbers only grow")?;
    let same_run = next.run == before.run;
    must(!same_run || next.clocks.all >= before.clocks.all, "time does not run backwards")?;
    let verb = match event {
        Event::Operator { verb, .. } => Some(verb),
        _ => None,
    };
    if same_run && next.direction == before.direction && next.share > before.share {
        let may = matches!(event, Event::Tick(_)) || matches!(verb, Some(Verb::Advance | Verb::Promote));
        must(may, "only a tick, advance and promote give more")?;
        must(scene.store, "nothing rises that cannot be written down")?;
        must(!before.phase.is_paused() || verb.is_some(), "a pause does not rise by itself")?;
    }
    let put_back = matches!(before.phase, Phase::Reverting | Phase::Reverted | Phase::Aborted);
    if put_back && same_run {
        let stays = matches!(
            next.phase,
            Phase::Reverting | Phase::Reverted | Phase::Aborted | Phase::Idle | Phase::Promoted
        );
        must(stays, "a revert is never forgotten")?;
        let forward = next.direction == Direction::Forward && before.direction == Direction::Forward;
        must(!forward || next.share <= before.share, "what returns does not rise")?;
    }
    let locked = before.is_spoiled(&next.identity.version) && !before.identity.version.is_empty();
    let begins = !same_run && next.phase.base().is_some() && next.direction == Direction::Forward;
    let lost = matches!(event, Event::StateLost { .. });
    let asked = matches!(verb, Some(Verb::Retry)) || lost;
    must(!begins || !locked || asked, "what was put back starts by retry only")
}

/// What is true of the moves: the order of safety, and that nothing is done in silence.
fn moves(before: &Rollout, outcome: &Outcome) -> Result<(), &'static str> {
    let next = &outcome.next;
    let place = |wanted: fn(&Move) -> bool| outcome.moves.iter().position(wanted);
    let persist = place(|one| matches!(one, Move::Persist(_)));
    let share = place(|one| matches!(one, Move::SetShare { .. } | Move::ReleaseShare));
    let first = place(|one| matches!(one, Move::Persist(Order::BeforePublish)));
    let changed = next.canary_share() != before.canary_share();
    must(!changed || share.is_some(), "a share that changes is published")?;
    must(next.phase == before.phase || persist.is_some(), "a phase that changes is written down")?;
    let run = next.run == before.run && next.direction == before.direction && next.canary_share().is_some();
    if run && next.share > before.share {
        must(first.is_some() && first < share, "more is written down first")?;
    }
    if run && next.share < before.share {
        must(share < persist, "less is published first")?;
    }
    let ends = matches!(next.phase, Phase::Reverting | Phase::Reverted | Phase::Aborted);
    let voided = place(|one| matches!(one, Move::VoidOverridesAndPins(_))).is_some();
    must(!ends || before.phase == next.phase || voided, "what is put back voids overrides and pins")?;
    let kind = next.phase.name() != before.phase.name();
    let end = kind && next.phase.base().is_none() && next.phase != Phase::Idle;
    let recorded = place(|one| matches!(one, Move::Record(_))).is_some();
    must(!end || recorded, "an end leaves a record")
}
