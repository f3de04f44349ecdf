//! One data-plane worker: its view of the plan, its pools, clock, entropy and counters.
//!
//! Everything is single-threaded but the plan pointer, which is compared once per request. It must
//! never be shared between threads.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::mirror::Shadows;
use super::tunnels::Tunnels;
use crate::ledger::Book;
use crate::ledger::process::WorkerCounts;
use crate::model::log::AccessSink;
use crate::model::time::CoarseClock;
use crate::model::{PairSink, RejectReason, WorkerId};
use crate::plan::{Plan, PlanCache, Plans};
use crate::upstream::{Deadlines, Pools, Purpose};

/// The plan of one exchange: cloned by reference count of this worker alone.
pub type PlanRef = Rc<Arc<Plan>>;

/// One data-plane worker.
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// Its clock.
    pub clock: Rc<CoarseClock>,
    /// Its pending deadlines.
    pub deadlines: Rc<Deadlines>,
    /// Its upstream connections.
    pub pools: Pools,
    /// All live cells, for the process-wide counts.
    pub book: Arc<Book>,
    /// What carries copies of requests.
    pub shadows: Shadows,
    /// Its open tunnels.
    pub tunnels: Tunnels,
    /// Takes access records.
    pub sink: Arc<dyn AccessSink>,
    plan: RefCell<(PlanCache, PlanRef)>,
    entropy: RefCell<fastrand::Rng>,
}

impl Worker {
    /// A worker that reads the published plan from `plans`. `pairs` takes what copies were answered,
    /// `seed` is its entropy.
    #[must_use]
    pub fn new(
        id: WorkerId,
        plans: &Plans,
        book: Arc<Book>,
        sink: Arc<dyn AccessSink>,
        pairs: Arc<dyn PairSink>,
        seed: u64,
    ) -> Self {
        let clock = Rc::new(CoarseClock::default());
        let deadlines = Deadlines::new(Rc::clone(&clock));
        let current = Rc::new(plans.load_full());
        Self {
            id,
            clock,
            pools: Pools::new(Rc::clone(&deadlines), Purpose::Clients),
            shadows: Shadows::new(&deadlines, pairs),
            tunnels: Tunnels::default(),
            deadlines,
            book,
            sink,
            plan: RefCell::new((plans.cache(), current)),
            entropy: RefCell::new(fastrand::Rng::with_seed(seed)),
        }
    }

    /// The plan in force. Called once per exchange, which keeps it to its end; also called on
    /// publish so that an idle worker lets go of the old plan.
    pub fn plan(&self) -> PlanRef {
        let mut plan = self.plan.borrow_mut();
        let (cache, current) = &mut *plan;
        let fresh = cache.load();
        if !Arc::ptr_eq(fresh, current) {
            *current = Rc::new(Arc::clone(fresh));
        }
        Rc::clone(current)
    }

    /// 64 uniform bits; not for secrets.
    pub fn entropy(&self) -> u64 {
        self.entropy.borrow_mut().u64(..)
    }

    /// Counts a refused request.
    pub fn reject(&self, reason: RejectReason) {
        if let Some(counts) = self.counts() {
            counts.reject(reason);
        }
    }

    /// The process-wide counts of this worker.
    #[must_use]
    pub fn counts(&self) -> Option<&WorkerCounts> {
        self.book.process.worker(self.id)
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("id", &self.id).finish_non_exhaustive()
    }
}
