//! How what goes on until somebody ends it is ended: by an interrupt, a signal to end, or a terminal
//! that went away.
//!
//! It must never let a signal cut short what is being written.

use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::remote::Remote;

/// Somebody wants it to end.
pub(super) struct Stop([Signal; 3]);

impl Stop {
    pub(super) fn new(remote: &Remote) -> io::Result<Self> {
        let _inside = remote.runtime.enter();
        Ok(Self([
            signal(SignalKind::interrupt())?,
            signal(SignalKind::terminate())?,
            signal(SignalKind::hangup())?,
        ]))
    }

    /// Waits; whether it was interrupted before or meanwhile.
    pub(super) fn within(&mut self, remote: &Remote, time: Duration) -> bool {
        let [interrupt, terminate, hangup] = &mut self.0;
        remote.runtime.block_on(async {
            tokio::select! {
                biased;
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = hangup.recv() => true,
                () = tokio::time::sleep(time) => false,
            }
        })
    }
}
