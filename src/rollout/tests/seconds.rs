//! What seconds do: steps, holds, deadlines, harm, gates, and the way back.

use super::suffering::recoveries;
use super::*;
use crate::rollout::event::CheckWord;
use crate::rollout::moves::{Analyze, Level, Order};
use crate::spec::rollout::{OnFail, OnHarm, OnStepDeadline};

#[test]
fn a_healthy_version_climbs_bakes_and_is_promoted() {
    let mut stand = Stand::new(policy(&[0.05, 0.5, 1.0]));
    stand.is("PENDING", 0);
    stand.second(Verdict::Undecided).is("STAGE", 50_000);
    let at = |wanted: &dyn Fn(&Move) -> bool, moves: &[Move]| moves.iter().position(wanted).unwrap();
    let persist = at(&|one| *one == Move::Persist(Order::BeforePublish), &stand.moves);
    let publish = at(&|one| matches!(one, Move::SetShare { canary: Share(50_000), .. }), &stand.moves);
    assert!(persist < publish, "toward the canary it is written down first");
    let step = Move::Analyze(Analyze::EnterStep { step: 0, share: Share(50_000) });
    assert!(stand.moves.contains(&step));
    stand.seconds(Verdict::Healthy, 59).is("STAGE", 50_000);
    stand.second(Verdict::Healthy).is("STAGE", 500_000);
    assert_eq!(stand.rollout.step, 1);
    stand.seconds(Verdict::Healthy, 60).is("BAKE", 950_000);
    stand.seconds(Verdict::Healthy, 599).is("BAKE", 950_000);
    stand.second(Verdict::Healthy).is("PROMOTED", 1_000_000);
    stand.seconds(Verdict::Harmful, 5).is("PROMOTED", 1_000_000);
}

#[test]
fn much_traffic_needs_a_small_holdback() {
    let mut stand = Stand::at_first_step();
    stand.scene.rate = 1_000.0;
    stand.healthy_until("BAKE").is("BAKE", 990_000);
}

#[test]
fn nobody_is_promoted_on_silence() {
    let mut stand = Stand::at_first_step();
    stand.seconds(Verdict::Undecided, 59).is("STAGE", 50_000);
    stand.second(Verdict::Undecided).is("HOLD", 50_000).holds(Hold::LowData);
    assert_eq!(stand.rollout.waiting_for, ["7 more canary requests"]);
    stand.seconds(Verdict::Undecided, 1_741).is("PAUSED", 50_000).paused(PauseCause::StepDeadline);
    assert!(
        stand.rollout.reason.text.contains("needs 7 more canary requests, about 1m at the present rate"),
        "{stand}"
    );
    let mut silent = Stand::at_bake();
    for _ in 0..700 {
        silent.scene.monotonic += 1_000;
        silent.ok(Event::Tick(None));
    }
    silent.is("HOLD", 950_000).holds(Hold::LowData);
}

#[test]
fn doubts_hold_and_go_away_by_themselves() {
    type Change = fn(&mut Stand);
    let rows: &[(Hold, Verdict, Rule, Change)] = &[
        (Hold::Suspicious, Verdict::Suspect, Rule::Errors, |_| {}),
        (Hold::Suspicious, Verdict::Suspect, Rule::Guard, |_| {}),
        (Hold::StableUnhealthy, Verdict::Suspect, Rule::StableUnhealthy, |_| {}),
        (Hold::SampleRatio, Verdict::Suspect, Rule::SampleRatio, |_| {}),
        (Hold::Behaviour, Verdict::Suspect, Rule::Behaviour, |_| {}),
        (Hold::Behaviour, Verdict::Suspect, Rule::Differences, |_| {}),
        (Hold::StableUnhealthy, Verdict::Healthy, Rule::None, |stand| stand.scene.from_alive = false),
        (Hold::CanaryDown, Verdict::Healthy, Rule::None, |stand| stand.scene.to_alive = false),
        (Hold::CheckSilent, Verdict::Healthy, Rule::None, |stand| {
            stand.scene.checks = CheckWord::Silent("p".into());
        }),
        (Hold::Check, Verdict::Healthy, Rule::None, |stand| {
            stand.scene.checks = CheckWord::Failing("p".into(), OnFail::Hold);
        }),
        (Hold::Store, Verdict::Healthy, Rule::None, |stand| stand.scene.store = false),
        (Hold::Budget, Verdict::Healthy, Rule::None, |stand| stand.scene.budget_frozen = true),
        (Hold::Window, Verdict::Healthy, Rule::None, |stand| stand.scene.window_open = false),
    ];
    for (reason, verdict, rule, change) in rows {
        let mut stand = Stand::at_first_step();
        stand.seconds(Verdict::Healthy, 59);
        change(&mut stand);
        for _ in 0..100 {
            stand.found(*verdict, *rule).is("HOLD", 50_000).holds(*reason);
        }
        let told = |one: &&Move| matches!(one, Move::Notify(notice) if notice.code == reason.label());
        assert_eq!(stand.all.iter().filter(told).count(), 1, "{reason:?} is said once");
        stand.scene = Scene { monotonic: stand.scene.monotonic, ..Scene::default() };
        stand.seconds(Verdict::Healthy, 2).is("STAGE", 500_000);
    }
}

#[test]
fn a_closed_window_or_an_open_question_is_not_charged_to_a_deadline() {
    let mut stand = Stand::at_first_step();
    stand.seconds(Verdict::Healthy, 59);
    stand.scene.window_open = false;
    stand.seconds(Verdict::Healthy, 90_000).holds(Hold::Window);
    stand.scene.window_open = true;
    stand.second(Verdict::Healthy).is("STAGE", 500_000);
}

#[test]
fn a_spent_error_budget_is_waited_for_and_says_what_is_left() {
    let mut stand = Stand::at_first_step();
    stand.seconds(Verdict::Healthy, 59);
    stand.scene.budget_frozen = true;
    stand.scene.budget = "availability has 4.2 % of its error budget left, below 10 %".into();
    stand.seconds(Verdict::Healthy, 10_000).is("HOLD", 50_000).holds(Hold::Budget);
    assert!(stand.rollout.reason.text.contains("availability has 4.2 %"), "{:?}", stand.rollout.reason);
    assert!(stand.rollout.waiting_for[0].starts_with("error budget: availability"), "{:?}", stand.rollout);
    stand.scene.budget_frozen = false;
    stand.second(Verdict::Healthy).is("STAGE", 500_000);
    stand.scene.budget_frozen = true;
    stand.seconds(Verdict::Healthy, 90_000).is("REVERTED", 0);
    let mut stand = Stand::new(policy(&[0.05, 1.0]));
    stand.scene.budget_frozen = true;
    stand.scene.window_open = false;
    stand.seconds(Verdict::Undecided, 90_000).is("PENDING", 0);
    stand.scene.window_open = true;
    stand.second(Verdict::Undecided).is("PENDING", 0);
    assert_eq!(stand.rollout.waiting_for, ["error budget"]);
}

#[test]
fn harm_does_what_the_policy_says() {
    let rows = [
        (OnHarm::Revert, "REVERTING", 0),
        (OnHarm::Pause, "PAUSED", 50_000),
        (OnHarm::Observe, "HOLD", 50_000),
    ];
    for rule in [Rule::Guard, Rule::Errors, Rule::Latency(2)] {
        for (on_harm, phase, canary) in rows {
            let mut stand = Stand::at_first_step();
            stand.policy.conduct.on_harm = on_harm;
            stand.seconds(Verdict::Healthy, 3).found(Verdict::Harmful, rule).is(phase, canary);
            let errors = |one: &&Move| matches!(one, Move::Notify(notice) if notice.level == Level::Error);
            assert_eq!(stand.all.iter().filter(errors).count(), 1);
            let recorded = |one: &Move| {
                matches!(one, Move::Record(record) if record.found.as_ref().is_some_and(|found| {
                    found.verdict == "harmful" && found.rule == rule.label()
                }))
            };
            assert!(stand.moves.iter().any(recorded), "{on_harm:?} {rule:?}");
            stand.seconds(Verdict::Harmful, 20);
            let again = stand.all.iter().filter(errors).count();
            assert_eq!(again, 1, "{on_harm:?} says it once");
        }
    }
}

#[test]
fn harm_is_acted_on_wherever_it_shows() {
    type Case = (fn() -> Stand, &'static str);
    let rows: &[Case] = &[
        (Stand::at_first_step, "STAGE"),
        (Stand::at_bake, "BAKE"),
        (
            || {
                let mut stand = Stand::at_first_step();
                stand.ok(verb(Verb::Pause));
                stand
            },
            "PAUSED",
        ),
        (
            || {
                let mut stand = Stand::at_first_step();
                stand.found(Verdict::Suspect, Rule::StableUnhealthy);
                stand
            },
            "HOLD",
        ),
        (
            || {
                let mut stand = Stand::at_first_step();
                stand.ok(Event::Weights { canary: Share(600_000), by: by("look") });
                stand
            },
            "PAUSED",
        ),
        (
            || {
                let mut stand = Stand::new(policy(&[0.05, 1.0]));
                stand.ok(Event::Weights { canary: Share(600_000), by: by("look") });
                stand
            },
            "PAUSED",
        ),
        (
            || {
                let mut policy = policy(&[0.05, 1.0]);
                policy.shadow = Some(0.1);
                let mut stand = Stand::new(policy);
                stand.second(Verdict::Undecided);
                stand
            },
            "SHADOW",
        ),
    ];
    for (stand, from) in rows {
        let mut stand = stand();
        assert_eq!(stand.rollout.phase.name(), *from);
        let manual = stand.rollout.manual.is_some();
        stand.found(Verdict::Harmful, Rule::Guard).is("REVERTING", 0);
        let publish = stand.moves.iter().position(|one| matches!(one, Move::SetShare { .. }));
        let persist = stand.moves.iter().position(|one| matches!(one, Move::Persist(_)));
        assert!(publish < persist, "toward stable it is published first");
        assert!(stand.moves.contains(&Move::VoidOverridesAndPins("canary".into())));
        assert_eq!(stand.moves.contains(&Move::ClearManualWeights), manual);
        assert_eq!(stand.rollout.void_arm(), Some("canary"));
        stand.second(Verdict::Healthy).is("REVERTED", 0);
        stand.seconds(Verdict::Healthy, 59);
        assert_eq!(recoveries(&stand), Vec::<String>::new());
        stand.scene.lately = Seen { n: 300, e: 2 };
        stand.seconds(Verdict::Healthy, 2);
        assert_eq!(recoveries(&stand), ["recovered"], "at 60 s it says whether stable recovered");
        assert_eq!(stand.rollout.reason.code, "guard", "it is still why it was put back");
        stand.seconds(Verdict::Healthy, 500).is("REVERTED", 0);
        assert_eq!(recoveries(&stand).len(), 1);
    }
}

#[test]
fn a_check_out_of_bounds_puts_it_back_and_a_silent_one_never() {
    let mut stand = Stand::at_first_step();
    stand.scene.checks = CheckWord::Silent("p".into());
    stand.seconds(Verdict::Healthy, 100).holds(Hold::CheckSilent);
    stand.scene.checks = CheckWord::Failing("p".into(), OnFail::Revert);
    stand.second(Verdict::Healthy).is("REVERTING", 0);
}

#[test]
fn a_ramp_returns_gradually_and_is_complete_after_a_restart() {
    let mut stand = Stand::at_bake();
    stand.policy.conduct.revert_ramp = 10.0;
    stand.found(Verdict::Harmful, Rule::Guard).is("REVERTING", 950_000);
    stand.seconds(Verdict::Harmful, 5).is("REVERTING", 475_000);
    let mut again = Stand { rollout: stand.rollout.clone(), ..Stand::at_bake() };
    again.restart().is("REVERTED", 0);
    stand.seconds(Verdict::Harmful, 5).is("REVERTING", 0);
    stand.second(Verdict::Healthy).is("REVERTED", 0);
    let mut aborted = Stand::at_bake();
    aborted.policy.conduct.revert_ramp = 10.0;
    aborted.found(Verdict::Harmful, Rule::Guard).ok(verb(Verb::Abort)).is("REVERTING", 0);
}

#[test]
fn it_is_over_only_when_that_is_written_down() {
    let mut stand = Stand::at_first_step();
    stand.scene.store = false;
    stand.found(Verdict::Harmful, Rule::Guard).is("REVERTING", 0);
    stand.seconds(Verdict::Healthy, 30).is("REVERTING", 0);
    stand.scene.store = true;
    stand.second(Verdict::Healthy).is("REVERTED", 0);
}

#[test]
fn a_step_deadline_does_what_the_policy_says() {
    let rows = [
        (OnStepDeadline::Pause, Verdict::Undecided, "PAUSED", 50_000),
        (OnStepDeadline::Hold, Verdict::Undecided, "HOLD", 50_000),
        (OnStepDeadline::Revert, Verdict::Undecided, "REVERTING", 0),
        (OnStepDeadline::Promote, Verdict::Undecided, "STAGE", 500_000),
        (OnStepDeadline::Promote, Verdict::Suspect, "PAUSED", 50_000),
    ];
    for (what, verdict, phase, canary) in rows {
        let mut stand = Stand::at_first_step();
        stand.policy.conduct.on_step_deadline = what;
        stand.seconds(verdict, 1_799);
        assert_eq!(stand.rollout.canary_share(), Some(Share(50_000)), "{what:?}");
        stand.second(verdict).is(phase, canary);
    }
}

#[test]
fn the_rollout_deadline_puts_it_back_unless_a_person_decides_about_that() {
    let rows = [(OnHarm::Revert, "REVERTING"), (OnHarm::Pause, "PAUSED"), (OnHarm::Observe, "HOLD")];
    for (on_harm, phase) in rows {
        let mut stand = Stand::at_first_step();
        stand.policy.conduct.rollout_deadline = 3_600.0;
        stand.policy.conduct.on_step_deadline = OnStepDeadline::Hold;
        stand.policy.conduct.on_harm = on_harm;
        stand.seconds(Verdict::Undecided, 3_599).is("HOLD", 50_000);
        stand.second(Verdict::Undecided);
        assert_eq!(stand.rollout.phase.name(), phase);
        let said = |one: &&Move| matches!(one, Move::Notify(notice) if notice.code == "rollout-deadline");
        stand.seconds(Verdict::Undecided, 100);
        // A revert is told when it begins and when it is over.
        let times = if on_harm == OnHarm::Revert { 2 } else { 1 };
        assert_eq!(stand.all.iter().filter(said).count(), times, "{on_harm:?}");
    }
    // A step that paused at its own deadline is still on the rollout's clock.
    let mut stand = Stand::at_first_step();
    stand.policy.conduct.rollout_deadline = 3_600.0;
    stand.seconds(Verdict::Undecided, 3_600).is("REVERTING", 0);
    // One that a person paused is not.
    let mut stand = Stand::at_first_step();
    stand.policy.conduct.rollout_deadline = 3_600.0;
    stand.ok(verb(Verb::Pause)).seconds(Verdict::Undecided, 9_000).is("PAUSED", 50_000);
}

#[test]
fn gates_block_until_they_say_yes_and_pause_when_nobody_does() {
    let mut policy = policy(&[0.05, 1.0]);
    policy.conduct.hooks = vec![
        hook("smoke", HookEvent::PreRollout),
        hook("begin", HookEvent::ConfirmRollout),
        hook("more", HookEvent::ConfirmTrafficIncrease),
        hook("end", HookEvent::ConfirmPromotion),
        hook("after", HookEvent::PostRollout),
    ];
    let mut stand = Stand::new(policy);
    stand.second(Verdict::Undecided).is("PENDING", 0);
    assert_eq!(stand.called("smoke").len(), 1);
    stand.second(Verdict::Undecided);
    assert_eq!(stand.called("smoke").len(), 0, "it is asked once");
    stand.answer("smoke", false).seconds(Verdict::Undecided, 9);
    assert_eq!(stand.called("smoke").len(), 1, "and again 10 s after it said no");
    stand.answer("smoke", true).second(Verdict::Undecided).is("PENDING", 0);
    assert_eq!(stand.rollout.waiting_for, ["begin"]);
    stand.answer("begin", true).second(Verdict::Undecided).is("STAGE", 50_000);
    stand.seconds(Verdict::Healthy, 60).holds(Hold::Gate);
    assert_eq!(stand.rollout.waiting_for, ["more"]);
    assert_eq!(stand.refused(verb(Verb::Advance)).code, "gate");
    stand.answer("more", true).second(Verdict::Healthy).is("BAKE", 950_000);
    stand.seconds(Verdict::Healthy, 600).holds(Hold::Gate);
    stand.answer("end", false).seconds(Verdict::Healthy, 1_801).is("PAUSED", 950_000);
    stand.paused(PauseCause::Gate);
    stand.ok(verb(Verb::Resume)).second(Verdict::Healthy).holds(Hold::Gate);
    stand.answer("end", true).second(Verdict::Healthy).is("PROMOTED", 1_000_000);
    assert_eq!(stand.called("after").len(), 1);
}

#[test]
fn an_answer_to_an_earlier_question_is_none() {
    let mut policy = policy(&[0.05, 1.0]);
    policy.conduct.hooks = vec![hook("begin", HookEvent::ConfirmRollout)];
    let mut stand = Stand::new(policy);
    stand.second(Verdict::Undecided);
    let old = stand.called("begin")[0];
    stand.restart();
    stand.scene.monotonic += 1_000;
    stand.second(Verdict::Undecided);
    assert!(stand.called("begin")[0] > old, "after a restart it is asked again");
    stand.ok(Event::Hook(HookAnswer { name: "begin".into(), key: old, good: true, why: String::new() }));
    stand.second(Verdict::Undecided).is("PENDING", 0);
    stand.answer("begin", true).second(Verdict::Undecided).is("STAGE", 50_000);
}

#[test]
fn a_rollback_hook_puts_it_back() {
    let mut stand = Stand::at_first_step();
    stand.policy.conduct.hooks = vec![hook("back", HookEvent::Rollback)];
    stand.second(Verdict::Healthy).answer("back", false).is("STAGE", 50_000);
    stand.seconds(Verdict::Healthy, 10).answer("back", true).is("REVERTING", 0);
}

#[test]
fn pending_waits_for_endpoints_and_gives_up() {
    let mut stand = Stand::new(policy(&[0.05, 1.0]));
    stand.scene.to_alive = false;
    stand.seconds(Verdict::Undecided, 599).is("PENDING", 0);
    assert_eq!(stand.rollout.waiting_for, ["an endpoint of the canary"]);
    stand.second(Verdict::Undecided).is("ABORTED", 0);
    let mut stand = Stand::new(policy(&[0.05, 1.0]));
    stand.scene.window_open = false;
    stand.seconds(Verdict::Undecided, 90_000).is("PENDING", 0);
    stand.scene.window_open = true;
    stand.second(Verdict::Undecided).is("STAGE", 50_000);
}

#[test]
fn a_shadow_comes_first_and_its_mirror_ends() {
    let mut policy = policy(&[0.05, 1.0]);
    policy.shadow = Some(0.1);
    let mut stand = Stand::new(policy);
    stand.second(Verdict::Undecided).is("SHADOW", 0);
    assert!(stand.moves.contains(&Move::Mirror(Share(100_000))));
    stand.seconds(Verdict::Healthy, 60).is("STAGE", 50_000);
    assert!(stand.moves.contains(&Move::Mirror(Share::NONE)));
}

#[test]
fn a_shadow_that_fails_is_put_back_and_one_that_differs_waits() {
    let mut policy = policy(&[0.05, 1.0]);
    policy.shadow = Some(0.1);
    let mut stand = Stand::new(policy);
    stand.second(Verdict::Undecided).is("SHADOW", 0);
    stand.found(Verdict::Suspect, Rule::Differences).is("HOLD", 0);
    assert_eq!(
        stand.rollout.phase,
        Phase::Hold { reason: Hold::Behaviour, over: crate::rollout::state::Base::Shadow }
    );
    assert!(!stand.moves.iter().any(|one| matches!(one, Move::Mirror(_))), "copies go on");
    stand.second(Verdict::Undecided).is("SHADOW", 0);
    stand.found(Verdict::Harmful, Rule::Pairs).is("REVERTING", 0);
    assert!(stand.moves.contains(&Move::Mirror(Share::NONE)));
    assert_eq!(stand.rollout.reason.code, "pairs");
    assert!(stand.rollout.reason.text.contains("no user saw"), "{}", stand.rollout.reason.text);
}

#[test]
fn a_step_that_pauses_waits_for_a_person() {
    let mut stand = Stand::at_first_step();
    stand.policy.steps[0].pause = true;
    stand.seconds(Verdict::Healthy, 60).is("PAUSED", 50_000).paused(PauseCause::Step);
    stand.seconds(Verdict::Healthy, 100_000).is("PAUSED", 50_000);
    stand.ok(verb(Verb::Resume)).second(Verdict::Healthy).is("STAGE", 500_000);
}

#[test]
fn a_gap_counts_for_nothing_but_harm() {
    let mut stand = Stand::at_first_step();
    stand.seconds(Verdict::Healthy, 59);
    stand.scene.monotonic += 60_000;
    stand.second(Verdict::Healthy).is("STAGE", 50_000);
    stand.scene.monotonic -= 30_000;
    stand.second(Verdict::Healthy).is("STAGE", 50_000);
    stand.ok(Event::ClockJump(-86_400_000)).is("STAGE", 50_000);
    stand.scene.monotonic += 60_000;
    stand.found(Verdict::Harmful, Rule::Guard).is("REVERTING", 0);
}

#[test]
fn a_bake_that_is_worse_than_stable_was_is_not_over() {
    use crate::analysis::finding::Waiting;
    use crate::analysis::holdback::Worse;
    for (refusals, hold) in [(false, Hold::Suspicious), (true, Hold::Behaviour)] {
        let mut stand = Stand::at_bake();
        let worse = Worse { refusals, canary: Seen { n: 1_984, e: 86 }, stable: Seen { n: 4_000, e: 2 } };
        let pass = |stand: &mut Stand, worse: Option<Worse>, seconds: u64| {
            for _ in 0..seconds {
                stand.scene.monotonic += 1_000;
                let waits = vec![Waiting::Detectable { target: 30.0, more: 25_571.0 }];
                let event = finding(&stand.rollout, Verdict::Undecided, Rule::None, waits);
                let Event::Tick(Some(mut found)) = event else { panic!("a tick") };
                found.worse = worse;
                stand.ok(Event::Tick(Some(found)));
            }
        };
        pass(&mut stand, Some(worse), 20);
        stand.is("BAKE", 950_000);
        pass(&mut stand, Some(worse), 600);
        stand.holds(hold);
        let text = &stand.rollout.reason.text;
        assert!(text.contains("86 of 1984 (4.33 %)") && text.contains("2 of 4000 (0.05 %)"), "{text}");
        pass(&mut stand, None, 2);
        stand.is("PROMOTED", 1_000_000);
    }
}
