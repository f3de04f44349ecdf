//! Why a request would go where it goes, as the command line and the admin API both tell it.
//!
//! Plain data: the plan fills it in. A field that was published is never renamed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What happens to one request, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explained {
    /// Route that owns the request; `None` when none does.
    pub route: Option<String>,
    /// Why that route won.
    pub why: String,
    /// Chosen arm; `None` when none was chosen.
    pub arm: Option<String>,
    /// `override`, `pin`, `sticky`, `random`, `redistributed`, `none` or `answer`.
    pub reason: String,
    /// Override that spoke; empty when none did.
    pub rule: String,
    /// Bucket of the sticky key; `None` without a key.
    pub bucket: Option<u16>,
    /// Upstream of the arm.
    pub upstream: Option<String>,
    /// Who owns which buckets.
    pub ranges: Vec<Range>,
    /// Why no arm serves it: `host`, `match` or `no_weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unrouted: Option<String>,
    /// The same for people.
    pub text: String,
    /// Generation of the route, or of the configuration when no route owns the request.
    pub generation: u64,
}

/// Buckets of one arm, both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Range {
    /// Arm name.
    pub arm: String,
    /// First bucket.
    pub from: u16,
    /// Last bucket.
    pub to: u16,
}
