//! Stops asking an upstream that fails: closed, open for a time, half open for a few requests.
//!
//! By the share of attempts that failed over all workers, or by an operator's word, which holds until
//! the next. Workers read one word. No client among many opens it, nor keeps it open. It must never
//! count what an upstream was not asked.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

use super::Millis;
use super::crowd::{Crowd, LEAST, Place, Went, mark};
use crate::ledger::Counter;
use crate::model::WorkerId;

/// When it opens, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRules {
    /// Share of failed attempts that opens it, in parts per million.
    pub error_rate: u32,
    /// Attempts of the window that it takes at least.
    pub min_requests: u64,
    /// Milliseconds over which attempts are counted.
    pub window: Millis,
    /// Milliseconds it stays open before it lets a few through.
    pub open: Millis,
}

/// Requests let through half open: when all of them succeed it closes.
const TRIALS: u32 = 5;
/// Parts of a window that are counted apart.
const PARTS: u64 = 10;
const CLOSED: u32 = 0;
const OPEN: u32 = 1;
const HALF_OPEN: u32 = 2;

/// What opened a breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The share of failed attempts.
    ErrorRate,
    /// A request that was let through failed.
    HalfOpen,
    /// An operator.
    Operator,
}

impl Opened {
    /// Every value, in index order.
    pub const ALL: [Self; 3] = [Self::ErrorRate, Self::HalfOpen, Self::Operator];

    /// As metrics and logs spell it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::ErrorRate => "error_rate",
            Self::HalfOpen => "half_open",
            Self::Operator => "operator",
        }
    }
}

/// A change of a breaker, to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It opened: why, attempts of the window, failed ones.
    Opened(Opened, u64, u64),
    /// A few requests are let through.
    HalfOpen,
    /// It closed.
    Closed,
}

/// The breaker of one upstream.
#[derive(Debug)]
pub struct BreakerCell {
    word: AtomicU32,
    trials: AtomicU32,
    /// Places that were failed half open.
    tried: AtomicU64,
    crowd: Crowd,
    /// Attempts that succeeded and that failed, by worker.
    counts: Box<[CachePadded<[Counter; 2]>]>,
    openings: [AtomicU64; 3],
    machine: Mutex<Machine>,
}

#[derive(Debug, Default)]
struct Machine {
    stage: Stage,
    /// When, and the sums then; oldest first, at most a window long.
    lately: VecDeque<(Millis, [u64; 2])>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Closed,
    /// Until then; `None` until an operator says otherwise.
    Open(Option<Millis>),
    /// Since when, and the sums then.
    HalfOpen(Millis, [u64; 2]),
}

impl BreakerCell {
    pub(super) fn new(workers: usize, seed: u64) -> Self {
        Self {
            word: AtomicU32::new(CLOSED),
            trials: AtomicU32::new(0),
            tried: AtomicU64::new(0),
            crowd: Crowd::new(seed),
            counts: (0..workers).map(|_| CachePadded::default()).collect(),
            openings: [const { AtomicU64::new(0) }; 3],
            machine: Mutex::default(),
        }
    }

    // --- workers ---

    /// Whether a request may go to the upstream.
    #[must_use]
    pub fn admits(&self) -> bool {
        match self.word.load(Relaxed) {
            CLOSED => true,
            HALF_OPEN => self.trials.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1)).is_ok(),
            _ => false,
        }
    }

    /// Whether requests go to the upstream as ever; takes no part of a trial.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.word.load(Relaxed) == CLOSED
    }

    /// An attempt of a client ended. A failure that one of many clients has too often says nothing.
    pub fn count(&self, worker: WorkerId, address: IpAddr, went: Went) {
        let place = self.crowd.seen(address);
        match went {
            Went::Unreached => self.crowd.unreached(),
            Went::Failed if !self.believes(place) => return,
            Went::Well | Went::Failed => {}
        }
        if let Some(own) = self.counts.get(worker.0) {
            own[usize::from(went != Went::Well)].add(1);
        }
    }

    /// Whether a failure counts. Half open it takes several clients, and what one of them had is as if
    /// it had not been let through.
    fn believes(&self, place: Place) -> bool {
        if self.word.load(Relaxed) != HALF_OPEN {
            return self.crowd.fails(place);
        }
        mark(&self.tried, place.bit());
        if !self.crowd.is_many() || self.tried.load(Relaxed).count_ones() >= LEAST {
            return true;
        }
        let back = |left: u32| (left < TRIALS).then_some(left + 1);
        // As many as there can be are there already.
        let _ = self.trials.fetch_update(Relaxed, Relaxed, back);
        false
    }

    // --- control ---

    /// `closed`, `open` or `half_open`.
    #[must_use]
    pub fn state(&self) -> &'static str {
        match self.word.load(Relaxed) {
            CLOSED => "closed",
            HALF_OPEN => "half_open",
            _ => "open",
        }
    }

    /// Whether an operator holds it open.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.machine().stage == Stage::Open(None)
    }

    /// How often it opened.
    #[must_use]
    pub fn openings(&self, why: Opened) -> u64 {
        self.openings.get(why as usize).map_or(0, |count| count.load(Relaxed))
    }

    /// An operator opens it, until the operator closes it; false when it is held open already.
    pub fn hold(&self) -> bool {
        let mut machine = self.machine();
        if machine.stage == Stage::Open(None) {
            return false;
        }
        self.open(&mut machine, Opened::Operator, None);
        true
    }

    /// An operator closes it: what was counted before is forgotten. False when it is closed already.
    pub fn close(&self) -> bool {
        let mut machine = self.machine();
        let was = std::mem::take(&mut machine.stage);
        machine.lately.clear();
        self.word.store(CLOSED, Relaxed);
        was != Stage::Closed
    }

    /// Looks at the counts and puts in force what follows.
    pub fn step(&self, rules: &BreakerRules, now: Millis) -> Option<Turn> {
        let mut machine = self.machine();
        let sums = self.sums();
        match machine.stage {
            Stage::Closed => {
                self.crowd.turn(now, rules.window);
                let [good, bad] = machine.window(rules, now, sums);
                let all = good + bad;
                let share = bad.saturating_mul(1_000_000);
                if bad == 0 || all < rules.min_requests || share < all * u64::from(rules.error_rate) {
                    return None;
                }
                if !self.crowd.speaks() {
                    return None;
                }
                self.open(&mut machine, Opened::ErrorRate, Some(now + rules.open));
                Some(Turn::Opened(Opened::ErrorRate, all, bad))
            }
            Stage::Open(None) => None,
            Stage::Open(Some(until)) if now < until => None,
            Stage::Open(Some(_)) => {
                machine.stage = Stage::HalfOpen(now, sums);
                self.trials.store(TRIALS, Relaxed);
                self.tried.store(0, Relaxed);
                self.word.store(HALF_OPEN, Relaxed);
                Some(Turn::HalfOpen)
            }
            Stage::HalfOpen(since, base) => {
                let [good, bad] = less(sums, base);
                if bad > 0 {
                    self.open(&mut machine, Opened::HalfOpen, Some(now + rules.open));
                    return Some(Turn::Opened(Opened::HalfOpen, good + bad, bad));
                }
                if good >= u64::from(TRIALS) {
                    machine.stage = Stage::Closed;
                    machine.lately.clear();
                    self.word.store(CLOSED, Relaxed);
                    return Some(Turn::Closed);
                }
                // Those let through may have come to nothing: their clients left.
                if now >= since + rules.open {
                    machine.stage = Stage::HalfOpen(now, base);
                    self.trials.store(TRIALS, Relaxed);
                }
                None
            }
        }
    }

    fn open(&self, machine: &mut Machine, why: Opened, until: Option<Millis>) {
        machine.stage = Stage::Open(until);
        machine.lately.clear();
        self.word.store(OPEN, Relaxed);
        if let Some(count) = self.openings.get(why as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn sums(&self) -> [u64; 2] {
        let add = |sums: [u64; 2], own: &CachePadded<[Counter; 2]>| {
            [sums[0] + own[0].get(), sums[1] + own[1].get()]
        };
        self.counts.iter().fold([0, 0], add)
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    /// What was counted in the window that ends now.
    fn window(&mut self, rules: &BreakerRules, now: Millis, sums: [u64; 2]) -> [u64; 2] {
        let part = (rules.window / PARTS).max(1);
        if self.lately.back().is_none_or(|(at, _)| now >= at + part) {
            self.lately.push_back((now, sums));
        }
        // The newest that is a whole window old is what the rest is counted from.
        while self.lately.get(1).is_some_and(|(at, _)| at + rules.window <= now) {
            self.lately.pop_front();
        }
        self.lately.front().map_or([0, 0], |(_, base)| less(sums, *base))
    }
}

fn less(sums: [u64; 2], base: [u64; 2]) -> [u64; 2] {
    [sums[0].saturating_sub(base[0]), sums[1].saturating_sub(base[1])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::guard::crowd::tests::address;

    const RULES: BreakerRules =
        BreakerRules { error_rate: 500_000, min_requests: 20, window: 10_000, open: 5_000 };

    fn counted(cell: &BreakerCell, good: u32, bad: u32) {
        (0..good).for_each(|_| cell.count(WorkerId(0), address(1), Went::Well));
        (0..bad).for_each(|_| cell.count(WorkerId(1), address(1), Went::Failed));
    }

    #[test]
    fn it_opens_by_the_share_of_enough_attempts_in_the_window() {
        // good and bad attempts, whether it opens
        for (good, bad, opens) in
            [(0, 19, false), (0, 20, true), (11, 10, false), (10, 10, true), (1_000, 0, false)]
        {
            let cell = BreakerCell::new(2, 0);
            assert_eq!(cell.step(&RULES, 0), None);
            counted(&cell, good, bad);
            assert_eq!(cell.step(&RULES, 100).is_some(), opens, "{good} {bad}");
            assert_eq!((cell.admits(), cell.state()), if opens { (false, "open") } else { (true, "closed") });
        }
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let cell = BreakerCell::new(2, 0);
        for now in (0..=30_000).step_by(100) {
            if now % 1_000 == 0 {
                counted(&cell, 0, 1);
            }
            assert_eq!(cell.step(&RULES, now), None, "ten a window are not enough at {now}");
        }
        assert!(cell.machine().lately.len() <= 12);
    }

    #[test]
    fn half_open_lets_a_few_through_and_their_answers_decide() {
        let cell = BreakerCell::new(2, 0);
        cell.step(&RULES, 0);
        counted(&cell, 0, 20);
        assert_eq!(cell.step(&RULES, 100), Some(Turn::Opened(Opened::ErrorRate, 20, 20)));
        assert_eq!(cell.step(&RULES, 5_099), None);
        assert_eq!(cell.step(&RULES, 5_100), Some(Turn::HalfOpen));
        assert_eq!((0..10).filter(|_| cell.admits()).count(), TRIALS as usize);
        counted(&cell, 4, 1);
        assert_eq!(cell.step(&RULES, 5_200), Some(Turn::Opened(Opened::HalfOpen, 5, 1)));
        assert_eq!(cell.step(&RULES, 10_200), Some(Turn::HalfOpen));
        assert_eq!((0..10).filter(|_| cell.admits()).count(), TRIALS as usize);
        counted(&cell, 4, 0);
        assert_eq!(cell.step(&RULES, 10_300), None);
        assert_eq!(cell.step(&RULES, 15_200), None);
        assert!(cell.admits(), "whose clients left are made up for");
        counted(&cell, 1, 0);
        assert_eq!(cell.step(&RULES, 15_300), Some(Turn::Closed));
        assert_eq!(cell.step(&RULES, 15_400), None, "what opened it is forgotten");
        assert_eq!(Opened::ALL.map(|why| cell.openings(why)), [1, 1, 0]);
    }

    /// A second in which a hundred clients ask, each failed when `failed` says so, and one beside them
    /// that is failed whenever it asks.
    fn second(cell: &BreakerCell, failed: impl Fn(u32) -> bool, flood: u32) {
        for number in 100..200 {
            if cell.admits() {
                let went = if failed(number) { Went::Failed } else { Went::Well };
                cell.count(WorkerId(0), address(number), went);
            }
            (0..flood / 100).filter(|_| cell.admits()).for_each(|_| {
                cell.count(WorkerId(1), address(1), Went::Failed);
            });
        }
    }

    #[test]
    fn one_client_among_many_neither_opens_it_nor_keeps_it_open() {
        let strict = BreakerRules { error_rate: 10_000, ..RULES };
        let cell = BreakerCell::new(2, 5);
        cell.step(&strict, 0);
        for at in 1..60 {
            second(&cell, |_| false, 5_000);
            assert_eq!(cell.step(&strict, at * 1_000), None, "at {at}");
        }
        for at in 60..62 {
            second(&cell, |number| number % 10 == 0, 0);
            if cell.step(&strict, at * 1_000).is_some() {
                break;
            }
        }
        assert_eq!(cell.state(), "open", "ten of them are believed");
        assert_eq!(cell.step(&strict, 70_000), Some(Turn::HalfOpen));
        second(&cell, |_| false, 5_000);
        assert_eq!(cell.step(&strict, 70_100), Some(Turn::Closed));
    }

    #[test]
    fn half_open_it_opens_again_when_several_clients_or_any_connection_fail() {
        for went in [Went::Failed, Went::Unreached] {
            let cell = BreakerCell::new(2, 5);
            cell.step(&RULES, 0);
            second(&cell, |_| true, 0);
            assert!(matches!(cell.step(&RULES, 100), Some(Turn::Opened(..))), "{went:?}");
            cell.step(&RULES, 5_100);
            let mut asked = 0;
            while cell.step(&RULES, 5_200).is_none() {
                assert!(asked < 20 && cell.admits(), "{went:?} {asked}");
                cell.count(WorkerId(0), address(100 + asked), went);
                asked += 1;
            }
            assert_eq!((cell.state(), asked > 1), ("open", went == Went::Failed));
        }
    }

    #[test]
    fn an_operators_word_holds_until_the_next() {
        let cell = BreakerCell::new(2, 0);
        assert!(cell.hold() && !cell.hold() && cell.is_held());
        for now in [0, 1_000_000] {
            assert_eq!(cell.step(&RULES, now), None);
            assert!(!cell.admits());
        }
        assert!(cell.close() && !cell.close() && cell.admits() && !cell.is_held());
        assert_eq!(Opened::ALL.map(|why| cell.openings(why)), [0, 0, 1]);
    }
}
