//! What an exchange was to a comparison of two arms.
//!
//! Pure. Causes are told apart here and nowhere else: an arm answers for its first attempt, never for
//! what a client did.

use std::net::IpAddr;

use crate::ledger::trial::{Ended, Fate, Placement};
use crate::model::{ArmIx, ChoiceReason, FailureReason, Verdict};
use crate::plan::{Compare, Route};
use crate::split::Choice;

/// What is known of an exchange that ended.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Why which arm was chosen.
    pub choice: Choice,
    /// What the arm deserved.
    pub verdict: Verdict,
    /// First failure of the chosen arm.
    pub failure: Option<FailureReason>,
    /// The client broke its own request.
    pub client_fault: bool,
    /// What the client saw; 0 is none.
    pub status: u16,
    /// A gRPC status, when one was told.
    pub grpc: Option<u8>,
    /// Request sent to response head, in nanoseconds.
    pub upstream_nanos: Option<u64>,
    /// Since its start, in nanoseconds.
    pub total_nanos: u64,
    /// The client after trusted proxies.
    pub address: IpAddr,
    /// Wall clock.
    pub unix_millis: u64,
}

/// What to count; `None` when its arm is not compared.
#[must_use]
pub fn ended(compare: &Compare, route: &Route, seen: &Seen) -> Option<Ended> {
    let side = compare.side(seen.choice.arm)?;
    let fate = fate(compare, seen);
    Some(Ended {
        side,
        placement: placement(route, &seen.choice),
        fate,
        client_error: (400..500).contains(&seen.status),
        slot: seen.choice.key_hash.filter(|_| seen.choice.reason == ChoiceReason::Sticky).map(slot),
        nanos: match fate {
            Fate::Left => Some(seen.total_nanos),
            _ => seen.upstream_nanos,
        },
        address: seen.address,
        unix_millis: seen.unix_millis,
    })
}

fn fate(compare: &Compare, seen: &Seen) -> Fate {
    if seen.client_fault {
        return Fate::Void;
    }
    let told = seen.grpc.is_some_and(|status| status < 32 && compare.bad_grpc & 1 << status != 0);
    let bad_status = compare.bad_statuses.contains(seen.status);
    match seen.failure {
        // What the upstream said is judged by the policy, what it did not say needs no policy.
        Some(FailureReason::Status | FailureReason::GrpcStatus) | None if told || bad_status => Fate::Bad,
        Some(FailureReason::Status | FailureReason::GrpcStatus) => Fate::Good,
        Some(_) => Fate::Bad,
        None if seen.verdict == Verdict::Ok => Fate::Good,
        None if seen.upstream_nanos.is_none() => Fate::Left,
        None => Fate::Void,
    }
}

fn placement(route: &Route, choice: &Choice) -> Placement {
    match choice.reason {
        ChoiceReason::Sticky | ChoiceReason::Random | ChoiceReason::Redistributed => Placement::Placed,
        ChoiceReason::Pin => Placement::Steered,
        ChoiceReason::Override => {
            let rule = choice.rule.and_then(|rule| route.split.overrides.get(usize::from(rule)));
            if rule.is_some_and(|rule| rule.trusted) { Placement::Trusted } else { Placement::Steered }
        }
    }
}

/// The top 16 bits of the hash that gives the bucket.
const fn slot(hash: u64) -> u16 {
    (hash >> 48) as u16
}

/// Whether an arm takes part in the comparison of a route.
#[must_use]
pub fn is_compared(route: &Route, arm: ArmIx) -> bool {
    route.trial.as_ref().is_some_and(|compare| compare.side(arm).is_some())
}
