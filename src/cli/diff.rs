//! `diff`: what changes between two configurations, and how many users it moves.
//!
//! It must never compare text: both sides are compiled.

use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::check::{exit_of, findings};
use super::files;
use super::{Exit, Streams};
use crate::plan::diff::{Change, diff};

/// Arguments of `diff`.
#[derive(Clone, Debug, Args)]
pub struct DiffArgs {
    /// The configuration in force: a file or a folder
    pub old: PathBuf,
    /// The configuration that may follow
    pub new: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Compares two configurations: 0 whether or not they differ, 1 when one is refused.
///
/// # Errors
/// Only when a stream cannot be written to.
pub fn run(args: &DiffArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut plans = Vec::with_capacity(2);
    for path in [&args.old, &args.new] {
        match files::open(path) {
            Ok(opened) => plans.push(opened.compiled.plan),
            Err(failed) => {
                findings(&failed.findings, &failed.sources, streams)?;
                return Ok(exit_of(&failed));
            }
        }
    }
    let [old, new] = &plans[..] else { return Ok(Exit::Usage) };
    let changes = diff(old, new);
    if args.json {
        let rows: Vec<_> = changes.iter().map(row).collect();
        writeln!(streams.out, "{:#}", json!({ "changes": rows }))?;
        return Ok(Exit::Ok);
    }
    if changes.is_empty() {
        writeln!(streams.out, "no change")?;
    }
    for change in &changes {
        writeln!(streams.out, "{}", line(change))?;
        if change.excessive {
            writeln!(
                streams.err,
                "warning: route `{}`: this edit moves more users than the new weights demand; keep salt, \
                 sticky keys, slots and the default arm to move only those",
                change.route
            )?;
        }
    }
    Ok(Exit::Ok)
}

fn line(change: &Change) -> String {
    let subject = if change.route.is_empty() { String::new() } else { format!("route {}: ", change.route) };
    let moved = if change.moved_percent > 0.0 {
        format!("; {:.2} % of sticky users change arm", change.moved_percent)
    } else {
        String::new()
    };
    format!("{subject}{}{moved}", change.text)
}

fn row(change: &Change) -> serde_json::Value {
    json!({
        "route": change.route,
        "text": change.text,
        "movedPercent": change.moved_percent,
        "excessive": change.excessive,
    })
}
