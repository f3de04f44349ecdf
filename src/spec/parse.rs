//! Text to [`File`]: the one place that knows the YAML library, its budgets and its error texts.
//!
//! It must never read a file itself, and never let a document cost more than its bounds.

use crate::model::{Diagnostic, Place};

use super::File;

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
    /// Every `inFile` path written anywhere, for the shell to read.
    #[must_use]
    pub fn list_files(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for route in self.files.iter().flat_map(|(_, file)| &file.routes) {
            let matches = route
                .matches
                .iter()
                .flat_map(|rule| rule.headers.iter().chain(&rule.cookies).chain(&rule.query_params));
            let overrides = route.overrides.iter().flat_map(|rule| rule.when.predicates());
            names.extend(
                matches
                    .chain(overrides)
                    .filter_map(|one| one.in_file.as_ref())
                    .map(|file| file.value.clone()),
            );
            names.extend(route.overrides.iter().filter_map(|rule| {
                rule.when.sticky_key.as_ref()?.in_file.as_ref().map(|file| file.value.clone())
            }));
        }
        names.sort();
        names.dedup();
        names
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

fn parse_one(source: &Source) -> Result<File, Box<Diagnostic>> {
    let whole = Place { file: source.name.clone(), ..Place::default() };
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
    options.budget = Some(budget);
    options.alias_limits.max_total_replayed_events = MAX_ALIAS_NODES;
    options.strict_booleans = true;
    serde_saphyr::from_str_with_options::<File>(&source.text, options)
        .map_err(|error| Box::new(explain(&error, source)))
}

/// Turns the library's error into ours: the message without its place, and a guess at what was meant.
fn explain(error: &serde_saphyr::Error, source: &Source) -> Diagnostic {
    let small = |number: u64| u32::try_from(number).unwrap_or(0);
    let mut place = Place { file: source.name.clone(), ..Place::default() };
    if let Some(found) = error.location() {
        place.line = small(found.line());
        place.column = small(found.column());
        place.length = small(found.span().len());
    }
    let full = error.without_snippet().to_string();
    let mut text = full.lines().next().unwrap_or_default().to_owned();
    if let Some(cut) = text.rfind(" at line ") {
        text.truncate(cut);
    }
    let (code, message, hint) = humanize(&text, source, &place);
    Diagnostic::error(code, message).at(place).hint(hint)
}

fn humanize(text: &str, source: &Source, place: &Place) -> (&'static str, String, String) {
    for (opening, code, noun) in
        [("unknown field `", "unknown-key", "key"), ("unknown variant `", "unknown-value", "value")]
    {
        if let Some(rest) = text.strip_prefix(opening)
            && let Some((written, tail)) = rest.split_once('`')
        {
            let known: Vec<&str> = tail
                .rsplit_once("one of ")
                .or_else(|| tail.rsplit_once("expected "))
                .map(|(_, list)| list.split(", ").map(|name| name.trim_matches('`')).collect())
                .unwrap_or_default();
            return (code, format!("unknown {noun} `{written}`"), guess(written, &known));
        }
    }
    if text.starts_with("duplicate mapping key") {
        let key = text.split(':').nth(1).unwrap_or("").split(',').next().unwrap_or("").trim();
        return ("duplicate-key", format!("key `{key}` is written twice"), "remove one of the two".into());
    }
    if let Some(field) = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        return ("missing-key", format!("key `{field}` is missing here"), String::new());
    }
    let lower = text.to_ascii_lowercase();
    if lower.contains("budget") || lower.contains("alias") && lower.contains("limit") {
        return (
            "over-budget",
            format!("the document is larger or deeper than allowed: {text}"),
            "aliases, depth and size are bounded so that a file cannot exhaust memory".into(),
        );
    }
    let key = key_on_line(source, place);
    let subject = key.map_or_else(String::new, |key| format!("`{key}`: "));
    ("bad-value", format!("{subject}{text}"), String::new())
}

/// The key written before a value on its line, so that a type error can name it.
fn key_on_line<'a>(source: &'a Source, place: &Place) -> Option<&'a str> {
    let line = source.text.lines().nth(place.line.checked_sub(1)? as usize)?;
    let upto: usize =
        line.char_indices().nth(place.column.saturating_sub(1) as usize).map_or(line.len(), |(at, _)| at);
    let before = line.get(..upto)?.trim_end();
    let before = before.strip_suffix(':').or_else(|| before.rsplit_once(": ").map(|(key, _)| key))?;
    let start = before.rfind(['{', '[', ',', ' ', '-']).map_or(0, |at| at + 1);
    before.get(start..).map(str::trim).filter(|key| !key.is_empty())
}

/// The nearest known name, or the list of them.
#[must_use]
pub fn guess(written: &str, known: &[&str]) -> String {
    let lower = written.to_ascii_lowercase();
    let near = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4);
    match near {
        Some((_, name)) => format!("did you mean `{name}`?"),
        None if known.is_empty() => String::new(),
        None => format!("known here: {}", known.join(", ")),
    }
}
