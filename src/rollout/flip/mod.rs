//! An exchange of two slots as data, and what can happen to it.
//!
//! One slot serves, the other is idle. A flip is asked for, the idle slot is tried, everything goes to
//! it, it is watched, and it goes back by itself when it harms. [`step`] moves it; it must never read a
//! clock or do a move itself.

mod invariants;
mod step;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::event::By;
use super::moves::{Notice, Order, Record};
use super::state::Reason;
use crate::analysis::thresholds::Limits;
use crate::analysis::verify::{Left, Verifier};
use crate::model::time::UnixMillis;

pub use step::step;

/// Where it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Phase {
    /// One slot serves, and nothing is under way.
    #[default]
    Steady,
    /// The idle slot is tried before it serves.
    Smoke,
    /// The slots were exchanged, and the new one is watched.
    Verifying,
    /// The new slot was harmful: the old one serves again.
    FlippedBack,
}

impl Phase {
    /// As the API and the metric name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "STEADY",
            Self::Smoke => "SMOKE",
            Self::Verifying => "VERIFYING",
            Self::FlippedBack => "FLIPPED_BACK",
        }
    }

    /// Whether something is under way.
    #[must_use]
    pub const fn is_busy(self) -> bool {
        matches!(self, Self::Smoke | Self::Verifying)
    }
}

/// The slots of one route: everything that must be known to go on after a restart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Flip {
    /// The slot that serves.
    pub active: String,
    /// The other one.
    pub idle: String,
    /// Whether the idle one served before, so that there is a way back to it.
    pub way_back: bool,
    /// Where it is.
    pub phase: Phase,
    /// Number of the last flip that was asked for.
    pub run: u64,
    /// Number of the last record.
    pub seq: u64,
    /// Why it is where it is.
    pub reason: Reason,
    /// When the last flip was asked for, in wall-clock milliseconds.
    pub started_at_millis: u64,
    /// How long the new slot has been watched, in milliseconds.
    pub watched_ms: u64,
    /// What was seen of it, while it is watched.
    pub verifier: Option<Verifier>,
    /// How much longer what runs on the idle slot may take, in milliseconds; `None` once nothing does,
    /// 0 from the moment its tunnels were closed.
    pub drain_ms: Option<u64>,
    /// That the way back is closed was told.
    pub told_closed: bool,
    /// The monotonic time of the last second, in this process.
    #[serde(skip)]
    pub at: Option<u64>,
}

impl Flip {
    /// Two slots of which nothing is known yet.
    #[must_use]
    pub fn new(active: &str, idle: &str) -> Self {
        Self { active: active.to_owned(), idle: idle.to_owned(), ..Self::default() }
    }
}

/// What the file says of a flip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules<'a> {
    /// How long the new slot is watched, in milliseconds; 0 is not at all.
    pub verify_ms: u64,
    /// Fixed limits of that time.
    pub limits: Option<&'a Limits>,
    /// How long tunnels of the old slot may stay, in milliseconds.
    pub drain_ms: u64,
}

/// What is true at the moment and will not be remembered.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Scene {
    /// Milliseconds on a clock that never goes back within a process.
    pub monotonic: u64,
    /// The wall clock.
    pub wall: UnixMillis,
    /// The idle slot has an endpoint with an address.
    pub idle_alive: bool,
    /// A rollout moves these two slots.
    pub rollout_live: bool,
    /// What the active slot left in its last minute.
    pub before: Left,
}

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody asks for a flip.
    Asked {
        /// To the slot that served before.
        back: bool,
        /// Whether or not anybody answers there.
        force: bool,
        /// Who and why.
        by: By,
    },
    /// The idle slot was tried.
    Smoked {
        /// For which flip.
        run: u64,
        /// What was wrong: a code and a sentence.
        failed: Option<(&'static str, String)>,
        /// Who asked, and why.
        by: By,
    },
    /// A second passed.
    Second {
        /// On the analyzer's clock.
        second: u64,
        /// What the active slot left in it.
        left: Left,
        /// Requests and tunnels of the idle slot.
        in_flight: u64,
    },
    /// A person set the weights.
    Weights(By),
    /// A rollout gave everything to the idle slot.
    Promoted,
    /// The process began again.
    Restarted,
}

/// Something to be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Move {
    /// Write it down, before or after the plan follows.
    Persist(Order),
    /// This slot serves from now on; weights set by hand are dropped.
    SetActive(String),
    /// Try the idle slot, and say how it went.
    Smoke,
    /// Close the tunnels of this slot.
    EndTunnels(String),
    /// Tell people.
    Notify(Notice),
    /// Keep a decision.
    Record(Box<Record>),
}

/// What comes of an event.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The slots from now on.
    pub next: Flip,
    /// What makes it true, in order.
    pub moves: Vec<Move>,
}

impl Outcome {
    /// The slot that serves from now on, when that is another one.
    #[must_use]
    pub fn active(&self) -> Option<&str> {
        self.moves.iter().find_map(|one| match one {
            Move::SetActive(slot) => Some(slot.as_str()),
            _ => None,
        })
    }
}

/// Whose notes go into a record.
fn notes(by: Option<&By>) -> BTreeMap<String, String> {
    by.map(|by| by.annotations.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
