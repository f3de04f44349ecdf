//! A bounded stream of users over keep-alive connections, each remembering which version it saw.
//!
//! It must never send faster than its pace, and counts a closed connection as a failure.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// Connections, each its own stream of requests.
const CONNECTIONS: u32 = 8;
/// Distinct users.
const USERS: u32 = 1_000;
/// Pause between two requests of one connection: about 600 requests a second in all.
const PACE: Duration = Duration::from_millis(13);

/// What the users saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// Requests answered.
    pub requests: u64,
    /// Requests not answered with 200.
    pub failed: u64,
    /// Connections the proxy closed.
    pub closed: u64,
    /// Users that moved from v1 to v2.
    pub moved_on: u64,
    /// Users that moved from v2 back to v1.
    pub moved_back: u64,
    /// Version each user saw last.
    seen: HashMap<u32, bool>,
}

impl Tally {
    fn note(&mut self, user: u32, canary: bool) {
        self.requests += 1;
        match self.seen.insert(user, canary) {
            Some(false) if canary => self.moved_on += 1,
            Some(true) if !canary => self.moved_back += 1,
            _ => {}
        }
    }

    /// Users seen, and how many of them are on v2.
    pub(super) fn users(&self) -> (usize, usize) {
        (self.seen.len(), self.seen.values().filter(|canary| **canary).count())
    }
}

/// The users at work.
pub(super) struct Crowd {
    tally: Arc<Mutex<Tally>>,
    over: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Crowd {
    /// Starts the stream.
    pub(super) fn gather(proxy: SocketAddr) -> Self {
        let tally = Arc::new(Mutex::new(Tally::default()));
        let over = Arc::new(AtomicBool::new(false));
        let tasks = (0..CONNECTIONS)
            .map(|lane| tokio::spawn(stream(proxy, lane, Arc::clone(&tally), Arc::clone(&over))))
            .collect();
        Self { tally, over, tasks }
    }

    /// What they saw so far.
    pub(super) fn tally(&self) -> Tally {
        locked(&self.tally).clone()
    }

    /// Ends the stream after the requests under way.
    pub(super) async fn disperse(self) -> Tally {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            // A task that panicked would have left its failure in the tally's silence.
            let _ = task.await;
        }
        locked(&self.tally).clone()
    }
}

fn locked(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn stream(proxy: SocketAddr, lane: u32, tally: Arc<Mutex<Tally>>, over: Arc<AtomicBool>) {
    let mut sender = None;
    let mut user = lane;
    while !over.load(Ordering::Relaxed) {
        tokio::time::sleep(PACE).await;
        user = (user + CONNECTIONS) % USERS;
        if sender.is_none() {
            sender = connect(proxy).await;
        }
        let Some(open) = sender.as_mut() else {
            locked(&tally).failed += 1;
            continue;
        };
        match ask(open, proxy, user).await {
            Some(canary) => locked(&tally).note(user, canary),
            None => {
                let mut tally = locked(&tally);
                tally.failed += 1;
                if open.is_closed() {
                    tally.closed += 1;
                    sender = None;
                }
            }
        }
    }
}

async fn connect(proxy: SocketAddr) -> Option<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(proxy).await.ok()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// Sends one request; whether v2 answered, or `None` when nobody did.
async fn ask(sender: &mut SendRequest<Empty<Bytes>>, proxy: SocketAddr, user: u32) -> Option<bool> {
    sender.ready().await.ok()?;
    let request = Request::get("/")
        .header("host", proxy.to_string())
        .header("x-user-id", format!("u{user}"))
        .body(Empty::new())
        .ok()?;
    let response = sender.send_request(request).await.ok()?;
    let canary = response.headers().get("x-version").map(|version| version == "v2")?;
    let good = response.status().is_success();
    response.into_body().collect().await.ok()?;
    good.then_some(canary)
}
