//! Which buckets an arm owns: two-ended growth from four anchors, the default arm owns the rest.
//!
//! Raising one arm's share moves buckets only into it and lowering gives back the last taken, as
//! long as arms do not grow into each other. It must never depend on the order of its claims
//! beyond their slots.

use super::bucket::BUCKETS;
use crate::model::ArmIx;

/// How many anchors there are.
pub const SLOTS: u8 = 4;

/// One arm's wish for a number of buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The arm.
    pub arm: ArmIx,
    /// Its slot, 1 to 4; larger numbers are packed into what is left, from 0 up.
    pub slot: u8,
    /// How many buckets it wants.
    pub width: u16,
}

/// The buckets of a split, as sorted ranges that cover all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// First bucket of a range and its owner, ascending; a range ends where the next begins.
    starts: Box<[(u16, ArmIx)]>,
    /// Whether an arm grew into another's half and took buckets elsewhere.
    pub collided: bool,
}

impl Ranges {
    /// Lays out claims; whatever is left belongs to `rest`.
    #[must_use]
    pub fn lay_out(claims: &[Claim], rest: ArmIx) -> Self {
        let mut sorted = claims.to_vec();
        sorted.sort_by_key(|claim| (claim.slot, claim.arm));
        let mut free: Vec<(u16, u16)> = vec![(0, BUCKETS)];
        let mut taken: Vec<(u16, u16, ArmIx)> = Vec::new();
        let mut collided = false;
        for claim in &sorted {
            let pieces = take(&mut free, claim.slot, claim.width);
            collided |= pieces.len() > 1 || pieces.iter().any(|piece| !anchored(claim.slot, *piece));
            taken.extend(pieces.into_iter().map(|(from, to)| (from, to, claim.arm)));
        }
        taken.extend(free.into_iter().map(|(from, to)| (from, to, rest)));
        taken.sort_unstable();
        let mut starts: Vec<(u16, ArmIx)> = Vec::with_capacity(taken.len());
        for (from, _, arm) in taken {
            if starts.last().is_none_or(|(_, last)| *last != arm) {
                starts.push((from, arm));
            }
        }
        Self { starts: starts.into(), collided }
    }

    /// The arm that owns a bucket.
    #[must_use]
    pub fn owner(&self, bucket: u16) -> ArmIx {
        let mut owner = self.starts.first().map_or(ArmIx(0), |(_, arm)| *arm);
        for (start, arm) in &self.starts {
            if *start > bucket {
                break;
            }
            owner = *arm;
        }
        owner
    }

    /// Every range as `(first, last, arm)`, both ends included, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u16, ArmIx)> + '_ {
        self.starts.iter().enumerate().map(|(at, (start, arm))| {
            let end = self.starts.get(at + 1).map_or(BUCKETS, |(next, _)| *next);
            (*start, end - 1, *arm)
        })
    }

    /// How many buckets would change hands if these ranges became `other`; arms are told apart by
    /// the names the callers give them.
    pub fn moved<'a>(
        &self,
        names: impl Fn(ArmIx) -> &'a str,
        other: &Self,
        other_names: impl Fn(ArmIx) -> &'a str,
    ) -> u16 {
        let mut edges: Vec<u16> = self.starts.iter().chain(&other.starts).map(|(start, _)| *start).collect();
        edges.push(BUCKETS);
        edges.sort_unstable();
        edges
            .windows(2)
            .filter_map(|pair| match pair {
                [from, to] if names(self.owner(*from)) != other_names(other.owner(*from)) => Some(to - from),
                _ => None,
            })
            .sum()
    }
}

/// Whether a piece touches its slot's anchor, from the side it grows to.
const fn anchored(slot: u8, (from, to): (u16, u16)) -> bool {
    match slot {
        1 => from == 0,
        2 => to == BUCKETS,
        3 => to == BUCKETS / 2,
        4 => from == BUCKETS / 2,
        _ => true,
    }
}

/// Takes `width` buckets out of the free list, nearest to the slot's anchor first.
fn take(free: &mut Vec<(u16, u16)>, slot: u8, width: u16) -> Vec<(u16, u16)> {
    let half = BUCKETS / 2;
    let mut taken = Vec::new();
    let mut missing = width;
    let zones: [(u16, u16, bool); 2] = match slot {
        2 => [(0, BUCKETS, true), (0, 0, true)],
        3 => [(0, half, true), (half, BUCKETS, false)],
        4 => [(half, BUCKETS, false), (0, half, true)],
        _ => [(0, BUCKETS, false), (0, 0, false)],
    };
    for (low, high, downward) in zones {
        while missing > 0 {
            let inside = |range: &&(u16, u16)| range.0.max(low) < range.1.min(high);
            let found = if downward { free.iter().rev().find(inside) } else { free.iter().find(inside) };
            let Some(&(from, to)) = found else { break };
            let (low_end, high_end) = (from.max(low), to.min(high));
            let size = missing.min(high_end - low_end);
            let piece = if downward { (high_end - size, high_end) } else { (low_end, low_end + size) };
            carve(free, (from, to), piece);
            taken.push(piece);
            missing -= size;
        }
    }
    taken
}

fn carve(free: &mut Vec<(u16, u16)>, range: (u16, u16), piece: (u16, u16)) {
    free.retain(|one| *one != range);
    free.extend([(range.0, piece.0), (piece.1, range.1)].into_iter().filter(|(from, to)| from < to));
    free.sort_unstable();
}

/// Buckets per arm from relative weights: the floor of each exact share; what rounding leaves over
/// stays with the default arm, or, when its weight is 0, goes one bucket each to the arms in order.
/// All zero when every weight is 0.
#[must_use]
pub fn widths(weights: &[u32], default: ArmIx) -> Vec<u16> {
    let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    if total == 0 {
        return vec![0; weights.len()];
    }
    let buckets = u64::from(BUCKETS);
    let mut widths: Vec<u16> = weights
        .iter()
        .map(|weight| u16::try_from(u64::from(*weight) * buckets / total).unwrap_or(BUCKETS))
        .collect();
    let mut left = BUCKETS - widths.iter().sum::<u16>();
    if weights.get(default.at()).is_some_and(|weight| *weight > 0) {
        if let Some(rest) = widths.get_mut(default.at()) {
            *rest += left;
        }
        return widths;
    }
    for (width, weight) in widths.iter_mut().zip(weights) {
        if *weight > 0 && left > 0 {
            *width += 1;
            left -= 1;
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const REST: ArmIx = ArmIx(0);

    fn claim(arm: u8, slot: u8, width: u16) -> Claim {
        Claim { arm: ArmIx(arm), slot, width }
    }

    fn owners(ranges: &Ranges) -> Vec<ArmIx> {
        (0..BUCKETS).map(|bucket| ranges.owner(bucket)).collect()
    }

    #[test]
    fn slots_grow_from_their_anchors() {
        let ranges =
            Ranges::lay_out(&[claim(1, 1, 500), claim(2, 2, 300), claim(3, 3, 100), claim(4, 4, 50)], REST);
        let found: Vec<_> = ranges.iter().map(|(from, to, arm)| (from, to, arm.0)).collect();
        assert_eq!(
            found,
            [(0, 499, 1), (500, 4899, 0), (4900, 4999, 3), (5000, 5049, 4), (5050, 9699, 0), (9700, 9999, 2)]
        );
        assert!(!ranges.collided);
    }

    #[test]
    fn zero_is_never_and_all_is_always() {
        let none = Ranges::lay_out(&[claim(1, 1, 0)], REST);
        assert!(owners(&none).iter().all(|arm| *arm == REST));
        let all = Ranges::lay_out(&[claim(1, 1, BUCKETS)], REST);
        assert!(owners(&all).iter().all(|arm| *arm == ArmIx(1)));
    }

    #[test]
    fn widths_are_exact_shares() {
        assert_eq!(widths(&[95, 5], ArmIx(0)), [9500, 500]);
        assert_eq!(widths(&[2, 1], ArmIx(0)), [6667, 3333]);
        assert_eq!(widths(&[0, 1, 2], ArmIx(0)), [0, 3334, 6666]);
        assert_eq!(widths(&[0, 0], ArmIx(0)), [0, 0]);
    }

    proptest! {
        #[test]
        fn growth_moves_buckets_only_into_the_arm_that_grows(
            widths in prop::array::uniform4(0_u16..=2500), grown in 0_usize..4, by in 0_u16..=2500,
        ) {
            let lay = |widths: &[u16; 4]| {
                let claims: Vec<Claim> =
                    (1..=4).zip(widths).map(|(slot, width)| claim(slot, slot, *width)).collect();
                Ranges::lay_out(&claims, REST)
            };
            let mut after = widths;
            after[grown] = (after[grown] + by).min(2500);
            let arm = ArmIx(u8::try_from(grown + 1).unwrap());
            for (old, new) in owners(&lay(&widths)).into_iter().zip(owners(&lay(&after))) {
                prop_assert!(old == new || (old == REST && new == arm));
            }
        }

        #[test]
        fn every_arm_gets_exactly_its_width(widths in prop::collection::vec(0_u16..=1400, 1..7)) {
            let claims: Vec<Claim> = (1_u8..).zip(&widths).map(|(arm, width)| claim(arm, arm, *width)).collect();
            let owned = owners(&Ranges::lay_out(&claims, REST));
            for one in &claims {
                let count = owned.iter().filter(|arm| **arm == one.arm).count();
                prop_assert_eq!(count, usize::from(one.width));
            }
        }
    }
}
