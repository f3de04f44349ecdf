//! The unit as systemd reads it: it parses, and it leaves little for a stranger inside to use.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use regex::Regex;

use super::{folder, text};
use crate::support::client::Conn;
use crate::support::tools::{binary, find, run};
use crate::support::{Origin, Stranger, get, needs};

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
    // During an upgrade the process before drains: a stop may tell the main one alone.
    assert_eq!((&*value("NotifyAccess"), &*value("KillMode")), ("main", "mixed"));
    assert_eq!(
        (&*value("StateDirectoryMode"), &*value("UMask"), &*value("LimitCORE")),
        ("0700", "0077", "0")
    );
}

/// Every call of a set of systemd's, those of the sets it names among them.
fn calls(sets: &BTreeMap<String, Vec<String>>, name: &str) -> BTreeSet<String> {
    let members = sets.get(name).unwrap_or_else(|| panic!("systemd knows no {name}"));
    let all = members.iter().flat_map(|member| {
        if member.starts_with('@') { calls(sets, member) } else { BTreeSet::from([member.clone()]) }
    });
    all.collect()
}

fn sets() -> BTreeMap<String, Vec<String>> {
    let (mut sets, mut at) = (BTreeMap::<String, Vec<String>>::new(), String::new());
    for line in analyze(&["syscall-filter"]).lines() {
        match line.trim() {
            name if line.starts_with('@') => name.clone_into(&mut at),
            "" => {}
            note if note.starts_with('#') => {}
            call => sets.entry(at.clone()).or_default().push(call.to_owned()),
        }
    }
    sets
}

#[test]
fn the_program_lives_with_what_the_unit_lets_it_call() {
    needs!("systemd-analyze", "strace");
    let unit = text("systemd/switchback.service");
    assert!(unit.contains("\nSystemCallFilter=@system-service\nSystemCallFilter=~@privileged @resources\n"));
    let sets = sets();
    let mut allowed: BTreeSet<_> =
        ["@system-service", "@default"].iter().flat_map(|set| calls(&sets, set)).collect();
    for set in ["@privileged", "@resources"] {
        let without = calls(&sets, set);
        allowed.retain(|call| !without.contains(call));
    }
    let origin = Origin::start("stable");
    let traced = Stranger::start("strace", |folder, port| {
        let config = format!(
            "listeners: [{{ name: web, address: \"127.0.0.1:{port}\" }}]\n\
             admin: {{ address: \"unix:{0}/admin.sock\" }}\nstateDir: \"{0}/state\"\n\
             accessLog: {{ path: \"{0}/log\" }}\nupstreams: {{ stable: \"{1}\", other: \"http://localhost:1\" }}\n\
             routes: [{{ name: all, split: {{ stable: 1, other: 0 }}, slo: {{ availability: 99% }} }}]\n",
            folder.display(),
            origin.url()
        );
        fs::write(folder.join("switchback.yaml"), config).expect("write its configuration");
        let mut command = Command::new(find("strace").expect("strace was checked for"));
        command.arg("-f").arg("-o").arg(folder.join("trace")).arg(binary());
        command.args(["run", "-c"]).arg(folder.join("switchback.yaml"));
        command
    });
    Conn::open(traced.addr()).ask(&get("/")).expect_status(200);
    let trace = fs::read_to_string(traced.folder().join("trace")).expect("a trace");
    let call = Regex::new(r"(?m)^\d+ +([a-z0-9_]+)\(").expect("a pattern");
    let made: BTreeSet<_> = call.captures_iter(&trace).map(|found| found[1].to_owned()).collect();
    assert!(made.len() > 40 && made.contains("accept4"), "{made:?}");
    let forbidden: Vec<_> = made.difference(&allowed).collect();
    assert!(forbidden.is_empty(), "{forbidden:?}");
    let family = Regex::new(r"socket\((AF_[A-Z0-9]+)").expect("a pattern");
    for found in family.captures_iter(&trace) {
        // The resolver asks the kernel for addresses over netlink where it may, and does without.
        assert!(["AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK"].contains(&&found[1]), "{}", &found[1]);
    }
}
