//! What two slots left while one of them may be verified, with a bound on what one address adds.
//!
//! Nothing runs beside a slot that was just flipped to, so whoever asks for what fails could have it
//! flipped back. [`Caps`] and [`Pace`] bound an address here as they do where arms are compared, and it
//! is known how many addresses failed or were slow. Only routes that verify have one. It must never be
//! written for a request that left before its answer, nor be read on the request path.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use crossbeam_utils::CachePadded;
use foldhash::fast::FixedState;

use super::Book;
use super::bins::{BinCounts, Bins};
use super::counter::Counter;
use super::fair::{Added, Caps, FEW_ADDRESSES, May, PLACES, Pace, place_of};
use super::slots::Bits;
use super::trial::{ACTIVE_BITS, network};
use crate::model::WorkerId;

/// Slots of a route.
const SLOTS: usize = 2;

/// The epoch in which a route's slots are counted now.
#[derive(Debug)]
pub struct Watch(ArcSwap<Watched>);

impl Watch {
    fn new(workers: usize) -> Self {
        Self(ArcSwap::from_pointee(Watched::new(workers, 0, 0)))
    }

    /// Counts an answer of a slot, by its index among the route's arms.
    pub fn record(&self, worker: WorkerId, slot: usize, answered: &Answered) {
        self.0.load().record(worker, slot, answered);
    }

    /// What tells an address from others.
    #[must_use]
    pub fn hash_of(&self, address: IpAddr) -> u64 {
        self.0.load().hasher.hash_one(network(address))
    }

    /// Whether too few addresses are active to bound what one of them adds.
    #[must_use]
    pub fn is_of_few(&self) -> bool {
        self.0.load().active() < FEW_ADDRESSES
    }

    /// The epoch in force.
    #[must_use]
    pub fn now(&self) -> Arc<Watched> {
        self.0.load_full()
    }

    /// Begins an epoch: what one address may add begins anew. `seed` keeps clients from choosing whose
    /// place they share.
    pub fn begin(&self, seed: u64) {
        let earlier = self.0.load();
        self.0.store(Arc::new(Watched::new(earlier.workers.len(), seed, earlier.own_active())));
    }
}

/// One answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// The slot failed.
    pub bad: bool,
    /// Request sent to response head, in nanoseconds.
    pub nanos: Option<u64>,
    /// The client after trusted proxies.
    pub address: IpAddr,
    /// When it ended, wall clock.
    pub unix_millis: u64,
}

/// The counts of one epoch.
#[derive(Debug)]
pub struct Watched {
    hasher: FixedState,
    workers: Box<[OnceLock<Box<CachePadded<Worker>>>]>,
    caps: Caps,
    active: Bits,
    /// Active addresses of the epoch before.
    known: u32,
    /// An answer is slow from here on, in nanoseconds.
    slow_from: AtomicU64,
    slots: [Whose; SLOTS],
}

/// Places of the addresses a slot failed, and of those it was slow to.
#[derive(Debug)]
struct Whose {
    failing: Bits,
    slow: Bits,
}

#[derive(Debug, Default)]
struct Worker {
    slots: [Part; SLOTS],
    pace: Pace,
}

#[derive(Debug, Default)]
struct Part {
    n: Counter,
    e: Counter,
    slow: Counter,
    latency: Bins,
}

/// What one slot left in an epoch.
#[derive(Clone, Debug, Default)]
pub struct SlotTotals {
    /// Answers that count.
    pub n: u64,
    /// Of these, bad.
    pub e: u64,
    /// Request sent to response head.
    pub latency: BinCounts,
    /// Addresses it failed.
    pub failing: u64,
    /// Addresses it was slow to.
    pub slow: u64,
    /// Too few addresses to bound what one of them adds.
    pub few_addresses: bool,
}

impl Watched {
    fn new(workers: usize, seed: u64, known: u32) -> Self {
        let whose = || Whose { failing: Bits::new(PLACES), slow: Bits::new(PLACES) };
        Self {
            hasher: FixedState::with_seed(seed),
            workers: (0..workers).map(|_| OnceLock::new()).collect(),
            caps: Caps::default(),
            active: Bits::new(ACTIVE_BITS),
            known,
            slow_from: AtomicU64::new(u64::MAX),
            slots: [whose(), whose()],
        }
    }

    fn record(&self, worker: WorkerId, slot: usize, answered: &Answered) {
        let own = self.workers.get(worker.0).map(|own| own.get_or_init(Box::default));
        let Some((own, whose)) = own.zip(self.slots.get(slot)) else { return };
        let Some(part) = own.slots.get(slot) else { return };
        let hash = self.hasher.hash_one(network(answered.address));
        self.active.mark(usize::try_from(hash % ACTIVE_BITS as u64).unwrap_or(0));
        let second = answered.unix_millis / 1_000;
        if !own.pace.counts(hash, second, self.workers.len(), || self.active()) {
            return;
        }
        let slow = answered.nanos.is_some_and(|nanos| nanos > self.slow_from.load(Relaxed));
        let one_too_many = answered.bad && self.caps.bad(hash, || self.added()) == May::Not
            || slow && self.caps.slow(hash, || self.added()) == May::Not;
        if one_too_many {
            return;
        }
        if answered.bad {
            whose.failing.mark(place_of(hash));
            part.e.add(1);
        }
        if slow {
            whose.slow.mark(place_of(hash));
            part.slow.add(1);
        }
        part.n.add(1);
        if let Some(nanos) = answered.nanos {
            part.latency.add(nanos);
        }
    }

    fn added(&self) -> Added {
        let parts = || self.workers.iter().filter_map(OnceLock::get).flat_map(|own| &own.slots);
        Added {
            active: self.active(),
            bad: parts().map(|part| part.e.get()).sum(),
            slow: parts().map(|part| part.slow.get()).sum(),
            ..Added::default()
        }
    }

    fn own_active(&self) -> u32 {
        u32::try_from(self.active.count()).unwrap_or(u32::MAX)
    }

    /// Active addresses, up to about a thousand. Whoever floods the first moments of an epoch is not
    /// among few.
    fn active(&self) -> u32 {
        self.own_active().max(self.known)
    }

    /// Says from where on an answer is slow, in nanoseconds; what was counted stays.
    pub fn slow_from(&self, nanos: u64) {
        self.slow_from.store(nanos, Relaxed);
    }

    /// Everything a slot left since the epoch began.
    #[must_use]
    pub fn totals(&self, slot: usize) -> SlotTotals {
        let mut totals = SlotTotals { few_addresses: self.active() < FEW_ADDRESSES, ..SlotTotals::default() };
        if let Some(whose) = self.slots.get(slot) {
            (totals.failing, totals.slow) = (whose.failing.count(), whose.slow.count());
        }
        let workers = self.workers.iter().filter_map(OnceLock::get);
        for part in workers.filter_map(|own| own.slots.get(slot)) {
            totals.e += part.e.get();
            totals.n += part.n.get();
            part.latency.add_to(&mut totals.latency);
        }
        // One may be read while it is being counted.
        totals.n = totals.n.max(totals.e);
        totals
    }
}

impl Book {
    /// What the slots of a route leave, over reloads.
    #[must_use]
    pub fn watch(&self, route: &Arc<str>) -> Arc<Watch> {
        let workers = self.workers();
        let mut inner = self.inner();
        let book = inner.routes.entry_ref(&**route).or_default();
        Arc::clone(book.watch.get_or_insert_with(|| Arc::new(Watch::new(workers))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOW: u64 = 1_000_000_000;

    fn watch(clients: u32) -> Watch {
        let watch = Watch::new(2);
        watch.begin(7);
        watch.now().slow_from(SLOW);
        for client in 0..clients {
            watch.record(WorkerId(0), 1, &answered(1_000 + client, false, 5_000_000));
        }
        watch
    }

    fn answered(client: u32, bad: bool, nanos: u64) -> Answered {
        let address = IpAddr::V4((0x0a00_0000 | client).into());
        Answered { bad, nanos: Some(nanos), address, unix_millis: 7_250 }
    }

    #[test]
    fn one_address_of_many_adds_five_failures_and_five_slow_answers() {
        for (clients, most) in [(10, 60), (200, 5)] {
            let watch = watch(clients);
            for _ in 0..30 {
                watch.record(WorkerId(0), 1, &answered(1, true, 1));
                watch.record(WorkerId(1), 1, &answered(2, false, 2 * SLOW));
                watch.record(WorkerId(1), 1, &answered(1, true, 1));
                watch.record(WorkerId(0), 1, &answered(2, false, 2 * SLOW));
            }
            let left = watch.now().totals(1);
            let slow = left.latency.total() - left.latency.at_most(SLOW);
            // Pace bounds a second of each worker as well.
            assert!(left.e.min(slow) >= most.min(16) && left.e.max(slow) <= most, "{clients}: {left:?}");
            assert_eq!((left.failing, left.slow, left.few_addresses), (1, 1, clients < 20));
            assert_eq!((watch.now().totals(0).n, left.n), (0, u64::from(clients) + left.e + slow));
        }
    }

    #[test]
    fn a_slot_that_fails_everybody_is_told_in_full() {
        let watch = watch(0);
        for round in 0..40_u64 {
            for client in 0..25 {
                let one = answered(client, true, 2 * SLOW);
                watch.record(WorkerId(0), 0, &Answered { unix_millis: round * 1_000, ..one });
            }
        }
        let left = watch.now().totals(0);
        assert!(left.e >= 990 && left.n == left.e && left.failing > 20 && left.slow > 20, "{left:?}");
    }

    #[test]
    fn a_flood_at_the_start_of_an_epoch_is_not_among_few_and_a_quiet_one_is_forgotten() {
        let watch = watch(100);
        watch.begin(8);
        (0..50).for_each(|_| watch.record(WorkerId(0), 0, &answered(1, true, 1)));
        assert_eq!(watch.now().totals(0).e, 5);
        watch.begin(9);
        (0..8).for_each(|_| watch.record(WorkerId(0), 0, &answered(1, true, 1)));
        assert_eq!((watch.now().totals(0).e, watch.now().totals(0).few_addresses), (8, true));
    }
}
