//! What failed in the present step of a rollout, over all its weight epochs, as the state machine is told.
//!
//! It must never carry a failure from one step into the next, nor count one epoch twice.

use std::collections::BTreeMap;

use crate::ledger::samples::{self, Failed};
use crate::ledger::trial::{Side, Trial};
use crate::model::Cause;
use crate::rollout::failing::TOP;
use crate::rollout::{Failing, Suffered};

/// What failed of both arms.
#[derive(Clone, Debug, Default)]
struct Arms {
    canary: Failed,
    stable: Failed,
}

/// What failed in the present step.
#[derive(Debug, Default)]
pub struct Sampled {
    /// The step's first epoch.
    first: u64,
    /// Epochs that still count.
    open: BTreeMap<u64, Arms>,
    /// Epochs that are over.
    over: Arms,
}

impl Sampled {
    /// A step begins, and with it this epoch.
    pub fn begin(&mut self, epoch: u64) {
        *self = Self { first: epoch, ..Self::default() };
    }

    /// Reads an epoch; `last` when nobody counts in it any more.
    pub fn read(&mut self, trial: &Trial, last: bool) {
        if trial.epoch < self.first {
            return;
        }
        let arms = Arms { canary: trial.failed(Side::Canary), stable: trial.failed(Side::Stable) };
        if arms.is_empty() {
            // Most seconds end here: what is empty now has always been.
        } else if last {
            self.open.remove(&trial.epoch);
            self.over.merge(arms);
        } else {
            self.open.insert(trial.epoch, arms);
        }
    }

    /// The most frequent kinds, and when it began.
    #[must_use]
    pub fn suffered(&self) -> Suffered {
        if self.over.is_empty() && self.open.is_empty() {
            return Suffered::default();
        }
        let mut all = self.over.clone();
        self.open.values().cloned().for_each(|arms| all.merge(arms));
        let top = |failed: &Failed, arm: &str| -> Vec<Failing> {
            failed.top(TOP).into_iter().map(|one| failing(one, arm)).collect()
        };
        let mut failing = top(&all.canary, "canary");
        failing.extend(top(&all.stable, "stable"));
        Suffered { failing, since_millis: all.canary.first_millis }
    }
}

impl Arms {
    fn is_empty(&self) -> bool {
        self.canary.is_empty() && self.stable.is_empty()
    }

    fn merge(&mut self, other: Self) {
        self.canary.merge(other.canary);
        self.stable.merge(other.stable);
    }
}

fn failing(one: &samples::Failing, arm: &str) -> Failing {
    let (status, cause) = match one.cause {
        Cause::Status(status) => (Some(status), None),
        Cause::Grpc(status) => (None, Some(format!("grpc_status {status}"))),
        Cause::Failure(reason) => (None, Some(reason.label().to_owned())),
    };
    Failing {
        arm: arm.to_owned(),
        rule: one.words.rule.clone(),
        method: one.method.label().to_owned(),
        status,
        cause,
        endpoint: one.words.endpoint.as_deref().unwrap_or_default().to_owned(),
        count: one.count,
        request_ids: one.ids.iter().map(ToString::to_string).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::samples::{Kind, Words};
    use crate::ledger::trial::{Ended, Fate, Placement};
    use crate::model::{FailureReason, MethodClass, WorkerId};

    fn fail(trial: &Trial, side: Side, cause: Cause, unix_millis: u64) {
        let ended = Ended {
            side,
            placement: Placement::Placed,
            fate: Fate::Bad,
            client_error: false,
            slot: None,
            nanos: None,
            address: [127, 0, 0, 1].into(),
            unix_millis,
        };
        let kind = Kind { rule: (1, 0), method: MethodClass::Get, cause, endpoint: None };
        assert!(trial.record(WorkerId(0), &ended));
        trial.sample(WorkerId(0), &ended, kind, "id", || Words { rule: "/".into(), endpoint: None });
    }

    #[test]
    fn epochs_of_one_step_are_one_and_a_step_forgets_the_one_before() {
        let (one, two) = (Trial::new(1, 1, 0, Vec::new()), Trial::new(2, 1, 0, Vec::new()));
        let mut sampled = Sampled::default();
        sampled.begin(1);
        fail(&one, Side::Canary, Cause::Status(500), 5_000);
        sampled.read(&one, false);
        sampled.read(&one, false);
        fail(&one, Side::Canary, Cause::Status(500), 6_000);
        sampled.read(&one, true);
        fail(&two, Side::Canary, Cause::Failure(FailureReason::Connect), 7_000);
        fail(&two, Side::Stable, Cause::Grpc(14), 7_000);
        sampled.read(&two, false);
        let told = sampled.suffered();
        let seen: Vec<_> =
            told.failing.iter().map(|one| (&*one.arm, one.count, one.status, one.cause.as_deref())).collect();
        let expected = [
            ("canary", 2, Some(500), None),
            ("canary", 1, None, Some("connect")),
            ("stable", 1, None, Some("grpc_status 14")),
        ];
        assert_eq!((seen.as_slice(), told.since_millis), (expected.as_slice(), Some(5_000)));
        sampled.begin(3);
        sampled.read(&two, false);
        assert_eq!(sampled.suffered(), Suffered::default());
    }
}
