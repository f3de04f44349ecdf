//! A sampled exchange as tracing tells it: whose part of which trace, when, and what its record says.
//!
//! It exists so that the request path knows no collector. It must never be made for an exchange that is
//! not sampled.

use std::sync::Arc;
use std::time::Duration;

use super::log::AccessRecord;

/// Which span of which trace (W3C Trace Context).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanIds {
    /// The trace.
    pub trace: u128,
    /// The span it is part of; `None` begins the trace.
    pub parent: Option<u64>,
    /// The span itself, never 0.
    pub own: u64,
}

/// One exchange.
#[derive(Clone, Debug)]
pub struct Span {
    /// Where it belongs.
    pub ids: SpanIds,
    /// When it began, in wall-clock nanoseconds.
    pub start_nanos: u64,
    /// What is known of it.
    pub record: AccessRecord,
    /// Attempts to have it answered.
    pub attempts: Vec<Attempt>,
}

/// One attempt on an endpoint.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its own span.
    pub own: u64,
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// From the start of the exchange.
    pub after: Duration,
    /// How long it took.
    pub duration: Duration,
    /// Status of its answer; 0 when none.
    pub status: u16,
    /// Cause when it failed; empty otherwise.
    pub error: &'static str,
}
