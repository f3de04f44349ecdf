//! The loop: one command at a time, from what was asked to what is in force and remembered.
//!
//! A configuration that does not compile leaves the plan in force, and verbs go on working on the
//! last good one. It must never hold up the data plane, and never publish half a change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::acts::Acts;
use super::ahead::Waiting;
use super::boot::Booted;
use super::command::{By, Command, Expected};
use super::earlier::{Earlier, Entry};
use super::flips::Flips;
use super::health::Health;
use super::load::{self, Loaded, Seen};
use super::meters::Meters;
use super::outbox::{ANSWERS, Delivered, Outbox};
use super::publisher::Publisher;
use super::refusal::{Refusal, RefusalKind};
use super::report::{Attempt, Report};
use super::rollouts::report::{Conducted, Decisions};
use super::rollouts::{Rollouts, recall};
use super::start::Options;
use super::writer::{Journals, Lines, Which, Writer};
use crate::certs::Certificates;
use crate::ledger::Book;
use crate::model::time::{Clock, UnixMillis};
use crate::model::{Diagnostic, Generation, Overlay};
use crate::plan::diff::{Change, diff};
use crate::plan::{Compiled, Inputs, Plan, Process, compile};

/// Time between two looks at old plans.
const RECLAIM: Duration = Duration::from_secs(1);
/// Findings kept in the report and in answers.
pub(super) const MAX_KEPT: usize = 1_000;

/// The one task that changes plans.
pub(super) struct Controller {
    pub(super) path: PathBuf,
    pub(super) book: Arc<Book>,
    /// What listeners are encrypted with.
    pub(super) certificates: Arc<Certificates>,
    pub(super) publisher: Publisher,
    pub(super) loaded: Arc<Loaded>,
    /// What was in force before, and is now.
    pub(super) earlier: Earlier,
    pub(super) overlay: Overlay,
    /// Folder of the state.
    pub(super) state_dir: PathBuf,
    /// Writes into it.
    pub(super) writer: Writer,
    /// What waits for it.
    pub(super) waiting: Vec<Waiting>,
    pub(super) audit: Lines,
    /// Its end, for whoever watches.
    pub(super) acts: Acts,
    /// What rollouts decided.
    pub(super) history: Lines,
    pub(super) report: Arc<ArcSwap<Report>>,
    /// What was last looked at, whether it was accepted or not.
    pub(super) seen: watch::Sender<Arc<Seen>>,
    pub(super) health: Arc<Health>,
    pub(super) meters: Meters,
    pub(super) clock: Arc<dyn Clock>,
    /// When a file that looked half written is read again.
    pub(super) retry_at: Option<Instant>,
    /// What somebody should look at in the configuration in force.
    pub(super) warnings: Vec<Diagnostic>,
    /// Settings that took effect at the start.
    pub(super) started_with: Process,
    /// What is still to be said to the outside.
    pub(super) outbox: Outbox,
    /// What became of it; taken by the loop.
    answers: Option<mpsc::Receiver<Delivered>>,
    /// Bad outcomes of canaries when rollouts were last written.
    pub(super) bad_written: u64,
    /// Rollouts under way.
    pub(super) rollouts: Rollouts,
    /// Slots.
    pub(super) flips: Flips,
    /// Routes and the arms that rollouts put back, and since when, in Unix milliseconds.
    pub(super) reverted: BTreeMap<(String, String), u64>,
    /// How they are, for whoever shows it.
    pub(super) conducted: Arc<ArcSwap<Conducted>>,
    /// What was decided, as it shall be told.
    pub(super) decisions: Decisions,
    /// What was wrong with the rollouts that were remembered, until it was told.
    pub(super) lost: Option<String>,
    /// When the process began.
    pub(super) began: Instant,
    /// What refused the file may be over: it is to be looked at again.
    pub(super) look_again: bool,
}

/// A compilation and what it changes.
pub(super) struct Candidate {
    pub(super) plan: Plan,
    pub(super) warnings: Vec<Diagnostic>,
    pub(super) changes: Vec<Change>,
}

impl Controller {
    /// What was last looked at, now and from now on.
    pub(super) fn seen(&self) -> watch::Receiver<Arc<Seen>> {
        self.seen.subscribe()
    }

    /// Where it tells how things are.
    pub(super) fn report(&self) -> Arc<ArcSwap<Report>> {
        Arc::clone(&self.report)
    }

    pub(super) fn new(booted: Booted, options: Options) -> Self {
        let Options { health, meters, clock, .. } = options;
        let plan = booted.publisher.current();
        let (generation, started_with) = (plan.generation, plan.process.clone());
        let seen = Arc::new(booted.loaded.watched().clone());
        let report = first_report(&booted, clock.now());
        let earlier =
            Earlier::new(report.earlier.first().cloned().unwrap_or_default(), Arc::clone(&booted.loaded));
        meters.accepted(clock.now());
        meters.published(generation);
        health.set("config", "ok");
        health.set("state", booted.state.detail.clone());
        if let Some(why) = &booted.journal {
            health.set("journal", why);
        }
        let (kept, lost) = (booted.kept, booted.lost);
        let (told, answers) = mpsc::channel(ANSWERS);
        let folder = if booted.path.is_dir() { booted.path.clone() } else { load::parent(&booted.path) };
        let outbox = Outbox::new(kept.outbox.clone(), told, folder);
        let flips = Flips::recalled(kept.flips.clone());
        let mut rollouts = recall(kept, &plan, clock.now());
        rollouts.unseen = booted.state.marks;
        let mut decisions = Decisions::default();
        for line in booted.history {
            decisions.add(&line.route, line.record);
        }
        let conducted = Conducted { rollouts: rollouts.report(), ..decisions.told() };
        let journals = Journals { unread: booted.journal, ..Journals::of(Some(&booted.state_dir)) };
        let writer = Writer::start(booted.disk, booted.state.put_back, journals);
        let mut controller = Self {
            path: booted.path,
            book: booted.book,
            certificates: booted.certificates,
            publisher: booted.publisher,
            loaded: booted.loaded,
            earlier,
            overlay: booted.overlay,
            state_dir: booted.state_dir,
            audit: writer.lines(Which::Audit),
            acts: Acts::default(),
            history: writer.lines(Which::History),
            writer,
            waiting: Vec::new(),
            report: Arc::new(ArcSwap::from_pointee(report)),
            seen: watch::channel(seen).0,
            health,
            meters,
            clock,
            retry_at: None,
            warnings: booted.warnings,
            started_with,
            rollouts,
            flips,
            reverted: BTreeMap::new(),
            bad_written: 0,
            outbox,
            answers: Some(answers),
            conducted: Arc::new(ArcSwap::from_pointee(conducted)),
            decisions,
            lost,
            began: Instant::now(),
            look_again: false,
        };
        controller.journal("start", "", &By::actor("start"), Value::Null, Value::Null);
        for route in &booted.ended {
            controller.weights_ended(route);
        }
        controller
    }

    /// Where it tells how rollouts are.
    pub(super) fn conducted(&self) -> Arc<ArcSwap<Conducted>> {
        Arc::clone(&self.conducted)
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, begun: oneshot::Sender<()>) {
        let Some(mut answers) = self.answers.take() else { return };
        let mut done = self.writer.done();
        let Some(mut smoked) = self.flips.answers() else { return };
        self.begin_flips().await;
        self.begin_rollouts().await;
        while let Some(due) = self.due() {
            tokio::select! {
                _ = done.changed() => self.written_by(&mut done).await,
                () = sleep_until(due) => self.overdue(),
            }
        }
        // Nobody may wait for it.
        let _ = begun.send(());
        let mut second = Instant::now() + self.to_next_second();
        let mut reclaim = interval(RECLAIM);
        reclaim.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if std::mem::take(&mut self.look_again) && !self.report.load().last.ok {
                // What was refused is in the report, the log and the metrics.
                let _ = self.reload(false, false, By::actor("rollout"), Expected::Any).await;
            }
            let (retry_at, due) = (self.retry_at, self.due());
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Rest(asked)) => self.rest(asked, &mut done).await,
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                () = sleep_until(retry_at.unwrap_or_else(Instant::now)), if retry_at.is_some() => {
                    // What was refused is in the report, the log and the metrics.
                    let _ = self.reload(false, true, By::actor("file"), Expected::Any).await;
                }
                Some(delivered) = answers.recv() => self.heard(delivered).await,
                Some(smoked) = smoked.recv() => self.smoked(smoked).await,
                Ok(()) = done.changed() => self.written_by(&mut done).await,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.overdue(),
                () = sleep_until(second) => {
                    self.second().await;
                    second = Instant::now() + self.to_next_second();
                }
                _ = reclaim.tick() => {
                    let old = self.publisher.reclaim();
                    if !old.is_empty() {
                        drop(spawn_blocking(move || drop(old)));
                    }
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Reload { dry_run, maybe, by, expected, reply } => {
                // An asker that went away loses only the answer.
                let _ = reply.send(self.reload(dry_run, maybe, by, expected).await);
            }
            Command::RollBack { generation, by, expected, reply } => {
                let _ = reply.send(self.roll_back(generation, by, expected).await);
            }
            Command::SetWeights { route, weights, by, expected, reply } => {
                self.set_weights(&route, weights, by, expected, reply).await;
            }
            Command::Drain { ask, reply } => self.drain(ask, reply).await,
            Command::Flip { ask, reply } => self.flip(ask, reply).await,
            Command::Breaker { ask, reply } => {
                // An asker that went away loses only the answer.
                let _ = reply.send(self.turn_breaker(&ask));
            }
            Command::BreakerTurned { upstream, turn } => self.breaker_turned(&upstream, turn),
            Command::Rollout { ask, reply } => self.rollout(ask, reply).await,
            // Only between two steps of the loop.
            Command::Rest(asked) => drop(asked),
        }
    }

    // --- shared steps ---

    /// Compiles off the runtime. The outer error is a controller that is going away.
    pub(super) async fn compile(
        &self,
        loaded: Arc<Loaded>,
        overlay: Overlay,
    ) -> Result<Result<Candidate, Vec<Diagnostic>>, Refusal> {
        let (book, previous) = (Arc::clone(&self.book), self.publisher.current());
        let now = self.clock.now().seconds();
        let overlay = Overlay { guided: self.rollouts.guided(), ..overlay };
        blocking(move || {
            let Compiled { plan, warnings } = compile(Inputs {
                spec: &loaded.spec,
                lists: &loaded.lists,
                env: &loaded.env,
                overlay: &overlay,
                book: &book,
                previous: Some(&previous),
                now,
            })
            .map_err(|found| found.into_iter().take(MAX_KEPT).collect::<Vec<_>>())?;
            let changes = diff(&previous, &plan);
            let warnings = loaded.warnings.iter().cloned().chain(warnings).take(MAX_KEPT).collect();
            Ok(Candidate { plan, warnings, changes })
        })
        .await
    }

    pub(super) fn publish(&mut self, plan: Plan) -> Generation {
        let generation = plan.generation;
        self.publisher.publish(plan);
        self.meters.published(generation);
        self.rollouts.published(&self.publisher.current());
        generation
    }
}

/// What is told before anything was asked.
fn first_report(booted: &Booted, now: UnixMillis) -> Report {
    let (actor, diagnostics) = ("start".to_owned(), booted.warnings.clone());
    Report {
        path: booted.path.display().to_string(),
        files: files(&booted.loaded),
        last: Attempt { at: now, actor, ok: true, diagnostics },
        earlier: [Entry {
            generation: booted.plan().generation,
            at: now,
            actor: "start".to_owned(),
            ..Entry::default()
        }]
        .into(),
        state_dir: booted.state_dir.display().to_string(),
        state: booted.state.detail.clone(),
    }
}

/// Work that may take long, off the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a step of the control plane failed");
        Refusal::new(RefusalKind::Stopped, "internal", "a step of the control plane failed")
    })
}

pub(super) fn files(loaded: &Loaded) -> Vec<String> {
    loaded.spec.files.iter().map(|(source, _)| source.name.clone()).collect()
}
