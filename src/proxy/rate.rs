//! A request held against its route's rate limit, before an arm is chosen.
//!
//! What is over the rate is refused and charged to nobody. It must never be asked of a route without
//! a limit.

use super::error::ProxyError;
use super::exchange::Exchange;
use crate::ledger::limiter::Admission;
use crate::ledger::process::WorkerCounts;
use crate::model::{RejectReason, RequestHead};
use crate::plan::RateLimit;

/// Counts the request.
///
/// # Errors
/// It is over the rate; the exchange says when to come again.
pub fn admit(exchange: &mut Exchange, limit: &RateLimit, head: &RequestHead<'_>) -> Result<(), ProxyError> {
    let wait = match limit.admit(head, exchange.started()) {
        Admission::Within => return Ok(()),
        Admission::Unknown => {
            exchange.worker().counts().into_iter().for_each(WorkerCounts::unknown);
            return Ok(());
        }
        Admission::Over(wait) => wait,
    };
    let seconds = wait.as_nanos().div_ceil(1_000_000_000).max(1);
    exchange.retry_after = u32::try_from(seconds).unwrap_or(u32::MAX);
    Err(ProxyError::reject(RejectReason::RateLimited, "over the rate limit"))
}
