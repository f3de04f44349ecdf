//! A postmortem of one run, written from its records: who was hurt, by what, and what was done.
//!
//! Pure: records in, Markdown out. It must never say more than the records do: what they leave open
//! is said to be open.

use super::remote_text::add;
use super::rollout_text::{against, asked, cell, change, short, span, what};
use crate::wire::{Evidence, History, Record, Samples};

/// The postmortem of a run.
///
/// # Errors
/// The ids there are, when there is no such run.
pub(super) fn postmortem(route: &str, history: &History, id: &str) -> Result<String, Vec<String>> {
    let records: Vec<&Record> =
        history.records.iter().filter(|record| record.id == id || is_number(&record.id, id)).collect();
    let Some(&last) = records.last() else {
        let mut known: Vec<String> = history.records.iter().map(|record| record.id.clone()).collect();
        known.dedup();
        return Err(known);
    };
    let moved = |record: &&&Record| record.from != record.to;
    let end = records.iter().rev().find(moved).copied().unwrap_or(last);
    // What it turns on: the revert, else the end.
    let turn = records.iter().rev().find(|record| record.harm.is_some()).copied().unwrap_or(end);
    let mut text = format!("# Postmortem: {} {} ({})\n\n", cell(route), cell(&last.version), cell(&last.id));
    add(&mut text, format_args!("**Status:** {}: {}\n", cell(&end.to), cell(&turn.reason)));
    impact(&mut text, &records, turn);
    timeline(&mut text, &records);
    evidence(&mut text, turn);
    failing(&mut text, turn);
    let recovery = records.iter().rev().find(|record| RECOVERY.contains(&&*record.code)).copied();
    done(&mut text, &records, turn, end, recovery);
    next(&mut text, route, turn, recovery);
    Ok(text)
}

/// Codes of the record that says whether stable recovered.
const RECOVERY: [&str; 3] = ["recovered", "not-recovered", "recovery-unknown"];

/// Whether an id is that of the run with this number.
fn is_number(id: &str, number: &str) -> bool {
    id.strip_prefix("run-") == Some(number)
}

fn impact(text: &mut String, records: &[&Record], turn: &Record) {
    text.push_str("\n## Impact\n\n");
    if let Some(Samples { stable, canary }) = turn.samples {
        add(text, format_args!("- Requests hurt: {} of {} on the canary failed", canary.e, canary.n));
        if let Some(harm) = &turn.harm {
            add(text, format_args!(", {} of them beyond stable's share", short(harm.excess_failures)));
        }
        add(text, format_args!(" (stable: {} of {}).\n", stable.e, stable.n));
    } else {
        text.push_str("- Requests hurt: none are known.\n");
    }
    if let Some(percent) = turn.before {
        add(text, format_args!("- Share of traffic: the canary had {}% of both arms.\n", short(percent)));
    }
    let (since, what) = began(records, turn);
    let until = weightless(records, turn).map(cell);
    add(text, format_args!("- Since: {} ({what}).\n", cell(since)));
    let until = until.unwrap_or_else(|| "the weight never went to 0".to_owned());
    add(text, format_args!("- Until: {until}.\n"));
}

/// When it began to hurt, as well as that is known, and what that moment is.
fn began<'a>(records: &[&'a Record], turn: &'a Record) -> (&'a str, &'static str) {
    if let Some(at) = turn.first_bad_at.as_deref() {
        return (at, "the canary's first bad outcome of the step");
    }
    let at = records.iter().position(|one| std::ptr::eq(*one, turn)).unwrap_or(0);
    let earlier = || records[..at].iter().filter(|one| one.step == turn.step);
    let held = earlier().find(|one| one.to == "HOLD" && one.code == turn_code(turn));
    if let Some(held) = held {
        return (&held.at, "when it was first held for what speaks against it");
    }
    let entered = earlier().find(|one| one.before != one.after && one.after > Some(0.0));
    entered.map_or((&*turn.at, "the decision itself"), |one| (&*one.at, "when its step began"))
}

/// The code of the hold that what a decision is about makes first.
fn turn_code(turn: &Record) -> &'static str {
    match &*turn.code {
        "behaviour" => "behaviour",
        "check" => "check",
        _ => "suspicious",
    }
}

/// When the canary had nothing any more, from a decision on.
fn weightless<'a>(records: &[&'a Record], turn: &Record) -> Option<&'a str> {
    let from = records.iter().skip_while(|one| !std::ptr::eq(**one, turn));
    let zero = from.into_iter().find(|record| record.after == Some(0.0))?;
    Some(zero.in_force_at.as_deref().unwrap_or(&zero.at))
}

/// Seconds between two moments; `None` when one of them cannot be read.
fn between(from: &str, to: &str) -> Option<f64> {
    let at = |text: &str| humantime::parse_rfc3339(text).ok();
    at(to)?.duration_since(at(from)?).ok().map(|passed| passed.as_secs_f64())
}

fn timeline(text: &mut String, records: &[&Record]) {
    text.push_str("\n## Timeline\n\n| When | State | Canary | By | Why |\n|---|---|---|---|---|\n");
    for one in records {
        let state = if one.from == one.to { one.to.clone() } else { format!("{} to {}", one.from, one.to) };
        add(
            text,
            format_args!(
                "| {} | {} | {} | {} | {} |\n",
                cell(&one.at),
                cell(&state),
                change(one.before, one.after),
                cell(&one.actor),
                cell(&one.reason)
            ),
        );
        for (key, value) in &one.annotations {
            add(text, format_args!("| | | | | {}: {} |\n", cell(key), cell(value)));
        }
    }
}

fn evidence(text: &mut String, turn: &Record) {
    text.push_str("\n## What the evidence said\n\n");
    let (Some(known), Some(Samples { stable, canary })) = (&turn.evidence, turn.samples) else {
        return text.push_str("Nothing had been judged.\n");
    };
    let rule = if known.rule == "none" { String::new() } else { format!(" by rule `{}`", cell(&known.rule)) };
    let log = Evidence { log: known.log, threshold: known.threshold, ..Evidence::default() };
    add(text, format_args!("Verdict: {}{rule}, {}.\n", cell(&known.verdict), against(&log)));
    text.push_str("\n| Arm | Requests | Bad |\n|---|---|---|\n");
    add(
        text,
        format_args!("| canary | {} | {} |\n| stable | {} | {} |\n", canary.n, canary.e, stable.n, stable.e),
    );
}

fn failing(text: &mut String, turn: &Record) {
    text.push_str("\n## What failed\n\n");
    if turn.failing.is_empty() {
        let failed = turn.samples.is_none_or(|samples| samples.canary.e > 0);
        return text.push_str(if failed {
            "No failing request was kept.\n"
        } else {
            "No request failed: it was put where it is for another reason.\n"
        });
    }
    text.push_str("| Arm | Request | What came | From | Times | Request ids |\n|---|---|---|---|---|---|\n");
    for one in &turn.failing {
        add(
            text,
            format_args!(
                "| {} | {} | {} | {} | {} | {} |\n",
                cell(&one.arm),
                cell(&asked(one)),
                cell(&what(one)),
                cell(if one.endpoint.is_empty() { "no endpoint" } else { &one.endpoint }),
                one.count,
                cell(&one.request_ids.join(" "))
            ),
        );
    }
}

fn done(text: &mut String, records: &[&Record], turn: &Record, end: &Record, recovery: Option<&Record>) {
    text.push_str("\n## What was done\n\n");
    if let Some(harm) = &turn.harm {
        let took = |seconds: Option<f64>| seconds.map_or_else(|| "unknown".to_owned(), seconds_text);
        let since = began(records, turn).0;
        let detected = harm.detection_seconds.or_else(|| between(since, &turn.at));
        add(text, format_args!("- Detected after {}.\n", took(detected)));
        let zero = harm.recovery_seconds.or_else(|| end.harm.and_then(|harm| harm.recovery_seconds));
        let zero = zero.or_else(|| between(since, weightless(records, turn)?));
        add(text, format_args!("- At weight 0 after {}.\n", took(zero)));
    }
    let (by, weight) = (cell(&turn.actor), change(turn.before, turn.after));
    add(text, format_args!("- {} by {by}: the canary went {weight}.\n", cell(&turn.to)));
    let word = recovery.map_or_else(|| "not said (yet)".to_owned(), |record| cell(&record.reason));
    add(text, format_args!("- Stable afterwards: {word}.\n"));
}

fn next(text: &mut String, route: &str, turn: &Record, recovery: Option<&Record>) {
    text.push_str("\n## What to do next\n\n");
    if turn.failing.iter().any(|one| one.arm == "canary") {
        text.push_str("- Look the request ids up in the access log and in the canary's own log.\n");
    }
    match recovery.map(|record| &*record.code) {
        Some("not-recovered") => text.push_str(
            "- Stable still fails without the canary: look for what both share before blaming the version.\n",
        ),
        Some("recovery-unknown") => {
            text.push_str("- See whether stable is well: too little traffic came to say.\n");
        }
        _ => {}
    }
    if matches!(&*turn.to, "REVERTING" | "REVERTED" | "ABORTED") {
        let route = cell(route);
        add(
            text,
            format_args!(
                "- Roll out a repaired version under a new name, or the same again with `switchback rollout retry {route} --reason TEXT`.\n"
            ),
        );
    } else {
        text.push_str("- Nothing was put back: nothing has to be repeated.\n");
    }
}

/// Seconds as measured, where a whole one would hide too much.
fn seconds_text(seconds: f64) -> String {
    if seconds < 60.0 { format!("{} s", short(seconds)) } else { span(seconds) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Failing, Harm, Known, Seen};

    fn record(id: &str, from: &str, to: &str, at: &str) -> Record {
        Record {
            id: id.to_owned(),
            at: at.to_owned(),
            version: "v2".to_owned(),
            from: from.to_owned(),
            to: to.to_owned(),
            actor: "analyzer".to_owned(),
            ..Record::default()
        }
    }

    fn history() -> History {
        let reverting = Record {
            reason: "guard: 6 of 6 | failed".to_owned(),
            before: Some(5.0),
            after: Some(0.0),
            evidence: Some(Known {
                verdict: "harmful".to_owned(),
                rule: "guard".to_owned(),
                log: Some(8.0),
                threshold: 6.908,
                ..Known::default()
            }),
            samples: Some(crate::wire::Samples {
                stable: Seen { n: 100, e: 0 },
                canary: Seen { n: 6, e: 6 },
            }),
            failing: vec![Failing {
                arm: "canary".to_owned(),
                rule: "/pay".to_owned(),
                method: "POST".to_owned(),
                status: Some(500),
                endpoint: "http://10.0.0.2:80".to_owned(),
                count: 6,
                request_ids: vec!["id-1".to_owned(), "id-2".to_owned()],
                ..Failing::default()
            }],
            first_bad_at: Some("2026-01-01T00:00:01.5Z".to_owned()),
            in_force_at: Some("2026-01-01T00:00:03.1Z".to_owned()),
            harm: Some(Harm {
                excess_failures: 6.0,
                detection_seconds: Some(1.5),
                recovery_seconds: Some(1.6),
            }),
            ..record("run-3", "STAGE", "REVERTING", "2026-01-01T00:00:03Z")
        };
        let recovered = Record {
            code: "not-recovered".to_owned(),
            reason: "stable has not recovered: 9 of 30".to_owned(),
            ..record("run-3", "REVERTED", "REVERTED", "2026-01-01T00:01:04Z")
        };
        let records = vec![
            record("run-2", "BAKE", "PROMOTED", "2025-12-01T00:00:00Z"),
            record("run-3", "PENDING", "STAGE", "2026-01-01T00:00:00Z"),
            reverting,
            record("run-3", "REVERTING", "REVERTED", "2026-01-01T00:00:04Z"),
            recovered,
        ];
        History { records, dora: None }
    }

    #[test]
    fn a_revert_is_told_from_first_failure_to_what_to_do() {
        let told = postmortem("all", &history(), "run-3").expect("a run");
        for part in [
            "# Postmortem: all v2 (run-3)\n\n**Status:** REVERTED: guard: 6 of 6 \\| failed\n",
            "- Requests hurt: 6 of 6 on the canary failed, 6 of them beyond stable's share (stable: 0 of 100).\n",
            "- Share of traffic: the canary had 5% of both arms.\n",
            "- Since: 2026-01-01T00:00:01.5Z",
            "- Until: 2026-01-01T00:00:03.1Z.\n",
            "| 2026-01-01T00:00:00Z | PENDING to STAGE |",
            "| 2026-01-01T00:01:04Z | REVERTED |",
            "Verdict: harmful by rule `guard`, E 2980.96 of 1000.24.\n",
            "| canary | 6 | 6 |\n| stable | 100 | 0 |\n",
            "| canary | POST /pay | 500 | http://10.0.0.2:80 | 6 | id-1 id-2 |\n",
            "- Detected after 1.5 s.\n- At weight 0 after 1.6 s.\n",
            "- Stable afterwards: stable has not recovered: 9 of 30.\n",
            "look for what both share",
            "`switchback rollout retry all --reason TEXT`",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        assert!(!told.contains("2025-12"), "another run is another story\n{told}");
        assert_eq!(postmortem("all", &history(), "3").as_deref(), Ok(&*told), "the number is enough");
    }

    #[test]
    fn what_did_not_fail_is_dated_all_the_same() {
        let mut history = history();
        let revert = &mut history.records[2];
        (revert.first_bad_at, revert.failing, revert.step) = (None, Vec::new(), 1);
        revert.samples = Some(Samples { stable: Seen { n: 100, e: 0 }, canary: Seen { n: 6, e: 0 } });
        revert.harm = Some(Harm::default());
        (history.records[1].step, history.records[1].before, history.records[1].after) =
            (1, Some(0.0), Some(5.0));
        let told = postmortem("all", &history, "run-3").expect("a run");
        for part in [
            "- Since: 2026-01-01T00:00:00Z (when its step began).\n",
            "No request failed",
            "- Detected after 3 s.\n- At weight 0 after 3.1 s.\n",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
    }

    #[test]
    fn an_unknown_run_is_answered_with_those_there_are() {
        let known = postmortem("all", &history(), "run-9").expect_err("no such run");
        assert_eq!(known, ["run-2", "run-3"]);
    }

    #[test]
    fn a_promotion_has_no_harm_to_tell() {
        let told = postmortem("all", &history(), "run-2").expect("a run");
        for part in [
            "**Status:** PROMOTED",
            "none are known",
            "Nothing had been judged",
            "nothing has to be repeated",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
    }
}
