//! The attempt loop: pick an endpoint, send, and on provable failure try where it is safe.
//!
//! A request is only ever repeated when it provably never left, or, where the route asks for it, when
//! no byte of an answer came and repeating is harmless. It must never wait longer than the route's
//! timeouts allow, all attempts together.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};

use super::error::{Kind, ProxyError};
use super::exchange::Exchange;
use super::worker::Worker;
use crate::model::{ArmIx, FailureReason, RetryReason};
use crate::plan::pick::{View, pick};
use crate::plan::rendezvous;
use crate::plan::{LoadBalance, Retry, Route, Upstream};
use crate::upstream::{Arrived, Deadline, Pools, Refused, RequestBody, within_upload};

/// A request on its way: taken out when it is sent, put back when it provably never left. Passed by
/// reference so that no step of the loop carries a copy.
pub type Outgoing = Option<Request<RequestBody>>;

/// Edits a request for the arm it goes to.
pub trait Dress {
    /// Called for every arm the request is sent to, the chosen one first.
    fn dress(&self, request: &mut Request<RequestBody>, arm: ArmIx);
}

/// Sends a request to the chosen arm, or to another when the chosen one has nobody and the route
/// redistributes.
///
/// # Errors
/// What the client is told; every failure of the chosen arm is noted in the exchange.
pub async fn forward(
    exchange: &mut Exchange,
    route: &Route,
    chosen: ArmIx,
    outgoing: &mut Outgoing,
    dress: &impl Dress,
) -> Result<Response<Arrived>, ProxyError> {
    let worker = Rc::clone(exchange.worker());
    let mut overall = Deadline::new(&worker.deadlines, route.timeouts.request);
    let mut tried = 0_u64;
    let mut arm = chosen;
    let idempotent = outgoing.as_ref().is_some_and(|request| request.method().is_idempotent());
    loop {
        tried |= 1 << arm.0;
        if let Some(request) = outgoing {
            dress.dress(request, arm);
        }
        let error = match on_arm(exchange, &worker, route, arm, outgoing, idempotent, &mut overall).await {
            Ok(sent) => return Ok(sent),
            Err(error) => error,
        };
        // Only an arm that has nobody is answered for; one that broke its connections is not.
        let absent = matches!(
            error.kind,
            Kind::Upstream(
                FailureReason::Connect
                    | FailureReason::ConnectTimeout
                    | FailureReason::Tls
                    | FailureReason::NoEndpoint
            )
        );
        match route.substitute(tried) {
            Some(next) if route.redistribute && outgoing.is_some() && absent => {
                arm = next;
                exchange.redistributed();
            }
            _ => return Err(error),
        }
    }
}

/// Tries the endpoints of one arm.
async fn on_arm(
    exchange: &mut Exchange,
    worker: &Rc<Worker>,
    route: &Route,
    arm: ArmIx,
    outgoing: &mut Outgoing,
    idempotent: bool,
    overall: &mut Deadline,
) -> Result<Response<Arrived>, ProxyError> {
    let Some(upstream) = route.arm(arm).map(|arm| &*arm.upstream) else {
        return Err(fail(exchange, arm, FailureReason::NoEndpoint, String::new()));
    };
    if !exchange.enter(arm) {
        let cause = format!("upstream {} is at its limit", upstream.name);
        return Err(fail(exchange, arm, FailureReason::Overflow, cause));
    }
    let key = exchange.key();
    let mut avoid = None;
    let mut left = route.retry.attempts;
    loop {
        let Some(at) = choose_endpoint(worker, &worker.pools, upstream, avoid, key) else {
            return Err(fail(exchange, arm, FailureReason::NoEndpoint, String::new()));
        };
        exchange.attempt(arm, at);
        let refused = match on_endpoint(exchange, worker, route, upstream, at, outgoing, overall).await {
            Ok(sent) => return Ok(sent),
            Err(refused) => refused,
        };
        let again = retry_reason(&route.retry, &refused, idempotent).filter(|_| outgoing.is_some());
        let alone = upstream.endpoints.len() == 1;
        let error = fail(exchange, arm, refused.reason, refused.cause);
        let Some(reason) = again.filter(|reason| left > 0 && !(alone && *reason == RetryReason::Connect))
        else {
            return Err(error);
        };
        let now = worker.clock.tick();
        if !upstream.cell.spend_retry(worker.id, now, route.retry.budget) {
            return Err(error);
        }
        exchange.retried(reason);
        left -= 1;
        avoid = Some(at).filter(|_| !alone);
    }
}

async fn on_endpoint(
    exchange: &mut Exchange,
    worker: &Rc<Worker>,
    route: &Route,
    upstream: &Upstream,
    at: usize,
    outgoing: &mut Outgoing,
    overall: &mut Deadline,
) -> Result<Response<Arrived>, Refused> {
    let Some(endpoint) = upstream.endpoints.get(at) else {
        return Err(Refused { reason: FailureReason::NoEndpoint, cause: String::new(), unsent: true });
    };
    let pool = worker.pools.of(endpoint);
    let went_out = std::cell::Cell::new(None);
    let sending = pool.send(endpoint, upstream, outgoing, || {
        went_out.set(Some(Instant::now()));
    });
    let mut deadline = Deadline::new(&worker.deadlines, route.timeouts.upstream);
    let upload = exchange.upload();
    let outcome = within_upload(overall, &mut deadline, upload, sending).await;
    match outcome {
        Some(Ok(sent)) => {
            let after = went_out.get().map_or(Duration::ZERO, |at: Instant| at.elapsed());
            exchange.head(sent.status(), after);
            Ok(sent)
        }
        Some(Err(refused)) => Err(refused),
        None => {
            // Whether or not it left, its time is over.
            *outgoing = None;
            let (reason, cause) = if went_out.get().is_some() {
                (FailureReason::Timeout, format!("{} sent no response head in time", endpoint.cell.url))
            } else {
                // Connecting has a limit of its own: it waited for a connection of ours.
                (FailureReason::Overflow, format!("no connection to {} became free", endpoint.cell.url))
            };
            Err(Refused { reason, cause, unsent: false })
        }
    }
}

/// Why a refused request may be sent again, if it may.
fn retry_reason(retry: &Retry, refused: &Refused, idempotent: bool) -> Option<RetryReason> {
    if refused.unsent {
        return retry.connect.then_some(RetryReason::Connect);
    }
    (retry.reset && idempotent && refused.reason == FailureReason::Reset).then_some(RetryReason::Reset)
}

fn fail(exchange: &mut Exchange, arm: ArmIx, reason: FailureReason, cause: String) -> ProxyError {
    exchange.failed(arm, reason);
    ProxyError { kind: Kind::Upstream(reason), cause }
}

/// The worker's view of an upstream's endpoints.
struct Seen<'a> {
    worker: &'a Worker,
    pools: &'a Pools,
    upstream: &'a Upstream,
    avoid: Option<usize>,
    strict: bool,
}

impl View for Seen<'_> {
    fn in_flight(&self, endpoint: usize) -> u32 {
        self.upstream.endpoints.get(endpoint).map_or(0, |one| self.pools.of(one).in_flight())
    }

    fn usable(&self, endpoint: usize) -> bool {
        if self.avoid == Some(endpoint) {
            return false;
        }
        let now = self.worker.clock.tick();
        !self.strict
            || self.upstream.endpoints.get(endpoint).is_some_and(|one| !self.pools.of(one).is_avoided(now))
    }
}

/// An endpoint that did not refuse lately, by the user's key where that decides; when all did, any: looking dead is not being dead.
pub(super) fn choose_endpoint(
    worker: &Worker,
    pools: &Pools,
    upstream: &Upstream,
    avoid: Option<usize>,
    key: Option<u64>,
) -> Option<usize> {
    if upstream.endpoints.len() == 1 && avoid.is_none() {
        return Some(0);
    }
    let (entropy, turn) = (worker.entropy(), upstream.cell.turn(worker.id));
    let strict = Seen { worker, pools, upstream, avoid, strict: true };
    let any = Seen { worker, pools, upstream, avoid, strict: false };
    if let Some(key) = key.filter(|_| upstream.load_balance == LoadBalance::ConsistentHash) {
        let first = rendezvous::pick(upstream, &strict, key);
        return first.or_else(|| rendezvous::pick(upstream, &any, key));
    }
    pick(upstream, &strict, entropy, turn).or_else(|| pick(upstream, &any, entropy, turn))
}
