//! What waits for the disk: moves that must be written before they are true, answers, what is to be said.
//!
//! A disk that fails refuses them at once, one that hangs after [`WRITE_DEADLINE`] and a little more for
//! each rollout. It must never hold up the controller.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

use super::audit::Entry;
use super::batch::{Batch, Change, Reply, overtaken};
use super::command::{By, WeightsDone};
use super::controller::Controller;
use super::putback;
use super::refusal::{Refusal, RefusalKind};
use super::report::Report;
use super::rollouts::Remembered;
use super::writer::{Done, Draft};
use crate::model::RouteOverlay;
use crate::rollout::Move;

/// How long what must be on the disk first waits for it.
pub(super) const WRITE_DEADLINE: Duration = Duration::from_secs(2);
/// And how much longer for each rollout that is written with it: a thousand take longer to spell out
/// than to write, and a busy machine is no disk that hangs.
const PER_ROLLOUT: Duration = Duration::from_millis(2);
/// And at most.
const MOST_PATIENCE: Duration = Duration::from_secs(10);
/// What waits for a draft to be written.
pub(super) struct Waiting {
    number: u64,
    until: Instant,
    pub(super) ahead: Vec<Change>,
    parcels: Vec<(u64, String, String)>,
    answers: Vec<(Reply, WeightsDone)>,
}

impl Controller {
    /// Has everything written as it is, and what waits for it after.
    pub(super) fn submit(
        &mut self,
        ahead: Vec<Change>,
        parcels: Vec<(u64, String, String)>,
        answers: Vec<(Reply, WeightsDone)>,
    ) {
        let until = Instant::now() + self.patience();
        self.waiting.push(Waiting { number: 0, until, ahead, parcels, answers });
        let number = self.writer.keep(self.draft());
        if let Some(last) = self.waiting.last_mut() {
            last.number = number;
        }
    }

    /// How long the disk may take for everything there is.
    fn patience(&self) -> Duration {
        let rollouts = u32::try_from(self.rollouts.iter().count()).unwrap_or(u32::MAX);
        WRITE_DEADLINE.saturating_add(PER_ROLLOUT.saturating_mul(rollouts)).min(MOST_PATIENCE)
    }

    /// What is, with what shall be once it is written.
    fn draft(&self) -> Draft {
        let (mut overlay, mut kept) = (self.overlay.clone(), self.kept());
        let second = self.rollouts.second(self.moment());
        for change in self.waiting.iter().flat_map(|one| &one.ahead) {
            overlay.end_pins(&change.route, &self.pins_ended_by(change), self.clock.now().0);
            if let Some(outcome) = change.outcome() {
                let known = kept.by_route.remove(&change.route);
                let (rollout, shadow) = (outcome.next.clone(), None);
                let known = known.map_or(
                    Remembered { rollout, analyzer: None, epoch: 0, second, rate: 0.0, shadow },
                    |known| Remembered { rollout: outcome.next.clone(), second, ..known },
                );
                kept.by_route.insert(change.route.clone(), known);
            }
            if change.has(&Move::ClearManualWeights) {
                overlay.routes.remove(&change.route);
            }
            match &change.weights {
                Some(Some(entry)) => _ = overlay.routes.insert(change.route.clone(), entry.clone()),
                Some(None) => _ = overlay.routes.remove(&change.route),
                None => {}
            }
            self.draft_slots(change, &mut overlay, &mut kept);
        }
        Draft { overlay, kept, marks: putback::marks(&self.rollouts), unseen: self.rollouts.unseen.clone() }
    }

    /// Has a line of the journal written.
    pub(super) fn journal(&mut self, what: &'static str, route: &str, by: &By, before: Value, after: Value) {
        let entry = Entry {
            at: self.clock.now().0,
            actor: by.actor.clone(),
            reason: by.reason.clone(),
            what,
            route: route.to_owned(),
            before,
            after,
            generation: self.publisher.current().generation.0,
            annotations: by.annotations.clone(),
        };
        self.audit.append(&entry);
        self.acts.add(entry);
    }

    pub(super) async fn written_by(&mut self, done: &mut watch::Receiver<Done>) {
        let done = done.borrow_and_update().clone();
        self.written(done).await;
    }

    /// The writer came further.
    pub(super) async fn written(&mut self, done: Done) {
        let detail = done.state.as_ref().map_or_else(
            || "ok".to_owned(),
            |why| format!("{} cannot be written: {why}", self.state_dir.display()),
        );
        self.meters.state_failures(done.failures);
        match &done.journal {
            Some(why) => self.health.set("journal", why),
            None => self.health.unset("journal"),
        }
        if done.number == 0 {
            return;
        }
        self.rollouts.store = done.state.is_none();
        self.state_is(&detail);
        let over: Vec<Waiting> = self.waiting.extract_if(.., |one| one.number <= done.number).collect();
        let mut batch = Batch::default();
        for one in over {
            self.let_go(one.parcels, one.answers);
            for change in one.ahead {
                if done.state.is_none() {
                    self.go_ahead(change, &mut batch);
                } else {
                    self.give_up(change, &detail);
                }
            }
        }
        if !batch.now.is_empty() {
            self.carry_out_written(batch).await;
        }
    }

    /// Moves what is on the disk; it need not be written again.
    async fn carry_out_written(&mut self, batch: Batch) {
        let before = self.publisher.current();
        let failed = self.republish(&batch.moved).await.err();
        let (mut parcels, mut answers) = (Vec::new(), Vec::new());
        for change in batch.now {
            answers.extend(self.finish(&before, change, &mut parcels));
        }
        self.tell();
        for (reply, done) in answers {
            let _ = reply.send(failed.clone().map_or(Ok(done), Err));
        }
        self.let_go(parcels, Vec::new());
    }

    /// What waited for the disk is on it: it is true from now on.
    fn go_ahead(&mut self, mut change: Change, batch: &mut Batch) {
        let plan = self.publisher.current();
        let Some(route) = plan.route_named(&change.route) else {
            let gone = Refusal::new(RefusalKind::NotFound, "unknown-route", "the route is gone");
            return change.refuse(gone);
        };
        let stale = |entry: &RouteOverlay| entry.split_fingerprint != route.split_fingerprint;
        if change.weights.as_ref().is_some_and(|weights| weights.as_ref().is_some_and(stale)) {
            return change.refuse(overtaken(route));
        }
        batch.moved.extend(self.take(route, &mut change));
        batch.now.push(change);
    }

    /// What waited for the disk too long does not happen, or does not wait for it any more.
    pub(super) fn overdue(&mut self) {
        let now = Instant::now();
        let over: Vec<Waiting> = self.waiting.extract_if(.., |one| one.until <= now).collect();
        if over.is_empty() {
            return;
        }
        let why = format!(
            "{} cannot be written: the disk has not answered for {} s",
            self.state_dir.display(),
            self.patience().as_secs()
        );
        self.rollouts.store = false;
        self.state_is(&why);
        let mut given_up = false;
        for one in over {
            self.let_go(one.parcels, one.answers);
            for change in one.ahead {
                given_up = true;
                self.give_up(change, &why);
            }
        }
        if given_up {
            // What the disk may still take must not be what did not happen.
            self.writer.keep(self.draft());
        }
    }

    /// When the next of what waits for the disk has waited too long.
    pub(super) fn due(&self) -> Option<Instant> {
        self.waiting.iter().map(|one| one.until).min()
    }

    fn let_go(&mut self, parcels: Vec<(u64, String, String)>, answers: Vec<(Reply, WeightsDone)>) {
        for (number, route, hook) in parcels {
            self.send(number, &route, &hook);
        }
        self.deliver();
        for (reply, done) in answers {
            // An asker that went away loses only the answer.
            let _ = reply.send(Ok(done));
        }
    }

    fn give_up(&mut self, change: Change, why: &str) {
        for (number, _) in &change.parcels {
            self.outbox.remove(*number);
        }
        tracing::error!(route = change.route, "{why}");
        let plan = self.publisher.current();
        let refusal = Refusal::new(RefusalKind::Conflict, "state-not-writable", why)
            .hint("more weight for a canary must survive a restart; repair the state folder");
        let generation = plan.route_named(&change.route).map(|route| route.generation);
        change.refuse(Refusal { generation, ..refusal });
    }

    /// Says how the state folder is.
    pub(super) fn state_is(&self, detail: &str) {
        if self.report.load().state == detail {
            return;
        }
        if detail != "ok" {
            tracing::error!("{detail}");
        }
        self.health.set("state", detail);
        let mut report = Report::clone(&self.report.load());
        detail.clone_into(&mut report.state);
        self.report.store(Arc::new(report));
    }
}
