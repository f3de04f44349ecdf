//! What `simulate` prints: golden replays of written counts, and few runs of each scenario.

use std::fs;

use clap::Parser;
use serde_json::Value;

use crate::cli::{Cli, Command, Exit, Streams};

const POLICY: &str = "\
upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }
routes:
  - name: shop
    split: { stable: 95, canary: 5 }
    rollout: { version: v2, steps: [5, 50, 100], analysis: { confidence: high } }
";

#[derive(Debug)]
struct Said {
    exit: Exit,
    out: String,
    err: String,
}

fn simulate(line: &[&str]) -> Said {
    let words = ["switchback", "simulate"].iter().chain(line);
    let Command::Local(local) = Cli::try_parse_from(words).unwrap().command else {
        panic!("{line:?} is not local")
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = local.run(&mut Streams { out: &mut out, err: &mut err, colour: false }).unwrap();
    Said { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// Replays counts under a policy.
fn replay(policy: &str, counts: &str, more: &[&str]) -> Said {
    let desk = tempfile::tempdir().unwrap();
    let (config, recording) = (desk.path().join("a.yaml"), desk.path().join("c.jsonl"));
    fs::write(&config, policy).unwrap();
    fs::write(&recording, counts).unwrap();
    let words = ["--policy", config.to_str().unwrap(), "--counts", recording.to_str().unwrap()];
    let mut said = simulate(&[&words[..], more].concat());
    said.err = said.err.replace(desk.path().to_str().unwrap(), "");
    said
}

/// A line a second: what both arms count, from what happens in it.
fn counts(seconds: u64, w: u64, rps: u64, bad: impl Fn(u64) -> (u64, u64)) -> String {
    let line = |second: u64| {
        let (stable, canary) = bad(second);
        let n = rps * w / 100;
        let first = if second == 0 { format!(",\"w\":{w}") } else { String::new() };
        format!(
            "{{\"t\":{second},\"stable\":{{\"n\":{},\"e\":{stable}}},\"canary\":{{\"n\":{n},\"e\":{canary}}}{first}}}\n",
            rps - n
        )
    };
    (0..seconds).map(line).collect()
}

/// The lines' beginnings, up to the evidence.
fn verdicts(said: &Said) -> Vec<&str> {
    said.out.lines().map(|line| line.split(": E ").next().unwrap()).collect()
}

#[test]
fn recorded_counts_are_judged_line_by_line() {
    let rows: [(&str, String, &[&str]); 4] = [
        (
            "healthy",
            counts(120, 5, 1_000, |second| (second % 2, 0)),
            &[
                "t=0 step 0 (5 %): undecided [none], stay",
                "t=59 step 0 (5 %): healthy [none], advance",
                "healthy at t=119, confidence high",
            ],
        ),
        (
            "a canary that fails",
            counts(120, 5, 100, |second| (0, if second < 30 { 0 } else { 5 })),
            &[
                "t=0 step 0 (5 %): undecided [none], stay",
                "t=30 step 0 (5 %): suspect [guard], hold",
                "t=31 step 0 (5 %): harmful [guard], revert",
                "reverted at t=31, confidence high",
            ],
        ),
        (
            "an outage of both",
            counts(60, 5, 100, |_| (95, 5)),
            &["t=0 step 0 (5 %): suspect [stable-unhealthy], hold", "suspect at t=59, confidence high"],
        ),
        (
            "five in a hundred",
            counts(120, 5, 100, |second| (0, u64::from(second % 4 == 1))),
            &[
                "t=0 step 0 (5 %): undecided [none], stay",
                "t=21 step 0 (5 %): suspect [errors], hold",
                "t=29 step 0 (5 %): harmful [errors], revert",
                "reverted at t=29, confidence high",
            ],
        ),
    ];
    for (name, recording, expected) in rows {
        let said = replay(POLICY, &recording, &[]);
        assert_eq!((said.exit, said.err.as_str()), (Exit::Ok, ""), "{name}");
        assert_eq!(verdicts(&said), expected, "{name}");
    }
}

#[test]
fn evidence_is_told_in_the_words_of_a_live_status() {
    let said = replay(POLICY, &counts(60, 50, 100, |_| (0, 20)), &[]);
    // As `rollout_text::against` writes it: no exponents of a program, a threshold as people know it.
    let told = said.out.lines().find(|line| line.contains("harmful")).unwrap();
    assert!(told.contains(" of 1000, canary") && !told.contains("e+") && !told.contains("e1 of"), "{told}");
    assert!(said.out.ends_with("confidence high\n"), "{}", said.out);
}

#[test]
fn as_json_every_tick_is_an_object_with_its_evidence() {
    let said = replay(POLICY, &counts(40, 5, 100, |_| (0, 5)), &["--json"]);
    let lines: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2, "nothing is judged after a revert");
    let last = &lines[1];
    assert_eq!(
        (&last["verdict"], &last["rule"], &last["move"]),
        (&"harmful".into(), &"guard".into(), &"revert".into())
    );
    assert_eq!((&last["canary"]["n"], &last["canary"]["e"]), (&10.into(), &10.into()));
    assert!(
        last["evidence"]["byMetric"]["guard"].as_f64().unwrap()
            > last["evidence"]["threshold"].as_f64().unwrap()
    );
    for key in
        ["atSecond", "step", "weight", "stable", "detectableRatio", "waitingFor", "etaSeconds", "confidence"]
    {
        assert!(last.get(key).is_some(), "{key}: {last}");
    }
}

#[test]
fn what_harm_does_is_the_policys() {
    for (on_harm, verb) in [("pause", "pause"), ("observe", "observe")] {
        let policy = POLICY.replace("version: v2,", &format!("version: v2, onHarm: {on_harm},"));
        let said = replay(&policy, &counts(40, 5, 100, |_| (0, 5)), &[]);
        assert!(said.out.contains(&format!("harmful [guard], {verb}")), "{}", said.out);
        assert!(said.out.ends_with("harmful at t=39, confidence high\n"), "{}", said.out);
    }
}

#[test]
fn the_recordings_steps_are_followed_and_where_the_policy_differs_is_said() {
    // The second in which the recording takes its second step, and what is said of it.
    for (taken, differs) in [(60, None), (20, Some("the recording went to step 1 without it"))] {
        let line = |t: u64| {
            let (w, step) = if t < taken { (5, 0) } else { (50, 1) };
            let canary = 10 * w;
            let first =
                if t == 0 || t == taken { format!(",\"w\":{w},\"step\":{step}") } else { String::new() };
            format!(
                "{{\"t\":{t},\"stable\":{{\"n\":{},\"e\":0}},\"canary\":{{\"n\":{canary},\"e\":0}}{first}}}\n",
                1_000 - canary
            )
        };
        let said = replay(POLICY, &(0..90).map(line).collect::<String>(), &["--json"]);
        let ticks: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(ticks.len(), 90, "{}", said.err);
        let advances: Vec<_> =
            ticks.iter().filter(|tick| tick["move"] == "advance").map(|tick| &tick["atSecond"]).collect();
        assert_eq!(advances, if taken == 60 { vec![59] } else { vec![] }, "{taken}");
        let told: Vec<_> = ticks.iter().filter_map(|tick| tick["differs"].as_str()).collect();
        assert_eq!(told, differs.into_iter().collect::<Vec<_>>(), "{taken}");
        let later = ticks.iter().find(|tick| tick["atSecond"] == taken + 10).unwrap();
        assert_eq!((&later["step"], &later["state"]), (&1.into(), &"STAGE".into()), "{later}");
    }
}

/// What the given counts hold, second by second: 1,000 requests a second of which the canary gets
/// 10 %, for five and a half minutes. `config/README.md` says it in words.
fn given(name: &str) -> String {
    const USUAL: &[(u64, u64)] = &[(20, 50), (50, 45), (100, 5)];
    const SLOWER: &[(u64, u64)] = &[(24, 50), (60, 45), (120, 5)];
    const SLOW: &[(u64, u64)] = &[(20, 50), (50, 45), (100, 3), (1_200, 2)];
    let arm = |n: u64, e: u64, latency: &[(u64, u64)]| {
        let good = n - e;
        let rest: u64 = latency.iter().skip(1).map(|(_, part)| good * part / 100).sum();
        let count = |at: usize, part: u64| if at == 0 { good - rest } else { good * part / 100 };
        let bins = latency.iter().enumerate().filter(|_| good > 0);
        let bins: Vec<_> =
            bins.map(|(at, (millis, part))| format!("[{millis},{}]", count(at, *part))).collect();
        format!("{{\"n\":{n},\"e\":{e},\"latency\":[{}]}}", bins.join(","))
    };
    let line = |t: u64| {
        let (stable, canary) = match name {
            "errors-2" => (1, 2),
            "errors-8" => (1, 8),
            "both-6" => (54, 6),
            "outage-30s" if (40..70).contains(&t) => (900, 100),
            _ => (1, u64::from(t % 10 == 9)),
        };
        let latency = match name {
            "p99-plus-20" => SLOWER,
            "p99-1200ms" => SLOW,
            _ => USUAL,
        };
        let first = if t == 0 { ",\"w\":10,\"step\":0" } else { "" };
        let (stable, canary) = (arm(900, stable, USUAL), arm(100, canary, latency));
        format!("{{\"t\":{t},\"stable\":{stable},\"canary\":{canary}{first}}}\n")
    };
    (0..330).map(line).collect()
}

/// A verdict as the table of `config/README.md` says it: the revert, else the first step forward.
fn verdict(said: &Said) -> String {
    let ticks: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = ["revert", "advance", "hold"];
    let tick = found.iter().find_map(|moved| ticks.iter().find(|tick| tick["move"] == *moved)).unwrap();
    let (moved, at, rule) = (&tick["move"], &tick["atSecond"], &tick["rule"]);
    let rule = if rule == "none" { String::new() } else { format!(": {}", rule.as_str().unwrap()) };
    format!("{} at {at} s{rule}", moved.as_str().unwrap())
}

/// Policies as people have them, on given counts: the table of the reference is what comes out.
#[test]
fn policies_people_have_do_what_the_reference_says() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    let readme = fs::read_to_string(folder.join("README.md")).unwrap();
    let rows: Vec<Vec<&str>> = readme
        .lines()
        .filter(|line| line.starts_with("| [") && line.contains("(policies/"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(rows.len(), 7, "rows of the table");
    for row in rows {
        let name = row[0].split(['[', ']']).nth(1).unwrap();
        let counts = folder.join(format!("policies/{name}.jsonl"));
        assert_eq!(fs::read_to_string(&counts).unwrap(), given(name), "{name} holds what is said of it");
        for (policy, cell) in ["steady", "limits", "flagger"].iter().zip(&row[1..]) {
            let policy = folder.join(format!("policies/{policy}.yaml"));
            let said = simulate(&[
                "--policy",
                policy.to_str().unwrap(),
                "--counts",
                counts.to_str().unwrap(),
                "--json",
            ]);
            assert_eq!((said.exit, said.err.as_str()), (Exit::Ok, ""), "{name}");
            assert_eq!(verdict(&said), cell.replace('`', ""), "{name} under {}", policy.display());
        }
    }
}

#[test]
fn what_cannot_be_replayed_is_refused_with_its_place() {
    let two = POLICY.replace(
        "routes:\n",
        "routes:\n  - { name: b, split: { stable: 1, canary: 1 }, rollout: { version: v1 } }\n",
    );
    let good = counts(2, 5, 100, |_| (0, 0));
    let rows: [(&str, &str, &str, &[&str], &str); 6] = [
        ("alpha", &POLICY.replace("confidence: high", "alpha: 1"), &good, &[], "below 1"),
        ("no rollout", "routes: [{ name: a, split: { stable: 1 } }]\n", &good, &[], "no route has a rollout"),
        ("two", &two, &good, &[], "--route: b, shop"),
        ("unknown", &two, &good, &["--route", "shpo"], "did you mean `shop`"),
        ("line", POLICY, "{\"t\":0}\n", &[], "line 1: column 7: missing field `stable`"),
        ("shape", &POLICY.replace("steps:", "stpes:"), &good, &[], "did you mean `steps`"),
    ];
    for (name, policy, recording, more, says) in rows {
        let said = replay(policy, recording, more);
        assert_eq!(said.exit, Exit::Refused, "{name}: {}", said.err);
        assert!(said.err.contains(says), "{name}: {}", said.err);
    }
    let empty = replay(POLICY, "\n", &["--json"]);
    assert_eq!((empty.exit, empty.out.as_str()), (Exit::Refused, ""));
    assert!(empty.err.contains("there are no counts in it"), "{}", empty.err);
    let missing = simulate(&["--policy", "/nonexistent.yaml", "--counts", "/nonexistent.jsonl"]);
    assert_eq!(missing.exit, Exit::Usage);
    let fine = replay(&two, &good, &["--route", "shop"]);
    assert_eq!(fine.exit, Exit::Ok, "{}", fine.err);
}

#[test]
fn every_scenario_runs_and_the_seed_decides() {
    for scenario in [
        "healthy",
        "errors",
        "slow",
        "outage",
        "ramp",
        "traffic-ramp",
        "drift",
        "pauses",
        "bursts",
        "sticky-bot",
        "low-traffic",
        "shadow",
    ] {
        let line = ["--scenario", scenario, "--rps", "20", "--requests", "2400", "--runs", "2", "--json"];
        let bad = ["errors", "slow", "shadow", "outage", "ramp"].contains(&scenario);
        let with = [&line[..], &["--canary", "50%"]].concat();
        assert_eq!(simulate(&with).exit, if bad { Exit::Ok } else { Exit::Usage }, "{scenario}");
        let line = if bad { with } else { line.to_vec() };
        let (one, two) = (simulate(&line), simulate(&line));
        assert_eq!((one.exit, &one.out), (Exit::Ok, &two.out), "{scenario}");
        let json: Value = serde_json::from_str(&one.out).unwrap();
        assert_eq!((&json["scenario"], &json["runs"]), (&scenario.into(), &2.into()));
    }
    let refused = Cli::try_parse_from(["switchback", "simulate", "--scenario", "healthy", "--weight", "100"]);
    assert!(refused.is_err_and(|error| error.to_string().contains("nothing to compare")));
    assert!(Cli::try_parse_from(["switchback", "simulate"]).is_err());
}

/// A few runs only, so that it takes seconds unoptimised; the long form is one command.
#[test]
fn bad_canaries_are_reverted_and_healthy_ones_are_not() {
    let run = |line: &str| -> Value {
        let words: Vec<&str> = line.split(' ').collect();
        serde_json::from_str(&simulate(&words).out).unwrap()
    };
    let bad = run("--scenario errors --canary 20% --requests 12000 --runs 20 --json");
    assert_eq!(bad["reverted"], 20);
    assert!(bad["delaySeconds"]["median"].as_f64().unwrap() <= 20.0, "{bad}");
    let shadow = run("--scenario shadow --canary 1% --weight 10 --requests 200000 --runs 60 --json");
    assert_eq!(shadow["reverted"], 60);
    assert!(shadow["delayRequests"]["median"].as_f64().unwrap() <= 1_900.0, "{shadow}");
    for line in [
        "--scenario shadow --canary 0.1% --weight 10 --requests 20000 --runs 60 --json",
        "--scenario outage --canary 100% --weight 50 --rps 20 --requests 4800 --runs 40 --json",
        "--scenario bursts --baseline 0.5% --weight ladder --rps 20 --requests 4800 --runs 40 --json",
        "--scenario healthy --weight ladder --rps 20 --requests 4800 --runs 40 --json",
        "--scenario healthy --weight 50 --rule relative --baseline 1% --requests 20000 --runs 60 --json",
    ] {
        assert_eq!(run(line)["reverted"], 0, "{line}");
    }
}
