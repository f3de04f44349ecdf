//! Hooks whose answer matters: who was asked, what they said, when they are asked again.
//!
//! Only `preRollout` and the confirm events block, and `rollback` puts back. A refusal is asked
//! again until the hook's deadline; then its default answer counts: a no pauses, a yes is told. It
//! must never take an answer to an earlier question.

use serde::{Deserialize, Serialize};

use super::clocks::millis;
use super::event::HookAnswer;
use super::moves::{Actor, Call, Level, Move, span};
use super::state::{Base, Mark, Reason};
use super::transition::revert;
use super::turn::Turn;
use crate::analysis::policy::Hook;
use crate::spec::rollout::{HookEvent, OnDeadline};

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
    /// What was wrong with the last answer; stays until a better one.
    pub why: String,
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
        let why = wait.as_ref().map(|wait| wait.why.as_str()).filter(|why| !why.is_empty());
        let shown = why.map_or_else(|| hook.name.clone(), |why| format!("{} ({why})", hook.name));
        let late = wait.is_some_and(|wait| now.saturating_sub(wait.since) >= millis(hook.deadline));
        if late && hook.event.is_gate() && hook.on_deadline == OnDeadline::Allow {
            allow(turn, hook, &shown);
            continue;
        }
        turn.next.waiting_for.push(shown);
        stand = if late || stand == Stand::Late { Stand::Late } else { Stand::Waiting };
    }
    stand
}

/// Nobody answered in time, and the file says that this is a yes.
fn allow(turn: &mut Turn<'_>, hook: &Hook, shown: &str) {
    if let Some(wait) = turn.next.waits.iter_mut().find(|wait| wait.name == hook.name) {
        // No answer comes to call 0: what was asked is settled.
        (wait.good, wait.key) = (Some(true), 0);
    }
    let text = format!(
        "the hook {shown} gave no yes within {}; `onDeadline: allow` lets it through",
        span(hook.deadline)
    );
    turn.notify(Level::Warning, "gate-deadline", text);
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
    let known = turn.next.waits.iter().find(|wait| wait.name == name);
    let (since, why) = known.map_or((now, String::new()), |wait| (wait.since, wait.why.clone()));
    turn.next.waits.retain(|wait| wait.name != name);
    turn.next.waits.push(Wait { name: name.clone(), key, since, asked: now, good: None, why });
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
    wait.why.clone_from(&answer.why);
    turn.keep();
    let under_way = turn.next.phase.base().is_some_and(|at| at != Base::Pending);
    if hook.event == HookEvent::Rollback && answer.good && under_way {
        let text = format!("the hook `{}` asked for it", hook.name);
        revert(turn, "rollback-hook", text, Actor::Hook);
    } else if matches!(hook.event, HookEvent::Rollout | HookEvent::PreRollout)
        && !answer.good
        && turn.once(Mark::Hook)
    {
        let text = format!("the hook `{}` did not answer well: {}", hook.name, answer.why);
        let failed = Reason { code: "hook-failed".into(), text: text.clone() };
        let reason = std::mem::replace(&mut turn.next.reason, failed);
        turn.record(Actor::Hook, None);
        turn.next.reason = reason;
        turn.notify(Level::Warning, "hook-failed", text);
    }
}
