//! Is the canary harmful? Counts in, verdicts out: the evidence, the rules and the policy.
//!
//! [`Analyzer::tick`] takes what one second left and gives a [`Finding`]. Formulas, derivations and
//! measured error rates are beside each rule. It must never read a clock, draw a random number or
//! move a weight: the same counts give the same verdicts, live, recorded or simulated.

pub mod behaviour;
pub mod bins;
mod compile;

pub mod counts;
pub mod differences;
pub mod effect;
pub mod evidence;
pub mod finding;
pub mod forecast;
pub mod guard;
pub mod holdback;
pub mod judge;
pub mod latency;
pub mod logs;
pub mod mixture;
pub mod policy;
pub mod power;
pub mod recording;
pub mod shadow;
pub mod slo;
mod slots;
pub mod srm;
pub mod thresholds;
pub mod verify;

pub use bins::Bins;
pub use compile::unknown_zones;
pub use counts::{ArmCounts, Tick};
pub use finding::{Finding, Rule, Verdict, Waiting};
pub use judge::Analyzer;
pub use policy::{Policy, Preset};

#[cfg(test)]
mod tests;
