//! What to do about what the analyzer says: a rollout as data, and one function that moves it.
//!
//! [`transition`] takes a [`Rollout`], its policy, one [`Event`] and the [`Scene`] of the moment, and
//! gives the next rollout with the [`Move`]s that make it true, or a [`Refused`]. It must never read
//! a clock, draw a random number or do a move itself.

pub mod clocks;
pub mod dora;
pub mod event;
pub mod failing;
pub mod flip;
mod forward;
mod gates;
mod harm;
mod invariants;
pub mod moves;
mod recorded;
pub mod recovery;
mod reload;
pub mod state;
mod tick;
pub mod transition;
mod turn;
mod verbs;
pub mod windows;

pub use event::{By, CheckWord, Event, HookAnswer, Scene, Verb, in_order};
pub use failing::{Failing, Suffered};
pub use harm::digits;
pub use moves::{Move, Order, Outcome, Record, Refused};
pub use state::{Hold, Identity, PauseCause, Phase, Rollout, Scheme, Share};
pub use transition::{bake_share, transition};

#[cfg(test)]
mod tests;
