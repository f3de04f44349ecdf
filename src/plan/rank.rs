//! Precedence of matches as a type with an order (Gateway API, `HTTPRouteMatch`).
//!
//! The greatest rank wins. It must never be compared by anything but `Ord`.

use std::cmp::Reverse;

/// How specific a host pattern is: exact beats wildcard, longer beats shorter, none is least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HostRank {
    /// The route names no host.
    Any,
    /// `*.suffix`, with the suffix's length.
    Wildcard(usize),
    /// A whole name.
    Exact,
}

/// How specific a path pattern is: exact beats prefix, longer beats shorter, regex is least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathRank {
    /// A regular expression.
    Regex,
    /// Whole segments, with the prefix's length.
    Prefix(usize),
    /// The whole path.
    Exact,
}

/// The place of one match among all matches of all routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Written priority; beats everything.
    pub priority: i32,
    /// Host specificity.
    pub host: HostRank,
    /// Path specificity.
    pub path: PathRank,
    /// Whether a method is named.
    pub method: bool,
    /// Conditions on headers, cookies and the client's network.
    pub headers: usize,
    /// Conditions on query parameters.
    pub query: usize,
    /// Earlier in the file wins.
    pub order: Reverse<usize>,
}

impl Rank {
    /// Why a match with this rank won, in words.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut parts = Vec::new();
        if self.priority != 0 {
            parts.push(format!("priority {}", self.priority));
        }
        parts.push(match self.host {
            HostRank::Any => "any host".to_owned(),
            HostRank::Wildcard(_) => "wildcard host".to_owned(),
            HostRank::Exact => "exact host".to_owned(),
        });
        parts.push(match self.path {
            PathRank::Regex => "path regex".to_owned(),
            PathRank::Prefix(0) => "any path".to_owned(),
            PathRank::Prefix(length) => format!("path prefix of {length} characters"),
            PathRank::Exact => "exact path".to_owned(),
        });
        if self.method {
            parts.push("method".to_owned());
        }
        for (count, noun) in [(self.headers, "header condition"), (self.query, "query condition")] {
            if count > 0 {
                parts.push(format!("{count} {noun}{}", if count == 1 { "" } else { "s" }));
            }
        }
        parts.join(", ")
    }
}
