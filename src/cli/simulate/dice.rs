//! Random numbers of the simulator: seeded, so that a run can be run again.
//!
//! Exact where false alarms are counted: a Poisson number is drawn by inversion or by rejection,
//! never by a normal curve. It must never be used outside simulations.

use std::array;

/// Mean up to which a Poisson number is found by adding up chances.
const SMALL: f64 = 10.0;

/// A seeded source.
#[derive(Debug)]
pub struct Dice(fastrand::Rng);

impl Dice {
    /// The source of one run of a seed.
    #[must_use]
    pub fn new(seed: u64, run: u64) -> Self {
        // Mixed, so that neighbouring runs share nothing.
        let mixed = (seed ^ run.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self(fastrand::Rng::with_seed(mixed ^ (mixed >> 31)))
    }

    /// 0 to 1, without 1.
    pub fn unit(&mut self) -> f64 {
        self.0.f64()
    }

    /// True with this chance.
    pub fn chance(&mut self, chance: f64) -> bool {
        self.unit() < chance
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// `0..most`.
    pub fn below(&mut self, most: u32) -> u32 {
        self.0.u32(..most.max(1))
    }

    /// A Poisson number of this mean.
    pub fn poisson(&mut self, mean: f64) -> u64 {
        if mean <= 0.0 {
            0
        } else if mean < SMALL {
            self.inverted(mean)
        } else {
            self.rejected(mean)
        }
    }

    fn inverted(&mut self, mean: f64) -> u64 {
        let (mut left, mut chance, mut count) = (self.unit(), (-mean).exp(), 0_u32);
        while left > chance && count < 200 {
            left -= chance;
            count += 1;
            chance *= mean / f64::from(count);
        }
        u64::from(count)
    }

    /// Transformed rejection (Hörmann 1993, PTRS).
    fn rejected(&mut self, mean: f64) -> u64 {
        let scale = 0.931 + 2.53 * mean.sqrt();
        let slope = -0.059 + 0.02483 * scale;
        let inverse_alpha = 1.1239 + 1.1328 / (scale - 3.4);
        let squeeze = 0.9277 - 3.6224 / (scale - 2.0);
        loop {
            let (u, v) = (self.unit() - 0.5, self.unit());
            let edge = 0.5 - u.abs();
            let count = ((2.0 * slope / edge + scale) * u + mean + 0.43).floor();
            let inside = edge >= 0.07 && v <= squeeze;
            let outside = edge < 0.013 && v > edge;
            let accepted = || {
                let left = (v * inverse_alpha / (slope / (edge * edge) + scale)).ln();
                left <= count * mean.ln() - mean - ln_factorial(count)
            };
            if count >= 0.0 && (inside || (!outside && accepted())) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "whole, from 0"
                )]
                return count as u64;
            }
        }
    }
}

/// `ln k!` by Stirling's series, exact to 1e-8 from 10 on and by products below.
#[must_use]
pub fn ln_factorial(k: f64) -> f64 {
    if k < 10.0 {
        let mut product = 1.0;
        let mut factor = 2.0;
        while factor <= k {
            product *= factor;
            factor += 1.0;
        }
        return f64::ln(product);
    }
    let x = k + 1.0;
    (x - 0.5) * x.ln() - x + 0.918_938_533_204_672_7 + 1.0 / (12.0 * x) - 1.0 / (360.0 * x * x * x)
        + 1.0 / (1260.0 * x.powi(5))
}

/// Bins of the simulated latency.
pub const LATENCY_BINS: usize = 256;
/// Entries of the table that turns a random number into a bin.
const TABLE: usize = 1 << 16;
/// Median and spread (of the logarithm) of the simulated latency.
const MEDIAN_NANOS: f64 = 20e6;
const SIGMA: f64 = 0.6;
/// Bin of the median; each bin is 5 % wide.
const MIDDLE: f64 = 80.0;

/// Log-normal latency in bins 5 % wide; every run may share it.
#[derive(Debug)]
pub struct LatencyTable {
    bins: Vec<u8>,
    bounds: [u64; LATENCY_BINS],
}

impl Default for LatencyTable {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bins from 0 to 255, bounds of seconds in nanoseconds"
    )]
    fn default() -> Self {
        let width = 1.05_f64.ln();
        let bin = |part: f64| (MIDDLE + SIGMA * normal_quantile(part) / width).clamp(0.0, 200.0) as u8;
        let bins = (0..TABLE).map(|at| bin((at as f64 + 0.5) / TABLE as f64)).collect();
        let bounds =
            array::from_fn(|at| (MEDIAN_NANOS * ((at as f64 + 1.0 - MIDDLE) * width).exp()).round() as u64);
        Self { bins, bounds }
    }
}

impl LatencyTable {
    /// A bin, and the part of all outcomes (0 to 1) that is faster.
    pub fn draw(&self, dice: &mut Dice) -> (usize, f64) {
        let at = dice.below(1 << 16) as usize;
        #[expect(clippy::cast_precision_loss, reason = "an index of the table")]
        let part = at as f64 / TABLE as f64;
        (self.bins.get(at).map_or(0, |bin| usize::from(*bin)), part)
    }

    /// Upper bound of a bin in nanoseconds.
    #[must_use]
    pub fn bound(&self, bin: usize) -> u64 {
        self.bounds.get(bin).copied().unwrap_or(u64::MAX)
    }
}

/// By how many bins a latency moves that becomes `factor` as long: the part below one is drawn.
pub fn shift(factor: f64, dice: &mut Dice) -> usize {
    let bins = factor.max(1.0).ln() / 1.05_f64.ln();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few dozen bins")]
    let whole = bins as usize;
    whole + usize::from(dice.chance(bins.fract()))
}

/// The standard normal's quantile (Acklam's rational approximation, error below 1.2e-9 relative).
#[must_use]
pub fn normal_quantile(p: f64) -> f64 {
    const A: [f64; 6] = [
        -3.969_683_028_665_376e1,
        2.209_460_984_245_205e2,
        -2.759_285_104_469_687e2,
        1.383_577_518_672_69e2,
        -3.066_479_806_614_716e1,
        2.506_628_277_459_239,
    ];
    const B: [f64; 5] = [
        -5.447_609_879_822_406e1,
        1.615_858_368_580_409e2,
        -1.556_989_798_598_866e2,
        6.680_131_188_771_972e1,
        -1.328_068_155_288_572e1,
    ];
    const C: [f64; 6] = [
        -7.784_894_002_430_293e-3,
        -3.223_964_580_411_365e-1,
        -2.400_758_277_161_838,
        -2.549_732_539_343_734,
        4.374_664_141_464_968,
        2.938_163_982_698_783,
    ];
    const D: [f64; 4] =
        [7.784_695_709_041_462e-3, 3.224_671_290_700_398e-1, 2.445_134_137_142_996, 3.754_408_661_907_416];
    let horner = |terms: &[f64], x: f64| terms.iter().fold(0.0, |sum, term| sum * x + term);
    let tail = |q: f64| horner(&C, q) / (horner(&D, q) * q + 1.0);
    if p < 0.024_25 {
        tail((-2.0 * p.ln()).sqrt())
    } else if p > 1.0 - 0.024_25 {
        -tail((-2.0 * (1.0 - p).ln()).sqrt())
    } else {
        let (q, r) = (p - 0.5, (p - 0.5) * (p - 0.5));
        q * horner(&A, r) / (horner(&B, r) * r + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisson_numbers_have_their_mean_and_variance() {
        for mean in [0.05, 3.0, 12.0, 95.0, 4_000.0] {
            let mut dice = Dice::new(1, 2);
            let drawn: Vec<f64> =
                (0..20_000).map(|_| f64::from(u32::try_from(dice.poisson(mean)).unwrap())).collect();
            let average = drawn.iter().sum::<f64>() / 20_000.0;
            let variance = drawn.iter().map(|one| (one - average).powi(2)).sum::<f64>() / 20_000.0;
            assert!((average - mean).abs() < 5.0 * (mean / 20_000.0).sqrt(), "{mean}: {average}");
            assert!((variance / mean - 1.0).abs() < 0.06, "{mean}: {variance}");
        }
    }

    #[test]
    fn normal_quantiles_are_the_known_ones() {
        for (p, z) in [(0.5, 0.0), (0.975, 1.959_964), (0.01, -2.326_348), (0.999, 3.090_232)] {
            assert!((normal_quantile(p) - z).abs() < 1e-6, "{p}");
        }
    }

    #[test]
    fn factorials_are_the_known_ones() {
        assert!((ln_factorial(5.0) - 120_f64.ln()).abs() < 1e-12);
        assert!((ln_factorial(20.0) - 2_432_902_008_176_640_000_f64.ln()).abs() < 1e-9);
    }
}
