//! Recorded counts through the analyzer: each verdict, what it would do, and why.
//!
//! The file is read twice, a line at a time: once to see that all of it can be read and how fast
//! traffic was, once to judge. It must never hold more than a line of it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde_json::{Value, json};

use crate::analysis::counts::{CountsError, MAX_LINE, Reader};
use crate::analysis::{Analyzer, Finding, Policy, Tick, Verdict};
use crate::cli::check::{exit_of, findings};
use crate::cli::files::{self, Failed};
use crate::cli::{Exit, Streams};
use crate::model::Diagnostic;
use crate::spec::parse::guess;
use crate::spec::rollout::OnHarm;

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
    let mut rate = Rate::default();
    if let Err(why) = each(counts, |tick| rate.add(tick)) {
        return why.tell(counts, streams);
    }
    let mut replay = Replay::new(&policy, rate.per_second());
    let mut lines = Ok(());
    let read = each(counts, |tick| {
        if lines.is_ok() {
            lines = replay.tick(tick, json, streams);
        }
    });
    lines?;
    match read {
        Err(why) => why.tell(counts, streams),
        Ok(()) if json => Ok(Exit::Ok),
        Ok(()) => writeln!(streams.out, "{}", replay.end()).map(|()| Exit::Ok),
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

/// Visits every tick of a recording.
fn each(counts: &Path, mut visit: impl FnMut(&Tick)) -> Result<(), Why> {
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
        if let Some(tick) = reader.line(text.trim_end_matches(['\n', '\r'])).map_err(Why::Line)? {
            visit(&tick);
        }
    }
}

/// Requests per second over a whole recording.
#[derive(Default)]
struct Rate {
    requests: u64,
    span: Option<(u64, u64)>,
}

impl Rate {
    fn add(&mut self, tick: &Tick) {
        self.requests += tick.stable.n + tick.canary.n;
        let (first, _) = self.span.unwrap_or((tick.at_second, 0));
        self.span = Some((first, tick.at_second));
    }

    #[expect(clippy::cast_precision_loss, reason = "requests of a recording")]
    fn per_second(&self) -> f64 {
        self.span.map_or(0.0, |(first, last)| self.requests as f64 / (last - first + 1) as f64)
    }
}

/// The analyzer over a recording.
struct Replay<'a> {
    policy: &'a Policy,
    analyzer: Analyzer,
    step: Option<(u32, f64)>,
    last: Option<Finding>,
    reverted: bool,
}

impl<'a> Replay<'a> {
    fn new(policy: &'a Policy, rate: f64) -> Self {
        Self { policy, analyzer: Analyzer::new(policy, rate), step: None, last: None, reverted: false }
    }

    /// Judges a tick and prints it: every one as JSON, for people when the verdict changes.
    fn tick(&mut self, tick: &Tick, json: bool, streams: &mut Streams<'_>) -> io::Result<()> {
        if self.reverted {
            return Ok(());
        }
        if self.step.is_none_or(|(step, _)| tick.step > step || tick.w > self.step.map_or(0.0, |(_, w)| w)) {
            self.analyzer.enter_step(self.policy, tick.step, tick.w, tick.at_second);
            self.step = Some((tick.step, tick.w));
        }
        let finding = self.analyzer.tick(self.policy, tick);
        let moved = self.moved(&finding);
        let says = |finding: &Finding| (finding.step, finding.verdict, finding.rule.label());
        let changed = self.last.as_ref().is_none_or(|last| says(last) != says(&finding));
        self.reverted = moved == "revert";
        if json {
            writeln!(streams.out, "{}", object(&finding, moved))?;
        } else if changed {
            writeln!(streams.out, "{}", line(&finding, moved))?;
        }
        self.last = Some(finding);
        Ok(())
    }

    /// What the rollout would do.
    fn moved(&self, finding: &Finding) -> &'static str {
        let step = self.policy.steps.get(finding.step as usize);
        match finding.verdict {
            Verdict::Harmful => match self.policy.conduct.on_harm {
                OnHarm::Revert => "revert",
                OnHarm::Pause => "pause",
                OnHarm::Observe => "observe",
            },
            Verdict::Suspect => "hold",
            Verdict::Undecided => "stay",
            Verdict::Healthy if step.is_some_and(|step| step.pause) => "pause",
            Verdict::Healthy if finding.step as usize + 1 >= self.policy.steps.len() => "promote",
            Verdict::Healthy => "advance",
        }
    }

    fn end(&self) -> String {
        let Some(last) = &self.last else { return "no counts".to_owned() };
        let how = if self.reverted { "reverted" } else { last.verdict.label() };
        format!("{how} at t={}, confidence {:?}", last.at_second, last.confidence)
    }
}

fn object(finding: &Finding, moved: &str) -> Value {
    let mut value = json!(finding);
    if let Some(map) = value.as_object_mut() {
        map.insert("move".into(), moved.into());
    }
    value
}

fn line(finding: &Finding, moved: &str) -> String {
    let evidence = finding.evidence.log.map_or(0.0, f64::exp);
    let detectable = finding.detectable_ratio.map_or("none".to_owned(), |ratio| format!("{ratio}x"));
    format!(
        "t={} step {} ({} %): {} [{}], {moved}: E {evidence:.3e} of {:.0}, canary {} of {} bad, stable {} of {}, \
         detectable {detectable}",
        finding.at_second,
        finding.step,
        finding.weight * 100.0,
        finding.verdict.label(),
        finding.rule.label(),
        finding.evidence.threshold.exp(),
        finding.canary.e,
        finding.canary.n,
        finding.stable.e,
        finding.stable.n,
    )
}
