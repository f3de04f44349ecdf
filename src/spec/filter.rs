//! Filters as written: header edits, rewrite, redirect, fixed response.
//!
//! Text and places only; what they mean is compiled in `plan`. It must never check one key against another.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::Span;
use super::spot::Spot;

/// One step of a route's filters; exactly one key per list item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Filter {
    /// Edits requests: `set` replaces, `add` adds a value, `remove` removes; in that order.
    RequestHeaders(Spot<HeaderEdit>),
    /// Edits responses in the same way.
    ResponseHeaders(Spot<HeaderEdit>),
    /// Before forwarding: `path: { prefix }` replaces the matched prefix, `path: { full }` the whole path;
    /// `hostname` the Host.
    Rewrite(Spot<Rewrite>),
    /// Answers with another address: `scheme`, `hostname`, `port`, `path` as in `rewrite`, `status` (301, 302,
    /// 303, 307 or 308; `302` when not written).
    Redirect(Spot<Redirect>),
    /// Answers itself: `status` (200 to 599), `body`, `contentType` (`text/plain; charset=utf-8` when not
    /// written), `retryAfter`.
    Respond(Spot<Respond>),
}

/// Header edits, applied in the order set, add, remove.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct HeaderEdit {
    /// Replaces the header.
    pub set: BTreeMap<Spot<String>, Spot<String>>,
    /// Adds a value.
    pub add: BTreeMap<Spot<String>, Spot<String>>,
    /// Removes the header.
    pub remove: Vec<Spot<String>>,
}

/// What replaces a path; exactly one key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct PathChange {
    /// Replaces the matched prefix.
    pub prefix: Option<String>,
    /// Replaces the whole path.
    pub full: Option<String>,
}

/// Changes host or path before forwarding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Rewrite {
    /// New path.
    pub path: Option<Spot<PathChange>>,
    /// New Host.
    pub hostname: Option<Spot<String>>,
}

/// Answers with another address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Redirect {
    /// `http` or `https`; default: as the client came.
    pub scheme: Option<Spot<String>>,
    /// Host of the address. Default: as the client asked.
    pub hostname: Option<Spot<String>>,
    /// Port of the address. Default: the scheme's own when the scheme is given, else as the client came.
    pub port: Option<u16>,
    /// New path.
    pub path: Option<Spot<PathChange>>,
    /// 301, 302, 303, 307 or 308; default 302.
    pub status: Option<Spot<u16>>,
}

/// Answers with a fixed text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Respond {
    /// 200 to 599.
    pub status: Spot<u16>,
    /// Body text.
    #[serde(default)]
    pub body: String,
    /// Content type of the body; default `text/plain; charset=utf-8`.
    pub content_type: Option<Spot<String>>,
    /// Adds Retry-After.
    pub retry_after: Option<Span>,
}
