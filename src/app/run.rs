//! `switchback run`: build, bind, spawn, serve, drain.
//!
//! The composition root of one proxy, used by `run` and `demo` alike. Everything that can fail at
//! start fails before the first request is taken; it must never bind anything after that.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::certificates;
use super::worker::{self, Birth};
use crate::admin::{self, Admin, Gate, Tokens};
use crate::certs::Certificates;
use crate::cli::Exit;
use crate::control::{self, Booted, ControlHandle, Health, Meters, Options, Running, SystemClock};
use crate::ledger::{Book, Seen};
use crate::model::time::Clock;
use crate::model::{Diagnostic, Generation, WorkerId, names};
use crate::net::bind;
use crate::plan::{Plan, Plans};
use crate::spec::render::render;
use crate::telemetry::access_log::Target;
use crate::telemetry::{AccessLog, Cold};
use crate::upstream::dns;

/// Findings that mean "cannot start" rather than "refused": told in one line each, exit code 2.
const CANNOT_START: [&str; 2] = ["unreadable", "bad-address"];
/// How long workers may take beyond their grace before the process ends without them.
const LAST_CALL: Duration = Duration::from_secs(1);

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
    state_dir: PathBuf,
}

/// Starts a proxy on the present runtime.
///
/// # Errors
/// Why it cannot start, ready to be printed.
pub async fn start(path: &Path) -> Result<Proxy, Refused> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let env = control::environment();
    let booted = control::boot(path, &env, worker_count, clock.now()).map_err(|refused| {
        let control::Refused { diagnostics, sources } = *refused;
        let plain = diagnostics.iter().all(|one| CANNOT_START.contains(&one.code));
        let lines = || diagnostics.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n");
        if plain {
            Refused { text: lines(), exit: Exit::Usage }
        } else {
            Refused { text: render(&diagnostics, &sources, false), exit: Exit::Refused }
        }
    })?;
    for warning in &booted.warnings {
        tracing::warn!("{warning}");
    }
    let plan = booted.plan();
    let sockets = bind_all(&plan, booted.book.workers())?;
    let admin_bound =
        admin::bind(&plan.process.admin_address).map_err(|why| cannot(format!("admin.address: {why}")))?;
    let metrics_bound = match plan.process.metrics_address {
        Some(address) => {
            Some(admin::bind(&address.to_string()).map_err(|why| cannot(format!("metrics.address: {why}")))?)
        }
        None => None,
    };
    let base = control::load::base(path);
    let tokens = Tokens::open(&plan.process.admin, &base, &booted.state_dir).map_err(cannot)?;
    for failure in dns::resolve(&plan).await {
        tracing::warn!("name lookup failed, its endpoint has no address yet: {failure}");
    }
    Ok(Assembly { booted, clock, base }.spawn(sockets, admin_bound, metrics_bound, tokens).await)
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

/// One socket per worker for every listener, by listener.
fn bind_all(plan: &Plan, workers: usize) -> Result<Vec<Vec<TcpListener>>, Refused> {
    let bound = plan.listeners.iter().map(|listener| {
        bind::bind(listener.address, workers).map_err(|error| {
            cannot(format!("listener {} cannot bind {}: {error}", listener.name, listener.address))
        })
    });
    bound.collect()
}

/// Everything known before the first thread is started.
struct Assembly {
    booted: Booted,
    clock: Arc<dyn Clock>,
    base: PathBuf,
}

impl Assembly {
    async fn spawn(
        self,
        sockets: Vec<Vec<TcpListener>>,
        admin_bound: admin::Bound,
        metrics_bound: Option<admin::Bound>,
        tokens: Tokens,
    ) -> Proxy {
        let Self { booted, clock, base } = self;
        let (plans, published) = (booted.publisher.plans(), booted.publisher.wake());
        let (book, plan) = (Arc::clone(&booted.book), booted.plan());
        let (state_dir, certificates) = (booted.state_dir.clone(), Arc::clone(&booted.certificates));
        let cold = Arc::new(Cold::new());
        let log = Arc::new(AccessLog::new(cold.counter(&names::LOG_DROPPED, &[])));
        log.open(plan.access_log.as_ref().map(|log| Target::of(&log.path, &base)));
        let health = Arc::new(Health::default());
        let upkeep = Arc::clone(&cold);
        let options = Options {
            health: Arc::clone(&health),
            meters: Meters::new(cold.recorder()),
            clock: Arc::clone(&clock),
            upkeep: Arc::new(move || upkeep.upkeep()),
        };
        let mut running = control::start(booted, options);
        running.has_begun().await;
        let (stop, stopped) = watch::channel(false);
        let workers = spawn_workers(sockets, |id, sockets| Birth {
            id,
            sockets,
            plans: plans.clone(),
            published: published.clone(),
            book: Arc::clone(&book),
            certificates: Arc::clone(&certificates),
            sink: Arc::clone(&log) as _,
            pairs: Arc::clone(&running.pairs),
            seed: fastrand::u64(..),
            stop: stopped.clone(),
            grace: plan.process.shutdown_grace,
        });
        tokio::spawn(dns::keep_resolving(plans.clone(), published.clone()));
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
        Proxy { plans, book, running, health, log, stop, end_admin, workers, state_dir }
    }
}

fn spawn_workers(
    sockets: Vec<Vec<TcpListener>>,
    birth: impl Fn(WorkerId, Vec<(usize, TcpListener)>) -> Birth,
) -> Vec<JoinHandle<()>> {
    let count = sockets.first().map_or(0, Vec::len);
    let mut per_worker: Vec<Vec<(usize, TcpListener)>> = (0..count).map(|_| Vec::new()).collect();
    for (listener, sockets) in sockets.into_iter().enumerate() {
        for (worker, socket) in per_worker.iter_mut().zip(sockets) {
            worker.push((listener, socket));
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
        // A dropped sender ends it as well as a sent word.
        let shutdown = async { drop(ended.await) };
        if let Err(error) = admin::serve(bound, router, encrypted, shutdown).await {
            tracing::error!("the admin listener on {address} ended: {error}");
        }
    });
    end
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

    /// Drains: readiness fails, the delay passes, sockets close, exchanges finish.
    pub async fn stop(self) {
        let process = self.plan().process.clone();
        self.health.draining();
        tokio::time::sleep(process.shutdown_delay).await;
        self.stop.send_replace(true);
        let workers = self.workers;
        let joined =
            tokio::task::spawn_blocking(move || workers.into_iter().for_each(|worker| drop(worker.join())));
        if tokio::time::timeout(process.shutdown_grace + LAST_CALL, joined).await.is_err() {
            tracing::warn!("workers did not finish in their grace; what they still served is cut");
        }
        self.running.stop();
        drop(self.end_admin);
        let log = self.log;
        if tokio::task::spawn_blocking(move || log.close()).await.is_err() {
            tracing::warn!("the access log did not close");
        }
    }
}

/// Serves until told to stop; a second signal ends the process at once.
///
/// # Errors
/// The runtime could not be set up.
pub fn until_told(path: &Path) -> io::Result<Exit> {
    crate::telemetry::logging::init();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let exit = runtime.block_on(async {
        // Before anything is ready: whoever sees us ready may already tell us to stop.
        let mut told = match Told::listen() {
            Ok(told) => told,
            Err(error) => return cannot_listen(&error),
        };
        let proxy = match start(path).await {
            Ok(proxy) => proxy,
            Err(refused) => {
                eprintln!("{}", refused.text);
                return refused.exit;
            }
        };
        let plan = proxy.plan();
        for listener in plan.listeners.iter() {
            tracing::info!("listener {} on {}", listener.name, listener.address);
        }
        for route in plan.routes.iter().filter(|route| route.operator.is_some()) {
            let weights: Vec<String> =
                route.arms.iter().map(|arm| format!("{}={}", arm.name, arm.weight)).collect();
            tracing::warn!("operator weights are in force on route {}: {}", route.name, weights.join(" "));
        }
        let (config, state) = (path.display(), proxy.state_dir.display());
        tracing::info!(
            "admin on {}, configuration {config}, state {state}, generation {}, ready",
            plan.process.admin_address,
            plan.generation
        );
        drop(plan);
        told.stop().await;
        tracing::info!("draining");
        tokio::select! {
            () = proxy.stop() => tracing::info!("drained"),
            () = told.stop() => tracing::warn!("told twice: ending at once"),
        }
        Exit::Ok
    });
    runtime.shutdown_background();
    Ok(exit)
}

fn cannot_listen(error: &io::Error) -> Exit {
    eprintln!("signals cannot be received: {error}");
    Exit::Usage
}

/// SIGTERM and SIGINT, received from its creation on.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Takes as many descriptors as the system allows: every connection needs one.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!("the limit on open files cannot be raised: {error}");
    }
}
