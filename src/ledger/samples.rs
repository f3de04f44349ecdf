//! What failed, for people: the top failing kinds of exchange of one arm, with a few request ids each.
//!
//! Bad outcomes alone touch it, each in its own worker's part; the only other party is the reader, and
//! a worker never waits for it: what comes in that moment is counted as dropped. It must never hold
//! more than [`MOST_KINDS`] kinds, nor text that a client chose beyond [`MOST_IDS`] ids each.

use std::sync::{Arc, Mutex, PoisonError, TryLockError};

use super::counter::Counter;
use crate::model::{Cause, EndpointId, MethodClass};

/// Kinds of failure told apart per worker, epoch and arm; the rest are counted as other.
pub const MOST_KINDS: usize = 64;
/// Request ids kept of each kind: the first ones.
pub const MOST_IDS: usize = 5;
/// Longest request id kept, in bytes.
const LONGEST_ID: usize = 128;

/// What makes two failures of one kind, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Generation of the plan, and the number of the match in it.
    pub rule: (u64, u32),
    /// Method.
    pub method: MethodClass,
    /// What went wrong.
    pub cause: Cause,
    /// Who failed; `None` when nobody was there to.
    pub endpoint: Option<EndpointId>,
}

/// The same in words: asked for once per kind.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// The match.
    pub rule: String,
    /// Address of the endpoint.
    pub endpoint: Option<Arc<str>>,
}

/// One kind of failure.
#[derive(Clone, Debug)]
pub struct Failing {
    /// Match and endpoint.
    pub words: Words,
    /// Method.
    pub method: MethodClass,
    /// What went wrong.
    pub cause: Cause,
    /// How often.
    pub count: u64,
    /// Request ids of the first ones.
    pub ids: Vec<Box<str>>,
}

/// What failed of one arm.
#[derive(Clone, Debug, Default)]
pub struct Failed {
    /// Kinds, in no order.
    pub kinds: Vec<Failing>,
    /// Failures of further kinds.
    pub other: u64,
    /// Failures that came while the reader read.
    pub dropped: u64,
    /// When the first one ended, in Unix milliseconds.
    pub first_millis: Option<u64>,
}

impl Failed {
    /// Whether nothing failed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty() && (self.other, self.dropped, self.first_millis) == (0, 0, None)
    }

    /// Adds what another worker or epoch saw.
    pub fn merge(&mut self, other: Self) {
        self.other += other.other;
        self.dropped += other.dropped;
        self.first_millis = [self.first_millis, other.first_millis].into_iter().flatten().min();
        for one in other.kinds {
            let same = |known: &&mut Failing| {
                (known.method, known.cause) == (one.method, one.cause)
                    && known.words.rule == one.words.rule
                    && known.words.endpoint == one.words.endpoint
            };
            if let Some(known) = self.kinds.iter_mut().find(same) {
                known.count += one.count;
                known.ids.extend(one.ids);
                known.ids.truncate(MOST_IDS);
            } else if self.kinds.len() < MOST_KINDS {
                self.kinds.push(one);
            } else {
                self.other += one.count;
            }
        }
    }

    /// The most frequent kinds, the worst first.
    #[must_use]
    pub fn top(&self, most: usize) -> Vec<&Failing> {
        let mut kinds: Vec<&Failing> = self.kinds.iter().collect();
        kinds.sort_by(|one, other| {
            other.count.cmp(&one.count).then_with(|| one.words.rule.cmp(&other.words.rule))
        });
        kinds.truncate(most);
        kinds
    }
}

/// One worker's part.
#[derive(Debug, Default)]
pub struct Samples {
    kept: Mutex<Kept>,
    dropped: Counter,
}

#[derive(Debug, Default)]
struct Kept {
    kinds: Vec<(Kind, Failing)>,
    other: u64,
    first_millis: Option<u64>,
}

impl Samples {
    /// Keeps a failure that ended at `unix_millis`; `words` is called for a kind not seen before.
    pub fn add(&self, kind: Kind, id: &str, unix_millis: u64, words: impl FnOnce() -> Words) {
        match self.kept.try_lock() {
            Ok(mut kept) => kept.add(kind, id, unix_millis, words),
            Err(TryLockError::Poisoned(kept)) => kept.into_inner().add(kind, id, unix_millis, words),
            Err(TryLockError::WouldBlock) => self.dropped.add(1),
        }
    }

    /// What was kept so far.
    #[must_use]
    pub fn read(&self) -> Failed {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        Failed {
            kinds: kept.kinds.iter().map(|(_, failing)| failing.clone()).collect(),
            other: kept.other,
            dropped: self.dropped.get(),
            first_millis: kept.first_millis,
        }
    }
}

impl Kept {
    fn add(&mut self, kind: Kind, id: &str, unix_millis: u64, words: impl FnOnce() -> Words) {
        self.first_millis.get_or_insert(unix_millis);
        let known = self.kinds.iter().position(|(known, _)| *known == kind);
        let at = known.unwrap_or(self.kinds.len());
        if known.is_none() {
            if at >= MOST_KINDS {
                self.other += 1;
                return;
            }
            let Kind { method, cause, .. } = kind;
            self.kinds.push((kind, Failing { words: words(), method, cause, count: 0, ids: Vec::new() }));
        }
        let Some((_, failing)) = self.kinds.get_mut(at) else { return };
        failing.count += 1;
        if failing.ids.len() < MOST_IDS {
            failing.ids.push(id.get(..LONGEST_ID).unwrap_or(id).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(rule: u32, status: u16) -> Kind {
        Kind { rule: (1, rule), method: MethodClass::Get, cause: Cause::Status(status), endpoint: None }
    }

    fn words(rule: &str) -> Words {
        Words { rule: rule.to_owned(), endpoint: Some("http://one".into()) }
    }

    #[test]
    fn kinds_are_told_apart_with_the_first_ids_of_each() {
        let samples = Samples::default();
        for at in 0..7 {
            samples.add(kind(1, 500), &format!("a{at}"), 1_000 + at, || words("/a"));
        }
        samples.add(kind(2, 500), "b", 900, || words("/b"));
        samples.add(kind(2, 503), "c", 2_000, || words("/b"));
        let read = samples.read();
        let seen: Vec<_> =
            read.top(2).iter().map(|one| (&*one.words.rule, one.count, one.ids.join(" "))).collect();
        assert_eq!(seen, [("/a", 7, "a0 a1 a2 a3 a4".to_owned()), ("/b", 1, "b".to_owned())]);
        assert_eq!((read.kinds.len(), read.first_millis, read.other), (3, Some(1_000), 0));
    }

    #[test]
    fn more_kinds_than_fit_are_counted_as_other() {
        let samples = Samples::default();
        for rule in 0..100 {
            samples.add(kind(rule, 500), "id", 0, || words(&rule.to_string()));
        }
        let mut read = samples.read();
        assert_eq!((read.kinds.len(), read.other), (MOST_KINDS, 36));
        let more = Samples::default();
        more.add(kind(500, 500), "id", 5, || words("new"));
        more.add(kind(0, 500), "other", 5, || words("0"));
        read.merge(more.read());
        assert_eq!((read.kinds.len(), read.other), (MOST_KINDS, 37));
        assert_eq!((read.top(1)[0].count, read.top(1)[0].ids.len()), (2, 2), "the same words are one kind");
    }

    #[test]
    fn a_worker_never_waits_for_the_reader() {
        let samples = Samples::default();
        let reading = samples.kept.lock().expect("nobody else");
        samples.add(kind(1, 500), "id", 0, || words("/a"));
        drop(reading);
        assert_eq!((samples.read().dropped, samples.read().kinds.len()), (1, 0));
    }
}
