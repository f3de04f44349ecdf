//! Real programs a test leans on (nginx, node, curl, h2load, python3 and its modules), and the knobs.
//!
//! A missing program must be heard: the test says SKIPPED, or fails when
//! `SWITCHBACK_REQUIRE_TOOLS=1` promises that the machine has everything. It must never pass silently.
//! A name such as `python:grpc` is a module of the python that `tests/run` prepares, `npm:axe-core` one
//! of its packages for node.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::site::Site;
use super::wait::becomes_true;

/// Returns from the test, loudly, unless every named program is installed.
macro_rules! needs {
    ($($tool:literal),+ $(,)?) => {{
        fn here() {}
        let test = std::any::type_name_of_val(&here);
        if !$crate::support::tools::all_present(test, &[$($tool),+]) {
            return;
        }
    }};
}
pub(crate) use needs;

/// Whether the long forms (full request and reload counts) were asked for.
pub fn long() -> bool {
    env::var_os("SWITCHBACK_LONG").is_some_and(|value| value == "1")
}

pub fn all_present(test: &str, tools: &[&str]) -> bool {
    let test = test.trim_end_matches("::here").trim_start_matches("it::");
    let missing: Vec<_> = tools.iter().filter(|tool| !present(tool)).collect();
    for tool in &missing {
        println!("SKIPPED: {test}: {tool} is not installed");
        eprintln!("SKIPPED: {test}: {tool} is not installed");
    }
    let required = env::var_os("SWITCHBACK_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(
        missing.is_empty() || !required,
        "{test}: SWITCHBACK_REQUIRE_TOOLS=1, yet {missing:?} is missing"
    );
    missing.is_empty()
}

fn present(tool: &str) -> bool {
    if let Some(package) = tool.strip_prefix("npm:") {
        return modules().join("node_modules").join(package).join("package.json").is_file();
    }
    let Some(module) = tool.strip_prefix("python:") else {
        return find(tool).is_some();
    };
    let import = format!("import {module}");
    let imported = Command::new(python()).args(["-c", &import]).stderr(Stdio::null()).status();
    imported.is_ok_and(|status| status.success())
}

/// The python with the modules of `tests/it/strangers/requirements.txt`: the one that
/// `SWITCHBACK_PYTHON` names, else the one `tests/run` left behind, else the machine's own.
pub fn python() -> PathBuf {
    if let Some(named) = env::var_os("SWITCHBACK_PYTHON") {
        return PathBuf::from(named);
    }
    let prepared = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/strangers/venv/bin/python3");
    if prepared.is_file() { prepared } else { PathBuf::from("python3") }
}

/// The folder with the packages of `tests/e2e/package.json`, which `tests/run` prepares.
pub fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/e2e/node")
}

/// Where a program lives; Debian keeps daemons in a folder that a user's PATH may lack.
pub fn find(tool: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(tool))
        .find(|candidate| candidate.is_file())
}

/// What a finished program said.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Runs a program to its end with optional input; a hung program is killed and fails the test.
pub fn run(command: &mut Command, input: &[u8]) -> Finished {
    use std::io::{Read, Write};
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("piped stdin");
    let mut stdout = child.stdout.take().expect("piped stdout");
    let mut stderr = child.stderr.take().expect("piped stderr");
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input));
        let out = scope.spawn(move || {
            let mut text = Vec::new();
            stdout.read_to_end(&mut text).map(|_| text)
        });
        let err = scope.spawn(move || {
            let mut text = Vec::new();
            stderr.read_to_end(&mut text).map(|_| text)
        });
        let mut status = None;
        let ended = becomes_true(Duration::from_secs(120), || {
            status = child.try_wait().expect("wait for a child");
            status.is_some()
        });
        if !ended {
            child.kill().expect("kill a hung child");
            child.wait().expect("reap a hung child");
        }
        let text = |bytes: std::io::Result<Vec<u8>>| {
            String::from_utf8_lossy(&bytes.expect("read a pipe")).into_owned()
        };
        let finished = Finished {
            code: status.and_then(|status| status.code()),
            out: text(out.join().expect("stdout reader")),
            err: text(err.join().expect("stderr reader")),
        };
        assert!(ended, "{command:?} hung: {finished:?}");
        finished
    })
}

/// The program under test: the one that `SWITCHBACK_BIN` names, for figures worth quoting, else the
/// one that was built with the tests.
pub fn binary() -> PathBuf {
    env::var_os("SWITCHBACK_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_switchback")), PathBuf::from)
}

/// A verb of the command line, asked of a site's proxy with its operator's token.
pub fn cli(site: &Site, arguments: &[&str]) -> Finished {
    let (admin, token) = (format!("http://{}", site.admin()), site.state().join("admin.token"));
    let token = token.display().to_string();
    let mut all = arguments.to_vec();
    all.extend(["--admin", &admin, "--token-file", &token]);
    switchback(&site.folder(), &all)
}

/// The binary under test with these arguments, run to its end in `folder`.
pub fn switchback(folder: &Path, arguments: &[&str]) -> Finished {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(folder).env_remove("SWITCHBACK_TOKEN").env_remove("STATE_DIRECTORY");
    run(&mut command, b"")
}
