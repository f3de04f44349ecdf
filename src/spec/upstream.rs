//! Upstreams as written: endpoints, balancing, connections, limits.
//!
//! Defaults live next to the key they belong to, and nowhere else. It must never look up a name.

use schemars::JsonSchema;
use serde::Deserialize;

use super::health::{Breaker, HealthCheck, Outlier};
use super::scalar::Span;
use super::spot::{Short, ShortOr, Spot};

/// A named group of equal addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Upstream {
    /// The addresses.
    pub endpoints: Vec<Spot<ShortOr<Endpoint>>>,
    /// Protocol spoken to them.
    pub protocol: Option<Spot<UpstreamProtocol>>,
    /// How one of them is picked.
    pub load_balance: Option<Spot<LoadBalance>>,
    /// Active probes.
    pub health_check: Option<Spot<HealthCheck>>,
    /// Passive ejection.
    pub outlier: Option<Spot<Outlier>>,
    /// Stop asking an upstream that fails.
    pub breaker: Option<Spot<Breaker>>,
    /// Concurrency bounds.
    pub limits: Limits,
    /// Connection handling.
    pub connection: Connection,
    /// TLS towards the endpoints.
    pub tls: Option<Spot<Tls>>,
    /// Time over which a new endpoint, or one that returns, gets its whole share.
    pub slow_start: Option<Spot<Span>>,
}

impl Short for Upstream {
    const EXPECTED: &'static str = "an address such as http://10.0.0.1:8080";
    fn from_short(text: &str) -> Result<Self, String> {
        let endpoint = Spot::unwritten(ShortOr(Endpoint::from_short(text)?));
        Ok(Self { endpoints: vec![endpoint], ..Self::default() })
    }
}

/// One address of an upstream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Endpoint {
    /// `http://host:port` or `https://host:port`.
    pub url: Spot<String>,
    /// Relative share of the upstream's requests, from 1.
    #[serde(default = "one")]
    pub weight: u32,
}

const fn one() -> u32 {
    1
}

impl Short for Endpoint {
    const EXPECTED: &'static str = "an address such as http://10.0.0.1:8080";
    fn from_short(text: &str) -> Result<Self, String> {
        Ok(Self { url: Spot::unwritten(text.to_owned()), weight: 1 })
    }
}

/// Protocol spoken to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: agreed on under TLS, with prior knowledge without.
    H2,
    /// Under TLS what the endpoint prefers of both, HTTP/1.1 without.
    Auto,
}

/// TLS towards the endpoints of an upstream; what is left out is the usual.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
#[schemars(rename = "UpstreamTls")]
pub struct Tls {
    /// PEM file of the certificates that are trusted instead of the system's.
    pub ca: Option<Spot<String>>,
    /// Name that certificates must have and that is asked for, instead of the endpoint's host.
    pub server_name: Option<Spot<String>>,
    /// PEM file of the certificate shown to endpoints, with those between it and its root.
    pub client_cert: Option<Spot<String>>,
    /// PEM file of its key.
    pub client_key: Option<Spot<String>>,
}

impl Tls {
    /// Every file named in it.
    pub fn files(&self) -> impl Iterator<Item = &Spot<String>> {
        [&self.ca, &self.client_cert, &self.client_key].into_iter().flatten()
    }
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LoadBalance {
    /// The less busy of two drawn at random.
    #[default]
    P2c,
    /// Each in turn.
    RoundRobin,
    /// The least busy.
    LeastRequest,
    /// By hash of the sticky key.
    ConsistentHash,
}

/// Concurrency bounds of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Limits {
    /// Requests in flight over all workers; 0 is no bound.
    pub max_requests: u32,
    /// Requests waiting for a connection, per endpoint over all workers; 0 is no bound.
    pub max_pending: u32,
    /// Open connections per endpoint over all workers; 0 is no bound.
    pub max_connections: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_requests: 1024, max_pending: 1024, max_connections: 0 }
    }
}

/// Connection handling of an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Connection {
    /// To an accepted connection.
    pub connect_timeout: Span,
    /// How long an unused connection is kept; below the servers' own.
    pub idle_timeout: Span,
    /// Unused connections kept ready, per endpoint and worker.
    pub min_idle: u32,
    /// Unused connections kept at most, per endpoint and worker.
    pub max_idle: u32,
    /// Age after which a connection is not reused; 0 is never.
    pub max_age: Span,
    /// TCP keepalive probes after this long without traffic; 0 is off.
    pub keepalive: Span,
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            connect_timeout: Span::seconds(1),
            idle_timeout: Span::seconds(4),
            min_idle: 0,
            max_idle: 64,
            max_age: Span::seconds(0),
            keepalive: Span::seconds(15),
        }
    }
}
