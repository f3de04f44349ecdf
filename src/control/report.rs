//! How the configuration and the state are, for whoever shows it.
//!
//! Replaced as a whole by the controller; it must never be a second source for what the plan says.

use std::sync::Arc;

use super::earlier::Entry;
use crate::model::Diagnostic;
use crate::model::time::UnixMillis;

/// The last attempt to load the configuration.
#[derive(Clone, Debug, Default)]
pub struct Attempt {
    /// When.
    pub at: UnixMillis,
    /// What asked for it.
    pub actor: String,
    /// Whether it was accepted.
    pub ok: bool,
    /// Findings, warnings among them.
    pub diagnostics: Vec<Diagnostic>,
}

/// How the configuration and the state are.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Path given at the start.
    pub path: String,
    /// Files that make up the configuration in force.
    pub files: Vec<String>,
    /// The last attempt to load it.
    pub last: Attempt,
    /// Configurations that were in force, oldest first; the last one is.
    pub earlier: Arc<[Entry]>,
    /// Folder of the state.
    pub state_dir: String,
    /// `ok`, or what is wrong with it.
    pub state: String,
}
