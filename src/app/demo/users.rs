//! A bounded stream of users over keep-alive connections, each user always on the same connection.
//!
//! It must never send faster than its pace, and counts a closed connection against the proxy.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::origin::{VERSION, WAS_SLOW};
use super::tally::{Answer, Tally};

/// Connections, each its own stream of requests.
pub(super) const CONNECTIONS: u32 = 8;
/// Distinct users: on a sticky route a user is evidence once per step, so there must be many.
pub(super) const USERS: u32 = 20_000;
/// Time between two requests of one connection: 800 requests a second in all, or what the machine can.
const PACE: Duration = Duration::from_millis(10);

/// What all streams share.
#[derive(Default)]
struct Shared {
    tally: Mutex<Tally>,
    over: AtomicBool,
    promoted: AtomicUsize,
}

impl Shared {
    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The users at work.
pub(super) struct Crowd {
    shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Starts the stream.
    pub(super) fn gather(proxy: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let tasks = (0..CONNECTIONS).map(|lane| tokio::spawn(stream(proxy, lane, Arc::clone(&shared))));
        Self { tasks: tasks.collect(), shared }
    }

    /// Reads what they saw so far.
    pub(super) fn look<T>(&self, read: impl FnOnce(&Tally) -> T) -> T {
        read(&self.shared.tally())
    }

    /// Says that from now on nobody may see an older version than this.
    pub(super) fn promoted(&self, version: usize) {
        self.shared.promoted.store(version, Ordering::SeqCst);
    }

    /// Ends the stream after the requests under way.
    pub(super) async fn disperse(self) -> Tally {
        self.shared.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A task that panicked would have left its failure in the tally's silence.
            let _ = task.await;
        }
        self.shared.tally().clone()
    }
}

async fn stream(proxy: SocketAddr, lane: u32, shared: Arc<Shared>) {
    let mut pace = tokio::time::interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sender = None;
    let mut user = lane;
    while !shared.over.load(Ordering::Relaxed) {
        pace.tick().await;
        user = (user + CONNECTIONS) % USERS;
        if sender.is_none() {
            sender = connect(proxy).await;
        }
        let Some(open) = sender.as_mut() else {
            shared.tally().foreign += 1;
            continue;
        };
        let promoted = shared.promoted.load(Ordering::SeqCst);
        let answer = ask(open, proxy, user).await;
        let mut tally = shared.tally();
        match answer {
            Some(answer) => tally.note(user, answer, promoted),
            None => tally.foreign += 1,
        }
        if open.is_closed() {
            tally.closed += 1;
            sender = None;
        }
    }
}

async fn connect(proxy: SocketAddr) -> Option<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(proxy).await.ok()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Sends one request; what a version answered, or `None` when none did.
async fn ask(sender: &mut SendRequest<Empty<Bytes>>, proxy: SocketAddr, user: u32) -> Option<Answer> {
    sender.ready().await.ok()?;
    let request = Request::get("/")
        .header("host", proxy.to_string())
        .header("x-user-id", format!("u{user}"))
        .body(Empty::new())
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    let good = response.status().is_success();
    let headers = response.headers();
    let version = headers.get(VERSION).and_then(|version| version.to_str().ok()?.parse().ok());
    let slow = headers.contains_key(WAS_SLOW);
    response.into_body().collect().await.ok()?;
    Some(Answer { version: version?, good, slow })
}
