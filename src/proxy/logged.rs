//! What the access log and tracing tell of a request as it was asked.
//!
//! Taken before a route is known, and only while the log is on or the request is sampled. It must never hold what was edited.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use crate::model::log::Shadow;
use crate::model::span::SpanIds;

/// What is known before a route is: kept for the access log alone.
#[derive(Clone, Debug)]
pub struct Request {
    /// Method.
    pub method: Method,
    /// Host as sent.
    pub host: HeaderValue,
    /// Target as sent.
    pub target: http::Uri,
    /// Client after trusted proxies.
    pub client: std::net::IpAddr,
    /// Index of the listener.
    pub listener: usize,
    /// Request id.
    pub id: HeaderValue,
    /// Trace id of an incoming traceparent.
    pub trace: Bytes,
    /// Whether the debug header asks for a line.
    pub debug: bool,
    /// Whether it was copied.
    pub shadow: Shadow,
    /// Its span, when it is sampled.
    pub span: Option<SpanIds>,
}

impl Request {
    /// Trace id of a traceparent (W3C Trace Context): 32 hex digits after the version.
    #[must_use]
    pub fn trace_of(headers: &HeaderMap) -> Bytes {
        let value = headers.get("traceparent").map(HeaderValue::as_bytes).unwrap_or_default();
        match value.get(3..35) {
            Some(id) if value.len() >= 55 && id.iter().all(u8::is_ascii_hexdigit) => {
                Bytes::copy_from_slice(id)
            }
            _ => Bytes::new(),
        }
    }

    /// Path and query as sent.
    #[must_use]
    pub fn path(&self) -> Bytes {
        match self.target.query() {
            Some(query) => Bytes::from(format!("{}?{query}", self.target.path())),
            None => Bytes::copy_from_slice(self.target.path().as_bytes()),
        }
    }
}
