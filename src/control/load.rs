//! Files to a parsed configuration: opened once, read whole, hashed over all content.
//!
//! Every size is checked before and while reading. It must never decide what a configuration
//! means, and never give half of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use xxhash_rust::xxh64::Xxh64;

use super::secret;
use crate::analysis::unknown_zones;
use crate::model::{Diagnostic, Place};
use crate::plan::Lists;
use crate::spec::{self, Source, Spec};

pub use crate::spec::parse::MAX_FILE_BYTES;

/// Most files of one configuration folder.
pub const MAX_FILES: usize = 1_000;
/// Largest list file, in bytes.
pub const MAX_LIST_BYTES: usize = 64 << 20;
/// Most folders watched.
pub const MAX_FOLDERS: usize = 64;
/// A file changed this recently may still be in the middle of being written.
const FRESH: Duration = Duration::from_millis(500);

/// Variables for `${NAME}`.
pub type Env = Arc<BTreeMap<String, String>>;

/// The environment as it is now; names and values that are not UTF-8 are left out.
#[must_use]
pub fn environment() -> Env {
    let pairs = std::env::vars_os();
    Arc::new(
        pairs
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
    )
}

/// A configuration that could be read and parsed.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// Its files.
    pub spec: Spec,
    /// Its lists.
    pub lists: Lists,
    /// Variables for `${NAME}`.
    pub env: Env,
    /// What was looked at.
    pub seen: Seen,
    /// What somebody should look at.
    pub warnings: Vec<Diagnostic>,
    /// The files as they are, where this earlier configuration serves instead of them.
    pub instead_of: Option<Seen>,
}

impl Loaded {
    /// The files that are watched: a change of theirs is to be served.
    #[must_use]
    pub fn watched(&self) -> &Seen {
        self.instead_of.as_ref().unwrap_or(&self.seen)
    }
}

/// What was looked at, so that a later look can tell whether anything changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Hash of all content, or of why there is none.
    pub hash: u64,
    /// Lists read, as written.
    pub lists: Vec<String>,
    /// Files read, as named and where links lead.
    pub files: Vec<PathBuf>,
    /// Folders in which a change may matter.
    pub folders: Vec<PathBuf>,
}

/// A configuration that could not.
#[derive(Debug)]
pub struct Failed {
    /// Why.
    pub diagnostics: Vec<Diagnostic>,
    /// Its text, as far as it was read, for snippets.
    pub sources: Vec<Source>,
    /// What was looked at.
    pub seen: Seen,
    /// Whether it may be whole a moment later.
    pub maybe_torn: bool,
}

/// What a look found.
#[derive(Debug)]
pub enum Look {
    /// Nothing changed.
    Same,
    /// A configuration.
    Loaded(Box<Loaded>),
    /// None.
    Failed(Box<Failed>),
}

/// Reads a file, or all `*.yaml` files of a folder. With `last`, nothing is parsed when
/// nothing changed since.
#[must_use]
pub fn look(path: &Path, env: &Env, last: Option<&Seen>, now: SystemTime) -> Look {
    let read = read_all(path, now);
    let base = base(path);
    if let Some(last) = last {
        let lists = read_lists(&base, &last.lists);
        if hash(&read, &lists) == last.hash {
            return Look::Same;
        }
    }
    let failed = |diagnostics: Vec<Diagnostic>, read: &Reading, maybe_torn| {
        let sources = read.sources.clone().unwrap_or_default();
        let seen = seen(path, read, &Lists::new());
        Look::Failed(Box::new(Failed { diagnostics, sources, seen, maybe_torn }))
    };
    let sources = match &read.sources {
        Ok(sources) => sources.clone(),
        // A file may be absent for a moment between delete and create.
        Err(why) => return failed(vec![why.clone()], &read, true),
    };
    match spec::parse(sources) {
        Err(why) => failed(vec![*why], &read, read.fresh),
        Ok(spec) => {
            let unknown = unknown_zones(&spec, knows_zone);
            if !unknown.is_empty() {
                return failed(unknown, &read, false);
            }
            let lists = read_lists(&base, &spec.list_files());
            let seen = seen(path, &read, &lists);
            let warnings = read.warnings.into_iter().chain(secret::missing(&base, &spec)).collect();
            let loaded = Loaded { spec, lists, env: Arc::clone(env), seen, warnings, instead_of: None };
            Look::Loaded(Box::new(loaded))
        }
    }
}

/// Whether this machine knows a time zone.
fn knows_zone(zone: &str) -> bool {
    jiff::tz::TimeZone::get(zone).is_ok_and(|zone| !zone.is_unknown())
}

/// The folder that relative paths in a configuration start from.
#[must_use]
pub fn base(path: &Path) -> PathBuf {
    if path.is_dir() { path.to_owned() } else { parent(path) }
}

/// The folder a path is in; `.` for a bare name.
pub(super) fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        Some(_) => PathBuf::from("."),
        None => path.to_owned(),
    }
}

/// The files of a configuration as they were read.
struct Reading {
    sources: Result<Vec<Source>, Diagnostic>,
    files: Vec<PathBuf>,
    warnings: Vec<Diagnostic>,
    fresh: bool,
}

fn read_all(path: &Path, now: SystemTime) -> Reading {
    let mut reading =
        Reading { sources: Ok(Vec::new()), files: Vec::new(), warnings: Vec::new(), fresh: false };
    reading.files = match if path.is_dir() { folder(path) } else { Ok(vec![path.to_owned()]) } {
        Ok(files) => files,
        Err(why) => {
            reading.sources = Err(why);
            return reading;
        }
    };
    let mut sources = Vec::with_capacity(reading.files.len());
    for file in &reading.files {
        match read_one(file, now) {
            Ok(one) => {
                reading.fresh |= one.fresh;
                reading.warnings.extend(one.warning);
                sources.push(one.source);
            }
            Err(why) => {
                reading.sources = Err(why);
                return reading;
            }
        }
    }
    reading.sources = Ok(sources);
    reading
}

/// The configuration files of a folder in name order; hidden ones are an editor's or a mount's.
fn folder(path: &Path) -> Result<Vec<PathBuf>, Diagnostic> {
    let unreadable = |error: &io::Error| unreadable(path, error);
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(|error| unreadable(&error))? {
        let file = entry.map_err(|error| unreadable(&error))?.path();
        let hidden = file.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        let yaml = file.extension().is_some_and(|end| end == "yaml");
        // A link that leads nowhere is a file that cannot be read, not one that is not there.
        if yaml && !hidden && !file.is_dir() {
            files.push(file);
        }
    }
    let place = Place { file: path.display().to_string(), ..Place::default() };
    if files.is_empty() {
        let message = "the folder has no *.yaml file";
        return Err(Diagnostic::error("unreadable", message).at(place).hint("put at least one there"));
    }
    if files.len() > MAX_FILES {
        let message = format!("the folder has {} files, more than {MAX_FILES}", files.len());
        return Err(Diagnostic::error("too-many", message).at(place));
    }
    files.sort();
    Ok(files)
}

struct One {
    source: Source,
    warning: Option<Diagnostic>,
    fresh: bool,
}

fn read_one(path: &Path, now: SystemTime) -> Result<One, Diagnostic> {
    let name = path.display().to_string();
    let place = Place { file: name.clone(), ..Place::default() };
    let (bytes, meta) = read_bytes(path, MAX_FILE_BYTES).map_err(|error| unreadable(path, &error))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Diagnostic::error("not-text", format!("byte {at} is not UTF-8")).at(place.clone())
    })?;
    let warning = (meta.permissions().mode() & 0o022 != 0).then(|| {
        Diagnostic::error("writable-config", "others than its owner can write the configuration file")
            .at(place)
            .hint(format!("chmod go-w {name}"))
            .warning()
    });
    let age = meta.modified().ok().and_then(|changed| now.duration_since(changed).ok());
    let fresh = age.is_none_or(|age| age < FRESH);
    Ok(One { source: Source { name, text }, warning, fresh })
}

/// Reads a regular file whole, at most one byte more than `limit`.
fn read_bytes(path: &Path, limit: usize) -> io::Result<(Vec<u8>, fs::Metadata)> {
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if meta.len() > limit as u64 {
        let message = format!("it has {} bytes, more than {limit}", meta.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0) + 1);
    file.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        let message = format!("it grew over {limit} bytes while it was read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok((bytes, meta))
}

fn unreadable(path: &Path, error: &io::Error) -> Diagnostic {
    let place = Place { file: path.display().to_string(), ..Place::default() };
    let code = if error.kind() == io::ErrorKind::FileTooLarge { "too-large" } else { "unreadable" };
    Diagnostic::error(code, format!("the file cannot be read: {}", plain(error))).at(place)
}

/// The system's words without its error number.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.clone(), |(words, _)| words.to_owned())
}

pub(super) fn read_lists(base: &Path, names: &[String]) -> Lists {
    let read = |name: &String| {
        let text = read_bytes(&base.join(name), MAX_LIST_BYTES)
            .map_err(|error| plain(&error))
            .and_then(|(bytes, _)| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
        (name.clone(), text)
    };
    names.iter().map(read).collect()
}

fn seen(path: &Path, read: &Reading, lists: &Lists) -> Seen {
    let base = base(path);
    let mut files = read.files.clone();
    files.extend(lists.keys().map(|name| base.join(name)));
    let mut folders: Vec<PathBuf> = Vec::new();
    if path.is_dir() {
        folders.push(path.to_owned());
    }
    for file in std::iter::once(path).chain(files.iter().map(PathBuf::as_path)) {
        folders.push(parent(file));
        // A link on the way can be pointed elsewhere.
        folders.extend(file.ancestors().filter(|one| one.is_symlink()).map(parent));
        folders.extend(file.canonicalize().ok().map(|target| parent(&target)));
    }
    let targets: Vec<PathBuf> = files.iter().filter_map(|file| file.canonicalize().ok()).collect();
    files.extend(targets);
    // By where they lead, so that a link pointed elsewhere is another folder.
    let mut folders: Vec<PathBuf> = folders.iter().filter_map(|folder| folder.canonicalize().ok()).collect();
    for list in [&mut files, &mut folders] {
        list.sort();
        list.dedup();
    }
    folders.truncate(MAX_FOLDERS);
    Seen { hash: hash(read, lists), lists: lists.keys().cloned().collect(), files, folders }
}

/// Hash of all content; the reason when there is none, so that it is told once.
fn hash(read: &Reading, lists: &Lists) -> u64 {
    let mut state = Xxh64::new(0);
    let mut add = |bytes: &[u8]| {
        state.update(&(bytes.len() as u64).to_le_bytes());
        state.update(bytes);
    };
    match &read.sources {
        Ok(sources) => {
            for source in sources {
                add(source.name.as_bytes());
                add(source.text.as_bytes());
            }
        }
        Err(why) => add(why.to_string().as_bytes()),
    }
    for (name, content) in lists {
        add(name.as_bytes());
        match content {
            Ok(text) => add(text.as_bytes()),
            Err(why) => add(why.as_bytes()),
        }
    }
    state.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\nupstreams: { a: \"http://127.0.0.1:1\" }\n\
                        routes: [{ name: r, split: { a: 1 } }]\n";

    fn now() -> SystemTime {
        SystemTime::now()
    }

    fn loaded(look: Look) -> Box<Loaded> {
        match look {
            Look::Loaded(loaded) => loaded,
            other => panic!("{other:?}"),
        }
    }

    fn failed(look: Look) -> Box<Failed> {
        match look {
            Look::Failed(failed) => failed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_second_look_sees_only_changes() {
        let dir = tempfile::tempdir().expect("a folder");
        let (file, env) = (dir.path().join("c.yaml"), Env::default());
        let with_list = GOOD.replace(
            "split: {",
            "sticky: { by: [{ header: x-u }] }, overrides: [{ name: b, arm: a, when: { stickyKey: { inFile: b.txt } } }], split: {",
        );
        fs::write(&file, with_list).expect("written");
        fs::write(dir.path().join("b.txt"), "u1\n").expect("written");
        let first = loaded(look(&file, &env, None, now()));
        assert_eq!(first.lists.get("b.txt"), Some(&Ok("u1\n".to_owned())));
        assert!(matches!(look(&file, &env, Some(&first.seen), now()), Look::Same));
        fs::write(dir.path().join("b.txt"), "u1\nu2\n").expect("written");
        let second = loaded(look(&file, &env, Some(&first.seen), now()));
        assert_ne!(first.seen.hash, second.seen.hash);
        fs::remove_file(&file).expect("removed");
        let gone = failed(look(&file, &env, Some(&second.seen), now()));
        assert!(gone.diagnostics[0].to_string().contains("No such file"), "{:?}", gone.diagnostics);
        assert!(matches!(look(&file, &env, Some(&gone.seen), now()), Look::Same));
    }

    #[test]
    fn a_folder_is_read_in_name_order_without_hidden_files() {
        let dir = tempfile::tempdir().expect("a folder");
        for (name, text) in [("b.yaml", "workers: 1"), ("a.yaml", GOOD), (".c.yaml", "{"), ("d.yml", "{")] {
            fs::write(dir.path().join(name), text).expect("written");
        }
        fs::create_dir(dir.path().join("..data")).expect("a folder");
        let loaded = loaded(look(dir.path(), &Env::default(), None, now()));
        let names: Vec<_> = loaded.spec.files.iter().map(|(source, _)| source.name.clone()).collect();
        let name = |file: &str| dir.path().join(file).display().to_string();
        assert_eq!(names, [name("a.yaml"), name("b.yaml")]);
    }

    #[test]
    fn a_half_written_file_may_be_whole_a_moment_later() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("c.yaml");
        for text in ["", "listeners: [{ na"] {
            fs::write(&file, text).expect("written");
            assert!(failed(look(&file, &Env::default(), None, now())).maybe_torn);
            let later = now() + Duration::from_secs(5);
            assert!(!failed(look(&file, &Env::default(), None, later)).maybe_torn);
        }
    }

    #[test]
    fn what_cannot_be_a_configuration_says_why() {
        let dir = tempfile::tempdir().expect("a folder");
        let large = vec![b' '; MAX_FILE_BYTES + 1];
        let rows: [(&str, &[u8], &str); 2] =
            [("large.yaml", &large, "too-large"), ("latin.yaml", b"name: \xff", "not-text")];
        for (name, bytes, code) in rows {
            let file = dir.path().join(name);
            fs::write(&file, bytes).expect("written");
            assert_eq!(failed(look(&file, &Env::default(), None, now())).diagnostics[0].code, code);
        }
        assert_eq!(
            failed(look(Path::new("/dev/null"), &Env::default(), None, now())).diagnostics[0].code,
            "unreadable"
        );
    }

    #[test]
    fn a_file_others_can_write_is_a_warning() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("c.yaml");
        fs::write(&file, GOOD).expect("written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).expect("changed");
        let found = loaded(look(&file, &Env::default(), None, now()));
        assert_eq!(found.warnings[0].code, "writable-config");
    }

    #[test]
    fn folders_on_the_way_of_a_link_are_watched() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().canonicalize().expect("a real path");
        fs::create_dir(root.join("..v1")).expect("a folder");
        fs::write(root.join("..v1/c.yaml"), GOOD).expect("written");
        std::os::unix::fs::symlink("..v1", root.join("..data")).expect("a link");
        std::os::unix::fs::symlink("..data/c.yaml", root.join("c.yaml")).expect("a link");
        let found = loaded(look(&root.join("c.yaml"), &Env::default(), None, now()));
        assert_eq!(found.seen.folders, [root.clone(), root.join("..v1")]);
        assert!(found.seen.files.contains(&root.join("..v1/c.yaml")));
    }
}
