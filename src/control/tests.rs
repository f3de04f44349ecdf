//! The control plane as an operator meets it: real files, a real watcher, a real state folder.

mod crowd;
mod disks;
mod shadows;
mod suffering;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::writer::Disk;
use super::*;
use crate::model::Generation;
use crate::plan::Plans;
use crate::telemetry::Cold;

/// Long enough for a busy machine; nothing waits that long when all is well.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(canary: u32) -> String {
    format!(
        "listeners: [{{ name: web, address: \"127.0.0.1:0\" }}]\n\
         upstreams: {{ stable: \"http://127.0.0.1:1\", canary: \"http://127.0.0.1:2\" }}\n\
         routes: [{{ name: all, split: {{ stable: 100, canary: {canary} }} }}]\n"
    )
}

struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    fn new(text: &str) -> Self {
        let site = Self { dir: tempfile::tempdir().expect("a folder") };
        fs::create_dir(site.path("etc")).expect("a folder");
        fs::write(site.file(), text).expect("written");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("etc/switchback.yaml")
    }

    fn start(&self) -> Started {
        self.start_at(&self.file())
    }

    fn start_at(&self, file: &Path) -> Started {
        self.start_on(file, |disk| disk)
    }

    /// The same with another disk in the place of the one it has.
    fn start_on(&self, file: &Path, other: impl FnOnce(Box<dyn Disk>) -> Box<dyn Disk>) -> Started {
        let state = self.path("state").display().to_string();
        let env = Arc::new(BTreeMap::from([("STATE_DIRECTORY".to_owned(), state)]));
        let mut booted = boot(file, &env, |_| 1, SystemClock.now()).expect("a good configuration");
        booted.disk = other(booted.disk);
        let (plans, wake) = (booted.publisher.plans(), booted.publisher.wake());
        let cold = Cold::new();
        let health = Arc::new(Health::default());
        let running = start(
            booted,
            Options {
                health: Arc::clone(&health),
                meters: Meters::new(cold.recorder()),
                clock: Arc::new(SystemClock),
                upkeep: Arc::new(|| {}),
                reloading: |_| {},
            },
        );
        Started { plans, wake, health, cold, running }
    }
}

struct Started {
    plans: Plans,
    wake: watch::Receiver<Generation>,
    health: Arc<Health>,
    cold: Cold,
    running: Running,
}

impl Drop for Started {
    fn drop(&mut self) {
        self.running.stop();
    }
}

impl Started {
    fn weights(&self) -> Vec<(String, u32)> {
        let plan = self.plans.load_full();
        let route = plan.route_named("all").expect("the route");
        route.arms.iter().map(|arm| (arm.name.to_string(), arm.weight)).collect()
    }

    fn canary(&self) -> u32 {
        self.weights().iter().find(|(arm, _)| arm == "canary").map_or(0, |(_, weight)| *weight)
    }

    /// Waits until the plan in force has this canary weight.
    async fn canary_becomes(&mut self, weight: u32) {
        let reached = async {
            while self.canary() != weight {
                self.wake.changed().await.expect("a publisher");
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(in_time, "canary stayed {}: {:?}", self.canary(), self.running.control.report());
    }

    /// Waits until the last attempt to load was or was not accepted.
    async fn last_attempt_becomes(&self, ok: bool) {
        let reached = async {
            while self.running.control.report().last.ok != ok {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, reached).await.expect("an attempt");
    }

    async fn set(&self, weights: &[(&str, u32)], expected: Expected) -> Result<WeightsDone, Refusal> {
        let weights = weights.iter().map(|(arm, weight)| ((*arm).to_owned(), *weight)).collect();
        self.running.control.set_weights("all".to_owned(), Some(weights), By::actor("op"), expected).await
    }

    fn metric(&self, line: &str) -> bool {
        let mut text = String::new();
        self.cold.render(&mut text);
        text.lines().any(|found| found == line)
    }
}

fn rename_over(file: &Path, text: &str) {
    let draft = file.with_extension("tmp");
    fs::write(&draft, text).expect("written");
    fs::rename(draft, file).expect("renamed");
}

#[tokio::test]
async fn every_way_to_change_a_file_is_seen() {
    let site = Site::new(&config(1));
    let mut started = site.start();
    rename_over(&site.file(), &config(2));
    started.canary_becomes(2).await;
    fs::write(site.file(), config(3)).expect("written");
    started.canary_becomes(3).await;
    fs::remove_file(site.file()).expect("removed");
    fs::write(site.file(), config(4)).expect("written");
    started.canary_becomes(4).await;
    // Half a file is no configuration, and is not reported while it is still being written.
    let text = config(5);
    let (half, rest) = text.split_at(text.len() / 2);
    let mut file = fs::File::create(site.file()).expect("opened");
    file.write_all(half.as_bytes()).expect("written");
    tokio::time::sleep(Duration::from_millis(80)).await;
    file.write_all(rest.as_bytes()).expect("written");
    drop(file);
    started.canary_becomes(5).await;
    assert!(started.running.control.report().last.ok);
    assert!(started.metric("switchback_config_reloads_total{result=\"failure\"} 0"));
    assert!(started.metric("switchback_config_last_reload_successful 1"));
}

#[tokio::test]
async fn a_kubernetes_mount_swaps_a_link() {
    let site = Site::new("");
    let etc = site.path("etc");
    let version = |name: &str, text: &str| {
        fs::create_dir(etc.join(name)).expect("a folder");
        fs::write(etc.join(name).join("switchback.yaml"), text).expect("written");
        std::os::unix::fs::symlink(name, etc.join("..data_tmp")).expect("a link");
        fs::rename(etc.join("..data_tmp"), etc.join("..data")).expect("renamed");
    };
    fs::remove_file(site.file()).expect("removed");
    version("..1", &config(1));
    std::os::unix::fs::symlink("..data/switchback.yaml", site.file()).expect("a link");
    for path in [site.file(), etc.clone()] {
        let mut started = site.start_at(&path);
        let now = started.canary();
        for weight in now + 1..now + 4 {
            version(&format!("..{weight}"), &config(weight));
            fs::remove_dir_all(etc.join(format!("..{}", weight - 1))).expect("removed");
            started.canary_becomes(weight).await;
        }
    }
}

#[tokio::test]
async fn a_broken_file_keeps_the_plan_and_verbs_go_on() {
    let site = Site::new(&config(5));
    let mut started = site.start();
    rename_over(&site.file(), &config(6).replace("canary: 6", "canary: 6, ghost: 1"));
    started.last_attempt_becomes(false).await;
    assert_eq!(started.canary(), 5);
    assert!(started.metric("switchback_config_last_reload_successful 0"));
    assert!(started.health.readiness().checks["config"].contains("last good"));
    let refusal = started
        .running
        .control
        .reload(false, By::actor("op"), Expected::Any)
        .await
        .expect_err("the file is broken");
    assert_eq!(refusal.kind, RefusalKind::Diagnostics);
    let unknown = refusal.diagnostics.iter().find(|found| found.code == "unknown-upstream");
    assert_eq!(unknown.map(|found| found.place.line), Some(3));

    let done = started.set(&[("stable", 50), ("canary", 50)], Expected::Any).await.expect("set");
    assert_eq!(done.generation, Generation(2));
    assert_eq!(started.canary(), 50);

    // The split is as it was when the weights were set, so they hold.
    rename_over(&site.file(), &format!("{}# mended\n", config(5)));
    started.last_attempt_becomes(true).await;
    assert_eq!(started.canary(), 50);
    // An edit of the split ends them.
    rename_over(&site.file(), &config(7));
    started.canary_becomes(7).await;
    let expected =
        ["start", "reload-refused", "reload-refused", "weights", "reload", "reload", "weights-ended"];
    let whats = || -> Vec<String> {
        let journal = fs::read_to_string(site.path("state/audit.jsonl")).unwrap_or_default();
        let entries = journal.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        entries.map(|entry| entry["what"].as_str().expect("a word").to_owned()).collect()
    };
    let noted = async {
        while whats().len() < expected.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(PATIENCE, noted).await;
    assert_eq!(whats(), expected);
}

#[tokio::test]
async fn weights_survive_a_restart_until_reset() {
    let site = Site::new(&config(5));
    let started = site.start();
    started.set(&[("stable", 80), ("canary", 20)], Expected::Any).await.expect("set");
    drop(started);
    let started = site.start();
    assert_eq!(started.weights(), [("canary".to_owned(), 20), ("stable".to_owned(), 80)]);
    let by = || By::actor("op");
    let reset = started.running.control.set_weights("all".to_owned(), None, by(), Expected::Nothing);
    let done = reset.await.expect("toward stable");
    assert_eq!(done.changed.len(), 2);
    assert_eq!(started.canary(), 5);
    drop(started);
    assert_eq!(site.start().canary(), 5);
}

#[tokio::test]
async fn generations_guard_moves_toward_canary_only() {
    let site = Site::new(&config(5));
    let started = site.start();
    let more = [("stable", 90), ("canary", 10)];
    let kind =
        |result: Result<WeightsDone, Refusal>| result.map_err(|refusal| (refusal.kind, refusal.generation));
    let one = Generation(1);
    assert_eq!(
        kind(started.set(&more, Expected::Nothing).await),
        Err((RefusalKind::MissingGeneration, Some(one)))
    );
    let stale = Expected::Exactly(Generation(9));
    assert_eq!(kind(started.set(&more, stale).await), Err((RefusalKind::Stale, Some(one))));
    assert_eq!(started.plans.load_full().generation, one);
    let done = started.set(&more, Expected::Exactly(one)).await.expect("the present generation");
    assert_eq!(done.generation, Generation(2));
    let relief = started.set(&[("stable", 100)], stale).await.expect("toward stable");
    assert_eq!(
        relief.changed.iter().map(|one| (one.before, one.after)).collect::<Vec<_>>(),
        [(10, 0), (90, 100)]
    );
    let unknown = started.set(&[("canry", 1)], Expected::Any).await.expect_err("no such arm");
    assert_eq!((unknown.kind, unknown.hint.contains("canary")), (RefusalKind::Invalid, true), "{unknown:?}");
    let nothing = started.set(&[], Expected::Any).await.expect_err("no arm");
    assert_eq!(nothing.kind, RefusalKind::Invalid);
}

#[tokio::test]
async fn without_a_state_folder_only_relief_is_possible() {
    let site = Site::new(&config(5));
    fs::write(site.path("state"), "a file, not a folder").expect("written");
    let started = site.start();
    assert!(started.health.readiness().checks["state"].contains("cannot be written"));
    let refusal = started.set(&[("stable", 50), ("canary", 50)], Expected::Any).await.expect_err("not kept");
    assert_eq!(refusal.code, "state-not-writable");
    assert_eq!(started.canary(), 5);
    started.set(&[("stable", 100)], Expected::Nothing).await.expect("toward stable");
    assert_eq!(started.canary(), 0);
}

#[tokio::test]
async fn a_dry_run_tells_and_does_nothing() {
    let site = Site::new(&config(5));
    let started = site.start();
    started.running.tasks[1].abort();
    rename_over(&site.file(), &config(9));
    let dry = started.running.control.reload(true, By::actor("op"), Expected::Nothing).await.expect("good");
    assert_eq!((dry.generation, dry.changes.len()), (Generation(1), 1));
    assert_eq!(started.canary(), 5);
    let missing = started.running.control.reload(false, By::actor("op"), Expected::Nothing).await;
    assert_eq!(missing.expect_err("no generation").kind, RefusalKind::MissingGeneration);
    let real = started.running.control.reload(false, By::actor("op"), Expected::Any).await.expect("good");
    assert_eq!((real.generation, started.canary()), (Generation(2), 9));
    let again = started.running.control.reload(false, By::actor("op"), Expected::Any).await.expect("good");
    assert_eq!(again.generation, Generation(2));
    assert!(started.metric("switchback_config_reloads_total{result=\"success\"} 3"));
}

#[tokio::test]
async fn settings_of_the_start_are_told_after_a_reload() {
    let site = Site::new(&config(5));
    let mut started = site.start();
    rename_over(&site.file(), &format!("{}workers: 3\n", config(6)));
    started.canary_becomes(6).await;
    started.last_attempt_becomes(true).await;
    let report = started.running.control.report();
    let found = report.last.diagnostics.iter().find(|found| found.code == "needs-restart");
    assert!(found.is_some_and(|found| found.message.starts_with("workers")), "{report:?}");
}
