//! Who may be asked: what probes and outcomes say of endpoints, and the breakers of upstreams.
//!
//! Decisions are pure: a machine is fed with results, counts and a time, and one word of it is all
//! that workers read. Kept in the book, so that a reload forgets nothing. A worker must never wait
//! for it: the locks here are the control plane's alone.

mod book;
pub mod breaker;
mod crowd;
pub mod endpoint;
mod outlier;
mod probed;
pub mod upstream;

pub(super) use book::Guards;
pub use breaker::{BreakerCell, BreakerRules, Opened};
pub use crowd::Went;
pub use endpoint::{EndpointGuard, FULL};
pub use outlier::{OutlierRules, TRIALS};
pub use probed::ProbeRules;
pub use upstream::{Rules, Told, UpstreamGuard};

/// Monotonic milliseconds since some moment of the process.
pub type Millis = u64;
