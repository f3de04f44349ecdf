//! Files to a plan, for verbs that need no running proxy: the same steps as a start, nothing bound.
//!
//! It must never write, and never read more of a file than its bound.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::logged;
use crate::analysis::unknown_zones;
use crate::certs::Certificates;
use crate::ledger::Book;
use crate::model::{Diagnostic, Overlay, Place, Severity};
use crate::plan::{Compiled, Inputs, Lists, compile};
use crate::spec::parse::MAX_FILE_BYTES;
use crate::spec::{self, Source, Spec};

/// Largest list file in bytes.
const MAX_LIST_BYTES: usize = 64 << 20;
/// Most files of one configuration folder.
const MAX_FILES: usize = 1_000;
/// The path that is standard input and no file; relative paths start from the working folder then.
const STDIN: &str = "-";
/// Listeners the book of a plan that is never served has room for.
const LISTENERS: usize = 64;

/// A configuration that compiled, with the text its warnings quote.
#[derive(Debug)]
pub struct Opened {
    /// The plan and its warnings.
    pub compiled: Compiled,
    /// The files it was made of.
    pub sources: Vec<Source>,
}

/// A configuration that did not.
#[derive(Debug)]
pub struct Failed {
    /// Every finding.
    pub findings: Vec<Diagnostic>,
    /// The files, as far as they were read.
    pub sources: Vec<Source>,
    /// Whether nothing could be read at all.
    pub unreadable: bool,
}

/// Reads and compiles a file, a folder of `*.yaml` files, or standard input.
///
/// # Errors
/// What cannot be read, every error of shape, or every error of meaning.
pub fn open(path: &Path) -> Result<Opened, Failed> {
    let (spec, sources) = parse(path)?;
    let lists = read_lists(&base(path), &spec.list_files());
    let variables = std::env::vars_os();
    let env =
        variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    let inputs = Inputs {
        spec: &spec,
        lists: &lists,
        env: &env.collect(),
        overlay: &Overlay::default(),
        book: &Book::new(1, LISTENERS),
        previous: None,
        now: now(),
    };
    let (mut refused, mut warnings) = (unknown_zones(&spec, knows_zone), missing_secrets(&base(path), &spec));
    warnings.extend(logged::unwritable(&base(path), &spec));
    for one in certificates(&base(path), &spec) {
        if one.severity == Severity::Warning { warnings.push(one) } else { refused.push(one) }
    }
    match compile(inputs) {
        Ok(mut compiled) if refused.is_empty() => {
            compiled.warnings.extend(warnings);
            Ok(Opened { compiled, sources })
        }
        Ok(_) => Err(Failed { findings: refused, sources, unreadable: false }),
        Err(mut findings) => {
            findings.extend(refused);
            Err(Failed { findings, sources, unreadable: false })
        }
    }
}

/// What a start would find wrong with the certificates that listeners serve.
fn certificates(base: &Path, spec: &Spec) -> Vec<Diagnostic> {
    match Certificates::new(base.to_owned()) {
        Ok(certificates) => certificates.prepare(spec, now()),
        Err(why) => vec![Diagnostic::error("unusable-certificate", why)],
    }
}

/// A warning for every secret that a load here could not read; what it says is not looked at.
fn missing_secrets(base: &Path, spec: &Spec) -> Vec<Diagnostic> {
    let found = spec.secret_files().into_iter().filter_map(|(at, written)| {
        let path = base.join(&written.value);
        let why = match fs::metadata(&path) {
            Err(error) => plain(&error),
            Ok(data) if !data.is_file() => "it is not a regular file".to_owned(),
            Ok(data) if data.len() == 0 => "it is empty".to_owned(),
            Ok(_) => plain(&File::open(&path).err()?),
        };
        Some(spec.unreadable_secret(at, written, &why))
    });
    found.collect()
}

/// Whether this machine knows a time zone.
fn knows_zone(zone: &str) -> bool {
    jiff::tz::TimeZone::get(zone).is_ok_and(|zone| !zone.is_unknown())
}

/// Reads and parses without compiling: blocks that are read but not served yet are in it.
///
/// # Errors
/// What cannot be read, or every error of shape.
pub fn parse(path: &Path) -> Result<(Spec, Vec<Source>), Failed> {
    let sources = read(path)?;
    match spec::parse_every(sources.clone()) {
        Ok(spec) => Ok((spec, sources)),
        Err(findings) => Err(Failed { findings, sources, unreadable: false }),
    }
}

/// The present moment in Unix seconds.
#[must_use]
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

fn unreadable(path: &Path, why: &dyn std::fmt::Display) -> Failed {
    let place = Place { file: path.display().to_string(), ..Place::default() };
    let finding = Diagnostic::error("unreadable", format!("cannot read {}: {why}", path.display()));
    Failed { findings: vec![finding.at(place)], sources: Vec::new(), unreadable: true }
}

/// The folder that relative paths in a configuration start from.
fn base(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { path.parent().map(Path::to_owned).unwrap_or_default() }
}

fn read(path: &Path) -> Result<Vec<Source>, Failed> {
    if path == Path::new(STDIN) {
        let text = text_from(io::stdin().lock(), MAX_FILE_BYTES + 1);
        let text = text.map_err(|why| unreadable(Path::new("standard input"), &why))?;
        return Ok(vec![Source { name: "<stdin>".to_owned(), text }]);
    }
    let names = if path.is_dir() { folder(path)? } else { vec![path.to_owned()] };
    let source = |name: &PathBuf| -> Result<Source, Failed> {
        // One byte more than allowed, so that the parser sees that it is too large.
        let text = text_of(name, MAX_FILE_BYTES + 1).map_err(|why| unreadable(name, &why))?;
        Ok(Source { name: name.display().to_string(), text })
    };
    names.iter().map(source).collect()
}

/// The `*.yaml` files of a folder in name order; hidden ones are an editor's or a mount's.
fn folder(path: &Path) -> Result<Vec<PathBuf>, Failed> {
    let entries = fs::read_dir(path).map_err(|why| unreadable(path, &why))?;
    let wanted = |path: &PathBuf| {
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        !hidden && path.extension().is_some_and(|end| end == "yaml") && path.is_file()
    };
    let mut names: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(wanted).take(MAX_FILES + 1).collect();
    if names.is_empty() {
        return Err(unreadable(path, &"the folder has no *.yaml file"));
    }
    if names.len() > MAX_FILES {
        return Err(unreadable(path, &format!("the folder has more than {MAX_FILES} *.yaml files")));
    }
    names.sort();
    Ok(names)
}

fn read_lists(base: &Path, names: &[String]) -> Lists {
    let read = |name: &String| {
        let text = text_of(&base.join(name), MAX_LIST_BYTES + 1).and_then(|text| {
            if text.len() > MAX_LIST_BYTES {
                return Err(format!("it has more than {MAX_LIST_BYTES} bytes"));
            }
            Ok(text)
        });
        (name.clone(), text)
    };
    names.iter().map(read).collect::<BTreeMap<_, _>>()
}

/// Text of a file, cut off at `limit` bytes. Errors are for the operator.
fn text_of(path: &Path, limit: usize) -> Result<String, String> {
    text_from(File::open(path).map_err(|why| plain(&why))?, limit)
}

/// The same of anything that can be read.
fn text_from(file: impl Read, limit: usize) -> Result<String, String> {
    let mut bytes = Vec::new();
    file.take(limit as u64).read_to_end(&mut bytes).map_err(|why| plain(&why))?;
    let cut = bytes.len() >= limit;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text),
        // A character may have been cut in half.
        Err(error) if cut => Ok(String::from_utf8_lossy(error.as_bytes()).into_owned()),
        Err(error) => Err(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to())),
    }
}

/// The system's words without its error number.
pub(super) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    text.get(..end).unwrap_or(&text).to_ascii_lowercase()
}
