//! What was put back, kept where a full disk can still write it: one small file that never grows.
//!
//! It is allocated at the first start and written in place, two halves in turn, so that a torn write
//! leaves the half before. It is written only while the state file cannot be, read once at the start,
//! and can only take weight away. It must never grow, and never be needed when the disk is well.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh64::xxh64;

use super::regular;
use super::rollouts::Rollouts;
use super::store::Kept;
use crate::rollout::Rollout;
use crate::rollout::state::Phase;

/// File name in the state folder.
pub const FILE: &str = "putback";
/// Bytes of one half.
const HALF: usize = 32 << 10;
/// Most that is read of a file that something made longer, in bytes.
const MAX_READ: u64 = 1 << 20;
/// Number, count and checksum of a half.
const HEAD: usize = 24;
/// Bytes of one mark.
const MARK: usize = 16;
/// Marks that are kept at most; beyond that the state file must be writable again.
pub const MAX_MARKS: usize = (HALF - HEAD) / MARK;

/// Versions that were put back: hash of route and version, and the run in which.
pub type Marks = BTreeMap<u64, u64>;

/// The file, open since the start: a disk that is full may have no descriptor to give either.
#[derive(Debug)]
pub struct PutBack {
    path: PathBuf,
    file: Option<File>,
    number: u64,
    written: Marks,
    /// What the state file says itself.
    known: Marks,
}

/// What a version of a route is known by.
#[must_use]
pub fn mark(route: &str, version: &str) -> u64 {
    xxh64(format!("{route}\0{version}").as_bytes(), 0)
}

/// The marks of everything that was put back and is to stay so, the version under way or one before.
#[must_use]
pub fn marks(rollouts: &Rollouts) -> Marks {
    rollouts.iter().flat_map(|(route, live)| of(route, &live.rollout)).collect()
}

fn of<'a>(route: &'a str, rollout: &'a Rollout) -> impl Iterator<Item = (u64, u64)> + use<'a> {
    let back = matches!(rollout.phase, Phase::Reverting | Phase::Reverted | Phase::Aborted);
    let versions = back.then_some(&rollout.identity.version).into_iter().chain(&rollout.spoiled);
    versions.map(move |version| (mark(route, version), rollout.run))
}

impl PutBack {
    /// Opens the file of a folder, making room for it while there is some, and reads it.
    #[must_use]
    pub fn open(dir: &Path) -> (Self, Marks) {
        let path = dir.join(FILE);
        let read = match regular::read(&path, MAX_READ) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::error!(%error, "{FILE} cannot be read: what a full disk kept from being written is not known");
                Vec::new()
            }
            read => read.unwrap_or_default(),
        };
        let halves = read.chunks(HALF).filter_map(understand);
        let (number, written) = halves.max_by_key(|(number, _)| *number).unwrap_or_default();
        let file = allocated(&path).ok();
        (Self { path, file, number, written: written.clone(), known: Marks::new() }, written)
    }

    /// The state file says this: what it has as put back needs no mark.
    pub fn is_kept(&mut self, kept: &Kept) {
        let here = kept.by_route.iter().flat_map(|(route, known)| of(route, &known.rollout));
        let away = kept.absent.iter().flat_map(|(route, known)| {
            known.spoiled.iter().map(move |version| (mark(route, version), known.run))
        });
        self.known = here.chain(away).collect();
    }

    /// Writes down what was put back and the state file does not say, in the place of what was written
    /// before. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be written, or there was never room for it.
    pub fn mark(&mut self, marks: &Marks) -> io::Result<()> {
        let unsaid = marks.iter().filter(|(mark, _)| !self.known.contains_key(mark));
        self.write(&unsaid.map(|(mark, run)| (*mark, *run)).collect())
    }

    /// Writes down what was put back, in the place of what was written before. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be written, or there was never room for it.
    pub fn write(&mut self, marks: &Marks) -> io::Result<()> {
        if *marks == self.written {
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(allocated(&self.path)?),
        };
        let number = self.number + 1;
        let half = if number.is_multiple_of(2) { 0 } else { HALF as u64 };
        file.write_all_at(&spell(number, marks), half)?;
        file.sync_data()?;
        self.number = number;
        self.written.clone_from(marks);
        Ok(())
    }
}

/// The file with every byte of it on the disk, so that later writes need no room.
fn allocated(path: &Path) -> io::Result<File> {
    let file = regular::open(path, OpenOptions::new().write(true).create(true).truncate(false).mode(0o600))?;
    let length = file.metadata()?.len();
    let missing = (2 * HALF as u64).saturating_sub(length);
    if missing > 0 {
        // Zeros that are written have their blocks; a file that is merely made long has none.
        file.write_all_at(&vec![0; usize::try_from(missing).unwrap_or_default()], length)?;
        file.sync_all()?;
    }
    Ok(file)
}

fn spell(number: u64, marks: &Marks) -> Vec<u8> {
    let mut half = vec![0; HALF];
    let marks = marks.iter().take(MAX_MARKS);
    let count = marks.len() as u64;
    let words = [number, count].into_iter().chain(marks.flat_map(|(mark, run)| [*mark, *run]));
    for (place, word) in half[8..].chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    let sum = xxh64(&half[8..], 0);
    half[..8].copy_from_slice(&sum.to_le_bytes());
    half
}

fn understand(half: &[u8]) -> Option<(u64, Marks)> {
    let mut words = half.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap_or_default()));
    let sum = words.next()?;
    if half.len() != HALF || sum != xxh64(half.get(8..)?, 0) {
        return None;
    }
    let (number, count) = (words.next()?, usize::try_from(words.next()?).ok()?);
    let mut marks = Marks::new();
    for _ in 0..count.min(MAX_MARKS) {
        marks.insert(words.next()?, words.next()?);
    }
    Some((number, marks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_last_and_whole_is_read() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mut file, marks) = PutBack::open(dir.path());
        assert_eq!(marks, Marks::new());
        let all: Vec<Marks> = (1..5_u64).map(|run| [(mark("all", "v2"), run), (7, 7)].into()).collect();
        for marks in &all {
            file.write(marks).expect("written");
            assert_eq!(PutBack::open(dir.path()).1, *marks);
        }
        let path = dir.path().join(FILE);
        let mut bytes = std::fs::read(&path).expect("a file");
        assert_eq!(bytes.len(), 2 * HALF, "it never grows");
        // The newest half is torn: the one before it holds.
        bytes[HEAD + 1] ^= 1;
        std::fs::write(&path, &bytes).expect("written");
        assert_eq!(PutBack::open(dir.path()).1, all[2]);
        let many: Marks = (0..2 * MAX_MARKS as u64).map(|mark| (mark, 1)).collect();
        let (mut file, _) = PutBack::open(dir.path());
        file.write(&many).expect("written");
        assert_eq!(PutBack::open(dir.path()).1.len(), MAX_MARKS);
        std::fs::write(&path, "garbage").expect("written");
        assert_eq!(PutBack::open(dir.path()).1, Marks::new());
    }
}
