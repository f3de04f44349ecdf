//! One client connection from accept to close: protocol, requests, parking, end.
//!
//! An idle HTTP/1 connection is taken apart and waits as a bare socket, so that ten thousand of
//! them cost what their sockets cost. It must never hold a timer: the sweep wakes it.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;

use super::Handler;
use super::ending::linger;
use super::io::ClientIo;
use super::tls::{self, Shaken};
use super::transport::Transport;
use crate::certs::Served;
use crate::model::client::{Close, Phase};
use crate::model::time::CoarseClock;
use crate::model::{Client, RejectReason};

/// What opens an HTTP/2 connection with prior knowledge (RFC 9113 section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much one stream may send ahead of its reader: little, so that many can.
const STREAM_WINDOW: u32 = 256 << 10;
/// How much all streams of a connection may. The protocol library cuts connections that pile up many
/// small frames, and its patience grows with this window.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// Sent when a head or a body did not come in time.
const TIMEOUT_ANSWER: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// How a listener's connections are served.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Whether HTTP/2 with prior knowledge is accepted.
    pub h2c: bool,
    /// Request line and headers together, in bytes.
    pub header_bytes: usize,
    /// Concurrent HTTP/2 streams.
    pub streams: u32,
    /// Open connections of the listener in the process; 0 is no bound.
    pub connections: u32,
    /// Open connections of one address; 0 is no bound.
    pub connections_per_ip: u32,
}

/// Whether and how connections are encrypted.
#[derive(Clone, Debug)]
pub enum Encryption {
    /// They are not.
    None,
    /// With these certificates.
    Tls(Arc<Served>),
    /// They should be and cannot: nobody is served.
    Missing,
}

/// Everything a connection is served with.
#[derive(Debug)]
pub struct Serving<H> {
    /// Serves its requests.
    pub handler: Rc<H>,
    /// The worker's clock.
    pub clock: Rc<CoarseClock>,
    /// How.
    pub settings: Settings,
}

/// Serves one connection to its end.
pub async fn serve<H: Handler>(
    stream: TcpStream,
    client: Rc<Client>,
    serving: Serving<H>,
    encryption: Encryption,
) {
    let (transport, h2) = match encryption {
        Encryption::None => (Transport::Plain(stream), false),
        Encryption::Tls(served) => {
            let places = serving.handler.handshakes();
            match Box::pin(tls::begin(stream, &client, &served, places)).await {
                Shaken::Done(transport, h2) => {
                    client.ready(serving.clock.tick());
                    (transport, h2)
                }
                Shaken::Failed(reason, said) => {
                    return serving.handler.unshaken(&client, reason, said.as_ref());
                }
                Shaken::Silent => return,
            }
        }
        Encryption::Missing => return,
    };
    let mut io = ClientIo::new(transport, Rc::clone(&client), Rc::clone(&serving.clock));
    if h2 {
        return Box::pin(serve_h2(io, &client, &serving)).await;
    }
    if serving.settings.h2c {
        match speaks_h2(&mut io, &client, &serving.clock).await {
            Some(true) => return Box::pin(serve_h2(io, &client, &serving)).await,
            Some(false) => {}
            None => {
                if client.kill.get() == Some(Close::HeaderTimeout) {
                    serving.handler.refused(RejectReason::ClientTimeout);
                }
                return;
            }
        }
    }
    loop {
        if !io.has_ahead() && !readable(&mut io, &client).await {
            io.transport_mut().farewell();
            break;
        }
        match serve_h1(io, &client, &serving).await {
            Some(parked) => io = parked,
            None => return,
        }
    }
    if client.kill.get() == Some(Close::HeaderTimeout) {
        serving.handler.refused(RejectReason::ClientTimeout);
    }
}

/// Waits until bytes can be read; false when the connection was told to end.
async fn readable(io: &mut ClientIo, client: &Client) -> bool {
    poll_fn(|cx| {
        client.wake_with(cx.waker());
        if client.kill.get().is_some() {
            return Poll::Ready(false);
        }
        client.park.set(true);
        io.transport_mut().poll_readable(cx).map(|ready| ready.is_ok())
    })
    .await
}

/// Reads as few bytes as tell HTTP/2 from HTTP/1; `None` when the connection ended first.
async fn speaks_h2(io: &mut ClientIo, client: &Client, clock: &CoarseClock) -> Option<bool> {
    let mut read = BytesMut::with_capacity(PREFACE.len());
    loop {
        if !readable(io, client).await {
            return None;
        }
        let mut piece = [0_u8; 24];
        let room = PREFACE.len() - read.len();
        match io.tcp().try_read(&mut piece[..room]) {
            Ok(0) => return None,
            Ok(count) => {
                client.on_read(clock.tick());
                read.extend_from_slice(&piece[..count]);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return None,
        }
        let same = PREFACE.starts_with(&read);
        if !same || read.len() == PREFACE.len() {
            io.unread(read.freeze());
            return Some(same);
        }
    }
}

/// Serves HTTP/1 until the connection ends (`None`) or has been idle long enough to be parked.
async fn serve_h1<H: Handler>(io: ClientIo, client: &Rc<Client>, serving: &Serving<H>) -> Option<ClientIo> {
    client.park.set(false);
    let service = service_fn(|request| answer(serving, client, request));
    let mut http = Box::new(
        http1::Builder::new()
            .header_read_timeout(None)
            .max_buf_size(serving.settings.header_bytes.max(8192))
            .serve_connection(io, service),
    );
    let end = poll_fn(|cx| {
        client.wake_with(cx.waker());
        if let Some(close) = client.kill.get() {
            return Poll::Ready(End::Killed(close));
        }
        // With a body under way the parser knows what the bytes are, and nobody else does.
        if client.park.get() && client.phase().0 == Phase::Idle && !client.body_open() {
            return Poll::Ready(End::Parked);
        }
        Pin::new(&mut *http).poll(cx).map(End::Done)
    })
    .await;
    match end {
        End::Done(Ok(())) if client.tunnel.borrow().is_some() => {
            let parts = http.into_parts();
            let mut io = parts.io;
            if !parts.read_buf.is_empty() {
                io.unread(parts.read_buf);
            }
            tunnel(io, client, serving).await;
            None
        }
        End::Done(done) => {
            let malformed = done.as_ref().is_err_and(|error| error.is_parse() || error.is_parse_too_large());
            if malformed {
                serving.handler.refused(RejectReason::Malformed);
            }
            linger(http.into_parts().io, client, &serving.clock, malformed || done.is_ok()).await;
            None
        }
        End::Killed(close) => {
            let unanswered = client.is_unanswered();
            let mut io = http.into_parts().io;
            if close == Close::HeaderTimeout || close == Close::BodyTimeout && unanswered {
                serving.handler.refused(RejectReason::ClientTimeout);
                // Best effort: the client is told if its socket takes it at once.
                io.transport_mut().try_send(TIMEOUT_ANSWER);
            }
            if unanswered || client.phase().0 != Phase::Busy {
                io.transport_mut().farewell();
            }
            None
        }
        End::Parked => {
            let parts = http.into_parts();
            let mut io = parts.io;
            if !parts.read_buf.is_empty() {
                io.unread(parts.read_buf);
            }
            Some(io)
        }
    }
}

/// The connection is a tunnel to its end: busy, and out of the reach of timeouts of requests.
async fn tunnel<H: Handler>(io: ClientIo, client: &Rc<Client>, serving: &Serving<H>) {
    let Some(left) = client.tunnel.take() else { return };
    client.begin(serving.clock.tick(), false);
    client.answered();
    let (stream, ahead) = io.into_parts();
    // It ends itself when the connection is told to: both of its sides must hear of that.
    Rc::clone(&serving.handler).tunnel(left, stream, ahead).await;
    client.end(serving.clock.tick());
}

enum End {
    Done(hyper::Result<()>),
    Killed(Close),
    Parked,
}

/// Serves HTTP/2 to the connection's end.
async fn serve_h2<H: Handler>(mut io: ClientIo, client: &Rc<Client>, serving: &Serving<H>) {
    client.multiplex(serving.clock.tick());
    io.watch_frames();
    let handler = Rc::clone(&serving.handler);
    let (clock, owner) = (Rc::clone(&serving.clock), Rc::clone(client));
    let service = service_fn(move |request| {
        let serving =
            Serving { handler: Rc::clone(&handler), clock: Rc::clone(&clock), settings: serving.settings };
        let client = Rc::clone(&owner);
        async move { answer(&serving, &client, request).await }
    });
    let mut http = Box::pin(
        http2::Builder::new(LocalExecutor)
            .timer(TokioTimer::new())
            .max_concurrent_streams(serving.settings.streams)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(u32::try_from(serving.settings.header_bytes).unwrap_or(u32::MAX))
            .serve_connection(io, service),
    );
    let mut going = false;
    poll_fn(|cx| {
        client.wake_with(cx.waker());
        if client.kill.get().is_some() {
            return Poll::Ready(());
        }
        if client.closing.get() && !going {
            going = true;
            http.as_mut().graceful_shutdown();
        }
        http.as_mut().poll(cx).map(|_| ())
    })
    .await;
    if client.kill.get() == Some(Close::Flood) {
        serving.handler.refused(RejectReason::Malformed);
    }
    if matches!(client.kill.get(), Some(Close::HeaderTimeout | Close::BodyTimeout)) {
        serving.handler.refused(RejectReason::ClientTimeout);
    }
}

/// One request: the connection is busy until the response body is gone.
fn answer<H: Handler>(
    serving: &Serving<H>,
    client: &Rc<Client>,
    request: Request<Incoming>,
) -> Answering<impl Future<Output = Response<H::Body>> + use<H>> {
    client.begin(serving.clock.tick(), !request.body().is_end_stream());
    let busy = Busy {
        client: Rc::clone(client),
        clock: Rc::clone(&serving.clock),
        unanswered: true,
        untaken: false,
    };
    let response = Rc::clone(&serving.handler).handle(Rc::clone(client), request);
    Answering { response, busy: Some(busy) }
}

pin_project_lite::pin_project! {
    /// A response on its way. Written by hand: an async block would hold the handler's future
    /// twice, and hyper copies it for every request.
    struct Answering<F> {
        #[pin]
        response: F,
        busy: Option<Busy>,
    }
}

impl<F: Future<Output = Response<B>>, B> Future for Answering<F> {
    type Output = Result<Response<Tracked<B>>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        this.response.poll(cx).map(|response| {
            this.busy.iter_mut().for_each(Busy::answered);
            Ok(response.map(|body| Tracked { body, busy: this.busy.take() }))
        })
    }
}

/// Marks an exchange's end on its connection.
struct Busy {
    client: Rc<Client>,
    clock: Rc<CoarseClock>,
    unanswered: bool,
    /// Whether bytes wait for room in the client's window; only where there are windows.
    untaken: bool,
}

impl Busy {
    fn answered(&mut self) {
        if std::mem::take(&mut self.unanswered) {
            self.client.answered();
            self.untaken(true);
        }
    }

    fn untaken(&mut self, waiting: bool) {
        if self.client.is_multiplexed() && self.untaken != waiting {
            self.untaken = waiting;
            self.client.on_window(waiting, self.clock.tick());
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.answered();
        self.untaken(false);
        self.client.end(self.clock.tick());
    }
}

pin_project_lite::pin_project! {
    /// A response body whose end is the exchange's end.
    struct Tracked<B> {
        #[pin]
        body: B,
        busy: Option<Busy>,
    }
}

impl<B: Body<Data = Bytes>> Body for Tracked<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        // Whoever asks for more has found room for what it got.
        this.busy.iter_mut().for_each(|busy| busy.untaken(false));
        let polled = this.body.poll_frame(cx);
        if matches!(polled, Poll::Ready(Some(_))) {
            this.busy.iter_mut().for_each(|busy| busy.untaken(true));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs HTTP/2 streams on the worker's own thread.
#[derive(Clone, Copy, Debug)]
struct LocalExecutor;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
