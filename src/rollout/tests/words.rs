//! What is said: of what a step lacks, of a rule's evidence, of where a rollout begins.

use super::*;
use crate::rollout::event::CheckWord;
use crate::rollout::moves::{Summary, lacks};

#[test]
fn what_is_lacking_is_never_nothing() {
    let rows = [
        (Waiting::Dwell { seconds: 0.2 }, "1s more of its minimum time"),
        (Waiting::Dwell { seconds: 90.0 }, "1m 30s more of its minimum time"),
        (Waiting::Requests { more: 7 }, "7 more canary requests"),
        (Waiting::Users { more: 7 }, "7 more canary users"),
        (
            Waiting::Detectable { target: 20.0, more: 0.3 },
            "1 more requests until failing 20 times as often would show",
        ),
        (Waiting::Stable, "stable to be healthy"),
    ];
    for (waiting, words) in rows {
        assert_eq!(lacks(&waiting), words);
    }
}

#[test]
fn a_step_that_has_shown_all_is_not_said_to_need_traffic() {
    let mut stand = Stand::at_first_step();
    stand.scene.checks = CheckWord::Silent("x".to_owned());
    stand.seconds(Verdict::Healthy, 1_801);
    stand.paused(PauseCause::StepDeadline);
    assert!(stand.rollout.reason.text.ends_with("deadline: the check `x` does not answer"), "{stand}");
}

#[test]
fn evidence_is_of_the_rule_that_spoke() {
    let mut stand = Stand::at_first_step();
    let Event::Tick(Some(found)) = finding(&stand.rollout, Verdict::Harmful, Rule::Guard, Vec::new()) else {
        panic!("a tick")
    };
    let mut found = *found;
    found.evidence.log = Some(0.5);
    found.evidence.guard_threshold = 9.0;
    found.evidence.by_metric = ByMetric { guard: Some(12.0), behaviour: Some(8.0), ..ByMetric::default() };
    let breach = Breach { limit: "maxP99", measured: 2.0, allowed: 1.0 };
    let rows = [
        (Rule::Guard, Some(12.0), 9.0),
        (Rule::Behaviour, Some(8.0), 6.9),
        (Rule::Errors, Some(0.5), 6.9),
        (Rule::Threshold(breach), None, 0.0),
    ];
    for (rule, log, threshold) in rows {
        let summary = Summary::of(&Finding { rule, ..found.clone() });
        assert_eq!((summary.log, summary.threshold), (log, threshold), "{rule:?}");
    }
    stand.ok(Event::Tick(Some(Box::new(found))));
    let record = stand.all.iter().rev().find_map(|one| match one {
        Move::Record(record) => record.found.clone(),
        _ => None,
    });
    assert_eq!(record.map(|found| (found.log, found.threshold)), Some((Some(12.0), 9.0)));
}

#[test]
fn a_promotion_by_the_analyzer_is_of_a_healthy_version() {
    let mut stand = Stand::at_bake();
    for _ in 0..700 {
        let waiting = vec![Waiting::Detectable { target: 3.0, more: 10.0 }];
        let event = finding(&stand.rollout, Verdict::Undecided, Rule::None, waiting);
        stand.scene.monotonic += 1_000;
        stand.ok(event);
    }
    stand.is("PROMOTED", 1_000_000);
    assert_eq!(stand.rollout.found.as_ref().map(|found| &*found.verdict), Some("healthy"));
}

#[test]
fn leading_steps_that_little_traffic_cannot_pass_are_left_out() {
    for (rate, share, part) in [(100.0, 10_000, "its first traffic"), (1.0, 50_000, "begins at step 2")] {
        let mut stand = Stand::new(policy(&[0.01, 0.05, 0.25, 1.0]));
        stand.scene.rate = rate;
        stand.second(Verdict::Undecided).is("STAGE", share);
        assert!(stand.rollout.reason.text.contains(part), "{rate}: {stand}");
    }
}

#[test]
fn weights_set_by_hand_are_reset_before_a_retry() {
    let mut stand = Stand::at_first_step();
    stand.ok(verb(Verb::Abort)).is("ABORTED", 0);
    stand.scene.weights_by_hand = true;
    let refused = stand.refused(verb(Verb::Retry));
    assert_eq!((refused.code, &*refused.hint), ("manual-weights", "`weights ROUTE --reset` first"));
    stand.scene.weights_by_hand = false;
    stand.ok(verb(Verb::Retry)).is("PENDING", 0);
}
