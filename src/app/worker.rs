//! One data-plane thread: its runtime, its sockets, its beat, its end.
//!
//! It glues `net` to `proxy`; neither knows the other. It must never do control-plane work: the beat
//! below is all that happens besides requests.

use std::any::Any;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::{Semaphore, watch};

use super::unshaken::Unshaken;
use crate::certs::Certificates;
use crate::ledger::Book;
use crate::model::log::AccessSink;
use crate::model::time::{CoarseClock, TICK_MILLIS, Tick, UnixMillis};
use crate::model::{Client, Generation, HandshakeReason, PairSink, RejectReason, WorkerId};
use crate::net::listen::{Accepting, accept};
use crate::net::sweep::{Registry, SWEEP_TICKS};
use crate::net::tls::MAX_HANDSHAKES;
use crate::net::{Encryption, Handler, Settings, Transport};
use crate::plan::{ClientTimeouts, ConnectionSettings, Plan, Plans};
use crate::proxy::{self, Worker, tunnel};

/// What a worker thread is born with.
pub struct Birth {
    /// Its number.
    pub id: WorkerId,
    /// Its sockets with the index of their listener.
    pub sockets: Vec<(usize, TcpListener)>,
    /// The published plan.
    pub plans: Plans,
    /// Told of every publish.
    pub published: watch::Receiver<Generation>,
    /// Live cells.
    pub book: Arc<Book>,
    /// Certificates of listeners.
    pub certificates: Arc<Certificates>,
    /// Takes access records.
    pub sink: Arc<dyn AccessSink>,
    /// Takes pairs of answers to copied requests.
    pub pairs: Arc<dyn PairSink>,
    /// Entropy.
    pub seed: u64,
    /// Turns true when the worker must stop accepting and finish.
    pub stop: watch::Receiver<bool>,
}

/// Serves on the calling thread until drained; connections left after the grace are cut.
///
/// # Errors
/// The runtime or a socket could not be set up.
pub fn run(birth: Birth) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(tokio::runtime::LocalOptions::default())?;
    runtime.block_on(serve(birth))
}

async fn serve(birth: Birth) -> io::Result<()> {
    let Birth { id, sockets, plans, published, book, certificates, sink, pairs, seed, stop } = birth;
    let worker = Rc::new(Worker::new(id, &plans, book, sink, pairs, seed));
    let handler = Rc::new(Served {
        worker: Rc::clone(&worker),
        certificates,
        handshakes: Semaphore::new(MAX_HANDSHAKES),
        unshaken: Unshaken::default(),
    });
    let registry = Rc::new(Registry::default());
    let started = Instant::now();
    beat(&worker.clock, started);
    for (listener, socket) in sockets {
        let accepting = Rc::new(Accepting {
            listener,
            handler: Rc::clone(&handler),
            clock: Rc::clone(&worker.clock),
            registry: Rc::clone(&registry),
        });
        let socket = tokio::net::TcpListener::from_std(socket)?;
        tokio::task::spawn_local(accept(socket, accepting, stop.clone()));
    }
    tokio::task::spawn_local(follow(Rc::clone(&worker), published));
    live(&worker, &registry, stop, started).await;
    Ok(())
}

/// Lets go of the old plan on every publish, even when no request comes.
async fn follow(worker: Rc<Worker>, mut published: watch::Receiver<Generation>) {
    while published.changed().await.is_ok() {
        worker.plan();
    }
}

/// Beats the clock and sweeps until the worker is drained.
async fn live(
    worker: &Rc<Worker>,
    registry: &Rc<Registry>,
    mut stop: watch::Receiver<bool>,
    started: Instant,
) {
    let mut interval = tokio::time::interval(Duration::from_millis(TICK_MILLIS));
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut endpoints = EndpointSettings::default();
    let mut draining: Option<Instant> = None;
    let mut next_sweep = Tick(0);
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if draining.is_none() => {
                draining = Some(Instant::now());
                next_sweep = Tick(0);
            }
            _ = interval.tick() => {}
        }
        let now = beat(&worker.clock, started);
        worker.deadlines.sweep();
        if now >= next_sweep {
            next_sweep = Tick(now.0 + SWEEP_TICKS);
            sweep(worker, registry, &mut endpoints, draining.is_some(), now);
        }
        if let Some(since) = draining {
            if since.elapsed() >= worker.plan().process.shutdown_grace {
                registry.kill_all();
            }
            if registry.is_empty() && since.elapsed() >= Duration::from_millis(2 * TICK_MILLIS) {
                return;
            }
        }
    }
}

fn beat(clock: &CoarseClock, started: Instant) -> Tick {
    let ticks = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX) / TICK_MILLIS;
    let tick = Tick(u32::try_from(ticks).unwrap_or(u32::MAX - 1));
    let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    clock.set(tick, UnixMillis(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)));
    tick
}

fn sweep(worker: &Worker, registry: &Registry, endpoints: &mut EndpointSettings, draining: bool, now: Tick) {
    let plan = worker.plan();
    let limits =
        |listener: usize| plan.listeners.get(listener).map_or(ClientTimeouts::default(), |one| one.timeouts);
    registry.sweep(limits, draining, now);
    worker.tunnels.sweep();
    endpoints.follow(&plan);
    for pools in [&worker.pools, &worker.shadows.pools] {
        pools.sweep(|id| endpoints.by_id.get(id as usize).copied().flatten());
    }
    if !draining {
        plan.upstreams.iter().for_each(|upstream| worker.pools.warm(upstream));
    }
}

/// Connection settings by endpoint id, rebuilt only when the plan changes.
#[derive(Default)]
struct EndpointSettings {
    of: Generation,
    by_id: Vec<Option<ConnectionSettings>>,
}

impl EndpointSettings {
    fn follow(&mut self, plan: &Plan) {
        if self.of == plan.generation {
            return;
        }
        self.of = plan.generation;
        self.by_id.clear();
        for upstream in &plan.upstreams {
            for endpoint in &upstream.endpoints {
                let at = endpoint.cell.id.0 as usize;
                if self.by_id.len() <= at {
                    self.by_id.resize(at + 1, None);
                }
                if let Some(slot) = self.by_id.get_mut(at) {
                    *slot = Some(upstream.connection);
                }
            }
        }
    }
}

/// The proxy as `net` sees it.
struct Served {
    worker: Rc<Worker>,
    certificates: Arc<Certificates>,
    handshakes: Semaphore,
    unshaken: Unshaken,
}

impl Handler for Served {
    type Body = proxy::Body;

    fn handle(
        self: Rc<Self>,
        client: Rc<Client>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<proxy::Body>> + 'static {
        proxy::handle(Rc::clone(&self.worker), client, request)
    }

    async fn tunnel(self: Rc<Self>, left: Box<dyn Any>, stream: Transport, ahead: Bytes) {
        if let Ok(opened) = left.downcast() {
            tunnel::run(*opened, stream, ahead).await;
        }
    }

    fn refused(&self, reason: RejectReason) {
        self.worker.reject(reason);
    }

    fn unshaken(&self, client: &Client, reason: HandshakeReason, said: Option<&io::Error>) {
        self.worker.reject(RejectReason::Handshake);
        if let Some(counts) = self.worker.counts() {
            counts.handshake(reason);
        }
        let plan = self.worker.plan();
        let listener = plan.listeners.get(client.listener).map_or("", |one| &*one.name);
        self.unshaken.tell(listener, client.peer.ip(), reason, said, self.worker.clock.tick());
    }

    fn handshakes(&self) -> &Semaphore {
        &self.handshakes
    }

    fn connections(&self, listener: usize, by: i64) -> i64 {
        self.worker.book.process.connections_add(listener, by)
    }

    fn peer(&self, listener: usize, peer: std::net::IpAddr, opened: bool) -> u32 {
        let process = &self.worker.book.process;
        if opened {
            return process.peer_opened(listener, peer);
        }
        process.peer_closed(listener, peer);
        0
    }

    fn encryption(&self, listener: usize) -> Encryption {
        let plan = self.worker.plan();
        if plan.listeners.get(listener).is_none_or(|one| one.tls.is_none()) {
            return Encryption::None;
        }
        self.certificates.listener_tls(listener).map_or(Encryption::Missing, Encryption::Tls)
    }

    fn is_proxied(&self, listener: usize, peer: std::net::IpAddr) -> bool {
        let plan = self.worker.plan();
        let peers = plan.listeners.get(listener).map_or(&[][..], |one| &one.proxy_peers);
        !peers.is_empty() && peers.iter().any(|network| network.contains(&peer.to_canonical()))
    }

    fn settings(&self, listener: usize) -> Settings {
        let plan = self.worker.plan();
        let found = plan.listeners.get(listener);
        Settings {
            h2c: found.is_some_and(|one| one.h2c),
            header_bytes: found
                .map_or(32 << 10, |one| usize::try_from(one.limits.header_bytes.0).unwrap_or(32 << 10)),
            streams: found.map_or(100, |one| one.limits.streams),
            connections: found.map_or(0, |one| one.limits.connections),
            connections_per_ip: found.map_or(0, |one| one.limits.connections_per_ip),
        }
    }
}
