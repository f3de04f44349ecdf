//! How an upstream's endpoints are watched, as written: probes, ejection, breaker.
//!
//! Everything here is off until it is written. It must never decide anything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::Respond;
use super::scalar::{Percent, Span};
use super::spot::{Short, ShortOr, Spot};

/// Active probes of every endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// `http`: a GET in the upstream's protocol; `tcp`: a connection is accepted; `grpc`:
    /// `grpc.health.v1.Health/Check` over HTTP/2.
    #[serde(rename = "type")]
    pub kind: ProbeKind,
    /// Path of a GET; its `Host` is the endpoint's address.
    pub path: Spot<String>,
    /// Statuses that are good answers to a GET.
    pub expect: Vec<Spot<u16>>,
    /// Service a `grpc` probe asks about; empty is the whole server.
    pub service: Spot<String>,
    /// Time between two probes of an endpoint, less up to a tenth of it; half of it while answers contradict
    /// what is believed.
    pub interval: Spot<Span>,
    /// Time for the whole answer, connecting included.
    pub timeout: Spot<Span>,
    /// Good answers in a row that bring an endpoint back.
    pub healthy_threshold: Spot<u32>,
    /// Bad answers in a row that take it out; the very first answer alone decides.
    pub unhealthy_threshold: Spot<u32>,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            kind: ProbeKind::Http,
            path: Spot::unwritten("/".to_owned()),
            expect: vec![Spot::unwritten(200)],
            service: Spot::default(),
            interval: Spot::unwritten(Span::seconds(5)),
            timeout: Spot::unwritten(Span::seconds(1)),
            healthy_threshold: Spot::unwritten(2),
            unhealthy_threshold: Spot::unwritten(3),
        }
    }
}

/// What a probe asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ProbeKind {
    /// A GET, in the protocol of the upstream.
    #[default]
    Http,
    /// That a connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check`.
    Grpc,
}

/// Endpoints that fail clients are not asked for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Outlier {
    /// Failures in a row over all workers that eject an endpoint: no connection, reset, timeout, 5xx, a broken
    /// answer; never what a client did.
    pub consecutive_errors: Spot<u32>,
    /// How long an endpoint is out the first time; the second time twice as long, up to ten times. Then three
    /// requests are a trial: all good, and it is in again; one bad, and it is out.
    pub base_ejection: Spot<Span>,
    /// Share of the endpoints that may be ejected; one always may unless it is 0 %, and never the last that is
    /// left.
    pub max_ejected_percent: Percent,
}

impl Default for Outlier {
    fn default() -> Self {
        Self {
            consecutive_errors: Spot::unwritten(5),
            base_ejection: Spot::unwritten(Span::seconds(30)),
            max_ejected_percent: Percent::whole(50),
        }
    }
}

/// An upstream that fails is not asked for a while.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Breaker {
    /// Share of failed attempts, over all workers, that opens the breaker.
    pub error_rate: Spot<Percent>,
    /// Attempts that the window must have seen before it may open.
    pub min_requests: u32,
    /// Time over which attempts are counted.
    pub window: Spot<Span>,
    /// How long it stays open; then five requests are let through: all good, and it closes; one bad, and it
    /// opens again.
    pub open: Spot<Span>,
    /// What answers instead: `NAME` of another upstream, which is asked once, or `{ respond: { status, body,
    /// contentType, retryAfter } }`; without it `whenUnavailable` decides. gRPC clients get UNAVAILABLE instead
    /// of a fixed answer.
    pub fallback: Option<Spot<ShortOr<Fallback>>>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            error_rate: Spot::unwritten(Percent::whole(50)),
            min_requests: 20,
            window: Spot::unwritten(Span::seconds(10)),
            open: Spot::unwritten(Span::seconds(5)),
            fallback: None,
        }
    }
}

/// What answers for an upstream whose breaker is open: one key, or the name of an upstream alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Fallback {
    /// Another upstream.
    pub upstream: Option<Spot<String>>,
    /// A fixed answer.
    pub respond: Option<Spot<Respond>>,
}

impl Short for Fallback {
    const EXPECTED: &'static str = "the name of an upstream";
    fn from_short(text: &str) -> Result<Self, String> {
        Ok(Self { upstream: Some(Spot::unwritten(text.to_owned())), respond: None })
    }
}
