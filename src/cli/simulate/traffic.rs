//! The traffic of a scenario, second by second, as the analyzer would read it.
//!
//! What is true is known here: which arm fails how often, and whether the version is to blame. It
//! must never look at a verdict.

use std::sync::Arc;

use clap::ValueEnum;

use super::dice::{Dice, LATENCY_BINS, LatencyTable, shift};
use crate::analysis::differences::Paired;
use crate::analysis::{ArmCounts, Bins, Tick};

/// Failures of one burst.
const BURST: u64 = 20;
/// Chance that an arm stands still for a second, in `pauses`.
const PAUSE: f64 = 0.003;
/// How much longer what was held up by a pause takes.
const PAUSED: f64 = 50.0;
/// Users of a sticky route, and of these the error-prone ones with their part of the errors.
const USERS: (u32, u32, f64) = (20_000, 100, 0.8);
/// Slots of a sticky route.
const SLOTS: usize = 1 << 16;
/// The bot's share of the requests.
const BOT: f64 = 0.01;
/// Seconds of an outage.
const OUTAGE: u64 = 120;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Both arms at the baseline
    Healthy,
    /// The canary fails more often
    Errors,
    /// A share of the canary's answers, the slowest, takes longer
    Slow,
    /// Both arms fail for two minutes
    Outage,
    /// Both arms' errors rise over the run
    Ramp,
    /// Traffic rises from a tenth to five times its rate
    TrafficRamp,
    /// Both arms become twice as slow over the run
    Drift,
    /// Either arm stands still for a second now and then
    Pauses,
    /// Errors come twenty at a time, from one arm
    Bursts,
    /// A sticky route with a failing bot and error-prone users
    StickyBot,
    /// One request a second, both arms at the baseline
    LowTraffic,
    /// Mirrored requests, compared in pairs
    Shadow,
}

impl Scenario {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether the canary is to blame for anything.
    #[must_use]
    pub const fn harmful(self) -> bool {
        matches!(self, Self::Errors | Self::Slow | Self::Shadow)
    }

    /// Whether a share of bad or slow outcomes of its own makes it what it is.
    #[must_use]
    pub const fn has_share(self) -> bool {
        self.harmful() || matches!(self, Self::Outage | Self::Ramp)
    }
}

/// The canary's weight over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weight {
    /// The same all the time, 0 to 1.
    Held(f64),
    /// 1, 5, 25 and 50 %, a quarter of the run each.
    Ladder,
}

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Setting {
    /// What happens.
    pub scenario: Scenario,
    /// Requests per second of both arms.
    pub rps: f64,
    /// The canary's weight.
    pub weight: Weight,
    /// Stable's share of bad outcomes.
    pub baseline: f64,
    /// The scenario's own share: the canary's bad outcomes, the slow answers, the outage's depth …
    pub canary: f64,
    /// How much longer slow answers take.
    pub slowdown: f64,
    /// The second in which the canary becomes bad.
    pub onset: u64,
    /// Seconds of a run.
    pub seconds: u64,
}

impl Setting {
    /// Weight and step of a second.
    #[must_use]
    pub fn weight(&self, second: u64) -> (f64, u32) {
        match self.weight {
            // At bake the step is the last one.
            Weight::Held(w) => (w, if w > 0.5 { 4 } else { 0 }),
            Weight::Ladder => {
                let step = (second * 4 / self.seconds.max(1)).min(3);
                let index = u32::try_from(step).unwrap_or(3);
                ([0.01, 0.05, 0.25, 0.5][index as usize], index)
            }
        }
    }

    /// How much of the run has passed, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "seconds of a run")]
    fn passed(&self, second: u64) -> f64 {
        second as f64 / self.seconds.max(1) as f64
    }
}

/// One run's traffic.
#[derive(Debug)]
pub struct Traffic {
    setting: Setting,
    dice: Dice,
    table: Arc<LatencyTable>,
    outage_at: u64,
    users: Option<Users>,
}

/// Slots of a sticky route: who is where, and what was seen since the step began.
#[derive(Debug)]
struct Users {
    salt: u64,
    step: u32,
    seen: Vec<u64>,
    bad: Vec<u64>,
    /// Slots seen and bad: stable, canary.
    counts: [(u64, u64); 2],
}

impl Users {
    fn enter(&mut self, step: u32) {
        if step != self.step {
            self.step = step;
            self.seen.fill(0);
            self.bad.fill(0);
            self.counts = Default::default();
        }
    }

    /// A user's slot: the top bits of a hash of user and salt.
    fn slot(&self, user: u32) -> usize {
        let mixed = (self.salt ^ u64::from(user)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        usize::try_from((mixed ^ (mixed >> 32)) & 0xffff).unwrap_or(0)
    }
}

/// Sets a bit and says whether it was new.
fn mark(set: &mut [u64], at: usize) -> bool {
    let Some(word) = set.get_mut(at / 64) else { return false };
    let new = *word & (1 << (at % 64)) == 0;
    *word |= 1 << (at % 64);
    new
}

impl Traffic {
    /// Run number `run` of a seed.
    #[must_use]
    pub fn new(setting: Setting, table: Arc<LatencyTable>, seed: u64, run: u64) -> Self {
        let mut dice = Dice::new(seed, run);
        let earliest = setting.seconds / 5;
        let span = u32::try_from(setting.seconds * 2 / 5).unwrap_or(u32::MAX);
        let outage_at = earliest + u64::from(dice.below(span));
        let users = (setting.scenario == Scenario::StickyBot).then(|| Users {
            salt: dice.bits(),
            step: u32::MAX,
            seen: vec![0; SLOTS / 64],
            bad: vec![0; SLOTS / 64],
            counts: Default::default(),
        });
        Self { setting, dice, table, outage_at, users }
    }

    /// One second; without latency when nobody looks at it.
    pub fn tick(&mut self, second: u64, with_latency: bool) -> Tick {
        let (w, step) = self.setting.weight(second);
        let mut tick = Tick { at_second: second, w, step, ..Tick::default() };
        if self.users.is_some() {
            self.sticky(&mut tick);
            return tick;
        }
        let rps = self.rate(second);
        let (bad_stable, bad_canary) = self.shares(second);
        tick.stable = self.arm(rps * (1.0 - w), bad_stable);
        tick.canary = self.arm(rps * w, bad_canary);
        if self.setting.scenario == Scenario::Bursts {
            self.bursts(&mut tick, rps);
        }
        if with_latency {
            tick.stable.latency = Some(self.latency(second, &tick.stable, false));
            tick.canary.latency = Some(self.latency(second, &tick.canary, true));
        }
        tick
    }

    fn rate(&self, second: u64) -> f64 {
        let Setting { scenario, rps, .. } = self.setting;
        if scenario == Scenario::TrafficRamp { rps * (0.1 + 4.9 * self.setting.passed(second)) } else { rps }
    }

    /// Shares of bad outcomes: stable's, the canary's.
    fn shares(&self, second: u64) -> (f64, f64) {
        let Setting { scenario, baseline, canary, .. } = self.setting;
        match scenario {
            Scenario::Errors | Scenario::Shadow if second >= self.setting.onset => (baseline, canary),
            Scenario::Outage if (self.outage_at..self.outage_at + OUTAGE).contains(&second) => {
                (canary, canary)
            }
            Scenario::Ramp => {
                let share = baseline + (canary - baseline).max(0.0) * self.setting.passed(second);
                (share, share)
            }
            Scenario::Bursts => (0.0, 0.0),
            _ => (baseline, baseline),
        }
    }

    fn arm(&mut self, rate: f64, bad: f64) -> ArmCounts {
        let (good, bad) = (self.dice.poisson(rate * (1.0 - bad)), self.dice.poisson(rate * bad));
        let moments = (0..bad.min(64)).fold(0, |mask, _| mask | 1 << self.dice.below(10));
        ArmCounts { n: good + bad, e: bad, bad_moments: Some(moments), ..ArmCounts::default() }
    }

    fn bursts(&mut self, tick: &mut Tick, rps: f64) {
        #[expect(clippy::cast_precision_loss, reason = "20")]
        let bursts = self.dice.poisson(self.setting.baseline * rps / BURST as f64);
        for _ in 0..bursts {
            let canary = self.dice.chance(tick.w);
            let at = self.dice.below(10);
            let arm = if canary { &mut tick.canary } else { &mut tick.stable };
            (arm.n, arm.e) = (arm.n + BURST, arm.e + BURST);
            arm.bad_moments = Some(arm.bad_moments.unwrap_or(0) | 1 << at);
        }
    }

    fn latency(&mut self, second: u64, arm: &ArmCounts, canary: bool) -> Bins {
        let Setting { scenario, canary: share, slowdown, .. } = self.setting;
        let paused = scenario == Scenario::Pauses && self.dice.chance(PAUSE);
        let drift = if scenario == Scenario::Drift { 1.0 + self.setting.passed(second) } else { 1.0 };
        let all = if paused { PAUSED } else { drift };
        let slow_from = if scenario == Scenario::Slow && canary && second >= self.setting.onset {
            1.0 - share
        } else {
            2.0
        };
        let mut counts = [0_u64; LATENCY_BINS];
        for _ in 0..arm.n - arm.e {
            let (bin, part) = self.table.draw(&mut self.dice);
            let factor = if part >= slow_from { slowdown } else { all };
            let moved = if factor > 1.0 { bin + shift(factor, &mut self.dice) } else { bin };
            if let Some(count) = counts.get_mut(moved.min(LATENCY_BINS - 1)) {
                *count += 1;
            }
        }
        (0..).map(|bin| self.table.bound(bin)).zip(counts).collect()
    }

    fn sticky(&mut self, tick: &mut Tick) {
        let Setting { rps, baseline, .. } = self.setting;
        let requests = self.dice.poisson(rps);
        let Some(mut users) = self.users.take() else { return };
        users.enter(tick.step);
        let (all, prone, part) = USERS;
        let prone_share = f64::from(prone) / f64::from(all);
        let mut first = [[0_u64; LATENCY_BINS]; 2];
        let mut arms = [ArmCounts::default(), ArmCounts::default()];
        for _ in 0..requests {
            let bot = self.dice.chance(BOT);
            let user = if bot { all } else { self.dice.below(all) };
            let chance = if user < prone { part / prone_share } else { (1.0 - part) / (1.0 - prone_share) };
            let bad = bot || self.dice.chance((baseline * chance).min(1.0));
            let slot = users.slot(user);
            #[expect(clippy::cast_precision_loss, reason = "a slot")]
            let side = usize::from((slot as f64) < tick.w * SLOTS as f64);
            let (arm, counts) = (&mut arms[side], &mut users.counts[side]);
            arm.n += 1;
            let new = mark(&mut users.seen, slot);
            counts.0 += u64::from(new);
            if bad {
                arm.e += 1;
                let moment = 1 << self.dice.below(10);
                if mark(&mut users.bad, slot) {
                    counts.1 += 1;
                    arm.bad_moments = Some(arm.bad_moments.unwrap_or(0) | moment);
                }
                arm.latency_bad = Some(arm.latency_bad.unwrap_or(0) + u64::from(new));
            } else if new {
                first[side][self.table.draw(&mut self.dice).0] += 1;
            }
        }
        for ((arm, counts), bins) in arms.iter_mut().zip(users.counts).zip(first) {
            (arm.slots, arm.bad_slots) = (Some(counts.0), counts.1);
            arm.latency = Some((0..).map(|bin| self.table.bound(bin)).zip(bins).collect());
        }
        self.users = Some(users);
        [tick.stable, tick.canary] = arms;
    }

    /// Pairs of one second of mirrored traffic, by tenths of it; good ones are in the first.
    pub fn pairs(&mut self) -> [Paired; 10] {
        let Setting { rps, baseline, canary, .. } = self.setting;
        let share = self.setting.weight(0).0;
        let pairs = rps * share;
        let worse = self.dice.poisson(pairs * canary * (1.0 - baseline));
        let better = self.dice.poisson(pairs * baseline * (1.0 - canary));
        let same = self.dice.poisson(pairs * (1.0 - canary - baseline + 2.0 * canary * baseline).max(0.0));
        let mut moments = [Paired::default(); 10];
        moments[0].both_good = same;
        for (count, shadow) in [(worse, true), (better, false)] {
            for _ in 0..count {
                let at = usize::try_from(self.dice.below(10)).unwrap_or(0);
                moments[at].add(!shadow, shadow);
            }
        }
        moments
    }
}
