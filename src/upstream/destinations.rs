//! The addresses of one endpoint as one worker sees them: each a destination with connections of its
//! own.
//!
//! A name with several addresses is balanced over by requests in flight. An address that left the set
//! is gone at once: nothing new goes there, and what runs there closes when it is over. It must never
//! look at the set itself unless it moved.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::h1::Connection;
use super::h2::Sessions;
use crate::ledger::Addresses;
use crate::model::time::Tick;
use crate::plan::ConnectionSettings;

/// One address, as far as its connections know it.
#[derive(Debug)]
pub struct Spot {
    /// Where it is.
    pub address: SocketAddr,
    /// HTTP/1.1 connections, those with an exchange and those without.
    open: Cell<u32>,
    gone: Cell<bool>,
    /// Until when others are preferred.
    pub avoid_until: Cell<Tick>,
}

impl Spot {
    /// Whether its name no longer has this address.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.gone.get()
    }
}

/// Counts one HTTP/1.1 connection at its address, to its end.
#[derive(Debug)]
pub struct Stay(Rc<Spot>);

impl Stay {
    /// At an address.
    #[must_use]
    pub fn at(spot: &Rc<Spot>) -> Self {
        spot.open.set(spot.open.get() + 1);
        Self(Rc::clone(spot))
    }

    /// Where that is.
    #[must_use]
    pub fn spot(&self) -> &Rc<Spot> {
        &self.0
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get().saturating_sub(1));
    }
}

/// A connection that waits for its next exchange.
#[derive(Debug)]
pub struct Idle {
    /// The connection.
    pub connection: Connection,
    /// Since when it waits.
    pub since: Tick,
}

impl Idle {
    fn is_fresh(&self, settings: &ConnectionSettings, now: Tick) -> bool {
        now < self.since.after(settings.idle_timeout.0)
            && now < self.connection.born.after(settings.max_age.0)
    }
}

/// One address with its connections.
#[derive(Debug)]
pub struct Destination {
    /// The address.
    pub spot: Rc<Spot>,
    /// HTTP/1.1 connections without an exchange, the newest last.
    pub idle: RefCell<Vec<Idle>>,
    /// HTTP/2 connections.
    pub sessions: Sessions,
}

impl Destination {
    fn new(address: SocketAddr) -> Rc<Self> {
        let spot = Rc::new(Spot {
            address,
            open: Cell::default(),
            gone: Cell::default(),
            avoid_until: Cell::new(Tick(0)),
        });
        Rc::new(Self { spot, idle: RefCell::default(), sessions: Sessions::default() })
    }

    /// Exchanges under way.
    fn busy(&self) -> usize {
        let used = (self.spot.open.get() as usize).saturating_sub(self.idle.borrow().len());
        used + self.sessions.in_flight()
    }

    /// The newest idle connection that is certainly not closed.
    pub fn checkout(&self, settings: &ConnectionSettings, now: Tick) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(one) = idle.pop() {
            if one.is_fresh(settings, now) && !one.connection.is_spoilt() {
                return Some(one.connection);
            }
        }
        None
    }

    fn sweep(&self, settings: &ConnectionSettings, now: Tick) {
        self.idle.borrow_mut().retain(|idle| idle.is_fresh(settings, now) && !idle.connection.is_spoilt());
        self.sessions.sweep(settings, now);
    }

    fn clear(&self) {
        self.idle.borrow_mut().clear();
        self.sessions.clear();
    }
}

/// The destinations of one endpoint.
#[derive(Debug, Default)]
pub struct Destinations {
    /// Of the set they were made of; 0 is none yet.
    version: Cell<u32>,
    list: RefCell<Vec<Rc<Destination>>>,
    turn: Cell<usize>,
}

impl Destinations {
    /// Goes along with what the endpoint's name has become.
    #[inline]
    pub fn follow(&self, addresses: &Addresses) {
        if self.version.get() != addresses.version() {
            self.renew(addresses);
        }
    }

    #[cold]
    fn renew(&self, addresses: &Addresses) {
        // The version first: a set that is newer than it is only looked at once more.
        self.version.set(addresses.version());
        let set = addresses.get();
        let mut list = self.list.borrow_mut();
        list.retain(|one| {
            let stays = set.contains(&one.spot.address);
            if !stays {
                one.spot.gone.set(true);
                one.clear();
            }
            stays
        });
        for address in set.iter() {
            if !list.iter().any(|one| one.spot.address == *address) {
                list.push(Destination::new(*address));
            }
        }
    }

    /// Where the next request goes: the less busy of two that take turns, of those that did not refuse
    /// lately.
    #[must_use]
    pub fn choose(&self, now: Tick) -> Option<Rc<Destination>> {
        let list = self.list.borrow();
        let count = list.len();
        if count < 2 {
            return list.first().map(Rc::clone);
        }
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let first = turn % count;
        let second = (first + 1 + turn / count % (count - 1)) % count;
        let usable = |at: &usize| list.get(*at).is_some_and(|one| one.spot.avoid_until.get() <= now);
        let busy = |at: &usize| list.get(*at).map_or(usize::MAX, |one| one.busy());
        let best = [first, second].into_iter().filter(usable).min_by_key(busy);
        let best = best.or_else(|| (0..count).filter(usable).min_by_key(busy)).unwrap_or(first);
        list.get(best).map(Rc::clone)
    }

    /// All addresses in the order in which a connection is tried: `first`, then the others, families
    /// taking turns (RFC 8305 section 4), those that refused lately last.
    #[must_use]
    pub fn order(&self, first: &Rc<Spot>, now: Tick) -> Vec<Rc<Spot>> {
        let mut left: Vec<Rc<Spot>> = self.list.borrow().iter().map(|one| Rc::clone(&one.spot)).collect();
        left.retain(|spot| !Rc::ptr_eq(spot, first));
        left.sort_by_key(|spot| spot.avoid_until.get() > now);
        let mut order = vec![Rc::clone(first)];
        while !left.is_empty() {
            let last_is_v4 = order.last().is_some_and(|spot| spot.address.is_ipv4());
            let other = left.iter().position(|spot| spot.address.is_ipv4() != last_is_v4);
            order.push(left.remove(other.unwrap_or(0)));
        }
        order
    }

    /// The destination at an address, if its name still has it.
    #[must_use]
    pub fn at(&self, spot: &Rc<Spot>) -> Option<Rc<Destination>> {
        self.list.borrow().iter().find(|one| Rc::ptr_eq(&one.spot, spot)).map(Rc::clone)
    }

    /// Idle connections of all addresses.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.list.borrow().iter().map(|one| one.idle.borrow().len()).sum()
    }

    /// Takes one idle connection, whatever its state.
    pub fn pop(&self) -> Option<Idle> {
        self.list.borrow().iter().find_map(|one| one.idle.borrow_mut().pop())
    }

    /// An idle connection to any address.
    pub fn checkout(&self, settings: &ConnectionSettings, now: Tick) -> Option<Connection> {
        self.list.borrow().iter().find_map(|one| one.checkout(settings, now))
    }

    /// Closes what is past its time.
    pub fn sweep(&self, settings: &ConnectionSettings, now: Tick) {
        self.list.borrow().iter().for_each(|one| one.sweep(settings, now));
    }

    /// Closes what has no exchange, and the rest when its exchanges are over.
    pub fn clear(&self) {
        self.list.borrow().iter().for_each(|one| one.clear());
    }

    /// Closes idle HTTP/1.1 connections.
    pub fn clear_idle(&self) {
        self.list.borrow().iter().for_each(|one| one.idle.borrow_mut().clear());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn addresses_take_turns_the_busy_and_the_refusing_are_passed_over() {
        let set = Addresses::new(Arc::new(addresses(&["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"])));
        let all = Destinations::default();
        assert!(all.choose(Tick(0)).is_none());
        all.follow(&set);
        let chosen = |now| all.choose(now).unwrap().spot.address.to_string();
        let mut seen: Vec<_> = (0..3).map(|_| chosen(Tick(0))).collect();
        seen.sort();
        assert_eq!(seen, ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.3:1"]);
        let busy = Rc::clone(&all.list.borrow()[0].spot);
        let stay = Stay::at(&busy);
        assert!((0..20).all(|_| chosen(Tick(0)) != "10.0.0.1:1"));
        drop(stay);
        busy.avoid_until.set(Tick(9));
        assert!((0..20).all(|_| chosen(Tick(8)) != "10.0.0.1:1"));
        assert!((0..20).any(|_| chosen(Tick(9)) == "10.0.0.1:1"));
    }

    #[test]
    fn an_address_that_left_is_gone_and_one_that_stays_is_the_same() {
        let set = Addresses::new(Arc::new(addresses(&["10.0.0.1:1", "10.0.0.2:1"])));
        let all = Destinations::default();
        all.follow(&set);
        let before: Vec<_> = all.list.borrow().iter().map(|one| Rc::clone(&one.spot)).collect();
        set.found(Some(addresses(&["10.0.0.2:1", "10.0.0.3:1"])));
        all.follow(&set);
        assert!(before[0].is_gone() && all.at(&before[0]).is_none());
        assert!(!before[1].is_gone() && all.at(&before[1]).is_some());
    }

    #[test]
    fn families_take_turns() {
        let set = ["10.0.0.1:1", "10.0.0.2:1", "[fd00::1]:1", "[fd00::2]:1"];
        let all = Destinations::default();
        all.follow(&Addresses::new(Arc::new(addresses(&set))));
        let first = Rc::clone(&all.list.borrow()[0].spot);
        let order: Vec<_> = all.order(&first, Tick(0)).iter().map(|spot| spot.address.to_string()).collect();
        assert_eq!(order, ["10.0.0.1:1", "[fd00::1]:1", "10.0.0.2:1", "[fd00::2]:1"]);
    }
}
