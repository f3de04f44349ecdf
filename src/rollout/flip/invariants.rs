//! What must hold of every step of an exchange, whatever happened.
//!
//! Checked after every step where debug assertions are on, and by the simulation. It must never
//! depend on how the step is made.

use super::super::moves::Order;
use super::{Event, Flip, Move, Outcome, Phase, Scene};

/// What is broken, if anything.
pub(super) fn check(before: &Flip, event: &Event, scene: &Scene, outcome: &Outcome) -> Result<(), String> {
    let Outcome { next, moves } = outcome;
    let order = moves.iter().find_map(|one| match one {
        Move::Persist(order) => Some(*order),
        _ => None,
    });
    let told = moves.iter().any(|one| matches!(one, Move::Record(_)));
    let moved = before.active != next.active;
    let same = (&before.active, &before.idle) == (&next.active, &next.idle);
    let swapped = (&before.active, &before.idle) == (&next.idle, &next.active);
    let rules = [
        (same || swapped, "another pair of slots"),
        (moved == outcome.active().is_some(), "the plan does not follow the state"),
        (outcome.active().is_none_or(|active| active == next.active), "another slot is put in force"),
        (moved == (before.active != before.idle && swapped), "a slot is both"),
        (
            next.phase == before.phase || told || *event == Event::Promoted,
            "a change of state is not recorded",
        ),
        ((next.phase == Phase::Verifying) == next.verifier.is_some(), "watched without a watch"),
        (next.phase != Phase::Verifying || next.way_back, "watched without a way back"),
        (!moved || !scene.rollout_live || *event == Event::Promoted, "moved against a rollout"),
        (moved || order != Some(Order::BeforePublish), "waits for the disk for nothing"),
        (next.seq >= before.seq && next.run >= before.run, "numbers go back"),
    ];
    if let Some((_, broken)) = rules.into_iter().find(|(holds, _)| !holds) {
        return Err(broken.to_owned());
    }
    if !moved {
        return Ok(());
    }
    // A way back that is taken is closed; a new slot opens one.
    match (next.way_back, order) {
        (true, Some(Order::BeforePublish)) | (false, Some(Order::AfterPublish)) => {}
        _ => return Err("toward the new slot it is written first, toward the old one after".to_owned()),
    }
    if next.drain_ms.is_none() {
        return Err("nobody waits for the old slot".to_owned());
    }
    let by_itself = matches!(event, Event::Second { .. });
    if by_itself && (before.phase, next.phase) != (Phase::Verifying, Phase::FlippedBack) {
        return Err("moved by itself otherwise than back".to_owned());
    }
    if !next.way_back && !before.way_back {
        return Err("back to where nobody came from".to_owned());
    }
    let forced = matches!(event, Event::Asked { force: true, .. } | Event::Smoked { .. } | Event::Promoted);
    if scene.idle_alive || forced { Ok(()) } else { Err("moved to where nobody answers".to_owned()) }
}
