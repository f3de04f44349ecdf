//! Who gets which arm: frozen hash, buckets, overrides, [`Choice`].
//!
//! Pure: the same key, salt and weights give the same arm on every machine and in every version of
//! this program. It must never read a clock or draw entropy by itself, and never depend on the
//! order in which arms were written.

pub mod bucket;
pub mod choose;
pub mod condition;
pub mod key;
pub mod pin;
pub mod ranges;

pub use bucket::{BUCKETS, Salt};
pub use choose::{ArmState, Choice, Override, Segment, Split};
pub use condition::{Condition, Subject, Test};
pub use key::{IssueCookie, KeySource};
pub use pin::{Pin, PinArm, PinKeys};
pub use ranges::{Claim, Ranges};

#[cfg(test)]
mod tests;
