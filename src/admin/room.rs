//! Room for connections of operators: when it is full, who asks nothing makes way for who comes.
//!
//! Whoever reaches the listener could otherwise hold every place and say nothing. The oldest connection
//! without a request under way is closed for a new one; when all have one, the oldest whose request
//! takes longer than [`PATIENCE`], as those do that nobody reads the answer of. It must never close a
//! connection while there is room.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use hyper::body::{Frame, SizeHint};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a request may be under way before its connection makes way where all have one.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it is waited for a place before it is looked again for somebody to leave.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// The places.
#[derive(Clone)]
pub(super) struct Room {
    size: u32,
    places: Arc<Semaphore>,
    known: Arc<Mutex<Known>>,
}

/// Connections in the order in which they came; as many as there are places, and one that leaves for
/// each that comes.
#[derive(Default)]
struct Known {
    next: u64,
    open: BTreeMap<u64, Open>,
}

struct Open {
    /// Since when a request is under way.
    asked: Option<Instant>,
    leave: Arc<Notify>,
}

impl Room {
    /// For so many connections.
    pub(super) fn new(size: usize) -> Self {
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        Self { size, places: Arc::new(Semaphore::new(size as usize)), known: Arc::default() }
    }

    /// A place for a connection that came; waits while nobody can be asked to leave.
    pub(super) async fn seat(&self) -> io::Result<Seat> {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
                break permit;
            }
            self.ask_to_leave();
            if let Ok(permit) = timeout(LOOK_AGAIN, Arc::clone(&self.places).acquire_owned()).await {
                break permit.map_err(io::Error::other)?;
            }
        };
        let leave = Arc::new(Notify::new());
        let mut known = self.known();
        let number = known.next;
        known.next += 1;
        known.open.insert(number, Open { asked: None, leave: Arc::clone(&leave) });
        drop(known);
        Ok(Seat { asked: Asked { room: self.clone(), number }, leave, _permit: permit })
    }

    /// Ready once every place is free.
    pub(super) async fn is_empty(&self) {
        // Places are never closed.
        let _ = self.places.acquire_many(self.size).await;
    }

    fn ask_to_leave(&self) {
        let known = self.known();
        let silent = known.open.values().find(|open| open.asked.is_none());
        let long = |open: &&Open| open.asked.is_some_and(|asked| asked.elapsed() > PATIENCE);
        if let Some(open) = silent.or_else(|| known.open.values().find(long)) {
            open.leave.notify_one();
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken.
pub(super) struct Seat {
    asked: Asked,
    leave: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

impl Seat {
    /// What says whether its connection has a request under way.
    pub(super) fn asked(&self) -> Asked {
        self.asked.clone()
    }

    /// Keeps the place for a connection until it ends, or is to leave.
    pub(super) async fn hold(self, connection: impl Future<Output = ()>) {
        tokio::select! {
            () = connection => {}
            () = self.leave.notified() => {}
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.asked.room.known().open.remove(&self.asked.number);
    }
}

/// Says whether a connection has a request under way.
#[derive(Clone)]
pub(super) struct Asked {
    room: Room,
    number: u64,
}

impl Asked {
    /// A request came.
    pub(super) fn begin(&self) -> UnderWay {
        self.tell(Some(Instant::now()));
        UnderWay(self.clone())
    }

    fn tell(&self, asked: Option<Instant>) {
        if let Some(open) = self.room.known().open.get_mut(&self.number) {
            open.asked = asked;
        }
    }
}

/// A request under way, until dropped.
pub(super) struct UnderWay(Asked);

impl UnderWay {
    /// Until the whole answer was given to the connection.
    pub(super) fn until_sent(self, body: Body) -> Answer {
        Answer { body, _under_way: self }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.tell(None);
    }
}

/// The answer to a request under way.
pub(super) struct Answer {
    body: Body,
    _under_way: UnderWay,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
