//! What happened lately: totals of the last minute, as a ring of differences.
//!
//! The control plane samples every [`SAMPLE_MILLIS`]; readers add the ring up and the present on top.
//! An arm without requests takes no memory in a sample. It must never hold more than [`SAMPLES`]
//! samples.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::bins::BinCounts;
use super::book::Book;
use super::cell::Cell;
use crate::model::ChoiceReason;

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
    /// Exchanges whose arm a pin named.
    pub pinned: u64,
    /// Request head to end of response.
    pub latency: BinCounts,
}

impl Seen {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.pinned += other.pinned;
        self.latency.merge(&other.latency);
    }

    /// Adds what a cell counted since it was made.
    pub fn add_cell(&mut self, cell: &Cell) {
        let totals = cell.totals();
        self.requests += totals.requests();
        self.errors += totals.errors();
        self.pinned += totals.choices.get(ChoiceReason::Pin.index()).copied().unwrap_or(0);
        self.latency.merge(&totals.total);
    }

    /// What was seen since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: self.errors.saturating_sub(earlier.errors),
            pinned: self.pinned.saturating_sub(earlier.pinned),
            latency: self.latency.since(&earlier.latency),
        }
    }
}

/// What each arm of one route saw: few arms, kept a minute for every route, so no map.
type Arms = Vec<(Arc<str>, Seen)>;
/// What each arm of every route saw.
type ByRoute = BTreeMap<Arc<str>, Arms>;

/// What was seen between two moments.
#[derive(Clone, Debug, Default)]
pub struct Slice {
    /// When it began, in wall-clock milliseconds.
    pub from: u64,
    /// When it ended.
    pub until: u64,
    seen: ByRoute,
}

impl Slice {
    /// Routes that saw something.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        self.seen.keys().map(|name| &**name)
    }

    /// What an arm saw; `None` for nothing.
    #[must_use]
    pub fn of(&self, route: &str, arm: &str) -> Option<&Seen> {
        self.seen.get(route)?.iter().find(|(name, _)| &**name == arm).map(|(_, seen)| seen)
    }
}

/// A ring of samples over all live arms.
#[derive(Debug, Default)]
pub struct Recent {
    /// When a sample's time began, and what was seen in it.
    samples: VecDeque<(u64, ByRoute)>,
    /// When the last sample was taken, and the totals then.
    last: Option<(u64, ByRoute)>,
    /// Whether the last sample was not looked at by [`Recent::fresh`].
    fresh: bool,
}

impl Recent {
    /// Takes a sample if the last one is old enough.
    pub fn sample(&mut self, book: &Book, now_millis: u64) {
        let last = self.last.as_ref().map(|(at, _)| *at);
        if last.is_some_and(|at| now_millis.saturating_sub(at) < SAMPLE_MILLIS) {
            return;
        }
        book.live_rules().iter().for_each(|(_, rule)| rule.sample());
        let mut present = ByRoute::new();
        for (route, cell) in book.live_cells() {
            of_arm(present.entry(route).or_default(), &cell.arm).add_cell(&cell);
        }
        let seen = present.iter().filter_map(|(route, arms)| {
            let seen = difference(arms, self.last_of(route));
            (!seen.is_empty()).then(|| (Arc::clone(route), seen))
        });
        let seen: ByRoute = seen.collect();
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((last.unwrap_or(now_millis), seen));
        self.last = Some((now_millis, present));
        self.fresh = true;
    }

    /// The last sample, once.
    #[must_use]
    pub fn fresh(&mut self) -> Option<Slice> {
        let until = self.last.as_ref().map(|(at, _)| *at)?;
        let (from, seen) = self.samples.back()?;
        std::mem::take(&mut self.fresh).then(|| Slice { from: *from, until, seen: seen.clone() })
    }

    /// What a route's arms saw since the last sample.
    #[must_use]
    pub fn running(&self, book: &Book, route: &Arc<str>, now_millis: u64) -> Slice {
        let mut present = Arms::new();
        for cell in book.route_cells(route).iter().filter(|cell| cell.is_live()) {
            of_arm(&mut present, &cell.arm).add_cell(cell);
        }
        let seen = difference(&present, self.last_of(route));
        let from = self.last.as_ref().map_or(now_millis, |(at, _)| *at);
        Slice { from, until: now_millis.max(from), seen: [(Arc::clone(route), seen)].into() }
    }

    /// What each arm of a route saw in the last minute or since the first sample, by arm name, and
    /// over how many milliseconds. Arms that saw nothing are absent.
    #[must_use]
    pub fn of_route(&self, book: &Book, route: &str, now_millis: u64) -> (BTreeMap<Arc<str>, Seen>, u64) {
        let mut present = Arms::new();
        for cell in book.route_cells(route).iter().filter(|cell| cell.is_live()) {
            of_arm(&mut present, &cell.arm).add_cell(cell);
        }
        let mut seen: BTreeMap<_, _> = difference(&present, self.last_of(route)).into_iter().collect();
        for (arm, earlier) in self.samples.iter().filter_map(|(_, routes)| routes.get(route)).flatten() {
            seen.entry(Arc::clone(arm)).or_default().add(earlier);
        }
        let span = self.samples.front().map_or(0, |(from, _)| now_millis.saturating_sub(*from));
        (seen, span)
    }

    fn last_of(&self, route: &str) -> Option<&Arms> {
        self.last.as_ref()?.1.get(route)
    }
}

/// The entry of an arm, made when it is not there.
fn of_arm<'a>(arms: &'a mut Arms, arm: &Arc<str>) -> &'a mut Seen {
    let at = arms.iter().position(|(name, _)| name == arm).unwrap_or(arms.len());
    if at == arms.len() {
        arms.push((Arc::clone(arm), Seen::default()));
    }
    &mut arms[at].1
}

/// What arms saw since earlier totals; arms that saw nothing are left out.
fn difference(now: &Arms, then: Option<&Arms>) -> Arms {
    let since = |(arm, now): &(Arc<str>, Seen)| {
        let then = then.into_iter().flatten().find(|(name, _)| name == arm);
        let seen = then.map_or_else(|| now.clone(), |(_, then)| now.since(then));
        (seen.requests > 0).then(|| (Arc::clone(arm), seen))
    };
    now.iter().filter_map(since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{CodeClass, Outcome, Verdict, WorkerId};

    fn serve(cell: &Cell, requests: usize) {
        let outcome = Outcome {
            code: CodeClass::Success,
            verdict: Verdict::Ok,
            choice: ChoiceReason::Random,
            failure: None,
            total_nanos: 1_000_000,
            upstream_nanos: None,
            retries: [0; 5],
        };
        for _ in 0..requests {
            let shard = cell.shard(WorkerId(0)).expect("one worker");
            shard.begin();
            shard.record(&outcome);
        }
    }

    #[test]
    fn a_minute_is_remembered_and_no_more() {
        let book = Book::new(1, 0);
        let cell = book.cell(&"r".into(), &"a".into(), &"u".into());
        let mut recent = Recent::default();
        let seen = |recent: &Recent, now| {
            let (arms, span) = recent.of_route(&book, "r", now);
            (arms.get("a").map_or((0, 0), |seen| (seen.requests, seen.latency.total())), span)
        };
        recent.sample(&book, 0);
        serve(&cell, 10);
        assert_eq!(seen(&recent, 1_000), ((10, 10), 1_000));
        recent.sample(&book, 5_000);
        serve(&cell, 5);
        assert_eq!(seen(&recent, 6_000), ((15, 15), 6_000));
        for step in 2..=13 {
            recent.sample(&book, step * 5_000);
        }
        assert_eq!(seen(&recent, 65_000), ((5, 5), 60_000));
        recent.sample(&book, 70_000);
        assert_eq!(seen(&recent, 70_000), ((0, 0), 60_000));
    }

    #[test]
    fn hits_of_a_rule_are_of_the_last_minute() {
        let book = Book::new(1, 0);
        let rule = book.rule(&"r".into(), &"qa".into(), &"a".into());
        let mut recent = Recent::default();
        let hit = |times| (0..times).for_each(|_| rule.hit(WorkerId(0)));
        (0..30).for_each(|step| recent.sample(&book, step * SAMPLE_MILLIS));
        hit(7);
        assert_eq!(rule.lately(), 7);
        recent.sample(&book, 30 * SAMPLE_MILLIS);
        hit(2);
        (31..42).for_each(|step| recent.sample(&book, step * SAMPLE_MILLIS));
        assert_eq!((rule.lately(), rule.hits()), (2, 9), "the first are a minute old");
        (42..44).for_each(|step| recent.sample(&book, step * SAMPLE_MILLIS));
        assert_eq!(rule.lately(), 0);
    }
}
