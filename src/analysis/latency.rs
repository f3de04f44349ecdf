//! Evidence that the canary is slower, at three cuts of stable's own latency.
//!
//! An outcome is slow when its bin ends above a cut; the cuts are stable's p50, p90 and p99 of the
//! window before, so neither arm chooses them by what it does now. What then remains is a share of
//! bad outcomes, tested from both sides (`evidence::two_sided`). It must never move a cut because
//! of the outcomes it judges.

use serde::{Deserialize, Serialize};

use super::bins::Bins;
use super::counts::Tick;
use super::evidence::{Outcomes, Share, at_odds, divisor, two_sided};
use super::finding::Arms;
use super::mixture::{Grant, Mixture};

/// Parts of stable's latency that the cuts lie at.
pub const CUTS: [f64; 3] = [0.5, 0.9, 0.99];
/// Odds of being slow that are looked for.
pub const ODDS: [f64; 8] = [1.2, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0];
/// Most `ln F` of one second: a pause of one arm is one event, however many it holds up. A factor
/// that is cut off has a smaller mean, so nothing else is lost than speed.
const MOST_PER_SECOND: f64 = 3.0;
/// Seconds for which cuts are frozen.
const FROZEN: u64 = 300;
/// Outcomes of stable that the cuts are taken from, at least.
const ENOUGH: u64 = 100;
/// Seconds of one half of the window that the size of an effect is read from.
const RECENT: u64 = 60;
/// An effect is worth a revert from this ratio on …
const EFFECT_RATIO: f64 = 1.25;
/// … and this many nanoseconds.
const EFFECT_NANOS: f64 = 5_000_000.0;
/// Nanoseconds below which a difference is nobody's, in no rule: one millisecond.
const NOTICED_NANOS: f64 = 1e6;
/// The ratio must outgrow the chance of few requests: `exp` of this over the root of their number.
const NOISE: f64 = 1.5;

/// One cut and its evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Cut {
    edge: u64,
    share: Share,
    evidence: Mixture,
    /// Good answers and slow ones since it lies where it is.
    #[serde(default)]
    seen: Arms,
    /// Slow outcomes of the canary since the cut was frozen, and how many of them failed.
    #[serde(default)]
    slow: (u64, u64),
}

/// Good outcomes of both arms over a stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Window {
    stable: Bins,
    canary: Bins,
}

impl Window {
    fn add(&mut self, tick: &Tick) {
        self.stable.merge(tick.stable.latency.as_ref().unwrap_or(&Bins::default()));
        self.canary.merge(tick.canary.latency.as_ref().unwrap_or(&Bins::default()));
    }

    /// Whether the canary is slower by anything that could be noticed.
    fn is_slower(&self, part: f64) -> bool {
        let both = self.stable.within(part).zip(self.canary.within(part));
        both.is_some_and(|(stable, canary)| canary - stable >= NOTICED_NANOS)
    }

    fn shows_effect(&self, part: f64) -> bool {
        let (Some(stable), Some(canary)) = (self.stable.within(part), self.canary.within(part)) else {
            return false;
        };
        #[expect(clippy::cast_precision_loss, reason = "requests of minutes")]
        let noise = (NOISE / (self.canary.total() as f64).sqrt()).exp();
        canary >= stable * EFFECT_RATIO * noise && canary - stable >= EFFECT_NANOS
    }
}

/// Evidence at the three cuts. At most eight histograms of [`super::bins::MAX_BINS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latency {
    cuts: Vec<Cut>,
    /// Parts of the total that came before there were cuts.
    unspent: f64,
    /// Since the cuts were frozen.
    frozen: Window,
    frozen_at: Option<u64>,
    recent: [Window; 2],
    recent_at: u64,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            cuts: Vec::new(),
            unspent: 0.0,
            frozen: Window::default(),
            frozen_at: None,
            recent: Default::default(),
            recent_at: 0,
        }
    }
}

impl Latency {
    /// Judges one tick, when `warm`, and takes it into the windows.
    pub fn tick(&mut self, grant: &Grant, tick: &Tick, warm: bool, bursts: Option<u32>) {
        let second = tick.at_second;
        let due = grant.entered || self.frozen_at.is_some_and(|at| second.saturating_sub(at) >= FROZEN);
        if due || (warm && self.cuts.is_empty()) {
            self.freeze(second);
        }
        if self.cuts.is_empty() {
            self.unspent += grant.total();
        }
        for cut in &mut self.cuts {
            cut.evidence.fund(grant.total() + self.unspent);
            judge(cut, tick, warm, bursts);
        }
        if !self.cuts.is_empty() {
            self.unspent = 0.0;
        }
        self.remember(tick);
    }

    /// Takes cuts from the window so far, if it holds enough of stable.
    fn freeze(&mut self, second: u64) {
        if self.frozen.stable.total() < ENOUGH {
            return;
        }
        let total = self.frozen.stable.total();
        for (index, part) in CUTS.iter().enumerate() {
            let Some(edge) = self.frozen.stable.quantile(*part) else { return };
            #[expect(clippy::cast_precision_loss, reason = "a share of requests")]
            let share = Share::new(self.frozen.stable.above(edge) as f64 / total as f64);
            match self.cuts.get_mut(index) {
                Some(cut) => {
                    (cut.edge, cut.share, cut.slow, cut.seen) = (edge, share, (0, 0), Arms::default());
                }
                None => {
                    let evidence = Mixture::new(ODDS.len());
                    self.cuts.push(Cut { edge, share, evidence, seen: Arms::default(), slow: (0, 0) });
                }
            }
        }
        self.frozen = Window::default();
        self.frozen_at = Some(second);
    }

    fn remember(&mut self, tick: &Tick) {
        if tick.stable.latency.is_none() || tick.canary.latency.is_none() {
            return;
        }
        if tick.at_second.saturating_sub(self.recent_at) >= RECENT {
            self.recent.swap(0, 1);
            self.recent[0] = Window::default();
            self.recent_at = tick.at_second;
        }
        self.recent[0].add(tick);
        self.frozen.add(tick);
    }

    /// `ln` of the mean evidence at each cut; `None` until there are cuts.
    #[must_use]
    pub fn ln(&self, cut: usize) -> Option<f64> {
        self.cuts.get(cut).map(|cut| cut.evidence.ln_mean())
    }

    /// Whether most of what was slow on the canary at this cut were failures.
    #[must_use]
    pub fn mostly_failed(&self, cut: usize) -> bool {
        self.cuts.get(cut).is_some_and(|cut| cut.slow.1 * 2 > cut.slow.0)
    }

    /// The cuts in nanoseconds.
    #[must_use]
    pub fn edges(&self) -> Option<[u64; 3]> {
        let edge = |index: usize| self.cuts.get(index).map(|cut| cut.edge);
        Some([edge(0)?, edge(1)?, edge(2)?])
    }

    /// How many of both arms were slower than each cut since it was taken.
    #[must_use]
    pub fn slow(&self) -> Option<[Arms; 3]> {
        let seen = |index: usize| self.cuts.get(index).map(|cut| cut.seen);
        Some([seen(0)?, seen(1)?, seen(2)?])
    }

    /// Whether the canary is slower at this cut by so much that waiting for more makes sense. Two equal
    /// servers differ by microseconds, for the smaller arm's connections are colder, and evidence for
    /// that grows for ever.
    #[must_use]
    pub fn is_slower(&self, cut: usize) -> bool {
        let Some(part) = CUTS.get(cut) else { return false };
        self.recent.iter().chain([&self.frozen]).any(|window| window.is_slower(*part))
    }

    /// Whether the canary is slower at this cut by enough to matter: over the last minute or two,
    /// or since the cuts were frozen.
    #[must_use]
    pub fn shows_effect(&self, cut: usize) -> bool {
        let Some(part) = CUTS.get(cut) else { return false };
        let [now, before] = &self.recent;
        if now.shows_effect(*part) || self.frozen.shows_effect(*part) {
            return true;
        }
        let mut both = now.clone();
        both.stable.merge(&before.stable);
        both.canary.merge(&before.canary);
        both.shows_effect(*part)
    }
}

fn judge(cut: &mut Cut, tick: &Tick, warm: bool, bursts: Option<u32>) {
    let (Some(stable), Some(canary)) = (tick.stable.slow(cut.edge), tick.canary.slow(cut.edge)) else {
        return;
    };
    cut.seen.add(stable, canary);
    let seen = Outcomes {
        bad_canary: canary.1,
        bad_stable: stable.1,
        good_canary: canary.0 - canary.1,
        good_stable: stable.0 - stable.1,
    };
    if warm {
        cut.slow.0 += canary.1;
        cut.slow.1 += tick.canary.failed_beside_latency();
        let p0 = cut.share.now();
        let divisor = divisor(seen.bad_canary + seen.bad_stable, bursts);
        cut.evidence.grow(|index| {
            two_sided(&seen, tick.w, p0, at_odds(ODDS[index], p0), divisor).min(MOST_PER_SECOND)
        });
    }
    cut.share.add(tick.at_second, seen.bad_stable, seen.good_stable);
}
