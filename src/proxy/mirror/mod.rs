//! Copies of requests for a shadow: drawn here, gathered in [`tee`], sent in [`copy`], and their
//! answers held against the original's in [`pairing`].
//!
//! A copy goes out beside its original, on connections of its own, once the request body is there.
//! Whatever becomes of it is counted and thrown away: it must never delay, fail or outweigh what a
//! client waits for, nor move a number an arm is judged by.

pub mod copy;
pub mod pairing;
pub mod tee;
pub mod ticket;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use http::header::{TE, TRAILER};
use http::request::Parts;
use http::{HeaderValue, Request};
use http_body::Body as _;

pub use self::pairing::{Captured, Pairing, Primary};

use self::copy::Copy;
use self::tee::Tee;
use self::ticket::Ticket;
use super::exchange::Exchange;
use super::identity::X_SHADOW;
use super::worker::Worker;
use crate::ledger::ShadowCell;
use crate::model::{ArmIx, PairSink, ShadowResult};
use crate::plan::{Mirror, Route, Upstream, UpstreamProtocol};
use crate::split::Choice;
use crate::upstream::{Deadlines, Pools, Purpose, RequestBody};

/// Most copies of one worker under way, those whose request body still comes among them.
pub const MAX_IN_FLIGHT: u32 = crate::model::bounds::COPIES;
/// One copy in this many goes to the original's own upstream where answers are compared: what differs
/// there differs by itself. Of safe methods alone.
const NOISE_EVERY: u64 = 5;

/// What one worker needs for copies.
pub struct Shadows {
    /// Connections for copies alone.
    pub pools: Pools,
    /// Takes pairs of answers.
    pub pairs: Arc<dyn PairSink>,
    in_flight: Cell<u32>,
}

impl Shadows {
    /// No copies yet.
    #[must_use]
    pub fn new(deadlines: &Rc<Deadlines>, pairs: Arc<dyn PairSink>) -> Self {
        Self { pools: Pools::new(Rc::clone(deadlines), Purpose::Copies), pairs, in_flight: Cell::new(0) }
    }
}

/// A request as it is about to be sent to its arm, before edits for that arm.
pub struct Original<'a> {
    /// Index of its route.
    pub route: usize,
    /// Why which arm gets it.
    pub choice: &'a Choice,
    /// Its head.
    pub parts: &'a Parts,
    /// Its body, untouched.
    pub body: &'a RequestBody,
    /// Its id.
    pub id: &'a HeaderValue,
    /// The client takes trailers.
    pub te_trailers: bool,
    /// Its connection is to become a tunnel.
    pub upgrade: bool,
}

/// Begins the copies of a request, for the route's mirrors that draw it.
pub fn begin(exchange: &mut Exchange, route: &Route, original: &Original<'_>) {
    if original.parts.headers.contains_key(X_SHADOW) {
        return;
    }
    let Some(arm) = route.arm(original.choice.arm) else { return };
    let worker = Rc::clone(exchange.worker());
    let mut waiting = Vec::new();
    for (at, mirror) in route.mirrors.iter().enumerate() {
        // A copy for whom the original goes to would show nothing.
        if mirror.upstream.name == arm.upstream.name {
            continue;
        }
        let hash = original.choice.key_hash.unwrap_or_else(|| worker.entropy());
        if !mirror.draws(at, hash) {
            continue;
        }
        let to = Destination::of(&worker, route, mirror, original);
        to.cell.sampled(worker.id);
        if let Some(reason) = refusal(&worker, mirror, to.cell, original) {
            to.cell.record(worker.id, reason, None);
            continue;
        }
        waiting.push(one(exchange, route, at, mirror, original, &to));
    }
    if waiting.is_empty() {
        return;
    }
    match original.body {
        RequestBody::Streaming(_, upload) => {
            let tee = Tee::new(&worker, exchange.plan().mirror_bytes, waiting);
            // An upload is new here: nobody sees it yet.
            let _ = upload.tap.set(Rc::new(tee));
        }
        _ => waiting.into_iter().for_each(|copy| copy.dispatch(Vec::new(), None)),
    }
}

/// Who a copy goes to.
struct Destination<'a> {
    upstream: &'a Arc<Upstream>,
    cell: &'a Arc<ShadowCell>,
    /// It is the original's own upstream.
    noise: Option<ArmIx>,
}

impl<'a> Destination<'a> {
    fn of(worker: &Worker, route: &'a Route, mirror: &'a Mirror, original: &Original<'_>) -> Self {
        let own = mirror.noise_of(original.choice.arm).zip(route.arm(original.choice.arm));
        let safe = original.parts.method.is_safe();
        match own.filter(|_| safe && worker.entropy().is_multiple_of(NOISE_EVERY)) {
            Some((cell, arm)) => Self { upstream: &arm.upstream, cell, noise: Some(original.choice.arm) },
            None => Self { upstream: &mirror.upstream, cell: &mirror.cell, noise: None },
        }
    }
}

/// Why a request that was drawn is not copied, as far as its head tells.
fn refusal(
    worker: &Worker,
    mirror: &Mirror,
    cell: &ShadowCell,
    original: &Original<'_>,
) -> Option<ShadowResult> {
    if original.upgrade {
        return Some(ShadowResult::Upgrade);
    }
    if !mirror.methods.holds(&original.parts.method) {
        return Some(ShadowResult::Method);
    }
    if original.body.size_hint().lower() > mirror.max_body {
        return Some(ShadowResult::BodyTooLarge);
    }
    if worker.shadows.in_flight.get() >= MAX_IN_FLIGHT {
        return Some(ShadowResult::QueueFull);
    }
    (!cell.may_try(worker.id, worker.clock.tick())).then_some(ShadowResult::BackedOff)
}

fn one(
    exchange: &mut Exchange,
    route: &Route,
    at: usize,
    mirror: &Mirror,
    original: &Original<'_>,
    to: &Destination<'_>,
) -> Copy {
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.method = original.parts.method.clone();
    parts.uri = original.parts.uri.clone();
    parts.headers = original.parts.headers.clone();
    let headers = &mut parts.headers;
    headers.remove(TRAILER);
    headers.remove(TE);
    if original.te_trailers && to.upstream.protocol != UpstreamProtocol::Http1 {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    match to.noise.and_then(|arm| route.arm(arm)) {
        // It must be what its original is, or it would show edits as noise.
        Some(arm) => {
            if let Some(name) = &route.arm_header_upstream {
                headers.insert(name.clone(), arm.header_value.clone());
            }
            arm.request_ops.apply(headers);
        }
        None => mirror.headers.apply(headers),
    }
    headers.insert(X_SHADOW, HeaderValue::from_static("1"));
    let pairing = mirror
        .pairs()
        .then(|| Rc::new(Pairing::new(exchange.worker(), exchange.plan(), original, at, to.noise, to.cell)));
    if let Some(pairing) = &pairing {
        exchange.paired(Rc::clone(pairing));
    }
    Copy {
        max_body: mirror.max_body,
        log: exchange.mirrored(&to.upstream.name),
        key: original.choice.key_hash,
        ticket: Ticket::new(exchange.worker(), to.cell, pairing),
        plan: Rc::clone(exchange.plan()),
        route: original.route,
        mirror: at,
        upstream: Arc::clone(to.upstream),
        grpc: exchange.is_grpc(),
        parts,
    }
}
