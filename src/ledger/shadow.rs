//! What became of copies: counts by result, durations, pairs of answers, and the memory they hold.
//!
//! Shards as arms have them, so that copies cost workers no shared memory; the bytes held are one
//! count of the process, touched by copied requests alone. Nothing here may ever be read to judge an
//! arm that serves clients.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use super::bins::{BinCounts, Bins};
use super::book::{Book, UpstreamCell};
use super::counter::Counter;
use crate::model::time::{TICK_MILLIS, Tick};
use crate::model::{ShadowResult, WorkerId};

/// Copies in a row without a whole answer after which a shadow is tried now and then alone.
pub const SILENT_AFTER: u64 = 16;
/// Ticks between two tries of one worker then: ten a second.
const TRY_TICKS: u64 = 100 / TICK_MILLIS;

/// One worker's numbers.
#[derive(Debug, Default)]
struct Shard {
    sampled: Counter,
    results: [Counter; ShadowResult::COUNT],
    /// Copy sent to response head.
    head: Bins,
    /// Both good, only the primary bad, only the shadow bad, both bad.
    pairs: [Counter; 4],
    /// Pairs that nobody took, or whose answers found no room.
    lost: Counter,
    /// Copies in a row without a whole answer.
    silent: AtomicU64,
    /// Tick from which a silent shadow may be tried again.
    next_try: AtomicU64,
}

/// All numbers of one route's copies for one upstream.
#[derive(Debug)]
pub struct ShadowCell {
    /// Name of the upstream.
    pub upstream: Arc<str>,
    shards: Box<[OnceLock<Box<CachePadded<Shard>>>]>,
}

impl ShadowCell {
    /// An empty cell; nothing is allocated per worker yet.
    #[must_use]
    pub fn new(upstream: Arc<str>, workers: usize) -> Self {
        Self { upstream, shards: (0..workers).map(|_| OnceLock::new()).collect() }
    }

    fn shard(&self, worker: WorkerId) -> Option<&Shard> {
        Some(self.shards.get(worker.0)?.get_or_init(Default::default))
    }

    /// A request was drawn to be copied: it leaves exactly one result.
    pub fn sampled(&self, worker: WorkerId) {
        if let Some(shard) = self.shard(worker) {
            shard.sampled.add(1);
        }
    }

    /// What became of it; `nanos` from the copy sent to the head of its answer, if there was one.
    pub fn record(&self, worker: WorkerId, result: ShadowResult, nanos: Option<u64>) {
        let Some(shard) = self.shard(worker) else { return };
        if let Some(counter) = shard.results.get(result.index()) {
            counter.add(1);
        }
        match result {
            ShadowResult::Ok | ShadowResult::ServerError => shard.silent.store(0, Relaxed),
            _ if result.is_drop() => {}
            _ => shard.silent.store(shard.silent.load(Relaxed).saturating_add(1), Relaxed),
        }
        if let Some(nanos) = nanos {
            shard.head.add(nanos);
        }
    }

    /// Whether a copy may be tried now. Connections that nobody answers on cost more than any others,
    /// and a worker that makes and ends hundreds of them serves clients later.
    #[must_use]
    pub fn may_try(&self, worker: WorkerId, now: Tick) -> bool {
        let Some(shard) = self.shard(worker) else { return true };
        if shard.silent.load(Relaxed) < SILENT_AFTER {
            return true;
        }
        let now = u64::from(now.0);
        let due = shard.next_try.load(Relaxed) <= now;
        if due {
            shard.next_try.store(now + TRY_TICKS, Relaxed);
        }
        due
    }

    /// Two answers to one request were seen; `bad` of the primary, of the shadow.
    pub fn pair(&self, worker: WorkerId, bad: (bool, bool)) {
        let at = usize::from(bad.0) + 2 * usize::from(bad.1);
        if let Some(counter) = self.shard(worker).and_then(|shard| shard.pairs.get(at)) {
            counter.add(1);
        }
    }

    /// A pair was lost on its way.
    pub fn lost(&self, worker: WorkerId) {
        if let Some(shard) = self.shard(worker) {
            shard.lost.add(1);
        }
    }

    /// Whether any request was ever drawn.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.shards.iter().any(|shard| shard.get().is_some())
    }

    /// The sums over all workers.
    #[must_use]
    pub fn totals(&self) -> ShadowTotals {
        let mut totals = ShadowTotals::default();
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            // Results first: a reader never sees more of them than were drawn.
            for (sum, counter) in totals.results.iter_mut().zip(&shard.results) {
                *sum += counter.get();
            }
            for (sum, counter) in totals.pairs.iter_mut().zip(&shard.pairs) {
                *sum += counter.get();
            }
            shard.head.add_to(&mut totals.head);
            totals.lost += shard.lost.get();
            totals.sampled += shard.sampled.get();
        }
        totals
    }
}

/// Sums of one cell over all workers.
#[derive(Clone, Debug, Default)]
pub struct ShadowTotals {
    /// Requests drawn to be copied.
    pub sampled: u64,
    /// What became of them, by result; those under way have none yet.
    pub results: [u64; ShadowResult::COUNT],
    /// Copy sent to response head.
    pub head: BinCounts,
    /// Pairs: both good, only the primary bad, only the shadow bad, both bad.
    pub pairs: [u64; 4],
    /// Pairs lost.
    pub lost: u64,
}

impl ShadowTotals {
    /// Copies sent that ended.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.by_result().filter(|(result, _)| !result.is_drop()).map(|(_, count)| count).sum()
    }

    /// Requests drawn and not copied, by reason; reasons that never came are left out.
    pub fn dropped(&self) -> impl Iterator<Item = (ShadowResult, u64)> + '_ {
        self.by_result().filter(|(result, count)| result.is_drop() && *count > 0)
    }

    /// Every result with its count.
    pub fn by_result(&self) -> impl Iterator<Item = (ShadowResult, u64)> + '_ {
        ShadowResult::ALL.iter().copied().zip(self.results)
    }
}

/// Bytes of bodies held for copies, over all workers.
#[derive(Debug, Default)]
pub struct MirrorBytes(AtomicU64);

impl MirrorBytes {
    /// Bytes held now.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Some of the bytes, given back when dropped.
#[derive(Debug)]
pub struct Held {
    of: Arc<MirrorBytes>,
    bytes: u64,
}

impl Held {
    /// None yet.
    #[must_use]
    pub const fn new(of: Arc<MirrorBytes>) -> Self {
        Self { of, bytes: 0 }
    }

    /// The count they are of.
    #[must_use]
    pub const fn of(&self) -> &Arc<MirrorBytes> {
        &self.of
    }

    /// Takes `bytes` more unless all of the process would then hold more than `cap`.
    #[must_use]
    pub fn grow(&mut self, bytes: u64, cap: u64) -> bool {
        let more = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= cap);
        let grown = self.of.0.fetch_update(Relaxed, Relaxed, more).is_ok();
        if grown {
            self.bytes += bytes;
        }
        grown
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Relaxed);
    }
}

impl Book {
    /// The state of an upstream as far as it gets copies: apart, so that copies take nothing of what
    /// its limits allow to clients.
    #[must_use]
    pub fn shadow_of(&self, name: &Arc<str>) -> Arc<UpstreamCell> {
        // No name in a file begins like this one.
        self.upstream(&format!("\0{name}").into())
    }

    /// The counts of a route's copies for an upstream.
    #[must_use]
    pub fn shadow(&self, route: &Arc<str>, upstream: &Arc<str>) -> Arc<ShadowCell> {
        let workers = self.workers();
        let mut inner = self.inner();
        let book = inner.routes.entry_ref(&**route).or_default();
        if let Some(found) = book.shadows.iter().find(|cell| cell.upstream == *upstream) {
            return Arc::clone(found);
        }
        let cell = Arc::new(ShadowCell::new(Arc::clone(upstream), workers));
        book.shadows.push(Arc::clone(&cell));
        cell
    }

    /// Every count of copies that was ever used, with its route, sorted by names.
    #[must_use]
    pub fn live_shadows(&self) -> Vec<(Arc<str>, Arc<ShadowCell>)> {
        let inner = self.inner();
        let all = inner.routes.iter().flat_map(|(route, book)| {
            book.shadows.iter().map(move |cell| (Arc::clone(route), Arc::clone(cell)))
        });
        let mut all: Vec<_> = all.filter(|(_, cell)| cell.is_live()).collect();
        drop(inner);
        all.sort_by(|(a, x), (b, y)| (a, &x.upstream).cmp(&(b, &y.upstream)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_taken_up_to_the_cap_and_given_back() {
        let all = Arc::new(MirrorBytes::default());
        let (mut first, mut second) = (Held::new(Arc::clone(&all)), Held::new(Arc::clone(&all)));
        assert!(first.grow(60, 100) && second.grow(40, 100));
        assert!(!second.grow(1, 100) && !first.grow(u64::MAX, u64::MAX), "over the cap");
        drop(first);
        assert!(second.grow(60, 100));
        assert_eq!(all.held(), 100);
        drop(second);
        assert_eq!(all.held(), 0);
    }

    #[test]
    fn a_shadow_that_does_not_answer_is_tried_now_and_then_until_it_does() {
        let (cell, worker) = (ShadowCell::new("u".into(), 2), WorkerId(0));
        for _ in 0..SILENT_AFTER {
            assert!(cell.may_try(worker, Tick(100)));
            cell.record(worker, ShadowResult::Timeout, None);
        }
        let tried: Vec<bool> = (100..106).map(|tick| cell.may_try(worker, Tick(tick))).collect();
        assert_eq!(tried, [true, false, true, false, true, false]);
        cell.record(worker, ShadowResult::BackedOff, None);
        assert!(!cell.may_try(worker, Tick(105)), "what was not tried says nothing");
        assert!(cell.may_try(WorkerId(1), Tick(105)), "every worker sees for itself");
        cell.record(worker, ShadowResult::ServerError, Some(1));
        assert!((0..10).all(|_| cell.may_try(worker, Tick(105))));
    }

    #[test]
    fn every_sampled_request_is_sent_or_dropped() {
        let book = Book::new(2, 0);
        let (route, upstream) = ("r".into(), "u".into());
        assert!(book.live_shadows().is_empty());
        let cell = book.shadow(&route, &upstream);
        for (at, result) in ShadowResult::ALL.iter().enumerate() {
            let worker = WorkerId(at % 2);
            cell.sampled(worker);
            cell.record(worker, *result, (!result.is_drop()).then_some(1_000_000));
        }
        cell.pair(WorkerId(0), (true, false));
        cell.pair(WorkerId(1), (false, true));
        let totals = book.shadow(&route, &upstream).totals();
        assert_eq!(totals.sent() + totals.dropped().map(|(_, count)| count).sum::<u64>(), totals.sampled);
        assert_eq!((totals.sent(), totals.head.total(), totals.pairs), (7, 7, [0, 1, 1, 0]));
        assert_eq!(book.live_shadows().len(), 1);
    }
}
