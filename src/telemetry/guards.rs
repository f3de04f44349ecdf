//! What probes, outcomes and breakers say of upstreams, as metrics.
//!
//! Only what is watched has series, so their number is bounded by the configuration. It must never
//! count anything itself.

use std::sync::Arc;

use super::exposition::Exposition;
use crate::ledger::guard::Opened;
use crate::ledger::{BreakerCell, EndpointGuard, UpstreamGuard};
use crate::model::{FailureReason, names};

/// Every state a breaker can be in.
const STATES: [&str; 3] = ["closed", "open", "half_open"];

/// What is watched of one upstream.
#[derive(Clone, Debug)]
pub struct GuardSeries {
    /// Its name.
    pub upstream: Arc<str>,
    /// All endpoints together; `None` when they are not watched.
    pub watch: Option<Arc<UpstreamGuard>>,
    /// The endpoints that are watched.
    pub endpoints: Vec<Arc<EndpointGuard>>,
    /// Its breaker.
    pub breaker: Option<Arc<BreakerCell>>,
}

/// Adds their families.
pub(super) fn render(out: &mut Exposition, guards: &[GuardSeries]) {
    let endpoints =
        || guards.iter().flat_map(|one| one.endpoints.iter().map(|guard| (&*one.upstream, guard)));
    out.family(&names::ENDPOINT_HEALTHY);
    for (upstream, guard) in endpoints() {
        out.count(&names::ENDPOINT_HEALTHY, &[upstream, &guard.url], u64::from(guard.is_healthy()));
    }
    out.family(&names::ENDPOINT_EJECTIONS);
    for (upstream, guard) in endpoints() {
        for reason in FailureReason::ALL {
            let count = guard.ejections(*reason);
            if count > 0 {
                out.count(&names::ENDPOINT_EJECTIONS, &[upstream, &guard.url, reason.label()], count);
            }
        }
    }
    out.family(&names::FAIL_OPEN);
    for one in guards {
        if let Some(watch) = &one.watch {
            out.count(&names::FAIL_OPEN, &[&one.upstream], watch.fail_open());
        }
    }
    let breakers = || guards.iter().filter_map(|one| Some((&*one.upstream, one.breaker.as_ref()?)));
    out.family(&names::BREAKER_STATE);
    for (upstream, breaker) in breakers() {
        for state in STATES {
            out.count(&names::BREAKER_STATE, &[upstream, state], u64::from(breaker.state() == state));
        }
    }
    out.family(&names::BREAKER_OPENINGS);
    for (upstream, breaker) in breakers() {
        for why in Opened::ALL {
            out.count(&names::BREAKER_OPENINGS, &[upstream, why.label()], breaker.openings(why));
        }
    }
}
