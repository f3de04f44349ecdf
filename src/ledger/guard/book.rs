//! The guards by name, kept from plan to plan.
//!
//! Asked only while compiling. A guard that no plan holds any more is forgotten with its series.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{BreakerCell, EndpointGuard, UpstreamGuard};
use crate::ledger::Book;

/// Every guard by the name of its upstream.
#[derive(Debug, Default)]
pub(in crate::ledger) struct Guards {
    upstreams: HashMap<Arc<str>, Arc<UpstreamGuard>, FixedState>,
    /// By upstream and address.
    endpoints: HashMap<(Arc<str>, Arc<str>), Arc<EndpointGuard>, FixedState>,
    breakers: HashMap<Arc<str>, Arc<BreakerCell>, FixedState>,
}

impl Guards {
    /// Drops what no plan holds any more.
    pub(in crate::ledger) fn retire(&mut self) {
        self.upstreams.retain(|_, guard| Arc::strong_count(guard) > 1);
        self.endpoints.retain(|_, guard| Arc::strong_count(guard) > 1);
        self.breakers.retain(|_, cell| Arc::strong_count(cell) > 1);
    }
}

impl Book {
    /// What is known of an upstream's endpoints together.
    #[must_use]
    pub fn upstream_guard(&self, upstream: &Arc<str>) -> Arc<UpstreamGuard> {
        let workers = self.workers();
        let mut inner = self.inner();
        let fresh = || Arc::new(UpstreamGuard::new(workers));
        Arc::clone(inner.guards.upstreams.entry(Arc::clone(upstream)).or_insert_with(fresh))
    }

    /// What is known of one endpoint of an upstream.
    #[must_use]
    pub fn endpoint_guard(&self, upstream: &Arc<str>, url: &Arc<str>) -> Arc<EndpointGuard> {
        let seed = self.seed();
        let mut inner = self.inner();
        let key = (Arc::clone(upstream), Arc::clone(url));
        let fresh = || Arc::new(EndpointGuard::new(Arc::clone(url), seed));
        Arc::clone(inner.guards.endpoints.entry(key).or_insert_with(fresh))
    }

    /// The breaker of an upstream.
    #[must_use]
    pub fn breaker(&self, upstream: &Arc<str>) -> Arc<BreakerCell> {
        let (workers, seed) = (self.workers(), self.seed());
        let mut inner = self.inner();
        let fresh = || Arc::new(BreakerCell::new(workers, seed));
        Arc::clone(inner.guards.breakers.entry(Arc::clone(upstream)).or_insert_with(fresh))
    }
}
