//! The decision: override, drop of void arms, pin, sticky bucket, random, in that order.
//!
//! `explain` and the request path call the same [`Split::choose`]. Entropy and the moment come in;
//! a [`Choice`] goes out. It must never look at live traffic: an arm without endpoints is handled
//! after choosing, so that the chosen arm is charged.

use std::borrow::Cow;

use ipnet::IpNet;

use super::bucket::{Salt, bucket_of};
use super::condition::{Condition, Test, in_networks};
use super::key::{IssueCookie, KeySource};
use super::pin::Pin;
use super::ranges::Ranges;
use crate::model::{ArmIx, ChoiceReason, RequestHead};

/// An arm and why it was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The arm.
    pub arm: ArmIx,
    /// Why.
    pub reason: ChoiceReason,
    /// Index of the override that spoke.
    pub rule: Option<u16>,
    /// Bucket of the key, or of the draw.
    pub bucket: u16,
    /// Hash of the key; `None` when the draw was random.
    pub key_hash: Option<u64>,
    /// Id to issue as a cookie.
    pub issue: Option<u128>,
    /// Moment, in Unix seconds, since which the client is to be told that it is pinned to the arm.
    pub pin: Option<i64>,
}

/// What run-time intent says of an arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmState {
    /// Zeroed by a verb: overrides and pins to it are void.
    pub void: bool,
}

/// What an override gives to the requests it catches.
#[derive(Clone, Debug)]
pub enum Segment {
    /// One arm.
    Arm(ArmIx),
    /// A split of its own over the same buckets.
    Split(Ranges),
}

/// A compiled override.
#[derive(Clone, Debug)]
pub struct Override {
    /// Name, a metric label.
    pub name: Box<str>,
    /// Who answers for it.
    pub owner: Option<Box<str>>,
    /// Conditions on headers, cookies and parameters; all must hold.
    pub conditions: Box<[Condition]>,
    /// Networks the client must be in; empty is any.
    pub networks: Box<[IpNet]>,
    /// Tests of the sticky key; empty is any.
    pub key_tests: Box<[Test]>,
    /// Unix seconds from which it holds.
    pub active_from: Option<i64>,
    /// Unix seconds until which it holds, excluded.
    pub active_until: Option<i64>,
    /// What it gives.
    pub segment: Segment,
    /// Holds for a void arm too.
    pub force: bool,
    /// Its requests count for guards.
    pub trusted: bool,
}

/// A route's compiled split.
#[derive(Clone, Debug)]
pub struct Split {
    /// Seed.
    pub salt: Salt,
    /// Key sources in order.
    pub keys: Box<[KeySource]>,
    /// Cookie for keyless clients.
    pub issue: Option<IssueCookie>,
    /// Keeps clients on their arm.
    pub pin: Option<Pin>,
    /// Who owns which bucket; `None` when no arm has weight.
    pub ranges: Option<Ranges>,
    /// Overrides in order.
    pub overrides: Box<[Override]>,
    /// Run-time intent by arm index.
    pub arms: Box<[ArmState]>,
}

impl Split {
    /// Chooses an arm; `None` when no arm has weight and no override speaks.
    ///
    /// `now` is Unix seconds, read only for overrides with a window and for pins. `entropy` gives 64 uniform
    /// bits a call and is called only for requests without a key.
    pub fn choose(
        &self,
        head: &RequestHead<'_>,
        now: i64,
        mut entropy: impl FnMut() -> u64,
    ) -> Option<Choice> {
        if let ([], None, [], Some(ranges)) = (&*self.keys, &self.issue, &*self.overrides, &self.ranges) {
            let bucket = bucket_of(entropy());
            let arm = ranges.owner(bucket);
            let reason = ChoiceReason::Random;
            return Some(Choice { arm, reason, rule: None, bucket, key_hash: None, issue: None, pin: None });
        }
        let key = self.keys.iter().find_map(|source| source.read(head));
        let issue = match (&key, &self.issue) {
            (None, Some(_)) => Some(u128::from(entropy()) << 64 | u128::from(entropy())),
            _ => None,
        };
        let key = key.or_else(|| issue.map(|id| Cow::Owned(IssueCookie::key(id).into_bytes())));
        let key_hash = key.as_deref().map(|key| self.salt.hash(key));
        let bucket = bucket_of(key_hash.unwrap_or_else(entropy));
        let choice = |arm, reason, rule| Choice { arm, reason, rule, bucket, key_hash, issue, pin: None };

        for (rule, index) in self.overrides.iter().zip(0_u16..) {
            if let Some(arm) = self.forced(rule, head, key.as_deref(), now, bucket) {
                return Some(choice(arm, ChoiceReason::Override, Some(index)));
            }
        }
        if let Some(found) = self.pin.as_ref().and_then(|pin| pin.read(head, now)) {
            return Some(Choice { pin: found.again, ..choice(found.arm, ChoiceReason::Pin, None) });
        }
        let arm = self.ranges.as_ref()?.owner(bucket);
        let reason = if key_hash.is_some() { ChoiceReason::Sticky } else { ChoiceReason::Random };
        Some(Choice { pin: self.pin.as_ref().map(|_| now), ..choice(arm, reason, None) })
    }

    /// The arm an override gives, if it catches the request and the arm is not void.
    fn forced(
        &self,
        rule: &Override,
        head: &RequestHead<'_>,
        key: Option<&[u8]>,
        now: i64,
        bucket: u16,
    ) -> Option<ArmIx> {
        let catches = rule.active_from.is_none_or(|from| now >= from)
            && rule.active_until.is_none_or(|until| now < until)
            && (rule.networks.is_empty() || in_networks(&rule.networks, head.client_ip))
            && rule.key_tests.iter().all(|test| test.passes(key))
            && rule.conditions.iter().all(|condition| condition.holds(head));
        if !catches {
            return None;
        }
        let arm = match &rule.segment {
            Segment::Arm(arm) => *arm,
            Segment::Split(ranges) => ranges.owner(bucket),
        };
        let void = self.arms.get(arm.at()).is_some_and(|state| state.void);
        (rule.force || !void).then_some(arm)
    }
}
