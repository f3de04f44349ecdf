//! What must be said to the outside, kept until somebody heard it: hooks and notices of rollouts.
//!
//! What is to be said is written in the same file as the decision it comes from, and sent after: so it
//! is heard at least once, over every restart, and its key tells repetitions apart. Hooks are called
//! side by side; a receiver of notices is told one after the other, in order. It must never hold up a
//! decision, nor let one receiver hold up another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::deliver;
use crate::analysis::policy::Hook;
use crate::plan::Receiver;
use crate::rollout::HookAnswer;
use crate::rollout::moves::Call;

/// Hooks that are kept at most; beyond that the oldest is forgotten, loudly.
const MAX_KEPT: usize = 1_000;
/// Notices that are kept of one receiver at most; beyond that the oldest is forgotten, loudly.
const MAX_NOTICES: usize = 200;
/// Answers waiting for the controller at most.
pub const ANSWERS: usize = 64;

/// One thing to say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    /// The route.
    pub route: String,
    /// The hook's name in the policy, or the receiver's identity.
    pub hook: String,
    /// Whom it is for.
    #[serde(default)]
    pub to: To,
    /// Of the call, coming back with its answer.
    pub key: u64,
    /// The rollout's run.
    #[serde(default)]
    pub run: u64,
    /// When the run began, in wall-clock milliseconds: a lost state begins to count again.
    #[serde(default)]
    pub since: u64,
    /// Whether somebody waits for the answer.
    pub answer: bool,
    /// What is said.
    pub body: Value,
}

/// Whom a parcel is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum To {
    /// A hook of the rollout.
    #[default]
    Hook,
    /// A receiver of notices.
    Receiver,
}

impl Parcel {
    /// The same for every repetition, and for nothing else.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        let Self { route, hook, run, since, key, .. } = self;
        match self.to {
            To::Hook => format!("{route}-{hook}-{since}-{run}-{key}"),
            // The receiver's identity holds its address.
            To::Receiver => format!("{route}-{since}-{run}-{key}"),
        }
    }
}

/// A parcel that was heard, or given up.
#[derive(Debug)]
pub struct Delivered {
    /// Number of the parcel.
    pub number: u64,
    /// The route.
    pub route: String,
    /// The answer, when somebody waits for it.
    pub answer: Option<HookAnswer>,
    /// To whom nothing could be said, and why, when it was given up and nobody waits for it.
    pub given_up: Option<String>,
}

/// What is still to be said.
#[derive(Debug)]
pub struct Outbox {
    parcels: BTreeMap<u64, Parcel>,
    next: u64,
    told: mpsc::Sender<Delivered>,
    /// Folder from which relative paths of secrets are meant.
    base: PathBuf,
    /// Receivers that are being told something, by identity.
    busy: BTreeMap<String, Busy>,
}

#[derive(Debug)]
struct Busy {
    number: u64,
    receiver: Receiver,
    task: AbortHandle,
}

impl Outbox {
    /// With what was left of the last time; `base` is the configuration's folder.
    #[must_use]
    pub fn new(left: Vec<Parcel>, told: mpsc::Sender<Delivered>, base: PathBuf) -> Self {
        let parcels: BTreeMap<u64, Parcel> = (0..).zip(left).collect();
        Self { next: parcels.len() as u64, parcels, told, base, busy: BTreeMap::new() }
    }

    /// Adds a parcel; gives its number.
    pub fn add(&mut self, parcel: Parcel) -> u64 {
        let same =
            |other: &Parcel| other.to == parcel.to && (parcel.to == To::Hook || other.hook == parcel.hook);
        let most = if parcel.to == To::Hook { MAX_KEPT } else { MAX_NOTICES };
        let under_way = self.busy.get(&parcel.hook).map(|busy| busy.number);
        let mut queue = self.parcels.iter().filter(|(_, other)| same(other)).map(|(number, _)| *number);
        let oldest = queue.find(|number| Some(*number) != under_way);
        if let Some(oldest) = oldest.filter(|_| queue.count() + 1 >= most)
            && let Some(lost) = self.parcels.remove(&oldest)
        {
            let what = if lost.to == To::Hook { lost.hook.as_str() } else { "a notice" };
            tracing::error!(route = lost.route, what, "too much is waiting to be said: the oldest is lost");
        }
        let number = self.next;
        self.next += 1;
        self.parcels.insert(number, parcel);
        number
    }

    /// Forgets a parcel.
    pub fn remove(&mut self, number: u64) {
        self.parcels.remove(&number);
        self.busy.retain(|_, busy| busy.number != number);
    }

    /// What to remember.
    #[must_use]
    pub fn to_remember(&self) -> Vec<Parcel> {
        self.parcels.values().cloned().collect()
    }

    /// Numbers of all hooks' parcels with their routes and hooks.
    #[must_use]
    pub fn numbers(&self) -> Vec<(u64, String, String)> {
        let hooks = self.parcels.iter().filter(|(_, one)| one.to == To::Hook);
        hooks.map(|(number, one)| (*number, one.route.clone(), one.hook.clone())).collect()
    }

    /// Sends a hook's parcel; what became of it comes back later. A hook that the file no longer has
    /// is given up.
    pub fn send(&self, number: u64, hook: Option<&Hook>) {
        let Some(parcel) = self.parcels.get(&number).filter(|one| one.to == To::Hook).cloned() else {
            return;
        };
        let (told, hook, base) = (self.told.clone(), hook.cloned(), self.base.clone());
        tokio::spawn(async move {
            let said = match &hook {
                Some(hook) => deliver::call(hook, &parcel, &base).await,
                None => Err("the file has it no more".to_owned()),
            };
            let why = said.err();
            let answer = parcel.answer.then(|| HookAnswer {
                name: parcel.hook.clone(),
                key: parcel.key,
                good: why.is_none(),
                why: why.clone().unwrap_or_default(),
            });
            let given_up = why.filter(|_| answer.is_none()).map(|why| format!("hook {}: {why}", parcel.hook));
            // The controller is gone with the process: the parcel is in its file.
            let _ = told.send(Delivered { number, route: parcel.route, answer, given_up }).await;
        });
    }

    /// Tells every receiver that is not being told something its oldest notice. What is for a receiver
    /// that is not among these is given up.
    pub fn deliver(&mut self, receivers: &[Receiver]) {
        self.busy.retain(|_, busy| {
            let same = receivers.contains(&busy.receiver) && self.parcels.contains_key(&busy.number);
            if !same {
                tracing::info!(receiver = busy.receiver.label(), "what it was being told is taken back");
                busy.task.abort();
            }
            same
        });
        self.parcels.retain(|_, parcel| {
            let known = parcel.to == To::Hook || receivers.iter().any(|one| one.id == parcel.hook);
            if !known {
                tracing::warn!(
                    route = parcel.route,
                    "a notice is given up: the file has its receiver no more"
                );
            }
            known
        });
        for receiver in receivers {
            let mut queue =
                self.parcels.iter().filter(|(_, one)| one.to == To::Receiver && one.hook == receiver.id);
            let Some((number, parcel)) = queue.next().filter(|_| !self.busy.contains_key(&receiver.id))
            else {
                continue;
            };
            let (number, task) = (*number, self.tell(*number, parcel.clone(), receiver.clone()));
            let busy = Busy { number, receiver: receiver.clone(), task };
            self.busy.insert(receiver.id.clone(), busy);
        }
    }

    fn tell(&self, number: u64, parcel: Parcel, receiver: Receiver) -> AbortHandle {
        let (told, base) = (self.told.clone(), self.base.clone());
        let telling = tokio::spawn(async move {
            let said = deliver::tell(&receiver, &parcel, &base).await;
            let given_up = said.err().map(|why| format!("{}: {why}", receiver.label()));
            // The controller is gone with the process: the parcel is in its file.
            let _ = told.send(Delivered { number, route: parcel.route, answer: None, given_up }).await;
        });
        telling.abort_handle()
    }
}

/// What a hook is told, in Flagger's words where it has them.
#[must_use]
pub fn body(route: &str, call: &Call, hook: &Hook, phase: &str, canary: f64) -> Value {
    let metadata: BTreeMap<&str, &str> =
        hook.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    json!({
        "name": route,
        "hook": call.name,
        "event": call.event.label(),
        "phase": phase,
        "canaryWeight": canary,
        "key": call.key,
        "metadata": metadata,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Way;

    fn notice(to: &str, key: u64) -> Parcel {
        Parcel { route: "r".into(), hook: to.into(), to: To::Receiver, key, ..Parcel::default() }
    }

    fn hook(key: u64) -> Parcel {
        Parcel { to: To::Hook, ..notice("h", key) }
    }

    fn outbox() -> (Outbox, mpsc::Receiver<Delivered>) {
        let (told, heard) = mpsc::channel(ANSWERS);
        (Outbox::new(Vec::new(), told, PathBuf::new()), heard)
    }

    #[test]
    fn every_queue_has_its_own_bound_and_loses_its_oldest() {
        let (mut outbox, _heard) = outbox();
        outbox.add(hook(0));
        outbox.add(notice("b", 0));
        for key in 0..MAX_NOTICES as u64 + 5 {
            outbox.add(notice("a", key));
        }
        let kept = |name: &str| -> Vec<u64> {
            outbox.to_remember().iter().filter(|one| one.hook == name).map(|one| one.key).collect()
        };
        assert_eq!((kept("h"), kept("b")), (vec![0], vec![0]));
        assert_eq!((kept("a").len(), kept("a").first().copied()), (MAX_NOTICES, Some(5)));
    }

    #[tokio::test]
    async fn what_is_for_a_receiver_that_is_gone_is_given_up() {
        let (mut outbox, _heard) = outbox();
        let receiver = |name: &str| Receiver {
            id: name.into(),
            way: Way::Webhook { url: "http://127.0.0.1:1/".into(), secret_file: None },
        };
        let (first, _, _) =
            (outbox.add(notice("a", 1)), outbox.add(notice("a", 2)), outbox.add(notice("b", 3)));
        outbox.add(hook(4));
        outbox.deliver(&[receiver("a"), receiver("b")]);
        let busy: Vec<_> = outbox.busy.values().map(|busy| busy.number).collect();
        assert_eq!(busy, [first, 2], "one after the other, each receiver for itself");
        outbox.deliver(&[receiver("b")]);
        let left: Vec<_> = outbox.to_remember().iter().map(|one| one.key).collect();
        assert_eq!((left, outbox.busy.len()), (vec![3, 4], 1));
    }
}
