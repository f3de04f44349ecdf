//! From files that may have changed to a configuration in force, or to findings why not.
//!
//! What cannot be read, parsed or compiled leaves everything as it is and says so in the log, the
//! report, readiness and metrics. It must never put half of a configuration in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::boot::needs_restart;
use super::command::{By, Expected, ReloadDone};
use super::controller::{Candidate, Controller, MAX_KEPT, blocking, files};
use super::earlier::Entry;
use super::load::{self, Failed, Loaded, Look, Seen};
use super::order::{self, Direction};
use super::refusal::{Refusal, mismatch, refused};
use super::report::{Attempt, Report};
use crate::model::{Diagnostic, Generation, Severity};

/// How long a file that looks half written is given to become whole.
const TORN: Duration = Duration::from_millis(100);
/// Findings logged of one refused configuration.
const MAX_LOGGED: usize = 50;

impl Controller {
    pub(super) async fn reload(
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
            Look::Loaded(loaded) => self.load(dry_run, Arc::new(*loaded), by, None).await,
        }
    }

    /// Puts a configuration in force that could be read; `back_to` is the generation it is from, when
    /// it is an earlier one.
    pub(super) async fn load(
        &mut self,
        dry_run: bool,
        loaded: Arc<Loaded>,
        by: By,
        back_to: Option<Generation>,
    ) -> Result<ReloadDone, Refusal> {
        let generation = self.publisher.current().generation;
        let unchanged = loaded.seen.hash == self.loaded.seen.hash;
        if unchanged && dry_run {
            return Ok(ReloadDone { generation, warnings: self.warnings.clone(), changes: Vec::new() });
        }
        if unchanged {
            tracing::info!(actor = %by.actor, %generation, "configuration read again: unchanged");
            self.loaded = Arc::clone(&loaded);
            self.accept(&loaded, &by);
            self.write_down(generation).await;
            return Ok(ReloadDone { generation, warnings: self.warnings.clone(), changes: Vec::new() });
        }
        let candidate = match self.compile(Arc::clone(&loaded), self.overlay.clone()).await? {
            Ok(candidate) => candidate,
            Err(diagnostics) => {
                if !dry_run {
                    self.refuse(loaded.watched().clone(), &by, &diagnostics);
                }
                return Err(refused(generation, diagnostics));
            }
        };
        let Candidate { plan, mut warnings, changes } = candidate;
        let mut refusals = self.refused_by_rollouts(&plan, &loaded);
        warnings.extend(self.certify(&loaded, &mut refusals).await?);
        if !refusals.is_empty() {
            if !dry_run {
                self.refuse(loaded.watched().clone(), &by, &refusals);
            }
            return Err(refused(generation, refusals));
        }
        warnings.extend(needs_restart(&self.started_with, &plan.process));
        if dry_run {
            return Ok(ReloadDone { generation, changes, warnings });
        }
        let news = Candidate { plan, warnings, changes };
        Ok(self.in_force(loaded, news, &by, back_to).await)
    }

    /// Puts what was compiled in force, with all that follows from it.
    async fn in_force(
        &mut self,
        loaded: Arc<Loaded>,
        news: Candidate,
        by: &By,
        back_to: Option<Generation>,
    ) -> ReloadDone {
        let Candidate { plan, warnings, changes } = news;
        let fingerprints: BTreeMap<String, u64> =
            plan.routes.iter().map(|route| (route.name.to_string(), route.split_fingerprint)).collect();
        let ended = order::drop_stale(&mut self.overlay, |name| fingerprints.get(name).copied());
        let old = self.publisher.current();
        let before = old.generation.0;
        self.certificates.follow(&plan);
        let generation = self.publish(plan);
        self.loaded = Arc::clone(&loaded);
        self.warnings.clone_from(&warnings);
        for warning in warnings.iter().take(MAX_LOGGED) {
            tracing::warn!("{warning}");
        }
        self.accept(&loaded, by);
        let words: Vec<String> = changes
            .iter()
            .take(MAX_LOGGED)
            .map(|change| format!("{} {}", change.route, change.text))
            .collect();
        tracing::info!(generation = generation.0, actor = %by.actor, changes = changes.len(), "configuration loaded");
        self.journal(
            if back_to.is_some() { "config-rollback" } else { "reload" },
            "",
            by,
            json!(before),
            json!(words),
        );
        let (actor, reason) = (by.actor.clone(), by.reason.clone());
        let entry = Entry { generation, at: self.clock.now(), actor, reason, back_to, changes: words };
        self.came_into_force(entry).await;
        if self.slots_ended() || !ended.is_empty() {
            for route in &ended {
                self.weights_ended(route);
            }
            self.submit(Vec::new(), Vec::new(), Vec::new());
        }
        self.follow_edits(&old).await;
        self.follow_file().await;
        let generation = self.publisher.current().generation;
        ReloadDone { generation, changes, warnings }
    }

    /// Notes that a configuration was accepted, whether or not it changed anything.
    fn accept(&mut self, loaded: &Loaded, by: &By) {
        self.retry_at = None;
        self.seen.send_replace(Arc::new(loaded.watched().clone()));
        self.meters.accepted(self.clock.now());
        self.health.set("config", "ok");
        self.attempt(by, true, self.warnings.clone(), Some(files(loaded)));
    }

    /// Notes that a configuration was refused; the plan in force stays.
    fn refuse(&mut self, seen: Seen, by: &By, diagnostics: &[Diagnostic]) {
        for finding in diagnostics.iter().take(MAX_LOGGED) {
            match finding.severity {
                Severity::Warning => tracing::warn!("{finding}"),
                Severity::Error => tracing::error!("{finding}"),
            }
        }
        let errors = diagnostics.iter().filter(|one| one.severity == Severity::Error).count();
        tracing::error!(
            findings = errors,
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
        let text = format!("serving the last good one; {errors} findings refuse the file");
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
}
