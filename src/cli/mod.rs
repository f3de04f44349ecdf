//! The command line: its verbs, their arguments, and what they print.

pub mod remote;
mod remote_text;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Refused: the configuration or the request is at fault.
    Refused = 1,
    /// Usage, or a file that cannot be read.
    Usage = 2,
}
