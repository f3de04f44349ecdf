//! How fast a route burns the error budget of its objectives, and how much is left.
//!
//! Burn rate is the share of bad outcomes over the share that is allowed (SRE workbook, chapter 5,
//! multi-window alerts). It is per route, not per rollout, and outlives rollouts. It must never be
//! read as proof against a canary: both arms burn the same budget.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Seconds of a piece of time and how many are kept, finest first: an hour, six hours, three days and
/// 31 days, each and a piece. What is read is right to a piece.
const PIECES: [(u64, usize); 4] = [(60, 61), (600, 37), (3_600, 73), (6 * 3_600, 125)];

/// Most latency objectives of one route: each is a metric label and counted every second.
pub const MAX_LATENCY: usize = 4;

/// Windows over which burn rates are shown: label and seconds.
pub const WINDOWS: [(&str, u64); 5] =
    [("5m", 300), ("30m", 1_800), ("1h", 3_600), ("6h", 6 * 3_600), ("3d", 3 * 86_400)];

/// A burn that is too fast when both windows see it: rate, long and short window as indices into
/// [`WINDOWS`].
pub const ALARMS: [(f64, usize, usize); 3] = [(14.4, 2, 0), (6.0, 3, 1), (1.0, 4, 3)];

/// What is promised.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// `availability`, or `latency_300ms`: a metric label, and the name it is remembered by.
    pub name: String,
    /// What is slower is bad, in nanoseconds, an edge of the ledger's bins; `None` counts errors.
    pub slower_than: Option<u64>,
    /// Share of good outcomes, above 0 and below 1.
    pub target: f64,
    /// Seconds the budget is for, from an hour to 31 days.
    pub window: u64,
    /// Share of the budget below which no weight rises; 0 is never.
    pub freeze_below: f64,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            name: "availability".to_owned(),
            slower_than: None,
            target: 0.999,
            window: 30 * 86_400,
            freeze_below: 0.0,
        }
    }
}

/// Outcomes in pieces of time, bounded by [`PIECES`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Burn {
    /// Index of the piece, outcomes, bad ones; oldest first.
    pieces: [VecDeque<(u64, u64, u64)>; PIECES.len()],
}

/// What the budget looks like now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Burn rate over each of [`WINDOWS`].
    pub rates: [f64; WINDOWS.len()],
    /// The first alarm that sounds: an index into [`ALARMS`].
    pub alarm: Option<usize>,
    /// Share of the budget that is left; below 0 when overspent.
    pub budget: f64,
    /// No weight may rise.
    pub frozen: bool,
}

impl Burn {
    /// Counts a second's outcomes. What was counted under a second that had not come yet, because
    /// the clock was wrong, counts as of this one.
    pub fn add(&mut self, second: u64, n: u64, bad: u64) {
        for (pieces, (length, most)) in self.pieces.iter_mut().zip(PIECES) {
            let index = second / length;
            let mut sum = (index, n, bad);
            while let Some((_, more, worse)) = pieces.back().filter(|(at, _, _)| *at >= index).copied() {
                sum = (index, sum.1.saturating_add(more), sum.2.saturating_add(worse));
                pieces.pop_back();
            }
            pieces.push_back(sum);
            let oldest = (index + 1).saturating_sub(most as u64);
            while pieces.front().is_some_and(|(at, _, _)| *at < oldest) {
                pieces.pop_front();
            }
        }
    }

    /// The minute of the last count, in seconds; 0 without any.
    #[must_use]
    pub fn last(&self) -> u64 {
        let last = self.pieces.first().and_then(VecDeque::back);
        last.map_or(0, |(at, _, _)| at.saturating_mul(PIECES[0].0))
    }

    /// The state of the budget at a second.
    #[must_use]
    pub fn read(&self, objective: &Objective, second: u64) -> Reading {
        let allowed = (1.0 - objective.target).max(1e-9);
        let rates = WINDOWS.map(|(_, window)| share(self.over(window, second)) / allowed);
        // A long window of which little is known yet sounds once as much of the budget is gone as a
        // whole one at that rate would have spent: a blip in a new process is no alarm, an outage is.
        let known = WINDOWS.map(|(_, window)| self.known(window, second));
        let at = |at: usize| Some((rates.get(at)?, known.get(at)?));
        let sounds = |(limit, long, short): &(f64, usize, usize)| {
            let long = at(*long).is_some_and(|(rate, known)| rate * known >= *limit);
            long && at(*short).is_some_and(|(rate, _)| rate >= limit)
        };
        let budget = 1.0 - share(self.over(objective.window, second)) / allowed;
        let frozen = objective.freeze_below > 0.0 && budget < objective.freeze_below;
        Reading { rates, alarm: ALARMS.iter().position(sounds), budget, frozen }
    }

    /// The part of a window since the first count in it, 0 to 1, to a piece.
    #[expect(clippy::cast_precision_loss, reason = "seconds of a month")]
    fn known(&self, window: u64, second: u64) -> f64 {
        let (finest, length) = finest(window);
        let Some((first, ..)) = self.pieces[finest].front() else { return 0.0 };
        let since = (second + 1).saturating_sub(first * length);
        since.min(window) as f64 / window as f64
    }

    /// Outcomes and bad ones of the last seconds, to a piece.
    fn over(&self, window: u64, second: u64) -> (u64, u64) {
        let (finest, length) = finest(window);
        let first = (second / length + 1).saturating_sub(window.div_ceil(length));
        let last = self.pieces[finest].iter().rev().take_while(|(at, _, _)| *at >= first);
        last.fold((0, 0), |sum, (_, n, bad)| (sum.0.saturating_add(*n), sum.1.saturating_add(*bad)))
    }
}

/// The finest pieces that hold a window: their index and length.
fn finest(window: u64) -> (usize, u64) {
    let holds = |(length, most): &(u64, usize)| window <= length * (*most as u64 - 1);
    let finest = PIECES.iter().position(holds).unwrap_or(PIECES.len() - 1);
    (finest, PIECES[finest].0)
}

#[expect(clippy::cast_precision_loss, reason = "requests of a month")]
fn share((n, bad): (u64, u64)) -> f64 {
    if n == 0 { 0.0 } else { bad as f64 / n as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burn after so many seconds of each (share bad of 1,000 a second), and the reading.
    fn after(stretches: &[(u64, u64)]) -> Reading {
        let (mut burn, mut second) = (Burn::default(), 0);
        for (seconds, bad) in stretches {
            for _ in 0..*seconds {
                burn.add(second, 1_000, *bad);
                second += 1;
            }
        }
        burn.read(&Objective { freeze_below: 0.1, ..Objective::default() }, second - 1)
    }

    #[test]
    fn an_alarm_needs_both_windows() {
        type Row<'a> = (&'a str, &'a [(u64, u64)], Option<usize>);
        let rows: &[Row<'_>] = &[
            ("within budget", &[(7_200, 0), (7_200, 1)], None),
            ("an hour at 20 times", &[(3_600, 20)], Some(0)),
            ("over, and little of six hours", &[(3_600, 20), (600, 0)], None),
            ("over, in six hours", &[(18_000, 0), (3_600, 40), (600, 0)], Some(1)),
            ("a short spike", &[(36_000, 0), (60, 20)], None),
            ("a spike right after the start", &[(60, 0), (60, 20)], None),
            ("an outage right after the start", &[(60, 0), (60, 1_000)], Some(0)),
            ("ten minutes at 20 times, of an hour", &[(600, 20)], None),
            ("an hour at 7 times, of six", &[(3_600, 7)], None),
            ("six hours at 7 times", &[(36_000, 0), (21_600, 7)], Some(1)),
            ("days at 1.5 times", &[(86_400, 0), (3 * 86_400, 2)], Some(2)),
        ];
        for (name, stretches, alarm) in rows {
            assert_eq!(after(stretches).alarm, *alarm, "{name}");
        }
    }

    #[test]
    fn the_budget_runs_out_and_freezes() {
        let half = after(&[(1_000, 0), (1_000, 1)]);
        assert!((half.budget - 0.5).abs() < 1e-9 && !half.frozen, "{half:?}");
        let spent = after(&[(1_000, 0), (1_000, 2)]);
        assert!(spent.budget.abs() < 1e-9 && spent.frozen, "{spent:?}");
        assert!(Burn::default().read(&Objective::default(), 0).budget >= 1.0);
    }

    #[test]
    fn it_is_bounded_and_written_as_it_was() {
        let mut burn = Burn::default();
        (0..60 * 86_400).step_by(30).for_each(|second| burn.add(second, 1, 0));
        assert_eq!(burn.pieces.each_ref().map(VecDeque::len), PIECES.map(|(_, most)| most));
        let text = serde_json::to_string(&burn).expect("JSON");
        assert!(text.len() < 8_000, "{} bytes", text.len());
        assert_eq!(serde_json::from_str::<Burn>(&text).expect("itself"), burn);
    }

    #[test]
    fn pieces_without_traffic_between_them_grow_old_all_the_same() {
        let mut burn = Burn::default();
        (0..2_000).for_each(|day| burn.add(day * 86_400, 1, 1));
        assert_eq!(burn.pieces.each_ref().map(VecDeque::len), [1, 1, 4, 32]);
    }

    #[test]
    fn a_clock_that_was_ahead_does_not_burn_for_ever() {
        let (mut burn, objective) = (Burn::default(), Objective::default());
        burn.add(1_000, 100, 0);
        burn.add(400 * 86_400, 100, 100);
        burn.add(1_001, 100, 0);
        assert!(burn.read(&objective, 1_001).budget < 0.0);
        let later = 1_001 + 32 * 86_400;
        burn.add(later, 100, 0);
        let reading = burn.read(&objective, later);
        assert!(reading.budget >= 1.0 && reading.alarm.is_none(), "{reading:?}");
    }
}
