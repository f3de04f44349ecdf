//! Rollouts as operators see them: the state of each, its plan at the measured rate, its history.
//!
//! Everything is read from what the controller tells at the moment of asking. It must never judge:
//! verdicts, targets and times are the analyzer's.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};
use serde_json::Value;

use super::Shared;
use super::error::Refused;
use crate::analysis::{Finding, Policy};
use crate::control::checks::CheckReport;
use crate::control::{self, Conducted, RolloutReport};
use crate::model::Provenance;
use crate::model::time::UnixMillis;
use crate::plan::{Plan, Route};
use crate::rollout::dora::{Dora, Harm};
use crate::rollout::moves::{Shifted, Summary};
use crate::rollout::{Failing, Phase, Record, Rollout, Share, bake_share, state::Direction};
use crate::telemetry::metrics::{HarmSeries, RolloutSeries, TransitionSeries};
use crate::wire;

/// Every rollout by route.
pub(super) fn all(conducted: &Conducted, plan: &Plan, now: UnixMillis) -> BTreeMap<String, wire::Rollout> {
    let declared = conducted.rollouts.keys().filter_map(|name| {
        let rule = plan.route_named(name).and_then(|route| route.operator.as_ref());
        Some((name.clone(), shown(conducted, name, rule, now)?))
    });
    declared.collect()
}

/// The rollout of one route.
pub(super) fn of(conducted: &Conducted, route: &Route, now: UnixMillis) -> Option<wire::Rollout> {
    shown(conducted, &route.name, route.operator.as_ref(), now)
}

/// A rollout as it is, and whether it still says the weights: `hand` set them after its end.
fn shown(
    conducted: &Conducted,
    route: &str,
    hand: Option<&Provenance>,
    now: UnixMillis,
) -> Option<wire::Rollout> {
    let report = conducted.rollouts.get(route).filter(|report| is_shown(&report.rollout))?;
    let mut view = view(report, ending(conducted, route, report));
    if is_over(&report.rollout) {
        view.ended_seconds = Some(since_end(conducted, route, report, now));
        if let Some(hand) = hand {
            // Its share is that of the end, and no longer anybody's.
            view.share = None;
            view.reason = format!("{}; without them: {}", by_hand(hand), view.reason);
        }
    }
    Some(view)
}

/// `weights by hand rule since 2027-01-15T08:00:00.000Z by ann: "checkout broke"`.
fn by_hand(hand: &Provenance) -> String {
    let why = if hand.reason.is_empty() { String::new() } else { format!(": \"{}\"", hand.reason) };
    format!("weights by hand rule since {} by {}{why}", time(hand.at_millis), hand.actor)
}

/// Whether a run came to an end, after which it moves no weight.
fn is_over(rollout: &Rollout) -> bool {
    !rollout.is_live() && rollout.phase != Phase::Idle
}

/// Decisions of the present run from its end on, the latest first.
fn ends<'a>(
    conducted: &'a Conducted,
    route: &str,
    rollout: &Rollout,
) -> impl Iterator<Item = &'a Record> + use<'a> {
    let run = rollout.run;
    // Exchanges of slots and weights by hand have no version.
    let records = conducted.history.get(route).into_iter().flat_map(|records| records.iter().rev());
    let of_run =
        records.filter(|record| !record.version.is_empty()).take_while(move |record| record.run == run);
    of_run.take_while(|record| {
        ["REVERTING", "REVERTED", "ABORTED", "SUPERSEDED", "PROMOTED", "FINISHED"].contains(&&*record.to)
    })
}

/// What was known when a run came to its end: what is judged afterwards is of another traffic.
fn ending<'a>(conducted: &'a Conducted, route: &str, report: &RolloutReport) -> Option<&'a Summary> {
    let rollout = &report.rollout;
    if rollout.phase.base().is_some() || rollout.phase == Phase::Idle {
        return None;
    }
    ends(conducted, route, rollout).last()?.found.as_ref()
}

/// Seconds since a run ended, by the wall clock. Without the decision, those the process lived since.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a rollout")]
fn since_end(conducted: &Conducted, route: &str, report: &RolloutReport, now: UnixMillis) -> f64 {
    let rollout = &report.rollout;
    let here = ends(conducted, route, rollout).take_while(|record| record.to == rollout.phase.name());
    let since = here.last().map(|record| now.0.saturating_sub(record.at_millis));
    since.unwrap_or(rollout.clocks.phase) as f64 / 1_000.0
}

/// The arm with a policy's version: after a promotion slots have swapped their roles.
pub(super) fn new_arm<'a>(conducted: &'a Conducted, route: &Route, policy: &'a Policy) -> &'a str {
    let rollout = conducted.rollouts.get(&*route.name).map(|report| &report.rollout);
    let promoted = rollout.filter(|one| {
        one.phase == Phase::Promoted && one.identity.version == policy.version && route.slots.is_some()
    });
    promoted.map_or(&policy.to, |rollout| &rollout.identity.to)
}

/// A block that is gone and left nothing behind is no rollout.
pub(super) fn is_shown(rollout: &Rollout) -> bool {
    rollout.canary_share().is_some()
}

fn view(report: &RolloutReport, ending: Option<&Summary>) -> wire::Rollout {
    let RolloutReport { rollout, policy, finding, rate, suffered, checks, .. } = report;
    let known = Known::of(rollout, finding.as_ref(), ending);
    wire::Rollout {
        version: rollout.identity.version.clone(),
        state: rollout.phase.name().to_owned(),
        step: rollout.step,
        steps: policy.steps.iter().map(|step| percent(Share::of(step.weight))).collect(),
        reason: rollout.reason.text.clone(),
        code: rollout.reason.code.to_string(),
        verdict: known.verdict,
        rule: known.rule,
        evidence: known.evidence,
        detectable_ratio: known.detectable_ratio,
        waiting_for: rollout.waiting_for.clone(),
        eta: known.eta.filter(|_| rollout.is_live()),
        from: rollout.identity.from.clone(),
        to: rollout.identity.to.clone(),
        back: rollout.direction == Direction::Back,
        share: rollout.seen_canary_share().map(Share::ratio),
        confidence: finding.as_ref().map(|finding| word(finding.confidence)),
        bake_share: bake_share(*rate).ratio(),
        samples: known.samples,
        failing: suffered.failing.iter().map(failing).collect(),
        rate: *rate,
        run: rollout.run,
        started_at: time(rollout.started_at_millis),
        duration_seconds: duration(rollout),
        ended_seconds: None,
        next: rollout.next.as_ref().map(|next| next.version.clone()),
        checks: checks.iter().map(check).collect(),
    }
}

fn check(check: &CheckReport) -> wire::Check {
    wire::Check {
        name: check.name.clone(),
        value: check.value.filter(|value| value.is_finite()),
        state: check.state.label().to_owned(),
        why: check.why.clone(),
    }
}

/// What is known of a rollout: of the second just judged, else what was last written down.
#[derive(Debug, Default)]
struct Known {
    verdict: Option<String>,
    rule: Option<String>,
    evidence: Option<wire::Evidence>,
    detectable_ratio: Option<f64>,
    eta: Option<f64>,
    samples: Option<wire::Samples>,
}

impl Known {
    fn of(rollout: &Rollout, finding: Option<&Finding>, ending: Option<&Summary>) -> Self {
        let judged = finding.map(|finding| (Summary::of(finding), finding));
        match (judged, ending.or(rollout.found.as_ref())) {
            (Some((summary, finding)), known) if ending.is_none() || known == Some(&summary) => {
                let not_judged = finding.evidence.not_judged().map(str::to_owned).collect();
                Self::summed(&summary, metrics(finding), not_judged)
            }
            (_, Some(summary)) => Self::summed(summary, BTreeMap::new(), Vec::new()),
            (_, None) => Self::default(),
        }
    }

    fn summed(summary: &Summary, by_metric: BTreeMap<String, f64>, not_judged: Vec<String>) -> Self {
        let Summary { log, threshold, .. } = *summary;
        Self {
            verdict: Some(summary.verdict.to_string()),
            rule: Some(summary.rule.to_string()),
            evidence: Some(wire::Evidence { log, threshold, by_metric, not_judged }),
            detectable_ratio: summary.detectable_ratio,
            eta: summary.eta_seconds.filter(|eta| eta.is_finite()),
            samples: Some(samples(summary)),
        }
    }
}

/// Natural logarithms of evidence by metric, as far as there is any.
pub(super) fn metrics(finding: &Finding) -> BTreeMap<String, f64> {
    let Ok(Value::Object(map)) = serde_json::to_value(finding.evidence.by_metric) else {
        return BTreeMap::new();
    };
    map.into_iter().filter_map(|(metric, log)| Some((metric, log.as_f64()?))).collect()
}

fn samples(summary: &Summary) -> wire::Samples {
    let seen = |seen: crate::analysis::finding::Seen| wire::Seen { n: seen.n, e: seen.e };
    wire::Samples { stable: seen(summary.stable), canary: seen(summary.canary) }
}

/// Seconds of a run: until now, or until it ended.
#[expect(clippy::cast_precision_loss, reason = "milliseconds of a rollout")]
pub(super) fn duration(rollout: &Rollout) -> f64 {
    let ended = if rollout.is_live() { 0 } else { rollout.clocks.phase };
    rollout.clocks.all.saturating_sub(ended) as f64 / 1_000.0
}

/// Every rollout as a scrape shows it.
pub(super) fn series(conducted: &Conducted) -> Vec<RolloutSeries> {
    let shown = conducted.rollouts.iter().filter(|(_, report)| is_shown(&report.rollout));
    let series = shown.map(|(route, report)| {
        let rollout = &report.rollout;
        let known = Known::of(rollout, report.finding.as_ref(), ending(conducted, route, report));
        let evidence = known.evidence.unwrap_or_default();
        // What the rule that spoke goes by is not always the sum of all metrics.
        let log = report.finding.as_ref().map_or(evidence.log, |finding| finding.evidence.judged());
        let all = [("all", log), ("threshold", Some(evidence.threshold))];
        let all = all.into_iter().filter_map(|(metric, log)| Some((metric.to_owned(), log?)));
        RolloutSeries {
            route: route.clone(),
            state: rollout.phase.name(),
            step: rollout.step,
            evidence: all.chain(evidence.by_metric).collect(),
            detectable_ratio: known.detectable_ratio,
            seconds: duration(rollout),
        }
    });
    series.collect()
}

/// Decisions by kind.
pub(super) fn transitions(conducted: &Conducted) -> Vec<TransitionSeries> {
    let counts = conducted.transitions.iter();
    counts.map(|(labels, count)| TransitionSeries { labels: labels.clone(), count: *count }).collect()
}

/// What reverts cost, by route.
pub(super) fn harms(conducted: &Conducted) -> Vec<HarmSeries> {
    let harms = conducted.harms.iter();
    let series = harms.map(|(route, harms)| HarmSeries {
        route: route.clone(),
        excess: harms.excess,
        detection_seconds: harms.detection_seconds,
        recovery_seconds: harms.recovery_seconds,
    });
    series.collect()
}

pub(super) async fn history(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<wire::History>, Refused> {
    let plan = shared.admin.0.plans.load_full();
    let route = control::find(&plan, &name)?;
    let conducted = shared.admin.0.control.rollouts();
    let records = conducted.history.get(&*route.name).map(|records| records.as_slice()).unwrap_or_default();
    let dora = (!records.is_empty()).then(|| dora(Dora::of(records)));
    Ok(Json(wire::History { records: records.iter().map(|one| record(&route.name, one)).collect(), dora }))
}

fn dora(of: Dora) -> wire::Dora {
    wire::Dora {
        promoted: of.promoted,
        put_back: of.put_back,
        deployments_per_week: of.per_week,
        change_failure_rate: of.change_failure_rate,
        median_recovery_seconds: of.median_recovery_seconds,
    }
}

fn failing(one: &Failing) -> wire::Failing {
    let Failing { arm, rule, method, status, cause, endpoint, count, request_ids } = one.clone();
    wire::Failing { arm, rule, method, status, cause, endpoint, count, request_ids }
}

fn harm(of: Harm) -> wire::Harm {
    let Harm { excess: excess_failures, detection_seconds, recovery_seconds } = of;
    wire::Harm { excess_failures, detection_seconds, recovery_seconds }
}

pub(super) fn record(route: &str, record: &Record) -> wire::Record {
    let found = record.found.as_ref();
    let kind = word(record.actor);
    wire::Record {
        id: id(record),
        at: time(record.at_millis),
        route: route.to_owned(),
        version: record.version.clone(),
        from: record.from.to_string(),
        to: record.to.to_string(),
        actor: record.who.clone().unwrap_or_else(|| kind.clone()),
        kind,
        reason: record.reason.clone(),
        code: record.code.to_string(),
        before: record.before.map(percent),
        after: record.after.map(percent),
        step: record.step,
        evidence: found.map(|found| wire::Known {
            verdict: found.verdict.to_string(),
            rule: found.rule.to_string(),
            log: found.log,
            threshold: found.threshold,
            detectable_ratio: found.detectable_ratio,
        }),
        samples: found.map(samples),
        failing: record.failing.iter().map(failing).collect(),
        first_bad_at: record.first_bad_at_millis.map(time),
        in_force_at: record.in_force_at_millis.map(time),
        harm: Harm::of(record).map(harm),
        annotations: record.annotations.clone(),
        weights: record.weights.as_deref().map(|shifted| {
            let Shifted { before, after } = shifted.clone();
            wire::Shifted { before, after }
        }),
    }
}

fn id(record: &Record) -> String {
    match () {
        () if record.is_by_hand() => "by-hand".to_owned(),
        () if record.version.is_empty() => format!("flip-{}", record.run),
        () => format!("run-{}", record.run),
    }
}

pub(super) fn percent(share: Share) -> f64 {
    f64::from(share.0) / 10_000.0
}

/// A value of a closed set as it is written.
pub(super) fn word(value: impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

/// RFC 3339 with three digits of a second always, so that texts sort as moments do.
fn time(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map(|at| format!("{at:.3}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn moments_sort_as_their_texts_do() {
        let texts = [0, 1_792_222_573_200, 1_792_222_573_207].map(super::time);
        assert_eq!(texts[0], "1970-01-01T00:00:00.000Z");
        assert!(texts[1].contains(".200") && texts[1] < texts[2], "{texts:?}");
    }
}
