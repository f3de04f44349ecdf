//! What can be asked of the controller: a closed set, each with who asks and where the answer goes.
//!
//! It must never grow a variant that changes the plan without saying who and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use super::acts::Acts;
use super::differences::Differences;
use super::past::Past;
use super::refusal::Refusal;
use super::report::Report;
use super::rest::{Rest, Resting};
use super::rollouts::report::Conducted;
use crate::ledger::guard::breaker::Turn;
use crate::model::{Diagnostic, Generation};
use crate::plan::diff::Change;
use crate::rollout::Verb;
use crate::rollout::flip::Flip;

/// Commands waiting at most; askers beyond that wait.
pub const QUEUE: usize = 64;

/// Who asks, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// A person or a part of the program.
    pub actor: String,
    /// Free text.
    pub reason: String,
    /// Notes for the journal.
    pub annotations: BTreeMap<String, String>,
}

impl By {
    /// A part of the program, without more words.
    #[must_use]
    pub fn actor(actor: &str) -> Self {
        Self { actor: actor.to_owned(), ..Self::default() }
    }
}

/// What the caller says it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// It did not say.
    Nothing,
    /// It does not care.
    Any,
    /// This generation.
    Exactly(Generation),
}

/// One change asked for.
#[derive(Debug)]
pub enum Command {
    /// Read the configuration again.
    Reload {
        /// Only say what would happen.
        dry_run: bool,
        /// Whether this is only a suspicion that the files changed.
        maybe: bool,
        /// Who and why.
        by: By,
        /// What the caller saw: a configuration generation.
        expected: Expected,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<ReloadDone, Refusal>>,
    },
    /// Serve what was in force at an earlier generation until the files change.
    RollBack {
        /// The generation.
        generation: Generation,
        /// Who and why.
        by: By,
        /// What the caller saw: a configuration generation.
        expected: Expected,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<ReloadDone, Refusal>>,
    },
    /// Set all weights of a route, or return to the file's.
    SetWeights {
        /// The route.
        route: String,
        /// Weight by arm, arms not named get 0; `None` returns to the file.
        weights: Option<BTreeMap<String, u32>>,
        /// Who and why.
        by: By,
        /// What the caller saw: a route generation.
        expected: Expected,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<WeightsDone, Refusal>>,
    },
    /// Give an arm no new users while those pinned to it stay.
    Drain {
        /// What is asked.
        ask: DrainAsk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<WeightsDone, Refusal>>,
    },
    /// Exchange the slots of a route.
    Flip {
        /// What is asked.
        ask: FlipAsk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<WeightsDone, Refusal>>,
    },
    /// Turn the breaker of an upstream.
    Breaker {
        /// What is asked.
        ask: BreakerAsk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<BreakerDone, Refusal>>,
    },
    /// A breaker turned by itself: the journal has it.
    BreakerTurned {
        /// Name of its upstream.
        upstream: Arc<str>,
        /// How.
        turn: Turn,
    },
    /// Write everything down and decide nothing more: another process is to take over.
    Rest(Rest),
    /// Move a rollout.
    Rollout {
        /// What is asked.
        ask: RolloutAsk,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<WeightsDone, Refusal>>,
    },
}

/// Which arm is to be drained.
#[derive(Debug)]
pub struct DrainAsk {
    /// The route.
    pub route: String,
    /// The arm.
    pub arm: String,
    /// Who and why.
    pub by: By,
    /// What the caller saw: a route generation.
    pub expected: Expected,
}

/// What is asked of a breaker.
#[derive(Debug)]
pub struct BreakerAsk {
    /// Name of its upstream.
    pub upstream: String,
    /// Held open, or closed.
    pub open: bool,
    /// Who and why.
    pub by: By,
    /// What the caller saw: a configuration generation.
    pub expected: Expected,
}

/// A breaker is as it was asked to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerDone {
    /// Generation of the configuration.
    pub generation: Generation,
    /// How it was.
    pub before: &'static str,
    /// How it is.
    pub after: &'static str,
}

/// What is asked of two slots.
#[derive(Debug)]
pub struct FlipAsk {
    /// The route.
    pub route: String,
    /// To the slot that served before.
    pub back: bool,
    /// Whether or not anybody answers there.
    pub force: bool,
    /// Who and why.
    pub by: By,
    /// What the caller saw: a route generation.
    pub expected: Expected,
}

/// What is asked of a rollout.
#[derive(Debug)]
pub struct RolloutAsk {
    /// The route.
    pub route: String,
    /// For what.
    pub verb: Verb,
    /// The version the caller means, when said.
    pub version: Option<String>,
    /// Despite what speaks against it.
    pub force: bool,
    /// Who and why.
    pub by: By,
    /// What the caller saw: a route generation.
    pub expected: Expected,
}

/// A reload went well.
#[derive(Clone, Debug, Default)]
pub struct ReloadDone {
    /// Generation in force.
    pub generation: Generation,
    /// What changed, or would.
    pub changes: Vec<Change>,
    /// What somebody should look at.
    pub warnings: Vec<Diagnostic>,
}

/// Weights were set.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WeightsDone {
    /// Generation of the route.
    pub generation: Generation,
    /// Weights that changed.
    pub changed: Vec<Changed>,
    /// The slots as it left them, of a flip.
    pub flip: Option<Flip>,
}

/// One weight that changed.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Changed {
    /// Arm name.
    pub arm: String,
    /// Weight before.
    pub before: u32,
    /// Weight now.
    pub after: u32,
}

/// Asks the controller; cheap to clone.
#[derive(Clone, Debug)]
pub struct ControlHandle {
    sender: mpsc::Sender<Command>,
    report: Arc<ArcSwap<Report>>,
    conducted: Arc<ArcSwap<Conducted>>,
    differences: Differences,
    past: Past,
    acts: Acts,
}

impl ControlHandle {
    pub(super) fn new(
        sender: mpsc::Sender<Command>,
        report: Arc<ArcSwap<Report>>,
        conducted: Arc<ArcSwap<Conducted>>,
        differences: Differences,
        (past, acts): (Past, Acts),
    ) -> Self {
        Self { sender, report, conducted, differences, past, acts }
    }

    /// The last fifteen minutes of every arm.
    #[must_use]
    pub fn past(&self) -> &Past {
        &self.past
    }

    /// What was done lately.
    #[must_use]
    pub fn acts(&self) -> &Acts {
        &self.acts
    }

    /// What mirrored requests showed.
    #[must_use]
    pub fn differences(&self) -> &Differences {
        &self.differences
    }

    /// How the configuration and the state are.
    #[must_use]
    pub fn report(&self) -> Arc<Report> {
        self.report.load_full()
    }

    /// Reads the configuration again and puts it in force, or only says what would happen.
    ///
    /// # Errors
    /// Every finding when it is refused.
    pub async fn reload(&self, dry_run: bool, by: By, expected: Expected) -> Result<ReloadDone, Refusal> {
        let ask = |reply| Command::Reload { dry_run, maybe: false, by, expected, reply };
        self.ask(ask).await
    }

    /// Serves what was in force at an earlier generation, until the files change.
    ///
    /// # Errors
    /// When that generation is not known any more, the caller saw something older, or every finding
    /// when it is refused now.
    pub async fn roll_back(
        &self,
        generation: Generation,
        by: By,
        expected: Expected,
    ) -> Result<ReloadDone, Refusal> {
        self.ask(|reply| Command::RollBack { generation, by, expected, reply }).await
    }

    /// The files may have changed: reads them, and loads them when they did.
    pub async fn files_may_have_changed(&self) {
        let by = By::actor("file");
        let ask = |reply| Command::Reload { dry_run: false, maybe: true, by, expected: Expected::Any, reply };
        // What was refused is in the report, the log and the metrics.
        let _ = self.ask(ask).await;
    }

    /// Sets all weights of a route, arms not named get 0; `None` returns to the file's.
    ///
    /// # Errors
    /// When the route or an arm does not exist, the caller saw something older, or a move toward
    /// canary cannot be remembered.
    pub async fn set_weights(
        &self,
        route: String,
        weights: Option<BTreeMap<String, u32>>,
        by: By,
        expected: Expected,
    ) -> Result<WeightsDone, Refusal> {
        self.ask(|reply| Command::SetWeights { route, weights, by, expected, reply }).await
    }

    /// Takes an arm's weight and leaves it the clients that are pinned to it.
    ///
    /// # Errors
    /// When the route or the arm does not exist, no other arm has weight, the caller saw something
    /// older, or a move toward canary cannot be remembered.
    pub async fn drain(&self, ask: DrainAsk) -> Result<WeightsDone, Refusal> {
        self.ask(|reply| Command::Drain { ask, reply }).await
    }

    /// Exchanges the slots of a route; the answer comes when every new request goes to the other one.
    ///
    /// # Errors
    /// When the route has no slots, the caller saw something older, it is not possible now, or the
    /// slot is not fit to serve.
    pub async fn flip(&self, ask: FlipAsk) -> Result<WeightsDone, Refusal> {
        self.ask(|reply| Command::Flip { ask, reply }).await
    }

    /// Turns the breaker of an upstream; the answer comes when it is in force.
    ///
    /// # Errors
    /// When there is no such upstream, it has no breaker, or the caller saw something older.
    pub async fn breaker(&self, ask: BreakerAsk) -> Result<BreakerDone, Refusal> {
        self.ask(|reply| Command::Breaker { ask, reply }).await
    }

    /// Notes that a breaker turned by itself.
    pub async fn breaker_turned(&self, upstream: Arc<str>, turn: Turn) {
        // A controller that is gone has no journal.
        let _ = self.sender.send(Command::BreakerTurned { upstream, turn }).await;
    }

    /// Moves a rollout.
    ///
    /// # Errors
    /// When the route has none, the caller saw something older, or it is not possible now.
    pub async fn rollout(&self, ask: RolloutAsk) -> Result<WeightsDone, Refusal> {
        self.ask(|reply| Command::Rollout { ask, reply }).await
    }

    /// How every rollout is, and what was decided lately.
    #[must_use]
    pub fn rollouts(&self) -> Arc<Conducted> {
        self.conducted.load_full()
    }

    /// Has everything written down and nothing decided as long as the answer is kept. What is asked
    /// meanwhile waits.
    ///
    /// # Errors
    /// When the state cannot be written; decisions go on.
    pub async fn rest(&self) -> Result<Resting, Refusal> {
        self.ask(|reply| Command::Rest(Rest { reply })).await
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Command,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.sender.send(command(reply)).await.map_err(|_| Refusal::stopped())?;
        answer.await.unwrap_or_else(|_| Err(Refusal::stopped()))
    }
}
