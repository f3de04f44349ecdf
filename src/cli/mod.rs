//! The command line.
pub mod remote;
