//! The next step: what bars it, who must be asked, and what happens when a step takes too long.
//!
//! It must never rise past a pause, a closed window, an open question or a store that fails.

use super::clocks::millis;
use super::event::{By, CheckWord};
use super::gates::{self, Stand};
use super::harm::doubt;
use super::moves::{Actor, Level, lacks_of, span};
use super::state::{Base, Hold, Mark, PauseCause, Phase};
use super::transition::{base, complete, enter_step, revert};
use super::turn::Turn;
use crate::analysis::Finding;
use crate::analysis::power::choose;
use crate::spec::rollout::{HookEvent, OnStepDeadline};

/// The step took too long; whether the second is settled by it.
pub(super) fn step_deadline(turn: &mut Turn<'_>, finding: Option<&Finding>) -> bool {
    let at = base(&turn.next);
    let extra = if at == Base::Bake { millis(turn.policy.conduct.bake) } else { 0 };
    if turn.next.clocks.step < millis(turn.policy.conduct.step_deadline).saturating_add(extra) {
        return false;
    }
    let text = format!("the step could not decide before its deadline: {}", lacking(turn, finding));
    let take = match turn.policy.conduct.on_step_deadline {
        OnStepDeadline::Hold => {
            if turn.once(Mark::StepDeadline) {
                turn.notify(Level::Warning, "step-deadline", text);
            }
            return false;
        }
        OnStepDeadline::Revert => {
            revert(turn, "step-deadline", text, Actor::Timer);
            return true;
        }
        OnStepDeadline::Promote => {
            let unasked = matches!(turn.scene.checks, CheckWord::Waiting(_));
            doubt(turn, finding).is_none() && !turn.gap && !unasked
        }
        OnStepDeadline::Pause => false,
    };
    if take {
        forward(turn, at);
    } else {
        turn.pause(PauseCause::StepDeadline, text);
        turn.announce(Actor::Timer, None, Level::Warning);
    }
    true
}

/// What a step lacks that could not decide in time, and how long that would take.
fn lacking(turn: &Turn<'_>, finding: Option<&Finding>) -> String {
    let Some(found) = finding else { return "no traffic is counted".to_owned() };
    if found.waiting_for.is_empty() {
        // It has shown what it must; something else holds it.
        return turn.next.reason.text.clone();
    }
    let words: Vec<String> = found.waiting_for.iter().map(|one| lacks_of(&turn.next, one)).collect();
    let about = found.eta_seconds.filter(|eta| *eta > 0.0);
    let about = about.map(|eta| format!(", about {} at the present rate", span(eta)));
    format!("it needs {}{}", words.join(", "), about.unwrap_or_default())
}

/// Takes the next step, unless somebody or something has to be waited for.
pub(super) fn forward(turn: &mut Turn<'_>, at: Base) {
    let pauses =
        at == Base::Stage && turn.policy.steps.get(turn.next.step as usize).is_some_and(|step| step.pause);
    if pauses && !turn.next.released {
        turn.pause(PauseCause::Step, "the step is done and waits for `rollout resume`");
        return turn.announce(Actor::Timer, None, Level::Info);
    }
    if let Some((reason, text)) = barred(turn) {
        turn.next.waiting_for = vec![match reason {
            Hold::Window => turn.scene.window_words(),
            Hold::Budget => turn.scene.budget_words(),
            _ => reason.label().to_owned(),
        }];
        return hold(turn, reason, text);
    }
    let event = match at {
        Base::Bake => HookEvent::ConfirmPromotion,
        Base::Pending | Base::Shadow | Base::Stage => HookEvent::ConfirmTrafficIncrease,
    };
    turn.next.waiting_for.clear();
    match gates::ask(turn, event) {
        Stand::Open => step_forward(turn, Actor::Analyzer, "shown", "the step has shown what it must", None),
        Stand::Waiting => {
            let text = format!("a yes is waited for: {}", turn.next.waiting_for.join(", "));
            hold(turn, Hold::Gate, text.clone());
            // The reason grows with what was answered.
            turn.next.reason.text = text;
        }
        Stand::Late => gate_is_late(turn),
    }
}

/// What keeps weights from rising, other than the candidate itself.
pub(super) fn barred(turn: &Turn<'_>) -> Option<(Hold, String)> {
    let scene = turn.scene;
    if !scene.store {
        Some((Hold::Store, "the state cannot be written down".to_owned()))
    } else if turn.next.overruled.bars {
        None
    } else if scene.budget_frozen {
        let colon = if scene.budget.is_empty() { "" } else { ": " };
        Some((Hold::Budget, format!("the error budget is spent{colon}{}", scene.budget)))
    } else if !scene.window_open {
        let opens = scene.opens.as_ref().map(|one| format!("; the next opens {one}")).unwrap_or_default();
        Some((Hold::Window, format!("weights rise in the rollout's windows only{opens}")))
    } else {
        None
    }
}

pub(super) fn gate_is_late(turn: &mut Turn<'_>) {
    let who = turn.next.waiting_for.join(", ");
    turn.pause(PauseCause::Gate, format!("nobody let it through in time: {who}"));
    turn.announce(Actor::Hook, None, Level::Warning);
}

/// The step after this one, or the end.
pub(super) fn step_forward(
    turn: &mut Turn<'_>,
    actor: Actor,
    code: &'static str,
    text: &str,
    by: Option<&By>,
) {
    match base(&turn.next) {
        Base::Bake => return complete(turn, actor, by),
        Base::Stage if turn.next.step as usize + 1 >= turn.policy.steps.len() => {
            return complete(turn, actor, by);
        }
        Base::Stage => enter_step(turn, turn.next.step + 1, code, text),
        Base::Shadow | Base::Pending => first_step(turn, code, text),
    }
    turn.announce(actor, by, Level::Info);
}

/// The first step that traffic allows in time: with `confidence: auto`, steps before it would take
/// longer than anybody waits to show anything.
pub(super) fn first_step(turn: &mut Turn<'_>, code: &'static str, text: &str) {
    let rate = turn.scene.rate;
    let step = u32::try_from(choose(turn.policy, rate).1).unwrap_or(0);
    let said = if step == 0 {
        text.to_owned()
    } else {
        format!("{text}; it begins at step {}, for {rate:.1} requests/s show too little before it", step + 1)
    };
    enter_step(turn, step, code, said);
}

/// Waits, and says so once per reason and step.
pub(super) fn hold(turn: &mut Turn<'_>, reason: Hold, text: String) {
    let over = base(&turn.next);
    let phase = Phase::Hold { reason, over };
    if turn.next.phase == phase {
        // What is counted grows; a person reads what it is now.
        turn.next.reason.text = text;
        return;
    }
    let waiting = std::mem::take(&mut turn.next.waiting_for);
    turn.enter(phase, reason.label(), text);
    turn.next.waiting_for = waiting;
    if turn.once(Mark::Held(reason)) {
        turn.announce(Actor::Analyzer, None, level_of(reason));
        turn.call(HookEvent::OnHold);
    }
}

const fn level_of(reason: Hold) -> Level {
    match reason {
        Hold::LowData | Hold::Window | Hold::Gate => Level::Info,
        _ => Level::Warning,
    }
}
