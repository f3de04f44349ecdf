//! What a rollout changes of a split: the weights of its two arms, the salt, and what is counted.
//!
//! Other arms keep what they have. It must never give the new version weight that no rollout asked
//! for: while a block is there, the file's own weight for it is only a wish.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Context, slots};
use crate::analysis::Policy;
use crate::analysis::policy::Status;
use crate::ledger::Trial;
use crate::ledger::trial::SLOTS;
use crate::model::{ArmIx, Guided, RouteOverlay};
use crate::plan::mirror::Bad;
use crate::plan::{Compare, StatusSet, WeightSource};
use crate::spec::route::Route as Written;
use crate::split::Ranges;
use crate::split::bucket::BUCKETS;
use crate::split::choose::ArmState;

/// Everything, in parts per million.
const ALL: u64 = 1_000_000;

/// The policy of a route's rollout block; what is wrong with it is found here.
pub(super) fn policy(context: &mut Context<'_>, written: &Written) -> Option<Arc<Policy>> {
    written.rollout.as_ref()?;
    match Policy::compile(written, &context.findings.file) {
        Ok(mut policy) => {
            if let Some((active, idle)) = slots::in_force(context, written) {
                (policy.from, policy.to) = (active.to_owned(), idle.to_owned());
            }
            if policy.conduct.bake <= 0.0
                && let Some(block) = &written.rollout
            {
                context.findings.warn(
                    block,
                    "no-bake",
                    "with `bake: 0s` a version is promoted the moment it has everything: what only shows at \
                     100 % is never compared",
                    "write `bake: 10m`, the default",
                );
            }
            Some(Arc::new(policy))
        }
        Err(found) => {
            context.findings.extend(found);
            None
        }
    }
}

/// The weights in arm order: what a person set, else what a rollout says, else the file's.
pub(super) fn in_force(
    overlay: Option<&RouteOverlay>,
    guide: Option<&Guided>,
    policy: Option<&Policy>,
    names: &[&str],
    written: Vec<u32>,
) -> Vec<u32> {
    match (overlay, guide) {
        (Some(one), _) => names.iter().map(|name| one.weights.get(*name).copied().unwrap_or(0)).collect(),
        (None, Some(guide)) => weights(guide, names, written),
        (None, None) => before_any(policy, names, written),
    }
}

/// What run-time intent says of each arm.
pub(super) fn states(
    overlay: Option<&RouteOverlay>,
    guide: Option<&Guided>,
    names: &[&str],
    weights: &[u32],
) -> Box<[ArmState]> {
    let zeroed = |weight: u32| overlay.is_some() && weight == 0;
    let voided = |name: &str| guide.is_some_and(|guide| guide.void.as_deref() == Some(name));
    let arms = names.iter().zip(weights);
    arms.map(|(name, weight)| ArmState { void: zeroed(*weight) || voided(name) }).collect()
}

/// Where the weights in force come from.
pub(super) fn source(overlay: Option<&RouteOverlay>, guide: Option<&Guided>) -> WeightSource {
    match (overlay, guide) {
        (Some(_), _) => WeightSource::Operator,
        (None, Some(guide)) if guide.share.is_some() => WeightSource::Rollout,
        _ => WeightSource::Spec,
    }
}

/// The weights in arm order while a rollout guides two of them.
fn weights(guide: &Guided, names: &[&str], written: Vec<u32>) -> Vec<u32> {
    match guide.share {
        Some(share) => divided(names, written, &guide.from, &guide.to, share),
        None => written,
    }
}

/// The weights before a rollout was ever begun: the new version has none.
fn before_any(policy: Option<&Policy>, names: &[&str], written: Vec<u32>) -> Vec<u32> {
    match policy {
        Some(policy) => divided(names, written, &policy.from, &policy.to, 0),
        None => written,
    }
}

/// Gives `to` a share of what both arms have together, in the written scale where it divides evenly.
fn divided(names: &[&str], mut weights: Vec<u32>, from: &str, to: &str, share: u32) -> Vec<u32> {
    let at = |wanted: &str| names.iter().position(|name| *name == wanted);
    let (Some(from), Some(to)) = (at(from), at(to)) else { return weights };
    let weight = |at: usize| weights.get(at).copied().map_or(0, u64::from);
    let both = (weight(from) + weight(to)).max(1);
    let share = u64::from(share).min(ALL);
    let fits = both * share % ALL == 0;
    let (scale, total) = if fits { (1, both) } else { (ALL, ALL) };
    let narrow = |weight: u64| u32::try_from(weight).unwrap_or(u32::MAX);
    for weight in &mut weights {
        *weight = narrow(u64::from(*weight) * scale / if fits { 1 } else { both });
    }
    let given = total * share / ALL;
    for (index, value) in [(to, given), (from, total - given)] {
        if let Some(weight) = weights.get_mut(index) {
            *weight = narrow(value);
        }
    }
    weights
}

/// The seed of the buckets: with a rollout the version's own, so that no unlucky draw of users
/// follows a route from one version to the next.
pub(super) fn salt<'a>(written: Option<&'a str>, route: &'a str, policy: Option<&Policy>) -> Cow<'a, str> {
    match (written, policy) {
        (Some(salt), _) => salt.into(),
        (None, Some(policy)) => format!("{route}/{}", policy.version).into(),
        (None, None) => route.into(),
    }
}

/// What requests need to be counted for a comparison.
pub(super) fn compare(
    context: &Context<'_>,
    guide: &Guided,
    route: &Arc<str>,
    names: &[&str],
    policy: Option<&Policy>,
    ranges: Option<&Ranges>,
) -> Option<Compare> {
    let (compared, policy) = (guide.compared.as_ref()?, policy?);
    let arm = |wanted: &str| {
        let at = names.iter().position(|name| *name == wanted)?;
        u8::try_from(at).ok().map(ArmIx)
    };
    let reference = if compared.candidate == guide.to { &guide.from } else { &guide.to };
    let book = context.inputs.book;
    let earlier = book.trials(route);
    let fresh = || {
        Trial::new(compared.epoch, book.workers(), compared.seed, ranges.map(cut).unwrap_or_default())
            .after(earlier.last().map(|trial| &**trial))
    };
    let (reference, candidate) = (arm(reference)?, arm(&compared.candidate)?);
    let width = |arm: ArmIx| {
        let ranges = ranges.into_iter().flat_map(Ranges::iter).filter(|(_, _, owner)| *owner == arm);
        ranges.map(|(first, last, _)| f64::from(last - first) + 1.0).sum::<f64>()
    };
    let both = width(candidate) + width(reference);
    Some(Compare {
        trial: book.trial(route, compared.epoch, fresh),
        reference,
        candidate,
        w: if both > 0.0 { width(candidate) / both } else { 0.0 },
        bad_statuses: bad(policy).statuses,
        bad_grpc: bad(policy).grpc,
    })
}

/// What a policy calls bad.
pub(super) fn bad(policy: &Policy) -> Bad {
    let codes = policy.bad_grpc.iter();
    let grpc = codes.fold(0, |set, code| set | 1_u32.checked_shl(u32::from(*code)).unwrap_or(0));
    Bad { statuses: statuses(&policy.bad_statuses), grpc }
}

/// The slots in which a range of buckets ends: they lie in two arms.
fn cut(ranges: &Ranges) -> Vec<u16> {
    let borders = ranges.iter().skip(1).map(|(first, _, _)| u64::from(first));
    let slot = |bucket: u64| (bucket * SLOTS as u64).div_ceil(u64::from(BUCKETS)).checked_sub(1);
    borders
        .filter(|bucket| !(bucket * SLOTS as u64).is_multiple_of(u64::from(BUCKETS)))
        .filter_map(slot)
        .filter_map(|slot| u16::try_from(slot).ok())
        .collect()
}

fn statuses(written: &[Status]) -> StatusSet {
    let mut set = StatusSet::default();
    (100..600)
        .filter(|code| written.iter().any(|status| status.holds(*code)))
        .for_each(|code| set.insert(code));
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_arms_divide_what_they_have_and_others_keep_theirs() {
        let names = ["canary", "other", "stable"];
        let rows: [([u32; 3], u32, [u32; 3]); 6] = [
            ([0, 0, 100], 50_000, [5, 0, 95]),
            ([5, 0, 95], 0, [0, 0, 100]),
            ([5, 0, 95], 1_000_000, [100, 0, 0]),
            ([0, 100, 100], 10_000, [1, 100, 99]),
            ([0, 0, 1], 250_000, [250_000, 0, 750_000]),
            ([0, 1, 1], 333_333, [333_333, 1_000_000, 666_667]),
        ];
        for (written, share, expected) in rows {
            assert_eq!(
                divided(&names, written.into(), "stable", "canary", share),
                expected,
                "{written:?} {share}"
            );
        }
    }
}
