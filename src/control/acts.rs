//! What was done lately to the configuration and by hand, for whoever watches.
//!
//! The journal on disk is the record; this is its end, in memory. It must never hold more than
//! [`MAX_ACTS`] entries.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::audit::Entry;

/// Entries kept.
pub const MAX_ACTS: usize = 100;

/// The end of the journal; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Acts(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    /// Number of the next entry.
    next: u64,
    entries: VecDeque<Arc<Entry>>,
}

impl Acts {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an entry.
    pub fn add(&self, entry: Entry) {
        let mut kept = self.lock();
        if kept.entries.len() >= MAX_ACTS {
            kept.entries.pop_front();
        }
        kept.next += 1;
        kept.entries.push_back(Arc::new(entry));
    }

    /// Entries from a number on, oldest first, each with its number, as far as they are kept; and
    /// what to ask for next.
    #[must_use]
    pub fn from(&self, number: u64) -> (Vec<(u64, Arc<Entry>)>, u64) {
        let kept = self.lock();
        let first = kept.next - kept.entries.len() as u64;
        let numbered = kept.entries.iter().zip(first..).map(|(entry, at)| (at, Arc::clone(entry)));
        (numbered.filter(|(at, _)| *at >= number).collect(), kept.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_nobody_is_told_twice() {
        let acts = Acts::default();
        let add = |count: u64| (0..count).for_each(|at| acts.add(Entry { at, ..Entry::default() }));
        add(3);
        let (seen, next) = acts.from(0);
        assert_eq!((seen.len(), next), (3, 3));
        assert_eq!(acts.from(next).0.len(), 0);
        add(2 * MAX_ACTS as u64);
        let (seen, next) = acts.from(next);
        assert_eq!((seen.len(), seen[0].0, next), (MAX_ACTS, 3 + MAX_ACTS as u64, 3 + 2 * MAX_ACTS as u64));
    }
}
