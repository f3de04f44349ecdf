//! The thread that compares: pairs come from workers, what differs goes to whoever asks.
//!
//! A worker never waits for it: what finds no room is dropped and counted. It must never keep an
//! answer longer than it takes to compare it, nor decide what a difference is: the analysis does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use crate::analysis::differences::{Paired, Report, Tally};
use crate::model::{CompareRules, Pair, PairSink};
use crate::plan::{Plan, Plans};

/// Pairs that wait at most.
pub const QUEUE: usize = 1_024;
/// Bytes of bodies that wait at most.
pub const QUEUE_BYTES: usize = 8 << 20;
/// Mirrors that are compared at once, over all routes.
pub const MAX_MIRRORS: usize = 1_024;
/// Moments of a shadow phase kept until the next second reads them; later pairs belong to the last.
const MAX_MOMENTS: usize = 600;
/// Milliseconds of a moment: what fails within it may have one cause.
const MOMENT: u64 = 100;
/// Time between two reports.
const PUBLISH: Duration = Duration::from_millis(250);
/// Time between two looks at whether a mirror is gone.
const IDLE: Duration = Duration::from_secs(1);

/// What is to be known of a mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The upstream that copies go to.
    pub to: Arc<str>,
    /// What is compared.
    pub rules: Option<CompareRules>,
    /// A rollout's shadow phase goes by its pairs.
    pub live: bool,
}

/// Finds a mirror by its route and index; `None` when there is none.
pub type Lookup = Box<dyn Fn(&str, u8) -> Option<Wanted> + Send>;

/// What is known of one mirror.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is compared, and with whom.
    pub wanted: Wanted,
    /// When counting began, in wall-clock milliseconds of the first pair.
    pub since_millis: u64,
    /// What was found.
    pub report: Report,
}

/// What is known of all mirrors, by route and index.
pub type Rows = BTreeMap<String, BTreeMap<u8, Row>>;

/// What was found, for whoever asks; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Differences(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    rows: ArcSwap<Rows>,
    dropped: AtomicU64,
    waiting_bytes: AtomicUsize,
    phases: Mutex<Phases>,
}

/// What shadow phases and the thread say to each other.
#[derive(Debug, Default)]
struct Phases {
    /// Routes whose mirrors are to be forgotten.
    begun: BTreeSet<String>,
    /// Pairs of live mirrors by route: the number of each moment, and what it held.
    moments: BTreeMap<String, Vec<(u64, Paired)>>,
}

impl Differences {
    /// What is known by now.
    #[must_use]
    pub fn rows(&self) -> Arc<Rows> {
        self.0.rows.load_full()
    }

    /// Pairs dropped because there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// A shadow phase begins: what was found of another version is forgotten.
    pub fn begin(&self, route: &str) {
        let mut phases = self.0.phases();
        phases.begun.insert(route.to_owned());
        phases.moments.remove(route);
        drop(phases);
        let mut rows = Rows::clone(&self.rows());
        if rows.remove(route).is_some() {
            self.0.rows.store(Arc::new(rows));
        }
    }

    /// Pairs of a shadow phase since the last call, by the moments they ended in.
    #[must_use]
    pub fn take(&self, route: &str) -> Vec<Paired> {
        let moments = self.0.phases().moments.remove(route).unwrap_or_default();
        moments.into_iter().map(|(_, paired)| paired).collect()
    }

    /// Kinds and places of which it is confirmed that a shadow phase's candidate differs there.
    #[must_use]
    pub fn confirmed(&self, route: &str) -> Vec<String> {
        /// Places named in a reason at most.
        const NAMED: usize = 3;
        let rows = self.rows();
        let live = rows.get(route).into_iter().flat_map(BTreeMap::values).filter(|row| row.wanted.live);
        let found: Vec<_> = live.flat_map(|row| row.report.confirmed()).collect();
        let words = found.iter().map(|one| format!("{} {}", one.kind.label(), one.path));
        let mut named: Vec<String> = words.take(NAMED).map(|words| words.trim_end().to_owned()).collect();
        if found.len() > NAMED {
            named.push(format!("{} more", found.len() - NAMED));
        }
        named
    }
}

impl Shared {
    fn phases(&self) -> MutexGuard<'_, Phases> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The workers' end.
struct Sink {
    sender: SyncSender<Pair>,
    shared: Arc<Shared>,
}

impl PairSink for Sink {
    fn pair(&self, pair: Pair) -> bool {
        let bytes = held(&pair);
        let waiting = self.shared.waiting_bytes.fetch_add(bytes, Relaxed) + bytes;
        if waiting <= QUEUE_BYTES && self.sender.try_send(pair).is_ok() {
            return true;
        }
        self.shared.waiting_bytes.fetch_sub(bytes, Relaxed);
        self.shared.dropped.fetch_add(1, Relaxed);
        false
    }
}

fn held(pair: &Pair) -> usize {
    pair.primary.body.len() + pair.shadow.body.len()
}

/// Finds mirrors in the plan in force.
#[must_use]
pub fn in_force(plans: Plans) -> Lookup {
    Box::new(move |route, mirror| wanted(&plans.load_full(), route, mirror))
}

fn wanted(plan: &Plan, route: &str, mirror: u8) -> Option<Wanted> {
    let one = plan.route_named(route)?.mirrors.get(usize::from(mirror))?;
    Some(Wanted { to: Arc::clone(&one.upstream.name), rules: one.compare.clone(), live: one.live })
}

/// Starts the thread. It ends when the last sink is gone.
pub fn start(lookup: Lookup) -> (Differences, Arc<dyn PairSink>) {
    let differences = Differences::default();
    let (sender, pairs) = sync_channel(QUEUE);
    let shared = Arc::clone(&differences.0);
    let work = move || Comparing { lookup, shared, mirrors: BTreeMap::new() }.run(&pairs);
    if let Err(error) = std::thread::Builder::new().name("differences".to_owned()).spawn(work) {
        // Its end of the queue is gone: every pair is dropped and counted.
        tracing::error!("mirrored answers are not compared: {error}");
    }
    let sink = Arc::new(Sink { sender, shared: Arc::clone(&differences.0) });
    (differences, sink)
}

/// The thread's own.
struct Comparing {
    lookup: Lookup,
    shared: Arc<Shared>,
    mirrors: BTreeMap<(Arc<str>, u8), Mirrored>,
}

struct Mirrored {
    wanted: Wanted,
    since_millis: u64,
    tally: Tally,
}

impl Comparing {
    fn run(mut self, pairs: &Receiver<Pair>) {
        let (mut news, mut told) = (false, Instant::now());
        loop {
            match pairs.recv_timeout(if news { PUBLISH } else { IDLE }) {
                Ok(pair) => {
                    self.shared.waiting_bytes.fetch_sub(held(&pair), Relaxed);
                    self.take(&pair);
                    news = true;
                }
                Err(RecvTimeoutError::Timeout) => news |= self.forget(),
                Err(RecvTimeoutError::Disconnected) => return self.tell(),
            }
            if news && told.elapsed() >= PUBLISH {
                self.forget();
                self.tell();
                (news, told) = (false, Instant::now());
            }
        }
    }

    fn take(&mut self, pair: &Pair) {
        self.begun();
        let Some(wanted) = (self.lookup)(&pair.route, pair.mirror) else { return };
        let key = (Arc::clone(&pair.route), pair.mirror);
        let other = |known: &Mirrored| known.wanted.to != wanted.to || known.wanted.rules != wanted.rules;
        // What was found by other rules, or of another upstream, says nothing about this one.
        if self.mirrors.get(&key).is_some_and(other) {
            self.mirrors.remove(&key);
        }
        if self.mirrors.len() >= MAX_MIRRORS && !self.mirrors.contains_key(&key) {
            return;
        }
        if wanted.live && !pair.noise {
            self.moment(pair);
        }
        let fresh =
            || Mirrored { wanted: wanted.clone(), since_millis: pair.unix_millis, tally: Tally::default() };
        let mirror = self.mirrors.entry(key).or_insert_with(fresh);
        mirror.wanted.live = wanted.live;
        mirror.tally.add(pair, wanted.rules.as_ref());
    }

    /// Counts a pair of a shadow phase in the moment in which it ended.
    fn moment(&self, pair: &Pair) {
        let number = pair.unix_millis / MOMENT;
        let mut phases = self.shared.phases();
        let moments = phases.moments.entry(pair.route.to_string()).or_default();
        // Workers end their pairs of one moment in any order.
        let known = moments.iter().rposition(|(at, _)| *at == number);
        let full = moments.len() >= MAX_MOMENTS;
        if known.is_none() && !full {
            moments.push((number, Paired::default()));
        }
        let at = known.unwrap_or(moments.len().saturating_sub(1));
        if let Some((_, paired)) = moments.get_mut(at) {
            paired.add(pair.primary.failed, pair.shadow.failed);
        }
    }

    /// Forgets routes whose shadow phase has begun.
    fn begun(&mut self) {
        let begun = std::mem::take(&mut self.shared.phases().begun);
        if !begun.is_empty() {
            self.mirrors.retain(|(route, _), _| !begun.contains(&**route));
        }
    }

    /// Forgets mirrors that are gone; whether there were any.
    fn forget(&mut self) -> bool {
        self.begun();
        let (before, lookup) = (self.mirrors.len(), &self.lookup);
        self.mirrors.retain(|(route, mirror), known| {
            lookup(route, *mirror).is_some_and(|wanted| wanted.to == known.wanted.to)
        });
        self.mirrors.len() != before
    }

    fn tell(&mut self) {
        let mut rows = Rows::new();
        for ((route, mirror), known) in &self.mirrors {
            let Mirrored { wanted, since_millis, tally } = known;
            let row = Row { wanted: wanted.clone(), since_millis: *since_millis, report: tally.report() };
            rows.entry(route.to_string()).or_default().insert(*mirror, row);
        }
        self.shared.rows.store(Arc::new(rows));
    }
}

#[cfg(test)]
mod tests;
