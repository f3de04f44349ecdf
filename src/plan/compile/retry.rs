//! Repeated attempts: which failures lead to another, how many may, and whom they go to.
//!
//! What could never happen is refused with its place. It must never make a retry of something the
//! file does not ask for.

use super::Context;
use crate::plan::Retry;
use crate::spec::Spot;
use crate::spec::retry::{Retry as Written, RetryTo};

/// Most attempts beyond the first.
const MAX_ATTEMPTS: u32 = 5;
/// What may be written as a reason.
const REASONS: &str = "connect, reset, 5xx, or a status from 500 to 599";

pub(super) fn compile(context: &mut Context<'_>, written: Option<&Spot<Written>>) -> Retry {
    let default = Written::default();
    let written = written.map_or(&default, |spot| &spot.value);
    if written.attempts.value > MAX_ATTEMPTS {
        let message = format!("{} attempts beyond the first are too many", written.attempts.value);
        context.findings.error(&written.attempts, "bad-value", message, "0 to 5");
    }
    let most = context.replay_bytes;
    if written.max_body.line > 0 && written.max_body.value.0 > most {
        let message =
            format!("one body could be larger than all that is held to be sent again, {most} bytes");
        let hint = "raise budgets.replayBytes, or lower maxBody";
        context.findings.error(&written.max_body, "over-budget", message, hint);
    }
    let mut retry = Retry {
        attempts: written.attempts.value.min(MAX_ATTEMPTS),
        connect: false,
        reset: false,
        statuses: 0,
        per_try: written.per_try.value.0,
        default_arm: written.to.as_ref().is_some_and(|to| to.value == RetryTo::DefaultArm),
        budget: written.budget.parts_per_million,
        max_body: written.max_body.value.0,
    };
    for when in &written.when {
        match (when.as_str(), status(when)) {
            ("connect", _) => retry.connect = true,
            ("reset", _) => retry.reset = true,
            ("5xx", _) => retry.statuses = u128::MAX,
            (_, Some(at @ 0..100)) => retry.statuses |= 1 << at,
            (other, _) => {
                let message = format!("`{other}` is no failure that can be retried");
                context.findings.error(when, "bad-value", message, REASONS);
            }
        }
    }
    retry
}

/// How far a status written with three digits lies above 500.
fn status(text: &str) -> Option<u16> {
    let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse::<u16>().ok().filter(|_| digits)?.checked_sub(500)
}
