//! Which upstream an exchange asks, and what that upstream is told of how it went.
//!
//! It is the arm's own, or the one that stands in while the arm's breaker is open. It must never be
//! told of what a client did.

use std::sync::Arc;

use super::Exchange;
use crate::model::ArmIx;
use crate::plan::Upstream;
use crate::proxy::guard;

impl Exchange {
    /// The upstream of an arm, or what stands in for it.
    pub(super) fn upstream_of(&self, arm: ArmIx, stood: bool) -> Option<&Arc<Upstream>> {
        let arm = self.plan.routes.get(self.route?)?.arm(arm)?;
        if stood { arm.stand.as_ref().map(|stand| &stand.upstream) } else { Some(&arm.upstream) }
    }

    /// From here on the upstream is asked that stands in for the chosen arm's.
    pub fn stands_in(&mut self) {
        self.stood = true;
    }

    /// Whether an arm is the chosen one.
    #[must_use]
    pub fn is_chosen(&self, arm: ArmIx) -> bool {
        self.choice.is_some_and(|choice| choice.arm == arm)
    }

    /// Tells the upstream that was asked how the attempt that is over went.
    pub(super) fn settle(&mut self) {
        let blame = self.blame.take();
        let Some(at) = self.endpoint.filter(|_| !self.client_fault && self.client_error().is_none()) else {
            return;
        };
        if let Some(upstream) = self.upstream_of(self.answered, self.stood) {
            guard::settle(upstream, (self.worker.id, self.client), at, blame, self.complete);
        }
    }
}
