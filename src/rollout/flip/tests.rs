//! Flips by table, and a simulation of random events: whatever happens, the invariants hold.

use super::*;
use crate::rollout::moves::{Actor, Level, Refused};

const RULES: Rules<'_> = Rules { verify_ms: 10_000, limits: None, drain_ms: 5_000 };

fn scene() -> Scene {
    Scene { idle_alive: true, ..Scene::default() }
}

fn by() -> By {
    By { actor: "op".into(), ..By::default() }
}

fn asked(back: bool, force: bool) -> Event {
    Event::Asked { back, force, by: by() }
}

fn left(n: u64, e: u64) -> Left {
    Left { n, e, ..Left::default() }
}

/// Two slots and the clock they live by.
struct Stand {
    flip: Flip,
    scene: Scene,
    last: Vec<Move>,
}

impl Stand {
    fn new() -> Self {
        Self { flip: Flip::new("blue", "green"), scene: scene(), last: Vec::new() }
    }

    fn step(&mut self, event: &Event) -> Result<(), Refused> {
        let outcome = step(&self.flip, &RULES, event, &self.scene)?;
        (self.flip, self.last) = (outcome.next, outcome.moves);
        Ok(())
    }

    fn must(&mut self, event: &Event) -> &mut Self {
        self.step(event).unwrap_or_else(|why| panic!("{event:?}: {why:?}"));
        self
    }

    fn refused(&mut self, event: &Event) -> (&'static str, &'static str) {
        let why = self.step(event).expect_err("refused");
        assert!(!why.hint.is_empty(), "{why:?}");
        (why.code, why.state)
    }

    fn second(&mut self, left: Left, in_flight: u64) -> &mut Self {
        self.scene.monotonic += 1_000;
        let second = self.scene.monotonic / 1_000;
        self.must(&Event::Second { second, left, in_flight })
    }

    fn smoked(&mut self, failed: Option<(&'static str, String)>) -> &mut Self {
        let run = self.flip.run;
        self.must(&Event::Smoked { run, failed, by: by() })
    }

    fn flipped(&mut self) -> &mut Self {
        self.must(&asked(false, false)).smoked(None)
    }

    fn is(&self) -> (Phase, &str, &str) {
        (self.flip.phase, &self.flip.active, &self.flip.reason.code)
    }

    fn told(&self) -> Vec<(Actor, Level, &str)> {
        let records = self.last.iter().filter_map(|one| match one {
            Move::Record(record) => Some(record.actor),
            _ => None,
        });
        let notices = self.last.iter().filter_map(|one| match one {
            Move::Notify(notice) => Some((notice.level, &*notice.code)),
            _ => None,
        });
        records.zip(notices).map(|(actor, (level, code))| (actor, level, code)).collect()
    }
}

#[test]
fn a_flip_is_tried_watched_and_kept() {
    let mut stand = Stand::new();
    stand.must(&asked(false, false));
    assert_eq!((stand.is(), stand.last.last()), ((Phase::Smoke, "blue", "smoke"), Some(&Move::Smoke)));
    assert_eq!(stand.refused(&asked(false, false)), ("flip-under-way", "SMOKE"));
    stand.smoked(None);
    assert_eq!(stand.is(), (Phase::Verifying, "green", "flip"));
    assert_eq!(stand.last[..2], [Move::Persist(Order::BeforePublish), Move::SetActive("green".into())]);
    assert_eq!(stand.refused(&asked(false, true)), ("flip-under-way", "VERIFYING"));
    stand.second(left(100, 0), 3);
    assert!(stand.last.is_empty());
    stand.second(left(100, 0), 0);
    assert_eq!(stand.told(), [(Actor::Timer, Level::Info, "drained")]);
    assert_eq!(stand.is(), (Phase::Verifying, "green", "flip"), "that it is drained is no reason");
    (0..9).for_each(|_| _ = stand.second(left(100, 0), 0));
    assert_eq!(stand.is(), (Phase::Steady, "green", "verified"));
    stand.must(&asked(true, false));
    assert_eq!(stand.is(), (Phase::Steady, "blue", "flip-back"));
    assert_eq!(stand.last[..2], [Move::Persist(Order::AfterPublish), Move::SetActive("blue".into())]);
    assert_eq!(stand.refused(&asked(true, false)), ("nothing-to-undo", "STEADY"));
}

#[test]
fn what_harms_goes_back_by_itself_and_says_why() {
    let mut stand = Stand::new();
    stand.flipped();
    (0..2).for_each(|_| _ = stand.second(left(50, 50), 0));
    assert_eq!(stand.is(), (Phase::FlippedBack, "blue", "guard"));
    assert_eq!(stand.told(), [(Actor::Analyzer, Level::Error, "guard")]);
    assert!(stand.flip.reason.text.contains("green is harmful"), "{}", stand.flip.reason.text);
    stand.flipped();
    assert_eq!(stand.is(), (Phase::Verifying, "green", "flip"), "it may be tried again");
    // There is nobody to go back to: it stays, and says so once.
    stand.scene.idle_alive = false;
    (0..3).for_each(|_| _ = stand.second(left(50, 50), 1));
    assert_eq!(stand.is(), (Phase::Verifying, "green", "way-back-closed"));
    stand.second(left(50, 50), 1);
    assert!(stand.told().iter().all(|(_, _, code)| *code != "way-back-closed"));
    assert_eq!(stand.refused(&asked(true, false)), ("no-endpoint", "VERIFYING"));
    stand.must(&asked(true, true));
    assert_eq!(stand.is(), (Phase::Steady, "blue", "flip-back"));
}

#[test]
fn what_is_not_fit_never_serves() {
    let mut stand = Stand::new();
    stand.must(&asked(false, false)).smoked(Some(("smoke-failed", "503".into())));
    assert_eq!(stand.is(), (Phase::Steady, "blue", "smoke-failed"));
    stand.must(&asked(false, false)).must(&asked(true, false));
    assert_eq!(stand.is(), (Phase::Steady, "blue", "called-off"));
    stand.smoked(None);
    assert_eq!(stand.is().1, "blue", "an answer that comes after the end says nothing");
    stand.scene.idle_alive = false;
    assert_eq!(stand.refused(&asked(false, false)), ("no-endpoint", "STEADY"));
    stand.scene = Scene { rollout_live: true, ..scene() };
    assert_eq!(stand.refused(&asked(false, true)), ("rollout-live", "STEADY"));
    stand.scene = scene();
    stand.must(&asked(false, false)).must(&Event::Restarted);
    assert_eq!(stand.is(), (Phase::Steady, "blue", "restarted"));
    stand.must(&asked(false, true));
    assert_eq!(stand.is(), (Phase::Verifying, "green", "flip"), "forced, it is not tried");
}

#[test]
fn weights_by_hand_and_promotions_end_what_is_watched() {
    let mut stand = Stand::new();
    stand.flipped().must(&Event::Weights(by()));
    assert_eq!(stand.is(), (Phase::Steady, "green", "weights"));
    stand.must(&Event::Promoted);
    assert_eq!(stand.is(), (Phase::Steady, "blue", "promoted"));
    stand.must(&asked(true, false));
    assert_eq!(stand.is(), (Phase::Steady, "green", "flip-back"));
    assert_eq!(stand.flip.drain_ms, Some(RULES.drain_ms));
    stand.must(&Event::Weights(by()));
    assert_eq!(stand.flip.drain_ms, None);
}

#[test]
fn tunnels_of_the_old_slot_are_closed_once_when_its_time_is_over_and_drained_is_told_after() {
    let mut stand = Stand::new();
    stand.flipped();
    let closed = Move::EndTunnels("blue".into());
    // The first second only sets the clock.
    let seconds = (0..8).map(|_| {
        stand.second(left(100, 0), 2);
        stand.last.iter().filter(|one| **one == closed).count()
    });
    assert_eq!(seconds.collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1, 0, 0]);
    assert_eq!(stand.flip.drain_ms, Some(0), "it is waited for still");
    stand.second(left(100, 0), 0);
    assert_eq!(stand.told(), [(Actor::Timer, Level::Info, "drained")]);
    assert_eq!(stand.flip.drain_ms, None);
}

#[test]
fn whatever_happens_the_invariants_hold() {
    let mut flips = [0_u32; 3];
    for seed in 0..2_000 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut stand = Stand::new();
        for _ in 0..100 {
            stand.scene.monotonic += [0, 1_000, 1_000, 2_000, 60_000][random.usize(..5)];
            stand.scene.wall.0 += 1_000;
            stand.scene.idle_alive = random.u8(..8) > 0;
            stand.scene.rollout_live = !stand.flip.phase.is_busy() && random.u8(..8) == 0;
            let bad = random.u8(..6) == 0;
            let event = match random.u8(..20) {
                0 | 1 => asked(false, random.u8(..4) == 0),
                2 => asked(true, random.u8(..4) == 0),
                3..=6 => Event::Smoked {
                    run: stand.flip.run - u64::from(random.u8(..9) == 0).min(stand.flip.run),
                    failed: (random.u8(..4) == 0).then(|| ("smoke-failed", "no".to_owned())),
                    by: by(),
                },
                7 if random.u8(..4) == 0 => Event::Weights(by()),
                8 if stand.scene.rollout_live => Event::Promoted,
                9 if random.u8(..4) == 0 => Event::Restarted,
                _ => Event::Second {
                    second: stand.scene.monotonic / 1_000,
                    left: left(40, if bad { 40 } else { 0 }),
                    in_flight: u64::from(random.u8(..2)),
                },
            };
            // What is remembered is read again as it was.
            let text = serde_json::to_string(&stand.flip).expect("written");
            let at = stand.flip.at;
            stand.flip = serde_json::from_str(&text).expect("read");
            stand.flip.at = at;
            let before = stand.flip.clone();
            match step(&stand.flip, &RULES, &event, &stand.scene) {
                Ok(outcome) => {
                    assert_eq!(invariants::check(&before, &event, &stand.scene, &outcome), Ok(()), "{seed}");
                    let moved = outcome.next.active != before.active;
                    flips[0] += u32::from(moved && outcome.next.phase == Phase::Verifying);
                    flips[1] += u32::from(moved && outcome.next.phase == Phase::FlippedBack);
                    flips[2] +=
                        u32::from(outcome.next.reason.code == "verified" && before.verifier.is_some());
                    stand.flip = outcome.next;
                }
                Err(why) => assert!(!why.hint.is_empty() && matches!(event, Event::Asked { .. }), "{why:?}"),
            }
        }
    }
    assert!(flips.iter().all(|count| *count > 300), "every end is reached: {flips:?}");
}
