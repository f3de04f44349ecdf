//! Certificates of our own listeners: read from files, checked as pairs, swapped while they serve.
//!
//! They live outside the plan, because files change on their own. What cannot be used never replaces
//! what can, and no listener that was told to encrypt ever serves in the clear. It must never show a
//! key, in an error either.

pub mod identity;
mod keeper;
mod pair;
mod picker;

pub use keeper::{Certificates, Held, Look, folders};
pub use picker::Served;
