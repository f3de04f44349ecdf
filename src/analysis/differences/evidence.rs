//! Is a difference the copy's fault, or does stable differ from itself as often?
//!
//! Whoever mirrors sends some copies to stable itself, whatever the request. If the version does not
//! matter, a pair that differs is one of those with the share they have among all pairs of its block.
//! Labels drawn without replacement vary less than labels drawn with it (Hoeffding 1963, theorem 4),
//! so `ln F = ec ln r - m ln(1 + w(r-1))` has mean at most 1 for every ratio r (as in
//! [`crate::analysis::evidence`], with w counted in the block). A block must never end because of
//! what differs in it.

use serde::{Deserialize, Serialize};

use crate::analysis::mixture::Mixture;

/// Pairs of a block: enough that some of them are of stable and itself.
pub const BLOCK: u64 = 50;
/// How many times likelier the copy differs than stable from itself: what is looked for.
const RATIOS: [f64; 3] = [3.0, 30.0, 1_000.0];
/// Part of the total that is there from the first block on; the rest comes with restarts.
const FIRST: f64 = 0.75;

/// Pairs with and without a difference are told apart by whom the copy went to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labels {
    /// Copies to the candidate.
    pub canary: u64,
    /// Copies to stable itself.
    pub noise: u64,
}

impl Labels {
    /// Counts one.
    pub fn add(&mut self, noise: bool) {
        *(if noise { &mut self.noise } else { &mut self.canary }) += 1;
    }

    /// Both.
    #[must_use]
    pub fn both(&self) -> u64 {
        self.canary + self.noise
    }
}

/// Evidence that one difference is the copy's.
#[derive(Clone, Debug, PartialEq)]
pub struct Evidence {
    mixture: Mixture,
    /// Differing pairs of the present block.
    block: Labels,
    blocks: u64,
    /// `ln` of the most it has been: Ville's inequality is about that.
    most: f64,
}

impl Default for Evidence {
    fn default() -> Self {
        let mixture = Mixture::new(RATIOS.len());
        Self { mixture, block: Labels::default(), blocks: 0, most: f64::NEG_INFINITY }
    }
}

impl Evidence {
    /// A pair of the present block differs.
    pub fn differs(&mut self, noise: bool) {
        self.block.add(noise);
    }

    /// The block is over; `all` are its pairs.
    #[expect(clippy::cast_precision_loss, reason = "pairs of a block")]
    pub fn close(&mut self, all: Labels) {
        let block = std::mem::take(&mut self.block);
        self.blocks += 1;
        // The block in which it was first seen was chosen by what differed in it.
        if self.blocks == 1 {
            self.mixture.fund(FIRST);
            return;
        }
        if self.blocks.is_power_of_two() {
            let number = f64::from(self.blocks.ilog2());
            self.mixture.fund((1.0 - FIRST) / (number * (number + 1.0)));
        }
        if block.both() > 0 && all.both() > 0 {
            let w = all.canary as f64 / all.both() as f64;
            self.mixture.grow(|index| {
                let ratio = RATIOS.get(index).copied().unwrap_or(1.0);
                block.canary as f64 * ratio.ln() - block.both() as f64 * (w * (ratio - 1.0)).ln_1p()
            });
        }
        self.most = self.most.max(self.mixture.ln_mean());
    }

    /// `ln` of the most evidence there ever was.
    #[must_use]
    pub fn ln(&self) -> f64 {
        self.most
    }
}
