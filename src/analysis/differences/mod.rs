//! Do two versions answer the same request alike? Pairs in; what differs, where and how often, out.
//!
//! [`compare()`] finds what differs in one pair, a [`Tally`] counts it by kind and path and says which
//! of it is noise: what differs between stable and itself. It must never hold an answer longer than
//! it compares it, show a secret, or grow with what origins send.

mod compare;
pub mod evidence;
pub mod path;
pub mod shown;
pub mod tally;

pub use compare::{Compared, compare};
pub use tally::{Differing, Paired, Report, Sample, Standing, Tally};

use serde::{Deserialize, Serialize};

/// What kind of difference it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The class of the status, or the gRPC status.
    Status,
    /// A header.
    Header,
    /// The bytes of the body.
    Body,
    /// Stable's JSON has it, the copy's has not.
    JsonMissing,
    /// The copy's JSON has it, stable's has not.
    JsonExtra,
    /// The same place holds another type.
    JsonType,
    /// The same place holds another value.
    JsonValue,
    /// An array has another length.
    Length,
}

impl Kind {
    /// Every kind, in the order of their names' importance.
    pub const ALL: [Self; 8] = [
        Self::Status,
        Self::Header,
        Self::Body,
        Self::JsonMissing,
        Self::JsonExtra,
        Self::JsonType,
        Self::JsonValue,
        Self::Length,
    ];

    /// As it is printed; a metric label.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Header => "header",
            Self::Body => "body",
            Self::JsonMissing => "json-missing",
            Self::JsonExtra => "json-extra",
            Self::JsonType => "json-type",
            Self::JsonValue => "json-value",
            Self::Length => "length",
        }
    }
}

/// One difference of a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What kind.
    pub kind: Kind,
    /// Where: classes of statuses, a header's name, or a path in the JSON; empty for a whole body.
    pub path: String,
    /// Stable's side, shortened and without secrets.
    pub primary: String,
    /// The copy's side, likewise.
    pub shadow: String,
}

#[cfg(test)]
mod tests;
