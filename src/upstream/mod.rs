//! Talking to origins: one pool per endpoint and worker, no lock, no shared state.
//!
//! It exists because a shared pool costs a lock and an allocation per request. It must never decide
//! which endpoint or whether to try again: `proxy` does.

pub mod arrived;
pub mod buffers;
pub mod connect;
pub mod deadline;
pub mod destinations;
pub mod dns;
pub mod gate;
pub mod h1;
pub mod h2;
pub mod open;
pub mod pool;
pub mod probe;
pub mod replay;
pub mod resolver;
pub mod shared;
pub mod stream;
pub mod tls;
pub mod upload;
pub mod watching;

pub use arrived::{Arrived, Broken, Tunnel};
pub use deadline::{Deadline, Deadlines, within, within_upload};
pub use gate::Purpose;
pub use pool::{Pool, Pools, Refused};
pub use replay::Replay;
pub use upload::{DRAIN_BYTES, RequestBody, Tap, Upload};
