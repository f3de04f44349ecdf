//! One client connection as both sides of the house see it: who it is, and what it waits for.
//!
//! `net` owns the transport and judges its timeouts, `proxy` serves its requests; this is what they
//! share, single-threaded. It must never hold a socket.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::task::Waker;

use http::HeaderValue;

use super::time::Tick;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Accepted, nothing received.
    FirstByte,
    /// Part of a request head received.
    Header,
    /// At least one exchange runs.
    Busy,
    /// Between two requests.
    Idle,
}

/// Why a connection is ended from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The client took too long to send a head.
    HeaderTimeout,
    /// The client stopped sending a body.
    BodyTimeout,
    /// The client stopped taking bytes.
    SendStall,
    /// Nothing happened for long, or the process drains.
    Quiet,
}

/// One client connection.
#[derive(Debug)]
pub struct Client {
    /// Index of the listener in every plan of the process.
    pub listener: usize,
    /// The other end of the transport.
    pub peer: SocketAddr,
    /// Our end of the transport.
    pub local: SocketAddr,
    /// Whether the transport is encrypted.
    pub secure: bool,
    /// When it was accepted.
    pub born: Tick,
    /// The peer's address as a header value, built once per connection.
    pub peer_header: OnceCell<HeaderValue>,
    /// Whether the next response should end the connection.
    pub closing: Cell<bool>,
    /// Set from outside to end the connection.
    pub kill: Cell<Option<Close>>,
    /// Set from outside when an idle connection should give its buffers back.
    pub park: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<Tick>,
    in_flight: Cell<u32>,
    body_wait: Cell<Option<Tick>>,
    send_wait: Cell<Option<Tick>>,
    waker: RefCell<Option<Waker>>,
}

impl Client {
    /// A connection accepted now.
    #[must_use]
    pub fn new(listener: usize, peer: SocketAddr, local: SocketAddr, now: Tick) -> Self {
        Self {
            listener,
            peer,
            local,
            secure: false,
            born: now,
            peer_header: OnceCell::new(),
            closing: Cell::new(false),
            kill: Cell::new(None),
            park: Cell::new(false),
            phase: Cell::new(Phase::FirstByte),
            since: Cell::new(now),
            in_flight: Cell::new(0),
            body_wait: Cell::new(None),
            send_wait: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    /// What it is doing and since when.
    #[must_use]
    pub fn phase(&self) -> (Phase, Tick) {
        (self.phase.get(), self.since.get())
    }

    /// Bytes arrived.
    pub fn on_read(&self, now: Tick) {
        if matches!(self.phase.get(), Phase::FirstByte | Phase::Idle) {
            self.phase.set(Phase::Header);
            self.since.set(now);
        }
    }

    /// The transport took bytes (`None`) or would not (`Some`, kept from the first refusal).
    pub fn on_write(&self, blocked: Option<Tick>) {
        match blocked {
            None => self.send_wait.set(None),
            Some(now) if self.send_wait.get().is_none() => self.send_wait.set(Some(now)),
            Some(_) => {}
        }
    }

    /// A request body is awaited (`Some`, kept from the first time) or moved (`None`).
    pub fn on_body(&self, waiting: Option<Tick>) {
        match waiting {
            None => self.body_wait.set(None),
            Some(now) if self.body_wait.get().is_none() => self.body_wait.set(Some(now)),
            Some(_) => {}
        }
    }

    /// Since when the client refuses bytes.
    #[must_use]
    pub fn send_wait(&self) -> Option<Tick> {
        self.send_wait.get()
    }

    /// Since when a request body is awaited.
    #[must_use]
    pub fn body_wait(&self) -> Option<Tick> {
        self.body_wait.get()
    }

    /// An exchange began.
    pub fn begin(&self, now: Tick) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.phase.set(Phase::Busy);
        self.since.set(now);
    }

    /// An exchange ended.
    pub fn end(&self, now: Tick) {
        let left = self.in_flight.get().saturating_sub(1);
        self.in_flight.set(left);
        if left == 0 {
            self.phase.set(Phase::Idle);
            self.since.set(now);
            self.body_wait.set(None);
        }
    }

    /// Remembers whom to wake; cheap when nothing changed.
    pub fn wake_with(&self, waker: &Waker) {
        let mut kept = self.waker.borrow_mut();
        if !kept.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *kept = Some(waker.clone());
        }
    }

    /// Wakes the connection's task so that it sees `kill`, `park` or `closing`.
    pub fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
