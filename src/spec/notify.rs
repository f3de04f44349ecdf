//! Receivers of notices as written: who is told what rollouts do.
//!
//! It must never hold what a secret file says, only where it is.

use schemars::JsonSchema;
use serde::Deserialize;

use super::spot::Spot;

/// One receiver; exactly one key per list item.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Receiver {
    /// `urlFile`: file with the address of a Slack incoming webhook, which is a secret. It gets `{"text"}`.
    Slack(Slack),
    /// `url`, and with `secretFile` signed as hooks are. It gets `{"route","version","state","level" (info,
    /// warning, error),"code","text","weight":{"before","after"} (the canary's
    /// percent),"impact":{"rule","stable":{"n","e"},"canary":{"n","e"}} (null before anything was
    /// judged),"since","next","at","run","key"}`.
    Webhook(Webhook),
}

/// A Slack channel.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Slack {
    /// File with the address of the incoming webhook, which is a secret.
    pub url_file: Spot<String>,
}

/// Anything that takes JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Webhook {
    /// Where; `http://` or `https://`, with `${NAME}` from the environment.
    pub url: Spot<String>,
    /// File with the key of the signature.
    pub secret_file: Option<Spot<String>>,
}
