//! What probes, outcomes and breakers mean for one request: whom it may go to, who answers instead,
//! and what its end says of whom it went to.
//!
//! A request to an upstream that watches nothing pays two looks at an empty option. The arm that was
//! chosen is charged, whoever answers. It must never count against an upstream what a client did.

use std::net::IpAddr;
use std::rc::Rc;

use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response};

use super::body::Body;
use super::error::{Kind, ProxyError};
use super::exchange::Exchange;
use super::forward::{Outgoing, Tries, choose_endpoint, fail, on_endpoint};
use super::identity::X_REQUEST_ID;
use super::worker::Worker;
use crate::ledger::guard::{FULL, Went};
use crate::model::{ArmIx, FailureReason, WorkerId};
use crate::plan::filter::Respond;
use crate::plan::guard::{Fallback, takes_part};
use crate::plan::{Endpoint, Route, Upstream};
use crate::upstream::Arrived;

/// How much is asked of an endpoint before a request goes to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// Nothing: looking dead is not being dead.
    Any,
    /// It is not out.
    Alive,
    /// And it did not refuse this worker lately.
    Sound,
    /// And its ramp lets it have this one.
    Ramped,
}

impl Demand {
    /// From the highest down, as far as they differ for an upstream.
    #[must_use]
    pub fn of(upstream: &Upstream) -> &'static [Self] {
        if upstream.watch.is_some() {
            &[Self::Ramped, Self::Sound, Self::Alive, Self::Any]
        } else {
            &[Self::Sound, Self::Any]
        }
    }

    /// Whether an endpoint meets it; `avoided` tells whether it refused lately.
    #[must_use]
    pub fn is_met(self, endpoint: &Endpoint, at: usize, entropy: u64, avoided: impl Fn() -> bool) -> bool {
        let share = endpoint.guard.as_ref().map_or(FULL, |guard| guard.share());
        match self {
            Self::Any => true,
            Self::Alive => share > 0,
            Self::Sound => share > 0 && !avoided(),
            Self::Ramped => takes_part(share, FULL, entropy, at) && !avoided(),
        }
    }
}

/// A request goes to an endpoint.
pub fn chose(worker: &Worker, upstream: &Upstream, at: usize) {
    let Some(watch) = &upstream.watch else { return };
    if watch.cell.is_dead() {
        watch.cell.failed_open(worker.id);
    }
    if let Some(guard) = upstream.endpoints.get(at).and_then(|endpoint| endpoint.guard.as_ref()) {
        guard.taken();
    }
}

/// An attempt on an endpoint ended: by its fault, well, or neither.
pub fn settle(
    upstream: &Upstream,
    (worker, client): (WorkerId, IpAddr),
    at: usize,
    blame: Option<FailureReason>,
    well: bool,
) {
    let outlier = upstream.watch.as_ref().and_then(|watch| watch.outlier.as_ref());
    if outlier.is_none() && upstream.breaker.is_none() {
        return;
    }
    let went = match blame {
        // It was never asked.
        Some(FailureReason::Overflow | FailureReason::NoEndpoint | FailureReason::Breaker) => return,
        Some(reason) => Went::of(reason),
        None if well => Went::Well,
        None => return,
    };
    if let Some(breaker) = &upstream.breaker {
        breaker.cell.count(worker, client, went);
    }
    let guard = upstream.endpoints.get(at).and_then(|endpoint| endpoint.guard.as_ref());
    if let (Some(rules), Some(guard)) = (outlier, guard) {
        match blame {
            Some(reason) => guard.failed(reason, rules.errors, client),
            None => guard.succeeded(client),
        }
    }
}

/// Why an arm is not asked.
pub enum Barred {
    /// Another arm may answer, where the route says so.
    Absent(ProxyError),
    /// The breaker's own answer is given.
    Answered(ProxyError),
    /// The breaker's other upstream answers.
    Stand,
}

/// Whether an arm may not be asked: its breaker is open, or all its endpoints are out and another
/// arm that has some answers for it.
pub fn barred(exchange: &mut Exchange, route: &Route, arm: ArmIx, tried: u64) -> Option<Barred> {
    let upstream = &*route.arm(arm)?.upstream;
    if let Some(breaker) = upstream.breaker.as_ref().filter(|breaker| !breaker.cell.admits()) {
        let cause = format!("the breaker of upstream {} is open", upstream.name);
        let error = fail(exchange, arm, FailureReason::Breaker, cause);
        let chosen = exchange.is_chosen(arm);
        return Some(match &breaker.fallback {
            Fallback::Upstream(_) if chosen => Barred::Stand,
            Fallback::Respond(_) if chosen => Barred::Answered(error),
            _ => Barred::Absent(error),
        });
    }
    upstream.watch.as_ref().filter(|watch| watch.cell.is_dead() && route.redistribute)?;
    let alive = |upstream: &Upstream| {
        let dead = upstream.watch.as_ref().is_some_and(|watch| watch.cell.is_dead());
        // One whose breaker is open would send it on, or away.
        !dead && upstream.breaker.as_ref().is_none_or(|breaker| breaker.cell.is_closed())
    };
    let others = route.arms.iter().zip(0_u8..).filter(|(_, at)| tried & (1 << at) == 0);
    let mut others = others;
    let somebody = others.any(|(other, _)| other.weight > 0 && alive(&other.upstream));
    somebody.then(|| {
        let cause = format!("every endpoint of upstream {} is out", upstream.name);
        Barred::Absent(fail(exchange, arm, FailureReason::NoEndpoint, cause))
    })
}

/// Sends a request to the upstream that stands in for the chosen arm's, once.
///
/// # Errors
/// What the client is told.
pub async fn stand_in(
    exchange: &mut Exchange,
    worker: &Rc<Worker>,
    route: &Route,
    arm: ArmIx,
    outgoing: &mut Outgoing,
    tries: &mut Tries,
) -> Result<Response<Arrived>, ProxyError> {
    let barred = |upstream: &Upstream| upstream.breaker.as_ref().is_some_and(|one| !one.cell.admits());
    let stand = route.arm(arm).and_then(|arm| arm.stand.as_ref()).filter(|stand| !barred(&stand.upstream));
    let Some(stand) = stand else {
        let cause = "the breaker is open, and so is its fallback's".to_owned();
        return Err(fail(exchange, arm, FailureReason::Breaker, cause));
    };
    exchange.stands_in();
    let upstream = &*stand.upstream;
    if !exchange.enter(arm) {
        let cause = format!("upstream {} is at its limit", upstream.name);
        return Err(fail(exchange, arm, FailureReason::Overflow, cause));
    }
    let Some(at) = choose_endpoint(worker, &worker.pools, upstream, None, exchange.key()) else {
        return Err(fail(exchange, arm, FailureReason::NoEndpoint, String::new()));
    };
    chose(worker, upstream, at);
    exchange.attempt(arm, at);
    let sent = on_endpoint(exchange, worker, route, upstream, at, outgoing, tries).await;
    outgoing.kept = None;
    sent.map_err(|refused| fail(exchange, arm, refused.reason, refused.cause))
}

/// The fixed answer of the breaker that refused a request, if it has one.
#[must_use]
pub fn fixed<'a>(route: &'a Route, arm: ArmIx, error: &ProxyError) -> Option<&'a Respond> {
    if error.kind != Kind::Upstream(FailureReason::Breaker) {
        return None;
    }
    match &route.arm(arm)?.upstream.breaker.as_ref()?.fallback {
        Fallback::Respond(respond) => Some(respond),
        Fallback::None | Fallback::Upstream(_) => None,
    }
}

/// Gives that answer.
pub fn answer(respond: &Respond, mut exchange: Box<Exchange>, id: &HeaderValue) -> Response<Body> {
    exchange.answered(respond.status);
    exchange.complete();
    let mut response = Response::new(Body::Fixed(Some(respond.body.clone()), exchange));
    *response.status_mut() = respond.status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, respond.content_type.clone());
    headers.insert(X_REQUEST_ID, id.clone());
    if let Some(after) = &respond.retry_after {
        headers.insert(RETRY_AFTER, after.clone());
    }
    response
}
