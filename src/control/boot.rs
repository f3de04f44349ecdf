//! From a path to a plan in force, before anything is bound or spawned.
//!
//! It exists so that a start and a reload take the same steps. It must never open a socket.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::audit::{HISTORY, Journal};
use super::certified;
use super::earlier;
use super::load::{self, Env, Loaded, Look};
use super::order;
use super::publisher::Publisher;
use super::rollouts::live::{Remembered, guided};
use super::rollouts::report::Line;
use super::store::{Kept, Opened, Store};
use super::witness;
use super::writer::Disk;
use crate::certs::Certificates;
use crate::ledger::Book;
use crate::model::time::UnixMillis;
use crate::model::{Diagnostic, Guided, Overlay};
use crate::plan::{Inputs, Plan, Process, compile};
use crate::spec::{Source, Spec};

/// Everything a process needs to bind and spawn.
#[derive(Debug)]
pub struct Booted {
    /// Puts plans in force; goes to the controller.
    pub publisher: Publisher,
    /// Live cells.
    pub book: Arc<Book>,
    /// Certificates of listeners, read.
    pub certificates: Arc<Certificates>,
    /// What somebody should look at, already in order.
    pub warnings: Vec<Diagnostic>,
    /// Folder of the state.
    pub state_dir: PathBuf,
    pub(super) path: PathBuf,
    pub(super) loaded: Arc<Loaded>,
    pub(super) overlay: Overlay,
    pub(super) ended: Vec<String>,
    pub(super) state: Opened,
    /// Rollouts as they were.
    pub(super) kept: Kept,
    /// Why they are not known.
    pub(super) lost: Option<String>,
    /// What rollouts decided, oldest first.
    pub(super) history: Vec<Line>,
    /// What of it cannot be read.
    pub(super) journal: Option<String>,
    /// Where what is remembered goes.
    pub(super) disk: Box<dyn Disk>,
}

impl Booted {
    /// The plan in force.
    #[must_use]
    pub fn plan(&self) -> Arc<Plan> {
        self.publisher.current()
    }

    /// The files, for drawing findings.
    #[must_use]
    pub fn sources(&self) -> Vec<Source> {
        self.loaded.spec.files.iter().map(|(source, _)| source.clone()).collect()
    }
}

/// A start that was refused.
#[derive(Debug)]
pub struct Refused {
    /// Why.
    pub diagnostics: Vec<Diagnostic>,
    /// The files as far as they were read, for drawing them.
    pub sources: Vec<Source>,
}

/// Loads, recalls run-time intent and compiles. `workers` turns the configured number (0 is "as
/// many as there are") into the real one.
///
/// # Errors
/// Every finding when there is no configuration to start with.
pub fn boot(
    path: &Path,
    env: &Env,
    workers: impl FnOnce(u16) -> usize,
    now: UnixMillis,
) -> Result<Booted, Box<Refused>> {
    let file = read(path, env)?;
    let loaded = earlier::recalled(&state_dir(&file.spec, env, path), path, file, now);
    let book = Arc::new(book(&loaded, workers));
    let state_dir = state_dir(&loaded.spec, env, path);
    let compile_with = |overlay: &Overlay| {
        let (spec, lists, now) = (&loaded.spec, &loaded.lists, now.seconds());
        compile(Inputs { spec, lists, env, overlay, book: &book, previous: None, now })
    };
    let refused = |diagnostics| {
        let sources = loaded.spec.files.iter().map(|(source, _)| source.clone()).collect();
        Box::new(Refused { diagnostics, sources })
    };
    // A configuration that is refused leaves no trace on the disk, so the folder is opened after.
    let mut compiled = compile_with(&Overlay::default()).map_err(refused)?;
    let first = certified::first(&loaded.spec, load::base(path), &compiled.plan, now);
    let (certificates, expired) = first.map_err(refused)?;
    let mut state = Store::open(&state_dir, now);
    let (history, journal) = Journal::new(Some(state_dir.clone()), HISTORY).read::<Line>();
    if let Some(why) = &journal {
        tracing::warn!("what rollouts decided before is not all known: {why}");
    }
    let mut overlay = state.overlay.clone();
    // What is not understood does not make forgotten what was put back.
    let (mut kept, lost) = match std::mem::replace(&mut state.rollouts, Ok(Kept::default())) {
        Ok(kept) => (kept, None),
        Err(why) => (Kept::default(), Some(why)),
    };
    witness::believe(&mut kept, &mut state.marks, &history);
    witness::recall_put_back(&mut kept, &history);
    kept.sort_out(&compiled.plan, now);
    let known = kept.by_route.iter();
    overlay.guided =
        known.map(|(route, one)| (route.clone(), guided_by(&compiled.plan, route, one))).collect();
    // What is counted before the controller runs has no epoch to belong to.
    overlay.guided.values_mut().for_each(|guide| guide.compared = None);
    if overlay != Overlay::default() {
        compiled = compile_with(&overlay).map_err(refused)?;
    }
    let fingerprints: BTreeMap<&str, u64> =
        compiled.plan.routes.iter().map(|route| (&*route.name, route.split_fingerprint)).collect();
    let ended = order::drop_stale(&mut overlay, |name| fingerprints.get(name).copied());
    let mut warnings = loaded.warnings.clone();
    warnings.extend(compiled.warnings);
    warnings.extend(expired);
    Ok(Booted {
        publisher: Publisher::new(compiled.plan),
        book,
        certificates,
        warnings,
        state_dir,
        path: path.to_owned(),
        loaded: Arc::new(*loaded),
        overlay,
        ended,
        disk: Box::new(state.store.clone()),
        state,
        kept,
        lost,
        history,
        journal,
    })
}

/// Loads and compiles as [`boot`] does, without a look at the state: whether a start would go well. Gives
/// the plan and the number of workers.
///
/// # Errors
/// Every finding when there is no configuration to start with.
pub fn rehearse(
    path: &Path,
    env: &Env,
    workers: impl FnOnce(u16) -> usize,
    now: UnixMillis,
) -> Result<(Plan, usize), Box<Refused>> {
    let loaded = read(path, env)?;
    let book = Arc::new(book(&loaded, workers));
    let (spec, lists, overlay, now) = (&loaded.spec, &loaded.lists, &Overlay::default(), now.seconds());
    let compiled = compile(Inputs { spec, lists, env, overlay, book: &book, previous: None, now });
    let refused = |diagnostics| {
        let sources = loaded.spec.files.iter().map(|(source, _)| source.clone()).collect();
        Box::new(Refused { diagnostics, sources })
    };
    compiled.map(|compiled| (compiled.plan, book.workers())).map_err(refused)
}

/// A book for the workers and listeners of a file, with hashes that no other process has.
fn book(loaded: &Loaded, workers: impl FnOnce(u16) -> usize) -> Book {
    let listeners = loaded.spec.files.iter().map(|(_, file)| file.listeners.len()).sum();
    let written = loaded.spec.files.iter().find_map(|(_, file)| file.workers.as_ref());
    Book::new(workers(written.map_or(0, |spot| spot.value)), listeners).seeded(fastrand::u64(..))
}

fn read(path: &Path, env: &Env) -> Result<Box<Loaded>, Box<Refused>> {
    match load::look(path, env, None, SystemTime::now()) {
        Look::Loaded(loaded) => Ok(loaded),
        Look::Failed(failed) => {
            Err(Box::new(Refused { diagnostics: failed.diagnostics, sources: failed.sources }))
        }
        Look::Same => Err(Box::new(Refused { diagnostics: Vec::new(), sources: Vec::new() })),
    }
}

/// What a remembered rollout says of its route before the controller runs.
fn guided_by(plan: &Plan, route: &str, known: &Remembered) -> Guided {
    let policy = plan.route_named(route).and_then(|route| route.policy.clone()).unwrap_or_default();
    guided(&known.rollout, &policy, known.epoch, 0)
}

/// `stateDir`, else `$STATE_DIRECTORY`, else `.switchback` beside the configuration.
fn state_dir(spec: &Spec, env: &BTreeMap<String, String>, path: &Path) -> PathBuf {
    let beside = if path.is_dir() { path.to_owned() } else { load::parent(path) };
    let written = spec.files.iter().filter_map(|(_, file)| file.state_dir.as_ref());
    if let Some(written) = written.map(|spot| spot.as_str()).find(|dir| !dir.is_empty()) {
        // As every path in a file, it is meant from the file's own folder.
        return beside.join(written);
    }
    // systemd separates several by a colon; the first is ours.
    let given = env.get("STATE_DIRECTORY").and_then(|dirs| dirs.split(':').next());
    given.filter(|dir| !dir.is_empty()).map_or_else(|| beside.join(".switchback"), PathBuf::from)
}

/// Settings that were edited but take effect at the next start only.
pub(super) fn needs_restart(started_with: &Process, now: &Process) -> Option<Diagnostic> {
    let edited = now.restarts(started_with);
    let message = format!("{} changed; that takes effect at the next start", edited.join(", "));
    let finding = Diagnostic::error("needs-restart", message).warning();
    (!edited.is_empty()).then(|| finding.hint("restart when it suits; everything else is in force now"))
}
