//! One client connection as both sides of the house see it: who it is, and what it waits for.
//!
//! `net` owns the transport and judges its timeouts, `proxy` serves its requests; this is what they
//! share, single-threaded. It must never hold a socket.

use std::any::Any;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::task::Waker;

use http::HeaderValue;

use super::secured::Secured;
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
    /// Answered for the last time; what still comes is thrown away.
    Ending,
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
    /// The client sent more frames that carry nothing than anybody needs.
    Flood,
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
    /// What is known of the encryption, once there is one.
    pub secured: OnceCell<Secured>,
    /// When it was accepted.
    pub born: Tick,
    /// The peer's address as a header value, built once per connection.
    pub peer_header: OnceCell<HeaderValue>,
    /// Whether the next response should end the connection.
    pub closing: Cell<bool>,
    /// Set from outside to end the connection.
    pub kill: Cell<Option<Close>>,
    /// What the last exchange left that makes the connection a tunnel; only its maker knows it.
    pub tunnel: RefCell<Option<Box<dyn Any>>>,
    /// Set from outside when an idle connection should give its buffers back.
    pub park: Cell<bool>,
    phase: Cell<Phase>,
    since: Cell<Tick>,
    /// One head after another (HTTP/1), or frames of many streams (HTTP/2).
    multiplexed: Cell<bool>,
    last_read: Cell<Tick>,
    in_flight: Cell<u32>,
    unanswered: Cell<u32>,
    untaken: Cell<u32>,
    taken: Cell<Tick>,
    body_open: Cell<bool>,
    head_wait: Cell<Option<Tick>>,
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
            secured: OnceCell::new(),
            born: now,
            peer_header: OnceCell::new(),
            closing: Cell::new(false),
            kill: Cell::new(None),
            tunnel: RefCell::new(None),
            park: Cell::new(false),
            phase: Cell::new(Phase::FirstByte),
            since: Cell::new(now),
            multiplexed: Cell::new(false),
            last_read: Cell::new(now),
            in_flight: Cell::new(0),
            unanswered: Cell::new(0),
            untaken: Cell::new(0),
            taken: Cell::new(now),
            body_open: Cell::new(false),
            head_wait: Cell::new(None),
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

    /// The transport is ready: from now on its first byte is awaited.
    pub fn ready(&self, now: Tick) {
        self.since.set(now);
    }

    /// HTTP/2 begins: from now on bytes alone begin no request.
    pub fn multiplex(&self, now: Tick) {
        self.multiplexed.set(true);
        self.phase.set(Phase::Idle);
        self.since.set(now);
    }

    /// Whether it is HTTP/2.
    #[must_use]
    pub fn is_multiplexed(&self) -> bool {
        self.multiplexed.get()
    }

    /// The last answer is out: the connection only waits for the client to have read it.
    pub fn ending(&self, now: Tick) {
        self.phase.set(Phase::Ending);
        self.since.set(now);
    }

    /// Bytes arrived.
    pub fn on_read(&self, now: Tick) {
        self.last_read.set(now);
        let between = matches!(self.phase.get(), Phase::FirstByte | Phase::Idle);
        if between && !self.multiplexed.get() && !self.body_open.get() {
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

    /// Part of a header block was received (`Some`, kept from its first byte) or all of it (`None`).
    pub fn on_head(&self, waiting: Option<Tick>) {
        match waiting {
            None => self.head_wait.set(None),
            Some(now) if self.head_wait.get().is_none() => self.head_wait.set(Some(now)),
            Some(_) => {}
        }
    }

    /// A stream's bytes wait for the client to make room, or no longer do.
    pub fn on_window(&self, waiting: bool, now: Tick) {
        let untaken = self.untaken.get();
        self.untaken.set(if waiting { untaken + 1 } else { untaken.saturating_sub(1) });
        self.taken.set(now);
    }

    /// Since when every exchange of a multiplexed connection waits for the client to make room.
    #[must_use]
    pub fn window_wait(&self) -> Option<Tick> {
        let all = self.in_flight.get() > 0 && self.untaken.get() >= self.in_flight.get();
        all.then(|| self.taken.get())
    }

    /// A request body came to its end.
    pub fn body_ended(&self) {
        self.body_wait.set(None);
        self.body_open.set(false);
    }

    /// Whether a request body of HTTP/1 has not come to its end: until then no byte is a new request.
    #[must_use]
    pub fn body_open(&self) -> bool {
        self.body_open.get()
    }

    /// Whether an exchange has no response head yet.
    #[must_use]
    pub fn is_unanswered(&self) -> bool {
        self.unanswered.get() > 0
    }

    /// When bytes came last.
    #[must_use]
    pub fn last_read(&self) -> Tick {
        self.last_read.get()
    }

    /// Since when the rest of a header block is awaited, within a multiplexed connection.
    #[must_use]
    pub fn head_wait(&self) -> Option<Tick> {
        self.head_wait.get()
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

    /// An exchange began, with a body to come or without.
    pub fn begin(&self, now: Tick, body: bool) {
        self.in_flight.set(self.in_flight.get() + 1);
        self.unanswered.set(self.unanswered.get() + 1);
        self.body_open.set(body && !self.multiplexed.get());
        self.phase.set(Phase::Busy);
        self.since.set(now);
    }

    /// An exchange has its response head, or will have none.
    pub fn answered(&self) {
        self.unanswered.set(self.unanswered.get().saturating_sub(1));
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

    /// Whether it was ended for not sending what it announced.
    #[must_use]
    pub fn is_late(&self) -> bool {
        self.kill.get() == Some(Close::BodyTimeout)
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
