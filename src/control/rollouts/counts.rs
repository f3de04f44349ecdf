//! Live numbers as the analyzer reads them: what each weight epoch counted since it was last read.
//!
//! It must never read an epoch's numbers twice, nor let go of one whose last numbers were not read,
//! nor give a run what was counted in the one before: requests end after their run has.

use std::collections::BTreeMap;

use super::sampled::Sampled;
use crate::analysis::{ArmCounts, Bins, Tick};
use crate::ledger::trial::{ArmTotals, Read, TrialTotals};
use crate::ledger::{BinCounts, Book};

/// What is known of an epoch besides its numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Epoch {
    /// The router's probability of the candidate among the two arms, 0 to 1.
    pub w: f64,
    /// The rollout's step.
    pub step: u32,
    /// Users are told apart by a key.
    pub sticky: bool,
}

/// An epoch, what it had counted when it was last read, and how far its histograms were.
#[derive(Debug)]
struct Reading {
    epoch: Epoch,
    before: TrialTotals,
    read: Read,
}

/// The epochs of one route that are being read.
#[derive(Debug, Default)]
pub struct Counts {
    /// The run's first epoch.
    first: u64,
    epochs: BTreeMap<u64, Reading>,
}

impl Counts {
    /// A run begins, and with it this epoch: what earlier ones still count is nobody's evidence.
    pub fn begin_run(&mut self, first: u64) {
        *self = Self { first, ..Self::default() };
    }

    /// Says what an epoch is, before its first number.
    pub fn begin(&mut self, number: u64, epoch: Epoch) {
        if number < self.first {
            return;
        }
        let (before, read) = (TrialTotals::default(), Read::default());
        self.epochs.entry(number).or_insert(Reading { epoch, before, read });
    }

    /// What every epoch counted since the last call, oldest first. `second` is on the analyzer's
    /// clock, `unix_second` is the one that has just ended; what failed goes to `sampled`.
    /// `warm`: the step's warm-up is over.
    pub fn take(
        &mut self,
        book: &Book,
        route: &str,
        second: u64,
        unix_second: u64,
        warm: bool,
        sampled: &mut Sampled,
    ) -> Vec<Tick> {
        let mut ticks = Vec::new();
        let mut over = Vec::new();
        for trial in book.trials(route) {
            // Only the book and this call hold it: nobody counts in it any more.
            let last = std::sync::Arc::strong_count(&trial) <= 2;
            if warm {
                trial.warmed();
            }
            if let Some(Reading { epoch, before, read }) = self.epochs.get_mut(&trial.epoch) {
                let totals = trial.totals_since(read, unix_second);
                let tick = tick(*epoch, second, &totals, before);
                let told = (before.stable.n + tick.stable.n, before.canary.n + tick.canary.n);
                *before = totals;
                sampled.read(&trial, last);
                (before.stable.n, before.canary.n) = told;
                ticks.push(tick);
            }
            if last {
                over.push(trial.epoch);
            }
        }
        if !over.is_empty() {
            book.retire_trials(route, &over);
            self.epochs.retain(|number, _| !over.contains(number));
        }
        ticks
    }
}

/// One second of an epoch; the histograms of `now` hold what is new.
pub(super) fn tick(epoch: Epoch, second: u64, now: &TrialTotals, before: &TrialTotals) -> Tick {
    Tick {
        at_second: second,
        w: epoch.w,
        step: epoch.step,
        stable: arm(epoch.sticky, &now.stable, &before.stable),
        canary: arm(epoch.sticky, &now.canary, &before.canary),
        few_clients: now.few_addresses,
    }
}

fn arm(sticky: bool, now: &ArmTotals, before: &ArmTotals) -> ArmCounts {
    let e = now.e.saturating_sub(before.e);
    let latency = bins(&now.latency);
    let client_errors = now.client_errors.saturating_sub(before.client_errors);
    let trusted_bad = now.trusted.1.saturating_sub(before.trusted.1);
    // An exchange may be read while it is being counted: what was seen of it is there, and is not
    // counted again.
    let n = now.n.saturating_sub(before.n).max(e + latency.total()).max(client_errors);
    ArmCounts {
        n,
        e,
        latency: Some(latency),
        left: bins(&now.left),
        latency_bad: sticky.then(|| now.first_bad.saturating_sub(before.first_bad)),
        slots: sticky.then_some(now.slots.max(now.bad_slots)),
        bad_slots: now.bad_slots,
        warm_bad_slots: sticky.then_some(now.warm_bad_slots.min(now.bad_slots)),
        repeats: now.repeats.saturating_sub(before.repeats).min(n - e),
        client_errors,
        client_error_slots: sticky.then_some(now.client_error_slots),
        bad_moments: Some(now.moments),
        trusted: (now.trusted.0.saturating_sub(before.trusted.0).max(trusted_bad), trusted_bad),
    }
}

fn bins(counts: &BinCounts) -> Bins {
    let mut bins = Bins::with_room(counts.bins());
    counts.iter().for_each(|(upper, count)| bins.add(upper, count));
    bins
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::analysis::{Policy, Verdict};
    use crate::control::rollouts::live::Live;
    use crate::ledger::trial::{Ended, Fate, Placement, Side, Trial};
    use crate::model::WorkerId;
    use crate::rollout::Phase;
    use crate::rollout::moves::Analyze;

    fn record(trial: &Trial, side: Side, slot: u16, fate: Fate) {
        let [high, low] = slot.to_be_bytes();
        let ended = Ended {
            side,
            placement: Placement::Placed,
            fate,
            client_error: false,
            slot: Some(slot),
            nanos: None,
            address: [10, 0, high, low].into(),
            unix_millis: 500,
        };
        trial.record(WorkerId(0), &ended);
    }

    /// Requests of a run end, and workers hold its epoch, for seconds after the next run began.
    #[test]
    fn a_run_begins_without_the_numbers_of_the_one_before() {
        let (book, route) = (Book::new(1, 1), Arc::from("r"));
        let mut live = Live::new(Arc::new(Policy::default()));
        live.rollout.phase = Phase::Stage;
        live.analyze(&Analyze::Begin, 1, 0);
        live.next_epoch(7);
        let held = book.trial(&route, 1, || Trial::new(1, 1, 7, Vec::new()));
        let epoch = Epoch { w: 0.5, step: 0, sticky: true };
        live.counts.begin(1, epoch);
        let look = |live: &mut Live, second| {
            let ticks = live.counts.take(&book, &route, second, second, true, &mut live.sampled);
            live.judge(ticks)
        };
        for slot in 0..200 {
            record(&held, Side::Stable, slot, Fate::Good);
            record(&held, Side::Canary, slot + 30_000, Fate::Bad);
        }
        let found = look(&mut live, 2).expect("its own numbers");
        assert!(found.canary.e > 50 && found.verdict != Verdict::Undecided, "{found:?}");

        live.analyze(&Analyze::Begin, 3, 0);
        live.next_epoch(8);
        record(&held, Side::Canary, 40_000, Fate::Bad);
        // A plan that still has it is published once more.
        live.counts.begin(1, epoch);
        assert!(look(&mut live, 4).is_none(), "the run before is judged in the new one");

        live.counts.begin(2, epoch);
        let fresh = book.trial(&route, 2, || Trial::new(2, 1, 8, Vec::new()));
        record(&fresh, Side::Stable, 1, Fate::Good);
        record(&fresh, Side::Canary, 40_000, Fate::Good);
        record(&held, Side::Canary, 40_001, Fate::Bad);
        let found = look(&mut live, 5).expect("its own numbers");
        assert_eq!((found.verdict, found.canary.n, found.canary.e), (Verdict::Undecided, 1, 0));
    }
}
