//! Where the data plane hands over what it knows of ended exchanges: the access log and tracing.
//!
//! It exists because workers know one sink. It must never wait.

use std::sync::Arc;

use crate::model::log::{AccessRecord, AccessSink};
use crate::model::span::Span;
use crate::telemetry::{AccessLog, Spans};

/// Both of them.
#[derive(Debug)]
pub struct Sinks {
    /// Writes lines.
    pub log: Arc<AccessLog>,
    /// Sends spans.
    pub spans: Spans,
}

impl AccessSink for Sinks {
    fn record(&self, record: AccessRecord) {
        self.log.record(record);
    }

    fn span(&self, span: Span) {
        self.spans.take(span);
    }
}
