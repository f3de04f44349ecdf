//! The composition root: the only room that sees every other one.
//!
//! It turns a verb into a running program. It must never hold logic of its own beyond putting
//! parts together.

mod activation;
mod certificates;
pub mod demo;
pub mod life;
mod notify;
mod owner;
pub mod run;
mod sinks;
pub mod sockets;
mod unshaken;
pub mod upgrade;
pub mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, Exit};

/// Runs the command line to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => life::until_told(&args.config),
        Command::Demo(args) => demo::play(args.stay).map(|good| if good { Exit::Ok } else { Exit::Refused }),
        Command::Local(verb) => Ok(verb.run_here()),
        Command::Remote(verb) => Ok(verb.run()),
    };
    outcome
        .unwrap_or_else(|error| {
            eprintln!("switchback: {error}");
            Exit::Usage
        })
        .into()
}
