//! Who holds an upstream: requests in flight by client address, of routes that compare arms.
//!
//! An upstream at its limit fails requests, and these would speak against the arm on trial. When
//! one client fills the limit they say nothing of the arm, and this is how that is known. Each
//! worker writes its own counts, two additions a compared request; all are read only when a limit
//! was reached. It must never decide who is admitted, nor be touched by routes that compare nothing.

use std::sync::OnceLock;

use super::counter::Counter;
use crate::model::WorkerId;

/// Places by which addresses are told apart; two that share one are one holder.
const PLACES: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 6;

/// Requests in flight by place.
#[derive(Debug)]
pub struct Holders(Box<[OnceLock<Box<Places>>]>);

#[derive(Debug)]
struct Places {
    begun: [Counter; PLACES],
    ended: [Counter; PLACES],
}

impl Default for Places {
    fn default() -> Self {
        Self { begun: [const { Counter::new() }; PLACES], ended: [const { Counter::new() }; PLACES] }
    }
}

impl Holders {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// A request of an address begins to hold; pair with [`Self::end`] on the same worker.
    pub fn begin(&self, worker: WorkerId, hash: u64) {
        if let Some(own) = self.0.get(worker.0)
            && let Some(count) = own.get_or_init(Box::default).begun.get(place_of(hash))
        {
            count.add(1);
        }
    }

    /// It ended.
    pub fn end(&self, worker: WorkerId, hash: u64) {
        if let Some(own) = self.0.get(worker.0).and_then(OnceLock::get)
            && let Some(count) = own.ended.get(place_of(hash))
        {
            count.add(1);
        }
    }

    /// Requests of the address that holds most, of `in_flight` in all; those that were not told here
    /// are of one holder, who came through a route that compares nothing.
    #[must_use]
    pub fn most(&self, in_flight: u64) -> u64 {
        let held = |at: usize| -> u64 {
            let of = |own: &Places| {
                let [begun, ended] = [&own.begun, &own.ended].map(|all| all.get(at).map_or(0, Counter::get));
                begun.saturating_sub(ended)
            };
            self.0.iter().filter_map(OnceLock::get).map(|own| of(own)).sum()
        };
        let (most, told) = (0..PLACES).map(held).fold((0, 0), |(most, sum), one| (one.max(most), sum + one));
        most.max(in_flight.saturating_sub(told))
    }
}

/// The highest bits: the ledger's other tables take lower ones.
fn place_of(hash: u64) -> usize {
    (hash >> (u64::BITS - PLACE_BITS)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(place: usize) -> u64 {
        (place as u64) << (u64::BITS - PLACE_BITS)
    }

    #[test]
    fn the_one_who_holds_most_is_found_over_all_workers() {
        let holders = Holders::new(2);
        assert_eq!(holders.most(0), 0);
        for address in 0..60 {
            holders.begin(WorkerId(address % 2), hash(address));
        }
        assert_eq!(holders.most(60), 1, "many hold one each");
        for turn in 0..20 {
            holders.begin(WorkerId(turn % 2), hash(7));
        }
        assert_eq!(holders.most(80), 21);
        (0..20).for_each(|turn| holders.end(WorkerId(turn % 2), hash(7)));
        assert_eq!(holders.most(60), 1);
        assert_eq!(holders.most(100), 40, "those of other routes are one");
    }

    #[test]
    fn a_worker_nobody_has_is_left_alone() {
        let holders = Holders::new(1);
        holders.begin(WorkerId(9), 1);
        holders.end(WorkerId(9), 1);
        holders.end(WorkerId(0), 1);
        assert_eq!(holders.most(0), 0);
    }
}
