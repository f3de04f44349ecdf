//! Pure decisions on weights: which way a change goes, and which run-time intent is still meant.
//!
//! Toward stable, publish first and persist then: users are relieved even when the disk fails.
//! Toward canary, persist first: what cannot be remembered is not begun.

use std::collections::BTreeMap;

use super::command::{Changed, Expected};
use crate::model::{Generation, Overlay};
use crate::plan::Route;

/// Which way a change of weights goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// No arm but the default one gains a share, and the default one loses none.
    TowardStable,
    /// Anything else.
    TowardCanary,
}

/// The direction from one set of weights to another, both in arm order.
#[must_use]
pub fn direction(before: &[u32], after: &[u32], default_arm: usize) -> Direction {
    let total = |weights: &[u32]| weights.iter().map(|weight| u128::from(*weight)).sum::<u128>();
    let (old_total, new_total) = (total(before), total(after));
    // A share a/A is compared with b/B as a*B with b*A; nothing of nothing is a share of 0.
    let safe = before.iter().zip(after).enumerate().all(|(at, (old, new))| {
        let old = u128::from(*old) * new_total.max(1);
        let new = u128::from(*new) * old_total.max(1);
        if at == default_arm { new >= old } else { new <= old }
    });
    if safe { Direction::TowardStable } else { Direction::TowardCanary }
}

/// Why a change may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The caller did not say what it saw.
    Missing,
    /// The caller saw something older.
    Stale,
}

/// Compares what the caller saw with what is. Moves toward stable are always accepted.
///
/// # Errors
/// What is wrong with what the caller saw.
pub fn check(direction: Direction, expected: Expected, present: Generation) -> Result<(), Mismatch> {
    match (direction, expected) {
        (Direction::TowardStable, _) | (_, Expected::Any) => Ok(()),
        (_, Expected::Exactly(seen)) if seen == present => Ok(()),
        (_, Expected::Exactly(_)) => Err(Mismatch::Stale),
        (_, Expected::Nothing) => Err(Mismatch::Missing),
    }
}

/// The arms of a route whose weight differs from another of its plans.
#[must_use]
pub fn changed(before: &Route, after: &Route) -> Vec<Changed> {
    let was: BTreeMap<&str, u32> = before.arms.iter().map(|arm| (&*arm.name, arm.weight)).collect();
    let arms = after.arms.iter().filter_map(|arm| {
        let before = was.get(&*arm.name).copied().unwrap_or(0);
        (before != arm.weight).then(|| Changed { arm: arm.name.to_string(), before, after: arm.weight })
    });
    arms.collect()
}

/// Drops operator weights whose split was edited or whose route is gone; gives their route names.
pub fn drop_stale(overlay: &mut Overlay, fingerprint_of: impl Fn(&str) -> Option<u64>) -> Vec<String> {
    let stale = |name: &String, fingerprint: u64| fingerprint_of(name) != Some(fingerprint);
    let gone = overlay.routes.iter().filter(|(name, entry)| stale(name, entry.split_fingerprint));
    let gone: Vec<String> = gone.map(|(name, _)| name.clone()).collect();
    overlay.routes.retain(|name, _| !gone.contains(name));
    gone
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RouteOverlay;

    #[test]
    fn only_relief_is_toward_stable() {
        use Direction::{TowardCanary, TowardStable};
        // The default arm is the last.
        let rows: &[(&[u32], &[u32], Direction)] = &[
            (&[5, 95], &[5, 95], TowardStable),
            (&[5, 95], &[0, 95], TowardStable),
            (&[5, 95], &[0, 100], TowardStable),
            (&[5, 95], &[10, 190], TowardStable),
            (&[5, 95], &[5, 50], TowardCanary),
            (&[5, 95], &[10, 90], TowardCanary),
            (&[5, 95], &[0, 0], TowardCanary),
            (&[0, 0], &[0, 1], TowardStable),
            (&[0, 0], &[1, 1], TowardCanary),
            (&[5, 5, 90], &[6, 0, 94], TowardCanary),
            (&[5, 5, 90], &[4, 5, 91], TowardStable),
        ];
        for (before, after, expected) in rows {
            assert_eq!(direction(before, after, before.len() - 1), *expected, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_move_toward_canary_names_what_it_saw() {
        use Direction::{TowardCanary, TowardStable};
        let now = Generation(7);
        assert_eq!(check(TowardStable, Expected::Nothing, now), Ok(()));
        assert_eq!(check(TowardStable, Expected::Exactly(Generation(1)), now), Ok(()));
        assert_eq!(check(TowardCanary, Expected::Any, now), Ok(()));
        assert_eq!(check(TowardCanary, Expected::Exactly(now), now), Ok(()));
        assert_eq!(check(TowardCanary, Expected::Exactly(Generation(6)), now), Err(Mismatch::Stale));
        assert_eq!(check(TowardCanary, Expected::Nothing, now), Err(Mismatch::Missing));
    }

    #[test]
    fn weights_end_with_an_edit_of_their_split() {
        let entry = |split_fingerprint| RouteOverlay { split_fingerprint, ..RouteOverlay::default() };
        let routes = [("kept", 1), ("edited", 2), ("gone", 3)];
        let routes = routes.map(|(name, fingerprint)| (name.to_owned(), entry(fingerprint)));
        let mut overlay = Overlay { routes: routes.into(), ..Overlay::default() };
        let now = |name: &str| match name {
            "kept" => Some(1),
            "edited" => Some(20),
            _ => None,
        };
        assert_eq!(drop_stale(&mut overlay, now), ["edited", "gone"]);
        assert_eq!(overlay.routes.keys().collect::<Vec<_>>(), ["kept"]);
    }
}
