//! One copy's claim: a place among those under way, and exactly one result.
//!
//! It must never be counted twice, nor be forgotten: dropped without a word, the copy was not
//! finished.

use std::rc::Rc;
use std::sync::Arc;

use super::pairing::Pairing;
use crate::ledger::ShadowCell;
use crate::model::ShadowResult;
use crate::proxy::worker::Worker;

/// A copy under way.
pub struct Ticket {
    /// The worker it runs on.
    pub worker: Rc<Worker>,
    /// Where its answer is held against the original's, if it is.
    pub pairing: Option<Rc<Pairing>>,
    cell: Arc<ShadowCell>,
    ended: bool,
}

impl Ticket {
    /// Takes a place.
    #[must_use]
    pub fn new(worker: &Rc<Worker>, cell: &Arc<ShadowCell>, pairing: Option<Rc<Pairing>>) -> Self {
        let in_flight = &worker.shadows.in_flight;
        in_flight.set(in_flight.get() + 1);
        Self { worker: Rc::clone(worker), pairing, cell: Arc::clone(cell), ended: false }
    }

    /// The result; `nanos` from the copy sent to the head of its answer.
    pub fn end(mut self, result: ShadowResult, nanos: Option<u64>) {
        self.count(result, nanos);
    }

    fn count(&mut self, result: ShadowResult, nanos: Option<u64>) {
        self.ended = true;
        self.cell.record(self.worker.id, result, nanos);
        if result.is_drop()
            && let Some(pairing) = &self.pairing
        {
            pairing.void();
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.ended {
            self.count(ShadowResult::Unfinished, None);
        }
        let in_flight = &self.worker.shadows.in_flight;
        in_flight.set(in_flight.get().saturating_sub(1));
    }
}
