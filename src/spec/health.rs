//! How an upstream's endpoints are watched, as written: probes, ejection, breaker.
//!
//! Everything here is off until it is written. It must never decide anything.

use schemars::JsonSchema;
use serde::Deserialize;

use super::filter::Respond;
use super::scalar::{Percent, Span};
use super::spot::{Short, ShortOr, Spot};

/// Active probes of every endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HealthCheck {
    /// What is asked.
    #[serde(rename = "type")]
    pub kind: ProbeKind,
    /// Path of a GET; for `http` alone.
    pub path: Spot<String>,
    /// Statuses that are good; for `http` alone.
    pub expect: Vec<Spot<u16>>,
    /// Service asked about, empty for the whole server; for `grpc` alone.
    pub service: Spot<String>,
    /// Time between two probes of an endpoint.
    pub interval: Spot<Span>,
    /// How long an answer may take, connecting included.
    pub timeout: Spot<Span>,
    /// Good answers in a row that bring an endpoint back.
    pub healthy_threshold: Spot<u32>,
    /// Bad answers in a row that take it out.
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
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
    /// Failures in a row, over all workers.
    pub consecutive_errors: Spot<u32>,
    /// How long the first time; the second time twice as long, and so on up to ten times.
    pub base_ejection: Spot<Span>,
    /// Share of the endpoints that may be out at once; one always may, the last never.
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
    /// Share of failed attempts that opens it.
    pub error_rate: Spot<Percent>,
    /// Attempts that the window must have seen.
    pub min_requests: u32,
    /// Time over which attempts are counted.
    pub window: Spot<Span>,
    /// How long it stays open before a few requests try again.
    pub open: Spot<Span>,
    /// What answers instead; absent: the route's `whenUnavailable` decides.
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
