//! Configurations that were in force before, and the way back to one of them.
//!
//! At three in the morning the file is somebody else's and the pipeline that writes it is red: what
//! served an hour ago must be one word away. The file is never touched; what was gone back to serves
//! until the file's content changes or it is loaded on purpose, over a restart as well. It must never
//! bring back rollout steps or weights set by hand: those are no part of the text.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::command::{By, Expected, ReloadDone};
use super::controller::{Controller, blocking};
use super::load::{self, Loaded, Seen};
use super::order::{self, Direction};
use super::refusal::{Refusal, RefusalKind, mismatch};
use super::report::Report;
use super::store::Store;
use crate::ledger::Book;
use crate::model::time::UnixMillis;
use crate::model::{Diagnostic, Generation, Overlay};
use crate::plan::{Inputs, compile};
use crate::spec::{self, Source};

/// Configurations kept at most, the one in force among them.
pub const MAX_KEPT: usize = 20;
/// Bytes of text and lists kept at most; the one in force and the one before are kept whatever they have.
pub const MAX_BYTES: usize = 32 << 20;
/// Sentences kept of what one changed.
const MAX_CHANGES: usize = 20;
/// File in the state folder that names what was gone back to.
const FILE: &str = "rolledback.json";
/// Version of its layout.
const SCHEMA: u64 = 1;

/// One configuration that is or was in force, for whoever shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Generation with which it came into force.
    pub generation: Generation,
    /// When.
    pub at: UnixMillis,
    /// Who loaded it.
    pub actor: String,
    /// Why, when said.
    pub reason: String,
    /// Generation it was brought back from.
    pub back_to: Option<Generation>,
    /// What it changed, a sentence each.
    pub changes: Vec<String>,
}

/// What was in force, oldest first; the last is in force now.
#[derive(Debug, Default)]
pub struct Earlier(VecDeque<(Entry, Arc<Loaded>)>);

impl Earlier {
    /// Beginning with what the process started with.
    #[must_use]
    pub fn new(first: Entry, loaded: Arc<Loaded>) -> Self {
        Self([(first, loaded)].into())
    }

    /// Another one came into force.
    pub fn add(&mut self, mut entry: Entry, loaded: Arc<Loaded>) {
        entry.changes.truncate(MAX_CHANGES);
        self.0.push_back((entry, loaded));
        while self.0.len() > MAX_KEPT || self.0.len() > 2 && self.bytes() > MAX_BYTES {
            self.0.pop_front();
        }
    }

    /// What is known, oldest first.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.0.iter().map(|(entry, _)| entry.clone()).collect()
    }

    /// What was in force at this generation.
    fn at(&self, generation: Generation) -> Option<(Generation, Arc<Loaded>)> {
        let (entry, loaded) = self.0.iter().rev().find(|(entry, _)| entry.generation <= generation)?;
        Some((entry.generation, Arc::clone(loaded)))
    }

    fn bytes(&self) -> usize {
        self.0.iter().map(|(_, loaded)| size(loaded)).sum()
    }
}

fn size(loaded: &Loaded) -> usize {
    let texts = loaded.spec.files.iter().map(|(source, _)| source.text.len());
    texts.chain(loaded.lists.values().filter_map(|list| list.as_ref().ok()).map(String::len)).sum()
}

/// What was gone back to, as the state folder has it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    /// Hash of the content of the files that are not served.
    instead_of: u64,
    hash: u64,
    generation: u64,
    files: Vec<(String, String)>,
}

/// The earlier text, where a start finds the very files that were gone back from.
pub(super) fn recalled(dir: &Path, path: &Path, loaded: Box<Loaded>, now: UnixMillis) -> Box<Loaded> {
    let known = match Store::at(dir).recall::<Remembered>(FILE, SCHEMA, now) {
        Ok(Some(known)) if known.instead_of == loaded.seen.hash => known,
        Ok(_) => return loaded,
        Err(why) => {
            tracing::warn!("{why}; the file is served");
            return loaded;
        }
    };
    match again(path, &loaded, known, now) {
        Ok(earlier) => Box::new(earlier),
        Err(why) => {
            tracing::error!("the configuration that was gone back to cannot be served, the file is: {why}");
            loaded
        }
    }
}

fn again(path: &Path, file: &Loaded, known: Remembered, now: UnixMillis) -> Result<Loaded, String> {
    let sources = known.files.into_iter().map(|(name, text)| Source { name, text }).collect();
    let spec = spec::parse(sources).map_err(|why| why.to_string())?;
    let lists = load::read_lists(&load::base(path), &spec.list_files());
    let (env, overlay, now) = (Arc::clone(&file.env), Overlay::default(), now.seconds());
    let listeners = spec.files.iter().map(|(_, file)| file.listeners.len()).sum();
    let book = Book::new(1, listeners);
    let inputs =
        Inputs { spec: &spec, lists: &lists, env: &env, overlay: &overlay, book: &book, previous: None, now };
    compile(inputs).map_err(|found| found.first().map(ToString::to_string).unwrap_or_default())?;
    let seen = Seen { hash: known.hash, ..file.seen.clone() };
    let warnings = vec![told(Generation(known.generation))];
    Ok(Loaded { spec, lists, env, seen, warnings, instead_of: Some(file.seen.clone()) })
}

/// Writes down what is served instead of the file, or that the file is. Waits for the disk.
fn remember(dir: &Path, generation: Generation, loaded: &Loaded) -> io::Result<()> {
    let Some(file) = &loaded.instead_of else {
        return match fs::remove_file(dir.join(FILE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
    };
    let files = loaded.spec.files.iter().map(|(source, _)| (source.name.clone(), source.text.clone()));
    let known = Remembered {
        instead_of: file.hash,
        hash: loaded.seen.hash,
        generation: generation.0,
        files: files.collect(),
    };
    Store::at(dir).keep(FILE, SCHEMA, &serde_json::to_value(&known).map_err(io::Error::other)?)
}

fn told(generation: Generation) -> Diagnostic {
    let message = format!("the configuration of generation {generation} serves instead of the file");
    let hint = "edit the file, or load it on purpose with `switchback reload`";
    Diagnostic::error("rolled-back", message).hint(hint).warning()
}

impl Controller {
    /// Serves what was in force at an earlier generation.
    pub(super) async fn roll_back(
        &mut self,
        generation: Generation,
        by: By,
        expected: Expected,
    ) -> Result<ReloadDone, Refusal> {
        let present = self.publisher.current().generation;
        order::check(Direction::TowardCanary, expected, present).map_err(|found| mismatch(found, present))?;
        let known = Some(generation).filter(|generation| *generation <= present);
        let Some((generation, earlier)) = known.and_then(|generation| self.earlier.at(generation)) else {
            let known: Vec<String> =
                self.earlier.entries().iter().map(|entry| entry.generation.to_string()).collect();
            let message = format!("no configuration of generation {generation} is known");
            let hint = format!("known are those of {}; `switchback config history`", known.join(", "));
            return Err(Refusal::new(RefusalKind::NotFound, "unknown-generation", message)
                .hint(hint)
                .generation(present));
        };
        let file = Seen::clone(&self.seen.borrow());
        let mut warnings = earlier.warnings.clone();
        warnings.retain(|warning| warning.code != "rolled-back");
        let (seen, instead_of) =
            if file.hash == earlier.seen.hash { (file, None) } else { (earlier.seen.clone(), Some(file)) };
        if instead_of.is_some() {
            warnings.push(told(generation));
        }
        let Loaded { spec, lists, env, .. } = Loaded::clone(&earlier);
        let again = Loaded { spec, lists, env, seen, warnings, instead_of };
        self.load(false, Arc::new(again), by, Some(generation)).await
    }

    /// A configuration came into force: it can be gone back to, and whether it is the file's is
    /// written down.
    pub(super) async fn came_into_force(&mut self, entry: Entry) {
        let generation = entry.back_to.unwrap_or(entry.generation);
        self.earlier.add(entry, Arc::clone(&self.loaded));
        let mut report = Report::clone(&self.report.load());
        report.earlier = self.earlier.entries().into();
        self.report.store(Arc::new(report));
        self.write_down(generation).await;
    }

    /// Writes down whether the file is served.
    pub(super) async fn write_down(&self, generation: Generation) {
        let (dir, loaded) = (self.state_dir.clone(), Arc::clone(&self.loaded));
        let written = blocking(move || remember(&dir, generation, &loaded)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "whether the file is served cannot be written down: a restart serves the file");
        }
    }
}
