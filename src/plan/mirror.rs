//! A compiled mirror: who gets copies of which requests, and within which bounds.
//!
//! Pure. It must never decide by anything but the request and what is passed in: the same user is
//! always copied or never.

use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::filter::HeaderOps;
use super::{StatusSet, Upstream};
use crate::ledger::ShadowCell;
use crate::model::{ArmIx, CompareRules};

/// Most mirrors of one route, one a rollout asks for among them.
pub const MAX_MIRRORS: usize = 4;

/// Copies of a route's requests for one upstream.
#[derive(Debug)]
pub struct Mirror {
    /// Who gets them. Copies are admitted by its cell for copies.
    pub upstream: Arc<Upstream>,
    /// Share of the users, or of requests without a key, in parts per million.
    pub sample: u32,
    /// Which methods.
    pub methods: Methods,
    /// Largest request body copied and largest answer kept, in bytes.
    pub max_body: u64,
    /// To the end of the shadow's answer.
    pub timeout: Duration,
    /// Edits of copies.
    pub headers: HeaderOps,
    /// What of the answers is compared.
    pub compare: Option<CompareRules>,
    /// A rollout judges its candidate by these copies.
    pub live: bool,
    /// What counts as a bad answer, of either side.
    pub bad: Bad,
    /// Its counts.
    pub cell: Arc<ShadowCell>,
    /// Counts of copies that went to the primary's own upstream instead, by arm; empty when nothing
    /// is compared.
    pub noise: Box<[Arc<ShadowCell>]>,
}

impl Mirror {
    /// Whether both answers are wanted.
    #[must_use]
    pub const fn pairs(&self) -> bool {
        self.compare.is_some() || self.live
    }

    /// Whether a request is drawn: by the hash of its sticky key, or by 64 random bits. `at` is the
    /// mirror's index in its route. Bits are used that the bucket does not depend on, so that every
    /// arm's users are drawn alike.
    #[must_use]
    pub fn draws(&self, at: usize, hash: u64) -> bool {
        let turned = hash.rotate_right(5 * u32::try_from(at).unwrap_or(0));
        ((turned & 0xffff_ffff) * 1_000_000) >> 32 < u64::from(self.sample)
    }

    /// The counts of a copy for the upstream of an arm.
    #[must_use]
    pub fn noise_of(&self, arm: ArmIx) -> Option<&Arc<ShadowCell>> {
        self.noise.get(arm.at())
    }
}

/// Methods that are copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Methods {
    /// All but CONNECT.
    Any,
    /// These.
    Of(Box<[Method]>),
}

impl Methods {
    /// Whether a method is copied.
    #[must_use]
    pub fn holds(&self, method: &Method) -> bool {
        match self {
            Self::Any => *method != Method::CONNECT,
            Self::Of(list) => list.contains(method),
        }
    }
}

/// What counts as a bad answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bad {
    /// Statuses, by number.
    pub statuses: StatusSet,
    /// gRPC statuses, a bit each.
    pub grpc: u32,
}

impl Default for Bad {
    /// 5xx, and the gRPC statuses that blame the server.
    fn default() -> Self {
        let mut statuses = StatusSet::default();
        (500..600).for_each(|status| statuses.insert(status));
        Self { statuses, grpc: [2, 4, 13, 14, 15].iter().fold(0, |set, code| set | 1 << code) }
    }
}

impl Bad {
    /// Whether an answer is bad.
    #[must_use]
    pub fn holds(&self, status: u16, grpc: Option<u8>) -> bool {
        grpc.is_some_and(|code| code < 32 && self.grpc & 1 << code != 0) || self.statuses.contains(status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::{BASE, plan};
    use crate::split::{BUCKETS, Salt, bucket::bucket_of};

    #[test]
    fn a_tenth_of_the_users_is_a_tenth_of_every_arms_users() {
        let text = "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 10% } }]";
        let plan = plan(&format!("{BASE}{text}"));
        let mirror = &plan.routes[0].mirrors[0];
        let salt = Salt::new("a");
        for at in 0..MAX_MIRRORS {
            let mut drawn = [0_u32; 10];
            let mut all = [0_u32; 10];
            for user in 0..100_000_u32 {
                let hash = salt.hash(format!("user-{user}").as_bytes());
                let tenth = usize::from(bucket_of(hash) / (BUCKETS / 10));
                all[tenth] += 1;
                drawn[tenth] += u32::from(mirror.draws(at, hash));
            }
            // Of about 10000 each: 1000 with a deviation of 30.
            for (drawn, all) in drawn.into_iter().zip(all) {
                assert!((all / 10).abs_diff(drawn) < 180, "mirror {at}: {drawn} of {all}");
            }
        }
        assert!(mirror.draws(0, 0) && !mirror.draws(0, u64::MAX));
    }

    #[test]
    fn bad_is_what_blames_the_server() {
        let bad = Bad::default();
        let rows = [
            (200, None, false),
            (503, None, true),
            (404, None, false),
            (200, Some(14), true),
            (200, Some(5), false),
        ];
        for (status, grpc, expected) in rows {
            assert_eq!(bad.holds(status, grpc), expected, "{status} {grpc:?}");
        }
        assert!(Methods::Any.holds(&Method::POST) && !Methods::Any.holds(&Method::CONNECT));
    }
}
