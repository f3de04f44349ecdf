//! The program's own log: one line per event, to standard error.
//!
//! It must never be written to once per request.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Variable that says what is logged, in `tracing` directives; default `info`.
pub const VARIABLE: &str = "SWITCHBACK_LOG";

/// What is logged unless said otherwise. Libraries of the protocols write a line for what a peer does
/// wrong, as often as it does it.
const DEFAULT: &str = "info,h2=off,hyper=off,hickory_net=off";

/// Starts logging; later calls in the same process change nothing.
pub fn init() {
    let filter = EnvFilter::try_from_env(VARIABLE).unwrap_or_else(|_| EnvFilter::new(DEFAULT));
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(false)
        .try_init();
    // A test that starts several instances has one log.
    drop(started);
}
