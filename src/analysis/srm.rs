//! Does traffic arrive as the router says? A sample-ratio test over all requests.
//!
//! Every other test trusts `w`; if the realised share is another, it is this one that must say so,
//! and the rollout holds. It must never revert: who counts wrongly is not the canary.

use serde::{Deserialize, Serialize};

use super::evidence::{at_odds, times_ln};
use super::mixture::{Grant, Mixture};

/// Odds of the canary, as multiples of the router's, that are looked for.
const ODDS: [f64; 8] = [0.5, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0];
/// Evidence is cut off here so that it can fall again once the cause is gone.
const MOST: f64 = 14.0;

/// The test's evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SampleRatio(Mixture);

impl Default for SampleRatio {
    fn default() -> Self {
        Self(Mixture::new(ODDS.len()))
    }
}

impl SampleRatio {
    /// Takes one tick's arrivals: requests, or on a sticky route newly seen slots.
    pub fn tick(&mut self, grant: &Grant, w: f64, stable: u64, canary: u64) {
        self.0.fund(grant.total());
        if w <= 0.0 || w >= 1.0 {
            return;
        }
        self.0.grow(|index| {
            let other = at_odds(ODDS[index], w);
            times_ln(canary, other / w) + times_ln(stable, (1.0 - other) / (1.0 - w))
        });
        self.0.at_most(MOST);
    }

    /// `ln` of the evidence that the share is another.
    #[must_use]
    pub fn ln(&self) -> f64 {
        self.0.ln_mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds until the evidence reaches 1,000, at 100 requests a second.
    fn seconds(w: f64, canary: u64) -> Option<u64> {
        let mut test = SampleRatio::default();
        (0..3_600).find(|second| {
            let start = if *second == 0 { 0.5 } else { 0.0 };
            test.tick(&Grant { start, ..Grant::default() }, w, 100 - canary, canary);
            test.ln() >= 1_000_f64.ln()
        })
    }

    #[test]
    fn a_wrong_share_is_found_and_a_right_one_is_not() {
        assert_eq!(seconds(0.05, 5), None);
        assert!(seconds(0.05, 6).is_some_and(|second| (60..160).contains(&second)), "{:?}", seconds(0.05, 6));
        assert!(seconds(0.5, 45).is_some_and(|second| second < 60));
        assert_eq!(seconds(1.0, 90), None);
    }

    #[test]
    fn it_lets_go_when_the_share_is_right_again() {
        let mut test = SampleRatio::default();
        test.tick(&Grant { start: 0.5, ..Grant::default() }, 0.05, 0, 1_000);
        assert!(test.ln() > 7.0);
        (0..600).for_each(|_| test.tick(&Grant::default(), 0.05, 95, 5));
        assert!(test.ln() < 2.0, "{}", test.ln());
    }
}
