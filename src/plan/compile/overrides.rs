//! Overrides: who is steered past the split, to which arm or segment, and when.
//!
//! A blue-green preview is an override like any other.

use std::collections::BTreeMap;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use http::HeaderName;

use super::rules::Kind;
use super::{Context, routes, rules, slots};
use crate::model::ArmIx;
use crate::spec::Spot;
use crate::spec::parse::guess;
use crate::spec::route::Route as Written;
use crate::spec::scalar::Weight;
use crate::spec::split::{BlueGreen, KeySource as WrittenKey, Override as WrittenOverride};
use crate::split::Condition;
use crate::split::choose::{Override, Segment};
use crate::split::ranges::{Claim, Ranges, widths};

/// Most overrides of one route: each is asked for every request, and names two metric series.
const MAX_OVERRIDES: usize = 256;

pub(super) fn compile(
    context: &mut Context<'_>,
    written: &Written,
    names: &[&str],
    default_arm: ArmIx,
) -> Vec<Override> {
    let mut compiled: Vec<Override> = Vec::new();
    let mut seen: HashSet<&str, FixedState> = HashSet::default();
    if let Some(first) = written.overrides.get(MAX_OVERRIDES) {
        let message = format!("more than {MAX_OVERRIDES} overrides");
        context.findings.error(
            &first.name,
            "too-many",
            message,
            "put keys into a list: stickyKey: { inFile: … }",
        );
    }
    for rule in written.overrides.iter().take(MAX_OVERRIDES) {
        routes::name(context, &rule.name, "override");
        if !seen.insert(rule.name.as_str()) {
            let message = format!("override `{}` is defined twice", *rule.name);
            context.findings.error(
                &rule.name,
                "duplicate-name",
                message,
                "names are metric labels; rename one",
            );
        }
        compiled.extend(one_override(context, written, rule, names, default_arm));
    }
    if let Some(pair) = &written.blue_green {
        let slots = slots::indices(slots::in_force(context, written), names);
        compiled.extend(preview(context, pair, slots));
    }
    compiled
}

fn one_override(
    context: &mut Context<'_>,
    written: &Written,
    rule: &Spot<WrittenOverride>,
    names: &[&str],
    default_arm: ArmIx,
) -> Option<Override> {
    let when = &rule.when;
    let conditions = conditions(context, when);
    let key_tests = when.sticky_key.as_ref().map(|key| {
        if written.sticky.is_none() {
            context.findings.error(
                key,
                "no-sticky",
                "stickyKey is asked but the route is not sticky",
                "add sticky.by",
            );
        }
        let predicate = key.with(key.named(key.with("stickyKey".to_owned())));
        rules::tests(context, &predicate)
    });
    if when.predicates().next().is_none() && when.client_ip.is_empty() && when.sticky_key.is_none() {
        let message = format!("override `{}` has no condition and would catch everything", *rule.name);
        context.findings.error(
            when,
            "empty-condition",
            message,
            "add headers, cookies, queryParams, stickyKey or clientIP",
        );
    }
    let secret = when.headers.iter().any(|header| header.secret_file.is_some());
    if rule.trusted && when.client_ip.is_empty() && !secret {
        let message = "trusted needs a clientIP condition or a secret: anybody can send a header";
        let hint = "add clientIP, or a header with secretFile, or remove trusted";
        context.findings.error(&rule.name, "untrusted", message, hint);
    }
    window(context, rule);
    let segment = match (&rule.arm, &rule.split) {
        (Some(arm), None) => Segment::Arm(arm_index(context, arm, names)?),
        (None, Some(split)) => Segment::Split(segment(context, split, names, default_arm)?),
        (arm, _) => {
            let names = if arm.is_some() { "both an arm and a split" } else { "neither an arm nor a split" };
            let message = format!("override `{}` names {names}", *rule.name);
            context.findings.error(&rule.name, "bad-override", message, "name exactly one");
            return None;
        }
    };
    Some(Override {
        name: rule.name.as_str().into(),
        owner: rule.owner.as_deref().map(Into::into),
        conditions: conditions.into(),
        networks: when.client_ip.iter().map(|net| net.0).collect(),
        key_tests: key_tests.unwrap_or_default().into(),
        active_from: rule.active_from.map(|spot| spot.value.0),
        active_until: rule.active_until.map(|spot| spot.value.0),
        segment,
        force: rule.force,
        trusted: rule.trusted,
    })
}

fn conditions(context: &mut Context<'_>, when: &crate::spec::rule::When) -> Vec<Condition> {
    let mut all = rules::conditions(context, Kind::Header, &when.headers);
    all.extend(rules::conditions(context, Kind::Cookie, &when.cookies));
    all.extend(rules::conditions(context, Kind::Query, &when.query_params));
    all
}

fn window(context: &mut Context<'_>, rule: &Spot<WrittenOverride>) {
    if let (Some(from), Some(until)) = (rule.active_from, rule.active_until)
        && from.value >= until.value
    {
        let message = format!("the window of override `{}` ends before it begins", *rule.name);
        context.findings.error(&until, "bad-window", message, "activeFrom must be earlier than activeUntil");
        return;
    }
    if let Some(until) = rule.active_until.filter(|until| until.value.0 <= context.inputs.now) {
        let message = format!("the window of override `{}` has ended; it catches nothing", *rule.name);
        context.findings.warn(&until, "expired-window", message, "remove the override");
    }
}

fn arm_index(context: &mut Context<'_>, arm: &Spot<String>, names: &[&str]) -> Option<ArmIx> {
    let found = names.iter().position(|name| *name == arm.as_str()).and_then(|at| u8::try_from(at).ok());
    if found.is_none() {
        context.findings.error(arm, "unknown-arm", format!("there is no arm `{}`", **arm), guess(arm, names));
    }
    found.map(ArmIx)
}

/// A split inside a segment: the same buckets, so a user keeps to one side of it.
fn segment(
    context: &mut Context<'_>,
    split: &Spot<BTreeMap<Spot<String>, Spot<Weight>>>,
    names: &[&str],
    default_arm: ArmIx,
) -> Option<Ranges> {
    let mut weights = vec![0; names.len()];
    let mut known = true;
    for (name, weight) in &split.value {
        match arm_index(context, name, names).and_then(|arm| weights.get_mut(arm.at())) {
            Some(slot) => *slot = weight.value.0,
            None => known = false,
        }
    }
    if !known {
        return None;
    }
    if weights.iter().all(|weight| *weight == 0) {
        context.findings.error(split, "no-weight", "no arm of the segment has weight", "");
        return None;
    }
    let widths = widths(&weights, default_arm);
    let claims: Vec<Claim> = (0_u8..)
        .zip(widths)
        .filter(|(index, _)| ArmIx(*index) != default_arm)
        .zip(1_u8..)
        .map(|((index, width), slot)| Claim { arm: ArmIx(index), slot, width })
        .collect();
    Some(Ranges::lay_out(&claims, default_arm))
}

/// The idle slot shown to those who ask: an override per way of asking.
fn preview(
    context: &mut Context<'_>,
    pair: &Spot<BlueGreen>,
    slots: Option<(ArmIx, ArmIx)>,
) -> Vec<Override> {
    let Some(preview) = &pair.preview else { return Vec::new() };
    let Some((_, idle)) = slots else { return Vec::new() };
    let rule = |conditions: Vec<Condition>| Override {
        name: "preview".into(),
        owner: None,
        conditions: conditions.into(),
        networks: Box::default(),
        key_tests: Box::default(),
        active_from: None,
        active_until: None,
        segment: Segment::Arm(idle),
        // Whoever looks for what was wrong, or for what comes next, finds it where it was put back.
        force: true,
        trusted: false,
    };
    let mut ways = Vec::new();
    if !preview.headers.is_empty() {
        ways.push(rule(rules::conditions(context, Kind::Header, &preview.headers)));
    }
    if !preview.hostnames.is_empty() {
        let hosts: Vec<Box<str>> = preview
            .hostnames
            .iter()
            .filter_map(|host| {
                if let crate::plan::router::HostPattern::Exact(name) = rules::host(context, host)? {
                    Some(name)
                } else {
                    context.findings.error(host, "bad-hostname", "a preview hostname is a whole name", "");
                    None
                }
            })
            .collect();
        ways.push(rule(vec![Condition::host_in(hosts)]));
    }
    if ways.is_empty() {
        context.findings.error(
            preview,
            "empty-condition",
            "the preview has no condition",
            "add headers or hostnames",
        );
    }
    ways
}

/// Headers that steer: kept from upstreams unless the override passes them or they are the key.
pub(super) fn private_headers(written: &Written) -> Vec<HeaderName> {
    let passed = |name: &HeaderName| {
        let keys = written.sticky.iter().flat_map(|sticky| &sticky.by.value);
        keys.into_iter().any(
            |key| matches!(&key.value, WrittenKey::Header(key) if key.eq_ignore_ascii_case(name.as_str())),
        )
    };
    let rules = written.overrides.iter().filter(|rule| !rule.pass).flat_map(|rule| &rule.when.headers);
    let previews = written
        .blue_green
        .iter()
        .filter_map(|pair| pair.preview.as_ref())
        .flat_map(|preview| &preview.headers);
    let mut names: Vec<HeaderName> = rules
        .chain(previews)
        .filter_map(|predicate| HeaderName::from_bytes(predicate.name.as_bytes()).ok())
        .filter(|name| !passed(name) && *name != http::header::HOST)
        .collect();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    names.dedup();
    names
}
