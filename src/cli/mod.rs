//! The command line: its verbs, their arguments, and what they print.
//!
//! Local verbs (check, explain, diff, schema, simulate) live here and touch nothing but files and the
//! streams they are handed; remote verbs speak to a running proxy; `run` and `demo` are only
//! described here and executed by the composition root. It must never decide anything about
//! traffic itself: every answer comes from the code that serves it.

mod breaker;
pub mod check;
pub mod completions;
mod config;
pub mod diff;
mod differences;
pub mod explain;
pub mod files;
pub mod flip;
mod logged;
mod look;
mod mirror_text;
mod plan_text;
mod postmortem;
mod record;
pub mod remote;
mod remote_text;
pub mod rollout;
mod rollout_text;
pub mod schema;
pub mod simulate;
pub mod status;
mod status_text;
mod steering_text;
mod stop;
mod track;
mod trouble_text;
pub mod verbs;
pub mod why;

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "switchback",
    version,
    about = "Splits traffic between versions of a service, keeps users where they are, and counts what happened",
    after_help = "Exit codes: 0 ok, 1 refused, 2 usage or cannot start; `rollout wait`: 3 put back, 4 undecided.",
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// One verb.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve a configuration until told to stop
    Run(RunArgs),
    /// Start two small origins, a proxy and users: a good version is promoted, two bad ones are put back
    Demo(DemoArgs),
    /// A verb that needs only files.
    #[command(flatten)]
    Local(Local),
    /// A verb that asks a running proxy.
    #[command(flatten)]
    Remote(Remote),
}

/// Verbs that need only files.
#[derive(Debug, Subcommand)]
pub enum Local {
    /// Load configurations as `run` would and report every finding
    Check(check::CheckArgs),
    /// Say which route and arm a request would get, and why
    Explain(explain::ExplainArgs),
    /// Say what changes between two configurations and how many users it moves
    Diff(diff::DiffArgs),
    /// Print the JSON Schema of a configuration file
    Schema,
    /// Judge recorded counts, or simulated traffic, as a live rollout would be judged
    Simulate(simulate::SimulateArgs),
    /// Print a shell's completions: `source <(switchback completions bash)`
    Completions(completions::CompletionsArgs),
    /// Print the manual page of the program or of a verb: `switchback man | man -l -`
    Man(completions::ManArgs),
}

/// Verbs that ask a running proxy.
#[derive(Debug, Subcommand)]
pub enum Remote {
    /// Show routes, weights, rates and errors
    Status(status::StatusArgs),
    /// Set the weights of a route's arms, or return to the file's
    Weights(verbs::WeightsArgs),
    /// Give an arm no new users while those pinned to it stay
    Drain(verbs::DrainArgs),
    /// Send everything to the other slot of a blue-green route, or back
    Flip(flip::FlipArgs),
    /// Stop asking an upstream, or ask it again
    Breaker(breaker::BreakerArgs),
    /// Move a rollout, wait for its end, or look at its plan
    #[command(subcommand)]
    Rollout(rollout::RolloutCommand),
    /// Show what was decided about rollouts, and why
    History(rollout::HistoryArgs),
    /// Show what mirrored requests were answered differently
    Differences(differences::DifferencesArgs),
    /// Load the configuration again
    Reload(verbs::ReloadArgs),
    /// Show which configurations served before, or go back to one
    #[command(subcommand)]
    Config(config::ConfigCommand),
}

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A file, or a folder whose *.yaml files make up one configuration
    #[arg(short, long, value_name = "PATH")]
    pub config: PathBuf,
}

/// Arguments of `demo`.
#[derive(Clone, Copy, Debug, Args)]
pub struct DemoArgs {
    /// Keep everything running after the show, until interrupted
    #[arg(long)]
    pub stay: bool,
}

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Refused: the configuration or the request is at fault.
    Refused = 1,
    /// Usage, or a file that cannot be read.
    Usage = 2,
    /// The rollout was reverted, aborted or replaced.
    PutBack = 3,
    /// The rollout was not decided in time.
    Undecided = 4,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Where a verb writes: results to one stream, findings to the other.
pub struct Streams<'a> {
    /// Results.
    pub out: &'a mut dyn Write,
    /// Findings and failures.
    pub err: &'a mut dyn Write,
    /// Whether findings may be coloured.
    pub colour: bool,
}

impl Local {
    /// Runs the verb.
    ///
    /// # Errors
    /// Only when a stream cannot be written to.
    pub fn run(&self, streams: &mut Streams<'_>) -> io::Result<Exit> {
        match self {
            Self::Check(args) => check::run(args, streams),
            Self::Explain(args) => explain::run(args, streams),
            Self::Diff(args) => diff::run(args, streams),
            Self::Schema => schema::run(streams),
            Self::Simulate(args) => simulate::run(args, streams),
            Self::Completions(args) => completions::completions(*args, streams),
            Self::Man(args) => completions::man(args, streams),
        }
    }

    /// Runs the verb on the process's own streams. A reader that went away is no failure.
    #[must_use]
    pub fn run_here(&self) -> Exit {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        let colour = err.is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let result = self.run(&mut Streams { out: &mut out, err: &mut err, colour });
        result.unwrap_or_else(
            |error| {
                if error.kind() == io::ErrorKind::BrokenPipe { Exit::Ok } else { Exit::Usage }
            },
        )
    }
}

impl Remote {
    /// Asks the proxy.
    #[must_use]
    pub fn run(&self) -> Exit {
        match self {
            Self::Status(args) => status::status(args),
            Self::Weights(args) => verbs::weights(args),
            Self::Drain(args) => verbs::drain(args),
            Self::Flip(args) => flip::flip(args),
            Self::Breaker(args) => breaker::breaker(args),
            Self::Rollout(command) => command.run(),
            Self::History(args) => rollout::history(args),
            Self::Differences(args) => differences::run(args),
            Self::Reload(args) => verbs::reload(args),
            Self::Config(command) => command.run(),
        }
    }
}

#[cfg(test)]
mod tests;
