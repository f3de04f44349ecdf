//! How what goes on until somebody ends it is ended: by an interrupt, a signal to end, or a terminal
//! that went away.
//!
//! It must never let a signal cut short what is being written.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::remote::Remote;

/// Somebody wants it to end.
pub(super) struct Stop([Signal; 3], Signal);

impl Stop {
    pub(super) fn new(remote: &Remote) -> io::Result<Self> {
        let _inside = remote.runtime.enter();
        let ends = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = ends.map(signal);
        Ok(Self([interrupt?, terminate?, hangup?], signal(SignalKind::window_change())?))
    }

    /// Waits, until the terminal has another size at most; whether it was interrupted before or meanwhile.
    pub(super) fn within(&mut self, remote: &Remote, time: Duration) -> bool {
        let Self([interrupt, terminate, hangup], resized) = self;
        remote.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = hangup.recv() => true,
                _ = resized.recv() => false,
                () = tokio::time::sleep(time) => false,
            }
        })
    }
}
