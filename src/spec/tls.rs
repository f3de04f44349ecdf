//! TLS of clients as written: certificates by file, client certificates, the oldest version.
//!
//! Files are named here and read elsewhere. A default lives next to its key and nowhere else.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::scalar::Network;
use super::spot::Spot;

/// TLS of one listener.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// List of `{ cert, key }`: PEM files, the certificate's with its chain, leaf first. The name a client asks
    /// for picks one, the first serves everybody else.
    pub certificates: Spot<Vec<Pair>>,
    /// Whether clients show certificates.
    pub client_auth: Option<ClientAuth>,
    /// `"1.2"` or `"1.3"`.
    #[serde(default)]
    pub min_version: MinVersion,
}

/// A certificate with its key, both in PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Pair {
    /// File with the certificate and its chain, leaf first.
    pub cert: Spot<String>,
    /// File with the private key.
    pub key: Spot<String>,
}

/// What clients must show.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientAuth {
    /// PEM file with who may sign certificates of clients.
    pub ca: Spot<String>,
    /// `required`, or `optional`: a client may come without one, but not with a wrong one.
    #[serde(default)]
    pub mode: ClientAuthMode,
}

/// Whether a client may come without a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClientAuthMode {
    /// No.
    #[default]
    Required,
    /// Yes; one that comes must be good.
    Optional,
}

/// Oldest TLS version accepted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
pub enum MinVersion {
    /// TLS 1.2 and 1.3.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3 alone.
    #[serde(rename = "1.3")]
    V13,
}

/// Who says with the PROXY protocol whose connection it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// Networks whose connections all begin with the PROXY protocol, version 1 or 2: the client is who it says.
    /// From others it is a bad request.
    pub peers: Spot<Vec<Network>>,
}
