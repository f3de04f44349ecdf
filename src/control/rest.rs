//! Resting: everything is written down and nothing decided, while another process takes over.
//!
//! The plan in force serves on. Whoever asked wakes the controller again by letting go of what it got.
//! It must never rest with something undecided or unwritten.

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use super::ahead::WRITE_DEADLINE;
use super::controller::Controller;
use super::refusal::{Refusal, RefusalKind};
use super::store::Store;
use super::writer::Done;

/// Somebody wants to take over.
#[derive(Debug)]
pub struct Rest {
    /// Where the answer goes.
    pub(super) reply: oneshot::Sender<Result<Resting, Refusal>>,
}

/// As long as it is kept, nothing is decided and nothing written.
#[derive(Debug)]
pub struct Resting {
    _awake: oneshot::Sender<()>,
}

impl Resting {
    /// The other process decides from now on: this one never does again, however it ends.
    pub fn for_good(self) {
        std::mem::forget(self);
    }
}

impl Controller {
    /// Writes everything down, says so, and rests.
    pub(super) async fn rest(&mut self, asked: Rest, done: &mut watch::Receiver<Done>) {
        self.settle(done).await;
        let (store, second) = (Store::at(&self.state_dir), self.clock.now().0 / 1_000);
        let counted = self.rollouts.objectives.write_down(&store, second);
        let late = tokio::time::timeout(WRITE_DEADLINE, counted).await.is_err();
        self.submit(Vec::new(), Vec::new(), Vec::new());
        self.settle(done).await;
        if late || !self.rollouts.store {
            let why = format!("the state cannot be written: {}", self.report.load().state);
            let refusal = Refusal::new(RefusalKind::Conflict, "state-not-writable", why);
            let _ = asked.reply.send(Err(refusal.hint("repair the state folder, or restart instead")));
            return;
        }
        let (awake, wake) = oneshot::channel();
        if asked.reply.send(Ok(Resting { _awake: awake })).is_ok() {
            tracing::info!("the state is written down; nothing is decided until somebody else does");
            // Nothing is ever sent: the other end is dropped.
            let _ = wake.await;
            tracing::info!("deciding again");
        }
    }

    /// Waits until nothing waits for the disk, or has waited too long.
    async fn settle(&mut self, done: &mut watch::Receiver<Done>) {
        while let Some(due) = self.due() {
            tokio::select! {
                _ = done.changed() => self.written_by(done).await,
                () = sleep_until(due.max(Instant::now())) => self.overdue(),
            }
        }
    }
}
