//! Probes, ejection, breaker and slow start of an upstream: checked, and given their live state.
//!
//! It must never give live state to what is not watched.

use std::sync::Arc;

use http::uri::PathAndQuery;

use super::upstreams::Upstreams;
use super::{Context, filters};
use crate::ledger::guard::{BreakerRules, OutlierRules, ProbeRules};
use crate::plan::guard::{Breaker, Fallback, Probe, ProbeAsk, Stand, Watch};
use crate::plan::{Upstream, UpstreamProtocol};
use crate::spec::Spot;
use crate::spec::health::{HealthCheck, Outlier, ProbeKind};
use crate::spec::scalar::Span;
use crate::spec::upstream::Upstream as Written;

/// Bounds of spans, in milliseconds: shorter ones would be work without a gain.
const SHORTEST: u64 = 100;
const LONGEST: u64 = 24 * 3_600_000;
/// Most answers in a row that a threshold may ask for.
const MOST: u32 = 1_000;

pub(super) fn watch(context: &mut Context<'_>, name: &Arc<str>, written: &Written) -> Option<Watch> {
    let probe = written.health_check.as_ref().and_then(|check| probe(context, check));
    let outlier = written.outlier.as_ref().map(|outlier| self::outlier(context, outlier));
    let slow_start = written.slow_start.map_or(0, |span| match millis(span.value) {
        0 => 0,
        _ => bounded(context, &span, "slowStart"),
    });
    if probe.is_none() && outlier.is_none() && slow_start == 0 {
        return None;
    }
    Some(Watch { cell: context.inputs.book.upstream_guard(name), probe, outlier, slow_start })
}

fn probe(context: &mut Context<'_>, written: &Spot<HealthCheck>) -> Option<Probe> {
    let check = &written.value;
    let foreign = match check.kind {
        ProbeKind::Http => check.service.line > 0,
        ProbeKind::Tcp => check.service.line > 0 || check.path.line > 0,
        ProbeKind::Grpc => check.path.line > 0,
    };
    if foreign {
        let message = "a key of another type of probe is written";
        context.findings.error(written, "bad-value", message, "path, expect: http; service: grpc");
    }
    let path = check.path.parse::<PathAndQuery>().ok().filter(|_| check.path.starts_with('/'));
    if path.is_none() {
        let message = format!("`{}` is not a path", *check.path);
        context.findings.error(&check.path, "bad-path", message, "write /healthz");
    }
    if check.expect.is_empty() {
        let message = "no status is expected: every endpoint would be out";
        context.findings.error(written, "empty-expect", message, "expect: [200]");
    }
    for status in check.expect.iter().filter(|status| !(200..=599).contains(&status.value)) {
        let message = format!("{} is no status of an answer", status.value);
        context.findings.error(status, "unknown-status", message, "200 to 599");
    }
    for threshold in [&check.healthy_threshold, &check.unhealthy_threshold] {
        counted(context, threshold, "a threshold");
    }
    let rules = ProbeRules {
        interval: bounded(context, &check.interval, "interval"),
        healthy: check.healthy_threshold.value,
        unhealthy: check.unhealthy_threshold.value,
    };
    let ask = match check.kind {
        ProbeKind::Http => ProbeAsk::Http(path?, check.expect.iter().map(|status| status.value).collect()),
        ProbeKind::Tcp => ProbeAsk::Tcp,
        ProbeKind::Grpc => ProbeAsk::Grpc(check.service.as_str().into()),
    };
    bounded(context, &check.timeout, "timeout");
    Some(Probe { ask, timeout: check.timeout.0, rules })
}

fn outlier(context: &mut Context<'_>, written: &Spot<Outlier>) -> OutlierRules {
    counted(context, &written.consecutive_errors, "consecutiveErrors");
    OutlierRules {
        errors: written.consecutive_errors.value,
        base: bounded(context, &written.base_ejection, "baseEjection"),
        share: written.max_ejected_percent.parts_per_million,
    }
}

/// The breaker of an upstream; its fallback must exist and be another one.
pub(super) fn breaker(context: &mut Context<'_>, name: &Arc<str>, written: &Written) -> Option<Breaker> {
    let spot = written.breaker.as_ref()?;
    if spot.error_rate.parts_per_million == 0 {
        let message = "an errorRate of 0% would open at the first failure and never close";
        context.findings.error(&spot.error_rate, "bad-value", message, "50% is the default");
    }
    let rules = BreakerRules {
        error_rate: spot.error_rate.parts_per_million,
        min_requests: u64::from(spot.min_requests.max(1)),
        window: bounded(context, &spot.window, "window"),
        open: bounded(context, &spot.open, "open"),
    };
    let fallback = match &spot.fallback {
        None => Fallback::None,
        Some(fallback) => match (&fallback.upstream, &fallback.respond) {
            (Some(other), None) => {
                let at = if other.line > 0 { other.with(()) } else { fallback.with(()) };
                let known = context.inputs.spec.files.iter().flat_map(|(_, file)| file.upstreams.keys());
                let known: Vec<&str> = known.map(|name| name.as_str()).collect();
                if other.as_str() == &**name {
                    let message = "an upstream cannot answer for itself";
                    context.findings.error(&at, "bad-fallback", message, "name another upstream");
                } else if !known.contains(&other.as_str()) {
                    let message = format!("there is no upstream `{}`", **other);
                    let hint = crate::spec::parse::guess(other, &known);
                    context.findings.error(&at, "unknown-upstream", message, hint);
                }
                Fallback::Upstream(Arc::from(other.as_str()))
            }
            (None, Some(respond)) => {
                filters::respond(context, respond).map(Fallback::Respond).unwrap_or_default()
            }
            _ => {
                let message = "a fallback is one thing";
                let hint = "fallback: NAME, or fallback: { respond: { status: 503 } }";
                context.findings.error(fallback, "bad-fallback", message, hint);
                Fallback::None
            }
        },
    };
    Some(Breaker { cell: context.inputs.book.breaker(name), rules, fallback })
}

/// The upstream that answers for an arm of `upstream` while its breaker is open.
pub(super) fn stand(
    context: &Context<'_>,
    route: &Arc<str>,
    arm: &Arc<str>,
    upstream: &Upstream,
    upstreams: &Upstreams,
) -> Option<Stand> {
    let Fallback::Upstream(name) = &upstream.breaker.as_ref()?.fallback else { return None };
    let upstream = Arc::clone(upstreams.get(name)?);
    Some(Stand { cell: context.inputs.book.cell(route, arm, &upstream.name), upstream })
}

/// Warns of probes that cannot be right for the protocol of their upstream.
pub(super) fn fits(context: &mut Context<'_>, upstream: &Upstream, written: &Written) {
    let Some(check) = written.health_check.as_ref().filter(|one| one.kind == ProbeKind::Grpc) else { return };
    if upstream.protocol != UpstreamProtocol::H2 {
        let message = format!("gRPC probes speak HTTP/2, and `{}` is not asked in it", upstream.name);
        context.findings.warn(check, "probe-protocol", message, "protocol: h2");
    }
}

fn counted(context: &mut Context<'_>, count: &Spot<u32>, what: &str) {
    if !(1..=MOST).contains(&count.value) {
        context.findings.error(count, "bad-value", format!("{what} is from 1 to {MOST}"), "");
    }
}

fn bounded(context: &mut Context<'_>, span: &Spot<Span>, what: &str) -> u64 {
    let found = millis(span.value);
    if !(SHORTEST..=LONGEST).contains(&found) {
        context.findings.error(span, "bad-value", format!("`{what}` is from 100ms to 24h"), "");
    }
    found.clamp(SHORTEST, LONGEST)
}

fn millis(span: Span) -> u64 {
    u64::try_from(span.0.as_millis()).unwrap_or(u64::MAX)
}
