//! How many connections one endpoint has, and how many requests wait for one: bounds of the process.
//!
//! Counts are shared by workers but touched only where a connection opens or closes or a request has
//! none, so that a request on an idle connection pays nothing. Over the bound the request that came
//! last is refused. It must never count a connection after its end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::deadline::{Deadline, Deadlines, within};
use crate::ledger::{Addresses, EndpointCell, Lane};

/// How long a request waits before it looks again whether another worker let go of a connection.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Time between two connects to an endpoint that refused the last one, over all workers.
const RECONNECT_MILLIS: u64 = 100;

/// Bounds of one endpoint over all workers; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections.
    pub connections: u32,
    /// Requests without a connection.
    pub pending: u32,
}

/// Whose requests a connection carries: each has counts and bounds of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Those of clients.
    Clients,
    /// Copies that nobody waits for.
    Copies,
}

/// One worker's way to the counts of an endpoint.
#[derive(Debug)]
pub struct Gate {
    shared: Arc<EndpointCell>,
    purpose: Purpose,
    /// Requests of this worker without a connection.
    waiting: Cell<u32>,
    freed: Notify,
}

impl Gate {
    /// Of an endpoint.
    #[must_use]
    pub fn new(shared: Arc<EndpointCell>, purpose: Purpose) -> Rc<Self> {
        Rc::new(Self { shared, purpose, waiting: Cell::new(0), freed: Notify::new() })
    }

    /// Where the endpoint is.
    #[must_use]
    pub fn addresses(&self) -> &Addresses {
        &self.shared.addresses
    }

    fn lane(&self) -> &Lane {
        match self.purpose {
            Purpose::Clients => &self.shared.lane,
            Purpose::Copies => &self.shared.shadow_lane,
        }
    }

    /// Room for one more connection, if the bound allows it.
    #[must_use]
    pub fn open(self: &Rc<Self>, bounds: Bounds) -> Option<Place> {
        take(&self.lane().open, bounds.connections).then(|| Place(Rc::clone(self)))
    }

    /// Whether a connect may be tried at `now` (milliseconds): after one that failed, once in a while
    /// by one of all who ask.
    #[must_use]
    pub fn may_connect(&self, now: u64) -> bool {
        let lane = self.lane();
        let due = lane.not_before.load(Relaxed);
        due == 0
            || now >= due
                && lane.not_before.compare_exchange(due, now + RECONNECT_MILLIS, Relaxed, Relaxed).is_ok()
    }

    /// Whether a connect failed a moment ago and it is too soon for another.
    #[must_use]
    pub fn refused_lately(&self, now: impl Fn() -> u64) -> bool {
        let due = self.lane().not_before.load(Relaxed);
        due != 0 && now() < due
    }

    /// A connect that was tried at `now` ended.
    pub fn connected(&self, well: bool, now: u64) {
        let lane = self.lane();
        if well {
            if lane.not_before.load(Relaxed) != 0 {
                lane.not_before.store(0, Relaxed);
            }
            return;
        }
        lane.failed.fetch_add(1, Relaxed);
        lane.not_before.fetch_max(now + RECONNECT_MILLIS, Relaxed);
    }

    /// Connects that failed so far.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.lane().failed.load(Relaxed)
    }

    /// Joins those without a connection, if there is room among them.
    #[must_use]
    pub fn wait(self: &Rc<Self>, bounds: Bounds) -> Option<Pending> {
        take(&self.lane().pending, bounds.pending).then(|| {
            self.waiting.set(self.waiting.get() + 1);
            Pending(Rc::clone(self))
        })
    }

    /// Whether requests of another worker wait while this one may have a connection to spare.
    #[must_use]
    pub fn is_wanted_elsewhere(&self, bounds: Bounds) -> bool {
        bounds.connections > 0
            && self.lane().open.load(Relaxed) >= bounds.connections
            && self.lane().pending.load(Relaxed) > self.waiting.get()
    }

    /// A connection can be used again.
    pub fn returned(&self) {
        // A permit nobody waits for would only wake somebody for nothing.
        if self.waiting.get() > 0 {
            self.freed.notify_one();
        }
    }
}

/// Counts one more unless that would pass `bound` (0: none).
fn take(count: &AtomicU32, bound: u32) -> bool {
    let more = |count: u32| (bound == 0 || count < bound).then(|| count.saturating_add(1));
    count.fetch_update(Relaxed, Relaxed, more).is_ok()
}

/// The place of one connection, to its end.
#[derive(Debug)]
pub struct Place(Rc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.lane().open.fetch_sub(1, Relaxed);
        self.0.returned();
    }
}

/// One request without a connection.
#[derive(Debug)]
pub struct Pending(Rc<Gate>);

impl Pending {
    /// Waits until a connection was freed or closed, here or perhaps elsewhere; another may be
    /// quicker to take it.
    pub async fn freed(&self, deadlines: &Rc<Deadlines>) {
        let mut again = Deadline::new(deadlines, LOOK_AGAIN);
        within(None, &mut again, self.0.freed.notified()).await;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.lane().pending.fetch_sub(1, Relaxed);
        self.0.waiting.set(self.0.waiting.get().saturating_sub(1));
        // It may have been woken for what it no longer takes.
        self.0.returned();
    }
}

/// Monotonic milliseconds that all workers agree on, from 1.
#[must_use]
pub fn millis() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let since = START.get_or_init(Instant::now).elapsed().as_millis();
    u64::try_from(since).unwrap_or(u64::MAX / 2) + 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Book;

    #[test]
    fn after_a_failure_one_of_all_workers_tries_again_once_in_a_while() {
        let cell = Book::new(2, 0).endpoint(&"http://a:1".into(), None);
        let gates = [(); 2].map(|()| Gate::new(Arc::clone(&cell), Purpose::Clients));
        assert!((0..10).all(|_| gates[0].may_connect(1)), "while it goes well nobody waits");
        gates[0].connected(false, 1_000);
        assert!(gates[1].refused_lately(|| 1_050));
        let mut tries = 0;
        for now in 1_000..2_000 {
            for gate in &gates {
                if gate.may_connect(now) {
                    tries += 1;
                    gate.connected(false, now);
                }
            }
        }
        assert_eq!((tries, gates[0].failures()), (9, 10), "at 1100, 1200 and so on");
        gates[1].connected(true, 2_000);
        assert!((0..10).all(|_| gates[0].may_connect(2_000)) && !gates[0].refused_lately(|| 2_000));
    }

    #[test]
    fn places_and_waiters_are_bounded_over_workers_and_given_back() {
        let cell = Book::new(2, 0).endpoint(&"http://a:1".into(), None);
        let (gate, other) =
            (Gate::new(Arc::clone(&cell), Purpose::Clients), Gate::new(Arc::clone(&cell), Purpose::Clients));
        let bounds = Bounds { connections: 2, pending: 1 };
        let (first, second) = (gate.open(bounds), other.open(bounds));
        assert!(first.is_some() && second.is_some() && gate.open(bounds).is_none());
        let waiting = gate.wait(bounds);
        assert!(waiting.is_some() && other.wait(bounds).is_none());
        let copies = Gate::new(cell, Purpose::Copies);
        assert!(copies.open(bounds).is_some() && copies.wait(bounds).is_some(), "counted apart");
        assert!(other.is_wanted_elsewhere(bounds) && !gate.is_wanted_elsewhere(bounds));
        drop((second, waiting));
        assert!(gate.open(bounds).is_some() && other.wait(bounds).is_some());
        let none = Bounds { connections: 0, pending: 0 };
        assert!((0..100).map(|_| gate.open(none)).collect::<Vec<_>>().iter().all(Option::is_some));
    }
}
