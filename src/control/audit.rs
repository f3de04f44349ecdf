//! The journal: who changed what, when and why, one JSON line each, never rewritten.
//!
//! Bounded by one rotation. It must never hold a secret, and a journal that cannot be written must
//! never stop a change.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// File name in the state folder.
pub const FILE: &str = "audit.jsonl";
/// Where the journal goes when it is full; the one before that is dropped.
const ROTATED: &str = "audit.1.jsonl";
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

/// The journal of one state folder.
#[derive(Debug)]
pub struct Audit {
    dir: Option<PathBuf>,
    file: Option<(File, u64)>,
    failing: bool,
}

impl Audit {
    /// The journal in a folder; `None` writes nothing.
    #[must_use]
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self { dir, file: None, failing: false }
    }

    /// Appends an entry; a failure is logged once until it works again.
    pub fn append(&mut self, entry: &Entry) {
        let Some(dir) = self.dir.clone() else { return };
        match self.write(&dir, entry) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.file = None;
                if !self.failing {
                    tracing::error!(%error, folder = %dir.display(), "the audit journal cannot be written");
                }
                self.failing = true;
            }
        }
    }

    fn write(&mut self, dir: &Path, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(io::Error::other)?;
        line.push(b'\n');
        let size = line.len() as u64;
        if self.file.as_ref().is_some_and(|(_, length)| length + size > MAX_BYTES) {
            self.file = None;
            fs::rename(dir.join(FILE), dir.join(ROTATED))?;
        }
        if self.file.is_none() {
            let options = OpenOptions::new().create(true).append(true).mode(0o600).clone();
            let file = options.open(dir.join(FILE))?;
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
        let mut audit = Audit::new(Some(dir.path().to_owned()));
        let entry =
            Entry { actor: "op".into(), reason: "line\nfeed".into(), what: "weights", ..Entry::default() };
        audit.append(&entry);
        audit.append(&entry);
        drop(audit);
        let mut audit = Audit::new(Some(dir.path().to_owned()));
        audit.append(&entry);
        let text = fs::read_to_string(dir.path().join(FILE)).expect("a journal");
        assert_eq!(text.lines().count(), 3);
        let read: serde_json::Value =
            serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
        assert_eq!((&read["actor"], &read["reason"]), (&"op".into(), &"line\nfeed".into()));
        let large = Entry { reason: "x".repeat(5 << 20), ..entry };
        audit.append(&large);
        audit.append(&large);
        assert!(fs::metadata(dir.path().join(FILE)).expect("a journal").len() < MAX_BYTES);
        assert!(fs::metadata(dir.path().join(ROTATED)).expect("a rotated journal").len() < MAX_BYTES);
    }
}
