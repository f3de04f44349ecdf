//! What one address may add to a comparison, so that no client speaks for all the others.
//!
//! [`Caps`] bounds failures: an address that fails all day neither convicts an arm nor makes stable
//! look ill. On a sticky route, where keys can be tried out until they are the canary's, it bounds
//! an address's users as well, whatever they got: slow answers, refusals and arrivals of one address
//! are few beside those of the others, and one behind which many users are keeps twice the average.
//! Without keys nobody chooses an arm, so slow or refused requests of one client fall on both as
//! the router draws, and need no more than [`Pace`]. [`Pace`] bounds how much of a second one address is: easy requests of one client must
//! not make the failures of the others look rare, nor pass a step on traffic nobody else has.
//! Both look at the address, the time and, for the caps, whether the outcome is bad or refused, and
//! never at the arm. That is why evidence stays valid: if the version does not matter, what is left out is
//! chosen without the labels, and each outcome that is left in is the canary's with the router's
//! probability as before. They must never learn which arm an outcome is of.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Places by which addresses are told apart; two that share one share what they may add.
pub(super) const PLACES: usize = 1 << 12;
/// Bad outcomes one address may add to an epoch, or twice what active addresses add on average:
/// where few clients carry all traffic, none of them must run dry while others go on.
pub const MOST_PER_ADDRESS: u32 = 5;
/// The same of slots on a sticky route: those first seen, those that become bad and those that are
/// answered 4xx, each kind by itself. A client may know which keys are the canary's, and at 1 % three
/// bad slots convict.
pub const MOST_SLOTS_PER_ADDRESS: u32 = 1;
/// Addresses of which users of the canary must have failed before the comparison hears of any, once
/// many are active: the guard asks for as many failures, and a household has more than one address.
pub const LEAST_BAD_ADDRESSES: u64 = 5;
/// Times the average that an address may add when that is more.
const TIMES_MEAN: u64 = 2;
/// Active addresses below which every outcome counts.
pub const FEW_ADDRESSES: u32 = 20;
/// Times the average address of the last second that one may count in this one: with at least
/// [`FEW_ADDRESSES`] to the average, at most a fifth of all.
const TIMES_BUSY: u32 = 4;
/// Outcomes of an address that always count in a second, over all workers; and the least for one.
const ALWAYS: (u32, u32) = (32, 8);

/// What an address may add to what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum May {
    /// Nothing.
    Not,
    /// It counts as long as only few addresses are active.
    AmongFew,
    /// It counts.
    Yes,
}

/// What all addresses have added to an epoch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Added {
    /// Active addresses.
    pub active: u32,
    /// Bad outcomes that counted.
    pub bad: u64,
    /// Slow outcomes that counted.
    pub slow: u64,
    /// Slots seen.
    pub slots: u64,
    /// Slots that became bad.
    pub bad_slots: u64,
    /// Slots that were answered 4xx.
    pub refused_slots: u64,
}

/// What each address added, 16 bits a kind: shared by all workers, and touched by bad outcomes and
/// by what is new of a slot alone.
#[derive(Debug)]
pub struct Caps(Box<[AtomicU64]>);

impl Default for Caps {
    fn default() -> Self {
        Self((0..PLACES).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Caps {
    /// Whether an address may add another bad outcome; takes note when it does.
    pub fn bad(&self, hash: u64, added: impl FnOnce() -> Added) -> May {
        let bound = |added: &Added| (MOST_PER_ADDRESS, added.bad);
        self.take(hash, 0, added, bound)
    }

    /// Whether an address may add another slow outcome, where slots of users are not counted; takes note
    /// when it does.
    pub fn slow(&self, hash: u64, added: impl FnOnce() -> Added) -> May {
        let bound = |added: &Added| (MOST_PER_ADDRESS, added.slow);
        self.take(hash, 16, added, bound)
    }

    /// Whether an address may add another bad slot; takes note when it does.
    pub fn slot(&self, hash: u64, added: impl FnOnce() -> Added) -> May {
        let bound = |added: &Added| (MOST_SLOTS_PER_ADDRESS, added.bad_slots);
        self.take(hash, 16, added, bound)
    }

    /// Whether an address may add another slot that was not seen before; takes note when it does.
    pub fn user(&self, hash: u64, added: impl FnOnce() -> Added) -> May {
        let bound = |added: &Added| (MOST_SLOTS_PER_ADDRESS, added.slots);
        self.take(hash, 32, added, bound)
    }

    /// Whether an address may add another slot that is answered 4xx; takes note when it does.
    pub fn refused(&self, hash: u64, added: impl FnOnce() -> Added) -> May {
        let bound = |added: &Added| (MOST_SLOTS_PER_ADDRESS, added.refused_slots);
        self.take(hash, 48, added, bound)
    }

    fn take(
        &self,
        hash: u64,
        shift: u32,
        added: impl FnOnce() -> Added,
        bound: impl Fn(&Added) -> (u32, u64),
    ) -> May {
        let Some(place) = self.0.get(place_of(hash)) else { return May::Yes };
        let all = place.load(Relaxed);
        let before = all >> shift & 0xffff;
        let (least, _) = bound(&Added::default());
        if before >= u64::from(least) {
            let added = added();
            if added.active < FEW_ADDRESSES {
                return May::AmongFew;
            }
            let mean = bound(&added).1 / u64::from(added.active);
            if before >= TIMES_MEAN * mean || before >= 0xffff {
                return May::Not;
            }
        }
        // Two workers may both add the last one: the bound is passed by a few at most.
        place.fetch_add(1 << shift, Relaxed);
        May::Yes
    }
}

/// Outcomes of this second by address, as one worker sees them.
#[derive(Debug)]
pub struct Pace {
    /// Low 16 bits of the second, and outcomes counted in it.
    places: Box<[AtomicU32]>,
    second: AtomicU64,
    counted: AtomicU32,
    addresses: AtomicU32,
    limit: AtomicU32,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            places: places(),
            second: AtomicU64::new(0),
            counted: AtomicU32::new(0),
            addresses: AtomicU32::new(0),
            limit: AtomicU32::new(u32::MAX),
        }
    }
}

impl Pace {
    /// Whether an outcome of this address still counts in this second. `active` addresses are asked
    /// for once a second.
    pub fn counts(&self, hash: u64, second: u64, workers: usize, active: impl FnOnce() -> u32) -> bool {
        if self.second.load(Relaxed) != second {
            self.second.store(second, Relaxed);
            let busy = TIMES_BUSY.saturating_mul(self.counted.load(Relaxed))
                / self.addresses.load(Relaxed).max(FEW_ADDRESSES);
            let workers = u32::try_from(workers.max(1)).unwrap_or(u32::MAX);
            let least = (ALWAYS.0 / workers).max(ALWAYS.1);
            let limit = if active() < FEW_ADDRESSES { u32::MAX } else { busy.max(least) };
            self.limit.store(limit, Relaxed);
            self.counted.store(0, Relaxed);
            self.addresses.store(0, Relaxed);
        }
        let Some(place) = self.places.get(place_of(hash)) else { return true };
        let (stamp, before) = (u32::try_from(second & 0xffff).unwrap_or(0) << 16, place.load(Relaxed));
        // A place nobody used in the 65,536th second before this one either is as good as new.
        let count = if before & 0xffff_0000 == stamp { before & 0xffff } else { 0 };
        if count >= self.limit.load(Relaxed) {
            return false;
        }
        place.store(stamp | (count + 1).min(0xffff), Relaxed);
        add(&self.counted, 1);
        add(&self.addresses, u32::from(count == 0));
        true
    }
}

/// Adds to a word with one writer.
fn add(word: &AtomicU32, by: u32) {
    word.store(word.load(Relaxed).saturating_add(by), Relaxed);
}

/// The place of an address, below [`PLACES`].
pub(super) fn place_of(hash: u64) -> usize {
    (hash >> 32) as usize % PLACES
}

fn places() -> Box<[AtomicU32]> {
    (0..PLACES).map(|_| AtomicU32::new(0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash with its own place.
    fn hash(address: u64) -> u64 {
        address << 32
    }

    #[test]
    fn an_address_adds_five_or_twice_the_mean_when_many_are_active() {
        let rows = [
            ("alone", Added { active: 19, ..Added::default() }, 60, 60),
            (
                "beside healthy ones",
                Added { active: 200, bad: 30, slow: 30, slots: 20, bad_slots: 20, refused_slots: 20 },
                5,
                1,
            ),
            (
                "where all fail",
                Added { active: 25, bad: 500, slow: 500, slots: 250, bad_slots: 250, refused_slots: 250 },
                40,
                20,
            ),
        ];
        for (name, added, outcomes, slots) in rows {
            let caps = Caps::default();
            let taken = |one: &dyn Fn() -> May| (0..60).filter(|_| one() != May::Not).count();
            assert_eq!(taken(&|| caps.bad(hash(7), || added)), outcomes, "{name}");
            assert_eq!(taken(&|| caps.slot(hash(7), || added)), slots, "{name}");
            assert_eq!(taken(&|| caps.user(hash(7), || added)), slots, "{name}");
            assert_eq!(taken(&|| caps.refused(hash(7), || added)), slots, "{name}");
            assert_eq!(caps.bad(hash(8), || added), May::Yes, "{name}: others still count");
        }
    }

    /// What a flood and the others count in each second.
    fn flooded(active: u32, others: u64, each: u32) -> Vec<(u32, u32)> {
        let pace = Pace::default();
        let second = |second: u64| {
            let count = |address: u64, times: u32| {
                let counts = |_: &u32| pace.counts(hash(address), second, 1, || active);
                u32::try_from((0..times).filter(counts).count()).unwrap()
            };
            (count(1, 5_000), (0..others).map(|other| count(10 + other, each)).sum())
        };
        (100..130).map(second).collect()
    }

    #[test]
    fn a_flood_is_a_fifth_of_a_second_at_most_and_the_others_all_count() {
        for (others, each) in [(200, 1), (100, 10), (30, 40)] {
            let counted = flooded(100, others, each);
            let all = u32::try_from(others).unwrap() * each;
            let (flood, rest) = counted[20];
            assert!(counted[20..].iter().all(|(_, rest)| *rest == all), "{others} x {each}: {rest} of {all}");
            assert!(flood <= (all / 4).max(ALWAYS.0), "{others} x {each}: {flood} beside {rest}");
        }
        assert_eq!(flooded(19, 10, 1)[20], (5_000, 10), "few addresses: every request counts");
    }
}
