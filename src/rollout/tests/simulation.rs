//! Random events, crashes and edits: whatever happens, the invariants hold and a way back is kept.

use std::collections::BTreeMap;

use super::*;
use crate::rollout::event::{CheckWord, Role, Safety, in_order};
use crate::rollout::invariants;
use crate::rollout::moves::Order;
use crate::rollout::state::{Direction, Scheme};
use crate::spec::rollout::{OnDeadline, OnFail, OnHarm, OnStepDeadline};

/// Runs of the simulation, and events in each.
const RUNS: u64 = 3_000;
const EVENTS: usize = 120;

fn random_policy(random: &mut fastrand::Rng) -> Policy {
    let ladders: [&[f64]; 5] =
        [&[0.05, 1.0], &[0.01, 0.05, 0.25, 1.0], &[1.0], &[0.1, 0.5, 1.0], &[0.05, 0.5, 1.0]];
    let mut policy = policy(ladders[random.usize(..ladders.len())]);
    policy.shadow = random.bool().then_some(0.1);
    policy.dwell = 2.0;
    for step in &mut policy.steps {
        (step.dwell, step.pause) = (2.0, random.u8(..6) == 0);
    }
    let conduct = &mut policy.conduct;
    (conduct.step_deadline, conduct.rollout_deadline) = (12.0, [14.0, 60.0][random.usize(..2)]);
    conduct.bake = 3.0;
    conduct.revert_ramp = if random.u8(..4) == 0 { 5.0 } else { 0.0 };
    conduct.auto_start = random.u8(..5) > 0;
    conduct.on_harm = [OnHarm::Revert, OnHarm::Revert, OnHarm::Pause, OnHarm::Observe][random.usize(..4)];
    conduct.on_step_deadline =
        [OnStepDeadline::Pause, OnStepDeadline::Hold, OnStepDeadline::Revert, OnStepDeadline::Promote]
            [random.usize(..4)];
    let events = [
        HookEvent::PreRollout,
        HookEvent::Rollout,
        HookEvent::ConfirmRollout,
        HookEvent::ConfirmTrafficIncrease,
        HookEvent::ConfirmPromotion,
        HookEvent::PostRollout,
        HookEvent::Rollback,
        HookEvent::Event,
        HookEvent::OnHold,
        HookEvent::OnTransition,
    ];
    for event in events {
        if random.u8(..8) == 0 {
            let mut hook = hook(&format!("{event:?}"), event);
            hook.deadline = conduct.step_deadline;
            hook.on_deadline = if random.u8(..4) == 0 { OnDeadline::Allow } else { OnDeadline::Pause };
            conduct.hooks.push(hook);
        }
    }
    policy
}

fn random_scene(scene: &mut Scene, random: &mut fastrand::Rng) {
    let mostly = |random: &mut fastrand::Rng| random.u8(..12) > 0;
    scene.monotonic += [0, 1_000, 1_000, 1_000, 2_000, 3_000, 60_000][random.usize(..7)];
    scene.window_open = mostly(random);
    scene.from_alive = mostly(random);
    scene.to_alive = mostly(random);
    scene.store = mostly(random);
    scene.budget_frozen = !mostly(random);
    scene.rate = [10.0, 5_000.0][random.usize(..2)];
    scene.checks = match random.u8(..30) {
        0 => CheckWord::Silent("c".into()),
        1 => CheckWord::Failing("c".into(), OnFail::Hold),
        2 => CheckWord::Failing("c".into(), OnFail::Revert),
        3 => CheckWord::Waiting("c".into()),
        _ => CheckWord::Fine,
    };
}

fn random_tick(rollout: &Rollout, random: &mut fastrand::Rng) -> Event {
    let rules = [
        Rule::Errors,
        Rule::Guard,
        Rule::Latency(2),
        Rule::StableUnhealthy,
        Rule::SampleRatio,
        Rule::Behaviour,
        Rule::Pairs,
        Rule::Differences,
        Rule::None,
    ];
    let verdict = match random.u8(..40) {
        0 => Verdict::Harmful,
        1..=3 => Verdict::Suspect,
        4..=12 => Verdict::Undecided,
        13 => return Event::Tick(None),
        _ => Verdict::Healthy,
    };
    let rule = if verdict == Verdict::Healthy { Rule::None } else { rules[random.usize(..rules.len())] };
    let waiting = (verdict == Verdict::Undecided).then_some(Waiting::Requests { more: 3 });
    finding(rollout, verdict, rule, waiting.into_iter().collect())
}

fn random_event(stand: &Stand, random: &mut fastrand::Rng) -> Event {
    let verbs = [
        Verb::Start,
        Verb::Pause,
        Verb::Resume,
        Verb::Resume,
        Verb::Resume,
        Verb::Advance,
        Verb::Promote,
        Verb::Finish,
        Verb::Abort,
        Verb::Retry,
    ];
    let share = |random: &mut fastrand::Rng| {
        [Share::NONE, Share(10_000), Share(500_000), Share::ALL][random.usize(..4)]
    };
    // What has ended would else stay so for most of a run.
    if stand.rollout.phase.base().is_none() && random.u8(..4) == 0 {
        let again = [Verb::Retry, Verb::Start, Verb::Finish][random.usize(..3)].clone();
        return verb(again);
    }
    match random.u8(..100) {
        0..=7 => Event::Operator {
            verb: verbs[random.usize(..verbs.len())].clone(),
            version: (random.u8(..6) == 0).then(|| "v2".into()),
            force: random.bool(),
            by: by(["", "why"][random.usize(..2)]),
        },
        10 => Event::Weights { canary: share(random), by: by("w") },
        11 => Event::WeightsReset { by: by("w") },
        12 => Event::ArmEdited([Role::From, Role::To][random.usize(..2)]),
        13 => Event::SplitEdited { before: share(random), after: share(random) },
        14 => Event::ClockJump(random.i64(-9_999..9_999)),
        15 if random.u8(..6) == 0 => Event::BlockRemoved,
        15 if random.u8(..4) == 0 => Event::StateLost { why: "torn".into() },
        8 if stand.rollout.phase.is_paused() => verb(Verb::Resume),
        16..=30 if !stand.rollout.waits.is_empty() => {
            let waits = &stand.rollout.waits;
            let wait = &waits[random.usize(..waits.len())];
            let key = if random.u8(..9) == 0 { wait.key.wrapping_sub(1) } else { wait.key };
            // A rollback hook says yes rarely, or nothing would ever get anywhere.
            let rare = if wait.name == "Rollback" { 15 } else { 3 };
            let good = (random.u8(..rare) == 0) == (wait.name == "Rollback");
            Event::Hook(HookAnswer { name: wait.name.clone(), key, good, why: String::new() })
        }
        _ => random_tick(&stand.rollout, random),
    }
}

/// The file is edited: another version, another policy, or the same one again.
fn edit(stand: &mut Stand, random: &mut fastrand::Rng) {
    if random.bool() {
        let version = format!("v{}", random.u8(2..6));
        let mut identity = Identity { policy: random.u64(..), ..identity(&version) };
        if random.u8(..4) == 0 {
            identity.scheme = Scheme::Slots;
        }
        let policy = Policy { version, ..random_policy(random) };
        let old = std::mem::replace(&mut stand.policy, policy);
        if stand.try_(Event::Version(identity)).is_err() {
            stand.policy = old;
        }
        // A version that cannot be taken yet, or waits its turn, is not what the policy is of.
        if stand.policy.version != stand.rollout.identity.version && stand.rollout.is_live() {
            assert_eq!(stand.rollout.phase, Phase::Reverting);
        }
    } else {
        let version = stand.rollout.identity.version.clone();
        stand.policy = Policy { version, ..random_policy(random) };
        stand.ok(Event::PolicyChanged { fingerprint: random.u64(..) });
    }
}

/// Everything that ended up in force and on disk.
#[derive(Default)]
struct World {
    durable: String,
    published: Option<Share>,
    forms: BTreeMap<String, u32>,
}

impl World {
    /// Does the moves in order, with the disk as the scene says; what is left of them is done.
    fn apply(&mut self, stand: &Stand) {
        for one in &stand.moves {
            match one {
                Move::Persist(order) => {
                    assert!(stand.scene.store || *order == Order::AfterPublish, "nothing rises unwritten");
                    if stand.scene.store {
                        self.durable = serde_json::to_string(&stand.rollout).unwrap();
                    }
                }
                Move::SetShare { canary, .. } => self.published = Some(*canary),
                Move::ReleaseShare => self.published = None,
                _ => {}
            }
        }
        assert_eq!(self.published, stand.rollout.canary_share(), "{stand}");
        let form = match stand.rollout.phase {
            Phase::Hold { reason, .. } => format!("HOLD({})", reason.label()),
            Phase::Paused { cause, .. } => format!("PAUSED({})", cause.label()),
            phase => phase.name().to_owned(),
        };
        *self.forms.entry(form).or_default() += 1;
    }

    /// The process dies, and begins again with what is on disk.
    fn crash(&mut self, stand: &mut Stand) {
        let Ok(durable) = serde_json::from_str::<Rollout>(&self.durable) else { return };
        let back: Rollout = serde_json::from_str(&serde_json::to_string(&durable).unwrap()).unwrap();
        assert_eq!(durable, back, "what is written is what is read");
        stand.rollout = durable.clone();
        stand.scene.monotonic = 0;
        stand.ok(Event::Restarted);
        let after = &stand.rollout;
        if after.direction == durable.direction {
            assert!(after.share <= durable.share, "never higher than what was written down");
        }
        if durable.phase == Phase::Reverting && durable.block && durable.direction == Direction::Forward {
            assert_eq!(after.phase, Phase::Reverted, "a revert is completed");
        }
        if durable.phase == Phase::Reverting {
            assert_eq!(after.share, if after.phase == Phase::Promoted { Share::ALL } else { Share::NONE });
        }
        self.published = after.canary_share();
        self.apply(stand);
        // The file has another version by now: it is taken, or what was promoted stays.
        if stand.policy.version != stand.rollout.identity.version {
            let version = identity(&stand.policy.version);
            if stand.try_(Event::Version(version)).is_err() {
                stand.policy.version.clone_from(&stand.rollout.identity.version);
            }
            self.apply(stand);
        }
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let mut world = World::default();
    for seed in 0..RUNS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut stand = Stand::new(random_policy(&mut random));
        (world.durable, world.published) = (String::new(), None);
        world.apply(&stand);
        for _ in 0..EVENTS {
            random_scene(&mut stand.scene, &mut random);
            stand.moves.clear();
            match random.u8(..40) {
                0 => world.crash(&mut stand),
                1 => {
                    edit(&mut stand, &mut random);
                    world.apply(&stand);
                }
                _ => {
                    let event = random_event(&stand, &mut random);
                    let before = stand.rollout.clone();
                    match stand.try_(event.clone()) {
                        Ok(_) => world.apply(&stand),
                        Err(refused) => {
                            assert_eq!(stand.rollout, before);
                            assert!(!refused.hint.is_empty() && !refused.message.is_empty());
                            let way_back = matches!(&event, Event::Operator { verb: Verb::Abort, .. });
                            assert!(
                                !way_back || ["slots", "other-version"].contains(&refused.code),
                                "the way back is never refused: {refused:?}"
                            );
                        }
                    }
                }
            }
            assert_eq!(invariants::state(&stand.rollout, &stand.policy), Ok(()), "seed {seed}: {stand}");
        }
    }
    let forms = "IDLE PENDING SHADOW STAGE BAKE REVERTING PROMOTED REVERTED ABORTED SUPERSEDED FINISHED \
        HOLD(low-data) HOLD(suspicious) HOLD(stable-unhealthy) HOLD(canary-down) HOLD(sample-ratio) \
        HOLD(behaviour) HOLD(check) HOLD(check-silent) HOLD(budget) HOLD(store) HOLD(window) HOLD(gate) \
        PAUSED(operator) PAUSED(weights) PAUSED(step) PAUSED(harm) PAUSED(step-deadline) \
        PAUSED(rollout-deadline) PAUSED(gate) PAUSED(state-lost)";
    let missing: Vec<&str> =
        forms.split_whitespace().filter(|form| !world.forms.contains_key(*form)).collect();
    assert!(missing.is_empty(), "never seen: {missing:?} of {:?}", world.forms);
}

#[test]
fn of_events_at_once_the_safest_wins() {
    let mut random = fastrand::Rng::with_seed(11);
    let start = Stand::at_first_step();
    let events = [
        finding(&start.rollout, Verdict::Harmful, Rule::Guard, Vec::new()),
        verb(Verb::Abort),
        verb(Verb::Pause),
        verb(Verb::Advance),
        verb(Verb::Promote),
    ];
    let rows: &[(&[usize], &str)] = &[
        (&[0, 1, 2, 3, 4], "REVERTING"),
        (&[1, 2, 3, 4], "ABORTED"),
        (&[2, 3], "STAGE"),
        (&[2], "PAUSED"),
        (&[3, 4], "BAKE"),
    ];
    for (which, end) in rows {
        let mut seen = Vec::new();
        for _ in 0..20 {
            let mut some: Vec<Event> = which.iter().map(|at| events[*at].clone()).collect();
            random.shuffle(&mut some);
            in_order(&mut some);
            let sorted: Vec<Safety> = some.iter().map(Event::safety).collect();
            assert!(sorted.is_sorted(), "{sorted:?}");
            let mut stand = Stand::at_first_step();
            for event in some {
                let _ = stand.try_(event);
            }
            seen.push((stand.rollout.phase.name(), stand.rollout.share));
        }
        assert!(seen.iter().all(|one| *one == seen[0]), "{seen:?}");
        assert_eq!(seen[0].0, *end);
    }
}
