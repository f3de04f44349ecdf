//! The fast rule: the canary fails too often by any standard, and more often than stable.
//!
//! Two bets run side by side. The guard bets that the canary's bad share is above a fixed limit;
//! its control bets that the canary is worse than stable. Only both together speak, so a shared
//! outage cannot revert anybody; the guard alone speaks only when stable is silent. Its limit
//! must never be estimated: an estimate lags behind whatever is happening.

use serde::{Deserialize, Serialize};

use super::counts::{ArmCounts, MOMENTS, Tick};
use super::evidence::{Bad, Outcomes, RATIOS, Share, at_odds, times_ln, two_sided};
use super::latency::ODDS;
use super::mixture::{Grant, Mixture};

/// Bad shares that are looked for, as far as they lie above the limit.
const SHARES: [f64; 4] = [0.1, 0.2, 0.5, 0.9];
/// Bad shares the control looks for beside [`ODDS`].
const GROSS: [f64; 3] = [0.2, 0.5, 0.9];
/// A share that is looked for is at least this much above what it is compared with.
const ABOVE: f64 = 1.5;
/// Bad outcomes that are needed.
const ENOUGH_BAD: u64 = 5;
/// Tenths of a second that must hold one, where they are known: a burst lies in two at most.
const ENOUGH_MOMENTS: u32 = 5;
/// Seconds that must hold one, where tenths are not known.
const ENOUGH_SECONDS: u32 = 2;
/// Seconds over which stable's own health is judged, and its outcomes in them from which it can be;
/// with fewer it is judged over [`RECENT`].
const HEALTH: (u64, u64) = (10, 20);
/// Seconds of stable that are remembered.
const RECENT: u64 = 60;
/// Seconds without any outcome of stable after which the guard no longer waits for its control. A
/// few good outcomes of stable are all the control needs, so it waits for them.
const SILENT: u64 = 600;
/// Budget burn that is always allowed (the page line of the SRE workbook, chapter 5).
const BURN: f64 = 14.4;

/// What the guard says of one tick.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Word {
    /// `ln` of the guard's own evidence.
    pub ln: f64,
    /// `ln` of its control's.
    pub control: f64,
    /// The canary must go.
    pub fires: bool,
    /// The guard has its evidence, but not yet its control's word, or its failures fell together.
    pub suspects: bool,
    /// Stable is failing too.
    pub stable_breaches: bool,
}

/// Both bets and what they need to remember.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Guard {
    limit: f64,
    shares: Vec<f64>,
    evidence: Mixture,
    /// Over [`ODDS`] and then [`GROSS`]; over [`RATIOS`] on sticky routes.
    control: Mixture,
    stable_share: Share,
    /// Stable's last seconds: when, outcomes, bad ones. At most [`RECENT`] seconds.
    recent: Vec<(u64, u64, u64)>,
    /// When stable last left an outcome, or the first tick.
    stable_at: Option<u64>,
    /// By how much failures outweigh the good outcomes since the first that counts.
    outweigh: f64,
    bad: u64,
    moments: u32,
    seconds: u32,
}

impl Guard {
    /// With the share of bad outcomes that is tolerated, and the objective's availability.
    #[must_use]
    pub fn new(max_bad: f64, availability: f64) -> Self {
        let limit = limit(max_bad, availability);
        let shares: Vec<f64> =
            SHARES.into_iter().filter(|share| *share >= (ABOVE * limit).min(0.9)).collect();
        Self {
            limit,
            evidence: Mixture::new(shares.len()),
            shares,
            control: Mixture::new(ODDS.len() + GROSS.len()),
            stable_share: Share::new(1.0 - availability),
            recent: Vec::new(),
            stable_at: None,
            outweigh: 0.0,
            bad: 0,
            moments: 0,
            seconds: 0,
        }
    }

    /// Judges one tick. `slots` are the newly bad ones (stable, canary) on a sticky route: of a slot
    /// that was bad neither further failures nor further good outcomes count.
    pub fn tick(&mut self, grant: &Grant, tick: &Tick, slots: Option<(u64, u64)>, ln_threshold: f64) -> Word {
        let grant = &grant.dripped();
        let good = |arm: &ArmCounts| arm.n.saturating_sub(arm.e + arm.repeats);
        let (bad_stable, bad_canary) = slots.unwrap_or((tick.stable.e, tick.canary.e));
        let seen = Outcomes {
            bad_canary,
            bad_stable,
            good_canary: good(&tick.canary),
            good_stable: good(&tick.stable),
        };
        self.grow_control(grant, tick, &seen, slots.is_some());
        self.grow(grant, tick, &seen);
        self.remember(tick.at_second, &seen);
        let stable_breaches = self.stable_breaches(tick.at_second);
        if stable_breaches {
            self.evidence.at_most(0.5_f64.ln());
        }
        let (ln, control) = (self.evidence.ln_mean(), self.control.ln_mean());
        self.count(tick, &seen);
        let alone = self.stable_is_silent(tick);
        let proven = ln >= ln_threshold && !stable_breaches;
        let fires = proven && self.spread() && (alone || control >= ln_threshold);
        Word { ln, control, fires, suspects: proven && !fires, stable_breaches }
    }

    /// The share of bad outcomes above which the guard bets.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    fn grow(&mut self, grant: &Grant, tick: &Tick, seen: &Outcomes) {
        self.evidence.fund(grant.total());
        let (trusted, trusted_bad) = tick.canary.trusted;
        let bad = seen.bad_canary + trusted_bad;
        let good = seen.good_canary + trusted.saturating_sub(trusted_bad);
        let (shares, limit) = (&self.shares, self.limit);
        self.evidence.grow(|index| {
            let share = shares[index];
            times_ln(bad, share / limit) + times_ln(good, (1.0 - share) / (1.0 - limit))
        });
    }

    fn grow_control(&mut self, grant: &Grant, tick: &Tick, seen: &Outcomes, sticky: bool) {
        if sticky {
            // Slots are cleared at each step, and may then count again.
            if grant.entered {
                self.control.clear();
            }
            self.control.fund(grant.after_drop());
            let bad = Bad::of(seen.bad_stable, seen.bad_canary);
            self.control.grow(|index| RATIOS.get(index).map_or(0.0, |ratio| bad.ln_factor(tick.w, *ratio)));
            return;
        }
        self.control.fund(grant.total());
        let p0 = self.stable_share.now();
        self.control.grow(|index| {
            let odds = ODDS.get(index).map(|odds| at_odds(*odds, p0));
            let gross = || GROSS.get(index - ODDS.len()).copied().filter(|p1| *p1 >= ABOVE * p0);
            odds.or_else(gross).map_or(0.0, |p1| two_sided(seen, tick.w, p0, p1, 1.0))
        });
        self.stable_share.add(tick.at_second, seen.bad_stable, seen.good_stable);
    }

    fn remember(&mut self, second: u64, seen: &Outcomes) {
        // Seconds come in their order.
        let gone = self.recent.iter().take_while(|(at, _, _)| at + RECENT <= second).count();
        self.recent.drain(..gone);
        let all = seen.bad_stable + seen.good_stable;
        if all > 0 || self.stable_at.is_none() {
            self.stable_at = Some(second);
        }
        match self.recent.last_mut().filter(|(at, _, _)| *at == second) {
            Some(last) => *last = (second, last.1 + all, last.2 + seen.bad_stable),
            None => self.recent.push((second, all, seen.bad_stable)),
        }
    }

    /// Stable's outcomes and bad ones of the last seconds.
    fn stable_over(&self, seconds: u64, second: u64) -> (u64, u64) {
        let last = self.recent.iter().rev().take_while(|(at, _, _)| at + seconds > second);
        last.fold((0, 0), |sum, (_, all, bad)| (sum.0 + all, sum.1 + bad))
    }

    #[expect(clippy::cast_precision_loss, reason = "outcomes of a minute")]
    fn stable_breaches(&self, second: u64) -> bool {
        let lately = self.stable_over(HEALTH.0, second);
        let (all, bad) = if lately.0 < HEALTH.1 { self.stable_over(RECENT, second) } else { lately };
        all > 0 && bad as f64 >= self.limit * all as f64
    }

    /// Whether there is no control: stable gets nothing, or nothing has come from it for long.
    fn stable_is_silent(&self, tick: &Tick) -> bool {
        let last = self.stable_at.unwrap_or(tick.at_second);
        tick.w >= 1.0 || tick.at_second.saturating_sub(last) >= SILENT
    }

    /// Failures count as long as they outweigh the good outcomes since the first of them: a burst
    /// that has been made up for is not part of what is happening now.
    fn count(&mut self, tick: &Tick, seen: &Outcomes) {
        let bad = seen.bad_canary + tick.canary.trusted.1;
        let least = self.shares.first().copied().unwrap_or(self.limit);
        self.outweigh += times_ln(bad, least / self.limit)
            + times_ln(seen.good_canary, (1.0 - least) / (1.0 - self.limit));
        if self.outweigh <= 0.0 {
            (self.outweigh, self.bad, self.moments, self.seconds) = (0.0, 0, 0, 0);
            return;
        }
        self.bad += bad;
        // One that ended as its second was read may have no tenth; it fell in some.
        let known = tick.canary.bad_moments.filter(|_| bad > 0).map_or(0, |mask| mask.count_ones().max(1));
        self.moments = self.moments.saturating_add(known.min(u32::from(MOMENTS)));
        self.seconds = self.seconds.saturating_add(u32::from(bad > 0));
    }

    fn spread(&self) -> bool {
        let apart =
            if self.moments > 0 { self.moments >= ENOUGH_MOMENTS } else { self.seconds >= ENOUGH_SECONDS };
        self.bad >= ENOUGH_BAD && apart
    }
}

/// The bad share that is tolerated: `max(maxBad, 14.4 x (1 - availability))`, below 1.
#[must_use]
pub fn limit(max_bad: f64, availability: f64) -> f64 {
    max_bad.max(BURN * (1.0 - availability)).min(0.6)
}
