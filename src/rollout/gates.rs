//! Hooks whose answer matters: who was asked, what they said, when they are asked again.
//!
//! Only `preRollout` and the confirm events block, and `rollback` puts back. A refusal is asked
//! again until the deadline; then the default answer, no, pauses. It must never take an answer to
//! an earlier question.

use serde::{Deserialize, Serialize};

use super::clocks::millis;
use super::event::HookAnswer;
use super::moves::{Actor, Call, Level, Move};
use super::state::{Base, Mark};
use super::transition::revert;
use super::turn::Turn;
use crate::analysis::policy::Hook;
use crate::spec::rollout::HookEvent;

/// Milliseconds after which a hook that said no is asked again.
pub const ASK_AGAIN: u64 = 10_000;
/// Milliseconds between two looks of a `rollout` hook.
pub const LOOK: u64 = 60_000;
/// Attempts and their backoff take at most this many times a hook's timeout.
const PATIENCE: f64 = 8.0;

/// A hook that was asked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Wait {
    /// Its name.
    pub name: String,
    /// Of the last call.
    pub key: u64,
    /// When it was first asked, on the run's clock, in milliseconds.
    pub since: u64,
    /// When it was last asked, on the run's clock, in milliseconds.
    pub asked: u64,
    /// What it said to the last call.
    pub good: Option<bool>,
}

/// Where the hooks of an event stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// All said yes, or there are none.
    Open,
    /// Some have not said yes.
    Waiting,
    /// One has not for too long.
    Late,
}

/// Milliseconds a gate may take: as long as a step may.
fn deadline(turn: &Turn<'_>) -> u64 {
    millis(turn.policy.conduct.step_deadline)
}

/// Asks all hooks of an event, and again those that said no.
pub(super) fn ask(turn: &mut Turn<'_>, event: HookEvent) -> Stand {
    let (policy, now) = (turn.policy, turn.next.clocks.all);
    let mut stand = Stand::Open;
    for hook in policy.conduct.hooks.iter().filter(|hook| hook.event == event) {
        let wait = turn.next.waits.iter().find(|wait| wait.name == hook.name).cloned();
        if wait.as_ref().is_some_and(|wait| wait.good == Some(true)) {
            continue;
        }
        if wait.as_ref().is_none_or(|wait| is_due(wait, hook, now)) {
            call(turn, hook);
        }
        turn.next.waiting_for.push(hook.name.clone());
        let late = wait.is_some_and(|wait| now.saturating_sub(wait.since) >= deadline(turn));
        stand = if late || stand == Stand::Late { Stand::Late } else { Stand::Waiting };
    }
    stand
}

/// Polls hooks that say yes when something is to be done, and those that look at a step.
pub(super) fn poll(turn: &mut Turn<'_>) {
    let (policy, now) = (turn.policy, turn.next.clocks.all);
    for hook in &policy.conduct.hooks {
        let every = match hook.event {
            HookEvent::Rollback => ASK_AGAIN,
            HookEvent::Rollout => LOOK,
            _ => continue,
        };
        let wait = turn.next.waits.iter().find(|wait| wait.name == hook.name);
        let due = wait.is_none_or(|wait| match wait.good {
            Some(_) => now.saturating_sub(wait.asked) >= every,
            None => is_due(wait, hook, now),
        });
        if due {
            call(turn, hook);
        }
    }
}

/// A step begins: everybody is asked anew.
pub(super) fn enter_step(turn: &mut Turn<'_>) {
    poll(turn);
}

fn is_due(wait: &Wait, hook: &Hook, now: u64) -> bool {
    let passed = now.saturating_sub(wait.asked);
    match wait.good {
        Some(true) => false,
        Some(false) => passed >= ASK_AGAIN,
        None => passed >= millis(hook.timeout * PATIENCE).max(ASK_AGAIN),
    }
}

fn call(turn: &mut Turn<'_>, hook: &Hook) {
    let (key, now) = (turn.key(), turn.next.clocks.all);
    let (name, event) = (hook.name.clone(), hook.event);
    let since = turn.next.waits.iter().find(|wait| wait.name == name).map_or(now, |wait| wait.since);
    turn.next.waits.retain(|wait| wait.name != name);
    turn.next.waits.push(Wait { name: name.clone(), key, since, asked: now, good: None });
    turn.tell(Move::Hook(Call { name, event, key, answer: true }));
}

/// A hook said something.
pub(super) fn answered(turn: &mut Turn<'_>, answer: &HookAnswer) {
    let policy = turn.policy;
    let Some(hook) = policy.conduct.hooks.iter().find(|hook| hook.name == answer.name) else {
        return;
    };
    let Some(wait) = turn.next.waits.iter_mut().find(|wait| wait.key == answer.key) else {
        return;
    };
    if wait.name != answer.name {
        return;
    }
    wait.good = Some(answer.good);
    turn.keep();
    let under_way = turn.next.phase.base().is_some_and(|at| at != Base::Pending);
    if hook.event == HookEvent::Rollback && answer.good && under_way {
        let text = format!("the hook `{}` asked for it", hook.name);
        revert(turn, "rollback-hook", text, Actor::Hook);
    } else if matches!(hook.event, HookEvent::Rollout | HookEvent::PreRollout)
        && !answer.good
        && turn.once(Mark::Hook)
    {
        let text = format!("the hook `{}` did not answer well", hook.name);
        turn.notify(Level::Warning, "hook-failed", text);
    }
}
