//! The book: every live cell by name, carried from plan to plan so that nothing resets on reload.
//!
//! The control plane asks it while compiling and scraping; the data plane holds the `Arc`s it gives
//! out and never the book's lock. A cell whose name left the configuration is kept for
//! [`RETIRE_AFTER_MILLIS`], so that a last scrape sees it, and then dropped with its series.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::addresses::Addresses;
use super::cell::Cell;
use super::counter::Counter;
use super::guard::Guards;
use super::holders::Holders;
use super::limiter::Limiter;
use super::process::ProcessCells;
use super::recent::SAMPLES;
use super::shadow::{MirrorBytes, ShadowCell};
use super::trial::Trial;
use super::watch::Watch;
use crate::model::time::{TICK_MILLIS, Tick};
use crate::model::{EndpointId, WorkerId};

/// How long the series of a removed arm stay visible.
pub const RETIRE_AFTER_MILLIS: u64 = 300_000;

/// Requests chosen by one override for one arm.
#[derive(Debug)]
pub struct RuleCell {
    /// Override name.
    pub rule: Arc<str>,
    /// Arm name.
    pub arm: Arc<str>,
    /// Requests of the route that had ended before it was known.
    pub before: u64,
    /// Since when it is known, in Unix seconds; 0 until that was said.
    since: AtomicU64,
    /// Hits at the last samples, and how many were taken.
    lately: [AtomicU64; SAMPLES],
    samples: AtomicUsize,
    shards: Box<[CachePadded<Counter>]>,
}

impl RuleCell {
    /// Counts one request.
    pub fn hit(&self, worker: WorkerId) {
        if let Some(counter) = self.shards.get(worker.0) {
            counter.add(1);
        }
    }

    /// Says since when it is known, in Unix seconds; the first word counts.
    pub fn known_since(&self, now: u64) {
        // Another word was first: it stays.
        let _ = self.since.compare_exchange(0, now, Relaxed, Relaxed);
    }

    /// Since when it is known, in Unix seconds.
    #[must_use]
    pub fn since(&self) -> u64 {
        self.since.load(Relaxed)
    }

    /// Notes how many there are; once every [`super::recent::SAMPLE_MILLIS`] from the first hit on.
    pub fn sample(&self) {
        let taken = self.samples.fetch_add(1, Relaxed);
        if let Some(slot) = self.lately.get(taken % SAMPLES) {
            slot.store(self.hits(), Relaxed);
        }
    }

    /// Requests counted in the last minute.
    #[must_use]
    pub fn lately(&self) -> u64 {
        let oldest = self.lately.get(self.samples.load(Relaxed) % SAMPLES);
        self.hits().saturating_sub(oldest.map_or(0, |hits| hits.load(Relaxed)))
    }

    /// Requests counted over all workers.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.shards.iter().map(|counter| counter.get()).sum()
    }
}

/// Live state of one endpoint address.
#[derive(Debug)]
pub struct EndpointCell {
    /// Identity for the life of the process.
    pub id: EndpointId,
    /// `scheme://host:port`.
    pub url: Arc<str>,
    /// Addresses the host resolves to; one for a literal address, empty until resolved.
    pub addresses: Addresses,
    /// What serves clients.
    pub lane: Lane,
    /// What carries copies: counted apart, so that copies take no place from clients.
    pub shadow_lane: Lane,
}

/// Counts over all workers towards one endpoint.
#[derive(Debug, Default)]
pub struct Lane {
    /// HTTP/1.1 connections.
    pub open: AtomicU32,
    /// Requests that have no connection.
    pub pending: AtomicU32,
    /// Connects that failed.
    pub failed: AtomicU32,
    /// Before which moment none is tried again, in milliseconds; 0 when the last one went well.
    pub not_before: AtomicU64,
}

/// Time over which retries are held against requests, in ticks: ten seconds.
const BUDGET_TICKS: u64 = 10_000 / TICK_MILLIS;
/// Retries of an upstream in that time that no share forbids, over all workers: ten a second.
const BUDGET_FLOOR: u64 = 100;

/// Live state of one upstream: requests in flight and retries per worker.
#[derive(Debug)]
pub struct UpstreamCell {
    /// Admitted and ended; of these the ones whose answer began, and ended.
    begun: Box<[CachePadded<[Counter; 4]>]>,
    /// Request bodies begun and ended, of admitted requests.
    uploads: Box<[CachePadded<[Counter; 2]>]>,
    budgets: Box<[CachePadded<Budget>]>,
    /// Who they are of, where arms are compared.
    pub holders: Holders,
}

/// What one worker retried in the current window.
#[derive(Debug, Default)]
struct Budget {
    /// Tick of the window's start, requests begun by then, retries since.
    window: [AtomicU64; 3],
}

impl UpstreamCell {
    fn new(workers: usize) -> Self {
        Self {
            begun: (0..workers).map(|_| CachePadded::default()).collect(),
            uploads: (0..workers).map(|_| CachePadded::default()).collect(),
            budgets: (0..workers).map(|_| CachePadded::default()).collect(),
            holders: Holders::new(workers),
        }
    }

    /// Admits a request unless `limit` (0: none) is reached; pair with [`Self::leave`]. A worker
    /// with few requests of its own does not look at the others', so that at ordinary load their
    /// counts stay in their caches: the limit may be passed by a sixteenth of itself and one
    /// request per worker.
    #[must_use]
    pub fn enter(&self, worker: WorkerId, limit: u32) -> bool {
        let Some(own) = self.begun.get(worker.0) else { return true };
        let few = u64::from(limit) / (16 * self.begun.len() as u64);
        if limit > 0 && in_flight(&own[..2]) >= few && self.in_flight() >= u64::from(limit) {
            return false;
        }
        own[0].add(1);
        true
    }

    /// How many requests this worker admitted, for taking turns.
    #[must_use]
    pub fn turn(&self, worker: WorkerId) -> u64 {
        self.begun.get(worker.0).map_or(0, |own| own[0].get())
    }

    /// Spends one retry if the budget allows: `share` (parts per million) of the requests this
    /// worker admitted in the last ten seconds, and ten a second over all workers. Called only when
    /// a retry is wanted, so that requests that need none pay nothing.
    #[must_use]
    pub fn spend_retry(&self, worker: WorkerId, now: Tick, share: u32) -> bool {
        let Some(budget) = self.budgets.get(worker.0) else { return false };
        let [start, base, spent] = &budget.window;
        let begun = self.turn(worker);
        if u64::from(now.0) >= start.load(Relaxed) + BUDGET_TICKS {
            start.store(u64::from(now.0), Relaxed);
            base.store(begun, Relaxed);
            spent.store(0, Relaxed);
        }
        let requests = begun.saturating_sub(base.load(Relaxed));
        let floor = BUDGET_FLOOR.div_ceil(self.budgets.len() as u64);
        let used = spent.load(Relaxed);
        let allowed = used < floor + requests * u64::from(share) / 1_000_000;
        if allowed {
            spent.store(used + 1, Relaxed);
        }
        allowed
    }

    /// An admitted request ended.
    pub fn leave(&self, worker: WorkerId) {
        if let Some(own) = self.begun.get(worker.0) {
            own[1].add(1);
        }
    }

    /// The answer of an admitted request begins to pass to its client, or no longer does.
    pub fn answering(&self, worker: WorkerId, ends: bool) {
        if let Some(own) = self.begun.get(worker.0) {
            own[2 + usize::from(ends)].add(1);
        }
    }

    /// A request body begins, or ends.
    pub fn uploading(&self, worker: WorkerId, ends: bool) {
        if let Some(own) = self.uploads.get(worker.0) {
            own[usize::from(ends)].add(1);
        }
    }

    /// Whether at least half of the requests in flight wait for the rest of their own bodies, or for
    /// their clients to take what is answered: then it is these that leave no room for others.
    #[must_use]
    pub fn is_held_by_clients(&self) -> bool {
        let uploads: u64 = self.uploads.iter().map(|pair| in_flight(&pair[..])).sum();
        let answers: u64 = self.begun.iter().map(|own| in_flight(&own[2..])).sum();
        2 * (uploads + answers) >= self.in_flight().max(1)
    }

    /// Requests in flight over all workers.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.begun.iter().map(|own| in_flight(&own[..2])).sum()
    }
}

/// How many of what began have not ended.
fn in_flight(pair: &[Counter]) -> u64 {
    let count = |at: usize| pair.get(at).map_or(0, Counter::get);
    count(0).saturating_sub(count(1))
}

/// Route, arm, upstream.
type CellName = (Arc<str>, Arc<str>, Arc<str>);

#[derive(Debug, Default)]
pub(super) struct RouteBook {
    cells: Vec<Arc<Cell>>,
    rules: Vec<Arc<RuleCell>>,
    trials: Vec<Arc<Trial>>,
    pub(super) shadows: Vec<Arc<ShadowCell>>,
    pub(super) limiter: Option<Arc<Limiter>>,
    pub(super) watch: Option<Arc<Watch>>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) routes: HashMap<Arc<str>, RouteBook, FixedState>,
    upstreams: HashMap<Arc<str>, Arc<UpstreamCell>, FixedState>,
    endpoints: HashMap<Arc<str>, Arc<EndpointCell>, FixedState>,
    next_endpoint: u32,
    /// What probes and outcomes say.
    pub(super) guards: Guards,
    /// Since when a cell's name is in no plan, in Unix milliseconds.
    retired: HashMap<CellName, u64, FixedState>,
}

/// Every live cell by name.
#[derive(Debug)]
pub struct Book {
    workers: usize,
    seed: u64,
    inner: Mutex<Inner>,
    /// Process-wide counts.
    pub process: ProcessCells,
    /// Memory held for copies.
    pub mirror_bytes: Arc<MirrorBytes>,
    /// Memory held for request bodies that may be sent again.
    pub replay_bytes: Arc<MirrorBytes>,
}

impl Book {
    /// An empty book for a fixed number of workers and listeners.
    #[must_use]
    pub fn new(workers: usize, listeners: usize) -> Self {
        let process = ProcessCells::new(workers, listeners);
        Self {
            workers,
            seed: 0,
            inner: Mutex::default(),
            process,
            mirror_bytes: Arc::default(),
            replay_bytes: Arc::default(),
        }
    }

    /// The same with hashes of its own: from outside nobody can tell which clients share a place.
    #[must_use]
    pub fn seeded(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// How many workers it has shards for.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.workers
    }

    pub(super) fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cell of an arm answered by an upstream.
    #[must_use]
    pub fn cell(&self, route: &Arc<str>, arm: &Arc<str>, upstream: &Arc<str>) -> Arc<Cell> {
        let mut inner = self.inner();
        let book = inner.routes.entry_ref(&**route).or_default();
        if let Some(found) = book.cells.iter().find(|cell| cell.arm == *arm && cell.upstream == *upstream) {
            return Arc::clone(found);
        }
        let cell = Arc::new(Cell::new(Arc::clone(arm), Arc::clone(upstream), self.workers));
        book.cells.push(Arc::clone(&cell));
        cell
    }

    /// The counts of a weight epoch of a route, made by `fresh` when it is new.
    #[must_use]
    pub fn trial(&self, route: &Arc<str>, epoch: u64, fresh: impl FnOnce() -> Trial) -> Arc<Trial> {
        let mut inner = self.inner();
        let book = inner.routes.entry_ref(&**route).or_default();
        if let Some(found) = book.trials.iter().find(|trial| trial.epoch == epoch) {
            return Arc::clone(found);
        }
        let trial = Arc::new(fresh());
        book.trials.push(Arc::clone(&trial));
        trial
    }

    /// The epochs of a route that still count or whose last counts were not taken, oldest first.
    #[must_use]
    pub fn trials(&self, route: &str) -> Vec<Arc<Trial>> {
        self.inner().routes.get(route).map(|book| book.trials.clone()).unwrap_or_default()
    }

    /// Lets go of epochs that no plan and no exchange counts in any more; call it after their counts
    /// were taken.
    pub fn retire_trials(&self, route: &str, epochs: &[u64]) {
        if let Some(book) = self.inner().routes.get_mut(route) {
            book.trials.retain(|trial| !epochs.contains(&trial.epoch));
        }
    }

    /// The cell of an override's choices of an arm.
    #[must_use]
    pub fn rule(&self, route: &Arc<str>, rule: &Arc<str>, arm: &Arc<str>) -> Arc<RuleCell> {
        let mut inner = self.inner();
        let book = inner.routes.entry_ref(&**route).or_default();
        if let Some(found) = book.rules.iter().find(|cell| cell.rule == *rule && cell.arm == *arm) {
            return Arc::clone(found);
        }
        let shards = (0..self.workers).map(|_| CachePadded::default()).collect();
        let before = book.cells.iter().map(|cell| cell.requests_and_errors().0).sum();
        let since = AtomicU64::new(0);
        let (rule, arm) = (Arc::clone(rule), Arc::clone(arm));
        let (lately, samples) = Default::default();
        let cell = Arc::new(RuleCell { rule, arm, before, since, lately, samples, shards });
        book.rules.push(Arc::clone(&cell));
        cell
    }

    /// The live state of an upstream.
    #[must_use]
    pub fn upstream(&self, name: &Arc<str>) -> Arc<UpstreamCell> {
        let mut inner = self.inner();
        let workers = self.workers;
        let fresh = || Arc::new(UpstreamCell::new(workers));
        Arc::clone(inner.upstreams.entry(Arc::clone(name)).or_insert_with(fresh))
    }

    /// The live state of an endpoint; a literal address is resolved at once.
    #[must_use]
    pub fn endpoint(&self, url: &Arc<str>, literal: Option<SocketAddr>) -> Arc<EndpointCell> {
        self.endpoint_as(url, url, literal)
    }

    /// The same for an endpoint whose connections are not for everybody: it shares live state with
    /// nobody of another `identity`, but takes over the addresses of another of the same url.
    #[must_use]
    pub fn endpoint_as(
        &self,
        identity: &Arc<str>,
        url: &Arc<str>,
        literal: Option<SocketAddr>,
    ) -> Arc<EndpointCell> {
        let mut inner = self.inner();
        if let Some(found) = inner.endpoints.get(identity) {
            return Arc::clone(found);
        }
        let addresses = match literal {
            Some(address) => Arc::new(vec![address]),
            None if identity == url => Arc::default(),
            None => {
                let known = inner.endpoints.values().find(|cell| cell.url == *url);
                known.map(|cell| cell.addresses.get()).unwrap_or_default()
            }
        };
        let id = EndpointId(inner.next_endpoint);
        inner.next_endpoint += 1;
        let cell = Arc::new(EndpointCell {
            id,
            url: Arc::clone(url),
            addresses: Addresses::new(addresses),
            lane: Lane::default(),
            shadow_lane: Lane::default(),
        });
        inner.endpoints.insert(Arc::clone(identity), Arc::clone(&cell));
        cell
    }

    /// Every live cell with its route, sorted by names.
    #[must_use]
    pub fn live_cells(&self) -> Vec<(Arc<str>, Arc<Cell>)> {
        let inner = self.inner();
        let mut cells: Vec<_> = inner
            .routes
            .iter()
            .flat_map(|(route, book)| {
                book.cells.iter().map(move |cell| (Arc::clone(route), Arc::clone(cell)))
            })
            .filter(|(_, cell)| cell.is_live())
            .collect();
        drop(inner);
        cells.sort_by(|(a, x), (b, y)| (a, &x.arm, &x.upstream).cmp(&(b, &y.arm, &y.upstream)));
        cells
    }

    /// Every override cell that was hit, with its route, sorted by names.
    #[must_use]
    pub fn live_rules(&self) -> Vec<(Arc<str>, Arc<RuleCell>)> {
        let inner = self.inner();
        let mut rules: Vec<_> = inner
            .routes
            .iter()
            .flat_map(|(route, book)| {
                book.rules.iter().map(move |cell| (Arc::clone(route), Arc::clone(cell)))
            })
            .filter(|(_, cell)| cell.hits() > 0)
            .collect();
        drop(inner);
        rules.sort_by(|(a, x), (b, y)| (a, &x.rule, &x.arm).cmp(&(b, &y.rule, &y.arm)));
        rules
    }

    /// The cells of one route.
    #[must_use]
    pub fn route_cells(&self, route: &str) -> Vec<Arc<Cell>> {
        self.inner().routes.get(route).map(|book| book.cells.clone()).unwrap_or_default()
    }

    /// Drops what no plan and no exchange holds any more: cells without a series at once, cells
    /// with one after [`RETIRE_AFTER_MILLIS`].
    pub fn retire(&self, now_millis: u64) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let retired = &mut inner.retired;
        inner.routes.retain(|route, book| {
            book.cells.retain(|cell| {
                let key = (Arc::clone(route), Arc::clone(&cell.arm), Arc::clone(&cell.upstream));
                if Arc::strong_count(cell) > 1 {
                    retired.remove(&key);
                    return true;
                }
                let since = *retired.entry(key.clone()).or_insert(now_millis);
                let keep = cell.is_live() && now_millis.saturating_sub(since) < RETIRE_AFTER_MILLIS;
                if !keep {
                    retired.remove(&key);
                }
                keep
            });
            book.rules.retain(|cell| Arc::strong_count(cell) > 1);
            book.shadows.retain(|cell| Arc::strong_count(cell) > 1);
            book.limiter.take_if(|limiter| Arc::strong_count(limiter) == 1);
            book.watch.take_if(|watch| Arc::strong_count(watch) == 1);
            !book.cells.is_empty()
                || !book.rules.is_empty()
                || !book.trials.is_empty()
                || !book.shadows.is_empty()
                || book.limiter.is_some()
                || book.watch.is_some()
        });
        inner.upstreams.retain(|_, cell| Arc::strong_count(cell) > 1);
        inner.endpoints.retain(|_, cell| Arc::strong_count(cell) > 1);
        inner.guards.retire();
    }
}
