//! What a rate limit remembers: for every key the moment up to which its requests are used up.
//!
//! One table per route, shared by all workers, for a limit is of the process. A route without a limit
//! has none. The keys of a table are spread over shards, each locked for one look-up; a lock is shared
//! only by workers that serve keys of the same shard in the same instant. A limit without keys is one
//! atomic. It must never hold more than [`MAX_KEYS`], nor refuse anybody because it is full.

use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::Book;

/// Most keys that one route remembers: 2 MiB. One whose time has come is forgotten for another.
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
    /// Nothing is known of its key, and there is no room to begin: it is let through.
    Unknown,
}

/// What a route's limit remembers.
#[derive(Debug)]
pub struct Limiter {
    /// What times are counted from.
    origin: OnceLock<Instant>,
    whole: CachePadded<AtomicU64>,
    /// Requests that were over it; written by refusals alone.
    over: CachePadded<AtomicU64>,
    shards: Box<[CachePadded<Mutex<Shard>>]>,
}

#[derive(Debug, Default)]
struct Shard {
    used_up: HashMap<u64, u64, FixedState>,
    /// Before this nothing in it can be forgotten.
    full_until: u64,
}

impl Default for Limiter {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| CachePadded::default()).collect();
        let (whole, over) = (CachePadded::default(), CachePadded::default());
        Self { origin: OnceLock::new(), whole, over, shards }
    }
}

impl Limiter {
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
        let hash = FixedState::with_seed(1).hash_one(key) % SHARDS as u64;
        let shard = usize::try_from(hash).ok().and_then(|at| self.shards.get(at));
        let Some(shard) = shard else { return Admission::Unknown };
        shard.lock().unwrap_or_else(PoisonError::into_inner).admit(rate, key, now)
    }
}

impl Shard {
    fn admit(&mut self, rate: Rate, key: u64, now: u64) -> Admission {
        if let Some(used_up) = self.used_up.get_mut(&key) {
            return match rate.take(*used_up, now) {
                Ok(next) => {
                    *used_up = next;
                    Admission::Within
                }
                Err(used_up) => rate.over(used_up, now),
            };
        }
        if self.used_up.len() >= SHARD_KEYS && !self.forget(now) {
            return Admission::Unknown;
        }
        self.used_up.insert(key, now.saturating_add(rate.interval));
        Admission::Within
    }

    /// Forgets the keys that are where a new one begins; false when there is none.
    fn forget(&mut self, now: u64) -> bool {
        if now < self.full_until {
            return false;
        }
        self.used_up.retain(|_, used_up| *used_up > now);
        self.full_until = self.used_up.values().copied().min().unwrap_or(0);
        self.used_up.len() < SHARD_KEYS
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
        let mut inner = self.inner();
        let book = inner.routes.entry_ref(&**route).or_default();
        Arc::clone(book.limiter.get_or_insert_with(Arc::default))
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
            let (limiter, start) = (Limiter::default(), Instant::now());
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
        let (limiter, start) = (Limiter::default(), Instant::now());
        let admit = |key, millis| limiter.admit(RATE, Some(key), start + Duration::from_millis(millis));
        let keys = MAX_KEYS as u64 * 2;
        let unknown = (0..keys).filter(|key| admit(*key, 0) == Admission::Unknown).count();
        assert_eq!(unknown, MAX_KEYS, "half of them find no room");
        let held: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().used_up.len()).sum();
        assert_eq!(held, MAX_KEYS);
        assert_eq!(admit(keys, 99), Admission::Unknown);
        assert_eq!(admit(keys, 101), Admission::Within, "the others are idle by now");
    }

    #[test]
    fn many_threads_together_get_one_rate() {
        for key in [None, Some(7)] {
            let (limiter, now) = (Limiter::default(), Instant::now());
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
