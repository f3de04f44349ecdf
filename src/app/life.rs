//! The life of the process as others see it: signals, the service manager, the exit code.
//!
//! A first SIGTERM drains, a second one ends at once, SIGUSR2 has a new program take over. It must
//! never decide anything about traffic.

use std::io;
use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::run::{Proxy, start_with};
use super::sockets::Found;
use super::upgrade::Own;
use super::upgrade::new::Predecessor;
use super::upgrade::old::hand_over;
use super::{activation, notify};
use crate::cli::Exit;

/// Serves until told to stop; a second signal ends the process at once.
///
/// # Errors
/// The runtime could not be set up.
pub fn until_told(path: &Path) -> io::Result<Exit> {
    let own = Own::look();
    // Before any thread runs.
    let given = activation::sockets();
    crate::telemetry::logging::init();
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let exit = runtime.block_on(live(path, &own, given));
    runtime.shutdown_background();
    Ok(exit)
}

async fn live(path: &Path, own: &Own, given: Vec<Found>) -> Exit {
    // Before anything is ready: whoever sees us ready may already tell us to stop.
    let mut told = match Told::listen() {
        Ok(told) => told,
        Err(error) => return cannot("signals cannot be received", &error),
    };
    let proxy = match begin(path, given).await {
        Ok(proxy) => proxy,
        Err(exit) => return exit,
    };
    let mut replaced = false;
    while !replaced {
        if !told.upgrade().await {
            break;
        }
        replaced = tokio::select! {
            biased;
            () = told.stop() => break,
            replaced = upgrade(&proxy, own) => replaced,
        };
    }
    end(proxy, replaced, &mut told).await;
    Exit::Ok
}

/// Starts, in the place of another process when one is to be replaced.
async fn begin(path: &Path, given: Vec<Found>) -> Result<Proxy, Exit> {
    let found = Predecessor::find().await;
    let found = found.map_err(|error| cannot("the process to be replaced cannot be heard", &error))?;
    let (predecessor, passed) = found.map_or((None, Vec::new()), |(one, passed)| (Some(one), passed));
    let given = given.into_iter().chain(passed).collect();
    let proxy = start_with(path, given, predecessor.as_ref()).await.map_err(|refused| {
        eprintln!("{}", refused.text);
        refused.exit
    })?;
    introduce(path, &proxy);
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.ready().await
    {
        tracing::warn!("the process that was replaced is gone already: {error}");
    }
    notify::say("READY=1");
    tokio::spawn(notify::keep_alive());
    Ok(proxy)
}

/// Says what serves now.
fn introduce(path: &Path, proxy: &Proxy) {
    let plan = proxy.plan();
    for listener in plan.listeners.iter() {
        tracing::info!("listener {} on {}", listener.name, listener.address);
    }
    for route in plan.routes.iter().filter(|route| route.operator.is_some()) {
        let weights: Vec<String> =
            route.arms.iter().map(|arm| format!("{}={}", arm.name, arm.weight)).collect();
        tracing::warn!("operator weights are in force on route {}: {}", route.name, weights.join(" "));
    }
    let (config, state) = (path.display(), proxy.state_dir().display());
    tracing::info!(
        "admin on {}, configuration {config}, state {state}, generation {}, ready",
        plan.process.admin_address,
        plan.generation
    );
}

/// Has a new program take over; false when this one goes on.
async fn upgrade(proxy: &Proxy, own: &Own) -> bool {
    tracing::info!("starting a new process to take over");
    match hand_over(proxy, own).await {
        Ok(process) => {
            tracing::info!("process {process} has taken over");
            notify::say(&format!("MAINPID={process}\nREADY=1"));
            true
        }
        Err(why) => {
            tracing::error!("no upgrade, this process goes on: {why}");
            notify::say("STATUS=an upgrade failed; the old process serves");
            false
        }
    }
}

async fn end(proxy: Proxy, replaced: bool, told: &mut Told) {
    tracing::info!("draining");
    let leaving = async {
        if replaced {
            proxy.leave().await;
        } else {
            notify::say("STOPPING=1");
            proxy.stop().await;
        }
    };
    let twice = async {
        // What made it leave was no word to end: the first of these still finds it draining.
        if replaced {
            told.stop().await;
            tracing::info!("told to end; it drains for its successor already");
        }
        told.stop().await;
    };
    tokio::select! {
        () = leaving => tracing::info!("drained"),
        () = twice => tracing::warn!("told twice: ending at once"),
    }
}

fn cannot(what: &str, error: &io::Error) -> Exit {
    eprintln!("{what}: {error}");
    Exit::Usage
}

/// SIGTERM, SIGINT and SIGUSR2, received from its creation on.
struct Told {
    terminate: Signal,
    interrupt: Signal,
    upgrade: Signal,
}

impl Told {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            upgrade: signal(SignalKind::user_defined2())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for either; whether it is an upgrade.
    async fn upgrade(&mut self) -> bool {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => false,
            _ = self.interrupt.recv() => false,
            _ = self.upgrade.recv() => true,
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
