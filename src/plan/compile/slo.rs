//! What a route promises: objectives that can be kept, broken, and counted exactly.
//!
//! A threshold is an edge of the ledger's bins, so that what is slower is counted and never
//! estimated. It must never let an objective through that no answer or every answer would break.

use std::time::Duration;

use super::Context;
use crate::analysis::slo::{MAX_LATENCY, Objective};
use crate::ledger::bins::{bin_of, upper_edge};
use crate::spec::Spot;
use crate::spec::scalar::Percent;
use crate::spec::slo::{Latency, Slo};

/// Shortest and longest window of a budget in seconds.
const WINDOW: (u64, u64) = (3_600, 31 * 86_400);
/// Shortest and longest threshold in nanoseconds: where bins have two edges.
const THRESHOLD: (u64, u64) = (10_000, 100_000_000_000);

/// The objectives of a route, availability first; none without a block.
pub(super) fn compile(context: &mut Context<'_>, written: Option<&Spot<Slo>>) -> Box<[Objective]> {
    let Some(slo) = written else { return Box::default() };
    let window = slo.window.0.as_secs();
    if !(WINDOW.0..=WINDOW.1).contains(&window) {
        let message = "the window of an error budget is from 1h to 31d";
        context.findings.error(&slo.window, "bad-value", message, "30d is the default");
    }
    if slo.freeze_below.share() >= 1.0 {
        let message = "with `freezeBelow: 100%` one bad answer keeps every weight from rising";
        context.findings.warn(&slo.freeze_below, "always-frozen", message, "10% leaves a budget to spend");
    }
    if let Some(beyond) = slo.latency.get(MAX_LATENCY) {
        let message = format!("a route has at most {MAX_LATENCY} latency objectives");
        context.findings.error(beyond, "too-many", message, "keep the thresholds that users notice");
    }
    let objective = |name: String, slower_than: Option<u64>, target: &Spot<Percent>| Objective {
        name,
        slower_than,
        target: target.share(),
        window,
        freeze_below: slo.freeze_below.share(),
    };
    share(context, &slo.availability, "availability", "99.9% is the default");
    let mut objectives = vec![objective("availability".to_owned(), None, &slo.availability)];
    let mut before = 0;
    for latency in slo.latency.iter().take(MAX_LATENCY) {
        share(context, &latency.target, "target", "99% of answers within the threshold");
        let nanos = threshold(context, latency, before);
        before = nanos;
        objectives.push(objective(name(nanos), Some(nanos), &latency.target));
    }
    objectives.into()
}

/// A share that can be kept and broken.
fn share(context: &mut Context<'_>, written: &Spot<Percent>, key: &str, hint: &str) {
    let what = match written.share() {
        none if none <= 0.0 => "0 % promises nothing",
        all if all >= 1.0 => "100 % leaves no budget: the first bad answer breaks it for good",
        _ => return,
    };
    let message = format!("`{key}` is above 0 % and below 100 %: {what}");
    context.findings.error(written, "cannot-decide", message, hint);
}

fn threshold(context: &mut Context<'_>, latency: &Latency, before: u64) -> u64 {
    let written = &latency.threshold;
    let nanos = u64::try_from(written.0.as_nanos()).unwrap_or(u64::MAX);
    if !(THRESHOLD.0..=THRESHOLD.1).contains(&nanos) {
        let message = "a latency threshold is from 10us to 100s";
        context.findings.error(written, "bad-value", message, "300ms, for one");
    } else if upper_edge(bin_of(nanos)) != nanos {
        let (below, above) = (upper_edge(bin_of(nanos).saturating_sub(1)), upper_edge(bin_of(nanos)));
        let message = format!("latency is not counted to exactly {}", text(nanos));
        let hint = format!("{} or {}", text(below), text(above));
        context.findings.error(written, "bad-value", message, hint);
    } else if nanos <= before {
        let message = format!("the threshold {} does not rise", text(nanos));
        let hint = "write each threshold once, the shortest first";
        context.findings.error(written, "not-rising", message, hint);
    }
    nanos
}

/// As a metric label: `latency_300ms`.
fn name(nanos: u64) -> String {
    format!("latency_{}", text(nanos).replace(' ', "_"))
}

fn text(nanos: u64) -> String {
    humantime::format_duration(Duration::from_nanos(nanos)).to_string()
}
