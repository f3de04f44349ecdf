//! The HTTP/2 connections of one worker to one endpoint: few, shared, opened one at a time.
//!
//! Everybody who finds no room waits for the same new connection, and hears of the same failure. It
//! must never open more than a bounded number, nor give a new exchange to one that is leaving.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use tokio::sync::Notify;

use super::Session;
use crate::model::time::Tick;
use crate::plan::ConnectionSettings;
use crate::upstream::pool::Refused;

/// Most connections to one endpoint from one worker; further exchanges wait for room.
pub const MAX_SESSIONS: usize = 8;

/// The sessions of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct Sessions {
    open: RefCell<Vec<Rc<Session>>>,
    connecting: Cell<bool>,
    /// How many connects failed, and why the last one did.
    failures: Cell<u64>,
    last_failure: RefCell<Option<Refused>>,
    room: Rc<Notify>,
}

impl Sessions {
    /// What a session must tell of its room.
    #[must_use]
    pub fn room(&self) -> &Rc<Notify> {
        &self.room
    }

    /// A session that has room, opened by `connect` if need be. Dropping the future is safe: who
    /// waits for the same connection opens it instead.
    ///
    /// # Errors
    /// Why the connection that this call waited for could not be opened.
    pub async fn obtain(
        &self,
        settings: &ConnectionSettings,
        now: Tick,
        connect: impl AsyncFn() -> Result<Rc<Session>, Refused>,
    ) -> Result<Rc<Session>, Refused> {
        let failures = self.failures.get();
        loop {
            self.open.borrow_mut().retain(|session| takes_more(session, settings, now));
            let roomy = self.open.borrow().iter().find(|session| session.has_room()).map(Rc::clone);
            if let Some(session) = roomy {
                return Ok(session);
            }
            if self.failures.get() != failures
                && let Some(failure) = &*self.last_failure.borrow()
            {
                return Err(failure.clone());
            }
            if !self.connecting.get() && self.open.borrow().len() < MAX_SESSIONS {
                return self.connect(connect).await;
            }
            self.room.notified().await;
        }
    }

    async fn connect(
        &self,
        connect: impl AsyncFn() -> Result<Rc<Session>, Refused>,
    ) -> Result<Rc<Session>, Refused> {
        let connecting = Connecting::new(self);
        let connected = connect().await;
        match &connected {
            Ok(session) => self.open.borrow_mut().push(Rc::clone(session)),
            Err(failure) => {
                self.failures.set(self.failures.get() + 1);
                *self.last_failure.borrow_mut() = Some(failure.clone());
            }
        }
        drop(connecting);
        connected
    }

    /// Lets go of sessions that are leaving, too old, or idle for too long; what runs on them ends
    /// as it should.
    pub fn sweep(&self, settings: &ConnectionSettings, now: Tick) {
        self.open.borrow_mut().retain(|session| {
            let idle = session.idle_since().is_some_and(|since| now >= since.after(settings.idle_timeout.0));
            takes_more(session, settings, now) && !idle
        });
    }

    /// Lets go of every session.
    pub fn clear(&self) {
        self.open.borrow_mut().clear();
    }

    /// Exchanges under way on all of them.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.open.borrow().iter().map(|session| session.in_flight()).sum()
    }

    /// Connections that take new exchanges.
    #[must_use]
    pub fn len(&self) -> usize {
        self.open.borrow().len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn takes_more(session: &Session, settings: &ConnectionSettings, now: Tick) -> bool {
    !session.is_leaving() && now < session.born().after(settings.max_age.0)
}

/// The one connect under way; its end, however it comes, is told to all who wait.
struct Connecting<'a>(&'a Sessions);

impl<'a> Connecting<'a> {
    fn new(sessions: &'a Sessions) -> Self {
        sessions.connecting.set(true);
        Self(sessions)
    }
}

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.room.notify_waiters();
    }
}
