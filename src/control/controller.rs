//! The loop: one command at a time, from what was asked to what is in force and remembered.
//!
//! A configuration that does not compile leaves the plan in force, and verbs go on working on the
//! last good one. It must never hold up the data plane, and never publish half a change.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::acts::Acts;
use super::ahead::Waiting;
use super::boot::{Booted, needs_restart};
use super::command::{By, Command, Expected, ReloadDone};
use super::flips::Flips;
use super::health::Health;
use super::load::{self, Failed, Loaded, Look, Seen};
use super::meters::Meters;
use super::order::{self, Direction};
use super::outbox::{ANSWERS, Delivered, Outbox};
use super::publisher::Publisher;
use super::refusal::{Refusal, RefusalKind, mismatch, refused};
use super::report::{Attempt, Report};
use super::rollouts::report::{Conducted, Decisions};
use super::rollouts::{Rollouts, recall};
use super::start::Options;
use super::writer::{Journals, Lines, Which, Writer};
use crate::ledger::Book;
use crate::model::time::{Clock, UnixMillis};
use crate::model::{Diagnostic, Overlay};
use crate::plan::diff::{Change, diff};
use crate::plan::{Compiled, Inputs, Plan, Process, compile};

/// How long a file that looks half written is given to become whole.
const TORN: Duration = Duration::from_millis(100);
/// Time between two looks at old plans.
const RECLAIM: Duration = Duration::from_secs(1);
/// Findings logged of one refused configuration.
const MAX_LOGGED: usize = 50;
/// Findings kept in the report and in answers.
const MAX_KEPT: usize = 1_000;

/// The one task that changes plans.
pub(super) struct Controller {
    pub(super) path: PathBuf,
    pub(super) book: Arc<Book>,
    pub(super) publisher: Publisher,
    pub(super) loaded: Arc<Loaded>,
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
    warnings: Vec<Diagnostic>,
    changes: Vec<Change>,
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
        let seen = Arc::new(booted.loaded.seen.clone());
        let report = first_report(&booted, clock.now());
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
            publisher: booted.publisher,
            loaded: booted.loaded,
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
            Command::SetWeights { route, weights, by, expected, reply } => {
                self.set_weights(&route, weights, by, expected, reply).await;
            }
            Command::Drain { ask, reply } => self.drain(ask, reply).await,
            Command::Flip { ask, reply } => self.flip(ask, reply).await,
            Command::Rollout { ask, reply } => self.rollout(ask, reply).await,
        }
    }

    // --- reload ---

    async fn reload(
        &mut self,
        dry_run: bool,
        maybe: bool,
        by: By,
        expected: Expected,
    ) -> Result<ReloadDone, Refusal> {
        let generation = self.publisher.current().generation;
        let direction = if dry_run { Direction::TowardStable } else { Direction::TowardCanary };
        order::check(direction, expected, generation).map_err(|found| mismatch(found, generation))?;
        let last_try = self.retry_at.is_some_and(|at| at <= Instant::now());
        let (path, env) = (self.path.clone(), Arc::clone(&self.loaded.env));
        let last = maybe.then(|| Arc::clone(&self.seen.borrow()));
        let look = blocking(move || load::look(&path, &env, last.as_deref(), SystemTime::now())).await?;
        match look {
            Look::Same => {
                self.retry_at = None;
                Ok(ReloadDone { generation, ..ReloadDone::default() })
            }
            Look::Failed(failed) if maybe && failed.maybe_torn && !last_try => {
                self.retry_at.get_or_insert_with(|| Instant::now() + TORN);
                Err(refused(generation, Vec::new()))
            }
            Look::Failed(failed) => {
                let Failed { diagnostics, seen, .. } = *failed;
                if !dry_run {
                    self.retry_at = None;
                    self.refuse(seen, &by, &diagnostics);
                }
                Err(refused(generation, diagnostics))
            }
            Look::Loaded(loaded) => self.load(dry_run, Arc::new(*loaded), by).await,
        }
    }

    /// Puts a configuration in force that could be read.
    async fn load(&mut self, dry_run: bool, loaded: Arc<Loaded>, by: By) -> Result<ReloadDone, Refusal> {
        let generation = self.publisher.current().generation;
        let unchanged = loaded.seen.hash == self.loaded.seen.hash;
        if unchanged && dry_run {
            return Ok(ReloadDone { generation, warnings: self.warnings.clone(), changes: Vec::new() });
        }
        if unchanged {
            tracing::info!(actor = %by.actor, %generation, "configuration read again: unchanged");
            self.accept(&loaded, &by);
            return Ok(ReloadDone { generation, warnings: self.warnings.clone(), changes: Vec::new() });
        }
        let candidate = match self.compile(Arc::clone(&loaded), self.overlay.clone()).await? {
            Ok(candidate) => candidate,
            Err(diagnostics) => {
                if !dry_run {
                    self.refuse(loaded.seen.clone(), &by, &diagnostics);
                }
                return Err(refused(generation, diagnostics));
            }
        };
        let Candidate { plan, mut warnings, changes } = candidate;
        let refusals = self.refused_by_rollouts(&plan, &loaded);
        if !refusals.is_empty() {
            if !dry_run {
                self.refuse(loaded.seen.clone(), &by, &refusals);
            }
            return Err(refused(generation, refusals));
        }
        warnings.extend(needs_restart(&self.started_with, &plan.process));
        if dry_run {
            return Ok(ReloadDone { generation, changes, warnings });
        }
        let fingerprints: BTreeMap<String, u64> =
            plan.routes.iter().map(|route| (route.name.to_string(), route.split_fingerprint)).collect();
        let ended = order::drop_stale(&mut self.overlay, |name| fingerprints.get(name).copied());
        let before = generation.0;
        let old = self.publisher.current();
        let generation = self.publish(plan);
        self.loaded = Arc::clone(&loaded);
        self.warnings.clone_from(&warnings);
        for warning in warnings.iter().take(MAX_LOGGED) {
            tracing::warn!("{warning}");
        }
        self.accept(&loaded, &by);
        let words: Vec<String> = changes
            .iter()
            .take(MAX_LOGGED)
            .map(|change| format!("{} {}", change.route, change.text))
            .collect();
        tracing::info!(generation = generation.0, actor = %by.actor, changes = changes.len(), "configuration loaded");
        self.journal("reload", "", &by, json!(before), json!(words));
        if self.slots_ended() || !ended.is_empty() {
            for route in &ended {
                self.weights_ended(route);
            }
            self.submit(Vec::new(), Vec::new(), Vec::new());
        }
        self.follow_edits(&old).await;
        self.follow_file().await;
        let generation = self.publisher.current().generation;
        Ok(ReloadDone { generation, changes, warnings })
    }

    /// Notes that a configuration was accepted, whether or not it changed anything.
    fn accept(&mut self, loaded: &Loaded, by: &By) {
        self.retry_at = None;
        self.seen.send_replace(Arc::new(loaded.seen.clone()));
        self.meters.accepted(self.clock.now());
        self.health.set("config", "ok");
        self.attempt(by, true, self.warnings.clone(), Some(files(loaded)));
    }

    /// Notes that a configuration was refused; the plan in force stays.
    fn refuse(&mut self, seen: Seen, by: &By, diagnostics: &[Diagnostic]) {
        for finding in diagnostics.iter().take(MAX_LOGGED) {
            tracing::error!("{finding}");
        }
        tracing::error!(
            findings = diagnostics.len(),
            actor = %by.actor,
            "the configuration was refused; the last good one stays in force"
        );
        // What is watched stays what it was as well, so that the old folders still wake us.
        let mut seen = seen;
        let last = Arc::clone(&self.seen.borrow());
        for (list, old) in [(&mut seen.files, &last.files), (&mut seen.folders, &last.folders)] {
            list.extend(old.iter().cloned());
            list.sort();
            list.dedup();
        }
        seen.folders.truncate(load::MAX_FOLDERS);
        self.seen.send_replace(Arc::new(seen));
        self.meters.refused();
        let text = format!("serving the last good one; {} findings refuse the file", diagnostics.len());
        self.health.set("config", text);
        let first: Vec<String> = diagnostics.iter().take(1).map(ToString::to_string).collect();
        self.journal("reload-refused", "", by, Value::Null, json!(first));
        self.attempt(by, false, diagnostics.to_vec(), None);
    }

    fn attempt(&self, by: &By, ok: bool, mut diagnostics: Vec<Diagnostic>, files: Option<Vec<String>>) {
        diagnostics.truncate(MAX_KEPT);
        let mut report = Report::clone(&self.report.load());
        report.last = Attempt { at: self.clock.now(), actor: by.actor.clone(), ok, diagnostics };
        report.files = files.unwrap_or(report.files);
        self.report.store(Arc::new(report));
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

    pub(super) fn publish(&mut self, plan: Plan) -> crate::model::Generation {
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

fn files(loaded: &Loaded) -> Vec<String> {
    loaded.spec.files.iter().map(|(source, _)| source.name.clone()).collect()
}
