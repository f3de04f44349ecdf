//! Listeners as written: addresses, limits, path policy and client-side timeouts.
//!
//! Defaults live here, next to the key they belong to, and nowhere else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Size, Span};
use super::spot::Spot;
use super::tls::{ProxyProtocol, Tls};

/// One address to accept clients on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Listener {
    /// Unique; routes refer to it.
    pub name: Spot<String>,
    /// `host:port` to bind.
    pub address: Spot<String>,
    /// `auto`: HTTP/1.1, and HTTP/2 by ALPN under TLS; `h2c`: also HTTP/2 with prior knowledge on plaintext.
    #[serde(default)]
    pub protocol: Protocol,
    /// PROXY protocol peers.
    pub proxy_protocol: Option<Spot<ProxyProtocol>>,
    /// Certificates.
    pub tls: Option<Spot<Tls>>,
    /// Bounds on what a client may send.
    #[serde(default)]
    pub limits: Limits,
    /// What is done with ambiguous paths.
    #[serde(default)]
    pub paths: Paths,
    /// Adds `Via` to requests.
    #[serde(default)]
    pub via: bool,
    /// How long a client may take.
    #[serde(default)]
    pub timeouts: Timeouts,
}

/// Which protocols a listener speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// HTTP/1.1, and HTTP/2 by ALPN under TLS.
    #[default]
    Auto,
    /// The same, and HTTP/2 with prior knowledge on plaintext.
    H2c,
}

/// Bounds on what a client may send; 0 is no bound where a bound makes no sense to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Limits {
    /// Request line and headers together, 8KiB to 1MiB.
    pub header_bytes: Spot<Size>,
    /// Header fields, 1 to 100.
    pub header_count: Spot<u16>,
    /// Request target.
    pub target_bytes: Spot<Size>,
    /// Open connections; 0 is no bound.
    pub connections: u32,
    /// Open connections of one address; 0 is no bound.
    pub connections_per_ip: u32,
    /// Concurrent streams of one HTTP/2 connection.
    pub streams: u32,
    /// Request body; 0 is no bound.
    pub body_bytes: Spot<Size>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: Spot::unwritten(Size(32 << 10)),
            header_count: Spot::unwritten(100),
            target_bytes: Spot::unwritten(Size(8 << 10)),
            connections: 20_000,
            connections_per_ip: 0,
            streams: 100,
            body_bytes: Spot::unwritten(Size(0)),
        }
    }
}

/// What is done with one kind of ambiguity: what is matched is what is forwarded, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// The request is refused.
    Reject,
    /// The request passes unchanged.
    Keep,
}

/// What is done with ambiguous paths and header names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Paths {
    /// `.` and `..` segments, plain or encoded: `reject` or `keep`.
    pub dot_segments: Policy,
    /// `%2f` and `%5c`: `reject` or `keep`.
    pub encoded_slash: Policy,
    /// Underscores in header names: `reject` or `keep`.
    pub underscores: Policy,
}

impl Default for Paths {
    fn default() -> Self {
        Self { dot_segments: Policy::Reject, encoded_slash: Policy::Keep, underscores: Policy::Keep }
    }
}

/// How long a client may take; 0 is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Timeouts {
    /// From accept to the first byte.
    pub first_byte: Span,
    /// From the first byte of a head to its end.
    pub header: Span,
    /// Between two pieces of a request body.
    pub body_idle: Span,
    /// Between two requests of a connection.
    pub idle: Span,
    /// Between two pieces the client takes.
    pub send_stall: Span,
    /// Age of a connection.
    pub max_age: Span,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            first_byte: Span::seconds(5),
            header: Span::seconds(10),
            body_idle: Span::seconds(10),
            idle: Span::seconds(60),
            send_stall: Span::seconds(30),
            max_age: Span::seconds(0),
        }
    }
}
