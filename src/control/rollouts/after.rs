//! What the reference arm sees after a canary was put back, as differences of the ledger's totals.
//!
//! Nothing is compared any more, so no weight epoch counts it. It must never look at an arm longer
//! than it is asked about.

use std::collections::VecDeque;

use crate::analysis::finding::Seen;
use crate::ledger::Book;
use crate::rollout::recovery::LOOKED_AT;
use crate::rollout::state::Mark;
use crate::rollout::{Phase, Rollout};

/// Totals kept: one of each second looked at, and the one before.
const MOST: usize = LOOKED_AT + 1;

/// Totals of the last seconds after a return.
#[derive(Debug, Default)]
pub struct After(VecDeque<Seen>);

impl After {
    /// A second passed.
    pub fn look(&mut self, book: &Book, route: &str, rollout: &Rollout) {
        let ended = matches!(rollout.phase, Phase::Reverted | Phase::Aborted);
        if !ended || rollout.told.contains(&Mark::Recovery) {
            self.0.clear();
            return;
        }
        let mut seen = Seen::default();
        for cell in book.route_cells(route).iter().filter(|cell| *cell.arm == *rollout.reference()) {
            let totals = cell.totals();
            seen.n += totals.requests();
            seen.e += totals.errors();
        }
        self.add(seen);
    }

    fn add(&mut self, totals: Seen) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(totals);
    }

    /// What was seen in those seconds.
    #[must_use]
    pub fn lately(&self) -> Seen {
        let (Some(first), Some(last)) = (self.0.front(), self.0.back()) else { return Seen::default() };
        Seen { n: last.n.saturating_sub(first.n), e: last.e.saturating_sub(first.e) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_thirty_seconds_count_and_no_more() {
        let mut after = After::default();
        assert_eq!(after.lately(), Seen::default());
        for second in 0..100 {
            // It failed all the time until the fiftieth second, and never since.
            after.add(Seen { n: 1_000 + second * 10, e: second.min(50) * 10 });
        }
        assert_eq!(after.lately(), Seen { n: 300, e: 0 });
    }
}
