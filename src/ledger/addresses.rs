//! Where an endpoint is: the addresses its host has now, and how often they changed.
//!
//! The resolver writes, workers compare one number per request and read the set only when it moved.
//! It must never lock a reader.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use arc_swap::ArcSwap;

/// The addresses of one endpoint: one of a literal address, none until its name was looked up.
#[derive(Debug)]
pub struct Addresses {
    set: ArcSwap<Vec<SocketAddr>>,
    changes: AtomicU32,
    asked: AtomicU32,
}

impl Addresses {
    /// A set that did not change yet.
    #[must_use]
    pub fn new(set: Arc<Vec<SocketAddr>>) -> Self {
        let asked = AtomicU32::new(u32::from(!set.is_empty()));
        Self { set: ArcSwap::new(set), changes: AtomicU32::new(1), asked }
    }

    /// The set in force.
    #[must_use]
    pub fn get(&self) -> Arc<Vec<SocketAddr>> {
        self.set.load_full()
    }

    /// Moves with every change of the set; never 0.
    #[must_use]
    pub fn version(&self) -> u32 {
        self.changes.load(Acquire)
    }

    /// Whether its name was looked up, with or without success.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.load(Acquire) > 0
    }

    /// Its name was looked up; `None` when that failed, and the last set stays.
    pub fn found(&self, set: Option<Vec<SocketAddr>>) {
        if let Some(set) = set.filter(|set| **self.set.load() != *set) {
            self.set.store(Arc::new(set));
            let next = self.changes.load(Relaxed).wrapping_add(1).max(1);
            self.changes.store(next, Release);
        }
        self.asked.store(1, Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_set_stays_and_only_changes_count() {
        let address = |port| SocketAddr::from(([10, 0, 0, 1], port));
        let addresses = Addresses::new(Arc::default());
        assert!(!addresses.is_asked());
        addresses.found(None);
        assert!(addresses.is_asked() && addresses.get().is_empty());
        let before = addresses.version();
        addresses.found(Some(vec![address(1)]));
        let after = addresses.version();
        assert_ne!(before, after);
        addresses.found(Some(vec![address(1)]));
        addresses.found(None);
        assert_eq!((addresses.version(), &*addresses.get()), (after, &vec![address(1)]));
    }
}
