//! What histograms counted since they were last read.
//!
//! An epoch is read every second and little in it is new: sums of everything so far, built only to be
//! taken from one another, would be most of the cost of a second. It must never give a count twice,
//! nor leave one out.

use super::bins::{BINS, BinCounts, Bins, DECADES, PER_DECADE};

/// Counts of one decade.
type Decade = [u64; PER_DECADE];

/// What some histograms, taken together, had counted when they were last read.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    under: u64,
    over: u64,
    decades: [Option<Box<Decade>>; DECADES],
}

impl Fresh {
    /// What is new in these, which are always the same ones.
    pub fn read<'a>(&mut self, all: impl Iterator<Item = &'a Bins> + Clone) -> BinCounts {
        let mut new = BinCounts::default();
        let (mut under, mut over) = (0, 0);
        for bins in all.clone() {
            under += bins.under.get();
            over += bins.over.get();
        }
        new.push(0, renew(&mut self.under, under));
        for (number, known) in self.decades.iter_mut().enumerate() {
            let (mut now, mut any): (Decade, bool) = ([0; PER_DECADE], false);
            for bins in all.clone() {
                let Some(counters) = bins.decades.get(number).and_then(|decade| decade.get()) else {
                    continue;
                };
                any = true;
                for (sum, counter) in now.iter_mut().zip(counters.iter()) {
                    *sum += counter.get();
                }
            }
            if !any {
                continue;
            }
            let known = known.get_or_insert_with(|| Box::new([0; PER_DECADE]));
            for (within, (known, now)) in known.iter_mut().zip(now).enumerate() {
                if *known != now {
                    new.push(1 + number * PER_DECADE + within, renew(known, now));
                }
            }
        }
        new.push(BINS - 1, renew(&mut self.over, over));
        new
    }
}

fn renew(known: &mut u64, now: u64) -> u64 {
    now.saturating_sub(std::mem::replace(known, now))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn total(all: &[Bins]) -> BinCounts {
        let mut counts = BinCounts::default();
        for bins in all {
            bins.add_to(&mut counts);
        }
        counts
    }

    proptest! {
        /// Three workers, two of which begin later.
        #[test]
        fn what_is_new_is_the_difference_of_the_sums(
            seconds in prop::collection::vec(prop::collection::vec((0_usize..3, 0_u64..200_000_000_000), 0..20), 1..6),
        ) {
            let (all, mut fresh) = ([Bins::default(), Bins::default(), Bins::default()], Fresh::default());
            let mut before = BinCounts::default();
            for durations in seconds {
                for (worker, nanos) in durations {
                    all[worker].add(nanos);
                }
                let now = total(&all);
                let (new, expected) = (fresh.read(all.iter()), now.since(&before));
                prop_assert!(new.iter().eq(expected.iter()), "{new:?} {expected:?}");
                before = now;
            }
            prop_assert_eq!(fresh.read(all.iter()).total(), 0);
        }
    }
}
