//! What probes say of one endpoint: so many good answers in a row bring it back, so many bad ones
//! take it out.
//!
//! An endpoint is believed until its first answer, which alone decides. It must never ask by itself:
//! it says when the next probe is due.

use super::Millis;

/// How often an endpoint is asked, and what it takes to change what is believed of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeRules {
    /// Milliseconds between two probes.
    pub interval: Millis,
    /// Good answers in a row after which it is healthy, from 1.
    pub healthy: u32,
    /// Bad ones after which it is not, from 1.
    pub unhealthy: u32,
}

/// Largest part of an interval by which probes are spread, as a divisor: a tenth.
const JITTER: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Probed {
    healthy: bool,
    /// Answers in a row that contradict what is believed.
    against: u32,
    /// Whether any answer came.
    asked: bool,
    /// When the next probe is due; none while one is under way.
    next: Option<Millis>,
}

impl Default for Probed {
    fn default() -> Self {
        Self { healthy: true, against: 0, asked: false, next: Some(0) }
    }
}

impl Probed {
    pub(super) fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Since when a probe is due, if one is; it is under way from then on.
    pub(super) fn begin(&mut self, now: Millis) -> bool {
        let due = self.next.is_some_and(|next| next <= now);
        if due {
            self.next = None;
        }
        due
    }

    /// A probe was answered; true when that changed what is believed. The next comes after the
    /// interval, after half of it while answers contradict what is believed, spread by `jitter`
    /// (uniform bits).
    pub(super) fn answered(&mut self, good: bool, rules: ProbeRules, now: Millis, jitter: u64) -> bool {
        let first = !std::mem::replace(&mut self.asked, true);
        let needed = if good { rules.healthy } else { rules.unhealthy };
        self.against = if good == self.healthy { 0 } else { self.against + 1 };
        let changed = good != self.healthy && (first || self.against >= needed);
        if changed {
            (self.healthy, self.against) = (good, 0);
        }
        let pause = if self.against > 0 { rules.interval / 2 } else { rules.interval };
        let spread = (pause / JITTER).max(1);
        self.next = Some(now + pause - jitter % spread);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ProbeRules = ProbeRules { interval: 5_000, healthy: 2, unhealthy: 3 };

    fn fed(answers: &[(bool, bool)]) {
        let mut probed = Probed::default();
        assert!(probed.is_healthy(), "believed until it was asked");
        for (at, (good, healthy)) in answers.iter().enumerate() {
            probed.answered(*good, RULES, 0, 0);
            assert_eq!(probed.is_healthy(), *healthy, "answer {at} of {answers:?}");
        }
    }

    #[test]
    fn the_first_answer_decides_and_then_it_takes_some_in_a_row() {
        fed(&[(false, false), (true, false), (true, true)]);
        fed(&[(true, true), (false, true), (false, true), (true, true), (false, true), (false, true)]);
        fed(&[(true, true), (false, true), (false, true), (false, false), (true, false), (false, false)]);
    }

    #[test]
    fn an_endpoint_that_falls_silent_is_out_within_fifteen_seconds() {
        let (mut probed, mut now, timeout) = (Probed::default(), 0, 1_000);
        assert!(probed.begin(now) && !probed.begin(now), "one at a time");
        probed.answered(true, RULES, now, 0);
        while probed.is_healthy() {
            now += 1;
            if probed.begin(now) {
                probed.answered(false, RULES, now + timeout, 0);
                now += timeout;
            }
        }
        assert!((10_000..=15_000).contains(&now), "{now}");
    }

    #[test]
    fn probes_are_spread_by_a_tenth_at_most() {
        for jitter in [0, 1, 499, 500, u64::MAX] {
            let mut probed = Probed::default();
            probed.answered(true, RULES, 100, jitter);
            assert!((4_600..=5_100).contains(&probed.next.unwrap()), "{probed:?}");
        }
    }
}
