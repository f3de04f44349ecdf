//! How an upstream's endpoints are watched, compiled: what is asked, what is counted, who answers
//! instead.
//!
//! An upstream that watches nothing has none of it, and its requests look at nothing. It must never
//! hold live state: that is in the ledger.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;

use super::Upstream;
use super::filter::Respond;
use crate::ledger::guard::{BreakerRules, OutlierRules, ProbeRules, Rules, UpstreamGuard};
use crate::ledger::{BreakerCell, Cell};

/// How the endpoints of an upstream are watched.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Live state of all together.
    pub cell: Arc<UpstreamGuard>,
    /// Active probes.
    pub probe: Option<Probe>,
    /// Passive ejection.
    pub outlier: Option<OutlierRules>,
    /// Ramp of an endpoint that is new or returns, in milliseconds; 0 is none.
    pub slow_start: u64,
}

impl Watch {
    /// The same as the machine takes it; `new_ramp` tells whether unknown endpoints are new.
    #[must_use]
    pub fn rules(&self, new_ramp: bool) -> Rules {
        let (probes, outlier, slow_start) = (self.probe.is_some(), self.outlier, self.slow_start);
        Rules { probes, outlier, slow_start, new_ramp }
    }
}

/// Active probes of an upstream's endpoints.
#[derive(Clone, Debug)]
pub struct Probe {
    /// What is asked.
    pub ask: ProbeAsk,
    /// How long an answer may take.
    pub timeout: Duration,
    /// How often, and what answers do.
    pub rules: ProbeRules,
}

/// What a probe asks.
#[derive(Clone, Debug)]
pub enum ProbeAsk {
    /// A GET of a path, and the statuses that are good.
    Http(PathAndQuery, Box<[u16]>),
    /// That a connection is accepted.
    Tcp,
    /// `grpc.health.v1.Health/Check` of a service; empty is the whole server.
    Grpc(Box<str>),
}

/// The breaker of an upstream.
#[derive(Clone, Debug)]
pub struct Breaker {
    /// Live state.
    pub cell: Arc<BreakerCell>,
    /// When it opens, and for how long.
    pub rules: BreakerRules,
    /// What answers while it is open.
    pub fallback: Fallback,
}

/// What answers for an upstream whose breaker is open.
#[derive(Clone, Debug, Default)]
pub enum Fallback {
    /// What answers for an arm without endpoints.
    #[default]
    None,
    /// An upstream of this name.
    Upstream(Arc<str>),
    /// A fixed answer.
    Respond(Respond),
}

/// The upstream that answers for an arm whose breaker is open.
#[derive(Debug)]
pub struct Stand {
    /// It.
    pub upstream: Arc<Upstream>,
    /// Counts of the arm as answered by it.
    pub cell: Arc<Cell>,
}

/// Whether an endpoint with a `share` of `full` takes part in a pick with these random bits: so an
/// endpoint that ramps up gets about its share, whatever the balancing.
#[must_use]
pub const fn takes_part(share: u32, full: u32, entropy: u64, endpoint: usize) -> bool {
    if share >= full {
        return true;
    }
    // Bits of its own for every endpoint of the pick (the finaliser of SplitMix64).
    let mut bits = entropy.wrapping_add((endpoint as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (((bits ^ (bits >> 31)) >> 32) * full as u64) >> 32 < share as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_takes_part_as_often_as_its_share() {
        let mut entropy = 1_u64;
        for share in [0, 102, 512, 1_000, 1_024] {
            let rounds = 20_000;
            let taken = (0..rounds)
                .filter(|_| {
                    entropy = entropy.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    takes_part(share, 1_024, entropy, 1)
                })
                .count();
            let expected = rounds * share as usize / 1_024;
            assert!(taken.abs_diff(expected) <= rounds / 50, "{share}: {taken} of {expected}");
        }
    }
}
