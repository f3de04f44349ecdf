//! The unit as systemd reads it: it parses, and it leaves little for a stranger inside to use.

use std::fs;
use std::process::Command;

use super::{folder, text};
use crate::support::needs;
use crate::support::tools::{binary, find, run};

/// What the unit may score at most; 10 is a service without any restriction.
const EXPOSURE: f64 = 2.0;

fn analyze(arguments: &[&str]) -> String {
    let mut command = Command::new(find("systemd-analyze").expect("systemd-analyze was checked for"));
    let done = run(command.args(arguments), b"");
    assert_eq!(done.code, Some(0), "{arguments:?}\n{}\n{}", done.out, done.err);
    done.out + &done.err
}

#[test]
fn the_unit_is_well_formed_and_exposes_little() {
    needs!("systemd-analyze");
    let unit = folder().join("systemd/switchback.service").display().to_string();
    let score = analyze(&["security", "--offline=true", &unit]);
    let last =
        score.lines().find_map(|line| line.split_once("Overall exposure level for ")).expect("a score");
    let score = last.1.split_whitespace().nth(1).and_then(|number| number.parse::<f64>().ok());
    assert!(score.is_some_and(|score| score <= EXPOSURE), "{last:?}");

    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().join("switchback.service");
    let installed = "/usr/local/bin/switchback";
    let copy = text("systemd/switchback.service").replace(installed, &binary().display().to_string());
    fs::write(&here, copy).expect("write a copy");
    let said = analyze(&["verify", "--man=no", &here.display().to_string()]);
    assert!(!said.contains("switchback.service"), "{said}");
}

#[test]
fn the_unit_its_user_and_its_folders_fit_together() {
    let unit = text("systemd/switchback.service");
    let value = |key: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        line.unwrap_or_else(|| panic!("no {key}")).to_owned()
    };
    let user = value("User");
    assert!(text("systemd/switchback.sysusers").lines().any(|line| line.starts_with(&format!("u {user} "))));
    let owned = format!("d /etc/{} 0750 root {user} -", value("ConfigurationDirectory"));
    assert!(text("systemd/switchback.tmpfiles").contains(&owned), "{owned}");
    let begins = format!("/usr/local/bin/switchback run -c /etc/{}", value("ConfigurationDirectory"));
    assert_eq!(value("ExecStart"), begins);
    assert_eq!(
        (&*value("StateDirectoryMode"), &*value("UMask"), &*value("LimitCORE")),
        ("0700", "0077", "0")
    );
}
