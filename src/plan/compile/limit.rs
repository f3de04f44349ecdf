//! Rate limits: requests in a time become an interval, and a place where it is remembered.
//!
//! A rate that nobody could mean is refused with its place.

use std::sync::Arc;
use std::time::Duration;

use super::{Context, rules};
use crate::ledger::limiter::Rate;
use crate::plan::RateLimit;
use crate::spec::Spot;
use crate::spec::limit::RateLimit as Written;
use crate::spec::split::KeySource as WrittenKey;
use crate::split::KeySource;

/// Most requests of a rate, and at once.
const MOST: u32 = 1_000_000;
/// Longest time of a rate.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

pub(super) fn compile(
    context: &mut Context<'_>,
    written: Option<&Spot<Written>>,
    route: &Arc<str>,
) -> Option<RateLimit> {
    let written = written?;
    let burst = written.burst.as_ref().unwrap_or(&written.requests);
    let burst_written = written.burst.as_ref().map(|burst| (burst, "burst"));
    for (at, noun) in [Some((&written.requests, "requests")), burst_written].into_iter().flatten() {
        if !(1..=MOST).contains(&at.value) {
            let message = format!("`{noun}` is not from 1 to {MOST}");
            context.findings.error(at, "bad-value", message, "requests: 100, per: 1s, burst: 200");
        }
    }
    let per = written.per.value.0;
    if per.is_zero() || per > LONGEST {
        context.findings.error(&written.per, "bad-value", "`per` is not from 1ms to 24h", "per: 1s");
    }
    let by = written.by.as_ref().and_then(|by| match &by.value {
        WrittenKey::Header(name) => rules::header_name(context, name).map(KeySource::Header),
        WrittenKey::Cookie(name) => rules::cookie_name(context, name).map(KeySource::Cookie),
        WrittenKey::Query(name) => Some(KeySource::Query(name.as_bytes().into())),
        WrittenKey::ClientIp => Some(KeySource::ClientIp),
    });
    let nanos = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
    let interval = nanos / u64::from(written.requests.value.max(1));
    let tolerance = interval.saturating_mul(u64::from(burst.value.max(1) - 1));
    let limiter = context.inputs.book.limiter(route);
    Some(RateLimit { rate: Rate { interval, tolerance }, by, limiter })
}
