//! Repeated attempts as written: how many, for which failures, within which budget.
//!
//! It must never say more than was written: what each word means is decided where it is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::{Percent, Size, Span};
use super::spot::Spot;

/// Repeated attempts of one route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Retry {
    /// Attempts beyond the first, 0 to 5.
    pub attempts: Spot<u32>,
    /// `connect`: it never left; `reset`: the connection broke before any byte of an answer; a status from
    /// `500` to `599`, or `5xx` for all of them: it was answered so.
    pub when: Vec<Spot<String>>,
    /// How long one attempt of an idempotent request may take to its response head; one that takes longer is
    /// given up and sent again. 0 is `timeouts.upstream`.
    pub per_try: Spot<Span>,
    /// `same`: the same arm, another endpoint if it has one; `defaultArm`: the default arm while it has weight.
    /// The failure stays the chosen arm's, and counts against it in a rollout. Default: `same`.
    pub to: Option<Spot<RetryTo>>,
    /// Retries in ten seconds, as a share of the requests of the upstream that gets them; ten a second are
    /// always allowed.
    pub budget: Percent,
    /// Largest request body kept to be sent again; it is kept as it passes, and no longer than until the
    /// response head. A longer one is sent once.
    pub max_body: Spot<Size>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: Spot::unwritten(1),
            when: vec![Spot::unwritten("connect".to_owned())],
            per_try: Spot::unwritten(Span::seconds(0)),
            to: None,
            budget: Percent { parts_per_million: 200_000 },
            max_body: Spot::unwritten(Size(64 << 10)),
        }
    }
}

/// Who is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RetryTo {
    /// The same arm, another endpoint if it has one.
    Same,
    /// The default arm; the failure stays charged to the arm that was chosen.
    DefaultArm,
}
