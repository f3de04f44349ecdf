//! Journals: who changed what, when and why, one JSON line each, never rewritten.
//!
//! Each is bounded by one rotation. It must never hold a secret, and a journal that cannot be written must
//! never stop a change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Who changed what.
pub const AUDIT: &str = "audit";
/// What rollouts decided.
pub const HISTORY: &str = "history";
/// Size at which the journal is rotated, in bytes.
const MAX_BYTES: u64 = 8 << 20;

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

    /// Every line that can be read, oldest first. Waits for the disk.
    #[must_use]
    pub fn read<T: DeserializeOwned>(&self) -> Vec<T> {
        let Some(dir) = &self.dir else { return Vec::new() };
        let texts =
            [self.rotated(), self.file()].map(|name| fs::read_to_string(dir.join(name)).unwrap_or_default());
        texts
            .iter()
            .flat_map(|text| text.lines())
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
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
            self.file = None;
        }
        written
    }

    fn write(&mut self, dir: &Path, line: &[u8]) -> io::Result<()> {
        let line = [line, b"\n"].concat();
        let size = line.len() as u64;
        if self.file.as_ref().is_some_and(|(_, length)| length + size > MAX_BYTES) {
            self.file = None;
            fs::rename(dir.join(self.file()), dir.join(self.rotated()))?;
        }
        if self.file.is_none() {
            let options = OpenOptions::new().create(true).append(true).mode(0o600).clone();
            let file = options.open(dir.join(self.file()))?;
            let length = file.metadata()?.len();
            self.file = Some((file, length));
        }
        if let Some((file, length)) = &mut self.file {
            file.write_all(&line)?;
            *length += size;
        }
        Ok(())
    }
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
}
