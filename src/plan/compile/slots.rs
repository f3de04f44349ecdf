//! Blue-green: which slot serves, and what surrounds an exchange of the two.
//!
//! The file says which slot serves at first; from the first exchange on run-time intent does, as long
//! as the file has the same two slots. It must never let the file's first word undo an exchange.

use super::split::Named;
use super::upstreams::Upstreams;
use super::{Context, rules};
use crate::analysis::Policy;
use crate::model::ArmIx;
use crate::plan::UpstreamProtocol;
use crate::plan::flip::{FlipRules, Smoke};
use crate::spec::Spot;
use crate::spec::route::Route as Written;
use crate::spec::split::{BlueGreen, Smoke as WrittenSmoke};

/// Most smoke requests to one endpoint, all kinds together.
const MAX_SMOKE: u32 = 100;
/// Longest time of a verification or a drain in seconds.
const LONGEST: u64 = 24 * 3_600;

/// The slot that serves and the idle one, by name.
pub(super) fn in_force<'a>(context: &Context<'a>, written: &'a Written) -> Option<(&'a str, &'a str)> {
    let pair = written.blue_green.as_ref()?;
    let [first, second] = &pair.slots.value[..] else { return None };
    let exchanged = context.inputs.overlay.slots.get(&written.name.value);
    if let Some(slots) = exchanged.filter(|slots| slots.is_of(first, second)) {
        return Some((&slots.active, &slots.idle));
    }
    let other = if first.value == pair.active.value { second } else { first };
    Some((&pair.active, other))
}

/// Gives the slot that serves everything.
pub(super) fn weigh(named: &mut Named<'_>, serving: Option<(&str, &str)>) {
    let Some((active, _)) = serving else { return };
    for (name, (_, arm)) in named {
        arm.value.weight.0 = if *name == active { 100 } else { 0 };
    }
}

/// The same as arms.
pub(super) fn indices(slots: Option<(&str, &str)>, names: &[&str]) -> Option<(ArmIx, ArmIx)> {
    let index = |wanted: &str| {
        names.iter().position(|name| *name == wanted).and_then(|at| u8::try_from(at).ok()).map(ArmIx)
    };
    let (active, idle) = slots?;
    Some((index(active)?, index(idle)?))
}

/// How the slots of a route are exchanged; every finding is reported.
pub(super) fn rules(
    context: &mut Context<'_>,
    written: &Written,
    upstreams: &Upstreams,
) -> Option<FlipRules> {
    let pair = written.blue_green.as_ref()?;
    let verify = &pair.verify;
    if verify.span.0.as_secs() > LONGEST || pair.drain.0.as_secs() > LONGEST {
        let message = "`verify.for` and `drain` are at most 24h";
        context.findings.error(pair, "bad-value", message, "60s is the default of both");
    }
    let limits = Policy::verification(&verify.thresholds, verify.span.0, &context.findings.file);
    let limits = limits.unwrap_or_else(|found| {
        context.findings.extend(found);
        None
    });
    let smoke = pair.smoke.as_ref().map(|list| smoke(context, pair, list, upstreams)).unwrap_or_default();
    Some(FlipRules { smoke: smoke.into(), verify: verify.span.0, limits, drain: pair.drain.0 })
}

fn smoke(
    context: &mut Context<'_>,
    pair: &BlueGreen,
    list: &Spot<Vec<Spot<WrittenSmoke>>>,
    upstreams: &Upstreams,
) -> Vec<Smoke> {
    if list.is_empty() {
        let hint = "smoke: [{ path: /healthz }], or remove it";
        context.findings.error(list, "empty-smoke", "the smoke test has no request", hint);
    }
    let h2 = pair
        .slots
        .iter()
        .find(|slot| upstreams.get(slot.as_str()).is_some_and(|one| one.protocol == UpstreamProtocol::H2));
    if let Some(slot) = h2 {
        let message = format!("smoke requests are HTTP/1.1, and `{}` speaks HTTP/2 alone", **slot);
        context.findings.error(list, "smoke-protocol", message, "remove `smoke`; `verify` watches the slot");
    }
    let asked = list.iter().map(|one| u64::from(one.count.value)).sum::<u64>();
    if asked > u64::from(MAX_SMOKE) {
        let message = format!("the smoke test asks each endpoint {asked} times, at most are {MAX_SMOKE}");
        context.findings.error(list, "too-many", message, "lower `count`");
    }
    list.iter().filter_map(|one| request(context, one)).collect()
}

fn request(context: &mut Context<'_>, written: &Spot<WrittenSmoke>) -> Option<Smoke> {
    let path = &written.path;
    if !path.starts_with('/') || path.parse::<http::uri::PathAndQuery>().is_err() {
        let message = format!("`{}` is not a path", **path);
        context.findings.error(path, "bad-path", message, "write /healthz");
    }
    if written.expect.is_empty() {
        let message = "no status is expected: the smoke test would always fail";
        context.findings.error(written, "empty-smoke", message, "expect: [200]");
    }
    for status in written.expect.iter().filter(|status| !(200..=599).contains(&status.value)) {
        let message = format!("{} is no status of an answer", status.value);
        context.findings.error(status, "unknown-status", message, "200 to 599");
    }
    if written.count.value == 0 {
        context.findings.error(&written.count, "bad-value", "`count` is 0", "leave the entry out instead");
    }
    let method = rules::method(context, &written.method)?;
    let host = match &written.host {
        Some(host) => Some(rules::header_value(context, host)?),
        None => None,
    };
    Some(Smoke {
        path: path.as_str().into(),
        expect: written.expect.iter().map(|status| status.value).collect(),
        count: written.count.value,
        method,
        host,
    })
}
