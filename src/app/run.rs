//! `switchback run`: build, bind, spawn, serve, drain.
//!
//! The composition root of one proxy, used by `run` and `demo` alike. Everything that can fail at
//! start fails before the first request is taken; it must never bind anything after that.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};

use super::certificates;
use super::notify;
use super::owner::Owner;
use super::sinks::Sinks;
use super::sockets::{Found, Label, Passing, Sockets, Taken};
use super::upgrade::new::Predecessor;
use super::worker::{self, Birth};
use crate::admin::{self, Admin, Gate, Tokens};
use crate::certs::Certificates;
use crate::cli::Exit;
use crate::control::{self, Booted, ControlHandle, Health, Meters, Options, Running, SystemClock};
use crate::ledger::{Book, Seen};
use crate::model::time::Clock;
use crate::model::{Diagnostic, Generation, WorkerId, names};
use crate::plan::{Plan, Plans};
use crate::spec::render::render;
use crate::telemetry::access_log::Target;
use crate::telemetry::{AccessLog, Cold, Spans};
use crate::upstream::resolver::{NAMESERVER, Resolver};
use crate::upstream::watching::Turned;
use crate::upstream::{dns, watching};

/// Findings that mean "cannot start" rather than "refused": told in one line each, exit code 2.
const CANNOT_START: [&str; 2] = ["unreadable", "bad-address"];
/// Breakers that turned and are not yet in the journal, at most.
const TURNS: usize = 64;
/// How long a start waits for names.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// How long workers may take beyond their grace before the process ends without them.
const LAST_CALL: Duration = Duration::from_secs(1);

/// How long the last spans may take.
const LAST_SPANS: Duration = Duration::from_millis(500);
/// Time for who already began to connect when the listeners close: a round trip.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);

/// A start that did not happen.
#[derive(Debug)]
pub struct Refused {
    /// For the operator.
    pub text: String,
    /// How the process ends.
    pub exit: Exit,
}

/// A running proxy.
pub struct Proxy {
    plans: Plans,
    book: Arc<Book>,
    running: Running,
    health: Arc<Health>,
    log: Arc<AccessLog>,
    stop: watch::Sender<bool>,
    end_admin: Vec<oneshot::Sender<()>>,
    workers: Vec<JoinHandle<()>>,
    owner: Owner,
    passing: Passing,
    /// Where records and spans go.
    sinks: Arc<Sinks>,
}

/// Starts a proxy on the present runtime.
///
/// # Errors
/// Why it cannot start, ready to be printed.
pub async fn start(path: &Path) -> Result<Proxy, Refused> {
    start_with(path, Vec::new(), None).await
}

/// The same with sockets that were given, in the place of a process that still serves.
///
/// # Errors
/// Why it cannot start, ready to be printed.
pub async fn start_with(
    path: &Path,
    found: Vec<Found>,
    predecessor: Option<&Predecessor>,
) -> Result<Proxy, Refused> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let env = control::environment();
    let mut sockets = Sockets::of(found);
    if let Some(predecessor) = predecessor {
        // Whatever can fail fails while the other one still decides; its state is not touched.
        let (plan, workers) =
            control::rehearse(path, &env, worker_count, clock.now()).map_err(|why| told(*why))?;
        sockets.hold(&plan, workers).map_err(cannot)?;
        let lost = |error| cannot(format!("the process to be replaced does not let go: {error}"));
        predecessor.able().await.map_err(lost)?;
    }
    let booted = control::boot(path, &env, worker_count, clock.now()).map_err(|why| told(*why))?;
    for warning in &booted.warnings {
        tracing::warn!("{warning}");
    }
    let plan = booted.plan();
    sockets.hold(&plan, booted.book.workers()).map_err(cannot)?;
    let owner = match predecessor {
        Some(_) => Owner::after_another(&booted.state_dir),
        None => Owner::of(&booted.state_dir).map_err(cannot)?,
    };
    let sockets = sockets.take(&plan).map_err(|error| cannot(error.to_string()))?;
    let base = control::load::base(path);
    let tokens = Tokens::open(&plan.process.admin, &base, &booted.state_dir).map_err(cannot)?;
    let mut names = dns::Names::new(Resolver::new(nameserver(&env)?));
    // A name server that keeps silent must not keep everybody else waiting.
    let looked = tokio::time::timeout(FIRST_LOOK, names.resolve(&plan)).await;
    for failure in looked.unwrap_or_else(|_| vec!["some names are still being looked up".to_owned()]) {
        tracing::warn!("name lookup failed, its endpoint has no address yet: {failure}");
    }
    Ok(Assembly { booted, clock, base, names, owner }.spawn(sockets, tokens).await)
}

fn told(refused: control::Refused) -> Refused {
    let control::Refused { diagnostics, sources } = refused;
    let plain = diagnostics.iter().all(|one| CANNOT_START.contains(&one.code));
    let lines = || diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n");
    if plain {
        Refused { text: lines(), exit: Exit::Usage }
    } else {
        Refused { text: render(&diagnostics, &sources, false), exit: Exit::Refused }
    }
}

/// The name server that is asked instead of the system's, if one is set.
fn nameserver(env: &control::load::Env) -> Result<Option<SocketAddr>, Refused> {
    let written = env.get(NAMESERVER).map(|text| {
        text.parse().map_err(|_| cannot(format!("{NAMESERVER}: `{text}` is not an address with a port")))
    });
    written.transpose()
}

fn cannot(text: String) -> Refused {
    Refused { text, exit: Exit::Usage }
}

fn worker_count(configured: u16) -> usize {
    match configured {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => usize::from(count),
    }
}

/// Everything known before the first thread is started.
struct Assembly {
    booted: Booted,
    clock: Arc<dyn Clock>,
    base: PathBuf,
    names: dns::Names,
    owner: Owner,
}

impl Assembly {
    async fn spawn(self, sockets: Taken, tokens: Tokens) -> Proxy {
        let Taken { listeners, admin: admin_bound, metrics: metrics_bound, passing } = sockets;
        let Self { booted, clock, base, names, owner } = self;
        let (plans, published) = (booted.publisher.plans(), booted.publisher.wake());
        let (book, plan) = (Arc::clone(&booted.book), booted.plan());
        let certificates = Arc::clone(&booted.certificates);
        let cold = Arc::new(Cold::new());
        let health = Arc::new(Health::default());
        let log = Arc::new(AccessLog::new(cold.counter(&names::LOG_DROPPED, &[]), log_told(&health)));
        log.open(plan.access_log.as_ref().map(|log| Target::of(&log.path, &base)));
        let collector = plans.clone();
        let to = move || collector.load_full().otlp.as_ref().map(ToString::to_string);
        let spans = Spans::start(cold.counter(&names::SPANS_DROPPED, &[]), to);
        let sinks = Arc::new(Sinks { log: Arc::clone(&log), spans });
        let upkeep = Arc::clone(&cold);
        let options = Options {
            health: Arc::clone(&health),
            meters: Meters::new(cold.recorder()),
            clock: Arc::clone(&clock),
            upkeep: Arc::new(move || upkeep.upkeep()),
            reloading: notify::reloading,
        };
        let mut running = control::start(booted, options);
        running.has_begun().await;
        let (stop, stopped) = watch::channel(false);
        let workers = spawn_workers(listeners, book.workers(), |id, sockets| Birth {
            id,
            sockets,
            plans: plans.clone(),
            published: published.clone(),
            book: Arc::clone(&book),
            certificates: Arc::clone(&certificates),
            sink: Arc::clone(&sinks) as _,
            pairs: Arc::clone(&running.pairs),
            seed: fastrand::u64(..),
            stop: stopped.clone(),
        });
        tokio::spawn(names.keep_resolving(plans.clone(), published.clone()));
        let (turned, turns) = mpsc::channel(TURNS);
        tokio::spawn(watching::keep_watching(plans.clone(), published.clone(), turned));
        tokio::spawn(note_breakers(turns, running.control.clone()));
        tokio::spawn(follow_log(Arc::clone(&log), plans.clone(), published.clone(), base));
        tokio::spawn(reopen_log(Arc::clone(&log)));
        let (kept, well) = (Arc::clone(&certificates), Arc::clone(&health));
        tokio::spawn(certificates::run(kept, well, Arc::clone(&clock), published.clone()));
        let admin = Admin::new(admin::Parts {
            plans: plans.clone(),
            book: Arc::clone(&book),
            recent: Arc::clone(&running.recent),
            control: running.control.clone(),
            certificates: Arc::clone(&certificates),
            health: Arc::clone(&health),
            cold,
            clock,
        });
        let gate = Gate::new(admin_bound.exposure(), tokens, &plan.process.admin.allowed_hosts);
        let encrypted = plan.process.admin.pair().map(|_| certificates);
        let mut end_admin = vec![serve(admin_bound, admin.router(gate), encrypted)];
        end_admin.extend(metrics_bound.map(|bound| serve(bound, admin.metrics_router(), None)));
        health.listening();
        Proxy { plans, book, running, health, log, stop, end_admin, workers, owner, passing, sinks }
    }
}

fn spawn_workers(
    sockets: Vec<Vec<TcpListener>>,
    count: usize,
    birth: impl Fn(WorkerId, Vec<(usize, TcpListener)>) -> Birth,
) -> Vec<JoinHandle<()>> {
    let mut per_worker: Vec<Vec<(usize, TcpListener)>> = (0..count).map(|_| Vec::new()).collect();
    for (listener, sockets) in sockets.into_iter().enumerate() {
        // More sockets than workers are given by a process that had more of them.
        for (at, socket) in sockets.into_iter().enumerate() {
            if let Some(worker) = per_worker.get_mut(at % count.max(1)) {
                worker.push((listener, socket));
            }
        }
    }
    let threads = per_worker.into_iter().enumerate().filter_map(|(id, sockets)| {
        let birth = birth(WorkerId(id), sockets);
        let work = move || {
            if let Err(error) = worker::run(birth) {
                tracing::error!("worker {id} ended: {error}");
            }
        };
        let spawned = std::thread::Builder::new().name(format!("worker-{id}")).spawn(work);
        spawned.map_err(|error| tracing::error!("worker {id} cannot start: {error}")).ok()
    });
    threads.collect()
}

fn serve(
    bound: admin::Bound,
    router: axum::Router,
    encrypted: Option<Arc<Certificates>>,
) -> oneshot::Sender<()> {
    let (end, ended) = oneshot::channel::<()>();
    let address = bound.address();
    tokio::spawn(async move {
        // A dropped sender ends it; a sent word says that another process listens on.
        let shutdown = async { ended.await.is_ok() };
        if let Err(error) = admin::serve(bound, router, encrypted, shutdown).await {
            tracing::error!("the admin listener on {address} ended: {error}");
        }
    });
    end
}

/// Writes into the journal which breakers turned by themselves.
async fn note_breakers(mut turns: mpsc::Receiver<Turned>, control: ControlHandle) {
    while let Some(Turned { upstream, turn }) = turns.recv().await {
        control.breaker_turned(upstream, turn).await;
    }
}

/// Puts what is wrong with the access log among the details of readiness; traffic does not need it.
fn log_told(health: &Arc<Health>) -> impl Fn(Option<String>) + Send + Sync + use<> {
    let health = Arc::clone(health);
    move |why| match why {
        Some(why) => health.set("accessLog", why),
        None => health.unset("accessLog"),
    }
}

/// Points the access log where the plan in force says.
async fn follow_log(
    log: Arc<AccessLog>,
    plans: Plans,
    mut published: watch::Receiver<Generation>,
    base: PathBuf,
) {
    while published.changed().await.is_ok() {
        let target = plans.load_full().access_log.as_ref().map(|log| Target::of(&log.path, &base));
        let log = Arc::clone(&log);
        // Opening may wait for the writer.
        if tokio::task::spawn_blocking(move || log.open(target)).await.is_err() {
            return;
        }
    }
}

/// Opens the access log anew on SIGHUP, as log rotation expects.
async fn reopen_log(log: Arc<AccessLog>) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else {
        return;
    };
    while hangups.recv().await.is_some() {
        let log = Arc::clone(&log);
        if tokio::task::spawn_blocking(move || log.reopen()).await.is_err() {
            return;
        }
    }
}

impl Proxy {
    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.plans.load_full()
    }

    /// Asks the controller, and reads how rollouts are.
    #[must_use]
    pub fn control(&self) -> &ControlHandle {
        &self.running.control
    }

    /// What each arm of a route saw since the start.
    #[must_use]
    pub fn seen(&self, route: &str) -> BTreeMap<Arc<str>, Seen> {
        let mut arms: BTreeMap<Arc<str>, Seen> = BTreeMap::new();
        for cell in self.book.route_cells(route) {
            arms.entry(Arc::clone(&cell.arm)).or_default().add_cell(&cell);
        }
        arms
    }

    /// Where what is remembered is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        self.owner.dir()
    }

    /// Every listening socket, to be passed on.
    #[must_use]
    pub fn passing(&self) -> &[(Label, OwnedFd)] {
        self.passing.sockets()
    }

    /// Drains: readiness fails, the delay passes, sockets close, exchanges finish.
    pub async fn stop(self) {
        self.health.draining();
        tokio::time::sleep(self.plan().process.shutdown_delay).await;
        if self.passing.close_doors() {
            tokio::time::sleep(LAST_HANDSHAKES).await;
        }
        self.finish().await;
    }

    /// Drains while another process serves: it answers the operator from now on.
    pub async fn leave(mut self) {
        self.health.draining();
        self.owner.leave();
        for end in self.end_admin.drain(..) {
            // A listener that ended already has nothing to keep.
            let _ = end.send(());
        }
        self.finish().await;
    }

    async fn finish(self) {
        let grace = self.plan().process.shutdown_grace;
        // Held any longer, they would take connections that nobody accepts.
        drop(self.passing);
        self.stop.send_replace(true);
        let workers = self.workers;
        let joined =
            tokio::task::spawn_blocking(move || workers.into_iter().for_each(|worker| drop(worker.join())));
        if tokio::time::timeout(grace + LAST_CALL, joined).await.is_err() {
            tracing::warn!("workers did not finish in their grace; what they still served is cut");
        }
        self.running.stop();
        drop(self.end_admin);
        if tokio::time::timeout(LAST_SPANS, self.sinks.spans.flush()).await.is_err() {
            tracing::warn!("the collector did not take the last spans in time");
        }
        let log = self.log;
        if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
            tracing::warn!("the access log did not close");
        }
    }
}
