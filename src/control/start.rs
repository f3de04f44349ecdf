//! Starts the control plane: controller, watcher, hang-ups, ticker.
//!
//! Every task of the control plane begins here and nowhere else. It must never be needed by a request.

use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::boot::Booted;
use super::command::{ControlHandle, QUEUE};
use super::controller::Controller;
use super::health::Health;
use super::meters::Meters;
use super::past::Past;
use super::{differences, ticker, watch as watcher};
use crate::ledger::Recent;
use crate::model::PairSink;
use crate::model::time::Clock;

/// What the controller needs beyond what booting gave.
pub struct Options {
    /// Shared readiness.
    pub health: Arc<Health>,
    /// The control plane's numbers.
    pub meters: Meters,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
    /// Called once a second on a thread that may wait.
    pub upkeep: Arc<dyn Fn() + Send + Sync>,
    /// Told when a reload by SIGHUP begins, and how it ended.
    pub reloading: fn(Option<bool>),
}

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options").finish_non_exhaustive()
    }
}

/// The running control plane.
pub struct Running {
    /// Asks the controller.
    pub control: ControlHandle,
    /// The last minute.
    pub recent: Arc<Mutex<Recent>>,
    /// Takes mirrored exchanges, to be compared.
    pub pairs: Arc<dyn PairSink>,
    /// Controller, watcher, SIGHUP, ticker.
    pub tasks: Vec<JoinHandle<()>>,
    begun: Option<oneshot::Receiver<()>>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

impl Running {
    /// Waits until rollouts are what the file and the state say: before, their weights are only what
    /// was written down.
    pub async fn has_begun(&mut self) {
        if let Some(begun) = self.begun.take() {
            // A controller that is gone has nothing to wait for.
            let _ = begun.await;
        }
    }

    /// Ends every task; plans in force stay.
    pub fn stop(&self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Starts controller, watcher and ticker on the present runtime.
#[must_use]
pub fn start(booted: Booted, options: Options) -> Running {
    let lookup = differences::in_force(booted.publisher.plans());
    start_comparing(booted, options, lookup)
}

/// The same with mirrors that `lookup` finds.
pub(super) fn start_comparing(booted: Booted, options: Options, lookup: differences::Lookup) -> Running {
    let recent = Arc::new(Mutex::new(Recent::default()));
    let (sender, commands) = mpsc::channel(QUEUE);
    let (begun, has_begun) = oneshot::channel();
    let book = Arc::clone(&booted.book);
    let (plans, past) = (booted.publisher.plans(), Past::default());
    let clock = Arc::clone(&options.clock);
    let upkeep = Arc::clone(&options.upkeep);
    let reloading = options.reloading;
    let (differences, pairs) = differences::start(lookup);
    let mut controller = Controller::new(booted, options);
    controller.rollouts.differences = differences.clone();
    let kept = (past.clone(), controller.acts.clone());
    let control = ControlHandle::new(sender, controller.report(), controller.conducted(), differences, kept);
    let seen = controller.seen();
    let tasks = vec![
        tokio::spawn(controller.run(commands, begun)),
        tokio::spawn(watcher::run(control.clone(), seen)),
        tokio::spawn(watcher::hangups(control.clone(), reloading)),
        tokio::spawn(ticker::run(book, Arc::clone(&recent), (plans, past), clock, upkeep)),
    ];
    Running { control, recent, pairs, tasks, begun: Some(has_begun) }
}
