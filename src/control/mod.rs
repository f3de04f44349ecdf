//! The only writer: everything that changes the plan goes through one task in this room.
//!
//! The file watcher, SIGHUP, the admin API and the command line send a [`Command`]; the controller
//! compiles, persists, publishes, audits and answers with the generation. It must never touch a
//! request, and the data plane serves on when it stops.

pub mod absent;
pub mod acts;
mod ahead;
pub mod audit;
mod batch;
pub mod boot;
mod breakers;
mod by_hand;
mod certified;
pub mod checks;
pub mod command;
mod conduct;
pub mod controller;
mod deliver;
pub mod differences;
mod drain;
pub mod earlier;
pub mod flips;
pub mod health;
pub mod load;
pub mod meters;
pub mod notices;
pub mod objectives;
pub mod order;
pub mod outbox;
pub mod past;
pub mod publisher;
pub mod putback;
pub mod refusal;
pub mod regular;
mod reload;
pub mod report;
mod rest;
pub mod rollouts;
pub mod secret;
pub mod start;
pub mod store;
pub mod ticker;
pub mod watch;
mod weights;
mod witness;
pub mod writer;

pub use boot::{Booted, Refused, boot, rehearse};
pub use command::{
    BreakerAsk, BreakerDone, By, Changed, Command, ControlHandle, DrainAsk, Expected, FlipAsk, ReloadDone,
    RolloutAsk, WeightsDone,
};
pub use health::{Health, Phase, Readiness};
pub use load::{Loaded, environment};
pub use meters::Meters;
pub use publisher::Publisher;
pub use refusal::{Refusal, RefusalKind, find};
pub use report::{Attempt, Report};
pub use rest::Resting;
pub use rollouts::RolloutReport;
pub use rollouts::report::Conducted;
pub use start::{Options, Running, start};

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::time::{Clock, UnixMillis};

/// The machine's wall clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
