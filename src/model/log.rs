//! The record of one exchange for the access log, and the sink the data plane hands it to.
//!
//! It exists so that the request path knows no writer. A sink must never block its caller.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use super::outcome::ChoiceReason;
use super::span::Span;

/// One exchange as the access log tells it. Strings of the request are refcounted bytes.
#[derive(Clone, Debug)]
pub struct AccessRecord {
    /// Wall-clock milliseconds at the end of the exchange.
    pub at_millis: u64,
    /// Request id sent upstream.
    pub request_id: Bytes,
    /// Trace id of an incoming traceparent.
    pub trace_id: Bytes,
    /// Name of the listener.
    pub listener: std::sync::Arc<str>,
    /// Client after trusted proxies.
    pub client: IpAddr,
    /// Method as sent.
    pub method: http::Method,
    /// Host as sent.
    pub host: Bytes,
    /// Path, with the query when the log keeps it.
    pub path: Bytes,
    /// Status the client saw; 0 when none.
    pub status: u16,
    /// Route name; empty when unrouted.
    pub route: std::sync::Arc<str>,
    /// Chosen arm; empty when none.
    pub arm: std::sync::Arc<str>,
    /// Upstream that answered; empty when none.
    pub upstream: std::sync::Arc<str>,
    /// Endpoint that answered; empty when none.
    pub endpoint: std::sync::Arc<str>,
    /// Why the arm was chosen.
    pub choice: Option<ChoiceReason>,
    /// Override rule that chose it.
    pub rule: std::sync::Arc<str>,
    /// Bucket of the sticky key.
    pub bucket: Option<u16>,
    /// First 8 hex digits of the key's hash, so that a user can be followed without being named.
    pub key_digest: Option<u32>,
    /// Request head to end of response.
    pub duration: Duration,
    /// Request sent to response head.
    pub upstream_time: Option<Duration>,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// Attempts made; 0 when no upstream was tried.
    pub attempts: u32,
    /// Cause when the exchange failed; empty otherwise.
    pub error: &'static str,
    /// Whether it was copied, or is a copy.
    pub shadow: Shadow,
}

/// What an exchange has to do with copies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Shadow {
    /// Nothing.
    #[default]
    No,
    /// It was copied for the upstreams named, with commas between.
    To(std::sync::Arc<str>),
    /// It is the copy.
    Copy,
}

impl Shadow {
    /// It was copied for one more upstream.
    pub fn add(&mut self, upstream: &std::sync::Arc<str>) {
        *self = Self::To(match self {
            Self::To(others) => format!("{others},{upstream}").into(),
            Self::No | Self::Copy => std::sync::Arc::clone(upstream),
        });
    }
}

/// Takes access records off the data plane. Called on worker threads.
pub trait AccessSink: Send + Sync {
    /// Hands over one record. Must never block; may drop and count.
    fn record(&self, record: AccessRecord);

    /// Hands over one sampled exchange. Must never block; may drop and count. A sink without a
    /// collector has no use for it.
    fn span(&self, span: Span) {
        drop(span);
    }
}
