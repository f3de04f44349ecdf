//! Waiting for a condition instead of for a time.
//!
//! A busy machine stretches every duration, so tests say what must become true and give it a
//! generous limit. Nothing here may assert that something happened quickly.

use std::time::{Duration, Instant};

/// Long enough for a loaded two-core machine; only a failing test ever waits it out.
pub const PATIENCE: Duration = Duration::from_secs(30);

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// Polls until `condition` holds; panics with `what` when the deadline passes first.
#[track_caller]
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    assert!(becomes_true(PATIENCE, &mut condition), "after {PATIENCE:?} still not true: {what}");
}

/// Polls until `condition` holds, or says that it did not within the limit.
pub fn becomes_true(limit: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
