//! Mirrored requests: each leaves a pair of outcomes, and only pairs that differ say anything.
//!
//! If the version does not matter, the canary is the bad one of a differing pair half of the time
//! (progressive delivery notes, 4d). It must never count a pair of which one side was not measured.

use serde::{Deserialize, Serialize};

use super::mixture::Mixture;

/// Chances of the canary being the bad one that are looked for.
const CHANCES: [f64; 5] = [0.6, 0.7, 0.8, 0.9, 0.98];

/// Evidence from pairs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pairs(Mixture);

impl Default for Pairs {
    fn default() -> Self {
        let mut evidence = Mixture::new(CHANCES.len());
        evidence.fund(1.0);
        Self(evidence)
    }
}

impl Pairs {
    /// Takes differing pairs: where only the canary was bad, and where only stable was.
    #[expect(clippy::cast_precision_loss, reason = "pairs of one second")]
    pub fn add(&mut self, canary_bad: u64, stable_bad: u64) {
        self.0.grow(|index| {
            let chance = CHANCES[index];
            canary_bad as f64 * (chance * 2.0).ln() + stable_bad as f64 * ((1.0 - chance) * 2.0).ln()
        });
    }

    /// `ln` of the evidence against the canary.
    #[must_use]
    pub fn ln(&self) -> f64 {
        self.0.ln_mean()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sided_differences_convict_and_even_ones_do_not() {
        let mut pairs = Pairs::default();
        pairs.add(13, 0);
        assert!(pairs.ln() >= 1_000_f64.ln(), "{}", pairs.ln());
        let mut pairs = Pairs::default();
        (0..1_000).for_each(|_| pairs.add(1, 1));
        assert!(pairs.ln() < 0.0);
    }
}
