//! Sums and means of numbers whose logarithms are all that fits into a float.
//!
//! Evidence spans a million orders of magnitude. It must never leave logarithms.

/// Logarithm of nothing: finite, so that it survives JSON.
pub const NOTHING: f64 = -1e300;

/// `ln(exp(a) + exp(b))`.
#[must_use]
pub fn ln_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low <= NOTHING { high } else { high + (low - high).exp().ln_1p() }
}

/// `ln` of the mean of `exp` of each; [`NOTHING`] for none.
#[must_use]
pub fn ln_mean(values: &[f64]) -> f64 {
    let high = values.iter().copied().fold(NOTHING, f64::max);
    if high <= NOTHING {
        return NOTHING;
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of values")]
    let count = values.len() as f64;
    high + (values.iter().map(|value| (value - high).exp()).sum::<f64>() / count).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_and_means_hold_far_out() {
        assert!((ln_add(0.0, 0.0) - 2_f64.ln()).abs() < 1e-15);
        assert!((ln_add(-1e6, -1e6) - (2_f64.ln() - 1e6)).abs() < 1e-9);
        assert!((ln_add(NOTHING, -5.0) + 5.0).abs() < 1e-15);
        assert!((ln_mean(&[1000.0, NOTHING]) - (1000.0 - 2_f64.ln())).abs() < 1e-12);
        assert!(ln_mean(&[]) <= NOTHING);
    }
}
