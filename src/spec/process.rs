//! Process-wide blocks as written: admin, metrics address, shutdown, access log.
//!
//! Defaults live next to the key they belong to, and nowhere else. It must never read a file or the
//! environment.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::{Percent, Size, Span};
use super::spot::Spot;
use super::tls::Pair;

/// The operator's own listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Admin {
    /// `host:port` or `unix:/path`. Default: `127.0.0.1:9901`.
    pub address: Option<Spot<String>>,
    /// File of the operator's token, made at the first start; one shorter than 16 bytes counts as none, and no
    /// verb is obeyed. Default: `admin.token` in `stateDir`.
    pub token_file: Option<Spot<String>>,
    /// `{ cert, key }`: the admin listener then speaks TLS alone, and its files are watched as listeners' are.
    pub tls: Option<Spot<Pair>>,
    /// Allows an address that others can reach, without TLS.
    pub insecure: bool,
    /// File of a token that only reads.
    pub viewer_token_file: Option<Spot<String>>,
    /// Host names accepted beyond loopback addresses and `localhost`.
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
    /// Bodies held for copies of requests and for their comparison, in the process; a copy that finds no room
    /// is dropped.
    pub mirror_bytes: Spot<Size>,
    /// Request bodies held to be sent again, in the process; one that finds no room is sent once.
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
    /// `host:port` that serves `/metrics` and the probes, and nothing else.
    pub address: Option<Spot<String>>,
}

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Shutdown {
    /// How long it is not ready but still accepts, for load balancers to notice.
    pub delay: Span,
    /// How long what is running may take after `delay`.
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
    /// `stdout`, `stderr` or a file, made with the folders above it; while it cannot be opened it is tried again
    /// every 2 s, and `/readyz` says why under `accessLog`.
    pub path: String,
    /// What a line is; only `json` is built.
    pub format: LogFormat,
    /// Share of exchanges logged.
    pub sample: Percent,
    /// The same share for arms other than the default arm.
    pub sample_canary: Percent,
    /// `always`: failed exchanges escape sampling; `sampled`: they do not.
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
    /// `http://` or `https://` address of a collector that spans of sampled traces are sent to. Default: off.
    pub otlp: Option<Spot<String>>,
    /// Share of the traces begun here that are marked as sampled; one begins, as a W3C `traceparent`, where no
    /// valid one came.
    pub sample: Percent,
}

/// Line format of the access log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
}

/// Whether failed exchanges escape sampling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
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
    /// A request with this header is always logged.
    pub header: Spot<String>,
}
