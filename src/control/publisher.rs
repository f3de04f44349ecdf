//! The one place where a plan is put in force.
//!
//! Publishing is one swap: all or nothing. Old plans are kept here until nobody uses them, so that
//! a large one is never dropped on a data-plane thread. Only the controller may own it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;

use crate::model::Generation;
use crate::plan::{Plan, Plans};

/// Old plans kept at most; beyond that the oldest is left to its last user.
const MAX_RETIRED: usize = 64;

/// Puts plans in force.
#[derive(Debug)]
pub struct Publisher {
    shared: Arc<ArcSwap<Plan>>,
    wake: watch::Sender<Generation>,
    retired: Vec<Arc<Plan>>,
}

impl Publisher {
    /// Puts the first plan in force.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let (wake, _) = watch::channel(plan.generation);
        Self { shared: Arc::new(ArcSwap::from_pointee(plan)), wake, retired: Vec::new() }
    }

    /// The reader's half.
    #[must_use]
    pub fn plans(&self) -> Plans {
        Plans::new(Arc::clone(&self.shared))
    }

    /// Tells the generation of every plan published from now on.
    #[must_use]
    pub fn wake(&self) -> watch::Receiver<Generation> {
        self.wake.subscribe()
    }

    /// The plan in force.
    #[must_use]
    pub fn current(&self) -> Arc<Plan> {
        self.shared.load_full()
    }

    /// Puts a plan in force and wakes whoever reads it.
    pub fn publish(&mut self, plan: Plan) {
        let generation = plan.generation;
        let old = self.shared.swap(Arc::new(plan));
        self.wake.send_replace(generation);
        if self.retired.len() >= MAX_RETIRED {
            self.retired.remove(0);
        }
        self.retired.push(old);
    }

    /// Takes out the old plans nobody uses any more; to be dropped where time does not matter.
    pub fn reclaim(&mut self) -> Vec<Arc<Plan>> {
        self.retired.extract_if(.., |plan| Arc::strong_count(plan) == 1).collect()
    }
}
