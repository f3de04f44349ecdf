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
    /// `connect`: the request provably never left. `reset`: no byte of an answer came. `503`, `5xx`:
    /// it was answered so. But for `connect`, idempotent requests alone.
    pub when: Vec<Spot<String>>,
    /// How long one attempt may take to its response head; an idempotent request that takes longer is
    /// sent again. 0 is for ever.
    pub per_try: Spot<Span>,
    /// Who is asked again.
    pub to: Option<Spot<RetryTo>>,
    /// Retries in ten seconds, as a share of the requests of that time; ten a second are always
    /// allowed.
    pub budget: Percent,
    /// Largest request body kept to be sent again.
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
