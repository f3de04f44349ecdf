//! Recorded counts through analyzer and state machine: each verdict, what it does, and why.
//!
//! The file is read twice, a line at a time: once to see that all of it can be read and how fast
//! traffic was, once to judge. It must never hold more than a line of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Value, json};

use super::follow::{Follow, Judged};
use crate::analysis::counts::{CountsError, MAX_LINE};
use crate::analysis::recording::{Entry, Reader, Told};
use crate::analysis::{Finding, Policy, Preset};
use crate::cli::check::{exit_of, findings};
use crate::cli::files::{self, Failed};
use crate::cli::rollout_text::against;
use crate::cli::{Exit, Streams};
use crate::model::Diagnostic;
use crate::spec::parse::guess;
use crate::wire;

/// Replays `counts` under the rollout of `route` in the configuration at `path`.
///
/// # Errors
/// Only when a stream cannot be written to.
pub(super) fn run(
    path: &Path,
    route: Option<&str>,
    counts: &Path,
    json: bool,
    streams: &mut Streams<'_>,
) -> io::Result<Exit> {
    let policy = match policy(path, route) {
        Ok(policy) => policy,
        Err(failed) => {
            findings(&failed.findings, &failed.sources, streams)?;
            return Ok(exit_of(&failed));
        }
    };
    let mut first = First::default();
    if let Err(why) = each(counts, |entry| first.look(&entry)) {
        return why.tell(counts, streams);
    }
    if first.span.is_none() {
        writeln!(streams.err, "switchback: {}: there are no counts in it", counts.display())?;
        return Ok(Exit::Refused);
    }
    let mut replay = Replay::new(&policy, &first, json);
    let mut lines = Ok(());
    let read = each(counts, |entry| {
        if lines.is_ok() {
            lines = replay.take(entry, streams);
        }
    });
    lines?;
    match read {
        Err(why) => why.tell(counts, streams),
        Ok(()) => replay.finish(streams).map(|()| Exit::Ok),
    }
}

/// The policy of the route, or of the only one that has a rollout.
fn policy(path: &Path, route: Option<&str>) -> Result<Policy, Failed> {
    let (spec, sources) = files::parse(path)?;
    let refuse = |findings: Vec<Diagnostic>| Failed { findings, sources: sources.clone(), unreadable: false };
    let routes =
        spec.files.iter().flat_map(|(source, file)| file.routes.iter().map(move |route| (source, route)));
    let asked: Vec<_> = match route {
        Some(name) => routes.clone().filter(|(_, route)| *route.name == *name).collect(),
        None => routes.clone().filter(|(_, route)| route.rollout.is_some()).collect(),
    };
    let with = routes.clone().filter(|(_, route)| route.rollout.is_some());
    let known: Vec<&str> = with.map(|(_, route)| route.name.as_str()).collect();
    match (asked.as_slice(), route) {
        ([(source, route)], _) => Policy::compile(route, &source.name).map_err(refuse),
        ([], Some(name)) => {
            let message = format!("there is no route `{name}`");
            Err(refuse(vec![Diagnostic::error("unknown-route", message).hint(guess(name, &known))]))
        }
        ([], None) => {
            let hint = "add a `rollout` block to the route that was recorded";
            Err(refuse(vec![Diagnostic::error("no-rollout", "no route has a rollout").hint(hint)]))
        }
        _ => {
            let hint = format!("name one with --route: {}", known.join(", "));
            Err(refuse(vec![Diagnostic::error("no-rollout", "more than one route has a rollout").hint(hint)]))
        }
    }
}

/// Why a recording was not read to its end.
enum Why {
    Unreadable(io::Error),
    Line(CountsError),
}

impl Why {
    fn tell(&self, counts: &Path, streams: &mut Streams<'_>) -> io::Result<Exit> {
        let file = counts.display();
        match self {
            Self::Unreadable(error) => {
                writeln!(streams.err, "switchback: cannot read {file}: {error}").map(|()| Exit::Usage)
            }
            Self::Line(error) => writeln!(streams.err, "switchback: {file}: {error}").map(|()| Exit::Refused),
        }
    }
}

/// Visits every line of a recording.
fn each(counts: &Path, mut visit: impl FnMut(Entry)) -> Result<(), Why> {
    let mut file = BufReader::new(File::open(counts).map_err(Why::Unreadable)?);
    let (mut reader, mut line) = (Reader::default(), Vec::new());
    loop {
        line.clear();
        // Two bytes more than allowed, so that the reader sees that it is too long.
        let most = MAX_LINE as u64 + 2;
        if file.by_ref().take(most).read_until(b'\n', &mut line).map_err(Why::Unreadable)? == 0 {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(entry) = reader.line(text.trim_end_matches(['\n', '\r'])).map_err(Why::Line)? {
            visit(entry);
        }
    }
}

/// What must be known of a whole recording before it is judged.
#[derive(Default)]
struct First {
    requests: u64,
    span: Option<(u64, u64)>,
    /// It says when a second was decided.
    recorded: bool,
}

impl First {
    fn look(&mut self, entry: &Entry) {
        match entry {
            Entry::Tick(tick, _) => {
                self.requests += tick.stable.n + tick.canary.n;
                let (first, _) = self.span.unwrap_or((tick.at_second, 0));
                self.span = Some((first, tick.at_second.max(first)));
            }
            Entry::Told(_, told) => self.recorded |= matches!(told, Told::Second(_)),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "requests of a recording")]
    fn per_second(&self) -> f64 {
        self.span.map_or(0.0, |(first, last)| self.requests as f64 / (last - first + 1) as f64)
    }
}

/// A replay as it is printed: every tick as JSON, for people when something changes.
struct Replay {
    follow: Follow,
    json: bool,
    last: Option<Judged>,
    notes: usize,
}

impl Replay {
    fn new(policy: &Policy, first: &First, json: bool) -> Self {
        let follow = Follow::new(policy, first.per_second(), first.recorded);
        Self { follow, json, last: None, notes: 0 }
    }

    fn take(&mut self, entry: Entry, streams: &mut Streams<'_>) -> io::Result<()> {
        let judged = self.follow.take(entry);
        self.print(judged, streams)
    }

    fn finish(&mut self, streams: &mut Streams<'_>) -> io::Result<()> {
        let judged = self.follow.finish();
        self.print(judged, streams)?;
        let (judged, same) = self.follow.same;
        if !self.json && judged > 0 {
            writeln!(streams.out, "the live rollout said the same of {same} of {judged} ticks")?;
        }
        match &self.last {
            Some(last) if !self.json => writeln!(streams.out, "{}", end(last)),
            _ => Ok(()),
        }
    }

    fn print(&mut self, judged: Option<Judged>, streams: &mut Streams<'_>) -> io::Result<()> {
        if let Some(judged) = judged {
            let says = |one: &Judged| {
                (one.finding.step, one.finding.verdict, one.finding.rule.label(), one.decided.moved)
            };
            let changed = self.last.as_ref().is_none_or(|last| says(last) != says(&judged));
            if self.json {
                writeln!(streams.out, "{}", object(&judged))?;
            } else if changed || judged.decided.differs.is_some() && self.is_news(&judged) {
                writeln!(streams.out, "{}", line(&judged))?;
            }
            self.last = Some(judged);
        }
        for (second, note) in self.follow.notes.iter().skip(self.notes) {
            // JSON is one object a tick.
            let out: &mut dyn io::Write = if self.json { &mut *streams.err } else { &mut *streams.out };
            writeln!(out, "t={second}: {note}")?;
        }
        self.notes = self.follow.notes.len();
        Ok(())
    }

    fn is_news(&self, judged: &Judged) -> bool {
        self.last.as_ref().is_none_or(|last| last.decided.differs != judged.decided.differs)
    }
}

fn end(last: &Judged) -> String {
    let finding = &last.finding;
    let how = match last.decided.moved {
        _ if !last.decided.ended => finding.verdict.label(),
        "revert" => "reverted",
        "promote" => "promoted",
        _ => "ended",
    };
    format!("{how} at t={}, confidence {}", finding.at_second, confidence(finding.confidence))
}

/// As a file and a live status write it.
fn confidence(preset: Preset) -> &'static str {
    match preset {
        Preset::High => "high",
        Preset::Normal => "normal",
        Preset::Low => "low",
    }
}

/// What speaks against it, in the words of a live status.
fn evidence(finding: &Finding) -> String {
    let (log, threshold) = match finding.evidence.of_rule(&finding.rule) {
        (_, none) if none <= 0.0 => (finding.evidence.judged(), finding.evidence.threshold),
        known => known,
    };
    against(&wire::Evidence { log, threshold, ..wire::Evidence::default() })
}

fn object(judged: &Judged) -> Value {
    let mut value = json!(judged.finding);
    let recorded = judged.said.as_ref().map(|said| {
        let (state, step) = judged.recorded.clone().unzip();
        json!({ "verdict": said.verdict, "rule": said.rule, "log": said.log, "state": state, "step": step })
    });
    if let Some(map) = value.as_object_mut() {
        map.insert("move".into(), judged.decided.moved.into());
        map.insert("state".into(), judged.decided.state.into());
        map.insert("differs".into(), judged.decided.differs.clone().into());
        map.insert("recorded".into(), recorded.into());
    }
    value
}

fn line(judged: &Judged) -> String {
    let finding = &judged.finding;
    let detectable = finding.detectable_ratio.map_or("none".to_owned(), |ratio| format!("{ratio}x"));
    let differs = judged.decided.differs.as_ref().map_or_else(String::new, |differs| format!("; {differs}"));
    format!(
        "t={} step {} ({} %): {} [{}], {}: {}, canary {} of {} bad, stable {} of {}, \
         detectable {detectable}{differs}",
        finding.at_second,
        finding.step,
        finding.weight * 100.0,
        finding.verdict.label(),
        finding.rule.label(),
        judged.decided.moved,
        evidence(finding),
        finding.canary.e,
        finding.canary.n,
        finding.stable.e,
        finding.stable.n,
    )
}
