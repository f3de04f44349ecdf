//! What the users saw: who answered them, who failed them, and whether anybody was thrown about.
//!
//! A failure is charged to the version that made it; one that no version made is the proxy's. It
//! must never forgive a user's second visit to a version.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

/// Versions told apart, by number; 0 is nobody's.
pub(super) const VERSIONS: usize = 10;

/// What one version did to users.
#[derive(Clone, Debug, Default)]
pub(super) struct Did {
    /// Requests it answered.
    pub requests: u64,
    /// Of them failed.
    pub failed: u64,
    /// Of them slow on purpose.
    pub slow: u64,
    /// Users that got a failed or a slow answer.
    pub hurt: HashSet<u32>,
    /// When the first of them got it.
    pub first_hurt: Option<Instant>,
}

/// One answer as a user saw it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    /// The version's number.
    pub version: usize,
    /// It was a success.
    pub good: bool,
    /// It was made slow.
    pub slow: bool,
}

/// What the users saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Requests answered by a version.
    pub requests: u64,
    /// Requests that no version failed and that failed all the same.
    pub foreign: u64,
    /// Connections the proxy closed.
    pub closed: u64,
    /// Answers of a version older than the one promoted when they were asked for.
    pub older: u64,
    /// Moves of a user to a version they had already left, other than a return to the promoted one.
    pub flapped: u64,
    /// By version.
    did: [Did; VERSIONS],
    seen: HashMap<u32, usize>,
    visited: HashSet<(u32, usize)>,
}

impl Tally {
    /// Takes an answer; `promoted` is the version promoted when it was asked for, 0 for none.
    pub(super) fn note(&mut self, user: u32, answer: Answer, promoted: usize) {
        let Some(did) = self.did.get_mut(answer.version) else {
            self.foreign += 1;
            return;
        };
        self.requests += 1;
        did.requests += 1;
        did.failed += u64::from(!answer.good);
        did.slow += u64::from(answer.slow);
        if !answer.good || answer.slow {
            did.hurt.insert(user);
            did.first_hurt.get_or_insert_with(Instant::now);
        }
        self.older += u64::from(answer.version < promoted);
        let before = self.seen.insert(user, answer.version);
        let again = !self.visited.insert((user, answer.version));
        let put_back = answer.version == promoted && before.is_some_and(|before| before > promoted);
        self.flapped += u64::from(before != Some(answer.version) && again && !put_back);
    }

    /// What a version did so far.
    pub(super) fn of(&self, version: usize) -> Did {
        self.did.get(version).cloned().unwrap_or_default()
    }

    /// Requests that versions failed.
    pub(super) fn failed(&self) -> u64 {
        self.did.iter().map(|did| did.failed).sum()
    }

    /// Users seen.
    pub(super) fn users(&self) -> usize {
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who asked, which version answered, and which was promoted.
    type Asked = (u32, usize, usize);

    fn after(answers: &[Asked]) -> Tally {
        let mut tally = Tally::default();
        for (user, version, promoted) in answers {
            tally.note(*user, Answer { version: *version, good: true, slow: false }, *promoted);
        }
        tally
    }

    #[test]
    fn users_may_move_on_and_be_put_back_but_not_about() {
        let rows: [(&[Asked], u64, u64); 6] = [
            (&[(1, 1, 0), (1, 2, 0), (1, 2, 2)], 0, 0),
            (&[(1, 2, 2), (1, 3, 2), (1, 2, 2), (1, 4, 2), (1, 2, 2)], 0, 0),
            (&[(1, 1, 0), (1, 2, 0), (1, 1, 0)], 1, 0),
            (&[(1, 2, 2), (1, 3, 2), (1, 2, 2), (1, 3, 2)], 1, 0),
            (&[(1, 2, 2), (1, 1, 2)], 0, 1),
            (&[(1, 1, 0), (2, 2, 0), (1, 1, 0), (2, 2, 0)], 0, 0),
        ];
        for (answers, flapped, older) in rows {
            let tally = after(answers);
            assert_eq!((tally.flapped, tally.older), (flapped, older), "{answers:?}");
        }
    }

    #[test]
    fn failures_are_charged_to_who_made_them() {
        let mut tally = Tally::default();
        for user in [7, 7, 8] {
            tally.note(user, Answer { version: 3, good: false, slow: false }, 2);
        }
        tally.note(9, Answer { version: VERSIONS, good: true, slow: false }, 2);
        let did = tally.of(3);
        assert_eq!((did.failed, did.hurt.len(), tally.failed(), tally.foreign), (3, 2, 3, 1));
        assert!(did.first_hurt.is_some() && tally.of(2).first_hurt.is_none());
    }
}
