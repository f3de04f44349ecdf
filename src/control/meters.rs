//! The control plane's own numbers: how reloads went.
//!
//! Registered on the recorder it is given, so that it knows nothing of who exposes them.

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};

use crate::model::names::{self, Family};
use crate::model::{Generation, time::UnixMillis};

/// Handles of every meter.
#[derive(Clone, Debug)]
pub struct Meters {
    succeeded: Counter,
    failed: Counter,
    last_ok: Gauge,
    last_ok_time: Gauge,
    generation: Gauge,
    state_failures: Counter,
}

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

impl Meters {
    /// Registers every meter.
    #[must_use]
    pub fn new(recorder: &dyn Recorder) -> Self {
        let counter = |family: &Family, result: &'static str| {
            recorder.describe_counter(KeyName::from(family.name), None, family.help.into());
            let label = Label::from_static_parts("result", result);
            recorder.register_counter(&Key::from_parts(family.name, vec![label]), &METADATA)
        };
        let plain = |family: &Family| {
            recorder.describe_counter(KeyName::from(family.name), None, family.help.into());
            recorder.register_counter(&Key::from_static_name(family.name), &METADATA)
        };
        let gauge = |family: &Family| {
            recorder.describe_gauge(KeyName::from(family.name), None, family.help.into());
            recorder.register_gauge(&Key::from_static_name(family.name), &METADATA)
        };
        Self {
            succeeded: counter(&names::RELOADS, "success"),
            failed: counter(&names::RELOADS, "failure"),
            last_ok: gauge(&names::RELOAD_OK),
            last_ok_time: gauge(&names::RELOAD_TIME),
            generation: gauge(&names::CONFIG_GENERATION),
            state_failures: plain(&names::STATE_WRITE_FAILURES),
        }
    }

    /// A configuration was accepted.
    pub fn accepted(&self, at: UnixMillis) {
        self.succeeded.increment(1);
        self.last_ok.set(1.0);
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds fits a float")]
        self.last_ok_time.set(at.seconds() as f64);
    }

    /// A configuration was refused.
    pub fn refused(&self) {
        self.failed.increment(1);
        self.last_ok.set(0.0);
    }

    /// So many writes of the state have failed by now.
    pub fn state_failures(&self, count: u64) {
        self.state_failures.absolute(count);
    }

    /// A plan was published.
    pub fn published(&self, generation: Generation) {
        #[expect(clippy::cast_precision_loss, reason = "generations are far below 2^52")]
        self.generation.set(generation.0 as f64);
    }
}
