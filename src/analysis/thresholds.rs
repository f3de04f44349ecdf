//! Fixed limits in the manner of other controllers: a look every interval over a window, and so
//! many failed looks that make it harmful.
//!
//! Users come with them, so they can be written; no rate of false alarms can be promised for them.
//! Too little data is no look at all, neither failed nor passed.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::bins::Bins;
use super::counts::{ArmCounts, Tick};
use crate::spec::rollout::Count;

/// Pieces the window is kept in, at most.
const PIECES: u64 = 60;
/// Canary requests in the window without which there is no look, unless `minRequests` is written.
pub const ENOUGH: u64 = 20;

/// The limits, and how they are looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Share of bad outcomes.
    pub max_error_rate: Option<f64>,
    /// Share of bad outcomes above stable's.
    pub max_error_points: Option<f64>,
    /// Times stable's share of bad outcomes.
    pub max_error_ratio: Option<f64>,
    /// Share of good outcomes.
    pub min_success_rate: Option<f64>,
    /// 99th percentile of latency in nanoseconds.
    pub max_p99: Option<u64>,
    /// Times stable's 99th percentile.
    pub max_latency_ratio: Option<f64>,
    /// Seconds looked back over, at least 1.
    pub window: u64,
    /// Seconds between two looks, at least 1.
    pub interval: u64,
    /// Failed looks that make it harmful, at least 1.
    pub failures: u32,
    /// Whether a passed look starts the count again.
    pub count: Count,
    /// Canary requests in the window without which there is no look.
    pub min_requests: u64,
}

impl Limits {
    /// Whether anything is limited at all.
    #[must_use]
    pub fn any(&self) -> bool {
        let shares =
            [self.max_error_rate, self.max_error_points, self.max_error_ratio, self.min_success_rate];
        shares.iter().any(Option::is_some) || self.max_p99.is_some() || self.max_latency_ratio.is_some()
    }
}

/// Why a look failed.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Breach {
    /// The key of the limit.
    pub limit: &'static str,
    /// What was measured.
    pub measured: f64,
    /// What was allowed.
    pub allowed: f64,
}

/// What the limits say after a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Look {
    /// The last look's failure; `None` when it passed or there was none.
    pub breach: Option<Breach>,
    /// Failed looks that count.
    pub failed: u32,
    /// As many as make it harmful.
    pub harmful: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Arm {
    n: u64,
    e: u64,
    latency: Bins,
}

impl Arm {
    fn add(&mut self, n: u64, e: u64, latency: Option<&Bins>) {
        self.n += n;
        self.e += e;
        if let Some(bins) = latency {
            self.latency.merge(bins);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "requests of one window")]
    fn rate(&self, lent: f64) -> f64 {
        (self.e as f64 + lent) / self.n.max(1) as f64
    }
}

/// The window so far, in at most [`PIECES`] + 1 pieces, and the count.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Thresholds {
    /// When a piece began, stable, canary.
    pieces: VecDeque<(u64, Arm, Arm)>,
    looked_at: Option<u64>,
    failed: u32,
    #[serde(skip)]
    last: Option<Breach>,
}

impl Thresholds {
    /// A new step: what was counted at another weight is not looked at.
    pub fn enter(&mut self) {
        self.pieces.clear();
        self.looked_at = None;
    }

    /// Takes a tick and looks when it is time.
    pub fn tick(&mut self, limits: &Limits, tick: &Tick) -> Look {
        let second = tick.at_second;
        let length = limits.window.div_ceil(PIECES).max(1);
        if self.pieces.back().is_none_or(|(from, _, _)| second >= from + length) {
            self.pieces.push_back((second, Arm::default(), Arm::default()));
        }
        self.pieces.retain(|(from, _, _)| from + limits.window > second);
        if let Some((_, stable, canary)) = self.pieces.back_mut() {
            let add = |sum: &mut Arm, arm: &ArmCounts| sum.add(arm.n, arm.e, arm.latency.as_ref());
            add(stable, &tick.stable);
            add(canary, &tick.canary);
        }
        let since = *self.looked_at.get_or_insert(second);
        // The first look is after a whole interval; a tick stands for the second that it ends.
        if second + 1 >= since + limits.interval {
            self.looked_at = Some(second + 1);
            self.look(limits);
        }
        Look { breach: self.last, failed: self.failed, harmful: self.failed >= limits.failures }
    }

    fn look(&mut self, limits: &Limits) {
        let (mut stable, mut canary) = (Arm::default(), Arm::default());
        for (_, one, other) in &self.pieces {
            stable.add(one.n, one.e, Some(&one.latency));
            canary.add(other.n, other.e, Some(&other.latency));
        }
        if canary.n < limits.min_requests {
            return;
        }
        self.last = breach(limits, &stable, &canary);
        match (self.last, limits.count) {
            (Some(_), _) => self.failed = self.failed.saturating_add(1),
            (None, Count::Consecutive) => self.failed = 0,
            (None, Count::Cumulative) => {}
        }
    }
}

/// The first limit that does not hold. Relative ones need stable to have as many requests.
fn breach(limits: &Limits, stable: &Arm, canary: &Arm) -> Option<Breach> {
    let compared = stable.n >= limits.min_requests;
    let rate = canary.rate(0.0);
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a latency")]
    let p99 = |arm: &Arm| arm.latency.quantile(0.99).map(|nanos| nanos as f64);
    let (slow, usual) = (p99(canary), p99(stable).filter(|_| compared));
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a latency")]
    let max_p99 = limits.max_p99.map(|nanos| nanos as f64);
    let over = |limit, measured: Option<f64>, allowed: Option<f64>| {
        let (measured, allowed) = (measured?, allowed?);
        (measured > allowed).then_some(Breach { limit, measured, allowed })
    };
    let success = limits.min_success_rate.filter(|least| 1.0 - rate < *least);
    success
        .map(|allowed| Breach { limit: "minSuccessRate", measured: 1.0 - rate, allowed })
        .or_else(|| over("maxErrorRate", Some(rate), limits.max_error_rate))
        .or_else(|| {
            let points = compared.then(|| rate - stable.rate(0.0));
            over("maxErrorPoints", points, limits.max_error_points)
        })
        .or_else(|| over("maxErrorRatio", compared.then(|| rate / stable.rate(0.5)), limits.max_error_ratio))
        .or_else(|| over("maxP99", slow, max_p99))
        .or_else(|| {
            over(
                "maxLatencyRatio",
                slow.zip(usual).map(|(slow, usual)| slow / usual),
                limits.max_latency_ratio,
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn none() -> Limits {
        Limits {
            max_error_rate: None,
            max_error_points: None,
            max_error_ratio: None,
            min_success_rate: None,
            max_p99: None,
            max_latency_ratio: None,
            window: 60,
            interval: 30,
            failures: 3,
            count: Count::Consecutive,
            min_requests: 20,
        }
    }

    fn arm(n: u64, e: u64, millis: u64) -> ArmCounts {
        let latency = [(millis * 1_000_000, n - e)].into_iter().collect();
        ArmCounts { n, e, latency: Some(latency), ..ArmCounts::default() }
    }

    /// The second at which so many bad of ten a second become harmful.
    fn harmful(limits: &Limits, stable: &ArmCounts, canary: impl Fn(u64) -> ArmCounts) -> Option<u64> {
        let mut state = Thresholds::default();
        (0..600).find(|second| {
            let tick = Tick {
                at_second: *second,
                w: 0.5,
                stable: stable.clone(),
                canary: canary(*second),
                ..Tick::default()
            };
            state.tick(limits, &tick).harmful
        })
    }

    #[test]
    fn each_limit_speaks_after_its_failed_looks() {
        let rows: Vec<(&str, Limits, ArmCounts, Option<u64>)> = vec![
            ("rate", Limits { max_error_rate: Some(0.05), ..none() }, arm(10, 1, 5), Some(89)),
            ("rate held", Limits { max_error_rate: Some(0.1), ..none() }, arm(10, 1, 5), None),
            (
                "success",
                Limits { min_success_rate: Some(0.99), failures: 1, ..none() },
                arm(10, 1, 5),
                Some(29),
            ),
            ("points", Limits { max_error_points: Some(0.01), ..none() }, arm(10, 1, 5), Some(89)),
            ("ratio", Limits { max_error_ratio: Some(2.0), ..none() }, arm(10, 1, 5), Some(89)),
            (
                "p99",
                Limits { max_p99: Some(6_000_000), interval: 60, failures: 2, ..none() },
                arm(10, 0, 7),
                Some(119),
            ),
            ("latency ratio", Limits { max_latency_ratio: Some(1.1), ..none() }, arm(10, 0, 7), Some(89)),
            (
                "too little",
                Limits { max_error_rate: Some(0.05), min_requests: 601, ..none() },
                arm(10, 10, 5),
                None,
            ),
        ];
        for (name, limits, canary, expected) in rows {
            assert_eq!(harmful(&limits, &arm(10, 0, 5), |_| canary.clone()), expected, "{name}");
        }
    }

    #[test]
    fn failed_looks_are_counted_in_a_row_or_over_all() {
        let limits = Limits { max_error_rate: Some(0.5), window: 30, ..none() };
        let canary = |second: u64| arm(10, if (second / 30).is_multiple_of(2) { 10 } else { 0 }, 5);
        assert_eq!(harmful(&limits, &arm(10, 0, 5), canary), None);
        let over_all = Limits { count: Count::Cumulative, ..limits };
        assert_eq!(harmful(&over_all, &arm(10, 0, 5), canary), Some(149));
    }

    #[test]
    fn the_window_is_kept_in_few_pieces() {
        let limits = Limits { window: 86_400, max_error_rate: Some(0.5), ..none() };
        let mut state = Thresholds::default();
        for second in 0..200_000 {
            state.tick(&limits, &Tick { at_second: second, canary: arm(1, 0, 5), ..Tick::default() });
        }
        assert!(state.pieces.len() as u64 <= PIECES + 1, "{}", state.pieces.len());
    }
}
