//! The image and the composition, as far as they can be looked at without a container engine.
//!
//! hadolint reads the Dockerfile; that it builds is not shown here, for there is no engine in the tests.

use std::process::Command;

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

#[test]
fn the_image_holds_one_program_and_nobody_with_rights() {
    let file = text("container/Dockerfile");
    let (build, image) = file.split_once("\nFROM scratch\n").expect("a last stage from nothing");
    assert!(build.contains("--locked --release"), "{build}");
    assert!(image.contains("\nUSER 65532:65532\n") && !image.contains("RUN "), "{image}");
    assert!(image.contains("ENTRYPOINT [\"/usr/local/bin/switchback\"]"), "{image}");
    let top = folder().join("..");
    let sources = build.lines().filter_map(|line| line.strip_prefix("COPY ")).flat_map(|line| {
        let mut words: Vec<_> = line.split(' ').collect();
        words.pop();
        words
    });
    let ignored = text("container/Dockerfile.dockerignore");
    for source in sources {
        assert!(top.join(source).exists(), "{source} is not there to be copied");
        assert!(ignored.lines().any(|line| line == format!("!{source}")), "{source} is ignored");
    }
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
