//! How many clients ask an upstream or an endpoint, and how many of them it fails.
//!
//! Whoever asks for what fails must not have it called ill for everybody. So once many addresses are
//! active, failures that may be of what was asked count only when several addresses had them; where
//! nobody answers at all, it does not matter who asked. Addresses are 64 places: a word is read for an
//! attempt, and written when a place is new to it. It must never cost anything where nothing is watched.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

use foldhash::fast::FixedState;

use super::Millis;
use crate::ledger::fair::MOST_PER_ADDRESS;
use crate::ledger::trial::network;
use crate::model::FailureReason;

/// Places by which addresses are told apart.
const PLACES: usize = 64;
/// Places that twenty addresses take: 64 * (1 - (63 / 64)^20).
const MANY: u32 = 17;
/// Places that must have been failed, once many are active.
pub(super) const LEAST: u32 = 5;
/// Times the mean that one place may add when that is more than [`MOST_PER_ADDRESS`].
const TIMES_MEAN: u32 = 2;

/// How an attempt went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Went {
    /// It was answered.
    Well,
    /// It failed, which may be of what was asked.
    Failed,
    /// Nobody answered it.
    Unreached,
}

impl Went {
    /// What a failure says.
    #[must_use]
    pub const fn of(reason: FailureReason) -> Self {
        match reason {
            FailureReason::Connect | FailureReason::ConnectTimeout | FailureReason::Tls => Self::Unreached,
            _ => Self::Failed,
        }
    }
}

/// Clients of one upstream or endpoint, over all workers.
#[derive(Debug)]
pub(super) struct Crowd {
    hasher: FixedState,
    /// Places that asked in this turn, and in the one before.
    active: [AtomicU64; 2],
    /// Places that were failed in this turn, and in the one before.
    failing: [AtomicU64; 2],
    /// Failures of this turn by place, and all of them.
    failures: [AtomicU32; PLACES],
    all: AtomicU32,
    /// When the turn began.
    since: AtomicU64,
}

/// One place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place(usize);

impl Place {
    pub(super) const fn bit(self) -> u64 {
        1 << (self.0 % PLACES)
    }
}

impl Crowd {
    /// Nobody yet. `seed` keeps clients from choosing whose place they share.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            hasher: FixedState::with_seed(seed),
            active: Default::default(),
            failing: Default::default(),
            failures: [const { AtomicU32::new(0) }; PLACES],
            all: AtomicU32::new(0),
            since: AtomicU64::new(0),
        }
    }

    // --- workers ---

    /// The place of an address that asked.
    pub(super) fn seen(&self, address: IpAddr) -> Place {
        let place = Place((self.hasher.hash_one(network(address)) >> 32) as usize % PLACES);
        mark(&self.active[0], place.bit());
        place
    }

    /// Whether many are active.
    pub(super) fn is_many(&self) -> bool {
        both(&self.active).count_ones() >= MANY
    }

    /// Whether another failure of a place counts in this turn; takes note when it does.
    pub(super) fn fails(&self, place: Place) -> bool {
        mark(&self.failing[0], place.bit());
        let Some(count) = self.failures.get(place.0) else { return true };
        let before = count.load(Relaxed);
        if before >= MOST_PER_ADDRESS && self.is_many() {
            let active = both(&self.active).count_ones().max(1);
            if before >= self.all.load(Relaxed) / active * TIMES_MEAN {
                return false;
            }
        }
        count.fetch_add(1, Relaxed);
        self.all.fetch_add(1, Relaxed);
        true
    }

    /// Nobody was answered, whoever had asked.
    pub(super) fn unreached(&self) {
        mark(&self.failing[0], u64::MAX);
    }

    // --- control ---

    /// Whether so many are failed that no few of them speak for all.
    pub(super) fn speaks(&self) -> bool {
        !self.is_many() || both(&self.failing).count_ones() >= LEAST
    }

    /// Begins another turn when this one is so long.
    pub(super) fn turn(&self, now: Millis, length: Millis) {
        if now < self.since.load(Relaxed) + length.max(1) {
            return;
        }
        self.since.store(now, Relaxed);
        for [new, old] in [&self.active, &self.failing] {
            old.store(new.swap(0, Relaxed), Relaxed);
        }
        self.failures.iter().for_each(|count| count.store(0, Relaxed));
        self.all.store(0, Relaxed);
    }
}

fn both([new, old]: &[AtomicU64; 2]) -> u64 {
    new.load(Relaxed) | old.load(Relaxed)
}

/// Adds bits; usually they are there already.
pub(super) fn mark(word: &AtomicU64, bits: u64) {
    if word.load(Relaxed) & bits != bits {
        word.fetch_or(bits, Relaxed);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// One of many addresses.
    pub(in crate::ledger::guard) fn address(number: u32) -> IpAddr {
        IpAddr::V4((0x0a00_0000 | number).into())
    }

    #[test]
    fn one_of_many_counts_five_times_a_turn_and_all_together_in_full() {
        let crowd = Crowd::new(3);
        let fail = |number, times: u32| {
            let place = crowd.seen(address(number));
            (0..times).filter(|_| crowd.fails(place)).count()
        };
        assert_eq!((fail(1, 30), crowd.is_many(), crowd.speaks()), (30, false, true), "alone it counts");
        crowd.turn(10_000, 10_000);
        (0..100).for_each(|number| _ = crowd.seen(address(number)));
        assert_eq!((fail(1, 30), crowd.is_many(), crowd.speaks()), (5, true, false));
        crowd.turn(15_000, 10_000);
        assert_eq!(fail(1, 30), 0, "the turn goes on");
        crowd.turn(20_000, 10_000);
        assert!(crowd.is_many(), "who asked in the turn before is still there");
        let counted: usize = (0..50).map(|_| (0..100).map(|number| fail(number, 1)).sum::<usize>()).sum();
        assert!(counted > 4_000 && crowd.speaks(), "{counted} of 5,000");
        crowd.turn(30_000, 10_000);
        crowd.turn(40_000, 10_000);
        assert!(!crowd.is_many());
    }

    #[test]
    fn where_nobody_answers_it_does_not_matter_who_asked() {
        let crowd = Crowd::new(3);
        (0..100).for_each(|number| _ = crowd.seen(address(number)));
        assert!(!crowd.speaks());
        crowd.unreached();
        assert!(crowd.speaks());
        assert_eq!(Went::of(FailureReason::Connect), Went::Unreached);
        assert_eq!(Went::of(FailureReason::Status), Went::Failed);
        // Whoever knows a slow path could let it time out for everybody.
        assert_eq!(Went::of(FailureReason::Timeout), Went::Failed);
    }
}
