//! What rollouts cost and bring, from their records alone: failures caused, time to see and to undo
//! them, and the figures of the DORA research programme (dora.dev).
//!
//! The same records give the same figures, so nothing here is remembered. It must never guess: what
//! the records do not say is `None`.

use super::moves::Record;

/// Milliseconds of a week.
const WEEK: u64 = 7 * 86_400_000;

/// What one revert cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Harm {
    /// Failures beyond stable's share: `max(0, ec - nc * es / ns)` of the step.
    pub excess: f64,
    /// Seconds from the canary's first bad outcome of the step to the verdict.
    pub detection_seconds: Option<f64>,
    /// And to weight 0 in force, when that came with the verdict.
    pub recovery_seconds: Option<f64>,
}

impl Harm {
    /// Of a record of a revert; `None` for any other.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "requests of a step")]
    pub fn of(record: &Record) -> Option<Self> {
        if record.to != "REVERTING" || record.from == "REVERTING" {
            return None;
        }
        let excess = record.found.as_ref().map_or(0.0, |found| {
            let (stable, canary) = (found.stable, found.canary);
            let share = if stable.n == 0 { 0.0 } else { stable.e as f64 / stable.n as f64 };
            (canary.e as f64 - canary.n as f64 * share).max(0.0)
        });
        Some(Self {
            excess,
            detection_seconds: record.first_bad_at_millis.map(|first| seconds(first, record.at_millis)),
            recovery_seconds: recovery(record, record.first_bad_at_millis),
        })
    }
}

/// Seconds from the first bad outcome to weight 0, when this record is the one that gives it.
#[must_use]
pub fn recovery(record: &Record, first_bad: Option<u64>) -> Option<f64> {
    let at_zero = record.after.is_some_and(|share| share.0 == 0);
    let returns = matches!(&*record.to, "REVERTING" | "REVERTED") && record.from != record.to;
    let first_bad = first_bad.filter(|_| at_zero && returns)?;
    Some(seconds(first_bad, record.in_force_at_millis?))
}

/// How well versions come out.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dora {
    /// Versions promoted.
    pub promoted: u64,
    /// Versions put back or stopped.
    pub put_back: u64,
    /// Promotions per week over the time the records span, at least a week.
    pub per_week: f64,
    /// Part of the ended versions that were put back or stopped; `None` when none has ended.
    pub change_failure_rate: Option<f64>,
    /// Median seconds from a canary's first bad outcome to weight 0, over all reverts.
    pub median_recovery_seconds: Option<f64>,
}

impl Dora {
    /// Of the records of one route, the oldest first.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "decisions of one route")]
    pub fn of(records: &[Record]) -> Self {
        let (mut promoted, mut put_back, mut last) = (0_u64, 0_u64, None);
        let (mut recoveries, mut first_bad) = (Vec::new(), None);
        for record in records.iter().filter(|record| record.from != record.to) {
            match &*record.to {
                // A walk back that failed leaves the same version promoted.
                "PROMOTED" if last != Some(&record.version) => {
                    promoted += 1;
                    last = Some(&record.version);
                }
                "REVERTED" | "ABORTED" => put_back += 1,
                "REVERTING" => first_bad = record.first_bad_at_millis.map(|at| (record.run, at)),
                _ => {}
            }
            let of_run = first_bad.filter(|(run, _)| *run == record.run);
            if let Some(seconds) = recovery(record, of_run.map(|(_, at)| at)) {
                recoveries.push(seconds);
                first_bad = None;
            }
        }
        let span = match (records.first(), records.last()) {
            (Some(first), Some(last)) => last.at_millis.saturating_sub(first.at_millis),
            _ => 0,
        };
        let ended = promoted + put_back;
        Self {
            promoted,
            put_back,
            per_week: promoted as f64 * WEEK as f64 / span.max(WEEK) as f64,
            change_failure_rate: (ended > 0).then(|| put_back as f64 / ended as f64),
            median_recovery_seconds: median(recoveries),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds of a rollout")]
fn seconds(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1_000.0
}

fn median(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    let (lower, upper) = (numbers.len().saturating_sub(1) / 2, numbers.len() / 2);
    Some(f64::midpoint(*numbers.get(lower)?, *numbers.get(upper)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::finding::Seen;
    use crate::rollout::Share;
    use crate::rollout::moves::{Actor, Summary};

    fn record(run: u64, version: &str, from: &'static str, to: &'static str, at_millis: u64) -> Record {
        Record {
            run,
            version: version.to_owned(),
            ..Record::plain(at_millis, from.into(), to.into(), Actor::Analyzer)
        }
    }

    fn reverted(run: u64, first: u64, at: u64) -> [Record; 2] {
        let reverting = Record {
            first_bad_at_millis: Some(first),
            in_force_at_millis: Some(at + 100),
            after: Some(Share::NONE),
            ..record(run, "bad", "STAGE", "REVERTING", at)
        };
        let ended = Record {
            in_force_at_millis: Some(at + 1_000),
            after: Some(Share::NONE),
            ..record(run, "bad", "REVERTING", "REVERTED", at + 1_000)
        };
        [reverting, ended]
    }

    #[test]
    fn a_revert_costs_what_stable_would_not_have_failed() {
        let seen = |n, e| Seen { n, e };
        let rows = [
            (seen(1_000, 10), seen(100, 21), 20.0),
            (seen(0, 0), seen(10, 7), 7.0),
            (seen(100, 50), seen(100, 20), 0.0),
        ];
        for (stable, canary, excess) in rows {
            let found = Some(Summary { stable, canary, ..Summary::default() });
            let [record, _] = reverted(1, 4_000, 6_500);
            let harm = Harm::of(&Record { found, ..record }).expect("a revert");
            let times = (harm.detection_seconds, harm.recovery_seconds);
            assert_eq!((harm.excess, times), (excess, (Some(2.5), Some(2.6))));
        }
        assert_eq!(Harm::of(&record(1, "v", "REVERTING", "REVERTED", 0)), None);
    }

    #[test]
    fn a_ramp_recovers_when_it_is_at_zero() {
        let [mut reverting, ended] = reverted(1, 1_000, 2_000);
        reverting.after = Some(Share(500_000));
        let dora = Dora::of(&[reverting, ended]);
        assert_eq!(dora.median_recovery_seconds, Some(2.0));
    }

    #[test]
    fn figures_follow_from_records() {
        assert_eq!(Dora::of(&[]), Dora::default());
        let mut records = vec![record(1, "v1", "BAKE", "PROMOTED", 0)];
        records.push(record(2, "v1", "STAGE", "PROMOTED", 10));
        records.extend(reverted(3, 1_000, 2_000));
        records.push(record(3, "bad", "REVERTED", "REVERTED", 70_000));
        records.push(record(4, "v2", "STAGE", "ABORTED", 80_000));
        records.extend(reverted(5, 100_000, 104_900));
        records.push(record(6, "v3", "BAKE", "PROMOTED", 2 * WEEK));
        let dora = Dora::of(&records);
        assert_eq!((dora.promoted, dora.put_back, dora.per_week), (2, 3, 1.0));
        assert_eq!((dora.change_failure_rate, dora.median_recovery_seconds), (Some(0.6), Some(3.05)));
    }
}
