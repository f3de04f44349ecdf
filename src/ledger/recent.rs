//! What happened lately: totals of the last minute, by difference of samples.
//!
//! The control plane samples every [`SAMPLE_MILLIS`]; readers subtract the oldest sample from the
//! present. It must never be longer than [`SAMPLES`] samples per arm.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::bins::BinCounts;
use super::book::Book;

/// Time between two samples.
pub const SAMPLE_MILLIS: u64 = 5_000;
/// Samples kept: one minute.
pub const SAMPLES: usize = 12;

/// What one arm saw.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Exchanges ended.
    pub requests: u64,
    /// Exchanges it failed.
    pub errors: u64,
    /// Request head to end of response.
    pub latency: BinCounts,
}

impl Seen {
    fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

type ByArm = BTreeMap<(Arc<str>, Arc<str>), Seen>;

/// A ring of samples over all live arms.
#[derive(Debug, Default)]
pub struct Recent {
    samples: VecDeque<(u64, ByArm)>,
}

impl Recent {
    /// Takes a sample if the last one is old enough.
    pub fn sample(&mut self, book: &Book, now_millis: u64) {
        if self.samples.back().is_some_and(|(at, _)| now_millis.saturating_sub(*at) < SAMPLE_MILLIS) {
            return;
        }
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now_millis, present(book, None)));
    }

    /// What each arm of a route saw in the last minute or since the first sample, by arm name, and
    /// over how many milliseconds.
    #[must_use]
    pub fn of_route(&self, book: &Book, route: &str, now_millis: u64) -> (BTreeMap<Arc<str>, Seen>, u64) {
        let oldest = self.samples.front();
        let span = oldest.map_or(0, |(at, _)| now_millis.saturating_sub(*at));
        let seen = present(book, Some(route)).into_iter().map(|(key, now)| {
            let then = oldest.and_then(|(_, arms)| arms.get(&key));
            let seen = then.map_or_else(|| now.clone(), |then| now.since(then));
            (key.1, seen)
        });
        (seen.collect(), span)
    }
}

/// Present totals by (route, arm), summed over answering upstreams.
fn present(book: &Book, only: Option<&str>) -> ByArm {
    let mut arms = ByArm::new();
    let cells = book.live_cells().into_iter().filter(|(route, _)| only.is_none_or(|name| name == &**route));
    for (route, cell) in cells {
        let totals = cell.totals();
        let seen = arms.entry((route, Arc::clone(&cell.arm))).or_default();
        seen.requests += totals.requests();
        seen.errors += totals.errors();
        seen.latency.merge(&totals.total);
    }
    arms
}
