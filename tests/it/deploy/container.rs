//! The image and the composition, as far as they can be looked at without a container engine.
//!
//! hadolint reads the Dockerfile, and cargo the checkout as the first stage has it; that the image builds is
//! not shown here, for there is no engine in the tests.

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use super::kubernetes::{ending, seconds};
use super::{folder, parsed, text, yaml};
use crate::support::needs;
use crate::support::tools::{find, python, run, switchback};

#[test]
fn a_linter_finds_nothing_in_the_dockerfile() {
    // It is installed beside the python of the tests.
    let mut linter = python().with_file_name("hadolint");
    if !linter.is_file() {
        needs!("hadolint");
        linter = find("hadolint").expect("just found");
    }
    let mut command = Command::new(linter);
    let done = run(command.arg("Dockerfile").current_dir(folder().join("container")), b"");
    assert_eq!((done.code, &*done.out), (Some(0), ""), "{}", done.err);
}

/// What the stages of a build copy from the checkout.
fn copied(build: &str) -> Vec<&str> {
    let lines = build.lines().filter_map(|line| line.strip_prefix("COPY "));
    lines.flat_map(|line| line.rsplit_once(' ').expect("a target").0.split(' ')).collect()
}

#[test]
fn the_image_holds_one_program_and_nobody_with_rights() {
    let file = text("container/Dockerfile");
    let (build, image) = file.split_once("\nFROM scratch\n").expect("a last stage from nothing");
    assert!(build.contains("--locked --release"), "{build}");
    assert!(image.contains("\nUSER 65532:65532\n") && !image.contains("RUN "), "{image}");
    assert!(image.contains("ENTRYPOINT [\"/usr/local/bin/switchback\"]"), "{image}");
    let top = folder().join("..");
    let sources = copied(build);
    assert!(sources.len() >= 5, "{sources:?}");
    let ignored = text("container/Dockerfile.dockerignore");
    for source in sources {
        assert!(top.join(source).exists(), "{source} is not there to be copied");
        assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is ignored");
    }
}

#[test]
fn the_image_is_built_from_what_is_copied() {
    let (file, top) = (text("container/Dockerfile"), folder().join(".."));
    let build = file.split("\nFROM scratch\n").next().expect("a first stage");
    let inside = tempfile::tempdir().expect("a folder");
    for source in copied(build) {
        symlink(top.join(source).canonicalize().expect("a source"), inside.path().join(source))
            .expect("a link");
    }
    // The lock fits the manifest; nothing is asked of a registry.
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--depth", "0"]).current_dir(inside.path());
    let done = run(&mut cargo, b"");
    assert_eq!(done.code, Some(0), "{}", done.err);
    // Every target that the manifest names is there.
    let manifest = fs::read_to_string(inside.path().join("Cargo.toml")).expect("the manifest");
    let paths: Vec<_> = manifest.lines().filter_map(|line| line.strip_prefix("path = ")).collect();
    assert!(paths.len() >= 5, "{paths:?}");
    for path in paths {
        assert!(inside.path().join(path.trim_matches('"')).is_file(), "{path} is not copied");
    }
    // Nothing is compiled in from beside what is copied.
    let include = Regex::new(r#"include(?:_str|_bytes)?!\("([^"]+)"\)"#).expect("a pattern");
    let mut folders = vec![top.join("src")];
    let mut included = 0;
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                for found in include.captures_iter(&fs::read_to_string(&path).expect("a source")) {
                    assert!(
                        !found[1].contains("..") && !found[1].starts_with('/'),
                        "{}: {}",
                        path.display(),
                        &found[1]
                    );
                    included += 1;
                }
            }
        }
    }
    assert!(included > 10, "{included} files are compiled in");
}

#[test]
fn the_composition_mounts_what_is_shipped() {
    let compose = yaml("container/compose.yaml");
    let services = compose["services"].as_object().expect("services");
    let here = folder().join("container");
    let mut mounted = 0;
    for (name, service) in services {
        assert!(service["privileged"].is_null(), "{name}");
        let image = service["image"].as_str().unwrap_or_default();
        assert!(image.is_empty() || !image.ends_with(":latest") && image.contains(':'), "{name}: {image}");
        for port in service["ports"].as_array().into_iter().flatten() {
            assert!(port.as_str().is_some_and(|port| port.starts_with("127.0.0.1:")), "{name}: {port}");
        }
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().and_then(|volume| volume.split(':').next()).expect("a volume");
            let known = from.starts_with('.') && here.join(from).exists();
            assert!(known || compose["volumes"].get(from).is_some(), "{name} mounts {from}");
            mounted += 1;
        }
    }
    assert!(mounted >= 6, "{compose:#}");
    let proxy = &services["switchback"];
    let grace = proxy["stop_grace_period"].as_str().map(seconds).expect("a grace period");
    let config = text("container/config/switchback.yaml");
    assert!(grace > ending(&parsed("its configuration", &config)), "{grace} s are too short");
    let checked = switchback(&here, &["check", "config"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn prometheus_is_given_the_shipped_configuration_with_another_target() {
    let [mut own, shipped] = ["container/prometheus.yml", "prometheus/prometheus.yml"].map(yaml);
    let target = &mut own["scrape_configs"][0]["static_configs"][0]["targets"];
    assert_eq!(*target, serde_json::json!(["switchback:9902"]));
    *target = Value::clone(&shipped["scrape_configs"][0]["static_configs"][0]["targets"]);
    assert_eq!(own, shipped);
}
