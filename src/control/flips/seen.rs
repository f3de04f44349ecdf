//! What the active slot of a route left: in the last second, and in the last minute before a flip.
//!
//! It counts what [`Watched`] counts, in which no address speaks for the others, over the epochs of
//! it. It must never let an epoch go on for longer than it looks back while nothing is verified: what
//! an address may add would be used up by the time of a flip.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::analysis::Bins;
use crate::analysis::thresholds::Limits;
use crate::analysis::verify::{Clients, Left, Verifier};
use crate::ledger::BinCounts;
use crate::ledger::watch::{Watch, Watched};
use crate::plan::Route;

/// Seconds between two looks back, and how many are kept: a minute.
const LOOK_EVERY: u64 = 5;
const LOOKS: usize = 12;
/// Seconds of an epoch while nothing is verified.
const EPOCH: u64 = LOOK_EVERY * LOOKS as u64;
/// Beside the last minute an answer of the slowest tenth is slow.
const USUAL: f64 = 0.9;

/// What one slot left since it serves.
#[derive(Clone, Debug, Default)]
struct Sum {
    n: u64,
    e: u64,
    latency: BinCounts,
}

impl Sum {
    fn with(&self, watched: &Watched, slot: usize) -> (Self, Clients) {
        let totals = watched.totals(slot);
        let mut latency = totals.latency;
        latency.merge(&self.latency);
        let clients = Clients { few: totals.few_addresses, failing: totals.failing, slow: totals.slow };
        (Self { n: self.n + totals.n, e: self.e + totals.e, latency }, clients)
    }

    /// What came after an earlier sum.
    fn since(&self, earlier: &Self, clients: Clients) -> Left {
        let latency: Bins = self.latency.since(&earlier.latency).iter().collect();
        let (n, e) = (self.n.saturating_sub(earlier.n), self.e.saturating_sub(earlier.e));
        Left { n, e, latency, clients }
    }
}

/// What is seen of the active slot of one route.
#[derive(Debug, Default)]
pub(super) struct Seen {
    epoch: Option<Arc<Watched>>,
    /// When the epoch began.
    since: u64,
    /// What earlier epochs left.
    earlier: Sum,
    /// What it had left in all, every few seconds of the last minute.
    looks: VecDeque<(u64, Sum)>,
    /// The same at the last second.
    last: Sum,
}

impl Seen {
    /// Another slot serves, from this second on.
    pub(super) fn begin(&mut self, route: &Route, seed: u64) {
        *self = Self::default();
        if let Some(watch) = &route.watch {
            self.renew(watch, 0, seed);
        }
    }

    /// What the last second left. `verifier` is there while the slot is verified.
    pub(super) fn second(
        &mut self,
        route: &Route,
        verifier: Option<&Verifier>,
        second: u64,
        seed: u64,
    ) -> Left {
        let (Some(watch), Some((active, _))) = (&route.watch, route.slots) else {
            *self = Self::default();
            return Left::default();
        };
        let epoch = match &self.epoch {
            Some(epoch) => Arc::clone(epoch),
            None => self.renew(watch, second, seed),
        };
        let (sum, clients) = self.earlier.with(&epoch, active.at());
        let left = sum.since(&self.last, clients);
        if self.looks.back().is_none_or(|(at, _)| second >= at + LOOK_EVERY) {
            if self.looks.len() >= LOOKS {
                self.looks.pop_front();
            }
            self.looks.push_back((second, sum.clone()));
            if verifier.is_none() {
                let lately = self.looks.front().map(|(_, look)| sum.since(look, clients).latency);
                epoch.slow_from(lately.and_then(|bins| bins.quantile(USUAL)).unwrap_or(u64::MAX));
            }
        }
        self.last = sum.clone();
        match verifier {
            Some(verifier) => epoch.slow_from(slow_from(route, verifier)),
            None if second >= self.since + EPOCH => {
                self.earlier = sum;
                self.renew(watch, second, seed);
            }
            None => {}
        }
        left
    }

    /// What the slot left in its last minute.
    pub(super) fn minute(&self, route: &Route) -> Left {
        let (Some(epoch), Some((active, _))) = (&self.epoch, route.slots) else { return Left::default() };
        let (sum, clients) = self.earlier.with(epoch, active.at());
        self.looks.front().map(|(_, look)| sum.since(look, clients)).unwrap_or_default()
    }

    fn renew(&mut self, watch: &Watch, second: u64, seed: u64) -> Arc<Watched> {
        watch.begin(seed);
        self.since = second;
        let epoch = watch.now();
        self.epoch = Some(Arc::clone(&epoch));
        epoch
    }
}

/// From where on the limits of a verification call an answer too slow, in nanoseconds.
fn slow_from(route: &Route, verifier: &Verifier) -> u64 {
    let limits = route.flip.as_ref().and_then(|rules| rules.limits.as_ref());
    limits.and_then(|limits| edge(limits, verifier)).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "nanoseconds of a latency"
)]
fn edge(limits: &Limits, verifier: &Verifier) -> Option<u64> {
    let usual = verifier.before().latency.quantile(0.99);
    let times = limits.max_latency_ratio.zip(usual).map(|(ratio, usual)| (ratio * usual as f64) as u64);
    [limits.max_p99, times].into_iter().flatten().min()
}
