//! Run-time intent on disk: one small file, replaced as a whole.
//!
//! Written to a temporary file, synced, renamed, and the folder synced. What cannot be understood
//! is set aside and never guessed at: without it the file's own weights hold. It must never be
//! fatal.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use xxhash_rust::xxh64::xxh64;

use super::absent::Absent;
use super::outbox::Parcel;
use super::putback::{Marks, PutBack};
use super::regular;
use super::rollouts::Remembered;
use crate::model::Overlay;
use crate::model::time::UnixMillis;
use crate::rollout::flip::Flip;

/// File name in the state folder.
pub const FILE: &str = "overlay.json";
/// Version of the file's layout.
const SCHEMA: u64 = 2;
/// Largest file that is read, in bytes.
const MAX_BYTES: u64 = 64 << 20;

/// The state folder.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Opened {
    /// The folder.
    pub store: Store,
    /// What it remembered.
    pub overlay: Overlay,
    /// Rollouts as they were, by route; what is wrong with them when they were not understood.
    pub rollouts: Result<Kept, String>,
    /// `ok`, or what is wrong.
    pub detail: String,
    /// Whether it can be written.
    pub writable: bool,
    /// Where what is put back is marked.
    pub put_back: PutBack,
    /// What was marked.
    pub marks: Marks,
}

/// Rollouts as they were written.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// By route.
    pub by_route: BTreeMap<String, Remembered>,
    /// Of routes that the file does not have.
    pub absent: BTreeMap<String, Absent>,
    /// What is still to be said to the outside.
    pub outbox: Vec<Parcel>,
    /// Exchanges of slots, by route.
    pub flips: BTreeMap<String, Flip>,
    /// When they were written, in wall-clock milliseconds.
    pub at_millis: u64,
}

impl Store {
    /// A folder that was opened before.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Opens a folder, creating it for its owner alone, and reads what it remembers.
    #[must_use]
    pub fn open(dir: &Path, now: UnixMillis) -> Opened {
        let store = Self::at(dir);
        let writable = store.prepare();
        let (overlay, rollouts, read) = match store.read() {
            Ok((overlay, rollouts)) => (overlay, Ok(rollouts), None),
            Err(why) => {
                let told = store.set_aside(FILE, &why, now);
                (Overlay::default(), Err(told.clone()), Some(told))
            }
        };
        let detail = match (&writable, read) {
            (Ok(()), None) => "ok".to_owned(),
            (Ok(()), Some(why)) => why,
            (Err(error), read) => {
                let more = read.map(|why| format!("; {why}")).unwrap_or_default();
                format!("{} cannot be written: {error}{more}", dir.display())
            }
        };
        let (mut put_back, marks) = PutBack::open(dir);
        if let Ok(kept) = &rollouts {
            put_back.is_kept(kept);
        }
        Opened { store, overlay, rollouts, detail, writable: writable.is_ok(), put_back, marks }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Replaces what is remembered. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be written; the old file is then still whole.
    pub fn save(&self, overlay: &Overlay, rollouts: &Kept) -> io::Result<()> {
        self.replace(FILE, sealed(SCHEMA, &spelled(overlay, rollouts)?).as_bytes())
    }

    /// Replaces a file of the folder by what is to be remembered, with its layout and a checksum.
    ///
    /// # Errors
    /// When it cannot be written; the old file is then still whole.
    pub fn keep(&self, name: &str, schema: u64, what: &Value) -> io::Result<()> {
        self.replace(name, sealed(schema, &what.to_string()).as_bytes())
    }

    /// Replaces a file of the folder as a whole: whoever reads it after a crash reads the old content
    /// or the new one. Waits for the disk.
    ///
    /// # Errors
    /// When it cannot be written; the old file is then still whole.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.create()?;
        let mut file = tempfile::Builder::new().prefix(".draft-").tempfile_in(&self.dir)?;
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(self.dir.join(name)).map_err(|error| error.error)?;
        File::open(&self.dir)?.sync_all()
    }

    /// What [`Self::replace`] wrote; `None` when there is no such file.
    ///
    /// # Errors
    /// When it was not understood: the sentence to show. The file is kept aside.
    pub fn recall<T: DeserializeOwned>(
        &self,
        name: &str,
        schema: u64,
        now: UnixMillis,
    ) -> Result<Option<T>, String> {
        let understood = |text: String| {
            let (_, what) = unsealed(&text, schema)?;
            serde_json::from_value(what).map_err(|error| error.to_string())
        };
        let recalled = self.text(name).and_then(|text| text.map(understood).transpose());
        recalled.map_err(|why| self.set_aside(name, &why, now))
    }

    fn prepare(&self) -> io::Result<()> {
        self.create()?;
        tempfile::Builder::new().prefix(".probe-").tempfile_in(&self.dir).map(drop)
    }

    fn create(&self) -> io::Result<()> {
        if self.dir.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    fn read(&self) -> Result<(Overlay, Kept), String> {
        self.text(FILE)?.map_or_else(|| Ok(Default::default()), |text| understand(&text))
    }

    fn text(&self, name: &str) -> Result<Option<String>, String> {
        let bytes = match regular::read(&self.dir.join(name), MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(format!("it cannot be read: {error}")),
        };
        String::from_utf8(bytes).map(Some).map_err(|error| error.to_string())
    }

    /// Keeps the file beside what will replace it; gives the sentence to show. Until something does,
    /// it stays where it is: a crash before that must not make the next start look like the first.
    fn set_aside(&self, name: &str, why: &str, now: UnixMillis) -> String {
        let aside = self.dir.join(format!("{name}.corrupt-{}", now.0));
        let file = self.dir.join(name);
        let kept =
            fs::hard_link(&file, &aside).or_else(|_| fs::write(&aside, regular::read(&file, MAX_BYTES)?));
        match kept {
            Ok(()) => format!("{name} was not understood ({why}) and set aside as {}", aside.display()),
            Err(error) => format!("{name} was not understood ({why}) and cannot be kept aside: {error}"),
        }
    }
}

fn understand(text: &str) -> Result<(Overlay, Kept), String> {
    let (schema, what) = unsealed(text, SCHEMA)?;
    let read = |value: Option<&Value>| value.cloned().unwrap_or_default();
    let overlay = if schema == 1 { what.clone() } else { read(what.get("overlay")) };
    let overlay = serde_json::from_value(overlay).map_err(|error| error.to_string())?;
    let mut kept = Kept::default();
    if schema > 1 {
        let outbox = what.get("outbox").cloned().unwrap_or_else(|| json!([]));
        kept.outbox = serde_json::from_value(outbox).map_err(|error| error.to_string())?;
        let flips = what.get("flips").cloned().unwrap_or_else(|| json!({}));
        kept.flips = serde_json::from_value(flips).map_err(|error| error.to_string())?;
        let absent = what.get("absent").cloned().unwrap_or_else(|| json!({}));
        kept.absent = serde_json::from_value(absent).map_err(|error| error.to_string())?;
        kept.at_millis = what.get("at").and_then(Value::as_u64).unwrap_or_default();
        kept.by_route =
            serde_json::from_value(read(what.get("rollouts"))).map_err(|error| error.to_string())?;
    }
    Ok((overlay, kept))
}

/// The layout and the state of a file, when it is whole and of a layout up to `known`.
fn unsealed(text: &str, known: u64) -> Result<(u64, Value), String> {
    let mut whole: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let schema = whole.get("schema").and_then(Value::as_u64).ok_or("it has no schema")?;
    if schema > known {
        return Err(format!("it has schema {schema}, this program knows {known}"));
    }
    // The first layout of the overlay held operator weights alone.
    let key = if whole.get("overlay").is_some() { "overlay" } else { "state" };
    let what = whole.get_mut(key).map(Value::take).ok_or("it has no state")?;
    if whole.get("checksum").and_then(Value::as_str) != Some(&checksum(&what.to_string())) {
        return Err("its checksum does not match".to_owned());
    }
    Ok((schema, what))
}

/// Everything that is remembered as text with sorted keys. There may be thousands of rollouts, and a
/// tree of all of them takes many times as long as the disk: each is one only for a moment.
fn spelled(overlay: &Overlay, kept: &Kept) -> io::Result<String> {
    let by_route = kept.by_route.iter().map(|(route, known)| Ok((sorted(route)?, sorted(known)?)));
    let by_route = by_route.collect::<io::Result<Vec<_>>>()?;
    let parts = [
        ("absent", sorted(&kept.absent)?),
        ("at", sorted(&kept.at_millis)?),
        ("flips", sorted(&kept.flips)?),
        ("outbox", sorted(&kept.outbox)?),
        ("overlay", sorted(overlay)?),
        ("rollouts", object(by_route.iter().map(|(route, known)| (route, known)))),
    ]
    .map(|(name, part)| (format!("\"{name}\""), part));
    Ok(object(parts.iter().map(|(name, part)| (name, part))))
}

fn sorted(what: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_value(what).map_err(io::Error::other)?.to_string())
}

/// An object of keys, in quotes and in their order, and values.
fn object<'a>(parts: impl Iterator<Item = (&'a String, &'a String)> + Clone) -> String {
    let room = parts.clone().map(|(name, part)| name.len() + part.len() + 2).sum::<usize>();
    let mut text = String::with_capacity(room + 2);
    for (name, part) in parts {
        let before = if text.is_empty() { "{" } else { "," };
        for one in [before, name, ":", part] {
            text.push_str(one);
        }
    }
    if text.is_empty() {
        text.push('{');
    }
    text.push('}');
    text
}

/// The file of a state: with its layout and a checksum.
fn sealed(schema: u64, what: &str) -> String {
    format!("{{\"checksum\":\"{}\",\"schema\":{schema},\"state\":{what}}}\n", checksum(what))
}

/// Hash of the text with sorted keys, in hex.
fn checksum(what: &str) -> String {
    format!("{:016x}", xxh64(what.as_bytes(), 0))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::Arc;

    use super::*;
    use crate::analysis::Policy;
    use crate::control::rollouts::Live;
    use crate::model::{Provenance, RouteOverlay};

    fn overlay() -> Overlay {
        let entry = RouteOverlay {
            weights: [("canary".to_owned(), 5), ("stable".to_owned(), 95)].into(),
            split_fingerprint: u64::MAX,
            by: Provenance { actor: "op".into(), reason: "why".into(), at_millis: 1 },
            ..RouteOverlay::default()
        };
        Overlay { routes: [("all".to_owned(), entry)].into(), ..Overlay::default() }
    }

    #[test]
    fn what_was_saved_is_read_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = dir.path().join("state");
        let opened = Store::open(&folder, UnixMillis(1));
        assert_eq!((opened.detail.as_str(), opened.overlay), ("ok", Overlay::default()));
        opened.store.save(&overlay(), &Kept::default()).expect("saved");
        let again = Store::open(&folder, UnixMillis(2));
        assert_eq!((again.detail.as_str(), again.overlay, again.writable), ("ok", overlay(), true));
        assert_eq!(fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777, 0o700);
    }

    /// It is the text that a tree of everything would have, byte by byte: earlier programs read it.
    #[test]
    fn what_is_spelled_piece_by_piece_is_what_a_tree_would_say() {
        let live = Live::new(Arc::new(Policy::default()));
        let by_route: BTreeMap<_, _> =
            ["b", "a\"b", ""].map(|route| (route.to_owned(), live.to_remember(7))).into();
        for by_route in [BTreeMap::new(), by_route] {
            let absent = [("gone".to_owned(), Absent { run: 3, ..Absent::default() })].into();
            let kept = Kept { by_route, absent, at_millis: 9, ..Kept::default() };
            let tree = json!({
                "overlay": overlay(), "rollouts": kept.by_route, "absent": kept.absent, "outbox": [], "flips": {}, "at": 9,
            });
            let text = spelled(&overlay(), &kept).expect("text");
            assert_eq!(text, tree.to_string());
            let whole = json!({ "schema": SCHEMA, "checksum": checksum(&text), "state": tree });
            assert_eq!(sealed(SCHEMA, &text), format!("{whole}\n"));
        }
    }

    #[test]
    fn what_is_not_understood_is_set_aside() {
        let good = {
            let dir = tempfile::tempdir().expect("a folder");
            let store = Store::open(dir.path(), UnixMillis(1)).store;
            store.save(&overlay(), &Kept::default()).expect("saved");
            fs::read_to_string(dir.path().join(FILE)).expect("a file")
        };
        let bad = [
            String::new(),
            "{".to_owned(),
            good[..good.len() / 2].to_owned(),
            good.replace("95", "96"),
            good.replace("\"schema\":2", "\"schema\":3"),
            "[]".to_owned(),
        ];
        for text in bad {
            let dir = tempfile::tempdir().expect("a folder");
            fs::write(dir.path().join(FILE), &text).expect("written");
            let opened = Store::open(dir.path(), UnixMillis(77));
            assert_eq!(opened.overlay, Overlay::default(), "{text}");
            assert!(opened.detail.contains("set aside"), "{}", opened.detail);
            let aside = dir.path().join("overlay.json.corrupt-77");
            assert_eq!(fs::read_to_string(aside).expect("set aside"), text);
            opened.store.save(&overlay(), &Kept::default()).expect("saved");
            assert_eq!(Store::open(dir.path(), UnixMillis(78)).overlay, overlay());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_told() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("file");
        fs::write(&file, "").expect("written");
        let opened = Store::open(&file.join("state"), UnixMillis(1));
        assert!(!opened.writable && opened.detail.contains("cannot be written"), "{}", opened.detail);
    }
}
