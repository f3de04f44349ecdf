//! The spans of one sampled exchange while it is under way.
//!
//! Whether an exchange is sampled is the caller's word in `traceparent`, or ours where a trace begins
//! here. It must never cost anything for one that is not, nor change what another trace says of itself.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderValue};

use super::exchange::nanos;
use super::trace::TRACEPARENT;
use crate::model::log::AccessRecord;
use crate::model::span::{Attempt, Span, SpanIds};

/// Attempts told of one exchange at most.
const MAX_ATTEMPTS: usize = 16;
/// The bit of the flags that says a trace is sampled (W3C Trace Context section 3.2.2.5).
const SAMPLED: u8 = 1;

/// A sampled exchange, as far as it came.
#[derive(Debug)]
pub struct Sampled {
    /// Where it belongs.
    pub ids: SpanIds,
    started: Instant,
    start_nanos: u64,
    attempts: Vec<Attempt>,
    /// Whether the last attempt has not ended.
    open: bool,
}

impl Sampled {
    /// Takes the place of whoever sent a sampled `traceparent`: what goes on names this exchange as its
    /// parent. `kept` says whether it came from outside; one that was begun here names us already.
    pub fn adopt(
        headers: &mut HeaderMap,
        kept: bool,
        started: Instant,
        entropy: impl FnOnce() -> u64,
    ) -> Option<Box<Self>> {
        let (trace, parent) = sampled(headers.get(TRACEPARENT)?.as_bytes())?;
        let ids = if kept {
            let own = entropy() | 1;
            headers
                .insert(TRACEPARENT, HeaderValue::try_from(format!("00-{trace:032x}-{own:016x}-01")).ok()?);
            SpanIds { trace, parent: Some(parent), own }
        } else {
            SpanIds { trace, parent: None, own: parent }
        };
        let start_nanos = now().saturating_sub(nanos(started.elapsed()));
        Some(Box::new(Self { ids, started, start_nanos, attempts: Vec::new(), open: false }))
    }

    /// An attempt begins.
    pub fn attempt(&mut self, own: u64, endpoint: &Arc<str>) {
        self.close(self.started.elapsed());
        if self.attempts.len() == MAX_ATTEMPTS {
            return;
        }
        let (endpoint, after) = (Arc::clone(endpoint), self.started.elapsed());
        let (own, duration) = (own | 1, Duration::ZERO);
        self.attempts.push(Attempt { own, endpoint, after, duration, status: 0, error: "" });
        self.open = true;
    }

    /// The attempt under way failed, or what it brought did.
    pub fn failed(&mut self, error: &'static str) {
        if let Some(last) = self.attempts.last_mut().filter(|_| self.open) {
            last.error = error;
        }
    }

    /// The attempt under way was answered.
    pub fn head(&mut self, status: u16) {
        if let Some(last) = self.attempts.last_mut().filter(|_| self.open) {
            last.status = status;
        }
    }

    /// The exchange ended.
    #[must_use]
    pub fn end(mut self, record: AccessRecord) -> Span {
        // No part lasts longer than the whole.
        self.close(record.duration);
        Span { ids: self.ids, start_nanos: self.start_nanos, record, attempts: self.attempts }
    }

    fn close(&mut self, at: Duration) {
        let open = std::mem::take(&mut self.open);
        if let Some(last) = self.attempts.last_mut().filter(|_| open) {
            last.duration = at.saturating_sub(last.after);
        }
    }
}

/// The span of a copy that just ended: part of its original's trace, and linked to it.
#[must_use]
pub fn of_copy(original: SpanIds, own: u64, record: AccessRecord) -> Span {
    let ids = SpanIds { trace: original.trace, parent: Some(original.own), own: own | 1 };
    let start_nanos = now().saturating_sub(nanos(record.duration));
    Span { ids, start_nanos, record, attempts: Vec::new() }
}

/// Trace and parent of a valid traceparent whose flags say that it is sampled.
fn sampled(value: &[u8]) -> Option<(u128, u64)> {
    let text = std::str::from_utf8(value).ok()?;
    let flags = u8::from_str_radix(text.get(53..55)?, 16).ok()?;
    let trace = u128::from_str_radix(text.get(3..35)?, 16).ok()?;
    let parent = u64::from_str_radix(text.get(36..52)?, 16).ok()?;
    (flags & SAMPLED != 0).then_some((trace, parent))
}

fn now() -> u64 {
    nanos(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adopted(parent: &str, kept: bool) -> (Option<SpanIds>, String) {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_str(parent).unwrap());
        let sampled = Sampled::adopt(&mut headers, kept, Instant::now(), || 0x10);
        (sampled.map(|one| one.ids), headers[TRACEPARENT].to_str().unwrap().to_owned())
    }

    #[test]
    fn what_goes_on_names_this_exchange_as_its_parent() {
        let came = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let (ids, sent) = adopted(came, true);
        let ids = ids.expect("it is sampled");
        assert_eq!((ids.parent, ids.own), (Some(0xb7ad_6b71_6920_3331), 0x11));
        assert_eq!(sent, "00-0af7651916cd43dd8448eb211c80319c-0000000000000011-01");
        let (ids, sent) = adopted(came, false);
        let ids = ids.expect("it is sampled");
        assert_eq!((ids.parent, ids.own), (None, 0xb7ad_6b71_6920_3331));
        assert_eq!(sent, came, "one begun here names us already");
        let quiet = came.replace("-01", "-00");
        assert_eq!(adopted(&quiet, true), (None, quiet.clone()));
    }
}
