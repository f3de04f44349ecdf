//! `config history` and `config rollback`: what served before, and the way back to it.
//!
//! It must never touch the file: whoever writes it would write over it.

use clap::{Args, Subcommand};
use humantime::format_rfc3339_seconds;

use super::Exit;
use super::remote::{AdminArgs, Outcome, Remote, finish, pretty};
use super::remote_text::{self, add, clean};
use super::why::Why;
use crate::wire;

/// What to do with configurations that were in force.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show which configurations were in force since the start, and what each changed
    History(HistoryArgs),
    /// Serve an earlier one until the file changes or is loaded on purpose; the file is not touched
    Rollback(RollbackArgs),
}

/// Arguments of `config history`.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `config rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// A generation of `config history`
    pub generation: u64,
    /// Why.
    #[command(flatten)]
    pub why: Why,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

impl ConfigCommand {
    /// Asks the proxy.
    #[must_use]
    pub fn run(&self) -> Exit {
        finish(match self {
            Self::History(args) => Remote::open(&args.admin).and_then(|remote| history(&remote, args)),
            Self::Rollback(args) => Remote::open(&args.admin).and_then(|remote| rollback(&remote, args)),
        })
    }
}

fn history(remote: &Remote, args: &HistoryArgs) -> Outcome {
    let known: wire::ConfigHistory = remote.get("/api/v1/config/history")?;
    if args.admin.json { pretty(&known) } else { Ok(told(&known)) }
}

fn rollback(remote: &Remote, args: &RollbackArgs) -> Outcome {
    let request = args.why.asked(wire::Rollback { generation: args.generation });
    let done: wire::Reloaded = remote.post("/api/v1/config/rollback", &request, "*")?;
    if args.admin.json { pretty(&done) } else { Ok(remote_text::reload(&done)) }
}

/// Newest first, as a log is read.
fn told(known: &wire::ConfigHistory) -> String {
    let mut text = String::new();
    for (at, entry) in known.entries.iter().rev().enumerate() {
        let when = std::time::UNIX_EPOCH + std::time::Duration::from_millis(entry.at_millis);
        let back = entry.back_to.map(|to| format!(", back to {to}")).unwrap_or_default();
        let reason =
            if entry.reason.is_empty() { String::new() } else { format!(": {}", clean(&entry.reason)) };
        let now = if at == 0 { "  in force" } else { "" };
        add(
            &mut text,
            format_args!(
                "generation {}  {}  {}{back}{reason}{now}\n",
                entry.generation,
                format_rfc3339_seconds(when),
                clean(&entry.actor)
            ),
        );
        entry.changes.iter().for_each(|change| add(&mut text, format_args!("  {}\n", clean(change))));
    }
    text
}
