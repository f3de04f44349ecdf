//! What many runs come to: a rate with its interval, delays, and what users paid.
//!
//! Intervals are exact (Clopper-Pearson 1934), because the rates that matter are near 0. It must
//! never report a rate without one.

use std::fmt::Write as _;

use serde::Serialize;

use super::dice::ln_factorial;
use super::peers::Peer;
use super::runs::{Hit, Run};
use super::traffic::Scenario;

/// A middle and a bad case.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// Half of the reverts were at or below it.
    pub median: Option<f64>,
    /// Nine in ten were.
    pub p90: Option<f64>,
}

/// One rule over all runs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Result {
    /// Runs.
    pub runs: u64,
    /// Runs that were reverted.
    pub reverted: u64,
    /// Their share.
    pub revert_rate: f64,
    /// Its exact interval at 95 %.
    pub ci95: [f64; 2],
    /// Requests of both arms until the revert.
    pub delay_requests: Spread,
    /// Seconds until the revert.
    pub delay_seconds: Spread,
    /// The canary's bad outcomes beyond the baseline until the revert.
    pub excess_failures: Spread,
}

/// A scenario's result, ours and the peers'.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// Ours.
    #[serde(flatten)]
    pub ours: Result,
    /// The defaults of the peers' code.
    pub peers: Peers,
    #[serde(skip)]
    samples: [Result; 2],
}

/// The defaults of the peers' code.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Peers {
    /// Flagger.
    pub flagger: Result,
    /// Argo Rollouts.
    pub argo: Result,
    /// Kayenta.
    pub kayenta: Result,
}

impl Summary {
    /// Of these runs.
    #[must_use]
    pub fn of(scenario: Scenario, runs: &[Run]) -> Self {
        let peer = |at: usize| result(runs.iter().map(|run| run.peers.get(at).copied().flatten()));
        let [flagger, argo, kayenta, first, second] = std::array::from_fn::<_, { Peer::ALL.len() }, _>(peer);
        Self {
            scenario: scenario.name(),
            ours: result(runs.iter().map(|run| run.ours)),
            peers: Peers { flagger, argo, kayenta },
            samples: [first, second],
        }
    }

    /// A table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = format!(
            "{:<15}{:>9}  {:<19}{:>22}{:>18}{:>18}\n",
            self.scenario, "reverted", "95 % interval", "requests (p90)", "seconds (p90)", "excess (p90)"
        );
        let Peers { flagger, argo, kayenta } = &self.peers;
        let rows = [&self.ours, flagger, argo, kayenta, &self.samples[0], &self.samples[1]];
        let names = std::iter::once("switchback").chain(Peer::ALL.map(|(name, _)| name));
        for (name, row) in names.zip(rows) {
            let percent = |share: f64| format!("{:.3} %", share * 100.0);
            let interval = format!("{} - {}", percent(row.ci95[0]), percent(row.ci95[1]));
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{name:<15}{:>9}  {interval:<19}{:>22}{:>18}{:>18}",
                percent(row.revert_rate),
                shown(row.delay_requests),
                shown(row.delay_seconds),
                shown(row.excess_failures)
            );
        }
        text
    }
}

fn shown(spread: Spread) -> String {
    match (spread.median, spread.p90) {
        (Some(median), Some(p90)) => format!("{median} ({p90})"),
        _ => "-".to_owned(),
    }
}

fn result(hits: impl Iterator<Item = Option<Hit>>) -> Result {
    let all: Vec<Option<Hit>> = hits.collect();
    let hit: Vec<Hit> = all.iter().copied().flatten().collect();
    let (runs, reverted) = (all.len() as u64, hit.len() as u64);
    let spread = |value: fn(&Hit) -> f64| spread(hit.iter().map(value).collect());
    #[expect(clippy::cast_precision_loss, reason = "a number of runs")]
    let revert_rate = if runs == 0 { 0.0 } else { reverted as f64 / runs as f64 };
    Result {
        runs,
        reverted,
        revert_rate,
        ci95: interval(reverted, runs),
        delay_requests: spread(|hit| hit.requests),
        delay_seconds: spread(|hit| hit.seconds),
        excess_failures: spread(|hit| (hit.excess.max(0.0) * 10.0).round() / 10.0),
    }
}

fn spread(mut values: Vec<f64>) -> Spread {
    values.sort_by(f64::total_cmp);
    let at = |tenths: usize| values.get((values.len() * tenths).div_ceil(10).saturating_sub(1)).copied();
    Spread { median: at(5), p90: at(9) }
}

/// The Clopper-Pearson interval at 95 %.
#[must_use]
pub fn interval(hits: u64, runs: u64) -> [f64; 2] {
    if runs == 0 {
        return [0.0, 1.0];
    }
    let low = if hits == 0 { 0.0 } else { solve(|p| 1.0 - at_most(hits - 1, runs, p), 0.025) };
    let high = if hits == runs { 1.0 } else { solve(|p| -at_most(hits, runs, p), -0.025) };
    [low, high]
}

/// Where a rising function of a probability reaches a level.
fn solve(rising: impl Fn(f64) -> f64, level: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if rising(middle) < level { low = middle } else { high = middle }
    }
    f64::midpoint(low, high)
}

/// Chance of at most so many hits.
#[expect(clippy::cast_precision_loss, reason = "a number of runs")]
fn at_most(hits: u64, runs: u64, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return if p <= 0.0 { 1.0 } else { 0.0 };
    }
    let n = runs as f64;
    let term = |k: f64| {
        ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k) + k * p.ln() + (n - k) * (-p).ln_1p()
    };
    (0..=hits).map(|k| term(k as f64).exp()).sum::<f64>().min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_the_known_ones() {
        let rows = [
            (0, 10_000, [0.0, 0.000_369]),
            (3, 10_000, [0.000_062, 0.000_876]),
            (5, 10, [0.187, 0.813]),
            (10, 10, [0.692, 1.0]),
        ];
        for (hits, runs, [low, high]) in rows {
            let [l, h] = interval(hits, runs);
            let close = |a: f64, b: f64| (a - b).abs() <= 0.001 * b + 1e-6;
            assert!(close(l, low) && close(h, high), "{hits}/{runs}: {l} {h}");
        }
    }

    #[test]
    fn half_and_nine_tenths_are_counted_from_below() {
        let ten = spread((1..=10).map(f64::from).collect());
        assert_eq!((ten.median, ten.p90), (Some(5.0), Some(9.0)));
        assert_eq!(spread(vec![]).median, None);
    }

    #[test]
    fn the_json_has_the_published_keys() {
        let runs = [
            Run::default(),
            Run { ours: Some(Hit { requests: 9.0, seconds: 2.0, excess: 1.0 }), ..Run::default() },
        ];
        let json = serde_json::to_value(Summary::of(Scenario::Errors, &runs)).unwrap();
        let keys: Vec<&String> = json.as_object().unwrap().keys().collect();
        for key in [
            "scenario",
            "runs",
            "reverted",
            "revertRate",
            "ci95",
            "delayRequests",
            "delaySeconds",
            "excessFailures",
            "peers",
        ] {
            assert!(keys.iter().any(|known| *known == key), "{key}: {keys:?}");
        }
        assert_eq!(keys.len(), 9, "{keys:?}");
        assert_eq!(json["delaySeconds"]["median"], 2.0);
        assert_eq!(json["peers"]["flagger"]["reverted"], 0);
        assert_eq!(json["peers"].as_object().unwrap().len(), 3);
    }
}
