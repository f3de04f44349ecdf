//! The house keeps its rules because this test reads the source: layers, bans, sizes, docs, names.
//!
//! It looks at text, not at types, so its rules are plain on purpose. A rule that turns out wrong is
//! changed here with its reason; it is never worked around in the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// What each module may use (`crate::` paths); `*` is everything.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("spec", &["model"]),
    ("wire", &["model"]),
    ("split", &["model"]),
    ("ledger", &["model"]),
    ("analysis", &["model", "spec"]),
    ("rollout", &["model", "spec", "analysis"]),
    // analysis beyond the drawn table: a plan holds rollout policies, so that a policy that cannot
    // decide is refused with every other error of the file.
    ("plan", &["model", "spec", "split", "ledger", "analysis"]),
    // Certificates are read for every room that serves or checks them: what a file and a plan name.
    ("certs", &["model", "spec", "plan"]),
    ("fetch", &["model"]),
    ("upstream", &["model", "plan", "ledger"]),
    ("net", &["model", "plan", "certs"]),
    ("proxy", &["model", "split", "plan", "ledger", "upstream"]),
    ("control", &["model", "spec", "plan", "certs", "ledger", "analysis", "rollout", "fetch"]),
    ("telemetry", &["model", "ledger", "fetch"]),
    // spec and split beyond the drawn table: the admin block is read as written, and `explain`
    // turns a key into the header, cookie or parameter the split reads it from. analysis and rollout
    // as well: a verb in a path is the state machine's, and how long a step takes is the analyzer's.
    (
        "admin",
        &[
            "model",
            "spec",
            "wire",
            "split",
            "plan",
            "certs",
            "ledger",
            "analysis",
            "rollout",
            "control",
            "telemetry",
            "net",
        ],
    ),
    // rollout beyond the drawn table: `simulate` replays a recording through the state machine itself.
    // certs as well: `check` must refuse what a start would.
    ("cli", &["model", "spec", "split", "plan", "certs", "ledger", "analysis", "rollout", "wire", "fetch"]),
    ("app", &["*"]),
    ("main", &["app", "cli"]),
];

/// Modules that decide and never do: the same input gives the same bytes.
const PURE: &[&str] = &["model", "spec", "wire", "split", "ledger", "analysis", "rollout", "plan"];

/// What a pure module must not name.
const IMPURE: &[&str] = &[
    "tokio::",
    "hyper::",
    "hyper_util::",
    "std::net::Tcp",
    "std::fs",
    "std::env",
    "Instant::now",
    "SystemTime::now",
    "fastrand::",
    "getrandom::",
    "tracing::",
    "metrics::counter",
    "metrics::gauge",
    "println!",
    "eprintln!",
];

/// Code lines a file may have before it must be split; tests do not count.
const MAX_FILE: usize = 400;
/// Lines a function may have.
const MAX_FUNCTION: usize = 70;

/// Files over the limit, each with its reason.
const LARGE_FILES: &[(&str, &str)] = &[];

/// Functions over the limit, each with its reason.
const LARGE_FUNCTIONS: &[(&str, &str)] = &[];

struct Source {
    path: String,
    module: String,
    /// Lines before the first test module, comments kept.
    code: Vec<String>,
    all: String,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let mut paths = Vec::new();
    rust_files(&src, &mut paths);
    paths
        .into_iter()
        .map(|path| {
            let relative = path.strip_prefix(&src).unwrap().to_string_lossy().into_owned();
            let module = relative.split(['/', '.']).next().unwrap().to_owned();
            let all = fs::read_to_string(&path).unwrap();
            let code =
                all.lines().take_while(|line| !line.contains("#[cfg(test)]")).map(str::to_owned).collect();
            Source { path: relative, module, code, all }
        })
        .filter(|source| !source.path.ends_with("tests.rs") && !source.path.contains("/tests/"))
        .collect()
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

fn report(rule: &str, findings: &[String]) {
    assert!(findings.is_empty(), "{rule}:\n  {}", findings.join("\n  "));
}

#[test]
fn layers_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = LAYERS.iter().copied().collect();
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.module != "lib") {
        let Some(may) = allowed.get(source.module.as_str()) else {
            findings.push(format!("{}: module {} is in no row of the table", source.path, source.module));
            continue;
        };
        for (number, line) in source.code.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            for used in line
                .split("crate::")
                .skip(1)
                .map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap())
            {
                let own = used == source.module || used.is_empty() || used == "labels";
                if !own && !may.contains(&used) && !may.contains(&"*") {
                    findings.push(format!(
                        "{}:{}: {} may not use {used}",
                        source.path,
                        number + 1,
                        source.module
                    ));
                }
            }
        }
    }
    report("layers (architecture: a row may use only what is listed)", &findings);
}

#[test]
fn pure_modules_do_nothing() {
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| PURE.contains(&source.module.as_str())) {
        for (number, line) in source.code.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: names {word}", source.path, number + 1));
            }
        }
    }
    report("pure modules take time, entropy and text as arguments", &findings);
}

#[test]
fn a_published_plan_cannot_change() {
    // What many readers hold without a lock must be plain values: the types allow no other writer.
    let words = ["Mutex", "RwLock", "RefCell", "Cell<", "OnceLock", "Atomic"];
    let mut findings = Vec::new();
    for source in sources().iter().filter(|source| source.module == "plan") {
        for (number, line) in source.code.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    report("a plan is replaced, never changed; numbers that move are in the ledger", &findings);
}

#[test]
fn every_invariant_names_tests_that_exist() {
    let map = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let section = map.split("//! # Invariants\n").nth(1).unwrap().split("//! # ").next().unwrap();
    let numbered = |line: &str| line.split('.').next().is_some_and(|start| start.parse::<u8>().is_ok());
    let (mut file, mut found) = (String::new(), Vec::<(String, usize)>::new());
    let mut findings = Vec::new();
    for line in section.lines().map(|line| line.trim_start_matches("//!").trim()) {
        if numbered(line) {
            found.push((line.to_owned(), 0));
        }
        for name in line.split('`').skip(1).step_by(2) {
            if Path::new(name).extension().is_some_and(|ending| ending == "rs") {
                file = fs::read_to_string(root().join(name)).unwrap_or_default();
            } else if name.contains('_') {
                if let Some((_, tests)) = found.last_mut() {
                    *tests += 1;
                }
                if !file.contains(&format!("fn {name}(")) {
                    findings.push(format!("{name} is not where it is said to be"));
                }
            }
        }
    }
    assert_eq!(found.len(), 12, "{found:?}");
    let bare = found.into_iter().filter(|(_, tests)| *tests == 0);
    findings.extend(bare.map(|(invariant, _)| format!("no test: {invariant}")));
    report("invariants of src/lib.rs", &findings);
}

#[test]
fn nothing_panics_by_choice() {
    let banned = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!(", "unreachable!("];
    let mut findings = Vec::new();
    for source in &sources() {
        for (number, line) in source.code.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            for word in banned.iter().filter(|word| line.contains(**word)) {
                findings.push(format!("{}:{}: {word}", source.path, number + 1));
            }
        }
    }
    report("errors are values, panics are for broken invariants", &findings);
}

#[test]
fn nothing_grows_without_bound_or_writes_where_it_must_not() {
    let mut findings = Vec::new();
    for source in &sources() {
        for (number, line) in source.code.iter().enumerate().filter(|(_, line)| !is_comment(line)) {
            let mut ban = |word: &str, why: &str| {
                if line.contains(word) {
                    findings.push(format!("{}:{}: {word}: {why}", source.path, number + 1));
                }
            };
            ban("unbounded_channel", "every queue has a bound");
            ban("mpsc::channel::<", "name the bound");
            if source.module == "split" {
                ban("std::collections::HashMap", "its hasher changes between versions");
                ban("std::collections::HashSet", "its hasher changes between versions");
                ban("DefaultHasher", "it changes between versions");
            }
            if !matches!(source.module.as_str(), "control" | "app") {
                ban(".publish(", "only control publishes");
            }
            if source.path != "model/names.rs" {
                ban("\"switchback_", "metric names live in model/names.rs");
            }
            if source.module != "main" {
                ban("unsafe {", "unsafe is denied");
                ban("allow(unsafe_code)", "one exception, in main.rs");
            }
        }
    }
    report("bans", &findings);
}

#[test]
fn every_file_says_what_it_is() {
    let missing: Vec<String> = sources()
        .iter()
        .filter(|source| !source.all.starts_with("//!"))
        .map(|source| source.path.clone())
        .collect();
    report("files without a module doc", &missing);
}

#[test]
fn files_and_functions_are_one_room() {
    let mut findings = Vec::new();
    for source in &sources() {
        let code = source.code.iter().filter(|line| !line.trim().is_empty() && !is_comment(line)).count();
        if code > MAX_FILE && !LARGE_FILES.iter().any(|(path, _)| *path == source.path) {
            findings.push(format!("{}: {code} code lines, more than {MAX_FILE}", source.path));
        }
        for (name, length) in functions(&source.code) {
            let key = format!("{}::{name}", source.path);
            if length > MAX_FUNCTION && !LARGE_FUNCTIONS.iter().any(|(function, _)| *function == key) {
                findings.push(format!("{key}: {length} lines, more than {MAX_FUNCTION}"));
            }
        }
    }
    report("sizes", &findings);
}

/// Names and lengths of functions, by the indentation of their closing brace.
fn functions(lines: &[String]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let indent = line.len() - line.trim_start().len();
        let Some(rest) = line.trim_start().split("fn ").nth(1).filter(|_| opens_function(line)) else {
            continue;
        };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = lines[start..].iter().position(|line| *line == format!("{}}}", " ".repeat(indent)));
        if let Some(end) = end {
            found.push((name, end + 1));
        }
    }
    found
}

fn opens_function(line: &str) -> bool {
    let line = line.trim_start();
    [
        "fn ",
        "pub fn ",
        "pub(crate) fn ",
        "pub(super) fn ",
        "async fn ",
        "pub async fn ",
        "pub(super) async fn ",
        "const fn ",
        "pub const fn ",
    ]
    .iter()
    .any(|opening| line.starts_with(opening))
}

#[test]
fn ignored_tests_say_why() {
    let mut paths = Vec::new();
    rust_files(&root().join("tests"), &mut paths);
    rust_files(&root().join("src"), &mut paths);
    let attribute = concat!("#[", "ignore]");
    let findings: Vec<String> = paths
        .iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains(attribute))
        .map(|path| path.display().to_string())
        .collect();
    report("ignored tests without a reason", &findings);
}

#[test]
fn the_top_level_is_the_whole_list() {
    let known =
        ["Cargo.toml", "Cargo.lock", "src", "config", "benches", "tests", "deploy", "README.md", "target"];
    let findings: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| {
            !name.starts_with('.') && !name.starts_with("LICENSE") && !known.contains(&name.as_str())
        })
        .collect();
    report("top level", &findings);
}
