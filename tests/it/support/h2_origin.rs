//! An in-process HTTP/2 origin with prior knowledge, on the h2 crate, and a client that sees trailers.
//!
//! It records what reached it and does what HTTP/2 servers do to proxies: refuses streams, says
//! GOAWAY, resets, answers with trailers alone. It must never answer what its paths do not script.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Gate, runtime};

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub method: String,
    pub uri: String,
    pub headers: HeaderMap,
    pub body: usize,
    pub trailers: Option<HeaderMap>,
    /// Which of the origin's connections it came on.
    pub connection: usize,
    /// END_STREAM came with the head.
    pub ended_at_head: bool,
}

#[derive(Default)]
struct State {
    seen: Mutex<Vec<Arrival>>,
    resets: Mutex<Vec<Reason>>,
    refused: Mutex<HashSet<String>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    streams: AtomicUsize,
    /// The gRPC status of `/call`.
    says: AtomicUsize,
}

/// A running origin; dropping it ends its connections.
pub struct H2Origin {
    pub addr: SocketAddr,
    state: Arc<State>,
    /// How often its connections were told to go away.
    goaway: watch::Sender<usize>,
    pub gate: Gate,
}

impl H2Origin {
    pub fn start() -> Self {
        Self::with(100)
    }

    /// An origin that allows this many streams on a connection.
    pub fn with(streams: u32) -> Self {
        let state = Arc::new(State::default());
        let (goaway, told) = watch::channel(0);
        let gate = Gate::closed();
        let listener = runtime().block_on(TcpListener::bind("127.0.0.1:0")).expect("a loopback port");
        let addr = listener.local_addr().expect("a bound address");
        runtime().spawn(accept(listener, Arc::clone(&state), told, gate.clone(), streams));
        Self { addr, state, goaway, gate }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    pub fn seen(&self) -> Vec<Arrival> {
        self.state.seen.lock().expect("seen").clone()
    }

    #[track_caller]
    pub fn last(&self) -> Arrival {
        self.seen().pop().expect("no request reached the origin")
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> usize {
        self.state.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.state.open.load(Ordering::SeqCst)
    }

    /// Streams begun.
    pub fn streams(&self) -> usize {
        self.state.streams.load(Ordering::SeqCst)
    }

    /// Reasons of the resets that came for `/hold` and `/hang`.
    pub fn resets(&self) -> Vec<Reason> {
        self.state.resets.lock().expect("resets").clone()
    }

    /// From now on `/call` ends with this gRPC status in its trailers.
    pub fn says(&self, status: usize) {
        self.state.says.store(status, Ordering::SeqCst);
    }

    /// Every open connection goes away when its streams are over.
    pub fn go_away(&self) {
        self.goaway.send_modify(|count| *count += 1);
    }
}

async fn accept(
    listener: TcpListener,
    state: Arc<State>,
    mut told: watch::Receiver<usize>,
    gate: Gate,
    streams: u32,
) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(_) => continue,
            },
            gone = told.changed() => if gone.is_err() { return } else { continue },
        };
        let _ = stream.set_nodelay(true);
        let (state, told, gate) = (Arc::clone(&state), told.clone(), gate.clone());
        tokio::spawn(async move {
            let number = state.connections.fetch_add(1, Ordering::SeqCst);
            state.open.fetch_add(1, Ordering::SeqCst);
            serve(stream, &state, told, &gate, streams, number).await;
            state.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

async fn serve(
    stream: TcpStream,
    state: &Arc<State>,
    mut told: watch::Receiver<usize>,
    gate: &Gate,
    streams: u32,
    number: usize,
) {
    let mut settings = server::Builder::new();
    settings.max_concurrent_streams(streams).max_concurrent_reset_streams(10_000);
    // What it bears itself is not what is tested.
    settings.max_pending_accept_reset_streams(10_000).data_frame_budget(64 << 20);
    let Ok(mut connection) = settings.handshake::<_, Bytes>(stream).await else { return };
    told.borrow_and_update();
    loop {
        tokio::select! {
            accepted = connection.accept() => match accepted {
                Some(Ok((request, respond))) => {
                    state.streams.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(answer(request, respond, Arc::clone(state), gate.clone(), number));
                }
                _ => return,
            },
            gone = told.changed() => match gone {
                Ok(()) => connection.graceful_shutdown(),
                Err(_) => return,
            },
        }
    }
}

fn head(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).expect("a head")
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    state: Arc<State>,
    gate: Gate,
    connection: usize,
) {
    let path = request.uri().path().to_owned();
    let words: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    let number = words.get(1).and_then(|word| word.parse::<usize>().ok()).unwrap_or(0);
    match words[0] {
        "refuse" if state.refused.lock().expect("refused").insert(path.clone()) => {
            return respond.send_reset(Reason::REFUSED_STREAM);
        }
        "reset" => return respond.send_reset(Reason::INTERNAL_ERROR),
        "hang" => {
            let reason = std::future::poll_fn(|cx| respond.poll_reset(cx)).await;
            state.resets.lock().expect("resets").extend(reason);
            return;
        }
        "hold" => {
            let Ok(mut stream) = respond.send_response(head(200), false) else { return };
            let _ = stream.send_data(Bytes::from_static(b"first"), false);
            let reason = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            state.resets.lock().expect("resets").extend(reason);
            return;
        }
        "cut" => {
            let mut reply = head(200);
            reply.headers_mut().insert("content-type", "application/grpc".parse().expect("a value"));
            let Ok(mut stream) = respond.send_response(reply, false) else { return };
            let _ = stream.send_data(Bytes::from_static(b"first"), false);
            // Once the client has seen the head and the byte.
            gate.opened().await;
            return stream.send_reset(Reason::INTERNAL_ERROR);
        }
        "gated" => gate.opened().await,
        _ => {}
    }
    if words[0] == "late" {
        // A reader that starts when everything is under way.
        gate.opened().await;
    }
    record(request, &state, connection).await;
    let status =
        |code: usize| HeaderMap::from_iter([(grpc_status(), code.to_string().parse().expect("a value"))]);
    match words[0] {
        "grpc-head" => {
            let mut reply = head(200);
            reply.headers_mut().extend(status(number));
            let _ = respond.send_response(reply, true);
        }
        "grpc" | "call" => {
            let number = if words[0] == "call" { state.says.load(Ordering::SeqCst) } else { number };
            let Ok(mut stream) = respond.send_response(head(200), false) else { return };
            let _ = stream.send_data(Bytes::from_static(b"message"), false);
            let _ = stream.send_trailers(status(number));
        }
        "download" => {
            let mut reply = head(200);
            reply.headers_mut().insert("content-length", number.into());
            let Ok(stream) = respond.send_response(reply, false) else { return };
            send(stream, vec![b'x'; number].into()).await;
        }
        "tiny" => {
            let Ok(mut stream) = respond.send_response(head(200), false) else { return };
            for _ in 0..number {
                if stream.send_data(Bytes::from_static(b"\0\0\0\0\x01x"), false).is_err() {
                    return;
                }
            }
            let _ = stream.send_trailers(status(0));
        }
        _ => {
            let mut reply = head(200);
            reply.headers_mut().insert("x-connection", connection.into());
            let Ok(mut stream) = respond.send_response(reply, false) else { return };
            let _ = stream.send_data(Bytes::from_static(b"ok"), true);
        }
    }
}

fn grpc_status() -> http::HeaderName {
    http::HeaderName::from_static("grpc-status")
}

async fn record(request: Request<RecvStream>, state: &State, connection: usize) {
    let (parts, mut body) = request.into_parts();
    let ended_at_head = body.is_end_stream();
    let mut size = 0;
    while let Some(Ok(data)) = body.data().await {
        size += data.len();
        let _ = body.flow_control().release_capacity(data.len());
    }
    let trailers = body.trailers().await.ok().flatten();
    state.seen.lock().expect("seen").push(Arrival {
        method: parts.method.to_string(),
        uri: parts.uri.to_string(),
        headers: parts.headers,
        body: size,
        trailers,
        connection,
        ended_at_head,
    });
}

/// Sends bytes as the peer takes them.
async fn send(mut stream: SendStream<Bytes>, mut data: Bytes) {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        if stream.capacity() == 0
            && !matches!(std::future::poll_fn(|cx| stream.poll_capacity(cx)).await, Some(Ok(_)))
        {
            return;
        }
        let piece = data.split_to(data.len().min(stream.capacity()));
        if stream.send_data(piece, false).is_err() {
            return;
        }
    }
    let _ = stream.send_data(Bytes::new(), true);
}

/// What a client of [`call`] got.
#[derive(Debug)]
pub struct Told {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    pub trailers: HeaderMap,
    /// The head was everything.
    pub head_alone: bool,
}

impl Told {
    /// The gRPC status, from wherever gRPC looks for it.
    pub fn grpc(&self) -> Option<&str> {
        let fields = if self.head_alone { &self.headers } else { &self.trailers };
        fields.get("grpc-status").and_then(|status| status.to_str().ok())
    }
}

/// An HTTP/2 client that shows resets and trailers.
#[derive(Clone)]
pub struct Caller(h2::client::SendRequest<Bytes>);

impl Caller {
    pub fn open(addr: SocketAddr) -> Self {
        runtime().block_on(Self::open_within(addr))
    }

    /// The same from within the runtime.
    pub async fn open_within(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.expect("connect");
        let mut settings = h2::client::Builder::new();
        settings.initial_window_size(4 << 20).initial_connection_window_size(16 << 20);
        // Its own cancels are not what is tested.
        settings.max_local_error_reset_streams(None).max_concurrent_reset_streams(10_000);
        let (sender, connection) = settings.handshake(stream).await.expect("a handshake");
        tokio::spawn(connection);
        Self(sender)
    }

    /// Begins an exchange; the stream sends the body.
    pub async fn begin(
        &self,
        request: Request<()>,
        ends: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let mut ready = self.0.clone().ready().await.expect("a connection");
        ready.send_request(request, ends).expect("a stream")
    }

    pub async fn call(
        &self,
        request: Request<()>,
        body: Option<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<Told, h2::Error> {
        let (response, mut stream) = self.begin(request, body.is_none() && trailers.is_none()).await;
        let upload = async move {
            if let Some(trailers) = trailers {
                let _ = stream.send_data(body.unwrap_or_default(), false);
                let _ = stream.send_trailers(trailers);
            } else if let Some(body) = body {
                send(stream, body).await;
            }
        };
        tokio::spawn(upload);
        told(response.await?).await
    }
}

pub async fn told(response: Response<RecvStream>) -> Result<Told, h2::Error> {
    let (head, mut body) = response.into_parts();
    let head_alone = body.is_end_stream();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        bytes.extend_from_slice(&data);
        let _ = body.flow_control().release_capacity(data.len());
    }
    let trailers = body.trailers().await?.unwrap_or_default();
    Ok(Told { status: head.status.as_u16(), headers: head.headers, body: bytes, trailers, head_alone })
}
