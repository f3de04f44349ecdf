//! Rare numbers (reloads, dropped log lines) by the common facade and its Prometheus recorder.
//!
//! One recorder per instance and none global, so that several can live in one process. It must
//! never be used once per request.

use metrics::{Counter, Gauge, Key, KeyName, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};

use crate::model::names::Family;

/// Registers rare counters and gauges and writes them out.
pub struct Cold {
    recorder: PrometheusRecorder,
    handle: PrometheusHandle,
}

impl std::fmt::Debug for Cold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cold").finish_non_exhaustive()
    }
}

impl Default for Cold {
    fn default() -> Self {
        Self::new()
    }
}

impl Cold {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        Self { recorder, handle }
    }

    /// The recorder, for rooms that register their own meters.
    #[must_use]
    pub fn recorder(&self) -> &dyn Recorder {
        &self.recorder
    }

    /// A counter of a family; its series is there from now on.
    pub fn counter(&self, family: &Family, values: &[&'static str]) -> Counter {
        self.recorder.describe_counter(KeyName::from(family.name), None, family.help.into());
        self.recorder.register_counter(&key(family, values), &METADATA)
    }

    /// A gauge of a family; its series is there from now on.
    pub fn gauge(&self, family: &Family, values: &[&'static str]) -> Gauge {
        self.recorder.describe_gauge(KeyName::from(family.name), None, family.help.into());
        self.recorder.register_gauge(&key(family, values), &METADATA)
    }

    /// Housekeeping; to be called every few seconds.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    /// Appends every series.
    pub fn render(&self, out: &mut String) {
        for line in self.handle.render().lines().filter(|line| !line.is_empty()) {
            out.push_str(line);
            out.push('\n');
        }
    }
}

static METADATA: Metadata<'static> = Metadata::new(module_path!(), Level::INFO, None);

fn key(family: &Family, values: &[&'static str]) -> Key {
    let labels = family.labels.iter().zip(values).map(|(name, value)| Label::from_static_parts(name, value));
    Key::from_parts(family.name, labels.collect::<Vec<_>>())
}
