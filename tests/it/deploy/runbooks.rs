//! Every command of every runbook does what it says against a real process in the state it is meant for.
//!
//! Blocks of `sh` are run line by line; the word after `sh` is the state a rollout is in. Only addresses, the
//! folder of the configuration and `RUN` are filled in. Other programs stand in blocks of `text`, unrun.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use super::{alerts, files, text};
use crate::support::load::Load;
use crate::support::tools::{binary, run};
use crate::support::{Origin, Proxy, Site, eventually, get, needs};

const SECTIONS: [&str; 5] = ["Trigger", "Quick checks", "Causes", "What to type", "Escalation"];

/// Verbs that read files and ask no proxy.
const LOCAL: [&str; 3] = ["check", "diff", "schema"];

/// Commands of a page with the state each needs; `""` is a live rollout.
fn commands(page: &str) -> Vec<(String, String)> {
    let (mut state, mut found) = (None, vec![]);
    for line in page.lines() {
        match (&state, line.strip_prefix("```")) {
            (None, Some(kind)) => state = Some(kind.to_owned()),
            (Some(_), Some(_)) => state = None,
            (Some(kind), None) if !line.trim().is_empty() => {
                if let Some(needed) = kind.strip_prefix("sh") {
                    found.push((needed.trim().to_owned(), line.to_owned()));
                }
            }
            _ => {}
        }
    }
    found
}

#[test]
fn every_alert_has_a_runbook_and_every_runbook_its_sections() {
    let mut names: Vec<_> = alerts().into_iter().map(|alert| alert.name).collect();
    names.dedup();
    names.sort();
    names.dedup();
    let pages: Vec<_> = files(&["md"]).into_iter().filter(|file| file.starts_with("runbooks/")).collect();
    let expected: Vec<_> = names.iter().map(|name| format!("runbooks/{name}.md")).collect();
    assert_eq!(pages, expected);
    for page in pages {
        let text = text(&page);
        let headings: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert_eq!(headings, SECTIONS, "{page}");
        assert!(!commands(&text).is_empty(), "{page} says nothing to type");
    }
}

/// Stable and canary in a long step, an objective, a breaker and a shadow.
fn start() -> (Proxy, [Origin; 3], Load) {
    let origins = ["stable", "canary", "next"].map(Origin::start);
    let [stable, canary, next] = origins.each_ref().map(Origin::url);
    let site = Site::new(&format!(
        "metrics: {{ address: \"127.0.0.1:@metrics@\" }}\n\
         upstreams: {{ stable: \"{stable}\", next: \"{next}\", \
         canary: {{ endpoints: [\"{canary}\"], breaker: {{}} }} }}\n\
         routes: [{{ name: shop, split: {{ stable: 95, canary: 5 }}, slo: {{ availability: 99.9% }}, \
         sticky: {{ by: [{{ header: x-user-id }}] }}, \
         mirror: {{ to: next, percent: 100%, compare: [status] }}, \
         rollout: {{ version: v2, steps: [10, 50, 100], deadline: {{ step: 2h }}, \
         analysis: {{ confidence: low, minRequests: 5, dwell: 1h }} }} }}]\n"
    ));
    let proxy = site.start();
    let load = Load::h1(proxy.web(), 1, Duration::from_millis(20), |user| {
        get("/").header("x-user-id", &format!("u{user}"))
    });
    (proxy, origins, load)
}

fn state(proxy: &Proxy) -> String {
    let route = proxy.read("/api/v1/routes/shop");
    route["rollout"]["state"].as_str().unwrap_or_default().to_owned()
}

/// Brings the rollout where a block needs it.
fn bring(proxy: &Proxy, needed: &str) {
    let verb = |verb: &str| {
        let reason = json!({ "reason": "a runbook" });
        proxy.admin(&proxy.verb(&format!("/api/v1/routes/shop/rollout/{verb}"), &reason)).expect_status(200);
    };
    let ended = |proxy: &Proxy| ["ABORTED", "REVERTED"].contains(&&*state(proxy));
    match needed {
        "" => {
            let reset = json!({ "reset": true });
            proxy.admin(&proxy.verb("/api/v1/routes/shop/weights", &reset)).expect_status(200);
            if ended(proxy) {
                verb("retry");
            }
            if state(proxy) == "PAUSED" {
                verb("resume");
            }
            eventually("the rollout is live", || ["STAGE", "HOLD"].contains(&&*state(proxy)));
        }
        "reverted" => {
            if !ended(proxy) {
                verb("abort");
            }
            eventually("it was put back", || ended(proxy));
        }
        other => panic!("no state {other:?}"),
    }
}

fn filled(proxy: &Proxy, line: &str) -> String {
    let (site, mut line) = (&proxy.site, line.to_owned());
    if line.contains("RUN") {
        let history = proxy.read("/api/v1/routes/shop/history");
        let last = history["records"].as_array().and_then(|all| all.last()).expect("a record");
        line = line.replace("RUN", last["id"].as_str().expect("an id"));
    }
    let verb = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("switchback ") && !LOCAL.contains(&verb) && !line.contains("--admin") {
        line.push_str(" --admin http://127.0.0.1:9901");
    }
    line.replace("127.0.0.1:9901", &site.admin().to_string())
        .replace("127.0.0.1:9902", &site.metrics().to_string())
        .replace("/etc/switchback", &site.folder().display().to_string())
        .replace("curl -s ", "curl -sS --fail --max-time 10 ")
}

#[test]
fn every_command_of_every_runbook_works() {
    needs!("curl");
    let (proxy, _origins, _load) = start();
    eventually("it has begun", || state(&proxy) == "STAGE");
    let program = binary();
    let own = program.parent().unwrap_or(Path::new(".")).display().to_string();
    let path = format!("{own}:{}", std::env::var("PATH").unwrap_or_default());
    let mut count = 0;
    for page in files(&["md"]) {
        let mut at = None;
        for (needed, line) in commands(&text(&page)) {
            assert!(
                line.starts_with("switchback ") || line.starts_with("curl -s http://127.0.0.1:"),
                "{page}: {line}"
            );
            // A page is followed from its top; an abort in it ends what the next line needs.
            let again = state(&proxy);
            if at.as_ref() != Some(&needed)
                || (needed.is_empty() && !["STAGE", "HOLD", "PAUSED"].contains(&&*again))
            {
                bring(&proxy, &needed);
            }
            at = Some(needed);
            let line = filled(&proxy, &line);
            let mut command = Command::new("sh");
            command.args(["-c", &line]).current_dir(proxy.site.folder()).env("PATH", &path);
            let done = run(command.env("SWITCHBACK_TOKEN", proxy.site.token()), b"");
            assert_eq!(done.code, Some(0), "{page}: {line}\n{}{}", done.out, done.err);
            assert!(!done.out.is_empty(), "{page}: {line} says nothing");
            count += 1;
        }
    }
    assert!(count > 40, "only {count} commands");
}
