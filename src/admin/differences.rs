//! What mirrored requests were answered differently, as operators and a scrape see it. It must never
//! compare: the control plane does.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, State};

use super::error::Refused;
use super::scrape::ratio;
use super::views::millis;
use super::{Admin, Shared};
use crate::analysis::Bins;
use crate::analysis::differences::tally::LEAST_NOISE;
use crate::analysis::differences::{Differing, Sample, Standing};
use crate::control;
use crate::control::differences::{Row, Rows};
use crate::model::{BodyRule, CompareRules};
use crate::plan::Route;
use crate::telemetry::metrics::DifferenceSeries;
use crate::wire;

pub(super) async fn differences(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<wire::Differences>, Refused> {
    let plan = shared.admin.0.plans.load_full();
    let route = control::find(&plan, &name)?;
    let known = shared.admin.0.control.differences();
    Ok(Json(view(&route.name, &known.rows(), known.dropped())))
}

/// What the mirrors of one route showed.
pub(super) fn view(route: &str, rows: &Rows, dropped: u64) -> wire::Differences {
    let mirrors = rows.get(route).into_iter().flat_map(BTreeMap::values).map(mirrored);
    wire::Differences { route: route.to_owned(), mirrors: mirrors.collect(), dropped }
}

/// Who gets copies of a route's requests, what became of them, and whether answers differ.
pub(super) fn mirrors(admin: &Admin, route: &Route) -> Vec<wire::Mirror> {
    if route.mirrors.is_empty() {
        return Vec::new();
    }
    let rows = admin.0.control.differences().rows();
    let rows = rows.get(&*route.name);
    let found = route.mirrors.iter().zip(0_u8..).map(|(mirror, at)| {
        let totals = mirror.cell.totals();
        let row = rows.and_then(|rows| rows.get(&at)).filter(|row| row.wanted.rules.is_some());
        wire::Mirror {
            to: mirror.upstream.name.to_string(),
            percent: f64::from(mirror.sample) / 10_000.0,
            sampled: totals.sampled,
            sent: totals.sent(),
            dropped: totals.dropped().map(|(reason, count)| (reason.label().to_owned(), count)).collect(),
            p99_ms: totals.head.quantile(0.99).map(millis),
            pairs: mirror.pairs().then_some(totals.pairs),
            differing: row.map(|row| places(&row.report.differing)),
        }
    });
    found.collect()
}

fn places(differing: &[Differing]) -> wire::Places {
    let count = |standing| differing.iter().filter(|one| one.standing == standing).count();
    wire::Places {
        confirmed: count(Standing::Confirmed),
        unconfirmed: count(Standing::Unconfirmed),
        noise: count(Standing::Noise),
    }
}

/// Differences by route, upstream and kind.
pub(super) fn series(rows: &Rows) -> Vec<DifferenceSeries> {
    let mut counts: BTreeMap<(&str, &str, &'static str), u64> = BTreeMap::new();
    for (route, row) in rows.iter().flat_map(|(route, rows)| rows.values().map(move |row| (route, row))) {
        for (kind, count) in &row.report.by_kind {
            *counts.entry((route, &row.wanted.to, kind.label())).or_default() += count;
        }
    }
    let series = counts.into_iter().map(|((route, upstream, kind), count)| DifferenceSeries {
        route: route.to_owned(),
        upstream: upstream.to_owned(),
        kind,
        count,
    });
    series.collect()
}

fn mirrored(row: &Row) -> wire::Mirrored {
    let report = &row.report;
    let paired = report.paired;
    let [primary, shadow] = &report.latency;
    wire::Mirrored {
        to: row.wanted.to.to_string(),
        compare: row.wanted.rules.as_ref().map(words).unwrap_or_default(),
        live: row.wanted.live,
        since_millis: row.since_millis,
        pairs: report.pairs,
        noise_pairs: report.noise,
        noise_needed: LEAST_NOISE,
        unread: report.unread,
        failures: wire::Discordance {
            both_good: paired.both_good,
            primary_bad: paired.stable_bad,
            shadow_bad: paired.shadow_bad,
            both_bad: paired.both_bad,
        },
        latency: wire::Latency { primary: quantiles(primary), shadow: quantiles(shadow) },
        by_kind: report.by_kind.iter().map(|(kind, count)| (kind.label().to_owned(), *count)).collect(),
        differences: report.differing.iter().map(|one| differing(one, report.pairs, report.noise)).collect(),
        samples: report.samples.iter().map(mismatch).collect(),
    }
}

fn words(rules: &CompareRules) -> Vec<String> {
    let body = match rules.body {
        BodyRule::None => None,
        BodyRule::Bytes => Some("body"),
        BodyRule::Json => Some("json"),
    };
    let status = rules.status.then_some("status");
    let headers = rules.headers.iter().map(http::HeaderName::as_str);
    status.into_iter().chain(headers).chain(body).map(str::to_owned).collect()
}

fn quantiles(bins: &Bins) -> wire::Quantiles {
    let millis = |q: f64| bins.quantile(q).map(|nanos| ratio(nanos, 1_000_000));
    wire::Quantiles { p50_ms: millis(0.5), p90_ms: millis(0.9), p99_ms: millis(0.99) }
}

fn differing(one: &Differing, pairs: u64, noise: u64) -> wire::Differing {
    wire::Differing {
        kind: one.kind.label().to_owned(),
        path: one.path.clone(),
        standing: one.standing.label().to_owned(),
        pairs: one.pairs,
        share: ratio(one.pairs, pairs.max(1)),
        noise: one.noise,
        noise_share: ratio(one.noise, noise.max(1)),
    }
}

fn mismatch(one: &Sample) -> wire::Mismatch {
    wire::Mismatch {
        at_millis: one.at_millis,
        request_id: one.request_id.clone(),
        method: one.method.clone(),
        target: one.target.clone(),
        kind: one.difference.kind.label().to_owned(),
        path: one.difference.path.clone(),
        primary: one.difference.primary.clone(),
        shadow: one.difference.shadow.clone(),
    }
}
