//! What operators ask for: every verb in every state, and what it says when it cannot.

use super::*;
use crate::rollout::state::Scheme;

fn paused() -> Stand {
    let mut stand = Stand::at_first_step();
    stand.ok(verb(Verb::Pause));
    stand
}

fn idle() -> Stand {
    let mut policy = policy(&[0.05, 0.5, 1.0]);
    policy.conduct.auto_start = false;
    Stand::new(policy)
}

fn reverted() -> Stand {
    let mut stand = Stand::at_first_step();
    stand.found(Verdict::Harmful, Rule::Guard).second(Verdict::Healthy);
    stand
}

fn aborted() -> Stand {
    let mut stand = Stand::at_first_step();
    stand.ok(verb(Verb::Abort));
    stand
}

fn finishing() -> Stand {
    let mut stand = Stand::promoted();
    stand.ok(verb(Verb::Finish)).second(Verdict::Undecided);
    stand
}

fn finished() -> Stand {
    let mut stand = finishing();
    stand.healthy_until("FINISHED");
    stand
}

fn held() -> Stand {
    let mut stand = Stand::at_first_step();
    stand.second(Verdict::Suspect);
    stand
}

fn reverting() -> Stand {
    let mut stand = Stand::at_first_step();
    stand.found(Verdict::Harmful, Rule::Guard);
    stand
}

#[test]
fn every_verb_in_every_state() {
    type Case = (&'static str, fn() -> Stand, [&'static str; 8]);
    let verbs = [
        Verb::Start,
        Verb::Pause,
        Verb::Resume,
        Verb::Advance,
        Verb::Promote,
        Verb::Finish,
        Verb::Abort,
        Verb::Retry,
    ];
    // A state and weight of the new arm in percent, or the code of the refusal.
    let pending = || Stand::new(policy(&[0.05, 0.5, 1.0]));
    #[rustfmt::skip]
    let rows: &[Case] = &[
        //            start           pause         resume         advance         promote         finish          abort        retry
        ("IDLE", idle, ["PENDING 0", "not-live", "not-paused", "not-live", "not-live", "not-promoted", "ABORTED 0", "PENDING 0"]),
        ("PENDING", pending, ["cannot-start", "PAUSED 0", "not-paused", "not-begun", "not-begun", "not-promoted", "ABORTED 0", "not-put-back"]),
        ("STAGE", Stand::at_first_step, ["cannot-start", "PAUSED 5", "not-paused", "STAGE 50", "BAKE 95", "not-promoted", "ABORTED 0", "not-put-back"]),
        ("HOLD", held, ["cannot-start", "PAUSED 5", "not-paused", "doubt", "doubt", "not-promoted", "ABORTED 0", "not-put-back"]),
        ("PAUSED", paused, ["cannot-start", "PAUSED 5", "STAGE 5", "STAGE 50", "BAKE 95", "not-promoted", "ABORTED 0", "not-put-back"]),
        ("BAKE", Stand::at_bake, ["cannot-start", "PAUSED 95", "not-paused", "last-step", "PROMOTED 100", "not-promoted", "ABORTED 0", "not-put-back"]),
        ("REVERTING", reverting, ["cannot-start", "not-live", "not-paused", "not-live", "not-live", "not-promoted", "REVERTING 0", "not-put-back"]),
        ("PROMOTED", Stand::promoted, ["cannot-start", "not-live", "not-paused", "not-live", "not-live", "PENDING 100", "ABORTED 0", "not-put-back"]),
        ("REVERTED", reverted, ["cannot-start", "not-live", "not-paused", "not-live", "not-live", "not-promoted", "REVERTED 0", "PENDING 0"]),
        ("ABORTED", aborted, ["cannot-start", "not-live", "not-paused", "not-live", "not-live", "not-promoted", "ABORTED 0", "PENDING 0"]),
        ("STAGE", finishing, ["cannot-start", "PAUSED 95", "not-paused", "STAGE 50", "BAKE 5", "not-promoted", "PROMOTED 100", "not-put-back"]),
        ("FINISHED", finished, ["cannot-start", "not-live", "not-paused", "not-live", "not-live", "not-promoted", "FINISHED 0", "not-put-back"]),
    ];
    for (state, stand, ends) in rows {
        for (one, end) in verbs.iter().zip(ends) {
            let mut stand = stand();
            assert_eq!(stand.rollout.phase.name(), *state);
            let seen = match stand.try_(verb(one.clone())) {
                Err(refused) => {
                    assert_eq!(refused.state, *state);
                    refused.code.to_owned()
                }
                Ok(_) => {
                    let canary = stand.rollout.canary_share().unwrap().0 / 10_000;
                    format!("{} {canary}", stand.rollout.phase.name())
                }
            };
            assert_eq!(seen, *end, "{} in {state}", one.name());
        }
    }
}

#[test]
fn the_way_back_is_open_when_nothing_can_be_written_and_the_way_forward_is_not() {
    let verbs = [Verb::Start, Verb::Advance, Verb::Promote, Verb::Finish, Verb::Retry];
    for stand in [idle, Stand::at_first_step, Stand::at_bake, Stand::promoted, reverted, paused, held] {
        for one in &verbs {
            let mut stand = stand();
            stand.scene.store = false;
            let before = stand.rollout.canary_share();
            if stand.try_(forced(one.clone())).is_ok() {
                assert!(stand.rollout.canary_share() <= before, "{one:?} {stand}");
            }
        }
        let mut stand = stand();
        stand.scene.store = false;
        stand.ok(verb(Verb::Abort));
        assert_eq!(stand.rollout.canary_share(), Some(Share::NONE));
    }
}

#[test]
fn force_needs_a_reason_and_overrules_judgement_only() {
    let mut stand = held();
    let silent = Event::Operator { verb: Verb::Advance, version: None, force: true, by: by("") };
    assert_eq!(stand.refused(silent).code, "reason-missing");
    stand.ok(forced(Verb::Advance)).is("STAGE", 500_000);
    // What was overruled is said and puts nothing back, and lets nothing rise by itself either.
    stand.seconds(Verdict::Harmful, 100).is("HOLD", 500_000);
    stand.found(Verdict::Harmful, Rule::Guard).is("REVERTING", 0);

    let mut promoted = held();
    promoted.ok(forced(Verb::Promote)).is("BAKE", 950_000);
    promoted.seconds(Verdict::Harmful, 600).is("PROMOTED", 1_000_000);
    let mut guarded = held();
    guarded.ok(forced(Verb::Promote)).found(Verdict::Harmful, Rule::Guard).is("REVERTING", 0);

    let mut dead = Stand::at_first_step();
    dead.scene.to_alive = false;
    assert_eq!(dead.refused(forced(Verb::Advance)).code, "canary-down");
}

#[test]
fn a_pause_for_harm_is_left_by_force_or_back() {
    use crate::spec::rollout::OnHarm;
    let harmed = || {
        let mut stand = Stand::at_first_step();
        stand.policy.conduct.on_harm = OnHarm::Pause;
        stand.found(Verdict::Harmful, Rule::Guard);
        stand.paused(PauseCause::Harm);
        stand
    };
    assert_eq!(harmed().refused(verb(Verb::Resume)).code, "harmful");
    let mut forced_on = harmed();
    forced_on.ok(forced(Verb::Resume)).found(Verdict::Harmful, Rule::Guard).is("HOLD", 50_000);
    harmed().ok(verb(Verb::Abort)).is("ABORTED", 0);
    // A restart does not forget why.
    assert_eq!(harmed().restart().refused(verb(Verb::Resume)).code, "harmful");
}

#[test]
fn resume_gives_a_step_its_time_again() {
    let mut stand = Stand::at_first_step();
    stand.seconds(Verdict::Undecided, 1_800).paused(PauseCause::StepDeadline);
    stand.ok(verb(Verb::Resume)).second(Verdict::Undecided).holds(Hold::LowData);
    stand.seconds(Verdict::Undecided, 1_798).holds(Hold::LowData);
    stand.second(Verdict::Undecided).paused(PauseCause::StepDeadline);
}

#[test]
fn weights_set_by_hand_pause_and_0_aborts() {
    let mut stand = Stand::at_first_step();
    stand.ok(Event::Weights { canary: Share(300_000), by: by("look") }).paused(PauseCause::Weights);
    assert_eq!(stand.rollout.seen_canary_share(), Some(Share(300_000)));
    for one in [Verb::Resume, Verb::Advance, Verb::Promote] {
        assert_eq!(stand.refused(forced(one)).code, "manual-weights");
    }
    stand.ok(Event::WeightsReset { by: by("done") }).is("PAUSED", 50_000);
    stand.ok(verb(Verb::Resume)).is("STAGE", 50_000);
    stand.ok(Event::Weights { canary: Share::NONE, by: by("stop") }).is("ABORTED", 0);
    // What is being put back is not raised by hand.
    let mut back = reverting();
    assert_eq!(back.refused(Event::Weights { canary: Share(1), by: by("no") }).code, "reverting");
    // Nothing is live: they are none of the rollout's business.
    let mut over = reverted();
    over.ok(Event::Weights { canary: Share(300_000), by: by("look") }).is("REVERTED", 0);
    assert!(over.moves.is_empty());
}

#[test]
fn a_verb_for_another_version_is_refused() {
    let mut stand = reverted();
    let wrong = |verb| Event::Operator { verb, version: Some("v9".into()), force: false, by: by("why") };
    assert_eq!(stand.refused(wrong(Verb::Retry)).code, "other-version");
    for one in [Verb::Abort, Verb::Pause, Verb::Promote] {
        let mut live = Stand::at_first_step();
        assert_eq!(live.refused(wrong(one)).code, "other-version");
        live.is("STAGE", 50_000);
    }
    let right =
        Event::Operator { verb: Verb::Abort, version: Some("v2".into()), force: false, by: by("why") };
    Stand::at_first_step().ok(right.clone()).is("ABORTED", 0).ok(right).is("ABORTED", 0);
}

#[test]
fn an_abort_drops_weights_set_by_hand_in_every_state() {
    for stand in [idle, Stand::at_first_step, reverting, Stand::promoted, reverted, aborted, finished] {
        let mut stand = stand();
        stand.scene.weights_by_hand = true;
        stand.ok(verb(Verb::Abort));
        assert_eq!(stand.rollout.seen_canary_share(), Some(Share::NONE), "{stand}");
        assert!(stand.moves.contains(&Move::ClearManualWeights), "{stand}");
        assert!(stand.moves.iter().any(|one| matches!(one, Move::Persist(_))), "{stand}");
    }
}

#[test]
fn what_waited_behind_an_aborted_version_waits_for_a_person() {
    for abort_after in [0, 1] {
        let mut stand = reverting();
        stand.policy.version = "v3".into();
        stand.ok(Event::Version(identity("v3")));
        if abort_after == 1 {
            stand.second(Verdict::Healthy).is("REVERTED", 0);
        }
        stand.ok(verb(Verb::Abort)).seconds(Verdict::Healthy, 5).is("IDLE", 0);
        assert_eq!((&*stand.rollout.identity.version, &*stand.rollout.reason.code), ("v3", "parked"));
        stand.ok(Event::Version(identity("v3"))).ok(Event::PolicyChanged { fingerprint: 7 }).is("IDLE", 0);
        stand.ok(verb(Verb::Start)).second(Verdict::Undecided).is("STAGE", 50_000);
    }
}

#[test]
fn what_was_put_back_starts_by_retry_with_a_reason_only() {
    for stand in [reverted, aborted] {
        let mut stand = stand();
        let silent = Event::Operator { verb: Verb::Retry, version: None, force: false, by: by("") };
        assert_eq!(stand.refused(silent).code, "reason-missing");
        stand.ok(Event::Version(identity("v2"))).restart();
        stand.seconds(Verdict::Healthy, 100);
        assert_eq!(stand.rollout.canary_share(), Some(Share::NONE));
        stand.ok(verb(Verb::Retry)).is("PENDING", 0);
        assert!(stand.moves.contains(&Move::AllowOverridesAndPins("canary".into())));
        stand.second(Verdict::Undecided).is("STAGE", 50_000);
    }
}

#[test]
fn finish_walks_back_and_a_failure_leaves_the_promoted_arm() {
    let mut stand = Stand::promoted();
    stand.ok(verb(Verb::Finish)).is("PENDING", 1_000_000);
    assert_eq!((stand.rollout.candidate(), stand.rollout.reference()), ("stable", "canary"));
    stand.second(Verdict::Undecided).is("STAGE", 950_000);
    stand.seconds(Verdict::Healthy, 60).is("STAGE", 500_000);
    stand.seconds(Verdict::Healthy, 60).is("BAKE", 50_000);
    let mut bad = Stand { rollout: stand.rollout.clone(), ..Stand::at_first_step() };
    bad.scene.monotonic = stand.scene.monotonic;
    stand.healthy_until("FINISHED").is("FINISHED", 0);
    bad.found(Verdict::Harmful, Rule::Guard).is("REVERTING", 1_000_000);
    assert!(bad.moves.contains(&Move::VoidOverridesAndPins("stable".into())));
    bad.second(Verdict::Healthy).is("PROMOTED", 1_000_000);
    bad.seconds(Verdict::Healthy, 100).is("PROMOTED", 1_000_000);
    bad.ok(verb(Verb::Finish)).is("PENDING", 1_000_000);
}

#[test]
fn slots_swap_at_the_promotion_and_need_no_finish() {
    let mut stand = Stand::at_bake();
    stand.rollout.identity.scheme = Scheme::Slots;
    stand.healthy_until("PROMOTED");
    assert!(stand.moves.contains(&Move::SwapSlots { active: "canary".into() }));
    assert_eq!(stand.refused(verb(Verb::Finish)).code, "slots");
    assert!(stand.refused(verb(Verb::Abort)).hint.contains("flip"));
    let (from, to) = ("canary".to_owned(), "stable".to_owned());
    let next = Identity { from, to, scheme: Scheme::Slots, ..identity("v3") };
    stand.ok(Event::Version(next)).is("PENDING", 0);
    assert_eq!((stand.rollout.reference(), stand.rollout.candidate()), ("canary", "stable"));
}

#[test]
fn a_hotfix_passes_a_closed_window_and_a_spent_budget_by_force_alone() {
    let barred = || {
        let mut stand = Stand::new(policy(&[0.05, 0.5, 1.0]));
        (stand.scene.window_open, stand.scene.budget_frozen) = (false, true);
        stand.second(Verdict::Undecided);
        stand
    };
    for one in [Verb::Start, Verb::Resume, Verb::Advance, Verb::Promote] {
        let mut stand = barred();
        let refused = stand.refused(verb(one.clone()));
        assert!(refused.hint.contains("--force"), "{one:?}: {refused:?}");
        stand.second(Verdict::Undecided).is("PENDING", 0);
        stand.ok(forced(one.clone()));
        assert_eq!(stand.rollout.reason.text, "ann overruled windows and the error budget: why");
        let told = stand.all.iter().any(|one| {
            matches!(one, Move::Record(record)
            if record.code == "overruled" && record.who.as_deref() == Some("ann"))
        });
        assert!(told, "{one:?}");
        stand.scene.to_alive = false;
        stand.second(Verdict::Undecided).is("PENDING", 0);
        (stand.scene.to_alive, stand.scene.store) = (true, false);
        stand.second(Verdict::Undecided).is("PENDING", 0);
        stand.scene.store = true;
        stand.second(Verdict::Undecided).is("STAGE", 50_000);
        stand.healthy_until("BAKE");
    }
    let mut hooked = policy(&[0.05, 0.5, 1.0]);
    hooked.conduct.hooks = vec![hook("ready", HookEvent::PreRollout)];
    let mut stand = Stand::new(hooked);
    stand.scene.budget_frozen = true;
    stand.ok(forced(Verb::Start)).second(Verdict::Undecided).is("PENDING", 0);
}

#[test]
fn a_walk_back_speaks_of_the_arm_that_it_goes_to() {
    let stand = finishing();
    assert_eq!(stand.rollout.reason.text, "stable has the version and takes traffic back");
    let words = crate::rollout::moves::lacks_of(&stand.rollout, &Waiting::Users { more: 7 });
    assert_eq!(words, "7 more stable users");
}
