//! A counter with one writer and any number of readers.
//!
//! Because only its worker writes it, an increment is a load and a store, not a locked operation.
//! It must never be written by two threads: increments would be lost.

use std::sync::atomic::{AtomicU64, Ordering};

/// A monotonic count owned by one worker.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds `by`; wraps after 2^64.
    pub fn add(&self, by: u64) {
        let now = self.0.load(Ordering::Relaxed);
        self.0.store(now.wrapping_add(by), Ordering::Relaxed);
    }

    /// The count, possibly an instant old.
    #[must_use]
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
