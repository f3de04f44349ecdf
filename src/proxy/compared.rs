//! What an exchange was to a comparison of two arms.
//!
//! Pure. Causes are told apart here and nowhere else: an arm answers for its first attempt, never for
//! what a client did.

use std::net::IpAddr;

use http::{HeaderValue, Method};

use crate::ledger::samples::{Kind, Words};
use crate::ledger::trial::{Ended, Fate, Placement};
use crate::model::{ArmIx, Cause, ChoiceReason, FailureReason, MethodClass, Verdict, WorkerId};
use crate::plan::{Compare, Plan, Route, Routed, matched};
use crate::split::Choice;

/// What a compared exchange is named by, should it fail. Taken of routes that compare, and of no others.
#[derive(Clone, Debug)]
pub struct Named {
    /// Number of the match in the plan.
    rule: u32,
    method: MethodClass,
    /// Request id.
    id: HeaderValue,
}

impl Named {
    /// The name of a request that was routed; `None` when its route compares nothing.
    #[must_use]
    pub fn of(plan: &Plan, routed: &Routed<'_>, method: &Method, id: &HeaderValue) -> Option<Self> {
        plan.routes.get(routed.route)?.trial.as_ref()?;
        let rule = plan.router.number_of(routed.rule);
        Some(Self { rule, method: MethodClass::of(method.as_str()), id: id.clone() })
    }
}

/// Counts an exchange that ended, and keeps it as a sample when it was bad. `endpoint` is the one
/// of the chosen arm that failed.
pub fn count(
    plan: &Plan,
    route: &Route,
    worker: WorkerId,
    seen: &Seen,
    named: Option<&Named>,
    endpoint: Option<usize>,
) {
    let Some(compare) = &route.trial else { return };
    let Some(ended) = ended(compare, route, seen) else { return };
    if !compare.trial.record(worker, &ended) {
        return;
    }
    let Some(named) = named else { return };
    let arm = route.arm(seen.choice.arm);
    let failed = endpoint.and_then(|at| arm?.upstream.endpoints.get(at)).map(|one| &one.cell);
    let kind = Kind {
        rule: (plan.generation.0, named.rule),
        method: named.method,
        cause: cause(compare, seen),
        endpoint: failed.map(|cell| cell.id),
    };
    let id = named.id.to_str().unwrap_or_default();
    compare.trial.sample(worker, &ended, kind, id, || Words {
        rule: plan.router.rule(named.rule).map(matched::words).unwrap_or_default(),
        endpoint: failed.map(|cell| cell.url.clone()),
    });
}

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
    /// What the arm answered when that was its failure, else what the client saw; 0 is none.
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
    let told = told(compare, seen).is_some();
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

/// A gRPC status that is bad.
fn told(compare: &Compare, seen: &Seen) -> Option<u8> {
    seen.grpc.filter(|status| *status < 32 && compare.bad_grpc & 1 << *status != 0)
}

/// Why a bad exchange is bad.
fn cause(compare: &Compare, seen: &Seen) -> Cause {
    match (seen.failure, told(compare, seen)) {
        (Some(FailureReason::Status | FailureReason::GrpcStatus) | None, Some(status)) => Cause::Grpc(status),
        // After another attempt the client saw another status.
        (Some(FailureReason::Status), None) if seen.status < 500 => Cause::Failure(FailureReason::Status),
        (Some(FailureReason::Status | FailureReason::GrpcStatus) | None, None) => Cause::Status(seen.status),
        (Some(reason), _) => Cause::Failure(reason),
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ledger::Trial;
    use crate::plan::StatusSet;

    #[test]
    fn a_bad_exchange_is_named_by_what_the_arm_did() {
        let mut bad_statuses = StatusSet::default();
        for status in [404, 500, 503] {
            bad_statuses.insert(status);
        }
        let compare = Compare {
            trial: Arc::new(Trial::new(1, 1, 0, Vec::new())),
            reference: ArmIx(0),
            candidate: ArmIx(1),
            w: 0.5,
            bad_statuses,
            bad_grpc: 1 << 14,
        };
        let failure = Cause::Failure;
        // First failure of the arm, what the client saw, its gRPC status, the cause.
        let rows = [
            (Some(FailureReason::Status), 503, None, Cause::Status(503)),
            (None, 404, None, Cause::Status(404)),
            (Some(FailureReason::GrpcStatus), 200, Some(14), Cause::Grpc(14)),
            (Some(FailureReason::Connect), 200, None, failure(FailureReason::Connect)),
            (Some(FailureReason::Timeout), 504, Some(14), failure(FailureReason::Timeout)),
            (Some(FailureReason::Status), 200, None, failure(FailureReason::Status)),
        ];
        for (failure, status, grpc, expected) in rows {
            let choice = Choice {
                arm: ArmIx(1),
                reason: ChoiceReason::Random,
                rule: None,
                bucket: 0,
                key_hash: None,
                issue: None,
                pin: None,
            };
            let seen = Seen {
                choice,
                verdict: Verdict::Error,
                failure,
                client_fault: false,
                status,
                grpc,
                upstream_nanos: None,
                total_nanos: 1,
                address: [127, 0, 0, 1].into(),
                unix_millis: 0,
            };
            assert_eq!(cause(&compare, &seen), expected, "{failure:?} {status} {grpc:?}");
        }
    }
}
