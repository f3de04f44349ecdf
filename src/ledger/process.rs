//! Process-wide counts of the data plane: refusals, unrouted requests, open connections.
//!
//! Per worker like everything else; it must never carry a label that is not a closed set.

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};

use crossbeam_utils::CachePadded;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::counter::Counter;
use crate::model::{DeniedReason, HandshakeReason, RejectReason, UnroutedReason, WorkerId};

/// One worker's counts.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    rejected: [Counter; RejectReason::COUNT],
    unrouted: [Counter; UnroutedReason::COUNT],
    denied: [Counter; DeniedReason::COUNT],
    handshakes: [Counter; HandshakeReason::COUNT],
    unknown: Counter,
}

impl WorkerCounts {
    /// A request was refused before any arm was charged.
    pub fn reject(&self, reason: RejectReason) {
        if let Some(counter) = self.rejected.get(reason.index()) {
            counter.add(1);
        }
    }

    /// A connection ended before its first request could come.
    pub fn handshake(&self, reason: HandshakeReason) {
        if let Some(counter) = self.handshakes.get(reason.index()) {
            counter.add(1);
        }
    }

    /// A request was not sent again although its route asks for it.
    pub fn denied(&self, reason: DeniedReason) {
        if let Some(counter) = self.denied.get(reason.index()) {
            counter.add(1);
        }
    }

    /// A request was let through because a rate limit had no room for its key.
    pub fn unknown(&self) {
        self.unknown.add(1);
    }

    /// No route or arm owned a request.
    pub fn unrouted(&self, reason: UnroutedReason) {
        if let Some(counter) = self.unrouted.get(reason.index()) {
            counter.add(1);
        }
    }
}

/// All workers' counts, and the open connections per listener.
#[derive(Debug)]
pub struct ProcessCells {
    workers: Box<[CachePadded<WorkerCounts>]>,
    connections: Box<[CachePadded<AtomicI64>]>,
    /// Open connections by listener and peer, kept only where a bound asks for it.
    peers: Mutex<HashMap<(usize, IpAddr), u32, FixedState>>,
}

impl ProcessCells {
    /// Zeroes for a fixed number of workers and listeners.
    #[must_use]
    pub fn new(workers: usize, listeners: usize) -> Self {
        Self {
            workers: (0..workers).map(|_| CachePadded::default()).collect(),
            connections: (0..listeners).map(|_| CachePadded::default()).collect(),
            peers: Mutex::default(),
        }
    }

    /// The worker's counts; `None` for a worker that does not exist.
    #[must_use]
    pub fn worker(&self, worker: WorkerId) -> Option<&WorkerCounts> {
        self.workers.get(worker.0).map(|padded| &**padded)
    }

    /// Adds to the open connections of a listener and gives the new number. Once per connection,
    /// not per request, so one shared number is enough.
    pub fn connections_add(&self, listener: usize, by: i64) -> i64 {
        self.connections.get(listener).map_or(0, |open| open.fetch_add(by, Ordering::Relaxed) + by)
    }

    /// A peer opened a connection; gives how many it has. The entry goes with its last connection,
    /// so the map is bounded by the open connections.
    pub fn peer_opened(&self, listener: usize, peer: IpAddr) -> u32 {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        let open = peers.entry((listener, peer)).or_insert(0);
        *open += 1;
        *open
    }

    /// A peer closed a connection.
    pub fn peer_closed(&self, listener: usize, peer: IpAddr) {
        let mut peers = self.peers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = peers.get_mut(&(listener, peer)) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                peers.remove(&(listener, peer));
            }
        }
    }

    /// Open connections of a listener.
    #[must_use]
    pub fn connections(&self, listener: usize) -> i64 {
        self.connections.get(listener).map_or(0, |open| open.load(Ordering::Relaxed))
    }

    /// Refusals by reason over all workers.
    #[must_use]
    pub fn rejected(&self, reason: RejectReason) -> u64 {
        let counts = self.workers.iter().filter_map(|worker| worker.rejected.get(reason.index()));
        counts.map(Counter::get).sum()
    }

    /// Connections that ended before their first request could come, by reason over all workers.
    #[must_use]
    pub fn handshakes(&self, reason: HandshakeReason) -> u64 {
        let counts = self.workers.iter().filter_map(|worker| worker.handshakes.get(reason.index()));
        counts.map(Counter::get).sum()
    }

    /// Retries that were not made, by reason over all workers.
    #[must_use]
    pub fn denied(&self, reason: DeniedReason) -> u64 {
        let counts = self.workers.iter().filter_map(|worker| worker.denied.get(reason.index()));
        counts.map(Counter::get).sum()
    }

    /// Requests let through because a rate limit had no room for their key, over all workers.
    #[must_use]
    pub fn unknown(&self) -> u64 {
        self.workers.iter().map(|worker| worker.unknown.get()).sum()
    }

    /// Unrouted requests by reason over all workers.
    #[must_use]
    pub fn unrouted(&self, reason: UnroutedReason) -> u64 {
        let counts = self.workers.iter().filter_map(|worker| worker.unrouted.get(reason.index()));
        counts.map(Counter::get).sum()
    }
}
