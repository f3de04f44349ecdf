//! The restarted mixture: evidence that never forgets its price, however often it is looked at.
//!
//! For each alternative `M <- (M + pi) * F`, where `F` has mean at most 1 when the version does not
//! matter and the `pi` of all time sum to 1. Then the mean of `M` never exceeds 1, and the chance
//! that it ever reaches `1/alpha` is at most alpha (Ville 1939). The `pi` must be fixed by the
//! [`Schedule`] alone, never by what was counted.

use serde::{Deserialize, Serialize};

use super::logs::{NOTHING, ln_add, ln_mean};

/// Most steps of a rollout: a bit each.
pub const MAX_STEPS: usize = 64;
/// Seconds between two restarts.
const MARK_SECONDS: u64 = 60;

/// `ln M` for each alternative.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mixture(Vec<f64>);

impl Mixture {
    /// No evidence on any of so many alternatives.
    #[must_use]
    pub fn new(alternatives: usize) -> Self {
        Self(vec![NOTHING; alternatives])
    }

    /// Starts again beside what runs, with this part of the total.
    pub fn fund(&mut self, part: f64) {
        if part > 0.0 {
            let ln = part.ln();
            self.0.iter_mut().for_each(|one| *one = ln_add(*one, ln));
        }
    }

    /// Multiplies each alternative by `exp(ln_factor(its index))`.
    pub fn grow(&mut self, mut ln_factor: impl FnMut(usize) -> f64) {
        for (index, one) in self.0.iter_mut().enumerate().filter(|(_, one)| **one > NOTHING) {
            *one += ln_factor(index);
        }
    }

    /// Keeps each alternative at or below a bound.
    pub fn at_most(&mut self, ln_bound: f64) {
        self.0.iter_mut().for_each(|one| *one = one.min(ln_bound));
    }

    /// Drops all of it.
    pub fn clear(&mut self) {
        self.0.fill(NOTHING);
    }

    /// `ln` of the mean over the alternatives.
    #[must_use]
    pub fn ln_mean(&self) -> f64 {
        ln_mean(&self.0)
    }
}

/// What a tick may add to each mixture.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Grant {
    /// The first tick's.
    pub start: f64,
    /// The first entry of a step's.
    pub step: f64,
    /// The minute's, at its mark.
    pub mark: f64,
    /// The same, dealt out over the minute's seconds: for evidence that is gone within seconds when
    /// nothing speaks for it, and must not wait for a mark to begin again.
    pub drip: f64,
    /// Whether a step is entered with this tick.
    pub entered: bool,
}

impl Grant {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> f64 {
        self.start + self.step + self.mark
    }

    /// All of it, for evidence that restarts every second.
    #[must_use]
    pub fn dripped(&self) -> Self {
        Self { mark: self.drip, ..*self }
    }

    /// What evidence gets that was dropped at the step's entry: `3/(4K)` at each first entry.
    #[must_use]
    pub fn after_drop(&self) -> f64 {
        3.0 * self.step + self.mark
    }
}

/// When restarts happen and what they may cost: 1/2 at the first tick, `1/(4K)` at the first entry
/// of each of K steps, `1/(4 j (j+1))` at the j-th minute mark.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Schedule {
    steps: u32,
    started: bool,
    entering: Option<u32>,
    entered: u64,
    marks: u64,
    /// Seconds since the last mark that had their part.
    dripped: u64,
    clock: u64,
}

impl Schedule {
    /// For a rollout of so many steps, at most [`MAX_STEPS`].
    #[must_use]
    pub fn new(steps: usize) -> Self {
        let steps = u32::try_from(steps.clamp(1, MAX_STEPS)).unwrap_or(1);
        Self { steps, started: false, entering: None, entered: 0, marks: 0, dripped: 0, clock: 0 }
    }

    /// Says that the next tick is the first of this step.
    pub fn enter(&mut self, step: u32) {
        self.entering = Some(step);
    }

    /// What this second may add.
    pub fn tick(&mut self, second: u64) -> Grant {
        let mut grant = Grant::default();
        if !self.started {
            (self.started, self.clock, grant.start) = (true, second, 0.5);
        }
        let mut minute = second.saturating_sub(self.clock) >= MARK_SECONDS;
        if let Some(step) = self.entering.take() {
            grant.entered = true;
            let bit = 1_u64.checked_shl(step).filter(|bit| step < self.steps && self.entered & bit == 0);
            // A step entered again has had its part; a minute's will do.
            minute = bit.is_none();
            if let Some(bit) = bit {
                self.entered |= bit;
                grant.step = 1.0 / (4.0 * f64::from(self.steps));
            }
            self.clock = second;
        }
        if minute {
            self.marks += 1;
            self.clock = second;
            grant.mark = part(self.marks);
            self.dripped = 0;
        }
        if self.dripped < MARK_SECONDS {
            self.dripped += 1;
            #[expect(clippy::cast_precision_loss, reason = "60")]
            let seconds = MARK_SECONDS as f64;
            grant.drip = part(self.marks + 1) / seconds;
        }
        grant
    }
}

/// The j-th minute's part.
#[expect(clippy::cast_precision_loss, reason = "minutes of a rollout")]
fn part(minute: u64) -> f64 {
    let j = minute as f64;
    1.0 / (4.0 * j * (j + 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_parts_of_all_time_sum_to_one() {
        let mut schedule = Schedule::new(5);
        let (mut total, mut dropped, mut dripped) = (0.0, 0.0, 0.0);
        for second in 0..1_000_000_u64 {
            if second % 700 == 0 {
                schedule.enter(u32::try_from(second / 700 % 7).unwrap());
            }
            let grant = schedule.tick(second);
            total += grant.total();
            dropped += grant.after_drop();
            dripped += grant.dripped().total();
        }
        assert!(total > 0.999 && total <= 1.0, "{total}");
        assert!(dropped > 0.999 && dropped <= 1.0, "{dropped}");
        assert!(dripped > 0.999 && dripped <= 1.0, "{dripped}");
    }

    #[test]
    fn marks_are_a_minute_apart_and_steps_are_paid_once() {
        let mut schedule = Schedule::new(2);
        schedule.enter(0);
        let parts = |grant: Grant| (grant.start, grant.step, grant.mark);
        assert_eq!(parts(schedule.tick(100)), (0.5, 0.125, 0.0));
        assert_eq!(parts(schedule.tick(159)), (0.0, 0.0, 0.0));
        assert_eq!(parts(schedule.tick(160)), (0.0, 0.0, 0.125));
        schedule.enter(0);
        assert_eq!(parts(schedule.tick(170)), (0.0, 0.0, 1.0 / 24.0));
        assert_eq!(parts(schedule.tick(229)), (0.0, 0.0, 0.0));
        assert_eq!(parts(schedule.tick(230)), (0.0, 0.0, 1.0 / 48.0));
    }
}
