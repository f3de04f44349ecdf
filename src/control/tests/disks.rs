//! What a disk that hangs, fails, is full or forgot does to weights: it never keeps a canary there.

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::time::Instant;

use super::*;
use crate::control::writer::Draft;
use crate::rollout::Verb;

/// How a disk is at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mood {
    Well,
    Hangs,
    Fails,
}

/// A disk whose mood a test sets.
#[derive(Clone, Debug)]
struct Moody(Arc<(Mutex<Mood>, Condvar, AtomicBool)>);

#[derive(Debug)]
struct On(Moody, Box<dyn Disk>);

impl Moody {
    fn well() -> Self {
        Self(Arc::new((Mutex::new(Mood::Well), Condvar::new(), AtomicBool::new(false))))
    }

    fn becomes(&self, mood: Mood) {
        *self.0.0.lock().expect("a mood") = mood;
        self.0.1.notify_all();
    }

    /// Until something is being written that does not end.
    async fn holds_something(&self) {
        while !self.0.2.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Disk for On {
    fn save(&mut self, draft: &Draft) -> io::Result<()> {
        let (mood, changed, held) = &*self.0.0;
        let mood = mood.lock().expect("a mood");
        held.store(*mood == Mood::Hangs, Ordering::SeqCst);
        let mood = changed.wait_while(mood, |mood| *mood == Mood::Hangs);
        held.store(false, Ordering::SeqCst);
        let failed = *mood.expect("a mood") == Mood::Fails;
        if failed { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { self.1.save(draft) }
    }
}

/// Two steps that do not end by themselves, on arms that have endpoints.
fn rollout(version: &str) -> String {
    config(5).replace(
        "} }]",
        &format!("}}, rollout: {{ version: {version}, steps: [10, 50, 100], analysis: {{ dwell: 1h }}, deadline: {{ step: 2h }} }} }}]"),
    )
}

impl Started {
    fn state(&self) -> (String, String) {
        let now = self.running.control.rollouts();
        let rollout = now.rollouts.get("all").map(|one| &one.rollout);
        rollout.map(|one| (one.phase.name().to_owned(), one.reason.code.to_string())).unwrap_or_default()
    }

    async fn state_becomes(&self, state: &str) {
        let reached = async {
            while self.state().0 != state {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(in_time, "never {state}: {:?}", self.state());
    }

    async fn version_becomes(&self, version: &str) {
        let has = || {
            let now = self.running.control.rollouts();
            now.rollouts.get("all").is_some_and(|one| one.rollout.identity.version == version)
        };
        let reached = async {
            while !has() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, reached).await.is_ok();
        assert!(in_time, "never {version}: {:?}", self.state());
    }

    fn ask(&self, verb: Verb) -> impl Future<Output = Result<WeightsDone, Refusal>> + use<> {
        let control = self.running.control.clone();
        let by = By { reason: "a test".to_owned(), ..By::actor("op") };
        let (route, expected) = ("all".to_owned(), Expected::Any);
        let ask = RolloutAsk { route, verb, version: None, force: true, by, expected };
        async move { control.rollout(ask).await }
    }

    async fn told(&self, part: &'static str, word: &str) {
        let told = async {
            while !self.health.readiness().checks.get(part).is_some_and(|text| text.contains(word)) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, told).await.is_ok();
        assert!(in_time, "{:?}", self.health.readiness());
    }

    /// Ends it and waits until what it was still to write is written.
    async fn end(self) {
        self.running.stop();
        while !self.running.tasks.iter().all(tokio::task::JoinHandle::is_finished) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// The canary's share as the file on the disk has it, in parts per million.
fn on_disk(site: &Site) -> u64 {
    let text = fs::read_to_string(site.path("state/overlay.json")).expect("a file");
    let file: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    file["state"]["rollouts"]["all"]["rollout"]["share"].as_u64().expect("a share")
}

async fn at_its_first_step(site: &Site, disk: &Moody) -> Started {
    let disk = disk.clone();
    let started = site.start_on(&site.file(), |real| Box::new(On(disk, real)));
    started.state_becomes("STAGE").await;
    assert_ne!(started.canary(), 0);
    started
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_hangs_holds_up_nothing_that_goes_back() {
    let (site, disk) = (Site::new(&rollout("v2")), Moody::well());
    let started = at_its_first_step(&site, &disk).await;
    disk.becomes(Mood::Hangs);
    let raised = tokio::spawn(started.ask(Verb::Advance));
    let held = tokio::time::timeout(PATIENCE, disk.holds_something()).await;
    held.expect("the step is being written");
    let aborted = tokio::spawn(started.ask(Verb::Abort));
    let asked = Instant::now();
    while started.canary() != 0 {
        assert!(asked.elapsed() < Duration::from_secs(1), "the abort waits for the disk");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let raised = raised.await.expect("an end").expect_err("overtaken");
    assert_eq!((raised.code, started.state().0.as_str()), ("overtaken", "ABORTED"), "{raised:?}");
    aborted.await.expect("an end").expect("what is in force is answered, written or not");
    started.told("state", "has not answered").await;
    let refused = started.ask(Verb::Retry).await.expect_err("nothing begins that cannot be written");
    assert_eq!(refused.code, "store");
    disk.becomes(Mood::Well);
    started.told("state", "ok").await;
    // What hung had taken the step; what is written after it has not.
    let written = async {
        while on_disk(&site) != 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, written).await.expect("the abort is written");
    started.ask(Verb::Retry).await.expect("it can be written again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_hanging_disk_did_not_take_in_time_does_not_happen_later() {
    let (site, disk) = (Site::new(&rollout("v2")), Moody::well());
    let started = at_its_first_step(&site, &disk).await;
    let before = (started.weights(), on_disk(&site));
    disk.becomes(Mood::Hangs);
    let raised = started.ask(Verb::Advance).await.expect_err("the disk hangs");
    assert_eq!((raised.code, started.weights()), ("state-not-writable", before.0.clone()));
    let weights = started.set(&[("stable", 1), ("canary", 1)], Expected::Any).await.expect_err("it hangs");
    assert_eq!(weights.code, "state-not-writable");
    disk.becomes(Mood::Well);
    started.told("state", "ok").await;
    started.end().await;
    assert_eq!(on_disk(&site), before.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revert_that_could_not_be_written_is_not_forgotten() {
    // What is left of it for the next start: a mark, or a line of the history.
    for left in ["putback", "history.jsonl"] {
        let (site, disk) = (Site::new(&rollout("v2")), Moody::well());
        let started = at_its_first_step(&site, &disk).await;
        disk.becomes(Mood::Fails);
        started.ask(Verb::Abort).await.expect("toward stable");
        started.told("state", "cannot be written").await;
        assert!(started.metric("switchback_state_write_failures_total 1"), "it is counted");
        started.end().await;
        assert_eq!(on_disk(&site), 100_000, "the state file does not know");
        for file in ["putback", "history.jsonl"] {
            if file != left {
                fs::remove_file(site.path("state").join(file)).expect("removed");
            }
        }
        let started = site.start();
        assert_eq!(started.canary(), 0, "{left}: not for a moment");
        started.state_becomes("REVERTED").await;
        assert_eq!((started.canary(), started.state().1.as_str()), (0, "put-back-before"), "{left}");
        // Once it is written it needs no witness, and a person's word still starts it again.
        started.ask(Verb::Retry).await.expect("with a reason");
        started.end().await;
        let started = site.start();
        started.state_becomes("STAGE").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_forgets_no_revert() {
    let site = Site::new(&rollout("v2"));
    let state = site.path("state");
    fs::create_dir(&state).expect("a folder");
    let mount = |program: &str, arguments: &[&str]| {
        let ran = Command::new(program).args(arguments).arg(&state).status();
        ran.is_ok_and(|status| status.success())
    };
    if !mount("mount", &["-t", "tmpfs", "-o", "size=256k", "none"]) {
        eprintln!("skipped: only root may mount");
        return;
    }
    let started = site.start();
    started.state_becomes("STAGE").await;
    let filled = fs::write(state.join("filler"), vec![0; 1 << 20]);
    started.ask(Verb::Abort).await.expect("toward stable");
    started.told("state", "cannot be written").await;
    let at_the_abort = (started.canary(), on_disk(&site));
    started.end().await;
    // What little room there was may have taken the history; the mark needs none.
    let _ = fs::remove_file(state.join("history.jsonl"));
    let started = site.start();
    let after = started.canary();
    started.state_becomes("REVERTED").await;
    let told = started.health.readiness().checks["state"].clone();
    started.end().await;
    assert!(mount("umount", &["-l"]));
    assert!(filled.is_err(), "the disk is full");
    assert_eq!((at_the_abort, after), ((0, 100_000), 0), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_state_file_does_not_start_again_what_was_put_back() {
    let site = Site::new(&rollout("v2"));
    let started = site.start();
    started.state_becomes("STAGE").await;
    started.ask(Verb::Abort).await.expect("toward stable");
    started.end().await;
    fs::remove_file(site.path("state/overlay.json")).expect("removed");
    let mut started = site.start();
    started.running.has_begun().await;
    let state = started.state();
    assert_eq!((started.canary(), state.0.as_str(), state.1.as_str()), (0, "IDLE", "version-locked"));
    // Another version begins anew, as at the first start.
    rename_over(&site.file(), &rollout("v3"));
    started.state_becomes("STAGE").await;
    started.end().await;
    // Without the history as well nothing is known.
    for file in ["overlay.json", "history.jsonl"] {
        fs::remove_file(site.path("state").join(file)).expect("removed");
    }
    rename_over(&site.file(), &rollout("v2"));
    site.start().state_becomes("STAGE").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_on_a_full_disk_outlives_edits_of_the_version() {
    let (site, disk) = (Site::new(&rollout("v2")), Moody::well());
    let started = at_its_first_step(&site, &disk).await;
    disk.becomes(Mood::Fails);
    for next in ["v3", "v4"] {
        started.ask(Verb::Abort).await.expect("toward stable");
        rename_over(&site.file(), &rollout(next));
        started.version_becomes(next).await;
    }
    started.told("state", "cannot be written").await;
    started.end().await;
    fs::remove_file(site.path("state/history.jsonl")).expect("removed");
    // Whichever comes first is known, and the other one is not forgotten by a good write between.
    for version in ["v2", "v3", "v2"] {
        rename_over(&site.file(), &rollout(version));
        let mut started = site.start();
        started.running.has_begun().await;
        started.version_becomes(version).await;
        assert_eq!(started.canary(), 0, "{version}");
        assert!(
            ["REVERTED", "IDLE"].contains(&started.state().0.as_str()),
            "{version}: {:?}",
            started.state()
        );
        started.told("state", "ok").await;
        started.end().await;
    }
    rename_over(&site.file(), &rollout("v5"));
    site.start().state_becomes("STAGE").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_number_of_aborts_makes_the_first_one_forgotten() {
    let site = Site::new(&rollout("v0"));
    let started = site.start();
    for number in 0..40 {
        started.version_becomes(&format!("v{number}")).await;
        started.ask(Verb::Abort).await.expect("toward stable");
        rename_over(&site.file(), &rollout(&format!("v{}", number + 1)));
    }
    started.version_becomes("v40").await;
    rename_over(&site.file(), &rollout("v0"));
    started.version_becomes("v0").await;
    assert_eq!(started.state(), ("IDLE".to_owned(), "version-locked".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrupt_state_file_does_not_make_an_abort_forgotten() {
    let site = Site::new(&rollout("v2"));
    let started = site.start();
    started.state_becomes("STAGE").await;
    started.ask(Verb::Abort).await.expect("toward stable");
    started.end().await;
    fs::write(site.path("state/overlay.json"), "garbage").expect("written");
    let mut started = site.start();
    started.running.has_begun().await;
    let (phase, code) = started.state();
    assert_eq!((started.canary(), phase.as_str(), code.as_str()), (0, "IDLE", "version-locked"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_abort_outlives_a_start_without_its_route() {
    let site = Site::new(&rollout("v2"));
    let started = site.start();
    started.state_becomes("STAGE").await;
    started.ask(Verb::Abort).await.expect("toward stable");
    started.end().await;
    let without = config(5).replace("name: all", "name: other");
    rename_over(&site.file(), &without);
    for _ in 0..2 {
        let mut started = site.start();
        started.running.has_begun().await;
        started.end().await;
    }
    fs::remove_file(site.path("state/history.jsonl")).expect("removed");
    let mut started = site.start();
    started.running.has_begun().await;
    rename_over(&site.file(), &rollout("v2"));
    started.version_becomes("v2").await;
    assert_eq!((started.canary(), started.state().1.as_str()), (0, "version-locked"));
}
