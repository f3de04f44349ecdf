//! Whoever is asked outside: gates with deadlines of their own, reasons that are told, checks that wait.

use super::{Stand, hook, policy};
use crate::analysis::Verdict;
use crate::rollout::event::{CheckWord, Event, HookAnswer};
use crate::rollout::moves::{Actor, Move};
use crate::rollout::state::{Hold, PauseCause};
use crate::spec::rollout::{HookEvent, OnDeadline};

/// Texts of all notices with this code.
fn told(stand: &Stand, code: &str) -> Vec<String> {
    let notices = stand.all.iter().filter_map(|one| match one {
        Move::Notify(notice) if notice.code == code => Some(notice.text.clone()),
        _ => None,
    });
    notices.collect()
}

#[test]
fn a_gate_has_its_own_deadline_and_default() {
    for (on_deadline, state, canary) in
        [(OnDeadline::Pause, "PAUSED", 0), (OnDeadline::Allow, "STAGE", 50_000)]
    {
        let mut policy = policy(&[0.05, 1.0]);
        let mut gate = hook("begin", HookEvent::ConfirmRollout);
        (gate.deadline, gate.on_deadline) = (60.0, on_deadline);
        policy.conduct.hooks = vec![gate];
        let mut stand = Stand::new(policy);
        stand.second(Verdict::Undecided).answer("begin", false).seconds(Verdict::Undecided, 58);
        stand.is("PENDING", 0);
        assert_eq!(stand.rollout.waiting_for, ["begin (it answered 403)"], "{stand}");
        stand.seconds(Verdict::Undecided, 2).is(state, canary);
        let told = [told(&stand, "gate"), told(&stand, "gate-deadline")].concat();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("begin (it answered 403)"), "{told:?}");
        if on_deadline == OnDeadline::Pause {
            stand.paused(PauseCause::Gate);
        }
    }
}

#[test]
fn an_answer_after_the_deadline_takes_nothing_back() {
    let mut policy = policy(&[0.05, 1.0]);
    let mut gate = hook("more", HookEvent::ConfirmTrafficIncrease);
    (gate.deadline, gate.on_deadline) = (30.0, OnDeadline::Allow);
    policy.conduct.hooks = vec![gate];
    let mut stand = Stand::new(policy);
    stand.second(Verdict::Undecided).is("STAGE", 50_000);
    stand.seconds(Verdict::Healthy, 60).holds(Hold::Gate);
    let key = stand.rollout.waits[0].key;
    stand.seconds(Verdict::Healthy, 30).is("BAKE", 950_000);
    let late = HookAnswer { name: "more".into(), key, good: false, why: "it answered 403".into() };
    stand.ok(Event::Hook(late)).seconds(Verdict::Healthy, 30).is("BAKE", 950_000);
}

#[test]
fn what_a_hook_answered_is_in_reason_notice_and_history() {
    let mut policy = policy(&[0.05, 1.0]);
    policy.conduct.hooks =
        vec![hook("smoke", HookEvent::PreRollout), hook("more", HookEvent::ConfirmTrafficIncrease)];
    let mut stand = Stand::new(policy);
    stand.second(Verdict::Undecided).answer("smoke", false);
    let told = told(&stand, "hook-failed");
    assert!(
        told.len() == 1 && told[0].contains("`smoke`") && told[0].contains("it answered 403"),
        "{told:?}"
    );
    let kept = stand.moves.iter().any(|one| {
        matches!(one, Move::Record(record)
            if record.actor == Actor::Hook && record.code == "hook-failed" && record.reason == told[0])
    });
    assert!(kept, "{:?}", stand.moves);
    stand
        .seconds(Verdict::Undecided, 10)
        .answer("smoke", true)
        .second(Verdict::Undecided)
        .is("STAGE", 50_000);
    stand.seconds(Verdict::Healthy, 60).holds(Hold::Gate);
    stand.answer("more", false).second(Verdict::Healthy).holds(Hold::Gate);
    assert!(stand.rollout.reason.text.contains("more (it answered 403)"), "{stand}");
}

#[test]
fn nothing_rises_before_a_check_was_answered_and_nothing_is_wrong_either() {
    let mut stand = Stand::at_first_step();
    stand.scene.checks = CheckWord::Waiting("errors".into());
    stand.seconds(Verdict::Healthy, 600).is("STAGE", 50_000);
    assert!(stand.rollout.waiting_for.iter().any(|one| one.contains("`errors`")), "{stand}");
    stand.scene.checks = CheckWord::Silent("errors".into());
    stand.second(Verdict::Healthy).holds(Hold::CheckSilent);
    stand.scene.checks = CheckWord::Waiting("errors".into());
    stand.second(Verdict::Healthy).is("STAGE", 50_000);
    stand.scene.checks = CheckWord::Fine;
    stand.second(Verdict::Healthy).is("STAGE", 500_000);
}

#[test]
fn nobody_is_asked_any_more_at_the_end() {
    let mut policy = policy(&[0.05, 0.5, 1.0]);
    policy.conduct.hooks = vec![hook("back", HookEvent::Rollback)];
    let mut stand = Stand::new(policy);
    stand.second(Verdict::Undecided);
    stand.healthy_until("PROMOTED");
    let asked = |moves: &[Move]| moves.iter().any(|one| matches!(one, Move::Hook(call) if call.answer));
    assert!(asked(&stand.all) && !asked(&stand.moves), "{stand}");
    for _ in 0..30 {
        stand.second(Verdict::Healthy);
        assert!(!asked(&stand.moves), "{stand}");
    }
}
