//! A mirrored exchange with both answers, as it travels from whoever copied to whoever compares.
//!
//! It exists so that the request path and the comparison share words and nothing else. It must never
//! hold anything that a client still waits for.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

/// One side's answer.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Status; 0 when there was none.
    pub status: u16,
    /// gRPC status, when it said one.
    pub grpc: Option<u8>,
    /// Headers of the answer.
    pub headers: HeaderMap,
    /// The body as far as it was kept.
    pub body: Bytes,
    /// The body was longer than what is kept.
    pub cut: bool,
    /// Nanoseconds from the request sent to the answer's head; 0 without one.
    pub nanos: u64,
    /// As the arm's first attempt would be counted bad.
    pub failed: bool,
}

/// One mirrored exchange with both answers.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Route name.
    pub route: Arc<str>,
    /// Index among the route's mirrors.
    pub mirror: u8,
    /// The id both sides were sent.
    pub request_id: HeaderValue,
    /// Method.
    pub method: Method,
    /// Path of the request.
    pub path: Box<str>,
    /// Both sides were the same upstream.
    pub noise: bool,
    /// What the client got.
    pub primary: Heard,
    /// What nobody got.
    pub shadow: Heard,
    /// Wall-clock milliseconds since the Unix epoch.
    pub unix_millis: u64,
}

/// Takes pairs.
pub trait PairSink: Send + Sync {
    /// Takes one without ever waiting; false when it was dropped because there is no room.
    fn pair(&self, pair: Pair) -> bool;
}
