//! The attempt loop: pick an endpoint, send, and on provable failure try where it is safe.
//!
//! A request is only ever repeated when it provably never left, or, where the route asks for it, when
//! no byte of an answer came and repeating is harmless. It must never wait longer than the route's
//! timeouts allow, all attempts together.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{Request, Response};
use http_body::Body as _;
use tokio::task::spawn_local;

use super::again::Kept;
use super::dress::Dress;
use super::error::{Kind, ProxyError};
use super::exchange::Exchange;
use super::guard::{self, Barred, Demand};
use super::worker::Worker;
use crate::model::{ArmIx, DeniedReason, FailureReason, RetryReason};
use crate::plan::pick::{View, pick};
use crate::plan::{Endpoint, LoadBalance, Retry, Route, Upstream, rendezvous};
use crate::upstream::{Arrived, Deadline, Pools, Refused, RequestBody, within, within_upload};

/// Most bytes read of an answer that is not passed on, so that its connection can be used again.
const DISCARDED_BYTES: u64 = 64 << 10;
/// How long that may take.
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// A request on its way. Passed by reference so that no step of the loop carries a copy.
pub struct Outgoing {
    /// Taken out when it is sent, put back when it provably never left.
    pub request: Option<Request<RequestBody>>,
    /// What it takes to send it again otherwise; hardly ever anything.
    pub kept: Option<Box<Kept>>,
}

/// What is left of a request's attempts.
pub(super) struct Tries {
    overall: Deadline,
    left: u32,
    idempotent: bool,
}

/// How it went on one arm.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and boxed it would cost each request"
)]
enum Ended {
    Answered(Response<Arrived>),
    Failed(ProxyError),
    /// Another arm is to be asked.
    Elsewhere(ArmIx),
}

/// Sends a request to the chosen arm, or to another when the chosen one has nobody and the route
/// redistributes, or failed and the route sends again to its default arm.
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
    let mut tries = Tries {
        overall: Deadline::new(&worker.deadlines, route.timeouts.request),
        left: route.retry.attempts,
        idempotent: outgoing.request.as_ref().is_some_and(|request| request.method().is_idempotent()),
    };
    let mut tried = 0_u64;
    let mut arm = chosen;
    loop {
        tried |= 1 << arm.0;
        if let Some(request) = &mut outgoing.request {
            dress.dress(request, arm);
        }
        let error = match guard::barred(exchange, route, arm, tried) {
            None => match on_arm(exchange, &worker, route, arm, outgoing, dress, &mut tries).await {
                Ended::Answered(sent) => {
                    outgoing.kept = None;
                    return Ok(sent);
                }
                Ended::Elsewhere(next) => {
                    arm = next;
                    continue;
                }
                Ended::Failed(error) => error,
            },
            Some(Barred::Absent(error)) => error,
            Some(Barred::Answered(error)) => return Err(error),
            // Rare and large: boxed, so that every exchange does not carry room for it.
            Some(Barred::Stand) => {
                return Box::pin(guard::stand_in(exchange, &worker, route, arm, outgoing, &mut tries)).await;
            }
        };
        // Only an arm that has nobody is answered for; one that broke its connections is not.
        let absent = matches!(
            error.kind,
            Kind::Upstream(
                FailureReason::Connect
                    | FailureReason::ConnectTimeout
                    | FailureReason::Tls
                    | FailureReason::NoEndpoint
                    | FailureReason::Breaker
            )
        );
        match route.substitute(tried) {
            Some(next) if route.redistribute && outgoing.request.is_some() && absent => {
                arm = next;
                tries.left = route.retry.attempts;
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
    dress: &impl Dress,
    tries: &mut Tries,
) -> Ended {
    let Some(upstream) = route.arm(arm).map(|arm| &*arm.upstream) else {
        return Ended::Failed(fail(exchange, arm, FailureReason::NoEndpoint, String::new()));
    };
    if !exchange.enter(arm) {
        let cause = format!("upstream {} is at its limit", upstream.name);
        return Ended::Failed(fail(exchange, arm, FailureReason::Overflow, cause));
    }
    let key = exchange.key();
    let mut avoid = None;
    loop {
        let Some(at) = choose_endpoint(worker, &worker.pools, upstream, avoid, key) else {
            return Ended::Failed(fail(exchange, arm, FailureReason::NoEndpoint, String::new()));
        };
        guard::chose(worker, upstream, at);
        exchange.attempt(arm, at);
        let next = match on_endpoint(exchange, worker, route, upstream, at, outgoing, tries).await {
            Ok(sent) => {
                let again = tries.idempotent && route.retry.again_after(sent.status().as_u16());
                let reason = again.then_some(RetryReason::Status);
                let Some(next) =
                    reason.and_then(|reason| repeat(exchange, route, arm, outgoing, tries, reason))
                else {
                    return Ended::Answered(sent);
                };
                discard(worker, sent);
                next
            }
            Err(refused) => {
                let reason = retry_reason(&route.retry, &refused, tries.idempotent);
                let error = fail(exchange, arm, refused.reason, refused.cause);
                let next = reason.and_then(|reason| repeat(exchange, route, arm, outgoing, tries, reason));
                let Some(next) = next else { return Ended::Failed(error) };
                next
            }
        };
        if next.arm != arm {
            return Ended::Elsewhere(next.arm);
        }
        if let Some(request) = outgoing.request.as_mut().filter(|_| next.fresh) {
            dress.dress(request, arm);
        }
        avoid = Some(at).filter(|_| upstream.endpoints.len() > 1);
    }
}

/// Another attempt.
struct Next {
    arm: ArmIx,
    /// The request is as it was before edits for an arm.
    fresh: bool,
}

/// Makes a request ready for another attempt, if it may have one, and spends what that takes.
fn repeat(
    exchange: &mut Exchange,
    route: &Route,
    arm: ArmIx,
    outgoing: &mut Outgoing,
    tries: &mut Tries,
    reason: RetryReason,
) -> Option<Next> {
    if tries.left == 0 || exchange.is_clients_fault() || tries.overall.is_over() {
        return None;
    }
    // A default arm without weight was taken out: nothing is sent there.
    let default = Some(route.default_arm).filter(|_| route.retry.default_arm);
    let to = default.filter(|arm| route.arm(*arm).is_some_and(|arm| arm.weight > 0)).unwrap_or(arm);
    let upstream = &route.arm(to)?.upstream;
    if to == arm && upstream.endpoints.len() == 1 && reason == RetryReason::Connect {
        return None;
    }
    let kept = outgoing.kept.as_ref().filter(|_| outgoing.request.is_none());
    if outgoing.request.is_none() && kept.is_none() {
        return None;
    }
    if let Some(lost) = kept.and_then(|kept| kept.lost()) {
        denied(exchange, lost);
        return None;
    }
    let (worker, now) = (exchange.worker().id, exchange.worker().clock.tick());
    if !upstream.cell.spend_retry(worker, now, route.retry.budget) {
        denied(exchange, DeniedReason::Budget);
        return None;
    }
    let fresh = kept.is_some();
    if let Some(kept) = kept {
        outgoing.request = Some(kept.again().ok()?);
    }
    exchange.retried(reason);
    tries.left -= 1;
    Some(Next { arm: to, fresh })
}

/// A retry that the route asks for is not made.
fn denied(exchange: &Exchange, reason: DeniedReason) {
    if let Some(counts) = exchange.worker().counts() {
        counts.denied(reason);
    }
}

pub(super) async fn on_endpoint(
    exchange: &mut Exchange,
    worker: &Rc<Worker>,
    route: &Route,
    upstream: &Upstream,
    at: usize,
    outgoing: &mut Outgoing,
    tries: &mut Tries,
) -> Result<Response<Arrived>, Refused> {
    let refused = |reason, cause, unsent| Refused { reason, cause, unsent, answered: false };
    let Some(endpoint) = upstream.endpoints.get(at) else {
        return Err(refused(FailureReason::NoEndpoint, String::new(), true));
    };
    let pool = worker.pools.of(endpoint);
    let went_out = std::cell::Cell::new(None);
    let sending = pool.send(endpoint, upstream, &mut outgoing.request, || {
        went_out.set(Some(Instant::now()));
    });
    let span = attempt_span(route, tries.idempotent);
    let mut deadline = Deadline::new(&worker.deadlines, span);
    let upload = exchange.upload();
    let outcome = within_upload(&mut tries.overall, &mut deadline, upload, sending).await;
    match outcome {
        Some(Ok(sent)) => {
            let after = went_out.get().map_or(Duration::ZERO, |at: Instant| at.elapsed());
            exchange.head(sent.status(), after);
            Ok(sent)
        }
        Some(Err(refused)) => Err(refused),
        None => {
            // Whether or not it left, its time is over.
            outgoing.request = None;
            Err(if went_out.get().is_some() {
                let cause = format!("{} sent no response head in time", endpoint.cell.url);
                refused(FailureReason::Timeout, cause, false)
            } else {
                // Connecting has a limit of its own: it waited for a connection of ours.
                let cause = format!("no connection to {} became free", endpoint.cell.url);
                refused(FailureReason::Overflow, cause, false)
            })
        }
    }
}

/// How long one attempt may take; zero is for ever. What cannot be sent again is not given up early.
fn attempt_span(route: &Route, idempotent: bool) -> Duration {
    let (upstream, per_try) = (route.timeouts.upstream, route.retry.per_try);
    if per_try.is_zero() || !idempotent {
        return upstream;
    }
    if upstream.is_zero() { per_try } else { per_try.min(upstream) }
}

/// Why a refused request may be sent again, if it may.
fn retry_reason(retry: &Retry, refused: &Refused, idempotent: bool) -> Option<RetryReason> {
    if refused.unsent {
        return retry.connect.then_some(RetryReason::Connect);
    }
    match refused.reason {
        _ if !idempotent => None,
        FailureReason::Reset if retry.reset && !refused.answered => Some(RetryReason::Reset),
        FailureReason::Timeout if !retry.per_try.is_zero() => Some(RetryReason::Timeout),
        _ => None,
    }
}

/// Reads the rest of an answer that is not passed on and throws it away.
fn discard(worker: &Rc<Worker>, sent: Response<Arrived>) {
    let mut body = sent.into_body();
    if body.is_end_stream() {
        return;
    }
    let mut deadline = Deadline::new(&worker.deadlines, DISCARD_TIME);
    spawn_local(async move {
        let mut read = 0;
        let reading = async {
            while !body.is_end_stream() && read <= DISCARDED_BYTES {
                let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await else { return };
                read += frame.data_ref().map_or(0, |data| data.len() as u64);
            }
        };
        // Whatever is left goes with its connection.
        let _ = within(None, &mut deadline, reading).await;
    });
}

pub(super) fn fail(exchange: &mut Exchange, arm: ArmIx, reason: FailureReason, cause: String) -> ProxyError {
    exchange.failed(arm, reason);
    ProxyError { kind: Kind::Upstream(reason), cause }
}

/// The worker's view of an upstream's endpoints.
struct Seen<'a> {
    worker: &'a Worker,
    pools: &'a Pools,
    upstream: &'a Upstream,
    avoid: Option<usize>,
    demand: Demand,
    entropy: u64,
}

impl View for Seen<'_> {
    fn in_flight(&self, endpoint: usize) -> u32 {
        self.upstream.endpoints.get(endpoint).map_or(0, |one| self.pools.of(one).in_flight())
    }

    fn usable(&self, endpoint: usize) -> bool {
        if self.avoid == Some(endpoint) {
            return false;
        }
        let avoided = |one: &Endpoint| self.pools.of(one).is_avoided(self.worker.clock.tick());
        let found = self.upstream.endpoints.get(endpoint);
        found.is_some_and(|one| self.demand.is_met(one, endpoint, self.entropy, || avoided(one)))
    }
}

/// An endpoint that is not out and did not refuse lately, by the user's key where that decides; when
/// all are or did, any: looking dead is not being dead.
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
    let seen = |demand: &Demand| Seen { worker, pools, upstream, avoid, demand: *demand, entropy };
    let mut demands = Demand::of(upstream).iter();
    match key.filter(|_| upstream.load_balance == LoadBalance::ConsistentHash) {
        Some(key) => demands.find_map(|demand| rendezvous::pick(upstream, &seen(demand), key)),
        None => demands.find_map(|demand| pick(upstream, &seen(demand), entropy, turn)),
    }
}
