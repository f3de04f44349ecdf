//! A recording through the analyzer and the state machine that run live, a line at a time.
//!
//! A recorded live rollout says what the analyzer was told and when seconds were decided; of a plain
//! file of counts both are concluded from `t`, `w` and `step`. It must never judge by anything but
//! the analyzer's own code, nor hold more than one second.

use std::borrow::Cow;

use super::machine::{Decided, Machine, Place};
use crate::analysis::recording::{Entry, Said, Second, Told};
use crate::analysis::{Analyzer, Finding, Policy, Tick};
use crate::rollout::{Rollout, Scene, Share};

/// Seconds without a line that are gone through one by one.
const MAX_SILENCE: u64 = 86_400;
/// Milliseconds of a second.
const SECOND: u64 = 1_000;
/// States before the first traffic.
const BEFORE: [&str; 3] = ["IDLE", "PENDING", "SHADOW"];
/// States after the last.
const ENDS: [&str; 6] = ["REVERTING", "REVERTED", "ABORTED", "SUPERSEDED", "PROMOTED", "FINISHED"];
/// Most notes kept.
const MAX_NOTES: usize = 100;

/// A tick, and what came of it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// What the analyzer says.
    pub finding: Finding,
    /// What the machine does, where it is then, and what the recording does instead.
    pub decided: Decided,
    /// What was said when it was recorded.
    pub said: Option<Said>,
    /// Where the recorded rollout was afterwards: its state and step.
    pub recorded: Option<(Cow<'static, str>, u32)>,
}

/// A recording being followed.
#[derive(Debug)]
pub struct Follow {
    policy: Policy,
    /// Requests per second, when the recording does not say it.
    rate: f64,
    /// It says when a second was decided; a plain file of counts does not.
    recorded: bool,
    analyzer: Option<Analyzer>,
    machine: Machine,
    state: &'static str,
    /// Step and weight of a plain file's ticks.
    epoch: Option<(u32, f64)>,
    /// The last tick of a second that is not decided.
    open: Option<(Finding, Option<Said>)>,
    ended: bool,
    /// Ticks of which it is recorded what was said, and of these those of which the same is said now.
    pub same: (u64, u64),
    /// What should be known about the recording, with its second.
    pub notes: Vec<(u64, String)>,
}

impl Follow {
    /// From its beginning. `recorded`: it holds decided seconds; `rate` is for when it says none.
    #[must_use]
    pub fn new(policy: &Policy, rate: f64, recorded: bool) -> Self {
        let mut policy = policy.clone();
        if !recorded {
            // Nobody answers a hook here, and nothing was mirrored.
            policy.conduct.hooks.clear();
            policy.shadow = None;
        }
        Self {
            machine: Machine::new(policy.clone()),
            policy,
            rate,
            recorded,
            analyzer: None,
            state: "IDLE",
            epoch: None,
            open: None,
            ended: false,
            same: (0, 0),
            notes: Vec::new(),
        }
    }

    /// Takes a line; gives the tick about which everything is known because of it.
    pub fn take(&mut self, entry: Entry) -> Option<Judged> {
        match entry {
            Entry::Told(second, told) => self.told(second, told),
            Entry::Tick(..) if self.ended => None,
            Entry::Tick(tick, said) => self.tick(&tick, said),
        }
    }

    /// There are no more lines.
    pub fn finish(&mut self) -> Option<Judged> {
        self.close(None)
    }

    /// The tick that is open, when the next one is of `second`.
    fn close(&mut self, second: Option<u64>) -> Option<Judged> {
        let (finding, said) = self.open.take()?;
        if self.recorded || second == Some(finding.at_second) {
            // Only the last tick of a second is decided about.
            let decided = Decided { moved: "stay", state: self.state, ended: false, differs: None };
            return Some(Judged { finding, decided, said, recorded: None });
        }
        let scene = self.plain_scene(finding.at_second);
        Some(self.decide(finding, said, &scene, None))
    }

    fn decide(
        &mut self,
        finding: Finding,
        said: Option<Said>,
        scene: &Scene,
        after: Option<&Second>,
    ) -> Judged {
        let mut decided = self.machine.second(Some(&finding), scene, after.map(place));
        if let Some(after) = after.filter(|after| !decided.ended && ENDS.contains(&&*after.state)) {
            decided.differs = Some(format!("the recording is {}", after.state));
        }
        (self.state, self.ended) = (decided.state, decided.ended);
        Judged { finding, decided, said, recorded: after.map(|after| (after.state.clone(), after.step)) }
    }

    fn tick(&mut self, tick: &Tick, said: Option<Said>) -> Option<Judged> {
        let judged = self.close(Some(tick.at_second));
        if self.ended {
            return judged;
        }
        if !self.recorded {
            self.plain(tick, judged.as_ref().map(|judged| judged.finding.at_second));
        }
        if self.ended {
            return judged;
        }
        let (policy, rate) = (&self.policy, self.rate);
        let finding = self.analyzer.get_or_insert_with(|| Analyzer::new(policy, rate)).tick(policy, tick);
        if let Some(said) = &said {
            self.same.0 += 1;
            self.same.1 += u64::from(*said == Said::of(&finding));
        }
        self.open = Some((finding, said));
        judged
    }

    /// What a plain file leaves to be concluded: its beginning, its silence, and its steps.
    fn plain(&mut self, tick: &Tick, before: Option<u64>) {
        let second = tick.at_second;
        if !self.machine.is_known() {
            self.machine.begin(second * SECOND);
        }
        let silent = before.map_or(second, |before| before + 1)..second;
        for second in silent.take(usize::try_from(MAX_SILENCE).unwrap_or(usize::MAX)) {
            let decided = self.machine.second(None, &self.plain_scene(second), None);
            (self.state, self.ended) = (decided.state, decided.ended);
        }
        if self.epoch.is_none_or(|(step, w)| tick.step > step || tick.w > w) {
            self.epoch = Some((tick.step, tick.w));
            self.enter_step(tick.step, tick.w, second);
        }
    }

    fn enter_step(&mut self, step: u32, weight: f64, second: u64) {
        let (policy, rate) = (&self.policy, self.rate);
        let analyzer = self.analyzer.get_or_insert_with(|| Analyzer::new(policy, rate));
        analyzer.enter_step(policy, step, weight, second);
    }

    /// A line that is no count.
    fn told(&mut self, second: u64, told: Told) -> Option<Judged> {
        match told {
            Told::Begin { rate, .. } => self.begin(rate),
            Told::Lost { seconds } => self.note(second, format!("{seconds} seconds before it are missing")),
            _ if self.ended => {}
            Told::Second(decided) => return self.decided(second, &decided),
            Told::Step { step, w } => self.enter_step(step, Share::of(w / 100.0).ratio(), second),
            Told::Choose { rate } => {
                if let Some(analyzer) = &mut self.analyzer {
                    analyzer.choose(&self.policy, rate);
                }
            }
            Told::Resume { down, analyzer } => self.resume(second, down, analyzer),
            Told::Policy => {
                self.note(second, "the live policy changed; this one holds throughout".to_owned());
            }
            Told::State { ms, rollout } => match Rollout::of_recording(&rollout, &self.policy, ms) {
                Some(rollout) => {
                    let decided = self.machine.adopt(rollout);
                    if decided.ended {
                        self.note(second, format!("the recording is {}", decided.state));
                    }
                    (self.state, self.ended) = (decided.state, decided.ended);
                }
                None => self.note(second, "the recorded rollout is none of this policy".to_owned()),
            },
            Told::Unknown => {}
        }
        None
    }

    fn begin(&mut self, rate: f64) {
        self.analyzer = Some(Analyzer::new(&self.policy, rate));
        self.machine.forget();
        (self.state, self.ended, self.open) = ("PENDING", false, None);
    }

    fn resume(&mut self, second: u64, down: u64, analyzer: Option<Box<Analyzer>>) {
        if let Some(known) = analyzer {
            self.analyzer = Some(*known);
        }
        if let Some(analyzer) = &mut self.analyzer {
            analyzer.resume(&self.policy, second, down);
        }
        self.note(second, format!("the proxy was started again, after {down} seconds"));
    }

    /// The recording says that a second was decided.
    fn decided(&mut self, second: u64, after: &Second) -> Option<Judged> {
        let scene = Scene::of_recording(after);
        if let Some((finding, said)) = self.open.take() {
            return Some(self.decide(finding, said, &scene, Some(after)));
        }
        let decided = self.machine.second(None, &scene, Some(place(after)));
        (self.state, self.ended) = (decided.state, decided.ended);
        if decided.ended {
            self.note(second, format!("{} in a second without counts", decided.moved));
        }
        None
    }

    fn note(&mut self, second: u64, text: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push((second, text));
        }
    }

    fn plain_scene(&self, second: u64) -> Scene {
        // A tick stands for the second that it ends.
        Scene { monotonic: (second + 1) * SECOND, rate: self.rate, ..Scene::default() }
    }
}

/// How far a recorded rollout is.
fn place(after: &Second) -> Place {
    if BEFORE.contains(&&*after.state) { 0 } else { after.step + 1 }
}
