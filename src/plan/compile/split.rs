//! Splits: arms and their weights, slots, sticky keys, overrides, blue-green as two arms.
//!
//! It must never lay out buckets by the order of keys in the file, nor move an arm because of a sibling.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::{HeaderName, HeaderValue};

use super::upstreams::Upstreams;
use super::{Context, filters, guard, guided, overrides, routes, slots, sticky};
use crate::analysis::Policy;
use crate::ledger::RuleCell;
use crate::model::{ArmIx, Provenance};
use crate::plan::{Arm, Compare, WeightSource};
use crate::spec::parse::guess;
use crate::spec::route::Route as Written;
use crate::spec::split::{Arm as WrittenArm, BlueGreen};
use crate::spec::{Short, Spot};
use crate::split::ranges::{Claim, Ranges, SLOTS, widths};
use crate::split::{Override, Salt, Split};

/// How a route divides its traffic.
pub(super) struct Division {
    pub split: Split,
    pub arms: Vec<Arm>,
    pub default_arm: ArmIx,
    pub rule_cells: Box<[Box<[Arc<RuleCell>]>]>,
    pub private_headers: Vec<HeaderName>,
    pub operator: Option<Provenance>,
    pub policy: Option<Arc<Policy>>,
    pub trial: Option<Compare>,
    pub slots: Option<(ArmIx, ArmIx)>,
    pub fingerprint: u64,
}

pub(super) type Named<'a> = BTreeMap<&'a str, (&'a Spot<String>, Spot<WrittenArm>)>;

pub(super) fn compile(
    context: &mut Context<'_>,
    written: &Written,
    route: &Arc<str>,
    upstreams: &Upstreams,
    answered: bool,
) -> Option<Division> {
    let sticky = written.sticky.as_ref();
    let keys = sticky.map(|sticky| sticky::keys(context, sticky)).unwrap_or_default();
    let issue = sticky.and_then(|sticky| sticky::issue(context, sticky));
    let mut named = arms_as_written(context, written, answered)?;
    let fingerprint = split_fingerprint(&named);
    let serving = slots::in_force(context, written);
    slots::weigh(&mut named, serving);
    let names: Vec<&str> = named.keys().copied().collect();
    let overlay = context.inputs.overlay.routes.get(&**route);
    let overlay = overlay.filter(|overlay| overlay.split_fingerprint == fingerprint);
    let policy = guided::policy(context, written);
    let guide = context.inputs.overlay.guided.get(&**route).filter(|_| overlay.is_none());
    let written_weights: Vec<u32> = named.values().map(|(_, arm)| arm.weight.0).collect();
    let weights = guided::in_force(overlay, guide, policy.as_deref(), &names, written_weights);
    if !named.is_empty() && overlay.is_none() {
        warn_of_no_weight(context, written, &weights);
    }
    let default_arm = default_arm(context, written, &names, policy.as_deref());
    let ranges = lay_out(context, written, &named, &weights, default_arm);
    let states = guided::states(overlay, guide, &names, &weights);
    let judged = policy.as_deref();
    let facts = sticky::Arms { names: &names, weights: &weights, states: &states, overlay, policy: judged };
    let pin = sticky::pin(context, written, &facts);
    let split = Split {
        salt: Salt::new(&guided::salt(
            sticky.and_then(|sticky| sticky.salt.as_deref()).map(String::as_str),
            route,
            policy.as_deref(),
        )),
        keys: keys.into(),
        issue,
        pin,
        ranges,
        overrides: overrides::compile(context, written, &names, default_arm).into(),
        arms: states,
    };
    let trial = guide.and_then(|guide| {
        guided::compare(context, guide, route, &names, policy.as_deref(), split.ranges.as_ref())
    });
    let source = guided::source(overlay, guide);
    let mut arms = arms(context, route, &named, &weights, source, upstreams)?;
    for arm in arms.iter_mut().filter(|arm| arm.weight == 0) {
        arm.draining = overlay.and_then(|overlay| overlay.draining.get(&*arm.name).copied());
    }
    let rule_cells = rule_cells(context, route, &split, &arms);
    Some(Division {
        split,
        arms,
        default_arm,
        rule_cells,
        private_headers: overrides::private_headers(written),
        operator: overlay.map(|overlay| overlay.by.clone()),
        policy,
        trial,
        slots: slots::indices(serving, &names),
        fingerprint,
    })
}

fn warn_of_no_weight(context: &mut Context<'_>, written: &Written, weights: &[u32]) {
    if weights.iter().all(|weight| *weight == 0) {
        let message = format!("no arm of route `{}` has weight: every request will get a 503", *written.name);
        context.findings.warn(&written.name, "no-weight", message, "give one arm a weight above 0");
    }
}

/// The counts of what overrides chose, by override and arm.
fn rule_cells(
    context: &Context<'_>,
    route: &Arc<str>,
    split: &Split,
    arms: &[Arm],
) -> Box<[Box<[Arc<RuleCell>]>]> {
    let cell = |rule: &Override, arm: &Arm| {
        let cell = context.inputs.book.rule(route, &Arc::from(&*rule.name), &arm.name);
        cell.known_since(u64::try_from(context.inputs.now).unwrap_or(0));
        cell
    };
    split.overrides.iter().map(|rule| arms.iter().map(|arm| cell(rule, arm)).collect()).collect()
}

/// A hash of arms, weights, upstreams and slots as written, the same in every version of the
/// program: operator weights in the state file are bound to it.
fn split_fingerprint(named: &Named<'_>) -> u64 {
    let line = |(name, (_, arm)): (&&str, &(&Spot<String>, Spot<WrittenArm>))| {
        let upstream = arm.upstream.as_deref().map_or(*name, String::as_str);
        format!("{name}\0{}\0{upstream}\0{}\n", arm.weight.0, arm.slot.map_or(0, |slot| slot.value))
    };
    xxhash_rust::xxh64::xxh64(named.iter().map(line).collect::<String>().as_bytes(), 0)
}

/// The arms by name, whether written as a split or as two slots.
fn arms_as_written<'a>(context: &mut Context<'_>, written: &'a Written, answered: bool) -> Option<Named<'a>> {
    match (&written.split, &written.blue_green) {
        (Some(split), None) => {
            if split.is_empty() {
                context.findings.error(
                    split,
                    "empty-split",
                    "the split has no arms",
                    "split: { stable: 100 }",
                );
                return None;
            }
            if split.len() > ArmIx::MAX_ARMS {
                context.findings.error(split, "too-many", format!("more than {} arms", ArmIx::MAX_ARMS), "");
                return None;
            }
            for name in split.keys() {
                routes::name(context, name, "arm");
            }
            Some(
                split
                    .iter()
                    .map(|(name, arm)| (name.as_str(), (name, arm.with(arm.value.0.clone()))))
                    .collect(),
            )
        }
        (None, Some(pair)) => slots_as_arms(context, pair),
        (Some(_), Some(pair)) => {
            context.findings.error(pair, "two-splits", "a route has either split or blueGreen", "remove one");
            None
        }
        (None, None) if answered => Some(Named::new()),
        (None, None) => {
            let message = format!("route `{}` leads nowhere", *written.name);
            context.findings.error(
                &written.name,
                "no-split",
                message,
                "add split, blueGreen, or a redirect or respond filter",
            );
            None
        }
    }
}

fn slots_as_arms<'a>(context: &mut Context<'_>, pair: &'a Spot<BlueGreen>) -> Option<Named<'a>> {
    let [first, second] = &pair.slots.value[..] else {
        context.findings.error(
            &pair.slots,
            "bad-slots",
            "blueGreen has exactly two slots",
            "slots: [blue, green]",
        );
        return None;
    };
    if first == second {
        context.findings.error(second, "bad-slots", "both slots are the same", "name two upstreams");
        return None;
    }
    if ![first, second].iter().any(|slot| slot.value == pair.active.value) {
        let hint = guess(&pair.active, &[first, second]);
        context.findings.error(
            &pair.active,
            "unknown-arm",
            format!("`{}` is not one of the slots", *pair.active),
            hint,
        );
        return None;
    }
    let arm = |slot: &'a Spot<String>| {
        let weight = if slot.value == pair.active.value { "100" } else { "0" };
        let arm = WrittenArm::from_short(weight).ok()?;
        Some((slot.as_str(), (slot, slot.with(arm))))
    };
    [arm(first), arm(second)].into_iter().collect()
}

/// `defaultArm`, else where a rollout comes from, else the active slot, else the arm named stable, else the last by name.
fn default_arm(
    context: &mut Context<'_>,
    written: &Written,
    names: &[&str],
    policy: Option<&Policy>,
) -> ArmIx {
    let index = |wanted: &str| names.iter().position(|name| *name == wanted);
    let last = names.len().saturating_sub(1);
    let from = policy.filter(|_| written.blue_green.is_none()).and_then(|policy| index(&policy.from));
    let at = match (&written.default_arm, &written.blue_green) {
        (None, None) if from.is_some() => from.unwrap_or(last),
        (Some(name), _) => index(name).unwrap_or_else(|| {
            let message = format!("there is no arm `{}`", **name);
            context.findings.error(name, "unknown-arm", message, guess(name, names));
            last
        }),
        (None, Some(_)) => {
            slots::in_force(context, written).and_then(|(active, _)| index(active)).unwrap_or(last)
        }
        (None, None) => index("stable").unwrap_or_else(|| {
            if let (Some(name), true) = (names.get(last), names.len() > 1) {
                let message =
                    format!("no arm is named stable, so `{name}`, the last by name, is the default arm");
                let hint = "say `defaultArm:`; it owns the remainder and counts as the stable side";
                context.findings.warn(&written.name, "default-arm", message, hint);
            }
            last
        }),
    };
    ArmIx(u8::try_from(at).unwrap_or(0))
}

/// The slots that are written, each taken by at most one arm.
fn used_slots(context: &mut Context<'_>, named: &Named<'_>) -> [bool; SLOTS as usize] {
    let mut used = [false; SLOTS as usize];
    for (_, arm) in named.values() {
        let Some(slot) = arm.slot else { continue };
        match usize::from(slot.value).checked_sub(1).and_then(|at| used.get_mut(at)) {
            None => context.findings.error(
                &slot,
                "bad-slot",
                format!("slot {} is not 1 to {SLOTS}", slot.value),
                "",
            ),
            Some(taken) if *taken => {
                let message = format!("slot {} is taken by another arm", slot.value);
                context.findings.error(
                    &slot,
                    "duplicate-slot",
                    message,
                    "every arm grows from a slot of its own",
                );
            }
            Some(free) => *free = true,
        }
    }
    used
}

/// Gives every other arm a slot and lays out the buckets.
fn lay_out(
    context: &mut Context<'_>,
    written: &Written,
    named: &Named<'_>,
    weights: &[u32],
    default_arm: ArmIx,
) -> Option<Ranges> {
    let used = used_slots(context, named);
    let others = named.len().saturating_sub(1);
    let mut next = used
        .iter()
        .zip(1_u8..)
        .filter(|(taken, _)| !**taken)
        .map(|(_, slot)| slot)
        .collect::<Vec<_>>()
        .into_iter();
    let mut claims = Vec::new();
    let mut filled = Vec::new();
    let widths = widths(weights, default_arm);
    for (((name, (_, arm)), width), index) in named.iter().zip(widths).zip(0_u8..) {
        if ArmIx(index) == default_arm {
            continue;
        }
        let slot = arm.slot.map_or_else(
            || {
                let slot = next.next().unwrap_or(SLOTS + 1);
                filled.push(format!("{name}: {slot}"));
                slot
            },
            |slot| slot.value,
        );
        claims.push(Claim { arm: ArmIx(index), slot, width });
    }
    if others > 1 && !filled.is_empty() {
        let message = format!("arms without a slot were given one in name order: {}", filled.join(", "));
        let hint = "write `slot:` so that adding an arm never moves its siblings' users";
        context.findings.warn(&written.name, "unset-slot", message, hint);
    }
    if weights.iter().all(|weight| *weight == 0) {
        return None;
    }
    let ranges = Ranges::lay_out(&claims, default_arm);
    if ranges.collided {
        let message = "two arms grow into each other; changing one weight will move users of the other";
        context.findings.warn(
            &written.name,
            "slots-collide",
            message,
            "slots 1 and 3, and 2 and 4, share a half each",
        );
    }
    Some(ranges)
}

fn arms(
    context: &mut Context<'_>,
    route: &Arc<str>,
    named: &Named<'_>,
    weights: &[u32],
    source: WeightSource,
    upstreams: &Upstreams,
) -> Option<Vec<Arm>> {
    let mut found = Vec::with_capacity(named.len());
    for (name, (spot, arm)) in named {
        let wanted = arm.upstream.as_ref().unwrap_or(spot);
        let Some(upstream) = upstreams.get(wanted.as_str()) else {
            let known: Vec<&str> = upstreams.keys().map(|name| &**name).collect();
            let exists = context
                .inputs
                .spec
                .files
                .iter()
                .any(|(_, file)| file.upstreams.contains_key(wanted.as_str()));
            if !exists {
                let message = format!("there is no upstream `{}` for arm `{name}`", **wanted);
                let hint = match guess(wanted, &known) {
                    near if near.starts_with("did") => near,
                    _ => format!("define it under upstreams, or say `{name}: {{ weight: …, upstream: … }}`"),
                };
                context.findings.error(wanted, "unknown-upstream", message, hint);
            }
            continue;
        };
        found.push((*name, arm, Arc::clone(upstream)));
    }
    if found.len() < named.len() {
        return None;
    }
    let answering: Vec<Arc<str>> = found.iter().map(|(_, _, upstream)| Arc::clone(&upstream.name)).collect();
    let compiled = found.into_iter().zip(weights).map(|((name, arm, upstream), weight)| {
        let name: Arc<str> = Arc::from(name);
        let ops = |context: &mut Context<'_>, edit: &Option<Spot<crate::spec::filter::HeaderEdit>>| {
            edit.as_ref().map(|edit| filters::header_ops(context, edit)).unwrap_or_default()
        };
        Arm {
            header_value: HeaderValue::try_from(&*name).unwrap_or(HeaderValue::from_static("")),
            weight: *weight,
            written: arm.weight.0,
            source,
            draining: None,
            request_ops: ops(context, &arm.request_headers),
            response_ops: ops(context, &arm.response_headers),
            cells: answering
                .iter()
                .map(|upstream| context.inputs.book.cell(route, &name, upstream))
                .collect(),
            stand: guard::stand(context, route, &name, &upstream, upstreams),
            upstream,
            name,
        }
    });
    Some(compiled.collect())
}
