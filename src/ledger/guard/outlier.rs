//! What its answers to clients say of one endpoint: out after failures in a row, back on trial, and
//! in again when it stood that.
//!
//! It must never take out an endpoint unless it is told that another one is left.

use super::Millis;

/// When an endpoint is taken out, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutlierRules {
    /// Failures in a row, over all workers, from 1.
    pub errors: u32,
    /// Milliseconds of the first ejection; the second takes twice as long, and so on.
    pub base: Millis,
    /// Share of an upstream's endpoints out at most, in parts per million; one may always go.
    pub share: u32,
}

/// Requests an endpoint gets on trial: when all of them are answered it is in again.
pub const TRIALS: u32 = 3;
/// Longest ejection, as a multiple of the first.
const LONGEST: u64 = 10;
/// Time after which an endpoint on trial that was asked nothing, or did not answer, is given more.
const TRIAL_AGAIN: Millis = 1_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Stage {
    #[default]
    In,
    Out(Millis),
    Trial(Millis),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Outlier {
    pub(super) stage: Stage,
    /// Ejections that are not forgotten, and since when none was added.
    repeats: u64,
    since: Millis,
}

/// What a step changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Ejected(Millis),
    OnTrial,
    Again,
    Returned,
}

impl Outlier {
    /// What follows from `tripped` failures, or from `answered` requests of a trial.
    pub(super) fn step(
        &mut self,
        rules: OutlierRules,
        now: Millis,
        tripped: bool,
        answered: u32,
        may: bool,
    ) -> Option<Step> {
        match self.stage {
            Stage::In => {
                if tripped && may {
                    return Some(self.eject(rules, now));
                }
                // What is long ago is forgotten, one ejection after the other.
                if self.repeats > 0 && now >= self.since + rules.base * LONGEST {
                    (self.repeats, self.since) = (self.repeats - 1, now);
                }
                None
            }
            Stage::Out(until) if now >= until => {
                self.stage = Stage::Trial(now);
                Some(Step::OnTrial)
            }
            Stage::Trial(_) if tripped => Some(self.eject(rules, now)),
            Stage::Trial(_) if answered >= TRIALS => {
                (self.stage, self.since) = (Stage::In, now);
                Some(Step::Returned)
            }
            Stage::Trial(since) if now >= since + TRIAL_AGAIN => {
                self.stage = Stage::Trial(now);
                Some(Step::Again)
            }
            Stage::Out(_) | Stage::Trial(_) => None,
        }
    }

    fn eject(&mut self, rules: OutlierRules, now: Millis) -> Step {
        self.repeats = (self.repeats + 1).min(LONGEST);
        self.since = now;
        let until = now + rules.base * self.repeats;
        self.stage = Stage::Out(until);
        Step::Ejected(until - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: OutlierRules = OutlierRules { errors: 5, base: 1_000, share: 500_000 };

    #[test]
    fn ejections_grow_with_repeats_and_are_forgotten() {
        let mut outlier = Outlier::default();
        let mut now = 0;
        for span in [1_000, 2_000, 3_000] {
            assert_eq!(outlier.step(RULES, now, true, 0, true), Some(Step::Ejected(span)));
            assert_eq!(outlier.step(RULES, now + span - 1, false, 0, true), None);
            now += span;
            assert_eq!(outlier.step(RULES, now, false, 0, true), Some(Step::OnTrial));
            assert_eq!(outlier.step(RULES, now, false, TRIALS - 1, true), None);
            assert_eq!(outlier.step(RULES, now, false, TRIALS, true), Some(Step::Returned));
        }
        for _ in 0..3 {
            now += 10_000;
            assert_eq!(outlier.step(RULES, now, false, 0, true), None);
        }
        assert_eq!(outlier.step(RULES, now, true, 0, true), Some(Step::Ejected(1_000)));
    }

    #[test]
    fn a_failed_trial_is_an_ejection_and_a_silent_one_is_repeated() {
        let mut outlier = Outlier::default();
        assert_eq!(outlier.step(RULES, 0, true, 0, false), None, "it is the last one");
        outlier.step(RULES, 0, true, 0, true);
        outlier.step(RULES, 1_000, false, 0, false);
        assert_eq!(outlier.step(RULES, 2_000, false, 1, false), Some(Step::Again));
        assert_eq!(outlier.step(RULES, 2_001, true, 1, false), Some(Step::Ejected(2_000)));
        let mut most = Outlier::default();
        for _ in 0..50 {
            most.stage = Stage::In;
            most.step(RULES, 0, true, 0, true);
        }
        assert_eq!(most.stage, Stage::Out(10_000));
    }
}
