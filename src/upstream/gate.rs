//! How many connections one worker may hold to one endpoint, and how many exchanges may wait for one.
//!
//! Over the bound the exchange that came last is refused, never an older one kept waiting for it. It
//! must never count a connection after its end.

use std::cell::Cell;
use std::rc::Rc;

use tokio::sync::Notify;

/// Bounds of one worker's share; 0 is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Open connections.
    pub connections: u32,
    /// Exchanges without a connection.
    pub pending: u32,
}

impl Bounds {
    /// The share of one of `workers` workers in bounds of the whole process: at least 1 of each.
    #[must_use]
    pub fn share(connections: u32, pending: u32, workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX).max(1);
        Self { connections: connections.div_ceil(workers), pending: pending.div_ceil(workers) }
    }
}

/// The connections of one worker to one endpoint, counted.
#[derive(Debug, Default)]
pub struct Gate {
    open: Cell<u32>,
    pending: Cell<u32>,
    freed: Notify,
}

impl Gate {
    /// Room for one more connection, if the bound allows it.
    #[must_use]
    pub fn open(self: &Rc<Self>, bounds: Bounds) -> Option<Place> {
        if bounds.connections > 0 && self.open.get() >= bounds.connections {
            return None;
        }
        self.open.set(self.open.get() + 1);
        Some(Place(Rc::clone(self)))
    }

    /// Joins those without a connection, if there is room among them.
    #[must_use]
    pub fn wait(self: &Rc<Self>, bounds: Bounds) -> Option<Pending> {
        if bounds.pending > 0 && self.pending.get() >= bounds.pending {
            return None;
        }
        self.pending.set(self.pending.get() + 1);
        Some(Pending(Rc::clone(self)))
    }

    /// A connection can be used again.
    pub fn returned(&self) {
        // A permit nobody waits for would only wake somebody for nothing.
        if self.pending.get() > 0 {
            self.freed.notify_one();
        }
    }

    /// Open connections.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.open.get()
    }
}

/// The place of one connection, to its end.
#[derive(Debug)]
pub struct Place(Rc<Gate>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
        self.0.returned();
    }
}

/// One exchange without a connection.
#[derive(Debug)]
pub struct Pending(Rc<Gate>);

impl Pending {
    /// Waits until a connection was freed or closed; another may be quicker to take it.
    pub async fn freed(&self) {
        self.0.freed.notified().await;
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.set(self.0.pending.get().saturating_sub(1));
        // It may have been woken for what it no longer takes.
        self.0.returned();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_and_waiters_are_bounded_and_given_back() {
        let gate = Rc::new(Gate::default());
        let bounds = Bounds::share(3, 2, 2);
        assert_eq!(bounds, Bounds { connections: 2, pending: 1 });
        let first = gate.open(bounds);
        let second = gate.open(bounds);
        assert!(first.is_some() && second.is_some() && gate.open(bounds).is_none());
        let waiting = gate.wait(bounds);
        assert!(waiting.is_some() && gate.wait(bounds).is_none());
        drop((second, waiting));
        assert!(gate.open(bounds).is_some() && gate.wait(bounds).is_some());
        assert_eq!(gate.count(), 1);
        let none = Bounds::share(0, 0, 2);
        assert!((0..100).map(|_| gate.open(none)).collect::<Vec<_>>().iter().all(Option::is_some));
    }
}
