//! The plan in force, for readers: the data plane and the operator's views.
//!
//! It exists so that nobody but the publisher can replace the plan. It must never offer a way to
//! store one.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::Plan;

/// The plan in force; cheap to clone.
#[derive(Clone, Debug)]
pub struct Plans(Arc<ArcSwap<Plan>>);

impl Plans {
    /// The reader's half of a shared plan.
    #[must_use]
    pub fn new(shared: Arc<ArcSwap<Plan>>) -> Self {
        Self(shared)
    }

    /// The plan in force. Touches a shared count: not for every request.
    #[must_use]
    pub fn load_full(&self) -> Arc<Plan> {
        self.0.load_full()
    }

    /// A reader of one thread that touches no shared count while the plan stays the same.
    #[must_use]
    pub fn cache(&self) -> PlanCache {
        PlanCache(Cache::new(Arc::clone(&self.0)))
    }
}

/// One thread's view of the plan in force. It keeps an old plan alive until its next load, so its
/// owner must load it when woken.
#[derive(Debug)]
pub struct PlanCache(Cache<Arc<ArcSwap<Plan>>, Arc<Plan>>);

impl PlanCache {
    /// The plan in force.
    pub fn load(&mut self) -> &Arc<Plan> {
        self.0.load()
    }
}
