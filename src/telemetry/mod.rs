//! What the program tells the world about itself: /metrics, the access log, its own log.
//!
//! Numbers are read from the ledger, never counted here a second time. It must never block a
//! data-plane thread.

pub mod access_log;
pub mod certificates;
pub mod cold;
pub mod exposition;
pub mod guards;
pub mod line;
pub mod logging;
pub mod metrics;
pub mod otlp;
pub mod process;
pub mod spans;

pub use access_log::{AccessLog, Target};
pub use cold::Cold;
pub use metrics::{ArmSeries, Scrape};
pub use spans::Spans;
