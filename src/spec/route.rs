//! Routes as written: what they match, how they divide traffic, what they change.
//!
//! Defaults live next to the key they belong to, and nowhere else. It must never check one key against another:
//! that is compiling, where everything wrong is told at once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::Filter;
use super::limit::RateLimit;
use super::mirror::Mirrors;
use super::retry::Retry;
use super::rollout::Rollout;
use super::rule::Match;
use super::scalar::Span;
use super::slo::Slo;
use super::split::{Arms, BlueGreen, Override, Sticky};
use super::spot::Spot;

/// A rule that owns traffic.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Route {
    /// Unique; a metric label.
    pub name: Spot<String>,
    /// Listeners it serves. Default: all.
    #[serde(default)]
    pub listeners: Vec<Spot<String>>,
    /// `shop.example.com` or `*.example.com`, which spans labels but is not `example.com` itself. Default: all.
    #[serde(default)]
    pub hostnames: Vec<Spot<String>>,
    /// Any of these. Default: everything.
    #[serde(default)]
    pub matches: Vec<Spot<Match>>,
    /// Beats every other precedence; a match may have its own.
    #[serde(default)]
    pub priority: i32,
    /// Arms and their weights.
    pub split: Option<Spot<Arms>>,
    /// The arm that owns the remainder: by default the arm a `rollout` comes from, else the active slot, else
    /// the arm named `stable`, else the last by name. Default: see meaning.
    pub default_arm: Option<Spot<String>>,
    /// What keeps a user on an arm.
    pub sticky: Option<Spot<Sticky>>,
    /// Request-level forcing.
    #[serde(default)]
    pub overrides: Vec<Spot<Override>>,
    /// What happens when the chosen arm has no endpoint: `redistribute` lets another arm answer, `fail` answers
    /// 503; the chosen arm is charged either way.
    #[serde(default)]
    pub when_unavailable: WhenUnavailable,
    /// Repeated attempts. Default: one, of what never left.
    pub retry: Option<Spot<Retry>>,
    /// How long an exchange may take.
    #[serde(default)]
    pub timeouts: Timeouts,
    /// Protocols a connection may be upgraded to.
    #[serde(default)]
    pub upgrades: Vec<Spot<Upgrade>>,
    /// Headers that name the chosen arm.
    #[serde(default)]
    pub arm_header: ArmHeader,
    /// Changes on the way.
    #[serde(default)]
    pub filters: Vec<Spot<Filter>>,
    /// How often it may be asked.
    pub rate_limit: Option<Spot<RateLimit>>,
    /// Copies of its requests for others.
    pub mirror: Option<Spot<Mirrors>>,
    /// What it promises.
    pub slo: Option<Spot<Slo>>,
    /// Guarded progress to a new version.
    pub rollout: Option<Spot<Rollout>>,
    /// Instead of `split`: two slots of which one serves.
    pub blue_green: Option<Spot<BlueGreen>>,
}

/// What happens when the chosen arm has no endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum WhenUnavailable {
    /// Another arm answers; the failure is charged to the chosen one.
    #[default]
    Redistribute,
    /// The client gets a 503.
    Fail,
}

/// A protocol that a connection may be upgraded to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Upgrade {
    /// WebSocket (RFC 6455).
    Websocket,
}

/// How long an exchange may take; 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Timeouts {
    /// To the response head, all attempts together; the time a client takes to send its body does not count.
    pub request: Span,
    /// To the response head, one attempt; the time a client takes to send its body does not count either.
    pub upstream: Span,
    /// Between two pieces of a response body.
    pub stream_idle: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { request: Span::seconds(15), upstream: Span::seconds(10), stream_idle: Span::seconds(60) }
    }
}

/// Headers that name the chosen arm; empty is off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ArmHeader {
    /// Request header that names the arm to the upstream.
    pub upstream: Option<Spot<String>>,
    /// Response header that names the arm to the client.
    pub client: Option<Spot<String>>,
}
