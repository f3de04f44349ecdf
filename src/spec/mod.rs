//! What the operator writes: the configuration file as typed text, with the place of every value.
//!
//! It exists so that the plan never sees text and the file never sees run time. It must never open
//! files, resolve names or know about live traffic: [`parse`] takes text and gives a [`Spec`] or
//! the first error of shape; errors of meaning are found by `plan::compile`.

mod every;
pub mod filter;
pub mod health;
mod known;
pub mod limit;
pub mod listener;
pub mod mirror;
pub mod notify;
pub mod parse;
pub mod process;
mod refusal;
pub mod render;
pub mod retry;
pub mod rollout;
pub mod route;
pub mod rule;
pub mod scalar;
pub mod slo;
pub mod split;
pub mod spot;
pub mod tls;
pub mod upstream;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use every::parse_every;
pub use parse::{Source, Spec, parse};
pub use spot::{Later, Short, ShortOr, Spot};

/// One configuration file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct File {
    /// Addresses to accept clients on. Required.
    pub listeners: Vec<Spot<listener::Listener>>,
    /// The operator's listener. Default: on `127.0.0.1:9901`.
    pub admin: Option<Spot<process::Admin>>,
    /// `/metrics` and the probes on an address of their own, without token. Default: on `admin.address` alone.
    pub metrics: Option<Spot<process::Metrics>>,
    /// Memory for bodies that are copied or sent again. Default: `64MiB` each.
    pub budgets: Option<Spot<process::Budgets>>,
    /// How the process ends. Default: `30s` for what is running.
    pub shutdown: Option<Spot<process::Shutdown>>,
    /// Data-plane threads; 0 is one per core that affinity and cgroup quotas leave. Default: `0`.
    pub workers: Option<Spot<u16>>,
    /// Networks whose `X-Forwarded-*` and `Forwarded` are believed; `X-Forwarded-For` wins where both come.
    /// From others they are replaced.
    pub trusted_proxies: Vec<Spot<scalar::Network>>,
    /// Folder of operator weights and rollouts (`overlay.json`), what rollouts decided (`history.jsonl`), what
    /// is left of error budgets (`slo.json`), who changed what (`audit.jsonl`), what was put back while the
    /// disk was full (`putback`) and the admin token; a relative path is meant from the file's folder. Default:
    /// `$STATE_DIRECTORY`, else `.switchback` beside the file.
    pub state_dir: Option<Spot<String>>,
    /// Named groups of equal addresses: a map from name to an address or a block.
    pub upstreams: BTreeMap<Spot<String>, ShortOr<upstream::Upstream>>,
    /// Rules that own traffic.
    pub routes: Vec<Spot<route::Route>>,
    /// Shared state engine.
    pub state: Option<Spot<Later>>,
    /// One line per exchange. Default: off.
    pub access_log: Option<Spot<process::AccessLog>>,
    /// Trace ids and spans. Default: off.
    pub tracing: Option<Spot<process::Tracing>>,
    /// Who is told what rollouts do. Default: nobody.
    pub notify: Vec<Spot<notify::Receiver>>,
}

impl File {
    /// Keys present whose feature is not built yet, with their dotted path.
    #[must_use]
    pub fn later(&self) -> Vec<(String, Spot<&Later>)> {
        let mut found = spot::LaterKeys::default();
        found.add("", "state", self.state.as_ref());
        found.into_inner()
    }
}

/// The JSON Schema (draft 2020-12) of a configuration file.
#[must_use]
pub fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(File).to_value();
    // What is compared with a request is text however it is written: `value: 1` is "1".
    for block in
        ["/$defs/Predicate/properties", "/$defs/KeyPredicate/properties", "/$defs/Retry/properties/when"]
    {
        schema.pointer_mut(block).into_iter().for_each(text_in_any_form);
    }
    schema
}

/// Lets every text of a schema be written as a number or `true` too.
fn text_in_any_form(schema: &mut serde_json::Value) {
    match schema {
        serde_json::Value::Object(map) => {
            if let Some(kind) = map.get_mut("type") {
                let mut kinds = kind.as_array().cloned().unwrap_or_else(|| vec![kind.clone()]);
                if kinds.contains(&"string".into()) {
                    kinds.extend(["number".into(), "boolean".into()]);
                    *kind = kinds.into();
                }
            }
            map.values_mut().for_each(text_in_any_form);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(text_in_any_form),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
