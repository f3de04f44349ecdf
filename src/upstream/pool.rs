//! Connections of one worker to its endpoints: reuse, freshness, and what "not sent" means.
//!
//! Newest first; a connection is looked at before it is written to; a request that provably never
//! left goes out again on a fresh connection. A connection whose exchange did not end cleanly is
//! closed, never reused. HTTP/2 connections are shared instead: [`super::h2`].

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::arrived::Arrived;
use super::buffers::Buffers;
use super::connect::connect;
use super::deadline::{Deadline, Deadlines, within};
use super::gate::{Bounds, Gate, Place, Purpose, millis};
use super::h1::Connection;
use super::h2::{Session, Sessions};
use super::upload::RequestBody;
use crate::ledger::EndpointCell;
use crate::model::FailureReason;
use crate::model::time::Tick;
use crate::plan::{ConnectionSettings, Endpoint, Upstream, UpstreamProtocol};

/// Shortest pause before an endpoint that refused is preferred again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Doublings of that pause.
const BACKOFF_DOUBLINGS: u32 = 5;
/// How long a request waits before it looks whether its endpoint is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);
/// Times a request goes out again on another HTTP/2 stream after the origin refused one unprocessed.
const RESENDS: u32 = 2;

/// The pools of one worker.
#[derive(Debug)]
pub struct Pools {
    shared: Rc<Shared>,
    /// By endpoint id, which is never reused.
    pools: RefCell<Vec<Option<Rc<Pool>>>>,
}

/// What all pools of a worker use.
#[derive(Debug)]
struct Shared {
    deadlines: Rc<Deadlines>,
    buffers: Rc<Buffers>,
    purpose: Purpose,
}

impl Shared {
    fn now(&self) -> Tick {
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
        let fresh = || Rc::new(Pool::new(Rc::clone(&self.shared), Arc::clone(&endpoint.cell)));
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
                .for_each(|pool| pool.idle.borrow_mut().clear());
        }
        let least = upstream.connection.min_idle;
        if least == 0 || upstream.protocol == UpstreamProtocol::H2 {
            return;
        }
        for (at, endpoint) in upstream.endpoints.iter().enumerate() {
            let pool = self.of(endpoint);
            let held = pool.idle.borrow().len() + pool.warming.get() as usize;
            if !pool.is_avoided(self.shared.now()) {
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
                Some(settings) => pool.sweep(&settings, now),
                None => {
                    pool.idle.borrow_mut().clear();
                    pool.sessions.clear();
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
    shared: Rc<Shared>,
    idle: RefCell<Vec<Idle>>,
    sessions: Sessions,
    gate: Rc<Gate>,
    warming: Cell<u32>,
    in_flight: Cell<u32>,
    failures: Cell<u32>,
    avoid_until: Cell<Tick>,
    turn: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    connection: Connection,
    since: Tick,
}

impl Idle {
    fn is_fresh(&self, settings: &ConnectionSettings, now: Tick) -> bool {
        now < self.since.after(settings.idle_timeout.0)
            && now < self.connection.born.after(settings.max_age.0)
    }
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
    fn new(shared: Rc<Shared>, cell: Arc<EndpointCell>) -> Self {
        Self {
            gate: Gate::new(cell, shared.purpose),
            shared,
            idle: RefCell::default(),
            sessions: Sessions::default(),
            warming: Cell::default(),
            in_flight: Cell::default(),
            failures: Cell::default(),
            avoid_until: Cell::default(),
            turn: Cell::default(),
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
        let settings = &upstream.connection;
        if upstream.protocol == UpstreamProtocol::H2 {
            let home = Home::new(self, settings.max_idle, Self::bounds(upstream));
            return Box::pin(self.send_h2(endpoint, settings, outgoing, sent, home)).await;
        }
        // A tunnel gets a connection of its own, which never comes back.
        let tunnel = outgoing.as_ref().is_some_and(|request| matches!(request.body(), RequestBody::Tunnel));
        let home = Home::new(self, if tunnel { 0 } else { settings.max_idle }, Self::bounds(upstream));
        while let Some(connection) = (!tunnel).then(|| self.checkout(settings)).flatten() {
            sent();
            match connection.exchange(outgoing, &self.shared.buffers).await {
                Ok(response) => return Ok(arrived(response, home)),
                // Closed in the moment it was taken: a fresh one can still serve the request.
                Err(failed) if failed.unsent && outgoing.is_some() => {}
                Err(failed) => return Err(failed.into()),
            }
        }
        // Rare and large: boxed, so that every exchange does not carry room for it.
        Box::pin(self.send_fresh(endpoint, upstream, outgoing, sent, home, tunnel)).await
    }

    async fn send_fresh(
        &self,
        endpoint: &Endpoint,
        upstream: &Upstream,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
        home: Home,
        tunnel: bool,
    ) -> Result<Response<Arrived>, Refused> {
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
                break self.open(endpoint, settings, place).await?;
            }
            // A tunnel uses no connection that served others, but may have the place of an unused one.
            if tunnel && self.idle.borrow_mut().pop().is_some() {
                continue;
            }
            pending.freed(&self.shared.deadlines).await;
            if let Some(connection) = (!tunnel).then(|| self.checkout(settings)).flatten() {
                break connection;
            }
        };
        drop(pending);
        sent();
        let response = connection.exchange(outgoing, &self.shared.buffers).await?;
        Ok(arrived(response, home))
    }

    /// Sends on a stream of a shared connection, on another when the origin refused it unprocessed.
    async fn send_h2(
        &self,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
        home: Home,
    ) -> Result<Response<Arrived>, Refused> {
        let connect = async || {
            let open =
                async |stream| Session::open(stream, &self.shared.deadlines, self.sessions.room()).await;
            self.connect(endpoint, settings, open).await
        };
        let mut resends = 0;
        loop {
            let session = self.sessions.obtain(settings, self.shared.now(), connect).await?;
            match session.send(outgoing, &sent).await {
                Ok(response) => return Ok(response.map(|body| Arrived::h2(body, home))),
                Err(refused) if refused.unsent && outgoing.is_some() && resends < RESENDS => resends += 1,
                Err(refused) => return Err(refused),
            }
        }
    }

    fn bounds(upstream: &Upstream) -> Bounds {
        Bounds { connections: upstream.max_connections, pending: upstream.max_pending }
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
        place: Place,
    ) -> Result<Connection, Refused> {
        let now = || self.shared.now();
        self.connect(endpoint, settings, async |stream| Ok(Connection::new(stream, now(), place))).await
    }

    /// Opens a connection that nobody asked for yet.
    fn warm(self: &Rc<Self>, upstream: Arc<Upstream>, endpoint: usize) {
        let Some(place) = self.gate.open(Self::bounds(&upstream)) else { return };
        let pool = Rc::clone(self);
        pool.warming.set(pool.warming.get() + 1);
        spawn_local(async move {
            if let Some(endpoint) = upstream.endpoints.get(endpoint) {
                let opened = pool.open(endpoint, &upstream.connection, place).await;
                // A failure is remembered as one; the next sweep tries again.
                pool.keep(opened.ok(), upstream.connection.max_idle, Self::bounds(&upstream));
            }
            pool.warming.set(pool.warming.get().saturating_sub(1));
        });
    }

    /// Keeps a connection that may serve an exchange.
    fn keep(&self, connection: Option<Connection>, max_idle: u32, bounds: Bounds) {
        let Some(connection) = connection else { return };
        // Closed, its place can be taken by the worker whose requests wait.
        if self.gate.is_wanted_elsewhere(bounds) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < max_idle as usize {
            idle.push(Idle { connection, since: self.shared.now() });
            drop(idle);
            self.gate.returned();
        }
    }

    /// The newest idle connection that is certainly not closed.
    fn checkout(&self, settings: &ConnectionSettings) -> Option<Connection> {
        let now = self.shared.now();
        let mut idle = self.idle.borrow_mut();
        while let Some(one) = idle.pop() {
            if one.is_fresh(settings, now) && !one.connection.is_spoilt() {
                return Some(one.connection);
            }
        }
        None
    }

    fn sweep(&self, settings: &ConnectionSettings, now: Tick) {
        self.idle.borrow_mut().retain(|idle| idle.is_fresh(settings, now) && !idle.connection.is_spoilt());
        self.sessions.sweep(settings, now);
    }

    /// Connects and makes the stream a connection by `open`, both within the connect timeout.
    async fn connect<T>(
        &self,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
        open: impl AsyncFnOnce(TcpStream) -> io::Result<T>,
    ) -> Result<T, Refused> {
        self.turn_to_connect(endpoint).await?;
        let addresses = endpoint.cell.addresses.load_full();
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let mut deadline = Deadline::new(&self.shared.deadlines, settings.connect_timeout.0);
        let connecting = async {
            let stream = connect(&addresses, turn, settings).await.map_err(|error| (true, error))?;
            open(stream).await.map_err(|error| (false, error))
        };
        let connected = within(None, &mut deadline, connecting).await;
        let now = self.shared.now();
        let (reason, cause) = match connected {
            Some(Ok(connection)) => {
                self.gate.connected(true, millis());
                self.failures.set(0);
                self.avoid_until.set(Tick(0));
                return Ok(connection);
            }
            Some(Err((false, error))) => {
                let cause = format!("{} does not speak the protocol: {error}", endpoint.cell.url);
                (FailureReason::BadResponse, cause)
            }
            Some(Err((true, error))) => {
                let cause = match error.kind() {
                    io::ErrorKind::NotFound if addresses.is_empty() => {
                        format!("{} has no address yet", endpoint.host)
                    }
                    _ => format!("connect to {}: {error}", endpoint.cell.url),
                };
                (FailureReason::Connect, cause)
            }
            None => {
                let cause = format!("connect to {} took too long", endpoint.cell.url);
                (FailureReason::ConnectTimeout, cause)
            }
        };
        self.gate.connected(false, millis());
        self.avoid(now);
        Err(Refused { reason, cause, unsent: true, answered: false })
    }

    /// Waits until a connect may be tried; after one that failed few may, and whoever waits hears of
    /// their failure.
    async fn turn_to_connect(&self, endpoint: &Endpoint) -> Result<(), Refused> {
        let failures = self.gate.failures();
        while !self.gate.may_connect(millis()) {
            if self.gate.failures() != failures {
                let cause = format!("connect to {} failed for another request", endpoint.cell.url);
                return Err(Refused { reason: FailureReason::Connect, cause, unsent: true, answered: false });
            }
            let mut pause = Deadline::new(&self.shared.deadlines, RECONNECT_PAUSE);
            within(None, &mut pause, std::future::pending::<()>()).await;
        }
        Ok(())
    }

    fn avoid(&self, now: Tick) {
        let failures = self.failures.get().min(BACKOFF_DOUBLINGS);
        self.failures.set(failures + 1);
        self.avoid_until.set(now.after(BACKOFF_FIRST * 2_u32.pow(failures)));
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

/// Where a connection goes when its exchange is over; counts the request in flight until then.
#[derive(Debug)]
pub struct Home {
    pool: Rc<Pool>,
    max_idle: u32,
    bounds: Bounds,
}

impl Home {
    fn new(pool: &Rc<Pool>, max_idle: u32, bounds: Bounds) -> Self {
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
