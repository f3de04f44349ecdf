//! How fast a route burns the error budget of its objective, and how much is left.
//!
//! Burn rate is the share of bad outcomes over the share that is allowed (SRE workbook, chapter 5,
//! multi-window alerts). It is per route, not per rollout, and outlives rollouts. It must never be
//! read as proof against a canary: both arms burn the same budget.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// Seconds of a fine piece and how many are kept: six hours and a piece.
const FINE: (u64, usize) = (60, 361);
/// Seconds of a coarse piece and how many are kept: 31 days of hours.
const COARSE: (u64, usize) = (3_600, 745);

/// A burn that is too fast when both windows see it: rate, long and short window in seconds.
pub const ALARMS: [(f64, u64, u64); 3] =
    [(14.4, 3_600, 300), (6.0, 6 * 3_600, 1_800), (1.0, 3 * 86_400, 6 * 3_600)];

/// What is promised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Objective {
    /// Share of good outcomes, below 1.
    pub availability: f64,
    /// Seconds the budget is for, at most 31 days.
    pub window: u64,
    /// Share of the budget below which no weight rises.
    pub freeze_below: f64,
}

impl Default for Objective {
    fn default() -> Self {
        Self { availability: 0.999, window: 30 * 86_400, freeze_below: 0.0 }
    }
}

/// Outcomes in pieces of time, bounded by [`FINE`] and [`COARSE`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Burn {
    /// Index of the piece, outcomes, bad ones.
    fine: VecDeque<(u64, u64, u64)>,
    coarse: VecDeque<(u64, u64, u64)>,
}

/// What the budget looks like now.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// Burn rate over each alarm's long and short window.
    pub rates: [(f64, f64); 3],
    /// The first alarm that sounds: an index into [`ALARMS`].
    pub alarm: Option<usize>,
    /// Share of the budget that is left; below 0 when overspent.
    pub budget: f64,
    /// No weight may rise.
    pub frozen: bool,
}

impl Burn {
    /// Counts a second's outcomes; seconds must not go back by more than a piece.
    pub fn add(&mut self, second: u64, n: u64, bad: u64) {
        for (pieces, (length, most)) in [(&mut self.fine, FINE), (&mut self.coarse, COARSE)] {
            let index = second / length;
            match pieces.back_mut().filter(|(at, _, _)| *at >= index) {
                Some(last) => *last = (last.0, last.1 + n, last.2 + bad),
                None => pieces.push_back((index, n, bad)),
            }
            if pieces.len() > most {
                pieces.pop_front();
            }
        }
    }

    /// The state of the budget at a second.
    #[must_use]
    pub fn read(&self, objective: &Objective, second: u64) -> Reading {
        let allowed = (1.0 - objective.availability).max(1e-9);
        let rate = |window: u64| share(self.over(window, second)) / allowed;
        let rates = ALARMS.map(|(_, long, short)| (rate(long), rate(short)));
        let sounds = |index: &usize| {
            let ((limit, _, _), (long, short)) = (ALARMS[*index], rates[*index]);
            long >= limit && short >= limit
        };
        let (n, bad) = self.over(objective.window, second);
        let budget = if n == 0 { 1.0 } else { 1.0 - share((n, bad)) / allowed };
        let frozen = objective.freeze_below > 0.0 && budget < objective.freeze_below;
        Reading { rates, alarm: (0..ALARMS.len()).find(sounds), budget, frozen }
    }

    /// Outcomes and bad ones of the last seconds, to a piece.
    fn over(&self, window: u64, second: u64) -> (u64, u64) {
        let (pieces, length) =
            if window <= 6 * 3_600 { (&self.fine, FINE.0) } else { (&self.coarse, COARSE.0) };
        let first = (second / length + 1).saturating_sub(window.div_ceil(length));
        let last = pieces.iter().rev().take_while(|(at, _, _)| *at >= first);
        last.fold((0, 0), |sum, (_, n, bad)| (sum.0 + n, sum.1 + bad))
    }
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
            ("over long ago", &[(3_600, 20), (600, 0)], Some(1)),
            ("a short spike", &[(36_000, 0), (60, 20)], None),
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
    fn it_is_bounded() {
        let mut burn = Burn::default();
        (0..60 * 86_400).step_by(30).for_each(|second| burn.add(second, 1, 0));
        assert_eq!((burn.fine.len(), burn.coarse.len()), (FINE.1, COARSE.1));
    }
}
