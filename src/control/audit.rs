//! Journals: who changed what, when and why, one JSON line each, never rewritten.
//!
//! Each is bounded by one rotation. It must never hold a secret, and a journal that cannot be written must
//! never stop a change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::regular;

/// Who changed what.
pub const AUDIT: &str = "audit";
/// What rollouts decided.
pub const HISTORY: &str = "history";
/// Size at which the journal is rotated, in bytes.
const MAX_BYTES: u64 = 8 << 20;
/// Largest journal that is read, in bytes: something else wrote what is larger.
const MAX_READ: u64 = 64 << 20;

/// One entry.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Entry {
    /// Wall-clock milliseconds since the Unix epoch.
    pub at: u64,
    /// Who.
    pub actor: String,
    /// Why.
    pub reason: String,
    /// What was done: `reload`, `reload-refused`, `weights`, `weights-reset`, `weights-ended`, `start`.
    pub what: &'static str,
    /// Route it concerns; empty for the rest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub route: String,
    /// How it was.
    pub before: serde_json::Value,
    /// How it is.
    pub after: serde_json::Value,
    /// Generation of the configuration after it.
    pub generation: u64,
    /// Notes of the caller.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// One journal of a state folder: `NAME.jsonl`, and `NAME.1.jsonl` when that was full.
#[derive(Debug)]
pub struct Journal {
    dir: Option<PathBuf>,
    name: &'static str,
    file: Option<(File, u64)>,
}

impl Journal {
    /// The journal in a folder; `None` writes nothing.
    #[must_use]
    pub fn new(dir: Option<PathBuf>, name: &'static str) -> Self {
        Self { dir, name, file: None }
    }

    /// Every line that can be read, oldest first, and what is wrong with the rest. Waits for the disk.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> (Vec<T>, Option<String>) {
        let Some(dir) = &self.dir else { return (Vec::new(), None) };
        let (mut lines, mut wrong) = (Vec::new(), Vec::new());
        for name in [self.rotated(), self.file()] {
            let bytes = match regular::read(&dir.join(&name), MAX_READ) {
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    continue;
                }
                Err(error) => {
                    wrong.push(format!("{name} cannot be read: {error}"));
                    continue;
                }
            };
            let before = lines.len();
            let all = bytes.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            let count = all.clone().count();
            lines.extend(all.filter_map(|line| serde_json::from_slice(line).ok()));
            let lost = count - (lines.len() - before);
            if lost > 0 {
                wrong.push(format!("{lost} lines of {name} cannot be read"));
            }
        }
        (lines, (!wrong.is_empty()).then(|| wrong.join("; ")))
    }

    fn file(&self) -> String {
        format!("{}.jsonl", self.name)
    }

    fn rotated(&self) -> String {
        format!("{}.1.jsonl", self.name)
    }

    /// Appends one line, without its end. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        let written = self.write(&dir, line);
        if written.is_err() {
            // It is tried anew with the next line: a folder may be repaired meanwhile.
            self.file = None;
        }
        written
    }

    /// Whether a line could be appended now; opens the file. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn ready(&mut self) -> io::Result<()> {
        let Some(dir) = self.dir.clone() else { return Ok(()) };
        self.opened(&dir).map(drop)
    }

    fn write(&mut self, dir: &Path, line: &[u8]) -> io::Result<()> {
        let line = [line, b"\n"].concat();
        let size = line.len() as u64;
        if self.file.as_ref().is_some_and(|(_, length)| length + size > MAX_BYTES) {
            self.file = None;
            fs::rename(dir.join(self.file()), dir.join(self.rotated()))?;
        }
        let (file, length) = self.opened(dir)?;
        file.write_all(&line)?;
        *length += size;
        Ok(())
    }

    fn opened(&mut self, dir: &Path) -> io::Result<&mut (File, u64)> {
        let path = dir.join(self.file());
        match &mut self.file {
            Some(file) => Ok(file),
            none => Ok(none.insert(at_a_fresh_line(&path)?)),
        }
    }
}

/// The file, and its length, after what a crash may have left of a line.
fn at_a_fresh_line(path: &Path) -> io::Result<(File, u64)> {
    let mut file = regular::open(path, OpenOptions::new().read(true).create(true).append(true).mode(0o600))?;
    let mut length = file.metadata()?.len();
    let mut last = [b'\n'];
    if length > 0 {
        file.read_exact_at(&mut last, length - 1)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
        length += 1;
    }
    Ok((file, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_appended_one_line_each_and_rotated() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut audit = Journal::new(Some(dir.path().to_owned()), AUDIT);
        let entry =
            Entry { actor: "op".into(), reason: "line\nfeed".into(), what: "weights", ..Entry::default() };
        let line = |entry: &Entry| serde_json::to_vec(entry).expect("JSON");
        audit.append(&line(&entry)).expect("written");
        audit.append(&line(&entry)).expect("written");
        drop(audit);
        let mut audit = Journal::new(Some(dir.path().to_owned()), AUDIT);
        audit.append(&line(&entry)).expect("written");
        let text = fs::read_to_string(dir.path().join("audit.jsonl")).expect("a journal");
        assert_eq!(text.lines().count(), 3);
        let read: serde_json::Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!((&read["actor"], &read["reason"]), (&"op".into(), &"line\nfeed".into()));
        let large = Entry { reason: "x".repeat(5 << 20), ..entry };
        audit.append(&line(&large)).expect("written");
        audit.append(&line(&large)).expect("written");
        assert!(fs::metadata(dir.path().join("audit.jsonl")).expect("a journal").len() < MAX_BYTES);
        assert!(fs::metadata(dir.path().join("audit.1.jsonl")).expect("a rotated journal").len() < MAX_BYTES);
    }

    #[test]
    fn a_bad_byte_costs_one_line_and_a_torn_one_is_not_continued() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("history.jsonl");
        fs::write(&path, b"{\"n\":1}\n{\"n\":\xff}\n{\"n\":3}\n{\"n\":").expect("written");
        let mut history = Journal::new(Some(dir.path().to_owned()), HISTORY);
        history.append(b"{\"n\":5}").expect("written");
        let (lines, wrong) = history.read::<serde_json::Value>();
        assert_eq!(lines.iter().filter_map(|line| line["n"].as_u64()).collect::<Vec<_>>(), [1, 3, 5]);
        assert_eq!(wrong.as_deref(), Some("2 lines of history.jsonl cannot be read"));
    }

    #[test]
    fn a_journal_opens_as_soon_as_it_can() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("history.jsonl");
        fs::create_dir(&path).expect("a folder");
        let mut history = Journal::new(Some(dir.path().to_owned()), HISTORY);
        assert!(history.ready().is_err() && history.append(b"1").is_err());
        assert!(history.read::<u64>().1.expect("a sentence").contains("not a regular file"));
        fs::remove_dir(&path).expect("removed");
        history.append(b"2").expect("written");
        assert_eq!(history.read::<u64>(), (vec![2], None));
    }
}
