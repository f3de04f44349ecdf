//! The live numbers of one arm answered by one upstream, one shard per worker.
//!
//! Shards are boxed apart, so no two workers share a cache line, and are allocated at the worker's
//! first exchange. It must never be written by any thread but the shard's worker.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use super::bins::{BinCounts, Bins};
use super::counter::Counter;
use crate::model::{ChoiceReason, CodeClass, FailureReason, Outcome, RetryReason, Verdict, WorkerId};

/// One worker's numbers.
#[derive(Debug, Default)]
pub struct Shard {
    started: Counter,
    ended: Counter,
    codes: [[Counter; Verdict::COUNT]; CodeClass::COUNT],
    choices: [Counter; ChoiceReason::COUNT],
    failures: [Counter; FailureReason::COUNT],
    retries: [Counter; RetryReason::COUNT],
    total: Bins,
    upstream: Bins,
    /// Tunnels opened and closed.
    tunnels: [Counter; 2],
}

impl Shard {
    /// An exchange began.
    pub fn begin(&self) {
        self.started.add(1);
    }

    /// An exchange that began here is counted elsewhere: another upstream answered.
    pub fn forget(&self) {
        self.ended.add(1);
    }

    /// An exchange failed here that counts elsewhere: another upstream answered.
    pub fn failed(&self, reason: FailureReason) {
        at(&self.failures, reason.index());
    }

    /// A tunnel opened; its exchange ended with that.
    pub fn tunnel_opened(&self) {
        self.tunnels[0].add(1);
    }

    /// A tunnel closed.
    pub fn tunnel_closed(&self) {
        self.tunnels[1].add(1);
    }

    /// An exchange ended: everything it left, once.
    pub fn record(&self, outcome: &Outcome) {
        self.ended.add(1);
        at2(&self.codes, outcome.code.index(), outcome.verdict.index());
        at(&self.choices, outcome.choice.index());
        if let Some(failure) = outcome.failure {
            at(&self.failures, failure.index());
        }
        for (counter, count) in self.retries.iter().zip(outcome.retries) {
            if count > 0 {
                counter.add(u64::from(count));
            }
        }
        self.total.add(outcome.total_nanos);
        if let Some(nanos) = outcome.upstream_nanos {
            self.upstream.add(nanos);
        }
    }
}

fn at(counters: &[Counter], index: usize) {
    if let Some(counter) = counters.get(index) {
        counter.add(1);
    }
}

fn at2<const N: usize>(counters: &[[Counter; N]], row: usize, column: usize) {
    if let Some(counters) = counters.get(row) {
        at(counters, column);
    }
}

/// All shards of one (route, arm, answering upstream).
#[derive(Debug)]
pub struct Cell {
    /// Arm name.
    pub arm: Arc<str>,
    /// Name of the upstream that answered.
    pub upstream: Arc<str>,
    /// Tunnels opened until then, in Unix milliseconds, are to be closed.
    tunnels_end: AtomicU64,
    shards: Box<[OnceLock<Box<CachePadded<Shard>>>]>,
}

impl Cell {
    /// An empty cell; nothing is allocated per worker yet.
    #[must_use]
    pub fn new(arm: Arc<str>, upstream: Arc<str>, workers: usize) -> Self {
        let shards = (0..workers).map(|_| OnceLock::new()).collect();
        Self { arm, upstream, tunnels_end: AtomicU64::new(0), shards }
    }

    /// The worker's shard, allocated at its first use; `None` for a worker that does not exist.
    #[must_use]
    pub fn shard(&self, worker: WorkerId) -> Option<&Shard> {
        let shard = self.shards.get(worker.0)?;
        Some(shard.get_or_init(Default::default))
    }

    /// Whether any exchange was ever begun: series appear with the first.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.shards.iter().any(|shard| shard.get().is_some())
    }

    /// The sums over all workers.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for shard in self.shards.iter().filter_map(OnceLock::get) {
            totals.add(shard);
        }
        totals
    }

    /// Requests counted so far and how many were errors, without the histograms.
    #[must_use]
    pub fn requests_and_errors(&self) -> (u64, u64) {
        let mut sums = (0, 0);
        for row in self.shards.iter().filter_map(OnceLock::get).flat_map(|shard| &shard.codes) {
            sums.0 += row.iter().map(Counter::get).sum::<u64>();
            sums.1 += row.get(Verdict::Error.index()).map_or(0, Counter::get);
        }
        sums
    }

    /// Exchanges that took longer than `nanos` so far; exact when that is an edge of the bins.
    #[must_use]
    pub fn slower_than(&self, nanos: u64) -> u64 {
        self.shards.iter().filter_map(OnceLock::get).map(|shard| shard.total.above(nanos)).sum()
    }

    /// Exchanges begun and not ended, over all workers.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        let shards = self.shards.iter().filter_map(OnceLock::get);
        shards.map(|shard| shard.started.get().saturating_sub(shard.ended.get())).sum()
    }

    /// Tunnels open, over all workers.
    #[must_use]
    pub fn tunnels(&self) -> u64 {
        let shards = self.shards.iter().filter_map(OnceLock::get);
        shards.map(|shard| shard.tunnels[0].get().saturating_sub(shard.tunnels[1].get())).sum()
    }

    /// Has tunnels closed that were opened until this moment, in Unix milliseconds; whether that is new.
    pub fn end_tunnels(&self, until_millis: u64) -> bool {
        self.tunnels_end.fetch_max(until_millis, Relaxed) < until_millis
    }

    /// Whether a tunnel opened at this moment, in Unix milliseconds, is to be closed.
    #[must_use]
    pub fn ends_tunnel(&self, opened_millis: u64) -> bool {
        opened_millis <= self.tunnels_end.load(Relaxed)
    }
}

/// Sums of one cell over all workers.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// Exchanges begun and not ended.
    pub in_flight: u64,
    /// By status class and verdict.
    pub codes: [[u64; Verdict::COUNT]; CodeClass::COUNT],
    /// By reason of choice.
    pub choices: [u64; ChoiceReason::COUNT],
    /// By cause of failure.
    pub failures: [u64; FailureReason::COUNT],
    /// Attempts beyond the first, by reason.
    pub retries: [u64; RetryReason::COUNT],
    /// Request head to end of response.
    pub total: BinCounts,
    /// Request sent to response head.
    pub upstream: BinCounts,
}

impl Totals {
    fn add(&mut self, shard: &Shard) {
        self.in_flight += shard.started.get().saturating_sub(shard.ended.get());
        for (sums, counters) in self.codes.iter_mut().zip(&shard.codes) {
            add_all(sums, counters);
        }
        add_all(&mut self.choices, &shard.choices);
        add_all(&mut self.failures, &shard.failures);
        add_all(&mut self.retries, &shard.retries);
        shard.total.add_to(&mut self.total);
        shard.upstream.add_to(&mut self.upstream);
    }

    /// Exchanges ended.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.codes.iter().flatten().sum()
    }

    /// Exchanges the arm failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.codes.iter().filter_map(|row| row.get(Verdict::Error.index())).sum()
    }
}

fn add_all(sums: &mut [u64], counters: &[Counter]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.get();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No smaller on any platform we run on; pairs of lines are fetched together.
    const LINE: usize = 128;

    #[test]
    fn no_two_workers_write_to_one_cache_line() {
        let cell = Cell::new("a".into(), "u".into(), 4);
        let places: Vec<usize> =
            (0..4).map(|worker| std::ptr::from_ref(cell.shard(WorkerId(worker)).unwrap()).addr()).collect();
        for (at, place) in places.iter().enumerate() {
            assert_eq!(place % LINE, 0);
            let apart =
                places[..at].iter().all(|other| place.abs_diff(*other) >= size_of::<CachePadded<Shard>>());
            assert!(apart, "{places:?}");
        }
        assert_eq!(size_of::<CachePadded<Shard>>() % LINE, 0);
        assert_eq!(align_of::<CachePadded<[Counter; 70]>>(), LINE);
        assert!(cell.shard(WorkerId(4)).is_none());
    }

    #[test]
    fn totals_are_sums_over_workers() {
        let cell = Cell::new("a".into(), "u".into(), 2);
        assert!(!cell.is_live());
        let outcome = |verdict, code| Outcome {
            code,
            verdict,
            choice: ChoiceReason::Sticky,
            failure: (verdict == Verdict::Error).then_some(FailureReason::Timeout),
            total_nanos: 1_000_000,
            upstream_nanos: Some(500_000),
            retries: [1, 0, 0, 0, 0],
        };
        for worker in [0, 1] {
            let shard = cell.shard(WorkerId(worker)).unwrap();
            (0..3).for_each(|_| shard.begin());
            shard.record(&outcome(Verdict::Ok, CodeClass::Success));
            shard.record(&outcome(Verdict::Error, CodeClass::ServerError));
        }
        let totals = cell.totals();
        assert_eq!((totals.requests(), totals.errors(), totals.in_flight), (4, 2, 2));
        assert_eq!((cell.requests_and_errors(), cell.in_flight()), ((4, 2), 2));
        assert_eq!(totals.failures[FailureReason::Timeout.index()], 2);
        assert_eq!(
            (totals.retries, totals.total.at_most(1_000_000), totals.upstream.total()),
            ([4, 0, 0, 0, 0], 4, 4)
        );
    }
}
