//! The words every other room shares: plain data, no behaviour that could surprise.
//!
//! It exists so that layers can talk without importing one another. It must never do I/O, read a
//! clock, or depend on any other module of this crate.

pub mod bounds;
pub mod client;
pub mod compared;
pub mod diagnostic;
pub mod explained;
pub mod head;
pub mod ids;
pub mod log;
pub mod names;
pub mod outcome;
pub mod overlay;
pub mod secured;
pub mod shadow;
pub mod span;
pub mod time;
pub mod trailers;

pub use client::Client;
pub use compared::{BodyRule, CompareRules, PathStep};
pub use diagnostic::{Diagnostic, Place, Severity};
pub use explained::{Explained, Range};
pub use head::RequestHead;
pub use ids::{ArmIx, EndpointId, Generation, WorkerId};
pub use outcome::{
    Cause, ChoiceReason, CodeClass, DeniedReason, FailureReason, HandshakeReason, MethodClass, Outcome,
    RejectReason, RetryReason, ShadowResult, UnroutedReason, Verdict,
};
pub use overlay::{Compared, Guided, Overlay, Provenance, RouteOverlay, SlotOverlay};
pub use shadow::{Heard, Pair, PairSink};
