//! One process owns a state folder: two that share one would each forget what the other was told.
//!
//! Ownership is a lock of the system's on a file in the folder (flock(2)), so it ends with the process
//! however that ends. It must never keep a process from starting for another reason than another owner.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

/// The file that is locked; it holds the number of the process.
const FILE: &str = "owner.lock";
/// Most that is read of it.
const MOST: u64 = 32;
/// Between two tries to take over from a process that is being replaced.
const AGAIN: Duration = Duration::from_millis(500);

/// Ownership of a folder; it ends with this.
#[derive(Debug)]
pub struct Owner {
    dir: PathBuf,
    /// `None` where the folder cannot be written or has no locks.
    file: Option<Arc<File>>,
}

impl Owner {
    /// Takes a folder.
    ///
    /// # Errors
    /// When another process owns it: what to tell the operator.
    pub fn of(dir: &Path) -> Result<Self, String> {
        let owned = |file| Self { dir: dir.to_owned(), file };
        let Some(file) = open(dir) else { return Ok(owned(None)) };
        if flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(Errno::WOULDBLOCK) {
            return Err(format!(
                "the state folder {} belongs to {}: give each process a `stateDir` of its own",
                dir.display(),
                told(&file)
            ));
        }
        sign(&file);
        Ok(owned(Some(Arc::new(file))))
    }

    /// Takes a folder as soon as the process lets go of it that this one replaces.
    #[must_use]
    pub fn after_another(dir: &Path) -> Self {
        let owned = |file| Self { dir: dir.to_owned(), file };
        let Some(file) = open(dir).map(Arc::new) else { return owned(None) };
        let waiting = Arc::downgrade(&file);
        tokio::spawn(async move {
            while let Some(file) = waiting.upgrade() {
                if flock(&*file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK) {
                    sign(&file);
                    return;
                }
                drop(file);
                tokio::time::sleep(AGAIN).await;
            }
        });
        owned(Some(file))
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Lets go of it for whoever comes next.
    pub fn leave(&mut self) {
        if let Some(file) = self.file.take() {
            // It ends with the file at the latest.
            let _ = flock(&*file, FlockOperation::Unlock);
        }
    }
}

fn open(dir: &Path) -> Option<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true).mode(0o600);
    options.open(dir.join(FILE)).ok()
}

/// Notes whose it is; without it the folder is owned all the same.
fn sign(mut file: &File) {
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
}

fn told(file: &File) -> String {
    let mut text = String::new();
    let known = file.take(MOST).read_to_string(&mut text).is_ok() && !text.trim().is_empty();
    if known { format!("process {}", text.trim()) } else { "another process".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_who_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = Owner::of(dir.path()).unwrap();
        let why = Owner::of(dir.path()).unwrap_err();
        assert!(why.contains(&format!("process {}:", std::process::id())), "{why}");
        first.leave();
        let second = Owner::of(dir.path()).unwrap();
        assert!(Owner::of(dir.path()).is_err());
        drop(second);
        assert!(Owner::of(dir.path()).is_ok());
    }

    #[test]
    fn a_folder_that_cannot_be_written_keeps_nobody_from_starting() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Owner::of(&dir.path().join("gone")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_replaces_another_owns_it_after_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let mut old = Owner::of(dir.path()).unwrap();
        let new = Owner::after_another(dir.path());
        old.leave();
        tokio::time::sleep(2 * AGAIN).await;
        drop(old);
        assert!(Owner::of(dir.path()).is_err());
        drop(new);
        assert!(Owner::of(dir.path()).is_ok());
    }
}
