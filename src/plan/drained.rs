//! How long what is left of a drained arm may stay.
//!
//! It exists so that whoever shows it and whoever ends it mean the same moment. It must never read a
//! clock.

use super::{Arm, Route};

/// How long tunnels of a drained arm stay at least, in milliseconds, where the route says nothing.
const TUNNELS_MILLIS: u64 = 60_000;

/// A drain that is in force; moments in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drain {
    /// When it began.
    pub since: u64,
    /// When the last pin is over; `None` on a route without pins.
    pub pins_until: Option<u64>,
    /// When tunnels that are still open are closed.
    pub tunnels_until: u64,
}

impl Drain {
    /// Whether nothing is left at `now`, where the arm has so many requests and tunnels.
    #[must_use]
    pub fn is_over(&self, running: u64, now: u64) -> bool {
        running == 0 && self.pins_until.is_none_or(|until| until <= now)
    }
}

impl Route {
    /// How long tunnels of an arm that is put back or drained stay, in milliseconds.
    #[must_use]
    pub fn tunnels_stay(&self) -> u64 {
        let written =
            self.flip.as_ref().map(|rules| u64::try_from(rules.drain.as_millis()).unwrap_or(u64::MAX));
        written.unwrap_or(TUNNELS_MILLIS)
    }

    /// The drain of one of its arms, if it is drained. Who is pinned keeps a tunnel as long as the pin.
    #[must_use]
    pub fn drain(&self, arm: &Arm) -> Option<Drain> {
        let since = arm.draining?;
        let pins_until =
            self.split.pin.as_ref().map(|pin| since.saturating_add(pin.max_age_secs().saturating_mul(1_000)));
        let least = since.saturating_add(self.tunnels_stay());
        Some(Drain { since, pins_until, tunnels_until: pins_until.map_or(least, |until| until.max(least)) })
    }
}
