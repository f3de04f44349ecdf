//! The YAML library's refusals in the operator's words: code, key, message, hint.
//!
//! It exists so that no message speaks of mapping starts, scalars or integer types. It must never
//! decide what is refused; it explains what was.

use serde_saphyr::Error;

use crate::model::{Diagnostic, Place};

use super::Source;
use super::known::Known;

/// Code, message and hint of a finding.
type Words = (&'static str, String, String);

/// Turns the library's error into a finding at its place.
pub(super) fn explain(error: &Error, source: &Source) -> Diagnostic {
    let small = |number: u64| u32::try_from(number).unwrap_or(0);
    let mut place = Place { file: source.name.clone(), ..Place::default() };
    if let Some(found) = error.location() {
        place.line = small(found.line());
        place.column = small(found.column());
        place.length = small(found.span().len());
    }
    if place.line == 0 {
        (place.line, place.column) = (1, 1);
    }
    let bare = matches!(error.without_snippet(), Error::Unexpected { .. })
        .then(|| bare_source(source, &mut place))
        .flatten();
    if let Some(name) = bare {
        let message = format!("`{name}` needs a name here");
        return Diagnostic::error("bad-value", message).at(place).hint(sources_of_keys(name));
    }
    let spot = Surroundings::of(source, &place);
    let (code, message, hint) = words(error.without_snippet(), &spot);
    Diagnostic::error(code, message).at(place).hint(hint)
}

/// A source of keys that stands alone before the place where its name was looked for; the place
/// becomes its own.
fn bare_source(source: &Source, place: &mut Place) -> Option<&'static str> {
    let line = place.line.checked_sub(1)? as usize;
    let start: usize = source.text.split_inclusive('\n').take(line).map(str::len).sum();
    let rest = source.text.get(start..)?;
    let column = place.column.checked_sub(1)? as usize;
    let from = rest.char_indices().nth(column).map_or(source.text.len(), |(at, _)| start + at);
    let before = source.text.get(..from)?.trim_end_matches([' ', '\n', '\r', ',']);
    let name = ["header", "cookie", "query"].into_iter().find(|name| before.ends_with(name))?;
    let before = before.strip_suffix(name)?;
    if !before.ends_with([' ', '[', ',']) {
        return None;
    }
    let small = |number: usize| u32::try_from(number).unwrap_or(0);
    let row = before.rsplit('\n').next().unwrap_or_default();
    place.line = small(before.matches('\n').count()) + 1;
    place.column = small(row.chars().count()) + 1;
    place.length = small(name.len());
    Some(name)
}

/// What can be written where a key is read from, the one that was meant first.
fn sources_of_keys(meant: &str) -> String {
    let others: Vec<String> = ["header", "cookie", "query"]
        .into_iter()
        .filter(|name| *name != meant)
        .map(|name| format!("`{{ {name}: NAME }}`"))
        .collect();
    format!("write `{{ {meant}: NAME }}`; {} and `clientIP` are known too", others.join(", "))
}

fn words(error: &Error, spot: &Surroundings<'_>) -> Words {
    let bad = |message: String, hint: &str| ("bad-value", spot.about(&message), hint.to_owned());
    match error {
        Error::AliasError { error, .. } => words(error, spot),
        Error::SerdeUnknownField { field, expected, .. } => {
            ("unknown-key", format!("unknown key `{field}`"), advise(field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } if spot.is_key => {
            ("unknown-key", format!("unknown key `{variant}`"), guess(variant, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            ("unknown-value", spot.about(&format!("unknown value `{variant}`")), guess(variant, expected))
        }
        Error::SerdeMissingField { field, .. } => {
            ("missing-key", format!("key `{field}` is missing here"), format!("add `{field}:`"))
        }
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or(spot.written);
            ("duplicate-key", format!("key `{key}` is written twice"), "remove one of the two".into())
        }
        Error::Unexpected { expected: "mapping start", .. } => {
            bad(format!("a map is expected here{}", spot.instead()), "write `key: value` pairs")
        }
        Error::Unexpected { expected: "sequence start", .. } => bad(
            format!("a list is expected here{}", spot.instead()),
            "write `[a, b]`, or one line per item that begins with `-`",
        ),
        Error::Unexpected { .. } => bad(format!("a single value is expected here{}", spot.instead()), ""),
        Error::InvalidScalar { ty, .. } => bad(format!("{} is expected{}", number(ty), spot.instead()), ""),
        Error::InvalidBooleanStrict { .. } => bad(format!("true or false is expected{}", spot.instead()), ""),
        Error::NullIntoString { .. } => {
            bad("nothing is written here".into(), "write a text, or remove the key")
        }
        Error::SerdeInvalidType { unexpected, expected, .. }
        | Error::SerdeInvalidValue { unexpected, expected, .. } => invalid_type(unexpected, expected, spot),
        Error::ExpectedMappingEndAfterEnumVariantValue { .. } => {
            let message = format!("`{}` is a second key where only one is allowed", spot.written);
            ("bad-value", message, "make it a list item of its own".into())
        }
        Error::Message { msg, .. } => bad(msg.clone(), ""),
        other => of_the_document(other, spot),
    }
}

/// Refusals of the text as a whole: syntax and bounds.
fn of_the_document(error: &Error, spot: &Surroundings<'_>) -> Words {
    let over = |what: &str| {
        let hint = "aliases, depth and size are bounded so that a file cannot exhaust memory";
        ("over-budget", format!("the document is {what} than allowed"), hint.to_owned())
    };
    let syntax = |message: &str, hint: &str| ("syntax", message.to_owned(), hint.to_owned());
    let text = error.to_string();
    let text = first_line(&text);
    match error {
        Error::Budget { .. } if text.contains("depth") => over("deeper nested"),
        Error::Budget { .. }
        | Error::AliasReplayCounterOverflow { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => over("larger, once its aliases are written out,"),
        Error::ExternalMessage { .. } if text.contains("recursion limit") => over("deeper nested"),
        Error::ExternalMessage { .. } => {
            let known = SYNTAX.iter().find(|(part, _, _)| text.contains(part));
            let other = format!("this is not YAML: {}", text.replace('\'', "`"));
            let hint = "check indentation, brackets and quotes here and one line above";
            known.map_or_else(|| syntax(&other, hint), |(_, message, hint)| syntax(message, hint))
        }
        Error::Eof { .. } => syntax("the file ends too early", "it may have been half written"),
        Error::MultipleDocuments { .. } => {
            syntax("the file holds more than one document", "split it at `---` into a folder of files")
        }
        Error::UnknownAnchor { .. } => {
            syntax("an alias stands here for nothing", "write its `&anchor` above it")
        }
        _ => ("bad-value", spot.about(text), String::new()),
    }
}

/// What the parser says, what it means, and what to do.
const SYNTAX: &[(&str, &str, &str)] = &[
    ("tabs disallowed", "a tab is written where only spaces may indent", "indent with spaces"),
    ("tab cannot", "a tab is written where only spaces may indent", "indent with spaces"),
    ("did not find expected key", "a key is expected here", "the line is indented unlike its neighbours"),
    ("expected '-'", "a list item that begins with `-` is expected here", "check the indentation"),
    (
        "mapping values are not",
        "`key: value` cannot stand here",
        "quote a text that holds `: `, or check the indentation",
    ),
    ("key expected ':'", "a `:` is missing after the key", "write `key: value`, with a space"),
    ("',' or '}'", "a `,` or `}` is missing", "close the `{` before, or quote the text"),
    ("',' or ']'", "a `,` or `]` is missing", "close the `[` before, or quote the text"),
    ("bracket '{' closed", "a `{` is closed by `]`", "close it by `}`"),
    ("bracket '[' closed", "a `[` is closed by `}`", "close it by `]`"),
    ("misplaced bracket", "a closing bracket without an opening one", "remove it"),
    ("unclosed bracket '{'", "unclosed `{`", "close it by `}`"),
    ("unclosed bracket '['", "unclosed `[`", "close it by `]`"),
    ("unclosed quote", "unclosed quote", "close it; the text may have been meant to end a line above"),
    ("trailing content after", "text follows a closing quote", "put all of it between the quotes"),
    ("only valid inside a block", "`-` items cannot stand between brackets", "write `[a, b]`"),
    ("entries are not allowed", "a list cannot begin here", "put it on a line of its own"),
    ("document start", "text follows the end of the document", "indent it, or remove it"),
    ("unexpected E", "the file ends too early", "it may have been half written"),
    ("unexpected e", "the file ends too early", "it may have been half written"),
];

fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.rfind(" at line ").and_then(|cut| line.get(..cut)).unwrap_or(line)
}

/// What an integer type means to somebody who writes a file.
fn number(ty: &str) -> &'static str {
    match ty {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i32" => "a whole number from -2147483648 to 2147483647",
        "i8" | "i16" | "i64" | "isize" => "a whole number",
        "boolean" => "true or false",
        _ => "a number",
    }
}

fn invalid_type(unexpected: &str, expected: &str, spot: &Surroundings<'_>) -> Words {
    if expected.contains("newtype wrapper") {
        return ("bad-value", spot.about("this tag is not understood here"), "remove the tag".into());
    }
    let (kind, value) = unexpected.split_once(' ').unwrap_or((unexpected, ""));
    let found = match kind {
        "unit" => "nothing is written".to_owned(),
        "sequence" | "seq" => "a list is written".to_owned(),
        "map" => "a map is written".to_owned(),
        "string" | "integer" | "boolean" => {
            format!("`{}` is written", value.trim_matches(|one| matches!(one, '`' | '"')))
        }
        _ => format!("{unexpected} is written"),
    };
    ("bad-value", spot.about(&format!("{found}, but {expected} is expected")), String::new())
}

/// The text a place points at and the key it belongs to.
struct Surroundings<'a> {
    /// What is written at the place.
    written: &'a str,
    /// Whether that is a key itself.
    is_key: bool,
    /// The key, when one can be told.
    key: Option<&'a str>,
}

impl<'a> Surroundings<'a> {
    fn of(source: &'a Source, place: &Place) -> Self {
        let nothing = Self { written: "", is_key: false, key: None };
        let Some(row) = place.line.checked_sub(1) else { return nothing };
        let start: usize = source.text.split_inclusive('\n').take(row as usize).map(str::len).sum();
        let Some(line) = source.text.get(start..).and_then(|rest| rest.lines().next()) else {
            return nothing;
        };
        let byte = |column: u32| line.char_indices().nth(column as usize).map_or(line.len(), |(at, _)| at);
        let from = byte(place.column.saturating_sub(1));
        // A value that is not there is placed at the colon before it.
        let from = from + usize::from(line.get(from..).is_some_and(|rest| rest.starts_with(':')));
        let to = byte((place.column.saturating_sub(1)).saturating_add(place.length)).max(from);
        let written = line.get(from..to).unwrap_or_default().trim();
        let after = line.get(to..).unwrap_or_default().trim_start();
        let is_key = !written.is_empty() && (after.starts_with(": ") || after == ":");
        let key = if is_key {
            Some(written)
        } else {
            key_before(source.text.get(..start + from).unwrap_or_default())
        };
        Self { written, is_key, key }
    }

    /// The message with the key in front.
    fn about(&self, message: &str) -> String {
        self.key.map_or_else(|| message.to_owned(), |key| format!("`{key}`: {message}"))
    }

    /// `, not …`, when what is written is worth repeating.
    fn instead(&self) -> String {
        let short = !self.written.is_empty() && self.written.len() <= 40 && !self.is_key;
        let plain = !self.written.starts_with(['[', '{', '-', '|', '>']) || self.written.len() > 1;
        if short && plain { format!(", not `{}`", self.written) } else { String::new() }
    }
}

/// Most characters looked back for a key.
const LOOK_BACK: usize = 4_096;

/// The key whose value begins where `text` ends: on the same level, or the one that opened the
/// list it is in. Good enough for a message; quotes that hold brackets may mislead it.
fn key_before(text: &str) -> Option<&str> {
    let mut end = text.len();
    let mut depth = 0_usize;
    let mut item = false;
    let mut indent: Option<usize> = None;
    for (at, one) in text.char_indices().rev().take(LOOK_BACK) {
        match one {
            ']' | '}' => depth += 1,
            '[' | '{' if depth > 0 => depth -= 1,
            '[' | '{' => item = false,
            ',' if depth == 0 => item = true,
            '\n' if depth == 0 => {
                // Up to a line that is indented less: the owner of the block.
                let own = text.get(at + 1..).unwrap_or_default();
                let here = own.len() - own.trim_start_matches([' ', '-']).len();
                indent = Some(indent.map_or(here, |least| least.min(here)));
                item = true;
                end = at;
                let above = text.get(..at).and_then(|rest| rest.rsplit('\n').next()).unwrap_or_default();
                let outer = above.len() - above.trim_start_matches([' ', '-']).len();
                if above.trim_end().ends_with(':') && (outer < here || own.trim_start().starts_with('-')) {
                    item = false;
                }
            }
            ':' if depth == 0 && !item => {
                let after = text.get(at + 1..end).unwrap_or_default();
                if after.is_empty() || after.starts_with([' ', '\n', '\r']) {
                    return name_before(text.get(..at)?);
                }
            }
            _ => {}
        }
    }
    None
}

fn name_before(text: &str) -> Option<&str> {
    let line = text.rsplit('\n').next().unwrap_or(text);
    let start = line.rfind(['{', '[', ',', ' ']).map_or(0, |at| at + 1);
    line.get(start..).map(|name| name.trim().trim_matches('"')).filter(|name| !name.is_empty())
}

/// What to do about a key that is not expected here: where it belongs, what was meant, what there is.
fn advise(written: &str, expected: &[&str]) -> String {
    let known = Known::new();
    let built = known.built(expected);
    let place = known.place(written, expected);
    let below = place.as_ref().is_some_and(|place| place.starts_with("it belongs under"));
    match place {
        Some(place) if below || near(written, &built).is_none() => place,
        _ => guess(written, &built),
    }
}

/// The name that was most likely meant.
fn near<'a>(written: &str, known: &[&'a str]) -> Option<&'a str> {
    let lower = written.to_ascii_lowercase();
    known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(&lower, &name.to_ascii_lowercase()), *name))
        .min()
        .filter(|(distance, name)| *distance <= 1 + name.len() / 4)
        .map(|(_, name)| name)
}

/// The nearest known name, or the list of them.
#[must_use]
pub fn guess(written: &str, known: &[&str]) -> String {
    match near(written, known) {
        Some(name) => format!("did you mean `{name}`?"),
        None if known.is_empty() => String::new(),
        None => format!("known here: {}", known.join(", ")),
    }
}
