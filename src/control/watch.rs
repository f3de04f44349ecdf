//! The files may have changed: from any event near them to one question to the controller.
//!
//! An event is only ever a suspicion; the controller reads, compares hashes and decides. Folders
//! are watched, not files: editors rename, mounts swap links. It must never read a file itself.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::command::{By, ControlHandle, Expected};
use super::load::Seen;

/// Quiet after which the files are read.
const QUIET: Duration = Duration::from_millis(20);
/// Longest wait for quiet.
const LATEST: Duration = Duration::from_millis(50);
/// Quiet and longest wait while one of our files is open for writing.
const WRITING: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(1));
/// Time between two looks without any event: network file systems send none.
const POLL: Duration = Duration::from_secs(10);

/// What the watcher's thread tells the task.
#[derive(Debug, Default)]
struct Signal {
    changed: Notify,
    /// A file of ours was written to and not closed yet.
    writing: AtomicBool,
}

/// Watches until it is dropped.
pub async fn run(control: ControlHandle, seen: watch::Receiver<Arc<Seen>>) {
    let signal = Arc::new(Signal::default());
    let mut watched = Watched::new(Arc::clone(&signal), seen);
    loop {
        // Something may have happened in a folder before it was watched.
        if watched.follow() {
            control.files_may_have_changed().await;
            continue;
        }
        if timeout_at(Instant::now() + POLL, signal.changed.notified()).await.is_ok() {
            settle(&signal).await;
            control.files_may_have_changed().await;
        } else {
            // A folder may have been removed and made again: all are watched anew.
            watched.folders.clear();
            control.files_may_have_changed().await;
        }
    }
}

/// Reloads on every SIGHUP until it is dropped.
///
/// It listens from the call on: one that comes before its task runs is heard as well.
pub fn hangups(
    control: ControlHandle,
    reloading: fn(Option<bool>),
) -> impl Future<Output = ()> + Send + use<> {
    let kind = tokio::signal::unix::SignalKind::hangup();
    let listening = tokio::signal::unix::signal(kind);
    async move {
        let mut hangups = match listening {
            Ok(hangups) => hangups,
            Err(error) => {
                tracing::error!(%error, "SIGHUP cannot be heard");
                return;
            }
        };
        while hangups.recv().await.is_some() {
            // What was refused is in the report, the log and the metrics.
            reloading(None);
            let done = control.reload(false, By::actor("signal"), Expected::Any).await;
            reloading(Some(done.is_ok()));
        }
    }
}

/// Waits until events have come to rest.
async fn settle(signal: &Signal) {
    let first = Instant::now();
    let mut last = first;
    loop {
        let until = rest_at(first, last, signal.writing.load(Ordering::Relaxed));
        if timeout_at(until, signal.changed.notified()).await.is_err() {
            return;
        }
        last = Instant::now();
        if last >= first + WRITING.1 {
            sleep_until(last).await;
            return;
        }
    }
}

/// When the files are read, given the first and the last event.
fn rest_at(first: Instant, last: Instant, writing: bool) -> Instant {
    let (quiet, latest) = if writing { WRITING } else { (QUIET, LATEST) };
    (last + quiet).min(first + latest)
}

/// The folders being watched and the system's watcher.
struct Watched {
    watcher: Option<RecommendedWatcher>,
    seen: watch::Receiver<Arc<Seen>>,
    folders: Vec<PathBuf>,
}

impl Watched {
    fn new(tell: Arc<Signal>, seen: watch::Receiver<Arc<Seen>>) -> Self {
        let files = seen.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            let concern = match &event {
                Ok(event) => concern(event, &files.borrow().files),
                // An error may mean lost events.
                Err(_) => Concern::Maybe,
            };
            match concern {
                Concern::None => return,
                Concern::Maybe => {}
                Concern::Writing => tell.writing.store(true, Ordering::Relaxed),
                Concern::Written => tell.writing.store(false, Ordering::Relaxed),
            }
            tell.changed.notify_one();
        });
        let watcher = watcher
            .inspect_err(
                |error| tracing::warn!(%error, "files cannot be watched; they are looked at every 10 s"),
            )
            .ok();
        Self { watcher, seen, folders: Vec::new() }
    }

    /// Watches the folders the last load named; true when one of them was not watched before.
    fn follow(&mut self) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let wanted = self.seen.borrow_and_update().folders.clone();
        for gone in self.folders.iter().filter(|folder| !wanted.contains(folder)) {
            // A folder that is gone is no longer watched anyway.
            let _ = watcher.unwatch(gone);
        }
        let fresh: Vec<&PathBuf> = wanted.iter().filter(|folder| !self.folders.contains(folder)).collect();
        for folder in &fresh {
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, folder = %folder.display(), "a folder cannot be watched");
            }
        }
        let followed = !fresh.is_empty();
        self.folders = wanted;
        followed
    }
}

/// What an event means to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Concern {
    /// Nothing: somebody reads, or writes to a file that is not ours.
    None,
    /// The files may have changed.
    Maybe,
    /// A file of ours is being written.
    Writing,
    /// A file of ours was closed after writing.
    Written,
}

/// Only our own files' contents and changes of names concern us; reading never does, or our own
/// look would cause the next.
fn concern(event: &Event, files: &[PathBuf]) -> Concern {
    if event.need_rescan() || event.paths.is_empty() {
        return Concern::Maybe;
    }
    let ours = |path: &PathBuf| files.iter().any(|file| same(file, path)) || looks_like_ours(path);
    match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) if event.paths.iter().any(ours) => {
            Concern::Written
        }
        EventKind::Modify(ModifyKind::Data(_)) if event.paths.iter().any(ours) => Concern::Writing,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_)) => Concern::None,
        _ => Concern::Maybe,
    }
}

/// Events name files through the folder that is watched, so only the name can be compared.
fn same(file: &Path, path: &Path) -> bool {
    file.file_name() == path.file_name()
}

fn looks_like_ours(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "yaml")
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, DataChange, Flag, MetadataKind, RenameMode};

    #[test]
    fn files_are_read_when_events_rest() {
        let first = Instant::now();
        let after = |millis| first + Duration::from_millis(millis);
        let rows = [
            (0, false, 20),
            (10, false, 30),
            (40, false, 50),
            (49, false, 50),
            (0, true, 250),
            (900, true, 1000),
        ];
        for (last, writing, expected) in rows {
            assert_eq!(rest_at(first, after(last), writing), after(expected), "{last} {writing}");
        }
    }

    #[test]
    fn reading_and_other_files_are_no_concern() {
        let files = [PathBuf::from("/etc/app/c.yaml"), PathBuf::from("/etc/app/users.txt")];
        let event = |kind, path: &str| Event::new(kind).add_path(path.into());
        let data = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let close = |mode| EventKind::Access(AccessKind::Close(mode));
        let rows = [
            (event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/etc/app/c.yaml"), Concern::None),
            (event(close(AccessMode::Read), "/etc/app/c.yaml"), Concern::None),
            (event(close(AccessMode::Write), "/etc/app/c.yaml"), Concern::Written),
            (event(data, "/etc/app/c.yaml"), Concern::Writing),
            (event(data, "/etc/app/users.txt"), Concern::Writing),
            (event(data, "/etc/app/new.yaml"), Concern::Writing),
            (event(data, "/etc/app/access.log"), Concern::None),
            (event(close(AccessMode::Write), "/etc/app/access.log"), Concern::None),
            (event(EventKind::Create(CreateKind::Any), "/etc/app/..data"), Concern::Maybe),
            (event(EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/etc/app/..data"), Concern::Maybe),
            (
                event(EventKind::Modify(ModifyKind::Metadata(MetadataKind::Any)), "/etc/app/c.yaml"),
                Concern::Maybe,
            ),
            (Event::new(EventKind::Other).set_flag(Flag::Rescan), Concern::Maybe),
        ];
        for (event, expected) in rows {
            assert_eq!(concern(&event, &files), expected, "{event:?}");
        }
    }
}
