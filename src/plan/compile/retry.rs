//! Repeated attempts: which failures lead to another, and how many may.

use super::Context;
use crate::plan::Retry;
use crate::spec::Spot;
use crate::spec::retry::{Retry as Written, RetryTo};

/// Most attempts beyond the first.
const MAX_ATTEMPTS: u32 = 5;

pub(super) fn compile(context: &mut Context<'_>, written: Option<&Spot<Written>>) -> Retry {
    let default = Written::default();
    let written = written.map_or(&default, |spot| &spot.value);
    if written.attempts.value > MAX_ATTEMPTS {
        let message = format!("{} attempts beyond the first are too many", written.attempts.value);
        context.findings.error(&written.attempts, "bad-value", message, "0 to 5");
    }
    if let Some(to) = written.to.as_ref().filter(|to| to.value == RetryTo::DefaultArm) {
        context.findings.error(
            to,
            "not-yet",
            "retries on the default arm are not yet supported",
            "write same",
        );
    }
    let mut retry = Retry {
        attempts: written.attempts.value.min(MAX_ATTEMPTS),
        connect: false,
        reset: false,
        budget: written.budget.parts_per_million,
    };
    for when in &written.when {
        match when.as_str() {
            "connect" => retry.connect = true,
            "reset" => retry.reset = true,
            status if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) => {
                let message = format!("retries of status {status} are not yet supported");
                context.findings.error(when, "not-yet", message, "connect, reset");
            }
            other => {
                let message = format!("`{other}` is no failure that can be retried");
                context.findings.error(when, "bad-value", message, "connect, reset");
            }
        }
    }
    retry
}
