//! Process-wide blocks as written: admin, metrics address, shutdown, access log.
//!
//! Defaults live next to the key they belong to, and nowhere else. It must never read a file or the
//! environment.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Percent, Size, Span};
use super::spot::Spot;
use super::tls::Pair;

/// The operator's own listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Admin {
    /// `host:port` or `unix:/path`; default `127.0.0.1:9901`.
    pub address: Option<Spot<String>>,
    /// Where the operator token is; default `admin.token` in the state folder.
    pub token_file: Option<Spot<String>>,
    /// Certificate of the admin listener.
    pub tls: Option<Spot<Pair>>,
    /// Allows a non-loopback address without TLS.
    pub insecure: bool,
    /// Token that reads only.
    pub viewer_token_file: Option<Spot<String>>,
    /// Host names accepted beyond loopback literals and localhost.
    pub allowed_hosts: Vec<String>,
}

impl Admin {
    /// The certificate, if one is named.
    #[must_use]
    pub fn pair(&self) -> Option<&Spot<Pair>> {
        self.tls.as_ref().filter(|pair| !pair.cert.is_empty() || !pair.key.is_empty())
    }
}

/// Memory budgets per process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Budgets {
    /// Bodies held for copies of requests, and answers held to be compared.
    pub mirror_bytes: Spot<Size>,
    /// Bodies held to be sent again.
    pub replay_bytes: Spot<Size>,
}

impl Default for Budgets {
    fn default() -> Self {
        let most = Spot::unwritten(Size(64 << 20));
        Self { mirror_bytes: most, replay_bytes: most }
    }
}

/// Probes and metrics on an address of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Metrics {
    /// `host:port`; absent: only on the admin listener.
    pub address: Option<Spot<String>>,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Shutdown {
    /// Not ready but still accepting.
    pub delay: Span,
    /// At most this long for what is running.
    pub grace: Span,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { delay: Span::seconds(0), grace: Span::seconds(30) }
    }
}

/// One line per exchange.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct AccessLog {
    /// `stdout`, `stderr` or a file.
    pub path: String,
    /// Line format.
    pub format: LogFormat,
    /// Share of exchanges logged.
    pub sample: Percent,
    /// Share of exchanges of arms other than the default arm logged.
    pub sample_canary: Percent,
    /// Whether failed exchanges escape sampling.
    pub errors: LogErrors,
    /// A header whose presence logs the exchange.
    pub debug: Option<LogDebug>,
}

impl Default for AccessLog {
    fn default() -> Self {
        Self {
            path: "stdout".to_owned(),
            format: LogFormat::Json,
            sample: Percent::ALL,
            sample_canary: Percent::ALL,
            errors: LogErrors::Always,
            debug: None,
        }
    }
}

/// Traces that requests belong to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tracing {
    /// Collector that spans of sampled traces are sent to, by OTLP over HTTP; `/v1/traces` is added.
    pub otlp: Option<Spot<String>>,
    /// Share of the traces begun here that are marked as sampled.
    pub sample: Percent,
}

/// Line format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
}

/// Whether failed exchanges escape sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogErrors {
    /// Every failed exchange is logged.
    Always,
    /// Failed exchanges are sampled like the rest.
    Sampled,
}

/// A header whose presence logs the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct LogDebug {
    /// Header name.
    pub header: Spot<String>,
}
