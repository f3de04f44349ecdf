//! Other controllers' published default rules, judged on the same counts.
//!
//! Success rates only, as their documentation has them; what they do about it is timed as their
//! code times it. It must never be kinder or harsher than what they publish (progressive delivery
//! notes, section 2).

/// What one arm left in a minute or more: requests, bad ones.
type Counts = (u64, u64);

/// A rule that looks at whole minutes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Peer {
    /// Flagger: every minute, success below 99 % or no data is a failed check; checks add up over
    /// the run, and it acts one interval after the threshold was reached.
    Flagger {
        /// Failed checks; 1 is the default of its code, 10 its documentation's sample.
        threshold: u32,
    },
    /// Argo Rollouts: every five minutes, success below 95 % or no data is a failed measurement.
    Argo {
        /// Failures allowed; 0 is the default of its code, 3 its documentation's sample.
        failure_limit: u32,
    },
    /// Kayenta: once after 60 points of a minute, Mann-Whitney at 98 %, 25 % of the estimated shift.
    Kayenta,
}

/// Minutes Kayenta looks at, and how many of them must hold data.
const POINTS: (usize, usize) = (60, 50);

impl Peer {
    /// The rules shown, with the names they are shown by; the first three are code defaults.
    pub const ALL: [(&'static str, Self); 5] = [
        ("flagger", Self::Flagger { threshold: 1 }),
        ("argo", Self::Argo { failure_limit: 0 }),
        ("kayenta", Self::Kayenta),
        ("flagger sample", Self::Flagger { threshold: 10 }),
        ("argo sample", Self::Argo { failure_limit: 3 }),
    ];
}

/// One rule over one run.
#[derive(Clone, Debug)]
pub struct Judge {
    peer: Peer,
    failed: u32,
    due: bool,
    minutes: Vec<(Counts, Counts)>,
}

impl Judge {
    /// At the start of a run.
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        Self { peer, failed: 0, due: false, minutes: Vec::new() }
    }

    /// Takes a minute of both arms; true when it reverts now.
    pub fn minute(&mut self, stable: Counts, canary: Counts) -> bool {
        if self.minutes.len() < POINTS.0 {
            self.minutes.push((stable, canary));
        }
        match self.peer {
            Peer::Flagger { threshold } => {
                if self.due {
                    return true;
                }
                self.failed += u32::from(below(canary, 0.99));
                self.due = self.failed >= threshold;
                false
            }
            Peer::Argo { failure_limit } => {
                if self.minutes.len() < 5 {
                    return false;
                }
                let whole = self.minutes.iter().fold((0, 0), |sum, (_, one)| (sum.0 + one.0, sum.1 + one.1));
                self.minutes.clear();
                self.failed += u32::from(below(whole, 0.95));
                self.failed > failure_limit
            }
            Peer::Kayenta => {
                let first = !self.due && self.minutes.len() == POINTS.0;
                self.due |= first;
                first && shifted(&self.minutes)
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "requests of minutes")]
fn below(canary: Counts, success: f64) -> bool {
    canary.0 == 0 || 1.0 - (canary.1 as f64 / canary.0 as f64) < success
}

/// Whether the near confidence bound of the canary's shift is above a quarter of the shift.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "sixty points of error shares"
)]
fn shifted(minutes: &[(Counts, Counts)]) -> bool {
    let share = |one: Counts| (one.0 > 0).then(|| one.1 as f64 / one.0 as f64);
    let stable: Vec<f64> = minutes.iter().filter_map(|(stable, _)| share(*stable)).collect();
    let canary: Vec<f64> = minutes.iter().filter_map(|(_, canary)| share(*canary)).collect();
    if stable.len() < POINTS.1 || canary.len() < POINTS.1 {
        return false;
    }
    let mut shifts: Vec<f64> =
        canary.iter().flat_map(|one| stable.iter().map(move |other| one - other)).collect();
    shifts.sort_by(f64::total_cmp);
    let (m, n) = (stable.len() as f64, canary.len() as f64);
    // 98 % on both sides: 2.326 standard deviations of the rank sum.
    let rank = m * n / 2.0 - 2.326 * (m * n * (m + n + 1.0) / 12.0).sqrt();
    let middle = shifts.get(shifts.len() / 2).copied().unwrap_or(0.0);
    let bound = shifts.get(rank.max(0.0) as usize).copied().unwrap_or(0.0);
    middle > 0.0 && bound > 0.25 * middle
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The minute at which it reverts when the canary has this share bad of 300 a minute.
    fn reverts(peer: Peer, bad: u64) -> Option<u32> {
        let mut judge = Judge::new(peer);
        (1..=60).find(|minute| judge.minute((5_700, 5 + u64::from(minute % 2)), (300, bad)))
    }

    #[test]
    fn published_timings_hold() {
        let rows = [
            (Peer::Flagger { threshold: 1 }, 300, Some(2)),
            (Peer::Flagger { threshold: 10 }, 300, Some(11)),
            (Peer::Flagger { threshold: 1 }, 3, None),
            (Peer::Argo { failure_limit: 0 }, 300, Some(5)),
            (Peer::Argo { failure_limit: 3 }, 300, Some(20)),
            (Peer::Argo { failure_limit: 0 }, 15, None),
            (Peer::Kayenta, 15, Some(60)),
            (Peer::Kayenta, 0, None),
        ];
        for (peer, bad, minute) in rows {
            assert_eq!(reverts(peer, bad), minute, "{peer:?} {bad}");
        }
    }

    #[test]
    fn no_data_is_a_failed_check() {
        let mut judge = Judge::new(Peer::Flagger { threshold: 1 });
        assert!(!judge.minute((60, 0), (0, 0)) && judge.minute((60, 0), (60, 0)));
    }
}
