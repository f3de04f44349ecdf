//! Very many rollouts at once: none is forgotten, and all of them are told at once.

use std::fmt::Write as _;

use super::*;

/// Enough for what grows with their square to be felt.
const ROUTES: usize = 200;

fn crowd(version: &str) -> String {
    let mut text = "listeners: [{ name: web, address: \"127.0.0.1:0\" }]\n\
        upstreams: { stable: \"http://127.0.0.1:1\", canary: \"http://127.0.0.1:2\" }\nroutes:\n"
        .to_owned();
    for at in 0..ROUTES {
        writeln!(
            text,
            "- {{ name: r{at}, hostnames: [r{at}.example], split: {{ stable: 100, canary: 0 }}, \
             rollout: {{ version: {version}, steps: [50, 100] }} }}"
        )
        .expect("a String");
    }
    text
}

impl Started {
    fn how_many(&self, phase: &str, version: &str) -> usize {
        let told = self.running.control.rollouts();
        let there = told.rollouts.values().map(|report| &report.rollout);
        there.filter(|one| one.phase.name() == phase && one.identity.version == version).count()
    }

    async fn all_are(&self, phase: &str, version: &str) {
        let reached = async {
            while self.how_many(phase, version) != ROUTES {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE * 3, reached).await.is_ok();
        assert!(in_time, "{} of {ROUTES} are {phase} {version}", self.how_many(phase, version));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rollouts_of_very_many_routes_begin_and_change_together() {
    let site = Site::new(&crowd("v2"));
    let started = site.start();
    started.all_are("STAGE", "v2").await;
    fs::write(site.file(), crowd("v3")).expect("written");
    started.running.control.reload(false, By::actor("op"), Expected::Any).await.expect("a good file");
    started.all_are("STAGE", "v3").await;
    let told = started.running.control.rollouts();
    for route in told.rollouts.keys() {
        let history = told.history.get(route).expect("decisions");
        let states: Vec<_> = history.iter().map(|one| (one.to.to_string(), one.version.clone())).collect();
        let (to, version) = states.last().expect("a decision");
        assert_eq!((to.as_str(), version.as_str()), ("STAGE", "v3"), "{route}: {states:?}");
    }
}
