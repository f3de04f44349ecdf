//! `simulate`: recorded counts through what runs live, or a scenario many times over.
//!
//! It exists so that every promise about the rule can be measured by whoever doubts it. It must
//! never judge by anything but the analyzer's own code, and never touch a running proxy.

pub mod dice;
mod follow;
mod machine;
pub mod peers;
mod replay;
pub mod runs;
pub mod summary;
pub mod traffic;

use std::io;
use std::path::PathBuf;

use clap::Args;

use super::{Exit, Streams};
use crate::spec::scalar::Percent;
use runs::Rule;
use summary::Summary;
use traffic::{Scenario, Setting, Weight};

/// Most runs of one command.
const MAX_RUNS: u64 = 1_000_000;
/// Longest run in seconds: a month.
const MAX_SECONDS: f64 = 31.0 * 86_400.0;

/// Arguments of `simulate`.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// A configuration whose rollout judges the counts
    #[arg(long, value_name = "PATH", requires = "counts", conflicts_with = "scenario")]
    pub policy: Option<PathBuf>,
    /// The route, when more than one has a rollout
    #[arg(long, value_name = "NAME", requires = "policy")]
    pub route: Option<String>,
    /// Recorded counts, one JSON object a second
    #[arg(long, value_name = "FILE.jsonl", requires = "policy")]
    pub counts: Option<PathBuf>,
    /// What to simulate instead
    #[arg(long, value_enum, required_unless_present = "policy")]
    pub scenario: Option<Scenario>,
    /// Requests per second of both arms; default 100, for low-traffic 1
    #[arg(long, value_name = "N", value_parser = rate)]
    pub rps: Option<f64>,
    /// The canary's weight in percent, or `ladder`: 1, 5, 25, 50
    #[arg(long, value_name = "W|ladder", default_value = "5", value_parser = weight)]
    pub weight: Weight,
    /// Share of bad outcomes of a healthy arm, in percent
    #[arg(long, value_name = "P", default_value = "0.1%", value_parser = share)]
    pub baseline: f64,
    /// errors, shadow: the canary's share of bad outcomes; slow: its share of slow answers; outage,
    /// ramp: the worst share of both arms; refused for others, which have none
    #[arg(long, value_name = "P", value_parser = share)]
    pub canary: Option<f64>,
    /// slow: how many times as long the slow answers take
    #[arg(long, value_name = "X", default_value_t = 2.0)]
    pub slowdown: f64,
    /// errors, slow: the second in which it begins; delays count from there
    #[arg(long, value_name = "S", default_value_t = 0)]
    pub onset: u64,
    /// How many runs
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=MAX_RUNS))]
    pub runs: u64,
    /// Requests of one run; default: an hour's when the canary is to blame, else ten minutes'
    #[arg(long, value_name = "MAX", value_parser = clap::value_parser!(u64).range(1..))]
    pub requests: Option<u64>,
    /// Which part of the rule judges
    #[arg(long, value_enum, default_value_t = Rule::Full)]
    pub rule: Rule,
    /// Another seed is other traffic
    #[arg(long, value_name = "S", default_value_t = 1)]
    pub seed: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Replays counts, or runs a scenario.
///
/// # Errors
/// Only when a stream cannot be written to.
pub fn run(args: &SimulateArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    if let (Some(policy), Some(counts)) = (&args.policy, &args.counts) {
        return replay::run(policy, args.route.as_deref(), counts, args.json, streams);
    }
    let Some(scenario) = args.scenario else {
        writeln!(streams.err, "switchback: simulate needs --scenario, or --policy with --counts")?;
        return Ok(Exit::Usage);
    };
    if args.canary.is_some() && !scenario.has_share() {
        let name = scenario.name();
        writeln!(streams.err, "switchback: --canary means nothing to the scenario `{name}`: leave it out")?;
        return Ok(Exit::Usage);
    }
    let setting = setting(args, scenario);
    let summary = Summary::of(scenario, &runs::all(&setting, args.rule, args.runs, args.seed));
    if args.json {
        let json = serde_json::to_string(&summary).map_err(io::Error::other)?;
        writeln!(streams.out, "{json}")?;
    } else {
        write!(streams.out, "{}", summary.text())?;
    }
    Ok(Exit::Ok)
}

fn setting(args: &SimulateArgs, scenario: Scenario) -> Setting {
    let rps = args.rps.unwrap_or(if scenario == Scenario::LowTraffic { 1.0 } else { 100.0 });
    let usual = match scenario {
        Scenario::Outage => 0.6,
        Scenario::Ramp => 0.2,
        Scenario::Slow => 1.0,
        _ => 0.05,
    };
    let minutes = if scenario.harmful() { 60.0 } else { 10.0 };
    #[expect(clippy::cast_precision_loss, reason = "requests of one run")]
    let seconds = args.requests.map_or(minutes * 60.0, |requests| (requests as f64 / rps).ceil());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 1 to a month")]
    let seconds = seconds.clamp(1.0, MAX_SECONDS) as u64;
    let canary = args.canary.unwrap_or(usual);
    Setting {
        scenario,
        rps,
        weight: args.weight,
        baseline: args.baseline,
        canary,
        slowdown: args.slowdown.max(1.0),
        onset: args.onset,
        seconds: seconds.saturating_add(args.onset),
    }
}

fn share(text: &str) -> Result<f64, String> {
    Percent::from_text(text).map(Percent::share)
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (0.01..=100_000.0).contains(rate));
    rate.ok_or_else(|| format!("`{text}` is not a rate from 0.01 to 100000"))
}

fn weight(text: &str) -> Result<Weight, String> {
    if text == "ladder" {
        return Ok(Weight::Ladder);
    }
    let held = share(text).map_err(|why| format!("{why}, and not `ladder`"))?;
    if held > 0.0 && held < 1.0 {
        Ok(Weight::Held(held))
    } else {
        Err("a weight lies between 0 % and 100 %: there is nothing to compare at its ends".into())
    }
}

#[cfg(test)]
mod tests;
