//! Talking to origins: one pool per endpoint and worker, no lock, no shared state.
//!
//! It exists because a shared pool costs a lock and an allocation per request. It must never decide
//! which endpoint or whether to try again: `proxy` does.

pub mod connect;
pub mod deadline;
pub mod dns;
pub mod h2;
pub mod pool;

pub use deadline::{Deadline, Deadlines, within};
pub use pool::{Lease, Pool, Pools, Refused, RequestBody, Sent, Upload};
