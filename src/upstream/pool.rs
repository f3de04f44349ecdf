//! Connections of one worker to its endpoints: reuse, freshness, and what "not sent" means.
//!
//! Newest first; a connection is looked at before it is written to; a request that provably never
//! left goes out again on a fresh connection. A connection whose exchange did not end cleanly is
//! closed, never reused. HTTP/2 connections are shared instead: [`super::h2`].

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use tokio::task::spawn_local;

use super::arrived::Arrived;
use super::buffers::Buffers;
use super::deadline::Deadlines;
use super::destinations::{Destination, Destinations};
use super::gate::{Bounds, Gate, Purpose, millis};
use super::h1::Connection;
use super::h2::Sessions;
use super::tls::Handshakes;
use super::upload::RequestBody;
use crate::model::FailureReason;
use crate::model::time::Tick;
use crate::plan::{ConnectionSettings, Endpoint, Upstream, UpstreamProtocol};

/// The pools of one worker.
#[derive(Debug)]
pub struct Pools {
    shared: Rc<Shared>,
    /// By endpoint id, which is never reused.
    pools: RefCell<Vec<Option<Rc<Pool>>>>,
}

/// What all pools of a worker use.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) deadlines: Rc<Deadlines>,
    buffers: Rc<Buffers>,
    purpose: Purpose,
}

impl Shared {
    pub(super) fn now(&self) -> Tick {
        self.deadlines.clock().tick()
    }
}

impl Pools {
    /// No connections yet.
    #[must_use]
    pub fn new(deadlines: Rc<Deadlines>, purpose: Purpose) -> Self {
        let shared = Rc::new(Shared { deadlines, buffers: Rc::default(), purpose });
        Self { shared, pools: RefCell::default() }
    }

    /// The pool of an endpoint, made at its first use.
    #[must_use]
    pub fn of(&self, endpoint: &Endpoint) -> Rc<Pool> {
        let at = endpoint.cell.id.0 as usize;
        let mut pools = self.pools.borrow_mut();
        if pools.len() <= at {
            pools.resize_with(at + 1, || None);
        }
        let fresh = || Rc::new(Pool::new(Rc::clone(&self.shared), endpoint));
        let Some(slot) = pools.get_mut(at) else { return fresh() };
        Rc::clone(slot.get_or_insert_with(fresh))
    }

    /// Opens what an endpoint lacks of its least number of unused connections, and lets go of those
    /// that another worker waits for.
    pub fn warm(&self, upstream: &Arc<Upstream>) {
        let bounds = Pool::bounds(upstream);
        if bounds.connections > 0 {
            let pools = upstream.endpoints.iter().map(|endpoint| self.of(endpoint));
            pools
                .filter(|pool| pool.gate.is_wanted_elsewhere(bounds))
                .for_each(|pool| pool.destinations.clear_idle());
        }
        let least = upstream.connection.min_idle;
        if least == 0 || upstream.protocol == UpstreamProtocol::H2 {
            return;
        }
        for (at, endpoint) in upstream.endpoints.iter().enumerate() {
            let pool = self.of(endpoint);
            pool.destinations.follow(&endpoint.cell.addresses);
            let held = pool.destinations.idle() + pool.warming.get() as usize;
            // Streams share what is open already.
            let shares = upstream.protocol == UpstreamProtocol::Auto && pool.agreed_on_h2.get() == Some(true);
            if !shares && !pool.is_avoided(self.shared.now()) {
                (held..least as usize).for_each(|_| pool.warm(Arc::clone(upstream), at));
            }
        }
    }

    /// Drops idle connections past their time, and pools of endpoints for which `wanted` is false.
    pub fn sweep(&self, settings: impl Fn(u32) -> Option<ConnectionSettings>) {
        let now = self.shared.now();
        for (slot, id) in self.pools.borrow_mut().iter_mut().zip(0_u32..) {
            let Some(pool) = slot else { continue };
            match settings(id) {
                Some(settings) => {
                    pool.destinations.follow(pool.gate.addresses());
                    pool.destinations.sweep(&settings, now);
                }
                None => {
                    pool.destinations.clear();
                    if Rc::strong_count(pool) == 1 {
                        *slot = None;
                    }
                }
            }
        }
    }
}

/// The connections of one worker to one endpoint.
#[derive(Debug)]
pub struct Pool {
    pub(super) shared: Rc<Shared>,
    pub(super) destinations: Destinations,
    pub(super) handshakes: Option<Handshakes>,
    /// What the endpoint chose the last time, where it may choose.
    pub(super) agreed_on_h2: Cell<Option<bool>>,
    /// Sessions of nobody, while there is no address.
    pub(super) nowhere: Sessions,
    pub(super) gate: Rc<Gate>,
    warming: Cell<u32>,
    in_flight: Cell<u32>,
    pub(super) failures: Cell<u32>,
    /// Before which moment the log is not told again that it cannot be reached.
    pub(super) quiet_until: Cell<Tick>,
    pub(super) avoid_until: Cell<Tick>,
}

/// Why there is no response.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Cause.
    pub reason: FailureReason,
    /// What the log says.
    pub cause: String,
    /// The origin cannot have seen any of the request.
    pub unsent: bool,
    /// Some of an answer came.
    pub answered: bool,
}

impl Pool {
    fn new(shared: Rc<Shared>, endpoint: &Endpoint) -> Self {
        Self {
            gate: Gate::new(Arc::clone(&endpoint.cell), shared.purpose),
            shared,
            destinations: Destinations::default(),
            handshakes: endpoint.tls.as_ref().map(Handshakes::new),
            agreed_on_h2: Cell::default(),
            nowhere: Sessions::default(),
            warming: Cell::default(),
            in_flight: Cell::default(),
            failures: Cell::default(),
            quiet_until: Cell::new(Tick(0)),
            avoid_until: Cell::default(),
        }
    }

    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether the endpoint refused lately and others should be preferred.
    #[must_use]
    pub fn is_avoided(&self, now: Tick) -> bool {
        now < self.avoid_until.get() || self.gate.refused_lately(millis)
    }

    /// Sends a request on the newest usable connection, or on a new one. The request is taken out
    /// of `outgoing`, and put back when it can be sent again. `sent` is called when it goes out, for
    /// measuring without connect time.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn send(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        upstream: &Upstream,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
    ) -> Result<Response<Arrived>, Refused> {
        match upstream.protocol {
            UpstreamProtocol::H2 => Box::pin(self.send_h2(endpoint, upstream, outgoing, sent)).await,
            UpstreamProtocol::Auto if endpoint.tls.is_some() => {
                Box::pin(self.send_agreed(endpoint, upstream, outgoing, sent)).await
            }
            UpstreamProtocol::Http1 | UpstreamProtocol::Auto => {
                self.send_h1(endpoint, upstream, outgoing, sent).await
            }
        }
    }

    pub(super) async fn send_h1(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        upstream: &Upstream,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
    ) -> Result<Response<Arrived>, Refused> {
        let settings = &upstream.connection;
        // A tunnel gets a connection of its own, which never comes back.
        let tunnel = outgoing.as_ref().is_some_and(|request| matches!(request.body(), RequestBody::Tunnel));
        let home = Home::new(self, if tunnel { 0 } else { settings.max_idle }, Self::bounds(upstream));
        self.destinations.follow(&endpoint.cell.addresses);
        let to = self.destinations.choose(self.shared.now());
        while let Some(connection) = self.checkout(to.as_deref().filter(|_| !tunnel), settings) {
            sent();
            match connection.exchange(outgoing, &self.shared.buffers).await {
                Ok(response) => return Ok(arrived(response, home)),
                // Closed in the moment it was taken: a fresh one can still serve the request.
                Err(failed) if failed.unsent && outgoing.is_some() => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        // Rare and large: boxed, so that every exchange does not carry room for it.
        Box::pin(self.send_fresh(endpoint, upstream, outgoing, sent, Way { home, tunnel, to })).await
    }

    async fn send_fresh(
        &self,
        endpoint: &Endpoint,
        upstream: &Upstream,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
        way: Way,
    ) -> Result<Response<Arrived>, Refused> {
        let Way { home, tunnel, to } = way;
        let settings = &upstream.connection;
        let bounds = Self::bounds(upstream);
        let overflow = || Refused {
            reason: FailureReason::Overflow,
            cause: format!("too many requests wait for a connection to {}", endpoint.cell.url),
            unsent: true,
            answered: false,
        };
        let pending = self.gate.wait(bounds).ok_or_else(overflow)?;
        let connection = loop {
            if let Some(place) = self.gate.open(bounds) {
                let first = to.as_ref().map(|to| &to.spot);
                break self.open(endpoint, settings, place, first, tunnel).await?;
            }
            // A tunnel uses no connection that served others, but may have the place of an unused one.
            if tunnel && self.destinations.pop().is_some() {
                continue;
            }
            pending.freed(&self.shared.deadlines).await;
            if let Some(connection) = (!tunnel).then(|| self.checkout_any(endpoint, settings)).flatten() {
                break connection;
            }
        };
        drop(pending);
        sent();
        let response = connection.exchange(outgoing, &self.shared.buffers).await?;
        Ok(arrived(response, home))
    }

    /// The newest idle connection of a destination that is certainly not closed.
    fn checkout(&self, to: Option<&Destination>, settings: &ConnectionSettings) -> Option<Connection> {
        to.and_then(|to| to.checkout(settings, self.shared.now()))
    }

    /// An idle connection to any address.
    fn checkout_any(&self, endpoint: &Endpoint, settings: &ConnectionSettings) -> Option<Connection> {
        self.destinations.follow(&endpoint.cell.addresses);
        self.destinations.checkout(settings, self.shared.now())
    }

    pub(super) fn bounds(upstream: &Upstream) -> Bounds {
        Bounds { connections: upstream.max_connections, pending: upstream.max_pending }
    }

    /// Opens a connection that nobody asked for yet.
    fn warm(self: &Rc<Self>, upstream: Arc<Upstream>, endpoint: usize) {
        let Some(place) = self.gate.open(Self::bounds(&upstream)) else { return };
        let pool = Rc::clone(self);
        pool.warming.set(pool.warming.get() + 1);
        spawn_local(async move {
            if let Some(endpoint) = upstream.endpoints.get(endpoint) {
                let opened = pool.open(endpoint, &upstream.connection, place, None, false).await;
                // A failure is remembered as one; the next sweep tries again.
                pool.keep(opened.ok(), upstream.connection.max_idle, Self::bounds(&upstream));
            }
            pool.warming.set(pool.warming.get().saturating_sub(1));
        });
    }
}

impl From<super::h1::Failed> for Refused {
    fn from(failed: super::h1::Failed) -> Self {
        Self { reason: failed.reason, cause: failed.cause, unsent: failed.unsent, answered: failed.answered }
    }
}

fn arrived(response: Response<super::h1::Body>, home: Home) -> Response<Arrived> {
    let tunnel = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    response.map(|body| Arrived::h1(body, home, tunnel))
}

/// How a request without a connection gets one.
struct Way {
    home: Home,
    tunnel: bool,
    to: Option<Rc<Destination>>,
}

/// Where a connection goes when its exchange is over; counts the request in flight until then.
#[derive(Debug)]
pub struct Home {
    pool: Rc<Pool>,
    max_idle: u32,
    bounds: Bounds,
}

impl Home {
    pub(super) fn new(pool: &Rc<Pool>, max_idle: u32, bounds: Bounds) -> Self {
        pool.in_flight.set(pool.in_flight.get() + 1);
        Self { pool: Rc::clone(pool), max_idle, bounds }
    }

    /// Takes a connection that may serve another exchange.
    pub fn take_back(&self, connection: Option<Connection>) {
        self.pool.keep(connection, self.max_idle, self.bounds);
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.pool.in_flight.set(self.pool.in_flight.get().saturating_sub(1));
    }
}
