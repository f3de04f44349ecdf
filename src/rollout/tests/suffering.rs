//! What people are told of harm: what failed, with ids, and a minute later whether stable is well.

use super::*;
use crate::analysis::policy::Conduct;
use crate::rollout::failing::{Failing, Suffered};
use crate::rollout::moves::{Level, Notice, Record};
use crate::spec::rollout::OnHarm;

fn suffered() -> Suffered {
    let kind = |arm: &str, endpoint: &str| Failing {
        arm: arm.into(),
        rule: "/pay".into(),
        method: "POST".into(),
        status: Some(500),
        endpoint: endpoint.into(),
        count: 25,
        request_ids: vec!["id-1".into()],
        ..Failing::default()
    };
    let failing = vec![kind("canary", "http://new"), kind("stable", "http://old")];
    Suffered { failing, since_millis: Some(900) }
}

fn told(moves: &[Move]) -> Vec<&Notice> {
    let mut found = Vec::new();
    for one in moves {
        if let Move::Notify(notice) = one {
            found.push(notice);
        }
    }
    found
}

fn records(moves: &[Move]) -> Vec<&Record> {
    let mut found = Vec::new();
    for one in moves {
        if let Move::Record(record) = one {
            found.push(&**record);
        }
    }
    found
}

/// Codes of the records that say whether stable recovered.
pub fn recoveries(stand: &Stand) -> Vec<String> {
    let codes = records(&stand.all).into_iter().map(|record| record.code.to_string());
    codes.filter(|code| code.contains("recover")).collect()
}

#[test]
fn notices_about_harm_name_what_failed_and_records_keep_it() {
    let rows = [
        (OnHarm::Revert, Verdict::Harmful, Rule::Guard, "http://new"),
        (OnHarm::Pause, Verdict::Harmful, Rule::Guard, "http://new"),
        (OnHarm::Observe, Verdict::Harmful, Rule::Guard, "http://new"),
        (OnHarm::Revert, Verdict::Suspect, Rule::Errors, "http://new"),
        (OnHarm::Revert, Verdict::Suspect, Rule::StableUnhealthy, "http://old"),
    ];
    for (on_harm, verdict, rule, endpoint) in rows {
        let mut stand = Stand::at_first_step();
        stand.policy.conduct = Conduct { on_harm, ..stand.policy.conduct.clone() };
        stand.scene.suffered = suffered();
        stand.found(verdict, rule);
        let words = format!("failing: POST /pay: 500 from {endpoint} (25 times, such as id-1)");
        let notices = told(&stand.moves);
        assert!(!notices.is_empty(), "{on_harm:?} {rule:?}");
        for notice in notices {
            assert!(notice.text.ends_with(&words), "{on_harm:?} {rule:?}: {}", notice.text);
        }
        for record in records(&stand.moves) {
            assert_eq!((record.failing.len(), record.first_bad_at_millis), (2, Some(900)), "{record:?}");
            assert!(!record.reason.contains("failing"), "it is told once: {}", record.reason);
        }
    }
}

#[test]
fn a_step_forward_names_nothing() {
    let mut stand = Stand::at_first_step();
    stand.scene.suffered = suffered();
    stand.healthy_until("BAKE");
    assert!(told(&stand.all).iter().all(|notice| !notice.text.contains("failing")), "{:?}", stand.all);
}

#[test]
fn a_run_begins_without_what_failed_in_the_one_before() {
    let mut stand = Stand::at_first_step();
    stand.scene.suffered = suffered();
    stand.ok(Event::Version(identity("v3")));
    assert_eq!(records(&stand.moves)[0].failing.len(), 2, "the end of v2 keeps what failed");
    stand.second(Verdict::Undecided);
    let begun = records(&stand.moves)[0];
    assert_eq!((&*begun.from, &*begun.to, &*begun.version), ("SUPERSEDED", "PENDING", "v3"));
    assert_eq!((begun.failing.len(), begun.first_bad_at_millis, &begun.found), (0, None, &None));
}

#[test]
fn a_minute_after_a_return_it_says_whether_stable_is_well() {
    for (n, e, word, level) in [
        (300, 3, "recovered", Level::Info),
        (300, 60, "not-recovered", Level::Error),
        (3, 0, "recovery-unknown", Level::Info),
    ] {
        let mut stand = Stand::at_first_step();
        stand.found(Verdict::Harmful, Rule::Guard);
        let run = stand.rollout.run;
        stand.scene.lately = Seen { n, e };
        stand.seconds(Verdict::Healthy, 62);
        assert_eq!(recoveries(&stand), [word]);
        let record = *records(&stand.all).last().unwrap();
        assert_eq!((record.run, &*record.from, &*record.to), (run, "REVERTED", "REVERTED"));
        let notice = *told(&stand.all).last().unwrap();
        assert_eq!((&*notice.code, notice.level), (word, level));
        assert!(notice.text.contains(&n.to_string()), "{}", notice.text);
    }
}
