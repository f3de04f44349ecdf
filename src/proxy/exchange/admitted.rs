//! Admission of an exchange to an upstream, and who left no room when there was none.
//!
//! A limit that one client fills, or clients that do not take their answers, says nothing of the arm:
//! everybody else's 503 must not put a healthy version back. It must never admit or refuse by address.

use super::Exchange;
use crate::model::ArmIx;
use crate::plan::{Route, Upstream};

/// The arm whose upstream admitted an exchange, and what is given back at its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    pub(super) arm: ArmIx,
    /// It was the upstream that stands in for the arm's.
    pub(super) stood: bool,
    /// The client's hash, where arms are compared or a flip is verified.
    holder: Option<u64>,
}

impl Exchange {
    /// Asks an arm's upstream for admission, to the end of the exchange; false when it is at its
    /// limit. Admission by another arm ends.
    #[must_use]
    pub fn enter(&mut self, arm: ArmIx) -> bool {
        self.leave();
        let (worker, stood) = (self.worker.id, self.stood);
        let Some(found) = self.upstream_of(arm, stood) else { return false };
        if !found.cell.enter(worker, found.max_requests) {
            return false;
        }
        let holder = self.holder();
        if let Some(hash) = holder {
            found.cell.holders.begin(worker, hash);
        }
        if let Some(upload) = &self.upload {
            upload.admitted(&found.cell, worker);
        }
        self.admitted = Some(Admitted { arm, stood, holder });
        true
    }

    pub(super) fn leave(&mut self) {
        let Some(Admitted { arm, stood, holder }) = self.admitted.take() else { return };
        let answering = std::mem::take(&mut self.answering);
        if let Some(found) = self.upstream_of(arm, stood) {
            if answering {
                found.cell.answering(self.worker.id, true);
            }
            if let Some(hash) = holder {
                found.cell.holders.end(self.worker.id, hash);
            }
            found.cell.leave(self.worker.id);
        }
        self.upload.iter().for_each(|upload| upload.left());
    }

    /// Notes of an overflow whether it is others who left no room.
    pub(super) fn overflowed(&mut self, arm: ArmIx) {
        let Some(found) = self.upstream_of(arm, self.stood) else { return };
        self.crowded |= found.cell.is_held_by_clients() || self.is_held_by_one(found);
    }

    /// Whether one client has at least half of what the limit leaves to all. Where few clients carry
    /// all traffic none can be told from the others, and every overflow counts.
    fn is_held_by_one(&self, upstream: &Upstream) -> bool {
        if self.charged().is_none_or(|(route, _)| is_of_few(route)) {
            return false;
        }
        let bound = if self.admitted.is_none() {
            u64::from(upstream.max_requests)
        } else {
            // Admitted, it found no connection.
            let connections = u64::from(upstream.max_connections) * upstream.endpoints.len() as u64;
            let pending = u64::from(upstream.max_pending);
            [connections, pending].into_iter().filter(|bound| *bound > 0).min().unwrap_or(u64::MAX)
        };
        2 * upstream.cell.holders.most(upstream.cell.in_flight()) >= bound
    }

    fn holder(&self) -> Option<u64> {
        let (route, _) = self.charged()?;
        match (&route.trial, &route.watch) {
            (Some(compare), _) => Some(compare.trial.hash_of(self.client)),
            (None, Some(watch)) => Some(watch.hash_of(self.client)),
            (None, None) => None,
        }
    }
}

/// Whether so few addresses use a route that none can be told from the others; so it is where nobody is
/// told apart.
fn is_of_few(route: &Route) -> bool {
    match (&route.trial, &route.watch) {
        (Some(compare), _) => compare.trial.is_of_few(),
        (None, Some(watch)) => watch.is_of_few(),
        (None, None) => true,
    }
}
