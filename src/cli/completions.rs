//! `completions` and `man`: what a shell and a reader of manuals want to know of the command line.
//!
//! Both are made from the very definition that is parsed. They must never be written by hand.

use std::io;

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Exit, Streams};

/// Arguments of `completions`.
#[derive(Clone, Copy, Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// Arguments of `man`.
#[derive(Clone, Debug, Args)]
pub struct ManArgs {
    /// The page of this verb, such as `rollout wait`; default: that of the program
    pub verb: Vec<String>,
}

/// Prints the script that a shell sources.
///
/// # Errors
/// When it cannot be written.
pub fn completions(args: CompletionsArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "switchback", &mut script);
    streams.out.write_all(&script)?;
    Ok(Exit::Ok)
}

/// Prints a page in roff, as `man -l -` shows it.
///
/// # Errors
/// When it cannot be written.
pub fn man(args: &ManArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut command = Cli::command();
    command.build();
    for verb in &args.verb {
        let Some(below) = command.find_subcommand(verb).cloned() else {
            let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
            let known = if verbs.is_empty() { "it has none".to_owned() } else { verbs.join(", ") };
            writeln!(streams.err, "error: `{}` has no verb `{verb}`: {known}", command.get_name())?;
            return Ok(Exit::Usage);
        };
        command = below;
    }
    clap_mangen::Man::new(command).render(&mut streams.out)?;
    Ok(Exit::Ok)
}
