//! Latency bins: one histogram that serves Prometheus, percentiles and analysis alike.
//!
//! Each decade from 10 µs to 100 s is cut at 1, 1.05 … 2.5, 2.625 … 5, 5.25 … 10, so that no bin is
//! wider than 5 % of its lower edge and every Prometheus bound of the contract is an edge. Decades
//! are allocated at their first value. It must never interpolate for a bound that is an edge.

use std::sync::OnceLock;

use crossbeam_utils::CachePadded;

use super::counter::Counter;

/// Lower edge of the first decade, in nanoseconds.
const FLOOR: u64 = 10_000;
/// Decades covered: 10 µs to 100 s.
pub(super) const DECADES: usize = 7;
/// Bins of one decade, in parts of its unit: 30 of 1/20, 20 of 1/8, 20 of 1/4.
pub(super) const PER_DECADE: usize = 70;
/// All bins, with one below the floor and one above the ceiling.
pub const BINS: usize = DECADES * PER_DECADE + 2;
/// Bins that a histogram has room for when it counts something.
const FIRST_ROOM: usize = 16;
/// Index of the bin above the ceiling.
const OVER: usize = BINS - 1;

/// Prometheus bucket bounds of the contract, in nanoseconds.
pub const PROMETHEUS_BOUNDS: &[u64] = &[
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

/// Index of the bin a duration belongs to: bin `b` holds `lower(b) < t <= lower(b + 1)` so that a
/// cumulative count up to an edge is Prometheus' `le`.
#[must_use]
pub fn bin_of(nanos: u64) -> usize {
    if nanos <= FLOOR {
        return 0;
    }
    let mut unit = FLOOR;
    let mut decade = 0;
    while decade < DECADES {
        if nanos <= unit * 10 {
            let above = nanos - 1;
            let within = if above < unit * 5 / 2 {
                (above - unit) * 20 / unit
            } else if above < unit * 5 {
                30 + (above - unit * 5 / 2) * 8 / unit
            } else {
                50 + (above - unit * 5) * 4 / unit
            };
            #[expect(clippy::cast_possible_truncation, reason = "within a decade it is below 70")]
            let within = within as usize;
            return 1 + decade * PER_DECADE + within;
        }
        unit *= 10;
        decade += 1;
    }
    OVER
}

/// Upper edge of a bin in nanoseconds; `u64::MAX` for the last.
#[must_use]
pub fn upper_edge(bin: usize) -> u64 {
    if bin == 0 {
        return FLOOR;
    }
    if bin >= OVER {
        return u64::MAX;
    }
    let (decade, within) = ((bin - 1) / PER_DECADE, (bin - 1) % PER_DECADE);
    let unit = FLOOR * 10_u64.pow(u32::try_from(decade).unwrap_or(0));
    let step = within as u64 + 1;
    match within {
        0..30 => unit + unit * step / 20,
        30..50 => unit * 5 / 2 + unit * (step - 30) / 8,
        _ => unit * 5 + unit * (step - 50) / 4,
    }
}

/// Padded: two workers allocate theirs side by side, and must not share a cache line.
pub(super) type Decade = Box<CachePadded<[Counter; PER_DECADE]>>;

/// One worker's histogram of one arm.
#[derive(Debug, Default)]
pub struct Bins {
    pub(super) under: Counter,
    pub(super) over: Counter,
    sum: Counter,
    pub(super) decades: [OnceLock<Decade>; DECADES],
}

impl Bins {
    /// Counts one duration in nanoseconds.
    pub fn add(&self, nanos: u64) {
        self.sum.add(nanos);
        let bin = bin_of(nanos);
        match bin {
            0 => self.under.add(1),
            OVER => self.over.add(1),
            _ => {
                let (decade, within) = ((bin - 1) / PER_DECADE, (bin - 1) % PER_DECADE);
                if let Some(cell) = self.decades.get(decade) {
                    let counters =
                        cell.get_or_init(|| Box::new([const { Counter::new() }; PER_DECADE].into()));
                    if let Some(counter) = counters.get(within) {
                        counter.add(1);
                    }
                }
            }
        }
    }

    /// How many durations were longer than `bound` nanoseconds; exact when `bound` is an edge.
    #[must_use]
    pub fn above(&self, bound: u64) -> u64 {
        let first = bin_of(bound) + 1;
        let decades = self.decades.iter().enumerate().filter_map(|(decade, cell)| {
            let skipped = first.saturating_sub(1 + decade * PER_DECADE);
            let counters = cell.get().filter(|_| skipped < PER_DECADE)?;
            Some(counters.iter().skip(skipped).map(Counter::get).sum::<u64>())
        });
        decades.sum::<u64>() + self.over.get()
    }

    /// Adds this histogram to a sum.
    pub fn add_to(&self, counts: &mut BinCounts) {
        if counts.counts.is_empty() {
            return self.append_to(counts);
        }
        let mut own = BinCounts::default();
        self.append_to(&mut own);
        counts.merge(&own);
    }

    /// Appends this histogram to an empty one.
    fn append_to(&self, own: &mut BinCounts) {
        own.sum_nanos += u128::from(self.sum.get());
        let decades = self.decades.iter().filter(|cell| cell.get().is_some()).count();
        own.counts.reserve(decades * PER_DECADE / 2);
        own.push(0, self.under.get());
        for (decade, cell) in self.decades.iter().enumerate() {
            for (within, counter) in cell.get().into_iter().flat_map(|counters| counters.iter().enumerate()) {
                own.push(1 + decade * PER_DECADE + within, counter.get());
            }
        }
        own.push(OVER, self.over.get());
    }
}

/// A histogram as plain numbers; bins that counted nothing take no memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BinCounts {
    /// Ascending, no count of 0.
    counts: Vec<Packed>,
    /// Sum of all durations in nanoseconds.
    pub sum_nanos: u128,
}

/// A bin and its count in 8 bytes: thousands of histograms are remembered for a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Packed(u64);

impl Packed {
    /// Bits of the count; the bin is above them.
    const BITS: u32 = 48;

    fn new(bin: usize, count: u64) -> Self {
        Self((bin as u64) << Self::BITS | count.min((1 << Self::BITS) - 1))
    }

    fn bin(self) -> usize {
        usize::try_from(self.0 >> Self::BITS).unwrap_or(OVER)
    }

    fn count(self) -> u64 {
        self.0 & ((1 << Self::BITS) - 1)
    }
}

impl BinCounts {
    /// Appends a bin above all others; a count of 0 is nothing.
    pub(super) fn push(&mut self, bin: usize, count: u64) {
        if count > 0 {
            if self.counts.is_empty() {
                self.counts.reserve(FIRST_ROOM);
            }
            self.counts.push(Packed::new(bin, count));
        }
    }

    /// How many bins counted something.
    #[must_use]
    pub fn bins(&self) -> usize {
        self.counts.len()
    }

    /// Upper edge in nanoseconds and count of every bin that counted something, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.counts.iter().map(|one| (upper_edge(one.bin()), one.count()))
    }

    /// How many durations were counted.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(|one| one.count()).sum()
    }

    /// How many were at most `bound` nanoseconds; exact when `bound` is an edge.
    #[must_use]
    pub fn at_most(&self, bound: u64) -> u64 {
        let whole = self.counts.iter().take_while(|one| upper_edge(one.bin()) <= bound);
        whole.map(|one| one.count()).sum()
    }

    /// Adds another histogram.
    pub fn merge(&mut self, other: &Self) {
        self.sum_nanos += other.sum_nanos;
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
            return;
        }
        let mut theirs = other.counts.iter().copied().peekable();
        let mut merged = Vec::with_capacity(self.counts.len().max(other.counts.len()));
        for own in self.counts.drain(..) {
            while let Some(before) = theirs.next_if(|one| one.bin() < own.bin()) {
                merged.push(before);
            }
            let more = theirs.next_if(|one| one.bin() == own.bin()).map_or(0, Packed::count);
            merged.push(Packed::new(own.bin(), own.count() + more));
        }
        merged.extend(theirs);
        self.counts = merged;
    }

    /// What was counted since `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let mut then = earlier.counts.iter().copied().peekable();
        let counts = self.counts.iter().filter_map(|now| {
            while then.next_if(|one| one.bin() < now.bin()).is_some() {}
            let before = then.next_if(|one| one.bin() == now.bin()).map_or(0, Packed::count);
            let count = now.count().saturating_sub(before);
            (count > 0).then(|| Packed::new(now.bin(), count))
        });
        let mut counts: Vec<Packed> = counts.collect();
        counts.shrink_to_fit();
        Self { counts, sum_nanos: self.sum_nanos.saturating_sub(earlier.sum_nanos) }
    }

    /// The quantile `q` in `0.0..=1.0` as the upper edge of its bin, in nanoseconds (at most 5 %
    /// too high); `None` without counts. Above the ceiling it is the ceiling.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let total = self.total();
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a rank between 0 and total, exact far beyond any real count"
        )]
        let rank = ((total as f64 * q).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        let reached = self.counts.iter().find(|one| {
            seen += one.count();
            seen >= rank
        })?;
        Some(upper_edge(reached.bin().min(OVER - 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_contract_bound_is_an_edge() {
        for bound in PROMETHEUS_BOUNDS {
            assert_eq!(upper_edge(bin_of(*bound)), *bound);
        }
    }

    #[test]
    fn edges_rise_by_at_most_five_percent() {
        for bin in 1..OVER {
            let (low, high) = (upper_edge(bin - 1), upper_edge(bin));
            assert!(high > low && (high - low) * 20 <= low, "{bin}: {low} {high}");
        }
    }

    #[test]
    fn counts_are_cumulative_up_to_an_edge() {
        let bins = Bins::default();
        for nanos in [1_000_000, 1_000_001, 2_400_000, 40_000_000_000, 200_000_000_000, 1] {
            bins.add(nanos);
        }
        let mut counts = BinCounts::default();
        bins.add_to(&mut counts);
        assert_eq!(counts.at_most(1_000_000), 2);
        assert_eq!(counts.at_most(2_500_000), 4);
        for edge in [10_000, 1_000_000, 2_500_000, 40_000_000_000, 100_000_000_000] {
            assert_eq!(bins.above(edge), counts.total() - counts.at_most(edge), "{edge}");
        }
        assert_eq!(counts.total(), 6);
        assert_eq!(counts.quantile(0.0), Some(FLOOR));
        assert_eq!(counts.quantile(1.0), Some(100_000_000_000));
        assert_eq!(BinCounts::default().quantile(0.5), None);
    }

    fn counts_of(durations: &[u64]) -> BinCounts {
        let bins = Bins::default();
        for nanos in durations {
            bins.add(*nanos);
        }
        let mut counts = BinCounts::default();
        bins.add_to(&mut counts);
        counts
    }

    proptest! {
        #[test]
        fn what_was_merged_can_be_taken_away_again(
            first in prop::collection::vec(1_u64..200_000_000_000, 0..50),
            second in prop::collection::vec(1_u64..200_000_000_000, 0..50),
        ) {
            let (a, b) = (counts_of(&first), counts_of(&second));
            let mut both = a.clone();
            both.merge(&b);
            let together: Vec<u64> = first.iter().chain(&second).copied().collect();
            prop_assert_eq!(&both, &counts_of(&together));
            prop_assert_eq!(both.since(&a), b);
        }

        #[test]
        fn a_duration_lies_in_its_bin(nanos in 1_u64..200_000_000_000) {
            let bin = bin_of(nanos);
            prop_assert!(nanos <= upper_edge(bin));
            prop_assert!(bin == 0 || nanos > upper_edge(bin - 1));
        }
    }
}
