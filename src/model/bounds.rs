//! Bounds that nobody can set and that several rooms must know: who holds to them, and who shows them.
//!
//! A bound that one room alone holds to and shows stays in that room. It must never hold what a
//! configuration can change.

/// Interim answers (1xx) of an origin to one request; one more breaks the exchange.
pub const INTERIMS: u32 = 32;
/// Copies of requests that one worker has under way; one more is dropped.
pub const COPIES: u32 = 256;
/// Probes that the process has under way; one more waits.
pub const PROBES: usize = 64;
