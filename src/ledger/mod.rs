//! Live numbers: per-worker cells of every arm, latency bins, and the book that carries them from
//! plan to plan.
//!
//! One [`Shard::record`] per exchange writes only memory of its own worker; readers sum. It must
//! never lock on the request path, and never hold a number twice: metrics, admin and analysis all
//! read these.

pub mod addresses;
pub mod bins;
pub mod book;
pub mod cell;
pub mod counter;
pub mod fair;
mod fresh;
pub mod guard;
pub mod holders;
pub mod limiter;
pub mod process;
pub mod recent;
pub mod samples;
pub mod shadow;
mod slots;
pub mod trial;
pub mod watch;

pub use addresses::Addresses;
pub use bins::{BinCounts, Bins};
pub use book::{Book, EndpointCell, Lane, RuleCell, UpstreamCell};
pub use cell::{Cell, Shard, Totals};
pub use counter::Counter;
pub use guard::{BreakerCell, EndpointGuard, UpstreamGuard};
pub use holders::Holders;
pub use process::ProcessCells;
pub use recent::{Recent, Seen};
pub use shadow::{MirrorBytes, ShadowCell};
pub use trial::Trial;
pub use watch::Watch;
