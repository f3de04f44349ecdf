//! Latency of one arm as counts per upper bound, whoever chose the bounds.
//!
//! It exists so that live numbers, recorded files and simulations are judged by the same code. It
//! must never interpolate: a value lies somewhere in its bin, and both arms use the same bounds.

use serde::{Deserialize, Serialize};

/// Most bins of one histogram; the ledger has half as many.
pub const MAX_BINS: usize = 1_024;

/// How many times its lower bound a bin's upper one is at most, where nothing else is known.
const WIDEST: f64 = 1.05;

/// Counts per bin: upper bound in nanoseconds, rising, with a count above 0.
///
/// `u64::MAX` is the bin without a bound.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bins(Vec<(u64, u64)>);

impl Bins {
    /// None yet, with room for so many bins.
    #[must_use]
    pub fn with_room(bins: usize) -> Self {
        Self(Vec::with_capacity(bins.min(MAX_BINS)))
    }

    /// Counts `count` outcomes of at most `upper` nanoseconds. When [`MAX_BINS`] are in use, they go
    /// to the nearest bin above, or the last.
    pub fn add(&mut self, upper: u64, count: u64) {
        if count == 0 {
            return;
        }
        if self.0.len() < MAX_BINS && self.0.last().is_none_or(|(bound, _)| *bound < upper) {
            return self.0.push((upper, count));
        }
        match self.0.binary_search_by_key(&upper, |(bound, _)| *bound) {
            Ok(at) => self.add_at(at, count),
            Err(at) if self.0.len() < MAX_BINS => self.0.insert(at, (upper, count)),
            Err(at) => self.add_at(at.min(self.0.len() - 1), count),
        }
    }

    fn add_at(&mut self, at: usize, count: u64) {
        if let Some((_, sum)) = self.0.get_mut(at) {
            *sum += count;
        }
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Self) {
        let mut at = 0;
        for (upper, count) in &other.0 {
            while self.0.get(at).is_some_and(|(bound, _)| bound < upper) {
                at += 1;
            }
            match self.0.get_mut(at) {
                Some((bound, sum)) if bound == upper => *sum += count,
                _ => self.add(*upper, *count),
            }
        }
    }

    /// All outcomes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// Outcomes in bins that end above `edge`.
    #[must_use]
    pub fn above(&self, edge: u64) -> u64 {
        let first = self.0.partition_point(|(bound, _)| *bound <= edge);
        self.0.iter().skip(first).map(|(_, count)| count).sum()
    }

    /// Upper bound of the bin that holds the `q`-th part, 0 to 1; `None` when empty.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let total = self.total();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a rank between 0 and total"
        )]
        let rank = ((total as f64 * q).ceil() as u64).max(1);
        let mut seen = 0;
        self.0.iter().find_map(|(bound, count)| {
            seen += count;
            (seen >= rank).then_some(*bound)
        })
    }

    /// The `q`-th part, 0 to 1, in nanoseconds, as if its bin were evenly filled; `None` when empty.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "counts and nanoseconds")]
    pub fn within(&self, q: f64) -> Option<f64> {
        let rank = self.total() as f64 * q;
        let (mut seen, mut lower) = (0.0, 0.0_f64);
        for (bound, count) in &self.0 {
            let (upper, count) = (*bound as f64, *count as f64);
            // A bin may begin far above the one listed before it.
            let from = lower.max(upper / WIDEST);
            if seen + count >= rank {
                return Some(from + (upper - from) * ((rank - seen) / count).clamp(0.0, 1.0));
            }
            (seen, lower) = (seen + count, upper);
        }
        None
    }

    /// Bounds and counts in rising order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl FromIterator<(u64, u64)> for Bins {
    fn from_iter<T: IntoIterator<Item = (u64, u64)>>(items: T) -> Self {
        let mut bins = Self::default();
        items.into_iter().for_each(|(upper, count)| bins.add(upper, count));
        bins
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_above_an_edge_and_quantiles_are_of_whole_bins() {
        let mut bins: Bins = [(30, 1), (10, 5), (20, 4), (10, 0)].into_iter().collect();
        assert_eq!(bins.iter().collect::<Vec<_>>(), [(10, 5), (20, 4), (30, 1)]);
        assert_eq!((bins.total(), bins.above(10), bins.above(29), bins.above(30)), (10, 5, 1, 0));
        assert_eq!(bins.quantile(0.5), Some(10));
        assert_eq!(bins.quantile(0.51), Some(20));
        assert_eq!(bins.quantile(0.99), Some(30));
        bins.merge(&[(5, 1), (20, 1), (40, 1)].into_iter().collect());
        assert_eq!(bins.iter().collect::<Vec<_>>(), [(5, 1), (10, 5), (20, 5), (30, 1), (40, 1)]);
        assert_eq!((Bins::default().quantile(0.5), Bins::default().within(0.5)), (None, None));
        let even: Bins = [(100, 10), (105, 10)].into_iter().collect();
        assert!(even.within(0.75).is_some_and(|nanos| (nanos - 102.5).abs() < 1e-9));
    }

    #[test]
    fn the_number_of_bins_is_bounded() {
        let bins: Bins = (0..5_000).map(|upper| (upper, 1)).collect();
        assert_eq!((bins.0.len(), bins.total()), (MAX_BINS, 5_000));
    }
}
