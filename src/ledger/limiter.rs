//! What a rate limit remembers: for every key the moment up to which its requests are used up.
//!
//! One table per route, shared by all workers, for a limit is of the process. A route without a limit
//! has none. The keys of a table are spread over shards, each locked for one look-up; a lock is shared
//! only by workers that serve keys of the same shard in the same instant. A limit without keys is one
//! atomic. Invented keys push out one another before a key that is asked for again. It must never hold
//! more than [`MAX_KEYS`], nor refuse anybody because it is full.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hash};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Book;

/// Most keys that one route remembers: 4 MiB. One whose time has come is forgotten for another.
pub const MAX_KEYS: usize = SHARDS * SHARD_KEYS;
const SHARDS: usize = 64;
const SHARD_KEYS: usize = 1024;

/// How often: the generic cell rate algorithm (ITU-T I.371), in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Between two requests in the long run.
    pub interval: u64,
    /// How far ahead of that a key may be: the interval times the burst, less one.
    pub tolerance: u64,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It is within the rate.
    Within,
    /// It is over it; the next one is within after this long.
    Over(Duration),
    /// Nothing was known of its key, and another's was forgotten for it: it is let through.
    Unknown,
}

/// What a route's limit remembers.
#[derive(Debug)]
pub struct Limiter {
    /// What times are counted from.
    origin: OnceLock<Instant>,
    hasher: FixedState,
    whole: CachePadded<AtomicU64>,
    /// Requests that were over it; written by refusals alone.
    over: CachePadded<AtomicU64>,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
}

#[derive(Debug, Default)]
struct Shard {
    keys: HashMap<u64, Used, FixedState>,
    /// Of these those that came and were not passed over since, the oldest first.
    queue: VecDeque<u64>,
    /// Before this nothing in it is idle.
    full_until: u64,
}

/// What is known of one key.
#[derive(Clone, Copy, Debug)]
struct Used {
    /// The moment up to which its requests are used up.
    up_to: u64,
    /// It was asked for again: an invented key is not, as a rule.
    again: bool,
}

impl Limiter {
    /// Nothing is known. `seed` keeps clients from choosing whose place or key they share.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let shard = |_| {
            let keys = HashMap::with_hasher(FixedState::with_seed(!seed));
            CachePadded::new(Mutex::new(Shard { keys, queue: VecDeque::new(), full_until: 0 }))
        };
        let hasher = FixedState::with_seed(seed);
        let shards = (0..SHARDS).map(shard).collect();
        let (whole, over) = (CachePadded::default(), CachePadded::default());
        Self { origin: OnceLock::new(), hasher, whole, over, shards }
    }

    /// A hash of whose a request is.
    #[must_use]
    pub fn key(&self, whose: impl Hash) -> u64 {
        self.hasher.hash_one(whose)
    }

    /// Counts one request at `now`; `key` is a hash of whose it is, `None` of the route as a whole.
    #[must_use]
    pub fn admit(&self, rate: Rate, key: Option<u64>, now: Instant) -> Admission {
        let admission = self.take(rate, key, now);
        if matches!(admission, Admission::Over(_)) {
            self.over.fetch_add(1, Relaxed);
        }
        admission
    }

    fn take(&self, rate: Rate, key: Option<u64>, now: Instant) -> Admission {
        let origin = self.origin.get_or_init(|| now);
        let now = u64::try_from(now.saturating_duration_since(*origin).as_nanos()).unwrap_or(u64::MAX);
        let Some(key) = key else {
            let taken = self.whole.fetch_update(Relaxed, Relaxed, |used_up| rate.take(used_up, now).ok());
            return taken.map_or_else(|used_up| rate.over(used_up, now), |_| Admission::Within);
        };
        // The map takes other bits of the key than the choice of a shard does.
        let hash = self.hasher.hash_one(key) % SHARDS as u64;
        let shard = usize::try_from(hash).ok().and_then(|at| self.shards.get(at));
        let Some(shard) = shard else { return Admission::Unknown };
        shard.lock().unwrap_or_else(PoisonError::into_inner).admit(rate, key, now)
    }
}

impl Shard {
    fn admit(&mut self, rate: Rate, key: u64, now: u64) -> Admission {
        if let Some(used) = self.keys.get_mut(&key) {
            used.again = true;
            return match rate.take(used.up_to, now) {
                Ok(next) => {
                    used.up_to = next;
                    Admission::Within
                }
                Err(up_to) => rate.over(up_to, now),
            };
        }
        let full = self.keys.len() >= SHARD_KEYS && !self.forget(now);
        if full {
            self.push_out();
        }
        self.keys.insert(key, Used { up_to: now.saturating_add(rate.interval), again: false });
        self.queue.push_back(key);
        if full { Admission::Unknown } else { Admission::Within }
    }

    /// Forgets the keys that are where a new one begins; false when there is none.
    fn forget(&mut self, now: u64) -> bool {
        if now < self.full_until {
            return false;
        }
        self.keys.retain(|_, used| used.up_to > now);
        self.queue.retain(|key| self.keys.contains_key(key));
        self.full_until = self.keys.values().map(|used| used.up_to).min().unwrap_or(0);
        self.keys.len() < SHARD_KEYS
    }

    /// Forgets the key that loses least: one that was asked for once, and is idle soonest. Where there is
    /// none, every key was asked for again, and the one goes that is idle soonest.
    fn push_out(&mut self) {
        while let Some(key) = self.queue.pop_front() {
            if self.keys.get(&key).is_some_and(|used| !used.again) {
                self.keys.remove(&key);
                return;
            }
        }
        let least = self.keys.iter().min_by_key(|(_, used)| used.up_to);
        if let Some(key) = least.map(|(key, _)| *key) {
            self.keys.remove(&key);
        }
    }
}

impl Rate {
    /// The moment up to which a key is used up after one more request.
    fn take(self, used_up: u64, now: u64) -> Result<u64, u64> {
        let from = used_up.max(now);
        if from - now > self.tolerance { Err(used_up) } else { Ok(from.saturating_add(self.interval)) }
    }

    fn over(self, used_up: u64, now: u64) -> Admission {
        Admission::Over(Duration::from_nanos(used_up.saturating_sub(now).saturating_sub(self.tolerance)))
    }
}

impl Book {
    /// What a route's limit remembers, over reloads.
    #[must_use]
    pub fn limiter(&self, route: &Arc<str>) -> Arc<Limiter> {
        let seed = self.seed();
        let mut inner = self.inner();
        let book = inner.routes.entry_ref(&**route).or_default();
        Arc::clone(book.limiter.get_or_insert_with(|| Arc::new(Limiter::new(seed))))
    }

    /// Requests over the limit of every route that has one, sorted by route.
    #[must_use]
    pub fn over_limits(&self) -> Vec<(Arc<str>, u64)> {
        let inner = self.inner();
        let limited = inner.routes.iter().filter_map(|(route, book)| Some((route, book.limiter.as_ref()?)));
        let mut over: Vec<_> =
            limited.map(|(route, limiter)| (Arc::clone(route), limiter.over.load(Relaxed))).collect();
        drop(inner);
        over.sort();
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { interval: 100_000_000, tolerance: 400_000_000 };

    #[test]
    fn a_key_gets_its_burst_and_then_its_rate() {
        for key in [None, Some(7)] {
            let (limiter, start) = (Limiter::new(9), Instant::now());
            let at = |millis| limiter.admit(RATE, key, start + Duration::from_millis(millis));
            for _ in 0..5 {
                assert_eq!(at(0), Admission::Within);
            }
            assert_eq!(at(0), Admission::Over(Duration::from_millis(100)));
            assert_eq!(at(40), Admission::Over(Duration::from_millis(60)), "a refusal costs nothing");
            assert_eq!((at(100), at(100)), (Admission::Within, Admission::Over(Duration::from_millis(100))));
            // Ten seconds of twice the rate: half of it passes.
            let passed = (1..=200).filter(|round| at(100 + round * 50) == Admission::Within).count();
            assert_eq!(passed, 100);
            assert_eq!(limiter.admit(RATE, Some(8), start), Admission::Within, "others are served");
        }
    }

    #[test]
    fn a_full_table_lets_through_and_forgets_what_is_idle() {
        let (limiter, start) = (Limiter::new(9), Instant::now());
        let admit = |key, millis| limiter.admit(RATE, Some(key), start + Duration::from_millis(millis));
        let keys = MAX_KEYS as u64 * 2;
        let unknown = (0..keys).filter(|key| admit(*key, 0) == Admission::Unknown).count();
        assert_eq!(unknown, MAX_KEYS, "half of them push out others");
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().keys.len()).sum();
        assert_eq!(held, MAX_KEYS);
        assert_eq!(admit(keys, 99), Admission::Unknown);
        assert_eq!(admit(keys + 1, 101), Admission::Within, "the others are idle by now");
        // All that are there were asked for again: even then somebody goes, and the bound holds.
        let limiter = Limiter::new(9);
        let admit = |key| limiter.admit(RATE, Some(key), start);
        (0..MAX_KEYS as u64 / 2)
            .for_each(|key| assert_eq!((admit(key), admit(key)), (Admission::Within, Admission::Within)));
        (0..10_000).for_each(|key| _ = (admit(keys + key), admit(keys + key)));
        let held = limiter.shards.iter().map(|shard| {
            let shard = shard.lock().unwrap();
            assert!(shard.queue.len() <= shard.keys.len());
            shard.keys.len()
        });
        assert!(held.sum::<usize>() <= MAX_KEYS);
    }

    #[test]
    fn a_million_invented_keys_free_nobody_and_block_nobody() {
        let minute = 60_000_000_000;
        // How many requests a key has at once, and how many were invented before it came.
        for (burst, before) in [(1, 0), (5, 200_000)] {
            let rate = Rate { interval: minute, tolerance: minute * (burst - 1) };
            let (limiter, start) = (Limiter::new(9), Instant::now());
            let known = limiter.key("known");
            let mut invented = (0_u64..).map(|number| limiter.key((number, "invented")));
            let mut flood = |count: u64, at| {
                let admitted = |key| limiter.admit(rate, Some(key), at);
                let over = |key: &u64| matches!(admitted(*key), Admission::Over(_));
                let refused = invented.by_ref().take(usize::try_from(count).unwrap()).filter(over);
                assert_eq!(refused.count(), 0, "an unknown key is over no limit");
            };
            flood(before, start);
            let ask = |at| limiter.admit(rate, Some(known), at);
            let passed = (0..10).filter(|_| !matches!(ask(start), Admission::Over(_))).count();
            assert_eq!(passed as u64, burst, "after {before}");
            for second in 0..10 {
                let at = start + Duration::from_secs(second);
                flood(100_000, at);
                assert!(matches!(ask(at), Admission::Over(_)), "burst {burst}, {before} before, at {second}");
            }
        }
    }

    #[test]
    fn places_are_another_processs_own() {
        let keys = |seed| (0..100).map(|key: u64| Limiter::new(seed).key(key)).collect::<Vec<_>>();
        assert_eq!(keys(1), keys(1));
        assert!(keys(1).iter().zip(keys(2)).all(|(one, other)| *one != other));
    }

    #[test]
    fn many_threads_together_get_one_rate() {
        for key in [None, Some(7)] {
            let (limiter, now) = (Limiter::new(9), Instant::now());
            let rate = Rate { interval: 1_000_000_000, tolerance: 99_000_000_000 };
            let count = || (0..1_000).filter(|_| limiter.admit(rate, key, now) == Admission::Within).count();
            let passed: usize = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(passed, 100);
        }
    }
}
