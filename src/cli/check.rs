//! `check`: load configurations as `run` would and report every finding.
//!
//! It must never accept what `run` refuses, nor bind, connect or write.

use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::files::{self, Failed, Opened};
use super::{Exit, Streams};
use crate::model::Diagnostic;
use crate::plan::filter::Answer;
use crate::plan::{Plan, Route};
use crate::spec::Source;
use crate::spec::render::render;

/// Arguments of `check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Files or folders, or - for standard input; each is a configuration of its own
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// How findings are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// `{"ok": bool, "diagnostics": [...]}` over all paths.
    Json,
}

/// Checks every path: 0 when all load, 1 when one is refused, 2 when one cannot be read.
///
/// # Errors
/// Only when a stream cannot be written to.
pub fn run(args: &CheckArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let mut exit = Exit::Ok;
    let mut diagnostics = Vec::new();
    for path in &args.paths {
        let opened = files::open(path);
        exit = exit.max(opened.as_ref().map_or_else(exit_of, |_| Exit::Ok));
        if args.format == Format::Json {
            diagnostics.extend(match opened {
                Ok(opened) => opened.compiled.warnings,
                Err(failed) => failed.findings,
            });
            continue;
        }
        match opened {
            Ok(opened) => {
                findings(&opened.compiled.warnings, &opened.sources, streams)?;
                streams.out.write_all(summary(&opened).as_bytes())?;
            }
            Err(failed) => findings(&failed.findings, &failed.sources, streams)?,
        }
    }
    if args.format == Format::Json {
        let report = json!({ "ok": exit == Exit::Ok, "diagnostics": diagnostics });
        writeln!(streams.out, "{report:#}")?;
    }
    Ok(exit)
}

/// The exit code of a configuration that did not load.
#[must_use]
pub fn exit_of(failed: &Failed) -> Exit {
    if failed.unreadable { Exit::Usage } else { Exit::Refused }
}

/// Draws findings on the error stream.
///
/// # Errors
/// Only when the stream cannot be written to.
pub fn findings(list: &[Diagnostic], sources: &[Source], streams: &mut Streams<'_>) -> io::Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    writeln!(streams.err, "{}\n", render(list, sources, streams.colour))
}

/// What was loaded: counts, then one line per route.
fn summary(opened: &Opened) -> String {
    let Plan { routes, upstreams, listeners, .. } = &opened.compiled.plan;
    let mut text = format!(
        "ok: {}, {}, {}\n",
        count(listeners.len(), "listener"),
        count(routes.len(), "route"),
        count(upstreams.len(), "upstream")
    );
    for route in routes {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{}: {}", route.name, shares(route));
    }
    text
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// Where a route's traffic goes, the default arm first: `stable 95.00 % [500-9999], …`.
#[must_use]
pub fn shares(route: &Route) -> String {
    match &route.filters.answer {
        Some(Answer::Redirect(redirect)) => return format!("redirects with {}", redirect.status.as_u16()),
        Some(Answer::Respond(respond)) => return format!("responds {}", respond.status.as_u16()),
        None => {}
    }
    let owned = route.bucket_ranges();
    let mut arms: Vec<_> = route.arms.iter().enumerate().collect();
    arms.sort_by_key(|(index, _)| *index != route.default_arm.at());
    let share = |name: &str| {
        let ranges = owned.iter().filter(|(arm, _, _)| *arm == name);
        let buckets: u32 = ranges.clone().map(|(_, first, last)| u32::from(last - first) + 1).sum();
        let spans: Vec<String> = ranges.map(|(_, first, last)| format!("{first}-{last}")).collect();
        let spans = if spans.is_empty() { String::new() } else { format!(" [{}]", spans.join(" ")) };
        format!("{name} {:.2} %{spans}", f64::from(buckets) / 100.0)
    };
    arms.into_iter().map(|(_, arm)| share(&arm.name)).collect::<Vec<_>>().join(", ")
}
