//! Whether the process is ready, and what is wrong if it is not.
//!
//! Shared by the composition root, which moves the phase, and the probes, which read it. A detail
//! that is wrong but does no harm to traffic is told and does not make the process unready.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Where in its life the process is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not yet accepting everywhere.
    #[default]
    Starting,
    /// Accepting.
    Ready,
    /// Going away: still accepting, then finishing.
    Draining,
}

impl Phase {
    /// As the probes spell it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

/// Phase and details at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Where in its life the process is.
    pub phase: Phase,
    /// `ok` or what is wrong, by part: config, listeners, state.
    pub checks: BTreeMap<&'static str, String>,
}

/// The shared readiness of one process.
#[derive(Debug)]
pub struct Health(Mutex<Readiness>);

impl Default for Health {
    fn default() -> Self {
        let checks = [("config", "not loaded"), ("listeners", "not bound"), ("state", "not read")];
        let checks = checks.map(|(part, text)| (part, text.to_owned())).into();
        Self(Mutex::new(Readiness { phase: Phase::Starting, checks }))
    }
}

impl Health {
    fn lock(&self) -> MutexGuard<'_, Readiness> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how a part is: `ok` or what is wrong.
    pub fn set(&self, part: &'static str, text: impl Into<String>) {
        self.lock().checks.insert(part, text.into());
    }

    /// Says that there is nothing to say of a part that is only there when something is wrong.
    pub fn unset(&self, part: &'static str) {
        self.lock().checks.remove(part);
    }

    /// Every listener accepts: ready, unless it is already draining.
    pub fn listening(&self) {
        let mut readiness = self.lock();
        readiness.checks.insert("listeners", "ok".to_owned());
        readiness.phase = readiness.phase.max(Phase::Ready);
    }

    /// The process is going away; there is no way back.
    pub fn draining(&self) {
        let mut readiness = self.lock();
        readiness.checks.insert("listeners", "draining".to_owned());
        readiness.phase = Phase::Draining;
    }

    /// Phase and details now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        self.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draining_is_for_good() {
        let health = Health::default();
        assert_eq!(health.readiness().phase, Phase::Starting);
        health.listening();
        assert_eq!(health.readiness().phase, Phase::Ready);
        health.draining();
        health.listening();
        assert_eq!(health.readiness().phase, Phase::Draining);
    }
}
