//! How many requests a second the two arms of a route get, over the last minutes.
//!
//! Counted of all that ends on the arms, compared or not, so that it is known before a rollout's
//! first step and after its last. It must never hold more than [`SAMPLES`] samples.

use std::collections::VecDeque;

/// Seconds between two samples.
const EVERY: u64 = 15;
/// Samples kept: fifteen minutes.
const SAMPLES: usize = 60;
/// Seconds after which what was measured is worth more than what is remembered, or than nothing.
const ENOUGH: u64 = 60;
/// Part of a new second in the rate of the moment.
const PART: f64 = 0.1;

/// Requests of both arms over time.
#[derive(Debug, Default)]
pub struct Rate {
    /// Second and requests until then, the oldest first.
    samples: VecDeque<(u64, u64)>,
    /// The last second that was seen, and requests until then.
    last: Option<(u64, u64)>,
    /// What the arms had counted then.
    counted: u64,
    lately: f64,
    remembered: f64,
}

impl Rate {
    /// With the rate before a restart.
    #[must_use]
    pub fn remembered(rate: f64) -> Self {
        Self { remembered: rate, lately: rate, ..Self::default() }
    }

    /// Takes what the arms have counted until this second.
    #[expect(clippy::cast_precision_loss, reason = "requests of one second")]
    pub fn see(&mut self, second: u64, counted: u64) {
        let Some((at, seen)) = self.last else {
            self.samples.push_back((second, 0));
            (self.last, self.counted) = (Some((second, 0)), counted);
            return;
        };
        // An arm whose upstream was replaced counts from zero.
        let new = counted.saturating_sub(self.counted);
        self.counted = counted;
        if second > at {
            self.lately += PART * (new as f64 / (second - at) as f64 - self.lately);
        }
        self.last = Some((second.max(at), seen + new));
        if self.samples.back().is_none_or(|(sampled, _)| second >= sampled + EVERY) {
            if self.samples.len() >= SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((second, seen + new));
        }
    }

    /// Requests per second of the moment, for display.
    #[must_use]
    pub fn lately(&self) -> f64 {
        self.lately
    }

    /// Requests per second of the last fifteen minutes, or as far as they are known; in the first
    /// minute of a process what was remembered.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "requests of fifteen minutes")]
    pub fn steady(&self) -> f64 {
        let (span, requests) = self.window();
        if span < ENOUGH && self.remembered > 0.0 {
            self.remembered
        } else if span == 0 {
            0.0
        } else {
            requests as f64 / span as f64
        }
    }

    /// Whether [`Self::steady`] rests on a minute or more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.window().0 >= ENOUGH || self.remembered > 0.0
    }

    fn window(&self) -> (u64, u64) {
        let (first, last) =
            (self.samples.front().copied().unwrap_or_default(), self.last.unwrap_or_default());
        (last.0.saturating_sub(first.0), last.1.saturating_sub(first.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_of_the_last_quarter_of_an_hour_and_outlives_a_restart() {
        let mut rate = Rate::default();
        let mut counted = 1_000_000;
        let mut pass = |rate: &mut Rate, seconds: std::ops::Range<u64>, each: u64| {
            for second in seconds {
                rate.see(second, counted);
                counted += each;
            }
        };
        pass(&mut rate, 0..30, 100);
        assert!(!rate.is_settled() && (rate.steady() - 100.0).abs() < 1e-9, "{rate:?}");
        pass(&mut rate, 30..2_000, 100);
        pass(&mut rate, 2_000..2_450, 10);
        let halfway = rate.steady();
        assert!(rate.is_settled() && (50.0..60.0).contains(&halfway), "{halfway}");
        assert!((rate.lately() - 10.0).abs() < 0.1, "{}", rate.lately());
        assert!(rate.samples.len() <= SAMPLES);
        let mut again = Rate::remembered(halfway);
        pass(&mut again, 2_500..2_510, 0);
        assert!(
            again.is_settled() && (again.steady() - halfway).abs() < 1e-9,
            "no lull is made of a restart"
        );
        pass(&mut again, 2_510..2_600, 7);
        assert!((5.0..7.0).contains(&again.steady()), "{}", again.steady());
    }
}
