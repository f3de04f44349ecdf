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

#[test]
fn what_speaks_against_it_is_said_in_numbers() {
    let seen = |n, e| Seen { n, e };
    let slow = Arms { stable: seen(1_420, 21), canary: seen(68, 14) };
    let refused = Arms { stable: seen(5_612, 3), canary: seen(289, 58) };
    let p99 = Breach { limit: "maxP99", measured: 312_456_000.0, allowed: 300_000_000.0 };
    let rows = [
        (
            Rule::Behaviour,
            "it refuses clients that stable serves, 4xx: canary 58 of 289, stable 3 of 5612; `rollout abort` \
             puts it back, `clientErrors: ignore` lets it pass",
        ),
        (
            Rule::Latency(2),
            "latency-p99: slower than 18 ms: canary 14 of 68 (20.6 %), stable 21 of 1420 (1.5 %)",
        ),
        (
            Rule::Threshold(p99),
            "maxP99: 312.5 ms was measured where 300 ms is allowed; on the canary 25 of 500 (5.0 %) failed, \
             on stable 9 of 9500 (0.1 %)",
        ),
    ];
    for (rule, words) in rows {
        let mut stand = Stand::at_first_step();
        let Event::Tick(Some(mut found)) = finding(&stand.rollout, Verdict::Suspect, rule, Vec::new()) else {
            panic!("a tick")
        };
        (found.refused, found.slow, found.cuts) =
            (refused, Some([slow; 3]), Some([1_000_000, 9_000_000, 18_000_000]));
        stand.ok(Event::Tick(Some(found)));
        assert_eq!(stand.rollout.reason.text, words);
    }
    let mut stand = Stand::at_first_step();
    stand.scene.checks = CheckWord::Failing("rate".to_owned(), crate::spec::rollout::OnFail::Hold);
    stand.scene.check = "0.72, above its max of 0.5".to_owned();
    stand.second(Verdict::Undecided);
    assert_eq!(stand.rollout.reason.text, "the check `rate` is 0.72, above its max of 0.5");
}

#[test]
fn a_number_has_at_most_four_digits() {
    let rows = [
        (0.72, "0.72"),
        (0.0, "0"),
        (12.345_6, "12.35"),
        (1_234_567.0, "1234567"),
        (0.000_123_46, "0.0001235"),
    ];
    for (value, text) in rows {
        assert_eq!(crate::rollout::digits(value), text);
    }
}

#[test]
fn what_is_only_observed_says_when_and_why_for_as_long_as_it_stands() {
    let mut stand = Stand::at_first_step();
    stand.policy.conduct.on_harm = crate::spec::rollout::OnHarm::Observe;
    stand.scene.wall = crate::model::time::UnixMillis(1_000);
    stand.rollout.waiting_for = vec!["7 more canary users".to_owned()];
    stand.found(Verdict::Harmful, Rule::Errors).is("HOLD", 50_000);
    stand.scene.wall = crate::model::time::UnixMillis(9_000);
    stand.found(Verdict::Harmful, Rule::Errors);
    let said = &stand.rollout.reason.text;
    assert!(
        said.starts_with("would have put it back at 1970-01-01T00:00:01Z: errors: on the canary"),
        "{said}"
    );
    assert!(stand.rollout.waiting_for.is_empty(), "{stand}");
}
