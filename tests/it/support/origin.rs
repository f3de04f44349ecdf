//! An in-process HTTP/1.1 origin that records what reached it and misbehaves on demand.
//!
//! It shows what the proxy really sent upstream, and plays the slow, endless and silent servers
//! that a real nginx cannot be configured to be. It must never answer anything the test did not
//! script, and never listen beyond loopback.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

use super::{eventually, runtime};

/// How many requests one origin remembers; load tests only need the counter.
const REMEMBERED: usize = 20_000;
const PIECE: usize = 64 * 1024;
/// How far a scripted stream may run ahead of its reader.
const STREAM_QUEUE: usize = 1;

type Reply = http::Response<BoxBody<Bytes, Infallible>>;

/// What an origin does on a path.
#[derive(Clone)]
pub enum Behaviour {
    /// 200 with a JSON description of the request; the default everywhere.
    Echo,
    /// A fixed status and body.
    Answer(u16, &'static str),
    /// Echo, but only once the gate opens.
    Gated(Gate),
    /// Echo after this long: for servers that are slow, not for ordering.
    Late(Duration),
    /// Never answers at all.
    Hang,
    /// Numbered lines of this content type, one per interval, until the gate opens.
    Lines(&'static str, Duration, Gate),
    /// One line, then silence without an end.
    Stall,
    /// A body of this many bytes with a content-length.
    Download(u64),
    /// Sends every piece of the request body back as it arrives.
    Loopback,
    /// Sends the request body back once all of it is there.
    Return,
    /// Reads the body piece by piece, counting, and answers with the count.
    Swallow,
}

/// Something a test opens exactly once.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn closed() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    fn is_open(&self) -> bool {
        *self.0.borrow()
    }

    pub async fn opened(&self) {
        let mut gate = self.0.subscribe();
        // The sender lives as long as self, so waiting cannot fail.
        let _ = gate.wait_for(|open| *open).await;
    }
}

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub target: String,
    pub version: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Seen {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub fn joined(&self, name: &str) -> Option<String> {
        super::client::joined(&self.headers, name)
    }

    /// How many separate lines a header came in.
    pub fn lines(&self, name: &str) -> usize {
        self.headers.iter().filter(|(known, _)| known == name).count()
    }
}

#[derive(Default)]
struct State {
    name: String,
    behaviours: Mutex<HashMap<String, Behaviour>>,
    seen: Mutex<Vec<Seen>>,
    requests: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    abandoned: AtomicUsize,
    received: AtomicUsize,
}

/// The `upstreams:` line of a configuration in which every origin has its own name.
pub fn upstreams(origins: &[&Origin]) -> String {
    let entries: Vec<_> =
        origins.iter().map(|origin| format!("{}: \"{}\"", origin.state.name, origin.url())).collect();
    format!("upstreams: {{ {} }}\n", entries.join(", "))
}

/// A running origin; dropping it stops accepting.
pub struct Origin {
    pub addr: SocketAddr,
    state: Arc<State>,
    stop: watch::Sender<bool>,
}

impl Origin {
    pub fn start(name: &str) -> Self {
        Self::start_on(name, SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// At an address of the test's own, on loopback.
    pub fn start_on(name: &str, addr: SocketAddr) -> Self {
        let state = Arc::new(State { name: name.to_owned(), ..State::default() });
        let (stop, stopped) = watch::channel(false);
        let listener = runtime().block_on(TcpListener::bind(addr)).expect("a loopback port for an origin");
        let addr = listener.local_addr().expect("a bound address");
        runtime().spawn(accept(listener, Arc::clone(&state), stopped));
        Self { addr, state, stop }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn on(&self, path: &str, behaviour: Behaviour) -> &Self {
        let mut behaviours = self.state.behaviours.lock().expect("behaviours");
        behaviours.insert(path.to_owned(), behaviour);
        self
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().expect("seen").clone()
    }

    #[track_caller]
    pub fn last(&self) -> Seen {
        self.seen().pop().expect("no request reached the origin")
    }

    pub fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Exchanges the proxy walked away from before their answer was complete.
    pub fn abandoned(&self) -> usize {
        self.state.abandoned.load(Ordering::SeqCst)
    }

    /// Request body bytes that arrived at `Swallow` and `Loopback` so far.
    pub fn received(&self) -> usize {
        self.state.received.load(Ordering::SeqCst)
    }

    #[track_caller]
    pub fn await_requests(&self, count: usize) {
        eventually(&format!("{count} requests reached the origin"), || self.requests() >= count);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>, mut stopped: watch::Receiver<bool>) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            _ = stopped.changed() => return,
        };
        let _ = stream.set_nodelay(true);
        state.connections.fetch_add(1, Ordering::SeqCst);
        state.open.fetch_add(1, Ordering::SeqCst);
        let (state, mut stopped) = (Arc::clone(&state), stopped.clone());
        tokio::spawn(async move {
            let counted = Arc::clone(&state);
            let service = service_fn(move |request| answer(Arc::clone(&state), request));
            let conn =
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // A proxy that walks away mid-answer is an error here and a fact under test elsewhere.
                _ = conn => {}
                _ = stopped.changed() => {}
            }
            counted.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Counts an exchange as abandoned unless its answer is known to be complete.
struct Watched {
    state: Arc<State>,
    complete: bool,
}

impl Watched {
    fn done(mut self) {
        self.complete = true;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.complete {
            self.state.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

async fn answer(state: Arc<State>, request: http::Request<Incoming>) -> Result<Reply, Infallible> {
    state.requests.fetch_add(1, Ordering::SeqCst);
    let behaviour = {
        let behaviours = state.behaviours.lock().expect("behaviours");
        behaviours.get(request.uri().path()).cloned()
    };
    let watched = Watched { state: Arc::clone(&state), complete: false };
    let reply = match behaviour.unwrap_or(Behaviour::Echo) {
        Behaviour::Echo => echo(&state, request).await,
        Behaviour::Answer(status, body) => {
            echo(&state, request).await;
            let mut reply = whole(&state, body.as_bytes().to_vec());
            *reply.status_mut() = http::StatusCode::from_u16(status).expect("a scripted status");
            reply
        }
        Behaviour::Gated(gate) => {
            gate.opened().await;
            echo(&state, request).await
        }
        Behaviour::Late(delay) => {
            tokio::time::sleep(delay).await;
            echo(&state, request).await
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Lines(kind, every, gate) => {
            echo(&state, request).await;
            return Ok(lines(watched, kind, every, gate));
        }
        Behaviour::Stall => {
            echo(&state, request).await;
            return Ok(lines(watched, "text/plain", Duration::MAX, Gate::closed()));
        }
        Behaviour::Download(size) => return Ok(download(watched, size)),
        Behaviour::Loopback => return Ok(loopback(watched, request.into_body())),
        Behaviour::Return => returned(&state, request.into_body()).await,
        Behaviour::Swallow => swallow(&state, request.into_body()).await,
    };
    watched.done();
    Ok(reply)
}

async fn echo(state: &State, request: http::Request<Incoming>) -> Reply {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(collected) => collected.to_bytes().to_vec(),
        Err(_) => Vec::new(),
    };
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        version: format!("{:?}", head.version),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect(),
        body,
    };
    let mut reply = whole(state, description(state, &seen).to_string().into_bytes());
    for (name, value) in seen.headers.iter().filter(|(name, _)| name == "x-answer-with") {
        let (name, value) = value.split_once(": ").unwrap_or((name, value));
        reply.headers_mut().append(
            http::HeaderName::try_from(name).expect("a scripted header name"),
            http::HeaderValue::try_from(value).expect("a scripted header value"),
        );
    }
    let mut all = state.seen.lock().expect("seen");
    if all.len() < REMEMBERED {
        all.push(seen);
    }
    reply
}

fn description(state: &State, seen: &Seen) -> Value {
    json!({
        "origin": state.name,
        "method": seen.method,
        "target": seen.target,
        "headers": seen.headers,
        "body": String::from_utf8_lossy(&seen.body),
    })
}

fn whole(state: &State, body: Vec<u8>) -> Reply {
    headed(state, Full::new(Bytes::from(body)).boxed())
}

fn headed(state: &State, body: BoxBody<Bytes, Infallible>) -> Reply {
    http::Response::builder().header("x-origin", &state.name).body(body).expect("a valid answer")
}

fn lines(watched: Watched, kind: &'static str, every: Duration, gate: Gate) -> Reply {
    let state = Arc::clone(&watched.state);
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    tokio::spawn(async move {
        for number in 0_u64.. {
            if gate.is_open() {
                watched.done();
                return;
            }
            let line = Bytes::from(format!("data: {number}\n\n"));
            if sender.send(line).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(every) => {}
                () = gate.opened() => {}
                () = sender.closed() => return,
            }
        }
    });
    let mut reply = headed(&state, streamed(receiver, None));
    let kind = http::HeaderValue::from_static(kind);
    reply.headers_mut().insert("content-type", kind);
    reply
}

fn download(watched: Watched, size: u64) -> Reply {
    let state = Arc::clone(&watched.state);
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    tokio::spawn(async move {
        let full = Bytes::from(vec![b'd'; PIECE]);
        let mut left = size;
        while left > 0 {
            let piece = full.slice(..usize::try_from(left).unwrap_or(PIECE).min(PIECE));
            left -= piece.len() as u64;
            if sender.send(piece).await.is_err() {
                return;
            }
        }
        watched.done();
    });
    headed(&state, streamed(receiver, Some(size)))
}

fn loopback(watched: Watched, mut body: Incoming) -> Reply {
    let state = Arc::clone(&watched.state);
    let (sender, receiver) = mpsc::channel(STREAM_QUEUE);
    tokio::spawn(async move {
        while let Some(frame) = body.frame().await {
            let Some(data) = frame.ok().and_then(|frame| frame.into_data().ok()) else {
                return;
            };
            watched.state.received.fetch_add(data.len(), Ordering::SeqCst);
            if sender.send(data).await.is_err() {
                return;
            }
        }
        watched.done();
    });
    headed(&state, streamed(receiver, None))
}

async fn returned(state: &State, body: Incoming) -> Reply {
    let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    state.received.fetch_add(body.len(), Ordering::SeqCst);
    whole(state, body.to_vec())
}

async fn swallow(state: &State, mut body: Incoming) -> Reply {
    let mut total = 0;
    while let Some(Ok(frame)) = body.frame().await {
        let size = frame.data_ref().map_or(0, Bytes::len);
        total += size;
        state.received.fetch_add(size, Ordering::SeqCst);
    }
    whole(state, total.to_string().into_bytes())
}

fn streamed(receiver: mpsc::Receiver<Bytes>, left: Option<u64>) -> BoxBody<Bytes, Infallible> {
    Streamed { receiver, left }.boxed()
}

/// A body fed by a task; `left` makes it a body of known length.
struct Streamed {
    receiver: mpsc::Receiver<Bytes>,
    left: Option<u64>,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let polled = self.receiver.poll_recv(context);
        if let (Poll::Ready(Some(piece)), Some(left)) = (&polled, &mut self.left) {
            *left -= piece.len() as u64;
        }
        polled.map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
