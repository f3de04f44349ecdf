//! What two arms left while they are compared: counted once per exchange, in its weight epoch.
//!
//! One [`Trial`] is one epoch of one route: an outcome is counted in the trial of the plan it was
//! chosen under, whenever it becomes known, so nothing is ever late. Readers take differences. It
//! must never be written by any thread but the shard's worker, except for what is written once per
//! user or address ([`super::slots`]), or by bad outcomes alone: what one address may add is
//! [`super::fair`]'s.
//!
//! On a sticky route a user is one slot, and goes bad once: from then on neither failures nor good
//! answers of that slot are told to the guard (`repeats`). If only the failures were left out, the
//! users who failed would in the end speak for the arm that failed them.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crossbeam_utils::CachePadded;
use foldhash::fast::FixedState;

use super::bins::{BinCounts, Bins};
use super::counter::Counter;
use super::fair::{Added, Caps, FEW_ADDRESSES, LEAST_BAD_ADDRESSES, May, Pace, place_of};
use super::fresh::Fresh;
use super::samples::{Failed, Kind, Samples, Words};
use super::slots::{Bits, Slots};
use crate::model::WorkerId;

pub use super::slots::SLOTS;

/// Bits in which active addresses are told apart.
pub(super) const ACTIVE_BITS: usize = 1 << 10;

/// Which of the two arms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The old version.
    Stable,
    /// The new version.
    Canary,
}

/// How a request came to its arm, as far as the comparison cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// By bucket or draw: it counts.
    Placed,
    /// By a trusted override: it counts for the guard alone.
    Trusted,
    /// By any other override or a pin: it does not count.
    Steered,
}

/// One exchange that ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// Its arm.
    pub side: Side,
    /// How it came there.
    pub placement: Placement,
    /// What it was.
    pub fate: Fate,
    /// Answered 4xx.
    pub client_error: bool,
    /// Its slot, on a sticky route.
    pub slot: Option<u16>,
    /// Request sent to response head, or how long the client waited, in nanoseconds.
    pub nanos: Option<u64>,
    /// The client after trusted proxies.
    pub address: IpAddr,
    /// When it ended, wall clock.
    pub unix_millis: u64,
}

/// What an exchange was to its arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Answered well.
    Good,
    /// The first attempt failed.
    Bad,
    /// The client left before an answer.
    Left,
    /// The client's own fault: neither good nor bad.
    Void,
}

/// The counts of one epoch of one route.
#[derive(Debug)]
pub struct Trial {
    /// Number of the epoch, rising within a route.
    pub epoch: u64,
    hasher: FixedState,
    /// Slots that a weight border cuts: they would lie in both arms.
    cut: Box<[u16]>,
    workers: Box<[OnceLock<Box<CachePadded<Worker>>>]>,
    /// Users of a sticky route, stable's and the canary's.
    slots: [OnceLock<Box<Slots>>; 2],
    caps: Caps,
    active: Bits,
    /// Active addresses of the epoch before.
    known: u32,
    /// The step's warm-up is over.
    warm: AtomicBool,
    /// Slots that were bad after the warm-up are told.
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Worker {
    arms: [Arm; 2],
    pace: Pace,
}

#[derive(Debug, Default)]
struct Arm {
    n: Counter,
    e: Counter,
    /// Good outcomes of slots that had been bad.
    repeats: Counter,
    client_errors: Counter,
    trusted: [Counter; 2],
    /// Slots whose first outcome was bad.
    first_bad: Counter,
    latency: Bins,
    left: Bins,
    /// Second of the last bad outcome, and in which tenths of the one before and of itself bad ones
    /// fell: `second << 20 | before << 10 | now`. The one before is still to be read when a busy arm
    /// fails on in the next.
    moments: AtomicU64,
    samples: Samples,
}

impl Trial {
    /// An empty epoch. `seed` keeps clients from choosing whose place they share; `cut` are the
    /// slots that lie in no single arm.
    #[must_use]
    pub fn new(epoch: u64, workers: usize, seed: u64, cut: Vec<u16>) -> Self {
        Self {
            epoch,
            hasher: FixedState::with_seed(seed),
            cut: cut.into(),
            workers: (0..workers).map(|_| OnceLock::new()).collect(),
            slots: Default::default(),
            caps: Caps::default(),
            active: Bits::new(ACTIVE_BITS),
            known: 0,
            warm: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    /// The same with the active addresses of the epoch before: whoever floods the first moments of
    /// a step is not among few.
    #[must_use]
    pub fn after(self, earlier: Option<&Self>) -> Self {
        Self { known: earlier.map_or(0, Self::active), ..self }
    }

    /// Says that the step's warm-up is over: bad slots count for the comparison from now on, those
    /// that failed before as well when they fail again.
    pub fn warmed(&self) {
        self.warm.store(true, Relaxed);
    }

    /// Counts an exchange that ended; whether it was a bad one that counts, to be kept as a sample.
    pub fn record(&self, worker: WorkerId, ended: &Ended) -> bool {
        let Some(cell) = self.workers.get(worker.0) else { return false };
        let own = cell.get_or_init(Box::default);
        let arm = own.arm(ended.side);
        match ended.placement {
            Placement::Steered => return false,
            Placement::Trusted => {
                if matches!(ended.fate, Fate::Good | Fate::Bad) {
                    arm.trusted[0].add(1);
                    arm.trusted[1].add(u64::from(ended.fate == Fate::Bad));
                }
                return ended.fate == Fate::Bad;
            }
            Placement::Placed => {}
        }
        let hash = self.hash_of(ended.address);
        self.active.mark(usize::try_from(hash % ACTIVE_BITS as u64).unwrap_or(0));
        let second = ended.unix_millis / 1_000;
        if ended.fate == Fate::Void || !own.pace.counts(hash, second, self.workers.len(), || self.active()) {
            return false;
        }
        let user = ended.slot.and_then(|slot| self.user(ended.side, slot, hash));
        let slot = user.map(|user| user.slot);
        let marks = if ended.fate == Fate::Bad { self.marks(ended, slot, hash) } else { Some(May::Not) };
        if let Some(marks) = marks {
            let refused = ended.client_error && user.is_some_and(|user| self.refuses(user, hash));
            let warm = self.warm.load(Relaxed);
            arm.count(ended, user, Marks { bad: marks, refused, warm, place: place_of(hash) });
        }
        ended.fate == Fate::Bad && marks.is_some()
    }

    /// Where a slot is marked; `None` when it lies in no single arm, or is one too many of its
    /// address. It is not marked then, so that it counts once another address has it.
    fn user(&self, side: Side, slot: u16, hash: u64) -> Option<User<'_>> {
        if self.cut.contains(&slot) {
            return None;
        }
        let slots = &**self.slots_of(side).get_or_init(Box::default);
        let new = !slots.seen.holds(usize::from(slot));
        let counts = !new || self.caps.user(hash, || self.added_slots()) != May::Not;
        counts.then_some(User { slots, slot, new })
    }

    /// Whether a 4xx answer marks its slot.
    fn refuses(&self, user: User<'_>, hash: u64) -> bool {
        !user.slots.client_error.holds(usize::from(user.slot))
            && self.caps.refused(hash, || self.added_slots()) != May::Not
    }

    /// Keeps a bad outcome that counts; `words` is called for a kind not seen before.
    pub fn sample(
        &self,
        worker: WorkerId,
        ended: &Ended,
        kind: Kind,
        id: &str,
        words: impl FnOnce() -> Words,
    ) {
        if let Some(own) = self.workers.get(worker.0).and_then(OnceLock::get) {
            own.arm(ended.side).samples.add(kind, id, ended.unix_millis, words);
        }
    }

    /// What failed of an arm since the epoch began.
    #[must_use]
    pub fn failed(&self, side: Side) -> Failed {
        let mut failed = Failed::default();
        for own in self.workers.iter().filter_map(OnceLock::get) {
            failed.merge(own.arm(side).samples.read());
        }
        failed
    }

    /// Whether a bad outcome marks its slot; `None` when it does not count at all. A slot that is
    /// bad already takes nothing more of what its address may add.
    fn marks(&self, ended: &Ended, slot: Option<u16>, hash: u64) -> Option<May> {
        let slot = slot.map_or(May::Not, |slot| {
            if self.is_bad(ended.side, slot) { May::Yes } else { self.caps.slot(hash, || self.added_slots()) }
        });
        let counts = slot != May::Not || self.caps.bad(hash, || self.added()) != May::Not;
        counts.then_some(slot)
    }

    fn is_bad(&self, side: Side, slot: u16) -> bool {
        self.slots_of(side).get().is_some_and(|slots| slots.is_surely_bad(slot))
    }

    fn slots_of(&self, side: Side) -> &OnceLock<Box<Slots>> {
        let [stable, canary] = &self.slots;
        match side {
            Side::Stable => stable,
            Side::Canary => canary,
        }
    }

    fn added(&self) -> Added {
        let arms = self.workers.iter().filter_map(OnceLock::get).flat_map(|own| &own.arms);
        Added { bad: arms.map(|arm| arm.e.get()).sum(), ..self.added_slots() }
    }

    /// The same without bad outcomes, for which all workers' counts would have to be read.
    fn added_slots(&self) -> Added {
        let sum = |count: fn(&Slots) -> u64| {
            self.slots.iter().filter_map(OnceLock::get).map(|slots| count(slots)).sum()
        };
        Added {
            active: self.active(),
            bad: 0,
            slow: 0,
            slots: sum(|slots| slots.seen.count()),
            bad_slots: sum(|slots| slots.failed(true).0),
            refused_slots: sum(|slots| slots.client_error.count()),
        }
    }

    /// What tells an address from others: the same for all of one network's.
    #[must_use]
    pub fn hash_of(&self, address: IpAddr) -> u64 {
        self.hasher.hash_one(network(address))
    }

    /// Whether too few addresses are active to bound what one of them adds.
    #[must_use]
    pub fn is_of_few(&self) -> bool {
        self.active() < FEW_ADDRESSES
    }

    /// Active addresses, up to about a thousand.
    #[must_use]
    pub fn active(&self) -> u32 {
        u32::try_from(self.active.count()).unwrap_or(u32::MAX).max(self.known)
    }

    /// Everything counted since the epoch began; `second` is the one whose moments are wanted.
    #[must_use]
    pub fn totals(&self, second: u64) -> TrialTotals {
        self.totals_since(&mut Read::default(), second)
    }

    /// The same, but how long requests took only of those that ended since the last call with this.
    pub fn totals_since(&self, read: &mut Read, second: u64) -> TrialTotals {
        let few_addresses = self.is_of_few();
        let mut totals = TrialTotals { few_addresses, ..TrialTotals::default() };
        let sums = [&mut totals.stable, &mut totals.canary];
        for (((at, sum), slots), read) in sums.into_iter().enumerate().zip(&self.slots).zip(&mut read.0) {
            let arms = self.workers.iter().filter_map(OnceLock::get).filter_map(|own| own.arms.get(at));
            arms.clone().for_each(|arm| arm.add_to(sum, second));
            let [latency, left] = read;
            sum.latency = latency.read(arms.clone().map(|arm| &arm.latency));
            sum.left = left.read(arms.map(|arm| &arm.left));
            if let Some(slots) = slots.get() {
                (sum.slots, sum.client_error_slots) = (slots.seen.count(), slots.client_error.count());
                (sum.bad_slots, sum.warm_bad_slots) = slots.failed(few_addresses);
            }
        }
        if !self.tells(few_addresses, totals.canary.warm_bad_slots) {
            (totals.stable.warm_bad_slots, totals.canary.warm_bad_slots) = (0, 0);
        }
        totals
    }

    /// Whether users that failed are told to the comparison: of both arms at once, when the canary's
    /// are of so many addresses, and from then on. All that are kept back are told then, so the
    /// evidence is what it would have been, only later.
    fn tells(&self, few: bool, bad: u64) -> bool {
        let [_, canary] = &self.slots;
        let addresses = || canary.get().map_or(0, |slots| slots.bad_addresses.count());
        if few && bad > 0 || addresses() >= LEAST_BAD_ADDRESSES {
            self.told.store(true, Relaxed);
        }
        self.told.load(Relaxed)
    }
}

/// How far the histograms of an epoch were read: of both arms, of those who were answered and of those
/// who left.
#[derive(Debug, Default)]
pub struct Read([[Fresh; 2]; 2]);

/// Sums of one epoch over all workers.
#[derive(Clone, Debug, Default)]
pub struct TrialTotals {
    /// The old version's.
    pub stable: ArmTotals,
    /// The new version's.
    pub canary: ArmTotals,
    /// Too few addresses to bound what one of them adds.
    pub few_addresses: bool,
}

/// Sums of one arm.
#[derive(Clone, Debug, Default)]
pub struct ArmTotals {
    /// Exchanges that count.
    pub n: u64,
    /// Of these, bad.
    pub e: u64,
    /// Answered 4xx.
    pub client_errors: u64,
    /// Trusted steered ones, and of these the bad.
    pub trusted: (u64, u64),
    /// Of good ones; on a sticky route of each slot's first outcome.
    pub latency: BinCounts,
    /// Slots whose first outcome was bad: they stand beside `latency` on a sticky route.
    pub first_bad: u64,
    /// How long those waited who left.
    pub left: BinCounts,
    /// Tenths of the asked second in which bad outcomes fell.
    pub moments: u16,
    /// Slots seen.
    pub slots: u64,
    /// Slots that were bad.
    pub bad_slots: u64,
    /// Slots that were bad after the warm-up; none while few of the canary's addresses failed.
    pub warm_bad_slots: u64,
    /// Good outcomes of slots that had been bad.
    pub repeats: u64,
    /// Slots that were answered 4xx.
    pub client_error_slots: u64,
}

/// Where the slot of an exchange is marked.
#[derive(Clone, Copy)]
struct User<'a> {
    slots: &'a Slots,
    slot: u16,
    /// It was not seen before.
    new: bool,
}

/// What an exchange does to its slot.
struct Marks {
    /// Whether a bad outcome marks it.
    bad: May,
    /// Whether a 4xx answer does.
    refused: bool,
    /// The warm-up is over.
    warm: bool,
    /// Of its address.
    place: usize,
}

impl Worker {
    fn arm(&self, side: Side) -> &Arm {
        let [stable, canary] = &self.arms;
        match side {
            Side::Stable => stable,
            Side::Canary => canary,
        }
    }
}

impl Arm {
    fn count(&self, ended: &Ended, user: Option<User<'_>>, marks: Marks) {
        // A user's later outcomes are not independent of the first.
        let marked = |user: User<'_>| user.new && user.slots.seen.mark(usize::from(user.slot));
        let first = user.map_or(ended.slot.is_none(), marked);
        if ended.fate == Fate::Left {
            if let Some(nanos) = ended.nanos.filter(|_| first) {
                self.left.add(nanos);
            }
            return;
        }
        self.n.add(1);
        if ended.client_error {
            self.client_errors.add(1);
            let user = user.filter(|_| marks.refused);
            user.inspect(|user| _ = user.slots.client_error.mark(usize::from(user.slot)));
        }
        if ended.fate == Fate::Bad {
            self.e.add(1);
            self.first_bad.add(u64::from(first && user.is_some()));
            self.moment(ended.unix_millis);
            if let Some(User { slots, slot, .. }) = user.filter(|_| marks.bad != May::Not) {
                slots.fail(slot, marks.bad == May::Yes, marks.warm.then_some(marks.place));
            }
            return;
        }
        self.repeats.add(u64::from(user.is_some_and(|user| user.slots.is_bad(user.slot))));
        if let Some(nanos) = ended.nanos.filter(|_| first) {
            self.latency.add(nanos);
        }
    }

    fn moment(&self, unix_millis: u64) {
        let (second, tenth) = (unix_millis / 1_000, unix_millis % 1_000 / 100);
        let known = self.moments.load(Relaxed);
        let masks = match second.wrapping_sub(known >> 20) {
            0 => known & 0xf_ffff,
            1 => (known & 0x3ff) << 10,
            _ => 0,
        };
        self.moments.store(second << 20 | masks | 1 << tenth, Relaxed);
    }

    fn add_to(&self, sum: &mut ArmTotals, second: u64) {
        sum.n += self.n.get();
        sum.e += self.e.get();
        sum.client_errors += self.client_errors.get();
        sum.first_bad += self.first_bad.get();
        sum.repeats += self.repeats.get();
        sum.trusted.0 += self.trusted[0].get();
        sum.trusted.1 += self.trusted[1].get();
        let known = self.moments.load(Relaxed);
        let mask = match (known >> 20).wrapping_sub(second) {
            0 => known & 0x3ff,
            1 => known >> 10 & 0x3ff,
            _ => 0,
        };
        sum.moments |= u16::try_from(mask).unwrap_or(0);
    }
}

/// What is one client: an IPv4 address, or the network a site is usually given in IPv6, a /56; who
/// has one has 256 networks of 64 bits.
pub(super) fn network(address: IpAddr) -> u64 {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 72) as u64,
    }
}

#[cfg(test)]
mod tests;
