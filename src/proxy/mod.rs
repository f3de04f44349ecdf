//! The request path: one straight line from a request head to a recorded outcome.
//!
//! Read [`handle::handle`] first. Nothing here locks, logs, or allocates for a feature that is off;
//! nothing here knows the control plane.

pub mod again;
pub mod body;
pub mod compared;
pub mod dress;
pub mod error;
pub mod exchange;
pub mod forward;
pub mod forwarded;
pub mod grpc;
mod guard;
pub mod handle;
pub mod head;
pub mod host;
pub mod identity;
pub mod logged;
pub mod mirror;
pub mod rate;
pub mod respond;
pub mod spans;
pub mod trace;
pub mod tunnel;
pub mod tunnels;
pub mod worker;

pub use body::Body;
pub use handle::handle;
pub use worker::Worker;
