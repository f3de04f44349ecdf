//! Follows the files of certificates: from any change near them to a look, from a look to a swap.
//!
//! Folders are watched, not files, because renewers rename and mounts swap links. It must never end a
//! connection: whoever has one keeps what was agreed on.

use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::certs::{Certificates, Look, folders};
use crate::control::Health;
use crate::model::Generation;
use crate::model::time::Clock;

/// Quiet after which the files are read.
const QUIET: Duration = Duration::from_millis(50);
/// Longest wait for quiet, in quiets.
const MAX_QUIETS: usize = 20;
/// How long files that cannot be used are given to become a pair before that is told: a certificate and
/// its key are two files, and come one after the other.
const SETTLE: Duration = Duration::from_secs(3);
/// Looks in that time.
const SETTLE_LOOKS: u32 = 12;
/// Time between two looks without any event: network file systems send none.
const POLL: Duration = Duration::from_secs(10);
/// The same while something is wrong.
const AGAIN: Duration = Duration::from_secs(2);
/// Most folders watched.
const MAX_FOLDERS: usize = 1_024;

/// Names of the files that are read.
type Names = Arc<Mutex<Vec<OsString>>>;

/// Watches until it is dropped.
pub async fn run(
    certificates: Arc<Certificates>,
    health: Arc<Health>,
    clock: Arc<dyn Clock>,
    mut published: watch::Receiver<Generation>,
) {
    let (changed, names) = (Arc::new(Notify::new()), Names::default());
    let mut watched = Watched::new(Arc::clone(&changed), Arc::clone(&names));
    let mut told = Look::default();
    loop {
        watched.follow(&certificates.files(), &names);
        let mut found = look(&certificates, &clock, false).await;
        for turn in 1..=SETTLE_LOOKS {
            if found.troubles.iter().all(|one| told.troubles.contains(one)) {
                break;
            }
            sleep(SETTLE / SETTLE_LOOKS).await;
            let again = look(&certificates, &clock, turn == SETTLE_LOOKS).await;
            found = Look { swapped: [found.swapped, again.swapped].concat(), troubles: again.troubles };
        }
        tell(&found, &told, &health);
        told = found;
        let pause = if told.troubles.is_empty() { POLL } else { AGAIN };
        tokio::select! {
            _ = timeout(pause, changed.notified()) => {}
            more = published.changed() => if more.is_err() { return },
        }
        for _ in 0..MAX_QUIETS {
            if timeout(QUIET, changed.notified()).await.is_err() {
                break;
            }
        }
    }
}

async fn look(certificates: &Arc<Certificates>, clock: &Arc<dyn Clock>, settled: bool) -> Look {
    let (certificates, now) = (Arc::clone(certificates), clock.now().seconds());
    tokio::task::spawn_blocking(move || certificates.look(now, settled)).await.unwrap_or_default()
}

/// Says what is new.
fn tell(found: &Look, told: &Look, health: &Health) {
    for file in &found.swapped {
        tracing::info!(file, "the certificate was replaced");
    }
    for trouble in found.troubles.iter().filter(|one| !told.troubles.contains(one)) {
        tracing::error!("a changed certificate is not taken, the one before serves on: {trouble}");
    }
    match found.troubles.first() {
        None => health.unset("certificates"),
        Some(first) => {
            let more = found.troubles.len() - 1;
            let rest = if more == 0 { String::new() } else { format!("; and {more} more") };
            health.set("certificates", format!("serving the ones before: {first}{rest}"));
        }
    }
}

struct Watched {
    watcher: Option<RecommendedWatcher>,
    folders: Vec<PathBuf>,
}

impl Watched {
    fn new(changed: Arc<Notify>, names: Names) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            if event.as_ref().map_or(true, |event| concerns(event, &names)) {
                changed.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "certificates cannot be watched; they are looked at every 10 s");
        });
        Self { watcher: watcher.ok(), folders: Vec::new() }
    }

    fn follow(&mut self, files: &[PathBuf], names: &Names) {
        let own = files.iter().filter_map(|file| file.file_name()).map(OsString::from).collect();
        *names.lock().unwrap_or_else(PoisonError::into_inner) = own;
        let Some(watcher) = &mut self.watcher else { return };
        let mut wanted = folders(files);
        wanted.truncate(MAX_FOLDERS);
        for gone in self.folders.iter().filter(|folder| !wanted.contains(folder)) {
            // A folder that is gone is no longer watched anyway.
            let _ = watcher.unwatch(gone);
        }
        for fresh in wanted.iter().filter(|folder| !self.folders.contains(folder)) {
            if let Err(error) = watcher.watch(fresh, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %fresh.display(), "a folder cannot be watched");
            }
        }
        self.folders = wanted;
    }
}

/// Contents concern us of our own files alone, changes of names always; reading never does, or our own
/// look would cause the next.
fn concerns(event: &Event, names: &Names) -> bool {
    let ours = || {
        let names = names.lock().unwrap_or_else(PoisonError::into_inner);
        event.paths.iter().filter_map(|path| path.file_name()).any(|name| names.iter().any(|one| one == name))
    };
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) | EventKind::Modify(ModifyKind::Data(_)) => {
            ours()
        }
        EventKind::Access(_) => false,
        _ => true,
    }
}
