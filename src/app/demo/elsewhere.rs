//! How long other controllers' defaults would have taken at the rates just measured.
//!
//! It is computed, not run: the rules of `simulate`, minute by minute, at the weight the version had
//! here. It must never count what they would not: they look at success rates.

use crate::cli::simulate::peers::{Judge, Peer};

/// Minutes that are tried.
const MINUTES: u32 = 60;
/// Whose rules, and what they ask for.
const SHOWN: [(&str, Peer); 2] = [
    ("Flagger (99 % success, every minute)", Peer::Flagger { threshold: 1 }),
    ("Argo Rollouts (95 % success, every five minutes)", Peer::Argo { failure_limit: 0 }),
];

/// Requests and failed ones of both arms, and over how many seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// The reference.
    pub stable: (u64, u64),
    /// The new version.
    pub canary: (u64, u64),
    /// Users' bad answers of the new version, the slow ones with them.
    pub bad: u64,
    /// Seconds with traffic on both.
    pub seconds: f64,
}

/// What one of them would have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Whose defaults.
    pub name: &'static str,
    /// The minute in which it would have reverted; `None` for not within the hour.
    pub minute: Option<u32>,
    /// Bad answers by then, or within the hour.
    pub bad: u64,
}

/// What both would have done.
pub(super) fn elsewhere(measured: &Measured) -> [Elsewhere; 2] {
    SHOWN.map(|(name, peer)| {
        let (stable, canary) = (minute(measured.stable, measured), minute(measured.canary, measured));
        let mut judge = Judge::new(peer);
        let at = (1..=MINUTES).find(|_| judge.minute(stable, canary));
        let bad = minute((measured.bad, 0), measured).0 * u64::from(at.unwrap_or(MINUTES));
        Elsewhere { name, minute: at, bad }
    })
}

impl Elsewhere {
    /// In words.
    pub(super) fn text(&self) -> String {
        match self.minute {
            Some(minute) => format!("{}: {minute} min, {} bad answers", self.name, self.bad),
            None => format!("{}: not within an hour, {} bad answers", self.name, self.bad),
        }
    }
}

/// The counts of a minute at the same rates.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "requests of seconds"
)]
fn minute(counts: (u64, u64), measured: &Measured) -> (u64, u64) {
    let scaled = |count: u64| (count as f64 * 60.0 / measured.seconds.max(0.1)).round() as u64;
    (scaled(counts.0), scaled(counts.1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_rates_are_judged_by_the_minute() {
        let rows = [((200, 12), Some(2), Some(5)), ((200, 8), Some(2), None), ((200, 0), None, None)];
        for (canary, flagger, argo) in rows {
            let said = elsewhere(&Measured { stable: (3_800, 0), canary, bad: canary.1, seconds: 6.0 });
            assert_eq!(said.map(|one| one.minute), [flagger, argo], "{canary:?}");
            assert_eq!(said[0].bad, canary.1 * 10 * u64::from(flagger.unwrap_or(MINUTES)));
        }
    }
}
