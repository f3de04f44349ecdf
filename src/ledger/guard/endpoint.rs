//! One endpoint of one upstream: the share of requests it may have, and why.
//!
//! Workers read one word to pick, and write only where outliers are watched for. Everything else is
//! the control plane's, behind a lock that no worker takes.

use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Millis;
use super::crowd::{Crowd, LEAST, Went, mark};
use super::outlier::{Outlier, Stage, TRIALS};
use super::probed::{ProbeRules, Probed};
use crate::model::FailureReason;

/// The whole share of an endpoint, in the units of [`EndpointGuard::share`].
pub const FULL: u32 = 1_024;
/// On trial: as many requests as are left of it.
const TRIAL: u32 = u32::MAX;
/// Share with which a ramp begins: a tenth.
const FIRST: u64 = 102;
/// Milliseconds for which a client is active, at least.
const ACTIVE: Millis = 10_000;

/// What is known of one endpoint of one upstream.
#[derive(Debug)]
pub struct EndpointGuard {
    /// `scheme://host:port`.
    pub url: Arc<str>,
    /// 0 is out, [`TRIAL`] is on trial, else the share.
    admission: AtomicU32,
    /// Requests left of a trial, and those that were answered.
    trials: AtomicU32,
    answered: AtomicU32,
    /// Failures in a row, and 1 more than the index of the reason when they were enough.
    failures: AtomicU32,
    tripped: AtomicU32,
    /// Places of the clients that had them.
    failing: AtomicU64,
    crowd: Crowd,
    ejections: [AtomicU64; FailureReason::COUNT],
    watched: Mutex<Watched>,
}

/// What the control plane remembers of it.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) probed: Probed,
    pub(super) outlier: Outlier,
    /// Whether it was looked at before.
    pub(super) known: bool,
    /// Since when it ramps up.
    pub(super) ramp: Option<Millis>,
    /// What the last bad probe said.
    pub(super) why: String,
}

impl EndpointGuard {
    pub(super) fn new(url: Arc<str>, seed: u64) -> Self {
        Self {
            url,
            admission: AtomicU32::new(FULL),
            trials: AtomicU32::new(0),
            answered: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            tripped: AtomicU32::new(0),
            failing: AtomicU64::new(0),
            crowd: Crowd::new(seed),
            ejections: [const { AtomicU64::new(0) }; FailureReason::COUNT],
            watched: Mutex::default(),
        }
    }

    // --- workers ---

    /// The share of its requests that it may have now, of [`FULL`]; 0 is none.
    #[must_use]
    pub fn share(&self) -> u32 {
        match self.admission.load(Relaxed) {
            TRIAL if self.trials.load(Relaxed) > 0 => FULL,
            TRIAL => 0,
            share => share,
        }
    }

    /// A request goes to it.
    pub fn taken(&self) {
        if self.admission.load(Relaxed) == TRIAL {
            // A worker that was as quick as another may take one more than there are.
            let _ = self.trials.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1));
        }
    }

    /// It answered a request of a client.
    pub fn succeeded(&self, address: IpAddr) {
        self.crowd.seen(address);
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
        if self.failing.load(Relaxed) != 0 {
            self.failing.store(0, Relaxed);
        }
        if self.admission.load(Relaxed) == TRIAL {
            self.answered.fetch_add(1, Relaxed);
        }
    }

    /// It failed a request of a client; `limit` failures in a row are enough, on trial one is. Once many
    /// clients ask, several must have had them, unless nobody answers at all; a request of a trial that
    /// says nothing for that is as if it had not been let through.
    pub fn failed(&self, reason: FailureReason, limit: u32, address: IpAddr) {
        let bits = self.crowd.seen(address).bit();
        mark(&self.failing, if Went::of(reason) == Went::Unreached { u64::MAX } else { bits });
        let failures = self.failures.fetch_add(1, Relaxed).saturating_add(1);
        let on_trial = self.admission.load(Relaxed) == TRIAL;
        let least = if on_trial { LEAST } else { LEAST.min(limit) };
        if self.crowd.is_many() && self.failing.load(Relaxed).count_ones() < least {
            if on_trial {
                let back = |left: u32| (left < TRIALS).then_some(left + 1);
                // As many as there can be are there already.
                let _ = self.trials.fetch_update(Relaxed, Relaxed, back);
            }
            return;
        }
        if failures >= limit || on_trial {
            let index = u32::try_from(reason.index()).unwrap_or(0);
            self.tripped.store(index + 1, Relaxed);
        }
    }

    // --- control ---

    /// Whether it is used: neither out for its probes nor for its answers. On trial it is not yet.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        !matches!(self.admission.load(Relaxed), 0 | TRIAL)
    }

    /// How often it was taken out for a reason.
    #[must_use]
    pub fn ejections(&self, reason: FailureReason) -> u64 {
        self.ejections.get(reason.index()).map_or(0, |count| count.load(Relaxed))
    }

    /// Whether a probe is due; it is under way from then on.
    #[must_use]
    pub fn probe_is_due(&self, now: Millis) -> bool {
        self.watched().probed.begin(now)
    }

    /// A probe was answered, or failed with a reason; true when it is believed in other terms now.
    pub fn probed(&self, bad: Option<String>, rules: ProbeRules, now: Millis, jitter: u64) -> bool {
        let mut watched = self.watched();
        let changed = watched.probed.answered(bad.is_none(), rules, now, jitter);
        watched.why = bad.unwrap_or_default();
        changed
    }

    /// What the last probe found wrong; empty when it was good.
    #[must_use]
    pub fn why(&self) -> String {
        self.watched().why.clone()
    }

    pub(super) fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Clients that did not ask for some time are no longer active.
    pub(super) fn turn(&self, now: Millis) {
        self.crowd.turn(now, ACTIVE);
    }

    /// The reason of failures that were enough, once.
    pub(super) fn tripped(&self) -> Option<FailureReason> {
        if self.tripped.load(Relaxed) == 0 {
            return None;
        }
        let index = self.tripped.swap(0, Relaxed);
        self.failures.store(0, Relaxed);
        FailureReason::ALL.get(usize::try_from(index).ok()?.checked_sub(1)?).copied()
    }

    pub(super) fn answered(&self) -> u32 {
        self.answered.load(Relaxed)
    }

    pub(super) fn begin_trial(&self, requests: u32) {
        self.answered.store(0, Relaxed);
        self.failing.store(0, Relaxed);
        self.trials.store(requests, Relaxed);
    }

    pub(super) fn count_ejection(&self, reason: FailureReason) {
        if let Some(count) = self.ejections.get(reason.index()) {
            count.fetch_add(1, Relaxed);
        }
    }

    /// Puts in force what is known; `slow` is the length of a ramp, 0 for none.
    pub(super) fn admit(&self, watched: &mut Watched, slow: Millis, now: Millis) {
        let admission = match watched.outlier.stage {
            _ if !watched.probed.is_healthy() => 0,
            Stage::Out(_) => 0,
            Stage::Trial(_) => TRIAL,
            Stage::In => {
                let share = watched.ramp.map_or(FULL, |since| ramp(now.saturating_sub(since), slow));
                if share >= FULL {
                    watched.ramp = None;
                }
                share
            }
        };
        if self.admission.load(Relaxed) != admission {
            self.admission.store(admission, Relaxed);
        }
    }
}

/// The share `elapsed` after a ramp of `slow` began: a tenth first, then in a straight line.
fn ramp(elapsed: Millis, slow: Millis) -> u32 {
    let full = u64::from(FULL);
    let rest = (full - FIRST).saturating_mul(elapsed).checked_div(slow).unwrap_or(full);
    u32::try_from((FIRST + rest).min(full)).unwrap_or(FULL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::guard::crowd::tests::address;

    #[test]
    fn a_ramp_is_a_straight_line_from_a_tenth() {
        let shares = [0, 2_500, 5_000, 7_500, 10_000, 20_000].map(|at| ramp(at, 10_000));
        assert_eq!(shares, [102, 332, 563, 793, 1_024, 1_024]);
        assert_eq!(ramp(0, 0), FULL, "no ramp");
    }

    #[test]
    fn failures_in_a_row_trip_it_once_and_an_answer_begins_anew() {
        let guard = EndpointGuard::new("http://a:1".into(), 0);
        for _ in 0..4 {
            guard.failed(FailureReason::Reset, 5, address(1));
        }
        guard.succeeded(address(1));
        for _ in 0..4 {
            guard.failed(FailureReason::Timeout, 5, address(1));
        }
        assert_eq!(guard.tripped(), None);
        guard.failed(FailureReason::Status, 5, address(1));
        guard.succeeded(address(1));
        assert_eq!(guard.tripped(), Some(FailureReason::Status), "remembered until it was looked at");
        assert_eq!(guard.tripped(), None);
    }

    #[test]
    fn a_trial_is_a_few_requests() {
        let guard = EndpointGuard::new("http://a:1".into(), 0);
        let mut watched = Watched::default();
        watched.outlier.stage = Stage::Trial(0);
        guard.begin_trial(2);
        guard.admit(&mut watched, 0, 0);
        assert!(!guard.is_healthy());
        for share in [FULL, FULL, 0, 0] {
            assert_eq!(guard.share(), share);
            guard.taken();
        }
        guard.succeeded(address(1));
        assert_eq!(guard.answered(), 1);
        guard.failed(FailureReason::Reset, 100, address(1));
        assert!(guard.tripped().is_some(), "on trial one is enough");
    }

    #[test]
    fn one_client_among_many_takes_nothing_out_and_keeps_nothing_out() {
        let guard = EndpointGuard::new("http://a:1".into(), 0);
        (100..200).for_each(|number| guard.succeeded(address(number)));
        let fail = |number, reason| guard.failed(reason, 5, address(number));
        (0..500).for_each(|_| fail(1, FailureReason::Status));
        assert_eq!(guard.tripped(), None);
        guard.succeeded(address(100));
        (100..150).for_each(|number| fail(number, FailureReason::Status));
        assert_eq!(guard.tripped(), Some(FailureReason::Status), "all of them are believed");
        let mut watched = Watched::default();
        watched.outlier.stage = Stage::Trial(0);
        guard.begin_trial(TRIALS);
        guard.admit(&mut watched, 0, 0);
        for _ in 0..50 {
            guard.taken();
            fail(1, FailureReason::Status);
        }
        assert_eq!((guard.tripped(), guard.share()), (None, FULL), "it may still be asked by others");
        fail(1, FailureReason::Connect);
        assert_eq!(guard.tripped(), Some(FailureReason::Connect), "nobody is there, whoever asks");
    }
}
