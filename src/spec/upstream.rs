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
    /// Addresses: `"http://host:port"` or `"https://host:port"`, or `{ url, weight }` with a `weight` of 1 to
    /// 10000; names are looked up again and again. Required.
    pub endpoints: Vec<Spot<ShortOr<Endpoint>>>,
    /// `http1`; `h2`: HTTP/2, as gRPC needs, over at most 8 shared connections per address and worker, by ALPN
    /// under TLS and with prior knowledge without; `auto`: under TLS what the endpoint prefers of both,
    /// HTTP/1.1 without. Default: `http1`.
    pub protocol: Option<Spot<UpstreamProtocol>>,
    /// `p2c`: the less busy of two drawn by weight; `roundRobin`; `leastRequest`; `consistentHash`: by the
    /// user's sticky key and the weights, so that a user moves only when the own endpoint leaves or a better
    /// one comes; without a key `p2c`. Default: `p2c`.
    pub load_balance: Option<Spot<LoadBalance>>,
    /// Active probes.
    pub health_check: Option<Spot<HealthCheck>>,
    /// Endpoints that fail clients are not asked for a while.
    pub outlier: Option<Spot<Outlier>>,
    /// An upstream that fails is not asked for a while.
    pub breaker: Option<Spot<Breaker>>,
    /// Concurrency bounds.
    pub limits: Limits,
    /// Connection handling.
    pub connection: Connection,
    /// TLS towards the endpoints.
    pub tls: Option<Spot<Tls>>,
    /// Time over which an endpoint that returns, or is new after a reload, gets its share in a straight line
    /// from 10 %; 0 is off. Default: `0s`.
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
    /// PEM file of the only certificates that are trusted. Default: the system's roots.
    pub ca: Option<Spot<String>>,
    /// The name that is asked for and that certificates must have. Default: the endpoint's host.
    pub server_name: Option<Spot<String>>,
    /// PEM file of the certificate shown to endpoints that ask for one, with its chain.
    pub client_cert: Option<Spot<String>>,
    /// PEM file of its key, not encrypted.
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
    /// Requests in flight; 0 is no bound; over it: 503, `overflow`, which is not held against the arm while at
    /// least half of them wait for their clients, to send the rest of a body or to take an answer, nor, while
    /// arms are compared and 20 addresses or more are active, while one address has half of what any of these
    /// three limits leaves to all.
    pub max_requests: u32,
    /// Requests over all workers that wait for a connection to one endpoint; 0 is no bound; over it: 503,
    /// `overflow`.
    pub max_pending: u32,
    /// HTTP/1.1 connections to one endpoint over all workers, tunnels among them; 0 is no bound; over it
    /// requests wait.
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
    /// Time to an accepted connection, the TLS handshake included.
    pub connect_timeout: Span,
    /// How long an unused connection is kept; stay below the servers' own.
    pub idle_timeout: Span,
    /// Unused HTTP/1.1 connections kept ready, per endpoint and worker; at most `maxIdle`; each is replaced
    /// after `idleTimeout`.
    pub min_idle: u32,
    /// Unused connections per endpoint and worker, at most 4096.
    pub max_idle: u32,
    /// Age after which a connection is not reused; 0 is never.
    pub max_age: Span,
    /// TCP keepalive after this long without traffic; 0 is off.
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
