//! What speaks against the candidate, and what that does: harm, doubt, and the rollout's deadline.
//!
//! The analyzer says what is true, the policy's `onHarm` what follows, and a person may overrule
//! both. It must never let a metric store that does not answer count as a failure.

use super::clocks::millis;
use super::event::CheckWord;
use super::forward::hold;
use super::moves::{Actor, Level};
use super::state::{Base, Hold, Mark, PauseCause, Phase, Reason};
use super::tick::dwell;
use super::transition::{base, revert};
use super::turn::Turn;
use crate::analysis::finding::Seen;
use crate::analysis::{Finding, Rule, Verdict};
use crate::spec::rollout::{OnFail, OnHarm};

/// Harm, and what it does; whether the second is settled by it.
pub(super) fn harm(turn: &mut Turn<'_>, finding: Option<&Finding>) -> bool {
    let (rule, text) = match (finding, &turn.scene.checks) {
        (Some(found), _) if found.verdict == Verdict::Harmful => (found.rule, evidence(found)),
        (_, CheckWord::Failing(name, OnFail::Revert)) => (Rule::None, out_of_bounds(turn, name)),
        _ => return false,
    };
    let code = if rule == Rule::None { "check" } else { rule.label() };
    let guard = rule == Rule::Guard;
    let overruled = turn.next.overruled;
    if (guard && overruled.guard) || (!guard && overruled.relative) {
        alert(turn, code, &format!("{text}; a person overruled it"));
        return false;
    }
    match turn.policy.conduct.on_harm {
        OnHarm::Revert => revert(turn, code, text, Actor::Analyzer),
        OnHarm::Observe => {
            alert(turn, code, &format!("would have reverted: {text}"));
            let now = turn.scene.wall.0;
            let at = *turn.next.observed_at_millis.get_or_insert(now);
            let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(at);
            let text = format!("would have put it back at {}: {text}", humantime::format_rfc3339_seconds(at));
            turn.next.waiting_for.clear();
            if !turn.next.phase.is_paused() {
                hold(turn, Hold::Suspicious, text);
            }
        }
        OnHarm::Pause => {
            let paused = matches!(turn.next.phase, Phase::Paused { cause: PauseCause::Harm, .. });
            if !paused {
                turn.pause(PauseCause::Harm, text);
                turn.announce(Actor::Analyzer, None, Level::Error);
            }
        }
    }
    true
}

/// The rollout took too long; whether the second is settled by it.
pub(super) fn rollout_deadline(turn: &mut Turn<'_>) -> bool {
    if turn.next.clocks.rollout < millis(turn.policy.conduct.rollout_deadline) {
        return false;
    }
    let text = "the rollout could not decide before its deadline";
    match turn.policy.conduct.on_harm {
        OnHarm::Revert => revert(turn, "rollout-deadline", text, Actor::Timer),
        OnHarm::Pause => {
            if matches!(turn.next.phase, Phase::Paused { cause, .. } if cause.is_wanted()) {
                return false;
            }
            turn.pause(PauseCause::RolloutDeadline, text);
            turn.announce(Actor::Timer, None, Level::Warning);
        }
        OnHarm::Observe => {
            if turn.once(Mark::RolloutDeadline) {
                let text = format!("would have reverted: {text}");
                turn.notify(Level::Warning, "rollout-deadline", text);
            }
            return false;
        }
    }
    true
}

/// Something that speaks against going on, whatever has been shown.
pub(super) fn doubt(turn: &Turn<'_>, finding: Option<&Finding>) -> Option<(Hold, String)> {
    if !turn.alive(turn.reference()) {
        return Some((Hold::StableUnhealthy, "stable has no endpoint".to_owned()));
    }
    if !turn.alive(turn.candidate()) {
        return Some((Hold::CanaryDown, "the canary has no endpoint".to_owned()));
    }
    if let Some(found) = finding
        && matches!(found.verdict, Verdict::Suspect | Verdict::Harmful)
    {
        let said = match found.rule {
            Rule::StableUnhealthy => {
                Some((Hold::StableUnhealthy, "stable fails too: a shared incident".to_owned()))
            }
            Rule::SampleRatio => {
                Some((Hold::SampleRatio, "traffic does not arrive as the router says".to_owned()))
            }
            Rule::Behaviour => Some((Hold::Behaviour, refusing(found))),
            Rule::Differences => Some((Hold::Behaviour, differing(found))),
            Rule::Guard => {
                (!overruled(turn, turn.next.overruled.guard)).then(|| (Hold::Suspicious, evidence(found)))
            }
            _ => {
                (!overruled(turn, turn.next.overruled.relative)).then(|| (Hold::Suspicious, evidence(found)))
            }
        };
        if said.is_some() {
            return said;
        }
    }
    if let Some(said) = finding.and_then(|found| worse(turn, found)) {
        return Some(said);
    }
    match &turn.scene.checks {
        CheckWord::Fine | CheckWord::Waiting(_) => None,
        CheckWord::Silent(name) => Some((Hold::CheckSilent, format!("the check `{name}` does not answer"))),
        CheckWord::Failing(name, OnFail::Hold) => Some((Hold::Check, out_of_bounds(turn, name))),
        CheckWord::Failing(name, OnFail::Revert) => {
            (!overruled(turn, turn.next.overruled.relative)).then(|| (Hold::Check, out_of_bounds(turn, name)))
        }
    }
}

/// What bars a bake, or a step with most of the traffic, that is about to end: the holdback is too
/// small to compare with, but stable is known from the steps before.
fn worse(turn: &Turn<'_>, found: &Finding) -> Option<(Hold, String)> {
    let at = base(&turn.next);
    let most = at == Base::Bake || at == Base::Stage && found.weight > 0.5;
    let ends = found.step == turn.next.step && turn.next.clocks.dwell >= dwell(turn, at);
    let worse = found.worse.filter(|_| most && ends && !overruled(turn, turn.next.overruled.relative))?;
    let (reason, what) =
        if worse.refusals { (Hold::Behaviour, "refuses") } else { (Hold::Suspicious, "fails") };
    let of = |seen: &Seen| format!("{} of {} ({})", seen.e, seen.n, percent(seen));
    Some((
        reason,
        format!(
            "the canary {what} {} in this step, stable {} over the rollout",
            of(&worse.canary),
            of(&worse.stable)
        ),
    ))
}

#[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
fn percent(seen: &Seen) -> String {
    format!("{:.2} %", seen.e as f64 * 100.0 / seen.n.max(1) as f64)
}

/// Whether a person's word lets it go on: only in the bake, which a person gave it. Elsewhere what
/// was overruled puts nothing back, and lets nothing rise by itself either.
fn overruled(turn: &Turn<'_>, word: bool) -> bool {
    word && base(&turn.next) == Base::Bake
}

/// Says once per step that a rule spoke which moves nothing.
fn alert(turn: &mut Turn<'_>, code: &'static str, text: &str) {
    if turn.once(Mark::Observed) {
        let reason =
            std::mem::replace(&mut turn.next.reason, Reason { code: code.into(), text: text.to_owned() });
        turn.record(Actor::Analyzer, None);
        turn.next.reason = reason;
        let text = turn.with_failing(text.to_owned(), "canary");
        turn.notify(Level::Error, code, text);
    }
}

fn differing(found: &Finding) -> String {
    format!("it answers mirrored requests differently than stable: {}", found.differing.join(", "))
}

fn out_of_bounds(turn: &Turn<'_>, name: &str) -> String {
    let said = &turn.scene.check;
    format!("the check `{name}` is {}", if said.is_empty() { "out of bounds" } else { said })
}

/// What the canary refuses, and what can be done about that.
fn refusing(found: &Finding) -> String {
    let of = |seen: Seen| format!("{} of {}", seen.e, seen.n);
    format!(
        "it refuses clients that stable serves, 4xx: canary {}, stable {}; `rollout abort` puts it back, \
         `clientErrors: ignore` lets it pass",
        of(found.refused.canary),
        of(found.refused.stable)
    )
}

/// So many of so many, and the share.
fn part(seen: Seen) -> String {
    #[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
    let percent = seen.e as f64 / seen.n.max(1) as f64 * 100.0;
    format!("{} of {} ({percent:.1} %)", seen.e, seen.n)
}

fn evidence(found: &Finding) -> String {
    if found.rule == Rule::Behaviour {
        return format!("{}: {}", found.rule.label(), refusing(found));
    }
    if let Rule::Threshold(breach) = found.rule {
        return format!(
            "{}: {} was measured where {} is allowed; on the canary {} failed, on stable {}",
            breach.limit,
            limit(breach.limit, breach.measured),
            limit(breach.limit, breach.allowed),
            part(found.canary),
            part(found.stable)
        );
    }
    if found.rule == Rule::Pairs {
        return format!(
            "pairs: of {} mirrored requests the canary failed {} and stable {}; no user saw the canary's answers",
            found.canary.n, found.canary.e, found.stable.e
        );
    }
    if let Rule::Latency(cut) = found.rule {
        let edge = found.cuts.and_then(|cuts| cuts.get(cut).copied()).unwrap_or_default();
        #[expect(clippy::cast_precision_loss, reason = "shown with two decimals")]
        let millis = edge as f64 / 1e6;
        let slow = found.slow.and_then(|slow| slow.get(cut).copied()).unwrap_or_default();
        let (canary, stable) = if slow.canary.n == 0 {
            // The cut was taken anew this second: nothing is counted at it yet.
            (format!("of {}", found.canary.n), format!("of {}", found.stable.n))
        } else {
            (part(slow.canary), part(slow.stable))
        };
        return format!(
            "{}: slower than {}: canary {canary}, stable {stable}",
            found.rule.label(),
            ms(millis)
        );
    }
    let of = |seen: &Seen| format!("{} of {} failed", seen.e, seen.n);
    format!(
        "{}: on the canary {}, on stable {} in this step",
        found.rule.label(),
        of(&found.canary),
        of(&found.stable)
    )
}

/// A value of a fixed limit: latencies are in nanoseconds.
fn limit(name: &str, value: f64) -> String {
    if name == "maxP99" { ms(value / 1e6) } else { digits(value) }
}

fn ms(millis: f64) -> String {
    format!("{} ms", digits(millis))
}

/// At most four digits that say something.
#[must_use]
pub fn digits(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let size = value.abs().log10().floor();
    if !(-4.0..15.0).contains(&size) {
        return format!("{value:.3e}");
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to 7")]
    let after = (3.0 - size).max(0.0) as usize;
    let text = format!("{value:.after$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
