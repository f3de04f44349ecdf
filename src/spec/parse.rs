//! Text to [`File`]: the YAML library and its budgets.
//!
//! It must never read a file itself, and never let a document cost more than its bounds.

use crate::model::{Diagnostic, Place};

use super::notify::Receiver;
pub use super::refusal::guess;
use super::{File, Spot, refusal};

/// Largest configuration file in bytes; 10,000 routes must fit.
pub const MAX_FILE_BYTES: usize = 4 << 20;
/// Deepest nesting of maps and lists.
const MAX_DEPTH: usize = 64;
/// Most nodes of one file.
const MAX_NODES: usize = 2_000_000;
/// Most nodes that aliases may add; a bomb needs far more.
const MAX_ALIAS_NODES: usize = 100_000;

/// One file's text as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name as the operator gave it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// One configuration: every file of it, parsed.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// Files in name order with their text, which diagnostics quote.
    pub files: Vec<(Source, File)>,
}

impl Spec {
    /// Every file whose lines a plan is made of, for the shell to read: lists, secrets, keys of pins.
    #[must_use]
    pub fn list_files(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for route in self.files.iter().flat_map(|(_, file)| &file.routes) {
            let previews = route.blue_green.iter().filter_map(|pair| pair.preview.as_ref());
            let predicates = route
                .matches
                .iter()
                .flat_map(|rule| rule.headers.iter().chain(&rule.cookies).chain(&rule.query_params))
                .chain(route.overrides.iter().flat_map(|rule| rule.when.predicates()))
                .chain(previews.flat_map(|preview| &preview.headers));
            let keys = route.overrides.iter().filter_map(|rule| rule.when.sticky_key.as_ref());
            let pins = route.sticky.iter().filter_map(|sticky| sticky.pin.as_ref());
            let written = predicates
                .flat_map(|one| one.in_file.iter().chain(&one.secret_file))
                .chain(keys.filter_map(|key| key.in_file.as_ref()))
                .chain(pins.map(|pin| &pin.key_file));
            names.extend(written.map(|file| file.value.clone()));
        }
        for upstream in self.files.iter().flat_map(|(_, file)| file.upstreams.values()) {
            names.extend(upstream.tls.iter().flat_map(|tls| tls.files()).map(|file| file.value.clone()));
        }
        names.sort();
        names.dedup();
        names
    }

    /// Every file with a secret, with the index of the file that names it, for the shell to look at.
    #[must_use]
    pub fn secret_files(&self) -> Vec<(usize, &Spot<String>)> {
        let mut found = Vec::new();
        for (at, (_, file)) in self.files.iter().enumerate() {
            let rollouts = file.routes.iter().filter_map(|route| route.rollout.as_ref());
            let hooks = rollouts.flat_map(|rollout| &rollout.hooks);
            found.extend(hooks.filter_map(|hook| Some((at, hook.secret_file.as_ref()?))));
            found.extend(file.notify.iter().filter_map(|receiver| match &receiver.value {
                Receiver::Slack(slack) => Some((at, &slack.url_file)),
                Receiver::Webhook(webhook) => Some((at, webhook.secret_file.as_ref()?)),
            }));
        }
        found
    }
}

impl Spec {
    /// A warning that a secret of the file at this index cannot be read now.
    #[must_use]
    pub fn unreadable_secret(
        &self,
        at: usize,
        written: &Spot<String>,
        why: &dyn std::fmt::Display,
    ) -> Diagnostic {
        let name = self.files.get(at).map_or_else(String::new, |(source, _)| source.name.clone());
        let place = Place { file: name, line: written.line, column: written.column, length: written.length };
        let message = format!("the secret in `{}` cannot be read: {why}", written.value);
        let hint = "it is read again at every use; until then nothing is said where it is needed";
        Diagnostic::error("unreadable-secret", message).at(place).hint(hint).warning()
    }
}

/// Parses all files of a configuration.
///
/// # Errors
/// The first error of shape: syntax, an unknown key, a value of the wrong type or out of bounds.
pub fn parse(sources: Vec<Source>) -> Result<Spec, Box<Diagnostic>> {
    let mut files = Vec::with_capacity(sources.len());
    for source in sources {
        let file = parse_one(&source)?;
        files.push((source, file));
    }
    Ok(Spec { files })
}

/// Parses one file of a configuration.
pub(super) fn parse_one(source: &Source) -> Result<File, Box<Diagnostic>> {
    read_as(source)
}

/// Reads one file as anything, within its bounds.
pub(super) fn read_as<T: serde::de::DeserializeOwned>(source: &Source) -> Result<T, Box<Diagnostic>> {
    let whole = Place { file: source.name.clone(), line: 1, column: 1, length: 0 };
    if source.text.len() > MAX_FILE_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_FILE_BYTES}", source.text.len());
        return Err(Box::new(
            Diagnostic::error("too-large", message).at(whole).hint("split it into a folder of files"),
        ));
    }
    if source.text.trim().is_empty() {
        return Err(Box::new(
            Diagnostic::error("empty", "the file is empty")
                .at(whole)
                .hint("a half-written file looks like this; write at least listeners, upstreams and routes"),
        ));
    }
    let mut options = serde_saphyr::Options::default();
    let mut budget = serde_saphyr::Budget::default();
    budget.max_depth = MAX_DEPTH;
    budget.max_nodes = MAX_NODES;
    budget.max_events = MAX_NODES * 3;
    budget.max_total_scalar_bytes = MAX_FILE_BYTES * 2;
    // One anchor may serve many routes; what aliases add is bounded below.
    budget.enforce_alias_anchor_ratio = false;
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = MAX_ALIAS_NODES;
    options.strict_booleans = true;
    options.reject_unsupported_tags = true;
    options.non_finite_float_policy = serde_saphyr::NonFiniteFloatPolicy::AsString;
    options.with_snippet = false;
    serde_saphyr::from_str_with_options::<T>(&source.text, options)
        .map_err(|error| Box::new(refusal::explain(&error, source)))
}
