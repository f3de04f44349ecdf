//! Timeouts of client connections by one sweep per worker: no timer per request or connection.
//!
//! [`judge`] is pure: what a connection does and since when, what is allowed, what time it is. It
//! must never end a connection by itself; it says so, and the connection's task does it.

use std::cell::RefCell;
use std::rc::Rc;

use slab::Slab;

use crate::model::Client;
use crate::model::client::{Close, Phase};
use crate::model::time::{TICK_MILLIS, Tick};
use crate::plan::ClientTimeouts as Timeouts;

/// Ticks between two sweeps: half a second.
pub const SWEEP_TICKS: u32 = 10;
/// How long an idle HTTP/1 connection keeps its buffers.
const PARK_AFTER: std::time::Duration =
    std::time::Duration::from_millis(2 * SWEEP_TICKS as u64 * TICK_MILLIS);
/// How long a connection stays idle before a drain or its age ends it: long enough for a request
/// under way to arrive and be answered with a word that it was the last.
const DRAIN_IDLE: std::time::Duration = std::time::Duration::from_secs(1);

/// How long a client may take to read the last answer while it still sends.
const LINGER: std::time::Duration = std::time::Duration::from_secs(2);

/// What should happen to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// Nothing.
    Keep,
    /// It ends.
    Kill(Close),
    /// Its buffers are given back.
    Park,
    /// Its next response ends it.
    Last,
}

/// Judges one connection.
#[must_use]
pub fn judge(client: &Client, limits: &Timeouts, draining: bool, now: Tick) -> Sentence {
    let over = |since: Tick, span: std::time::Duration| now >= since.after(span);
    let sending = client.send_wait().into_iter().chain(client.window_wait()).min();
    if sending.is_some_and(|since| over(since, limits.send_stall.0)) {
        return Sentence::Kill(Close::SendStall);
    }
    if client.head_wait().is_some_and(|since| over(since, limits.header.0)) {
        return Sentence::Kill(Close::HeaderTimeout);
    }
    let (phase, since) = client.phase();
    let old = over(client.born, limits.max_age.0);
    match phase {
        Phase::FirstByte if over(since, limits.first_byte.0) => Sentence::Kill(Close::Quiet),
        Phase::FirstByte if draining && over(since, DRAIN_IDLE) => Sentence::Kill(Close::Quiet),
        Phase::Header if over(since, limits.header.0) => Sentence::Kill(Close::HeaderTimeout),
        // Once the answer has begun, its own idle limit rules: a stream may be quiet in one direction.
        Phase::Busy
            if client.is_unanswered()
                && client.body_wait().is_some_and(|since| over(since, limits.body_idle.0)) =>
        {
            Sentence::Kill(Close::BodyTimeout)
        }
        // Answered early: what comes is still the body of the request before.
        Phase::Idle if client.body_open() && over(since.max(client.last_read()), limits.body_idle.0) => {
            Sentence::Kill(Close::BodyTimeout)
        }
        Phase::Idle if client.body_open() => Sentence::Keep,
        Phase::Ending if over(since, LINGER) => Sentence::Kill(Close::Quiet),
        Phase::Idle if over(since, limits.idle.0) || (old || draining) && over(since, DRAIN_IDLE) => {
            Sentence::Kill(Close::Quiet)
        }
        Phase::Idle if over(since, PARK_AFTER) && client.send_wait().is_none() && !old => Sentence::Park,
        _ if draining || old => Sentence::Last,
        _ => Sentence::Keep,
    }
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub struct Registry {
    clients: RefCell<Slab<Rc<Client>>>,
}

impl Registry {
    /// Adds a connection; the ticket removes it when dropped.
    #[must_use]
    pub fn enter(self: &Rc<Self>, client: Rc<Client>) -> Ticket {
        let key = self.clients.borrow_mut().insert(client);
        Ticket { registry: Rc::clone(self), key }
    }

    /// How many connections there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.clients.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Judges every connection; `limits` gives a listener's timeouts.
    pub fn sweep(&self, limits: impl Fn(usize) -> Timeouts, draining: bool, now: Tick) {
        let mut last: Option<(usize, Timeouts)> = None;
        for (_, client) in &*self.clients.borrow() {
            let timeouts = match last {
                Some((listener, timeouts)) if listener == client.listener => timeouts,
                _ => limits(client.listener),
            };
            last = Some((client.listener, timeouts));
            match judge(client, &timeouts, draining, now) {
                Sentence::Keep => continue,
                Sentence::Kill(close) => client.kill.set(Some(close)),
                Sentence::Park => {
                    if client.park.replace(true) {
                        continue;
                    }
                }
                Sentence::Last => {
                    if client.closing.replace(true) {
                        continue;
                    }
                }
            }
            client.wake();
        }
    }

    /// Ends every connection at once.
    pub fn kill_all(&self) {
        for (_, client) in &*self.clients.borrow() {
            client.kill.set(Some(Close::Quiet));
            client.wake();
        }
    }
}

/// A connection's place in its registry.
#[derive(Debug)]
pub struct Ticket {
    registry: Rc<Registry>,
    key: usize,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.clients.borrow_mut().try_remove(self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client() -> Client {
        let any = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
        Client::new(0, any, any, Tick(0))
    }

    fn at(seconds: u32) -> Tick {
        Tick(seconds * 1000 / u32::try_from(TICK_MILLIS).unwrap() + 1)
    }

    #[test]
    fn each_phase_has_its_own_limit() {
        let limits = Timeouts::default();
        let silent = client();
        assert_eq!(judge(&silent, &limits, false, at(4)), Sentence::Keep);
        assert_eq!(judge(&silent, &limits, false, at(5)), Sentence::Kill(Close::Quiet));

        let dripping = client();
        dripping.on_read(Tick(0));
        assert_eq!(judge(&dripping, &limits, false, at(9)), Sentence::Keep);
        assert_eq!(judge(&dripping, &limits, false, at(10)), Sentence::Kill(Close::HeaderTimeout));

        let uploading = client();
        uploading.begin(Tick(0), true);
        assert_eq!(judge(&uploading, &limits, false, at(1000)), Sentence::Keep);
        uploading.on_body(Some(Tick(0)));
        assert_eq!(judge(&uploading, &limits, false, at(10)), Sentence::Kill(Close::BodyTimeout));
        uploading.answered();
        assert_eq!(judge(&uploading, &limits, false, at(10)), Sentence::Keep, "the answer has begun");

        let stalled = client();
        stalled.begin(Tick(0), false);
        stalled.on_write(Some(Tick(0)));
        assert_eq!(judge(&stalled, &limits, false, at(30)), Sentence::Kill(Close::SendStall));
    }

    #[test]
    fn a_body_left_over_is_no_idle_connection() {
        let limits = Timeouts::default();
        let early = client();
        early.begin(Tick(0), true);
        early.answered();
        early.end(Tick(0));
        early.on_read(at(5));
        assert_eq!(early.phase().0, Phase::Idle, "the rest of a body is no head");
        assert_eq!(judge(&early, &limits, false, at(14)), Sentence::Keep, "never parked");
        assert_eq!(judge(&early, &limits, false, at(16)), Sentence::Kill(Close::BodyTimeout));
        early.body_ended();
        assert_eq!(judge(&early, &limits, false, at(16)), Sentence::Park);
    }

    #[test]
    fn a_multiplexed_connection_is_idle_until_a_header_block_begins() {
        let limits = Timeouts::default();
        let quiet = client();
        quiet.on_read(Tick(0));
        quiet.multiplex(Tick(0));
        quiet.on_read(at(1));
        assert_eq!(judge(&quiet, &limits, false, at(59)), Sentence::Park);
        assert_eq!(judge(&quiet, &limits, false, at(60)), Sentence::Kill(Close::Quiet));
        quiet.begin(at(1), false);
        quiet.on_head(Some(at(2)));
        assert_eq!(judge(&quiet, &limits, false, at(11)), Sentence::Keep);
        assert_eq!(judge(&quiet, &limits, false, at(13)), Sentence::Kill(Close::HeaderTimeout));
        quiet.on_head(None);
        quiet.on_window(true, at(20));
        assert_eq!(judge(&quiet, &limits, false, at(49)), Sentence::Keep);
        assert_eq!(judge(&quiet, &limits, false, at(51)), Sentence::Kill(Close::SendStall));
        quiet.on_window(false, at(40));
        assert_eq!(judge(&quiet, &limits, false, at(99)), Sentence::Keep);
    }

    #[test]
    fn idle_connections_park_then_end() {
        let limits = Timeouts::default();
        let idle = client();
        idle.begin(Tick(0), false);
        idle.end(Tick(0));
        assert_eq!(judge(&idle, &limits, false, Tick(1)), Sentence::Keep);
        assert_eq!(judge(&idle, &limits, false, at(2)), Sentence::Park);
        assert_eq!(judge(&idle, &limits, false, at(60)), Sentence::Kill(Close::Quiet));
    }

    #[test]
    fn a_drain_lets_busy_connections_finish_and_idle_ones_go() {
        let limits = Timeouts::default();
        let busy = client();
        busy.begin(Tick(0), false);
        assert_eq!(judge(&busy, &limits, true, at(100)), Sentence::Last);
        busy.end(at(100));
        assert_eq!(judge(&busy, &limits, true, at(100)), Sentence::Last);
        assert_eq!(judge(&busy, &limits, true, at(102)), Sentence::Kill(Close::Quiet));
    }
}
