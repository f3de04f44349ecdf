//! Connections that never came to a request, in the log: why, now and then, and how many were not told.
//!
//! Whoever can connect can cause one, so that there is a line of each reason once in ten seconds and no
//! more. It must never hold a line back for want of time, nor repeat what a client sent.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use crate::model::HandshakeReason;
use crate::model::time::Tick;

/// Time between two lines of one reason, of one worker.
const EVERY: Duration = Duration::from_secs(10);

/// What one worker told last.
#[derive(Debug, Default)]
pub struct Unshaken {
    reasons: [Cell<Told>; HandshakeReason::COUNT],
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    /// When there was a line; `None` is never.
    last: Option<Tick>,
    /// How many had none since.
    untold: u64,
}

impl Unshaken {
    /// Tells of one, if it is time for a line.
    pub fn tell(
        &self,
        listener: &str,
        peer: IpAddr,
        reason: HandshakeReason,
        said: Option<&io::Error>,
        now: Tick,
    ) {
        let Some(untold) = self.turn(reason, now) else { return };
        let said = said.map(ToString::to_string).unwrap_or_default();
        if is_everyday(reason) {
            tracing::debug!(listener, %peer, %reason, said, untold, "a connection ended before a request");
        } else {
            tracing::warn!(listener, %peer, %reason, said, untold, "a connection was refused before a request");
        }
    }

    /// Whether it is time for a line, and how many had none before it.
    fn turn(&self, reason: HandshakeReason, now: Tick) -> Option<u64> {
        let cell = self.reasons.get(reason.index())?;
        let told = cell.get();
        if told.last.is_some_and(|last| now < last.after(EVERY)) {
            cell.set(Told { untold: told.untold.saturating_add(1), ..told });
            return None;
        }
        cell.set(Told { last: Some(now), untold: 0 });
        Some(told.untold)
    }
}

/// What scanners and clients that change their mind do all day.
fn is_everyday(reason: HandshakeReason) -> bool {
    use HandshakeReason::{Closed, NotTls, Timeout};
    matches!(reason, Closed | NotTls | Timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::TICK_MILLIS;

    #[test]
    fn each_reason_has_a_line_in_ten_seconds_that_says_how_many_had_none() {
        let unshaken = Unshaken::default();
        let at = |seconds: u64| Tick(u32::try_from(seconds * 1000 / TICK_MILLIS).unwrap());
        let turn = |reason, seconds| unshaken.turn(reason, at(seconds));
        assert_eq!(turn(HandshakeReason::Certificate, 0), Some(0));
        for second in 1..10 {
            assert_eq!(turn(HandshakeReason::Certificate, second), None);
        }
        assert_eq!(turn(HandshakeReason::Protocol, 9), Some(0), "another reason");
        assert_eq!(turn(HandshakeReason::Certificate, 11), Some(9));
        assert_eq!(turn(HandshakeReason::Certificate, 40), Some(0));
    }
}
