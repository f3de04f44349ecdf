//! Which users an arm met, and which of them it failed: one bit a slot, shared by all workers.
//!
//! A slot is written once a step, when its first outcome of a kind is known; every later one only
//! reads. So the sets need no worker's own copy, and how many they hold is known without counting
//! bits. They must never be cleared: another step has other sets.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use super::fair::PLACES;

/// Slots of a sticky route: the top 16 bits of the hash that gives the bucket.
pub const SLOTS: usize = 1 << 16;

/// What became of one arm's slots.
#[derive(Debug)]
pub(super) struct Slots {
    /// Had an outcome.
    pub seen: Bits,
    /// Answered 4xx.
    pub client_error: Bits,
    /// Failed.
    bad: Bits,
    /// Of these, those that count whoever else is active.
    sure: Bits,
    /// Failed after the warm-up.
    warm_bad: Bits,
    /// Of these, those that count whoever else is active.
    warm_sure: Bits,
    /// Places of addresses of which one did.
    pub bad_addresses: Bits,
}

impl Default for Slots {
    fn default() -> Self {
        let bits = || Bits::new(SLOTS);
        Self {
            seen: bits(),
            client_error: bits(),
            bad: bits(),
            sure: bits(),
            warm_bad: bits(),
            warm_sure: bits(),
            bad_addresses: Bits::new(PLACES),
        }
    }
}

impl Slots {
    /// A slot failed. `sure`: it counts whoever else is active; `warm`: once the warm-up is over, the
    /// place of its address.
    pub fn fail(&self, slot: u16, sure: bool, warm: Option<usize>) {
        let slot = usize::from(slot);
        if sure {
            self.sure.mark(slot);
        }
        if let Some(place) = warm {
            self.warm_bad.mark(slot);
            self.bad_addresses.mark(place);
        }
        self.bad.mark(slot);
        // Both sets are asked after both were written, so of two workers at least one sees both.
        if self.warm_bad.holds(slot) && self.sure.holds(slot) {
            self.warm_sure.mark(slot);
        }
    }

    /// Whether a slot failed.
    pub fn is_bad(&self, slot: u16) -> bool {
        self.bad.holds(usize::from(slot))
    }

    /// Whether a slot failed and counts whoever else is active.
    pub fn is_surely_bad(&self, slot: u16) -> bool {
        self.sure.holds(usize::from(slot))
    }

    /// How many failed, and how many after the warm-up; of those that count while `few` addresses
    /// are active, or whoever is.
    pub fn failed(&self, few: bool) -> (u64, u64) {
        let (all, warm) = if few { (&self.bad, &self.warm_bad) } else { (&self.sure, &self.warm_sure) };
        (all.count(), warm.count())
    }
}

/// A set of bits that only grows, and knows how many it holds.
#[derive(Debug)]
pub(super) struct Bits {
    words: Box<[AtomicU64]>,
    count: AtomicU64,
}

impl Bits {
    /// An empty set of so many, a multiple of 64.
    pub fn new(bits: usize) -> Self {
        Self { words: (0..bits / 64).map(|_| AtomicU64::new(0)).collect(), count: AtomicU64::new(0) }
    }

    /// Adds one; whether it was not there before.
    pub fn mark(&self, bit: usize) -> bool {
        let Some(word) = self.words.get(bit / 64) else { return false };
        let mask = 1 << (bit % 64);
        // Usually it is there already, and a line that nobody writes stays in every worker's cache.
        if word.load(Acquire) & mask != 0 || word.fetch_or(mask, AcqRel) & mask != 0 {
            return false;
        }
        self.count.fetch_add(1, Relaxed);
        true
    }

    /// Whether it is there.
    pub fn holds(&self, bit: usize) -> bool {
        self.words.get(bit / 64).is_some_and(|word| word.load(Acquire) & 1 << (bit % 64) != 0)
    }

    /// How many are there.
    pub fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_that_is_sure_or_warm_later_is_both_then() {
        let rows = [
            (&[(false, false)][..], [(1, 0), (0, 0)]),
            (&[(true, false)], [(1, 0), (1, 0)]),
            (&[(false, true)], [(1, 1), (0, 0)]),
            (&[(true, false), (false, true)], [(1, 1), (1, 1)]),
            (&[(false, true), (true, false), (true, true)], [(1, 1), (1, 1)]),
        ];
        for (failures, [few, many]) in rows {
            let slots = Slots::default();
            for (sure, warm) in failures {
                slots.fail(7, *sure, warm.then_some(3));
            }
            assert_eq!((slots.failed(true), slots.failed(false)), (few, many), "{failures:?}");
            assert!(slots.is_bad(7) && !slots.is_bad(8));
        }
    }

    #[test]
    fn many_threads_count_each_once() {
        let bits = Bits::new(SLOTS);
        let fresh: usize = std::thread::scope(|scope| {
            let one = || (0..SLOTS).step_by(3).filter(|bit| bits.mark(*bit)).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().expect("a thread")).sum()
        });
        let expected = SLOTS.div_ceil(3);
        assert_eq!((fresh, bits.count()), (expected, expected as u64));
    }
}
