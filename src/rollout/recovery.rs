//! A minute after a canary was put back: whether the arm that serves everybody is well again.
//!
//! If it is not, the canary was not the cause, or broke more than itself. It must never say that all
//! is well on silence.

use std::borrow::Cow;

use super::moves::{Actor, Level};
use super::state::Reason;
use super::turn::Turn;
use crate::analysis::finding::Seen;
use crate::analysis::guard::limit;

/// Seconds that are looked at, the last ones before it is said.
pub const LOOKED_AT: usize = 30;
/// Requests below which nothing is said.
pub const FEW: u64 = 20;

/// What is said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Its bad share is within what is tolerated.
    Recovered,
    /// It is not.
    NotRecovered,
    /// Too little traffic to say.
    Unknown,
}

impl Word {
    /// What requests of the last [`LOOKED_AT`] seconds say. `tolerated` is the bad share, 0 to 1,
    /// that a healthy arm may have.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "requests of half a minute")]
    pub fn of(lately: Seen, tolerated: f64) -> Self {
        if lately.n < FEW {
            return Self::Unknown;
        }
        let share = lately.e as f64 / lately.n as f64;
        if share <= tolerated { Self::Recovered } else { Self::NotRecovered }
    }

    /// As the record has it; a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Recovered => "recovered",
            Self::NotRecovered => "not-recovered",
            Self::Unknown => "recovery-unknown",
        }
    }
}

/// Says it in a record and a notice; the reason of the end stays what it was.
pub(super) fn tell(turn: &mut Turn<'_>) {
    let lately = turn.scene.lately;
    let word = Word::of(lately, limit(turn.policy.max_bad, turn.policy.availability));
    let Seen { n, e } = lately;
    let text = match word {
        Word::Recovered => format!("stable recovered: {e} of {n} requests failed in the last 30 s"),
        Word::NotRecovered => {
            format!("stable has not recovered: {e} of {n} requests failed in the last 30 s")
        }
        Word::Unknown => {
            format!("whether stable recovered is unknown: {n} requests came in the last 30 s")
        }
    };
    let level = if word == Word::NotRecovered { Level::Error } else { Level::Info };
    let reason = Reason { code: Cow::Borrowed(word.label()), text: text.clone() };
    let ended = std::mem::replace(&mut turn.next.reason, reason);
    turn.record(Actor::Timer, None);
    turn.next.reason = ended;
    turn.notify(level, word.label(), text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_unknown_and_the_rest_a_matter_of_share() {
        let rows = [
            (0, 0, Word::Unknown),
            (19, 0, Word::Unknown),
            (19, 19, Word::Unknown),
            (20, 0, Word::Recovered),
            (20, 1, Word::Recovered),
            (20, 2, Word::NotRecovered),
            (1_000, 50, Word::Recovered),
            (1_000, 51, Word::NotRecovered),
        ];
        for (n, e, word) in rows {
            assert_eq!(Word::of(Seen { n, e }, 0.05), word, "{e} of {n}");
        }
        assert_eq!(Word::of(Seen { n: 100, e: 14 }, 0.144), Word::Recovered, "an objective of 99 %");
    }
}
