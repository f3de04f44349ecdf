//! The last fifteen minutes of every arm, a point each five seconds, so that a page that is opened
//! in the middle of something shows how it came about.
//!
//! It is fed once a second from the samples of the last minute. It must never hold more than
//! [`POINTS`] points of an arm, nor more than [`ROUTES`] routes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ledger::recent::Slice;
use crate::plan::{Plan, Route};

/// How far back it goes.
pub const SPAN_MILLIS: u64 = 15 * 60 * 1_000;
/// Points of one arm at most.
pub const POINTS: usize = 180;
/// Routes remembered at once; of more, those that had traffic first.
pub const ROUTES: usize = 256;

/// What one arm saw in a few seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// When they ended, in wall-clock milliseconds.
    pub at_millis: u64,
    /// How long they were.
    pub millis: u64,
    /// Exchanges ended.
    pub requests: u64,
    /// Exchanges it failed.
    pub errors: u64,
    /// Median, 95th and 99th percentile in nanoseconds; `None` without requests.
    pub quantiles: [Option<u64>; 3],
    /// The share its weight gave it at the end, 0 to 1.
    pub share: f64,
}

/// Points of each arm of a route, oldest first.
pub type Arms = BTreeMap<Arc<str>, VecDeque<Point>>;

/// The last fifteen minutes; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Past(Arc<Mutex<BTreeMap<Arc<str>, Arms>>>);

impl Past {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Arms>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a route's arms saw.
    #[must_use]
    pub fn of_route(&self, route: &str) -> Arms {
        self.lock().get(route).cloned().unwrap_or_default()
    }

    /// The last point of each arm of a route.
    #[must_use]
    pub fn last_of(&self, route: &str) -> Vec<(Arc<str>, Point)> {
        let past = self.lock();
        let arms = past.get(route).into_iter().flatten();
        arms.filter_map(|(arm, points)| Some((Arc::clone(arm), *points.back()?))).collect()
    }

    /// Adds what was just sampled, and forgets what is too old.
    pub fn add(&self, plan: &Plan, slice: &Slice) {
        let mut past = self.lock();
        let oldest = slice.until.saturating_sub(SPAN_MILLIS);
        past.retain(|_, arms| {
            arms.retain(|_, points| {
                points.retain(|point| point.at_millis > oldest);
                !points.is_empty()
            });
            !arms.is_empty()
        });
        for name in slice.routes() {
            let known = past.contains_key(name);
            let Some(route) = plan.route_named(name).filter(|_| known || past.len() < ROUTES) else {
                continue;
            };
            let arms = past.entry(Arc::clone(&route.name)).or_default();
            for (arm, point) in points(route, slice) {
                let points = arms.entry(arm).or_default();
                if points.len() >= POINTS {
                    points.pop_front();
                }
                points.push_back(point);
            }
        }
    }
}

/// A point of each arm of a route, those without requests as well: nothing is a number too.
#[must_use]
pub fn points(route: &Route, slice: &Slice) -> Vec<(Arc<str>, Point)> {
    let total: u64 = route.arms.iter().map(|arm| u64::from(arm.weight)).sum();
    let arms = route.arms.iter().map(|arm| {
        let seen = slice.of(&route.name, &arm.name);
        let quantile = |q: f64| seen.and_then(|seen| seen.latency.quantile(q));
        #[expect(clippy::cast_precision_loss, reason = "a sum of weights")]
        let share = if total == 0 { 0.0 } else { f64::from(arm.weight) / total as f64 };
        let point = Point {
            at_millis: slice.until,
            millis: slice.until.saturating_sub(slice.from),
            requests: seen.map_or(0, |seen| seen.requests),
            errors: seen.map_or(0, |seen| seen.errors),
            quantiles: [0.50, 0.95, 0.99].map(quantile),
            share,
        };
        (Arc::clone(&arm.name), point)
    });
    arms.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control;
    use crate::ledger::Recent;
    use crate::ledger::recent::SAMPLE_MILLIS;
    use crate::model::{CodeClass, Outcome, Verdict, WorkerId};

    #[test]
    fn fifteen_minutes_are_kept_and_then_forgotten() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("switchback.yaml");
        let text = "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n\
                    upstreams: { a: \"http://127.0.0.1:1\", b: \"http://127.0.0.1:2\" }\n\
                    routes: [{ name: r, split: { a: 3, b: 1 } }]\n";
        std::fs::write(&file, text).expect("written");
        let clock = control::SystemClock;
        let now = crate::model::time::Clock::now(&clock);
        let booted = control::boot(&file, &Arc::default(), |_| 1, now).expect("good");
        let (plan, book) = (booted.plan(), Arc::clone(&booted.book));
        let cell = book.cell(&"r".into(), &"a".into(), &"a".into());
        let (mut recent, past) = (Recent::default(), Past::default());
        let good = Outcome {
            code: CodeClass::Success,
            verdict: Verdict::Ok,
            choice: crate::model::ChoiceReason::Random,
            failure: None,
            total_nanos: 2_000_000,
            upstream_nanos: None,
            retries: [0; 5],
        };
        let mut step = |at: u64, serve: bool| {
            if serve {
                let shard = cell.shard(WorkerId(0)).expect("one worker");
                shard.begin();
                shard.record(&good);
            }
            recent.sample(&book, at * SAMPLE_MILLIS);
            if let Some(slice) = recent.fresh() {
                past.add(&plan, &slice);
            }
        };
        (1..=250).for_each(|at| step(at, true));
        let arms = past.of_route("r");
        let kept: Vec<_> = arms.values().map(VecDeque::len).collect();
        assert_eq!(kept, [POINTS, POINTS], "both arms, the one without requests too");
        let (first, last) = (arms["a"].front().expect("points"), arms["a"].back().expect("points"));
        assert_eq!(last.at_millis, 250 * SAMPLE_MILLIS);
        assert_eq!(last.at_millis - first.at_millis, SPAN_MILLIS - SAMPLE_MILLIS);
        assert_eq!((last.requests, last.errors, last.millis), (1, 0, SAMPLE_MILLIS));
        assert!(last.quantiles[1].is_some_and(|nanos| nanos >= 1_900_000), "{last:?}");
        let close = |share: f64, to: f64| (share - to).abs() < 1e-9;
        assert!(close(last.share, 0.75) && close(arms["b"].back().expect("points").share, 0.25));
        (251..=440).for_each(|at| step(at, false));
        assert!(past.of_route("r").is_empty(), "no traffic for fifteen minutes is nothing to show");
    }
}
