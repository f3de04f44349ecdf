//! Request rates as written: how many in which time, at once, and of whom.
//!
//! It must never say more than was written: what is too much is found where it is compiled.

use schemars::JsonSchema;
use serde::Deserialize;

use super::scalar::Span;
use super::split::KeySource;
use super::spot::Spot;

/// How often a route may be asked.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RateLimit {
    /// Requests that `per` allows in the long run, 1 to 1000000.
    pub requests: Spot<u32>,
    /// Time that `requests` are spread over evenly, at most `24h`.
    #[serde(default = "a_second")]
    pub per: Spot<Span>,
    /// Requests at once after a pause. Default: `requests`.
    pub burst: Option<Spot<u32>>,
    /// Whose requests are counted together: `clientIP` (the address after `trustedProxies`; of IPv6 its /64),
    /// `{ header: NAME }`, `{ cookie: NAME }`, `{ query: NAME }`. Who sends no key is counted by address.
    /// Default: the route.
    pub by: Option<Spot<KeySource>>,
}

const fn a_second() -> Spot<Span> {
    Spot::unwritten(Span::seconds(1))
}
