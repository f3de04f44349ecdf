//! What is shipped for running it: rules, dashboard, unit, images, manifests, runbooks.
//!
//! Every file under `deploy/` is read here as the program it is meant for reads it, and what can be run
//! is run against the real process. A file must never name a metric, a key or a command that does not
//! exist, and nothing here may reach beyond loopback.

mod container;
mod dashboard;
mod kubernetes;
mod live;
mod names;
mod rules;
mod runbooks;
mod systemd;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Series that Prometheus itself writes about a target.
const FOREIGN: &[&str] = &["up"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

#[track_caller]
fn text(path: &str) -> String {
    let file = folder().join(path);
    fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

#[track_caller]
fn yaml(path: &str) -> Value {
    parsed(path, &text(path))
}

#[track_caller]
fn parsed(path: &str, text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every document of a file of several.
#[track_caller]
fn documents(path: &str) -> Vec<Value> {
    let text = text(path);
    text.split("\n---\n").map(|one| parsed(path, one)).filter(|one| !one.is_null()).collect()
}

/// Every file below `deploy/` with one of these endings, as paths from there.
fn files(endings: &[&str]) -> Vec<String> {
    let (mut open, mut found) = (vec![folder()], vec![]);
    while let Some(at) = open.pop() {
        for entry in fs::read_dir(&at).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                open.push(entry);
            } else if entry.extension().is_some_and(|ending| endings.iter().any(|one| ending == *one)) {
                found.push(entry.strip_prefix(folder()).expect("below").display().to_string());
            }
        }
    }
    found.sort();
    found
}

/// One alerting rule.
struct Alert {
    name: String,
    rule: Value,
}

fn alerts() -> Vec<Alert> {
    let groups = yaml("prometheus/alerts.yml");
    let rules = groups["groups"].as_array().expect("groups").iter().flat_map(|group| {
        let rules = group["rules"].as_array().expect("rules").clone();
        rules.into_iter().map(|rule| Alert { name: rule["alert"].as_str().expect("a name").to_owned(), rule })
    });
    rules.collect()
}

/// Title and query of everything the dashboard asks.
fn panels() -> Vec<(String, String)> {
    let whole: Value = serde_json::from_str(&text("grafana/switchback.json")).expect("JSON");
    let panels = whole["panels"].as_array().expect("panels").iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title").to_owned();
        let targets = panel["targets"].as_array().cloned().unwrap_or_default();
        targets.into_iter().map(move |one| (title.clone(), one["expr"].as_str().expect("a query").to_owned()))
    });
    let notes = whole["annotations"]["list"].as_array().expect("annotations").iter();
    let notes = notes.map(|one| {
        let text = |key: &str| one[key].as_str().expect("a text").to_owned();
        (text("name"), text("expr"))
    });
    panels.chain(notes).collect()
}
