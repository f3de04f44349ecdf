//! What the asker may do, so that a page need not offer what would be refused.
//!
//! It must never say more of a token than what it is good for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `GET /api/v1/access`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Access {
    /// `operator`, `viewer`, or `none` where reading is free and no token was sent.
    pub role: String,
    /// Whether verbs are accepted as it was asked.
    pub verbs: bool,
    /// Why they are not; empty when they are.
    pub why: String,
}
