//! /metrics: every family of the contract, from the ledger and from what the plan configures.
//!
//! Series appear with the first exchange of an arm; sets that are closed are complete from the
//! start. It must never count anything itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::Cold;
use super::certificates::{self, CertificateSeries};
use super::exposition::Exposition;
use super::guards::{self, GuardSeries};
use super::process::Process;
use crate::ledger::{Book, Cell, Totals};
use crate::model::{
    ChoiceReason, CodeClass, DeniedReason, FailureReason, HandshakeReason, RejectReason, RetryReason,
    UnroutedReason, Verdict, names,
};

/// What is configured of one arm.
#[derive(Clone, Debug)]
pub struct ArmSeries {
    /// Route name.
    pub route: Arc<str>,
    /// Arm name.
    pub arm: Arc<str>,
    /// Upstream that serves it.
    pub upstream: Arc<str>,
    /// `stable`, `canary`, `active` or `idle`.
    pub role: &'static str,
    /// Version a rollout gives it; empty when none does.
    pub version: String,
    /// Configured share, 0 to 1.
    pub weight: f64,
    /// Share of the last minute's requests; `None` for a route that never had one.
    pub observed: Option<f64>,
}

/// One rollout.
#[derive(Clone, Debug, Default)]
pub struct RolloutSeries {
    /// Route name.
    pub route: String,
    /// The state it is in.
    pub state: &'static str,
    /// The step, from 0.
    pub step: u32,
    /// Natural logarithms of evidence, by metric.
    pub evidence: Vec<(String, f64)>,
    /// Smallest ratio that would have shown.
    pub detectable_ratio: Option<f64>,
    /// Seconds of the run.
    pub seconds: f64,
}

/// One objective of a route.
#[derive(Clone, Debug, Default)]
pub struct ObjectiveSeries {
    /// Route name.
    pub route: String,
    /// The objective.
    pub objective: String,
    /// Burn rates by window.
    pub rates: Vec<(&'static str, f64)>,
    /// What the budget is for.
    pub window: String,
    /// Share of it that is left.
    pub budget: f64,
}

/// Decisions of one kind about a route's rollouts.
#[derive(Clone, Debug, Default)]
pub struct TransitionSeries {
    /// Route, state before, state after, who, why: closed sets but for the route.
    pub labels: [String; 5],
    /// How often.
    pub count: u64,
}

/// What the reverts of a route cost.
#[derive(Clone, Debug, Default)]
pub struct HarmSeries {
    /// Route name.
    pub route: String,
    /// Failures beyond stable's share, over all reverts.
    pub excess: f64,
    /// Of the last revert: seconds from the first bad outcome to the verdict.
    pub detection_seconds: Option<f64>,
    /// And to weight 0.
    pub recovery_seconds: Option<f64>,
}

/// Differences of one kind between a route and one of its mirrors.
#[derive(Clone, Debug, Default)]
pub struct DifferenceSeries {
    /// Route name.
    pub route: String,
    /// Upstream that copies go to.
    pub upstream: String,
    /// What kind: a closed set.
    pub kind: &'static str,
    /// How many.
    pub count: u64,
}

/// Everything a scrape shows.
#[derive(Clone, Copy, Debug)]
pub struct Scrape<'a> {
    /// Live numbers.
    pub book: &'a Book,
    /// Rare numbers.
    pub cold: &'a Cold,
    /// Every arm of the plan in force.
    pub arms: &'a [ArmSeries],
    /// Every rollout.
    pub rollouts: &'a [RolloutSeries],
    /// Every state a rollout can be in.
    pub rollout_states: &'a [&'static str],
    /// Every objective.
    pub objectives: &'a [ObjectiveSeries],
    /// Further bounds of request durations in nanoseconds, by route.
    pub bounds: &'a HashMap<Arc<str>, Vec<u64>>,
    /// Decisions about rollouts.
    pub transitions: &'a [TransitionSeries],
    /// What reverts cost.
    pub harms: &'a [HarmSeries],
    /// What differs between routes and their mirrors.
    pub differences: &'a [DifferenceSeries],
    /// What is watched of upstreams.
    pub guards: &'a [GuardSeries],
    /// Upstream name, kind of limit, limit.
    pub limits: &'a [(Arc<str>, &'static str, u64)],
    /// Listener names, in plan order.
    pub listeners: &'a [Arc<str>],
    /// Certificates that are served.
    pub certificates: &'a [CertificateSeries],
}

/// One live cell with its sums.
struct Row {
    route: Arc<str>,
    cell: Arc<Cell>,
    totals: Totals,
}

impl Row {
    fn labels(&self) -> [&str; 3] {
        [&self.route, &self.cell.arm, &self.cell.upstream]
    }
}

/// The text of a scrape.
#[must_use]
pub fn render(scrape: &Scrape<'_>) -> String {
    let cells = scrape.book.live_cells().into_iter();
    let rows: Vec<Row> = cells.map(|(route, cell)| Row { route, totals: cell.totals(), cell }).collect();
    let mut out = Exposition::default();
    requests(&mut out, &rows, scrape.bounds);
    by_arm(&mut out, &rows, scrape.book);
    copies(&mut out, scrape.book);
    configured(&mut out, scrape);
    guards::render(&mut out, scrape.guards);
    rollouts(&mut out, scrape);
    objectives(&mut out, scrape);
    differences(&mut out, scrape);
    process_wide(&mut out, scrape);
    certificates::render(&mut out, scrape.certificates);
    kernel(&mut out, &Process::read());
    let mut text = out.into_text();
    scrape.cold.render(&mut text);
    text
}

/// Families by route, arm and answering upstream.
fn requests(out: &mut Exposition, rows: &[Row], bounds: &HashMap<Arc<str>, Vec<u64>>) {
    out.family(&names::REQUESTS);
    for row in rows {
        let [route, arm, upstream] = row.labels();
        for (code, verdicts) in CodeClass::ALL.iter().zip(&row.totals.codes) {
            for (verdict, count) in Verdict::ALL.iter().zip(verdicts).filter(|(_, count)| **count > 0) {
                let values = [route, arm, upstream, code.label(), verdict.label()];
                out.count(&names::REQUESTS, &values, *count);
            }
        }
    }
    out.family(&names::REQUEST_DURATION);
    for row in rows {
        let further = bounds.get(&row.route).map_or(&[][..], Vec::as_slice);
        out.histogram(&names::REQUEST_DURATION, &row.labels(), &row.totals.total, further);
    }
    out.family(&names::UPSTREAM_DURATION);
    for row in rows {
        out.histogram(&names::UPSTREAM_DURATION, &row.labels(), &row.totals.upstream, &[]);
    }
    out.family(&names::IN_FLIGHT);
    for row in rows {
        out.count(&names::IN_FLIGHT, &row.labels(), row.totals.in_flight);
    }
    out.family(&names::UPSTREAM_FAILURES);
    for row in rows {
        let [route, arm, upstream] = row.labels();
        let failures = FailureReason::ALL.iter().zip(&row.totals.failures);
        for (reason, count) in failures.filter(|(_, count)| **count > 0) {
            out.count(&names::UPSTREAM_FAILURES, &[route, arm, upstream, reason.label()], *count);
        }
    }
}

/// Families by route and arm, summed over answering upstreams.
fn by_arm(out: &mut Exposition, rows: &[Row], book: &Book) {
    let mut choices: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    let mut retries: BTreeMap<(&str, &str, &str), u64> = BTreeMap::new();
    for row in rows {
        let [route, arm, _] = row.labels();
        for (reason, count) in ChoiceReason::ALL.iter().zip(&row.totals.choices) {
            // Overrides are counted by rule.
            if *count > 0 && *reason != ChoiceReason::Override {
                *choices.entry((route, arm, reason.label())).or_default() += count;
            }
        }
        for (reason, count) in
            RetryReason::ALL.iter().zip(&row.totals.retries).filter(|(_, count)| **count > 0)
        {
            *retries.entry((route, arm, reason.label())).or_default() += count;
        }
    }
    out.family(&names::CHOICES);
    for ((route, arm, reason), count) in choices {
        out.count(&names::CHOICES, &[route, arm, reason, ""], count);
    }
    for (route, rule) in book.live_rules() {
        let values = [&*route, &*rule.arm, ChoiceReason::Override.label(), &*rule.rule];
        out.count(&names::CHOICES, &values, rule.hits());
    }
    out.family(&names::RETRIES);
    for ((route, arm, reason), count) in retries {
        out.count(&names::RETRIES, &[route, arm, reason], count);
    }
}

/// Families of copies: a shadow's answers are nobody's, so no arm is charged.
fn copies(out: &mut Exposition, book: &Book) {
    let shadows = book.live_shadows();
    let totals: Vec<_> = shadows.iter().map(|(route, cell)| (route, &cell.upstream, cell.totals())).collect();
    out.family(&names::MIRROR_REQUESTS);
    for (route, upstream, totals) in &totals {
        for (result, count) in totals.by_result().filter(|(_, count)| *count > 0) {
            out.count(&names::MIRROR_REQUESTS, &[route, upstream, result.label()], count);
        }
    }
    out.family(&names::MIRROR_DURATION);
    for (route, upstream, totals) in &totals {
        out.histogram(&names::MIRROR_DURATION, &[route, upstream], &totals.head, &[]);
    }
}

fn configured(out: &mut Exposition, scrape: &Scrape<'_>) {
    out.family(&names::SPLIT_WEIGHT);
    for arm in scrape.arms {
        out.number(&names::SPLIT_WEIGHT, &[&arm.route, &arm.arm], arm.weight);
    }
    out.family(&names::SPLIT_OBSERVED);
    for arm in scrape.arms {
        if let Some(observed) = arm.observed {
            out.number(&names::SPLIT_OBSERVED, &[&arm.route, &arm.arm], observed);
        }
    }
    out.family(&names::ARM_INFO);
    for arm in scrape.arms {
        out.count(&names::ARM_INFO, &[&arm.route, &arm.arm, &arm.upstream, arm.role, &arm.version], 1);
    }
    out.family(&names::UPSTREAM_LIMIT);
    for (upstream, kind, limit) in scrape.limits {
        out.count(&names::UPSTREAM_LIMIT, &[upstream, kind], *limit);
    }
}

fn rollouts(out: &mut Exposition, scrape: &Scrape<'_>) {
    out.family(&names::ROLLOUT_STATE);
    for rollout in scrape.rollouts {
        for state in scrape.rollout_states {
            let current = u64::from(rollout.state == *state);
            out.count(&names::ROLLOUT_STATE, &[&rollout.route, state], current);
        }
    }
    out.family(&names::ROLLOUT_STEP);
    for rollout in scrape.rollouts {
        out.count(&names::ROLLOUT_STEP, &[&rollout.route], u64::from(rollout.step));
    }
    out.family(&names::ROLLOUT_EVIDENCE);
    for rollout in scrape.rollouts {
        for (metric, log) in &rollout.evidence {
            out.number(&names::ROLLOUT_EVIDENCE, &[&rollout.route, metric], *log);
        }
    }
    out.family(&names::ROLLOUT_DETECTABLE);
    for rollout in scrape.rollouts {
        if let Some(ratio) = rollout.detectable_ratio {
            out.number(&names::ROLLOUT_DETECTABLE, &[&rollout.route], ratio);
        }
    }
    out.family(&names::ROLLOUT_DURATION);
    for rollout in scrape.rollouts {
        out.number(&names::ROLLOUT_DURATION, &[&rollout.route], rollout.seconds);
    }
    out.family(&names::ROLLOUT_TRANSITIONS);
    for transition in scrape.transitions {
        let labels = transition.labels.each_ref().map(String::as_str);
        out.count(&names::ROLLOUT_TRANSITIONS, &labels, transition.count);
    }
    out.family(&names::ROLLOUT_EXCESS);
    for harm in scrape.harms {
        out.number(&names::ROLLOUT_EXCESS, &[&harm.route], harm.excess);
    }
    out.family(&names::ROLLOUT_DETECTION);
    for harm in scrape.harms {
        if let Some(seconds) = harm.detection_seconds {
            out.number(&names::ROLLOUT_DETECTION, &[&harm.route], seconds);
        }
    }
    out.family(&names::ROLLOUT_RECOVERY);
    for harm in scrape.harms {
        if let Some(seconds) = harm.recovery_seconds {
            out.number(&names::ROLLOUT_RECOVERY, &[&harm.route], seconds);
        }
    }
}

fn objectives(out: &mut Exposition, scrape: &Scrape<'_>) {
    out.family(&names::SLO_BURN);
    for one in scrape.objectives {
        for (window, rate) in &one.rates {
            out.number(&names::SLO_BURN, &[&one.route, &one.objective, window], *rate);
        }
    }
    out.family(&names::SLO_BUDGET);
    for one in scrape.objectives {
        out.number(&names::SLO_BUDGET, &[&one.route, &one.objective, &one.window], one.budget);
    }
}

fn differences(out: &mut Exposition, scrape: &Scrape<'_>) {
    out.family(&names::MIRROR_DIFFERENCES);
    for one in scrape.differences {
        out.count(&names::MIRROR_DIFFERENCES, &[&one.route, &one.upstream, one.kind], one.count);
    }
}

fn process_wide(out: &mut Exposition, scrape: &Scrape<'_>) {
    let cells = &scrape.book.process;
    out.family(&names::REJECTED);
    for reason in RejectReason::ALL {
        out.count(&names::REJECTED, &[reason.label()], cells.rejected(*reason));
    }
    out.family(&names::RETRIES_DENIED);
    for reason in DeniedReason::ALL {
        out.count(&names::RETRIES_DENIED, &[reason.label()], cells.denied(*reason));
    }
    out.family(&names::RATE_LIMITED);
    for (route, over) in scrape.book.over_limits() {
        out.count(&names::RATE_LIMITED, &[&route], over);
    }
    out.family(&names::HANDSHAKES_REFUSED);
    for reason in HandshakeReason::ALL {
        out.count(&names::HANDSHAKES_REFUSED, &[reason.label()], cells.handshakes(*reason));
    }
    out.family(&names::RATE_LIMIT_FULL);
    out.count(&names::RATE_LIMIT_FULL, &[], cells.unknown());
    out.family(&names::UNROUTED);
    for reason in UnroutedReason::ALL {
        out.count(&names::UNROUTED, &[reason.label()], cells.unrouted(*reason));
    }
    out.family(&names::CONNECTIONS);
    for (at, listener) in scrape.listeners.iter().enumerate() {
        let open = u64::try_from(cells.connections(at)).unwrap_or(0);
        out.count(&names::CONNECTIONS, &[listener], open);
    }
    out.family(&names::BUILD_INFO);
    out.count(&names::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1);
}

fn kernel(out: &mut Exposition, process: &Process) {
    let whole = |number: Option<u64>| {
        #[expect(clippy::cast_precision_loss, reason = "Prometheus numbers are floats")]
        number.map(|number| number as f64)
    };
    let rows = [
        (&names::PROCESS_CPU, process.cpu_seconds),
        (&names::PROCESS_RSS, whole(process.resident_bytes)),
        (&names::PROCESS_FDS, whole(process.open_fds)),
        (&names::PROCESS_MAX_FDS, whole(process.max_fds)),
        (&names::PROCESS_START, process.start_seconds),
    ];
    for (family, value) in rows {
        if let Some(value) = value {
            out.family(family);
            out.number(family, &[], value);
        }
    }
}
