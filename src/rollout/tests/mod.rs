//! What a user would notice of a rollout, row by row, and a simulation of everything at once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod asked;
mod edits;
mod people;
mod seconds;
mod simulation;
mod suffering;
mod words;

use crate::analysis::finding::{Arms, ByMetric, Evidence, Finding, Rule, Seen, Verdict, Waiting};
use crate::analysis::policy::{Hook, Preset, Step};
use crate::analysis::{Policy, thresholds::Breach};
use crate::rollout::event::{By, Event, HookAnswer, Scene, Verb};
use crate::rollout::moves::{Move, Outcome, Refused};
use crate::rollout::state::{Hold, Identity, PauseCause, Phase, Rollout, Share};
use crate::rollout::transition;
use crate::spec::rollout::{HookEvent, OnDeadline};

/// A rollout with what it lives in, driven second by second.
pub struct Stand {
    pub rollout: Rollout,
    pub policy: Policy,
    pub scene: Scene,
    /// Moves of the last event.
    pub moves: Vec<Move>,
    /// Moves of all events.
    pub all: Vec<Move>,
}

pub fn identity(version: &str) -> Identity {
    Identity { version: version.into(), from: "stable".into(), to: "canary".into(), ..Identity::default() }
}

pub fn policy(weights: &[f64]) -> Policy {
    let steps = weights.iter().map(|weight| Step { weight: *weight, dwell: 60.0, pause: false }).collect();
    Policy { version: "v2".into(), steps, ..Policy::default() }
}

pub fn finding(rollout: &Rollout, verdict: Verdict, rule: Rule, waiting_for: Vec<Waiting>) -> Event {
    Event::Tick(Some(Box::new(Finding {
        at_second: 0,
        step: rollout.step,
        weight: rollout.share.ratio(),
        verdict,
        rule,
        stable: Seen { n: 9_500, e: 9 },
        canary: Seen { n: 500, e: 25 },
        refused: Arms::default(),
        slow: None,
        evidence: Evidence {
            log: Some(1.0),
            threshold: 6.9,
            guard_threshold: 6.9,
            by_metric: ByMetric::default(),
            unnoticed: [false; 3],
        },
        effect: false,
        breach: None::<Breach>,
        cuts: None,
        worse: None,
        detectable_ratio: Some(3.0),
        waiting_for,
        eta_seconds: Some(60.0),
        confidence: Preset::Normal,
        few_clients: false,
        differing: Vec::new(),
    })))
}

pub fn hook(name: &str, event: HookEvent) -> Hook {
    let (url, name) = ("http://hook/".into(), name.into());
    Hook {
        name,
        event,
        url,
        timeout: 1.0,
        deadline: 1_800.0,
        on_deadline: OnDeadline::Pause,
        metadata: Vec::new(),
        secret_file: None,
    }
}

pub fn by(reason: &str) -> By {
    By { actor: "ann".into(), reason: reason.into(), ..By::default() }
}

pub fn verb(verb: Verb) -> Event {
    Event::Operator { verb, version: None, force: false, by: by("why") }
}

pub fn forced(verb: Verb) -> Event {
    Event::Operator { verb, version: None, force: true, by: by("why") }
}

impl Stand {
    /// A rollout of v2 that was just read from the file.
    pub fn new(policy: Policy) -> Self {
        let (rollout, scene) = (Rollout::default(), Scene { monotonic: 1_000, ..Scene::default() });
        let mut stand = Self { rollout, policy, scene, moves: Vec::new(), all: Vec::new() };
        stand.ok(Event::Version(identity("v2")));
        stand
    }

    /// One of steps 5, 50, 100 that is at its first step.
    pub fn at_first_step() -> Self {
        let mut stand = Self::new(policy(&[0.05, 0.5, 1.0]));
        stand.second(Verdict::Undecided);
        stand.is("STAGE", 50_000);
        stand
    }

    /// One that is at the bake.
    pub fn at_bake() -> Self {
        let mut stand = Self::at_first_step();
        stand.healthy_until("BAKE");
        stand
    }

    /// One that was promoted.
    pub fn promoted() -> Self {
        let mut stand = Self::at_bake();
        stand.healthy_until("PROMOTED");
        stand
    }

    pub fn try_(&mut self, event: Event) -> Result<Outcome, Refused> {
        let outcome = transition(&self.rollout, &self.policy, &event, &self.scene)?;
        self.rollout = outcome.next.clone();
        self.moves.clone_from(&outcome.moves);
        self.all.extend(outcome.moves.iter().cloned());
        Ok(outcome)
    }

    pub fn ok(&mut self, event: Event) -> &mut Self {
        self.try_(event.clone()).unwrap_or_else(|refused| panic!("{event:?}: {refused:?}"));
        self
    }

    pub fn refused(&mut self, event: Event) -> Refused {
        self.try_(event.clone()).err().unwrap_or_else(|| panic!("{event:?} was taken"))
    }

    /// A second with a verdict of no rule, and everything shown.
    pub fn second(&mut self, verdict: Verdict) -> &mut Self {
        let rule = if verdict == Verdict::Healthy { Rule::None } else { Rule::Errors };
        self.found(verdict, rule)
    }

    pub fn found(&mut self, verdict: Verdict, rule: Rule) -> &mut Self {
        self.scene.monotonic += 1_000;
        let waiting =
            if verdict == Verdict::Undecided { vec![Waiting::Requests { more: 7 }] } else { Vec::new() };
        let event = finding(&self.rollout, verdict, rule, waiting);
        self.ok(event)
    }

    pub fn seconds(&mut self, verdict: Verdict, seconds: u64) -> &mut Self {
        (0..seconds).for_each(|_| {
            self.second(verdict);
        });
        self
    }

    pub fn healthy_until(&mut self, phase: &str) -> &mut Self {
        for _ in 0..2_000 {
            if self.rollout.phase.name() == phase {
                return self;
            }
            self.second(Verdict::Healthy);
        }
        panic!("never {phase}: {:?}", self.rollout);
    }

    #[track_caller]
    pub fn is(&mut self, phase: &str, canary: u32) -> &mut Self {
        let seen = (self.rollout.phase.name(), self.rollout.canary_share());
        assert_eq!(seen, (phase, Some(Share(canary))), "{:?}", self.rollout);
        self
    }

    #[track_caller]
    pub fn holds(&self, reason: Hold) {
        assert!(matches!(self.rollout.phase, Phase::Hold { reason: seen, .. } if seen == reason), "{self}");
    }

    #[track_caller]
    pub fn paused(&self, cause: PauseCause) {
        assert!(matches!(self.rollout.phase, Phase::Paused { cause: seen, .. } if seen == cause), "{self}");
    }

    /// Keys of the last calls of a hook.
    pub fn called(&self, name: &str) -> Vec<u64> {
        let call = |one: &Move| match one {
            Move::Hook(call) if call.name == name => Some(call.key),
            _ => None,
        };
        self.moves.iter().filter_map(call).collect()
    }

    /// Answers the last call of a hook.
    pub fn answer(&mut self, name: &str, good: bool) -> &mut Self {
        let key = self.rollout.waits.iter().find(|wait| wait.name == name).expect("it was asked").key;
        self.ok(Event::Hook(HookAnswer {
            name: name.into(),
            key,
            good,
            why: if good { String::new() } else { "it answered 403".into() },
        }))
    }

    /// The process ends and begins again with what was written down.
    pub fn restart(&mut self) -> &mut Self {
        let text = serde_json::to_string(&self.rollout).unwrap();
        self.rollout = serde_json::from_str(&text).unwrap();
        self.scene.monotonic = 5;
        self.ok(Event::Restarted)
    }
}

impl std::fmt::Display for Stand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.rollout)
    }
}
