//! Repeated attempts as written: how many, for which failures, within which budget.
//!
//! It must never say more than was written: what each word means is decided where it is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::Percent;
use super::spot::{Later, LaterKeys, Spot};

/// Repeated attempts of one route.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Retry {
    /// Attempts beyond the first, 0 to 5.
    pub attempts: Spot<u32>,
    /// `connect`: the request provably never left. `reset`: no byte of an answer came, and the
    /// request is idempotent and has no body.
    pub when: Vec<Spot<String>>,
    /// Bound of one attempt.
    pub per_try: Option<Spot<Later>>,
    /// Who is asked again.
    pub to: Option<Spot<RetryTo>>,
    /// Retries in ten seconds, as a share of the requests of that time; ten a second are always
    /// allowed.
    pub budget: Percent,
    /// Largest request body kept to be sent again.
    pub max_body: Option<Spot<Later>>,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: Spot::unwritten(1),
            when: vec![Spot::unwritten("connect".to_owned())],
            per_try: None,
            to: None,
            budget: Percent { parts_per_million: 200_000 },
            max_body: None,
        }
    }
}

impl Retry {
    /// Notes keys of later features.
    pub fn later<'a>(&'a self, owner: &str, found: &mut LaterKeys<'a>) {
        found.add(owner, "retry.perTry", self.per_try.as_ref());
        found.add(owner, "retry.maxBody", self.max_body.as_ref());
    }
}

/// Who is asked again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum RetryTo {
    /// The same arm, another endpoint if it has one.
    Same,
    /// The default arm.
    DefaultArm,
}
