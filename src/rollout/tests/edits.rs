//! What edits of the file and restarts do.

use super::*;
use crate::rollout::event::Role;
use crate::rollout::moves::RefusedKind;

#[test]
fn a_version_starts_by_itself_or_waits() {
    let mut stand = Stand::new(policy(&[0.05, 1.0]));
    stand.is("PENDING", 0);
    stand.policy.conduct.auto_start = false;
    let mut waits = Stand::new(stand.policy.clone());
    waits.is("IDLE", 0);
    assert_eq!(waits.rollout.waiting_for, ["start"]);
    waits.policy.conduct.auto_start = true;
    waits.ok(Event::PolicyChanged { fingerprint: 1 }).is("PENDING", 0);
    assert_eq!(Rollout::default().canary_share(), None, "without a block the file's own weights hold");
}

#[test]
fn another_version_takes_the_place_of_what_is_under_way() {
    for stand in [Stand::at_first_step, Stand::at_bake, || Stand::new(policy(&[0.05, 1.0]))] {
        let mut stand = stand();
        stand.policy.version = "v3".into();
        stand.ok(Event::Version(identity("v3"))).is("SUPERSEDED", 0);
        stand.second(Verdict::Healthy).is("PENDING", 0);
        assert_eq!(stand.rollout.identity.version, "v3");
        assert!(!stand.rollout.is_spoiled("v2"), "it was not at fault");
    }
}

#[test]
fn a_revert_comes_before_another_version_and_is_remembered() {
    let mut stand = Stand::at_first_step();
    stand.found(Verdict::Harmful, Rule::Guard);
    stand.policy.version = "v3".into();
    stand.ok(Event::Version(identity("v3"))).is("REVERTING", 0);
    stand.second(Verdict::Healthy).is("REVERTED", 0);
    stand.second(Verdict::Healthy).is("PENDING", 0).restart();
    stand.policy.version = "v2".into();
    stand.ok(Event::Version(identity("v2")));
    stand.second(Verdict::Healthy).is("IDLE", 0);
    assert_eq!(stand.rollout.waiting_for, ["retry"]);
    assert_eq!(stand.refused(verb(Verb::Start)).code, "cannot-start");
    stand.ok(verb(Verb::Retry)).is("PENDING", 0);
}

#[test]
fn a_promoted_version_is_finished_before_the_next() {
    let mut stand = Stand::promoted();
    let refused = stand.refused(Event::Version(identity("v3")));
    assert_eq!((refused.code, refused.hint.contains("rollout finish")), ("not-finished", true));
    stand.ok(Event::Version(identity("v2"))).is("PROMOTED", 1_000_000);
    stand.ok(verb(Verb::Finish)).second(Verdict::Healthy);
    assert_eq!(stand.refused(Event::Version(identity("v3"))).code, "not-finished");
    stand.ok(Event::Version(identity("v2"))).healthy_until("FINISHED");
    stand.policy.version = "v3".into();
    stand.ok(Event::Version(identity("v3"))).is("PENDING", 0);
}

#[test]
fn an_edited_arm_ends_what_was_compared_with_it() {
    let mut stand = Stand::at_first_step();
    stand.ok(Event::ArmEdited(Role::To)).is("SUPERSEDED", 0);
    stand.second(Verdict::Healthy).is("PENDING", 0);
    let mut stand = Stand::at_first_step();
    stand.ok(Event::ArmEdited(Role::From)).is("SUPERSEDED", 0);
    stand.seconds(Verdict::Healthy, 100).is("SUPERSEDED", 0);
    stand.ok(verb(Verb::Start)).is("PENDING", 0);
    let mut stand = Stand::promoted();
    stand.ok(Event::ArmEdited(Role::From)).is("PROMOTED", 1_000_000);
    stand.ok(verb(Verb::Finish)).second(Verdict::Healthy).is("STAGE", 950_000);
    stand.ok(Event::ArmEdited(Role::From)).is("PROMOTED", 1_000_000);
}

#[test]
fn arms_cannot_change_places_while_the_new_from_does_not_have_everything() {
    let swapped =
        |version: &str| Identity { from: "canary".into(), to: "stable".into(), ..identity(version) };
    let aborted = || {
        let mut stand = Stand::at_first_step();
        stand.ok(verb(Verb::Abort));
        stand
    };
    for stand in [Stand::at_first_step, Stand::at_bake, aborted, || Stand::new(policy(&[0.05, 1.0]))] {
        for version in ["v2", "v3"] {
            let mut stand = stand();
            let before = stand.rollout.canary_share();
            let refused = stand.refused(Event::Version(swapped(version)));
            assert_eq!((refused.code, refused.kind), ("from-is-not-serving", RefusedKind::Edit));
            assert_eq!(stand.rollout.canary_share(), before);
            let third = Identity { from: "third".into(), ..swapped(version) };
            assert_eq!(stand.refused(Event::Version(third)).code, "from-is-not-serving");
        }
    }
}

#[test]
fn a_new_policy_never_raises() {
    let rows: &[(&[f64], &str, u32, u32)] = &[
        (&[0.05, 0.5, 1.0], "STAGE", 500_000, 1),
        (&[0.01, 0.05, 0.5, 1.0], "STAGE", 500_000, 2),
        (&[0.1, 0.6, 1.0], "STAGE", 100_000, 0),
        (&[0.2, 0.4, 1.0], "STAGE", 400_000, 1),
        (&[0.6, 1.0], "PENDING", 0, 0),
        (&[1.0], "PENDING", 0, 0),
    ];
    for (steps, phase, canary, step) in rows {
        for pause in [false, true] {
            let mut stand = Stand::at_first_step();
            stand.seconds(Verdict::Healthy, 60).is("STAGE", 500_000);
            if pause {
                stand.ok(verb(Verb::Pause));
            }
            stand.policy.steps = policy(steps).steps;
            stand.ok(Event::PolicyChanged { fingerprint: 7 });
            stand.is(if pause { "PAUSED" } else { phase }, *canary);
            assert_eq!((stand.rollout.step, stand.rollout.identity.policy), (*step, 7), "{steps:?}");
        }
    }
    let mut stand = Stand::at_bake();
    stand.policy.steps = policy(&[0.2, 1.0]).steps;
    stand.ok(Event::Version(Identity { policy: 9, ..identity("v2") })).is("BAKE", 950_000);
    assert_eq!((stand.rollout.step, stand.rollout.identity.policy), (1, 9));
}

#[test]
fn the_files_own_weight_aborts_when_lowered_and_is_refused_when_raised() {
    let edit = |before, after| Event::SplitEdited { before: Share(before), after: Share(after) };
    let mut stand = Stand::at_first_step();
    stand.ok(edit(0, 0)).is("STAGE", 50_000);
    assert_eq!(stand.refused(edit(0, 60_000)).code, "rollout-live");
    stand.ok(edit(50_000, 10_000)).is("ABORTED", 0);
}

#[test]
fn a_block_that_is_removed_puts_back_what_is_live_and_keeps_what_was_promoted() {
    let mut stand = Stand::at_first_step();
    stand.ok(Event::BlockRemoved).is("REVERTING", 0).second(Verdict::Healthy).is("IDLE", 0);
    stand.restart().is("IDLE", 0);
    stand.ok(Event::SplitEdited { before: Share(0), after: Share(10_000) });
    assert_eq!((stand.rollout.phase, stand.rollout.canary_share()), (Phase::Idle, None));
    stand.ok(Event::Version(identity("v2"))).is("PENDING", 0);

    let mut stand = Stand::promoted();
    stand.ok(Event::BlockRemoved).is("PROMOTED", 1_000_000);
    assert!(stand.moves.iter().any(|one| matches!(one, Move::Notify(_))), "with a warning");
    stand.restart().is("PROMOTED", 1_000_000);
    assert_eq!(stand.refused(Event::Version(identity("v3"))).code, "not-finished");
    stand.ok(Event::SplitEdited { before: Share(0), after: Share(0) });
    assert_eq!(stand.rollout.canary_share(), None);

    let mut stand = Stand::new(Policy::default());
    stand.policy.conduct.auto_start = false;
    let mut idle = Stand::new(stand.policy.clone());
    idle.ok(Event::BlockRemoved);
    assert_eq!(idle.rollout.canary_share(), None);
}

#[test]
fn a_restart_goes_on_where_it_was_without_charging_the_time_away() {
    let mut stand = Stand::at_first_step();
    stand.seconds(Verdict::Healthy, 50).restart().is("STAGE", 50_000);
    stand.seconds(Verdict::Healthy, 9).is("STAGE", 50_000);
    stand.seconds(Verdict::Healthy, 2).is("STAGE", 500_000);
    let mut stand = Stand::at_first_step();
    stand.ok(verb(Verb::Pause)).restart().is("PAUSED", 50_000);
    let mut stand = Stand::at_first_step();
    stand.found(Verdict::Harmful, Rule::Guard).restart().is("REVERTED", 0);
    // The policy was edited while it was away.
    let mut stand = Stand::at_first_step();
    stand.policy.steps = policy(&[0.02, 1.0]).steps;
    stand.restart().is("STAGE", 20_000);
}

#[test]
fn a_lost_state_gives_the_canary_nothing_until_a_person_looked() {
    let mut stand = Stand::new(policy(&[0.05, 1.0]));
    stand.rollout = Rollout::new(identity("v2"));
    stand.ok(Event::StateLost { why: "torn".into() }).is("PAUSED", 0).paused(PauseCause::StateLost);
    assert!(stand.rollout.reason.text.contains("torn"));
    stand.ok(Event::Version(identity("v2"))).seconds(Verdict::Healthy, 1_000).is("PAUSED", 0);
    stand.restart().is("PAUSED", 0);
    stand.ok(verb(Verb::Resume)).is("PENDING", 0).second(Verdict::Healthy).is("STAGE", 50_000);
}

#[test]
fn what_is_written_down_keeps_its_names() {
    let mut stand = Stand::at_first_step();
    stand.second(Verdict::Suspect);
    let written = serde_json::to_value(&stand.rollout).unwrap();
    assert_eq!(
        written["phase"],
        serde_json::json!({"state": "HOLD", "reason": "suspicious", "over": "stage"})
    );
    assert_eq!(written["share"], 50_000);
    assert_eq!(written["identity"]["version"], "v2");
    let old: Rollout = serde_json::from_str("{}").unwrap();
    assert_eq!(old, Rollout::default(), "a field that is missing has its default");
}
