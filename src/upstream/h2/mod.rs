//! HTTP/2 towards origins: one connection carries many exchanges of one worker.
//!
//! It stands on the h2 crate itself, because what may be sent again, how far an origin may run
//! ahead and which of our cancels count against us is decided by errors and settings that a ready
//! client hides. It must never repeat a request, nor let one stream's end touch another's.

mod body;
mod fault;
mod head;
mod keep_alive;
mod pool;
mod upload;

use std::cell::{Cell, OnceCell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{Builder, Connection, ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::uri::Scheme;
use http::{Request, Response, StatusCode};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;

pub use body::StreamBody;
pub use pool::{MAX_SESSIONS, Sessions};

use super::deadline::Deadlines;
use super::destinations::Spot;
use super::pool::Refused;
use crate::model::FailureReason;
use crate::model::time::Tick;
use fault::Fault;
use keep_alive::KeepAlive;
use upload::Upload;

/// Most exchanges at once on one connection, whatever the origin allows.
pub const MAX_STREAMS: usize = 256;
/// Bytes of a response that an origin may send ahead of its reader.
const STREAM_WINDOW: u32 = 128 << 10;
/// Bytes of all responses of a connection that an origin may send ahead of their readers: as many as all
/// of them together, so that no client that does not read keeps the answers of others back.
const CONNECTION_WINDOW: u32 = 256 * STREAM_WINDOW;
const _: () = assert!(CONNECTION_WINDOW as usize / STREAM_WINDOW as usize >= MAX_STREAMS);
/// Bytes of a request handed to the connection and not yet written.
const SEND_BUFFER: usize = 256 << 10;
/// Largest response head, in bytes as RFC 9113 section 6.5.2 counts them.
const HEAD_BYTES: u32 = 32 << 10;
/// What small unread DATA frames may cost a connection: 256 bytes less their length each, so about
/// 130,000 of the smallest. Half the window, which is the default, cuts a healthy gRPC stream of tiny
/// messages as soon as its reader is slow.
const SMALL_FRAMES: usize = 32 << 20;
/// Cancelled streams remembered, so that what the origin still sends for them is ignored in silence.
const REMEMBERED_CANCELS: usize = 8192;
/// Interim responses (1xx) before the final one.
const MAX_INTERIMS: u32 = crate::model::bounds::INTERIMS;

/// One HTTP/2 connection to an endpoint. Dropped, it closes when its last exchange is over.
#[derive(Debug)]
pub struct Session {
    sender: RefCell<SendRequest<Bytes>>,
    state: Rc<State>,
    deadlines: Rc<Deadlines>,
    born: Tick,
    /// Where it leads, and whether it is secured.
    place: OnceCell<(Rc<Spot>, bool)>,
}

/// What a connection's task and its exchanges tell each other.
#[derive(Debug)]
struct State {
    closed: Cell<bool>,
    in_flight: Cell<usize>,
    used: Cell<Tick>,
    /// Bytes given to the transport.
    written: Rc<Cell<u64>>,
    /// Told of room for another exchange, and of the connection's end.
    room: Rc<Notify>,
}

impl Session {
    /// Opens a connection with prior knowledge and waits for the origin's settings, so that a peer
    /// that does not speak HTTP/2 is found out before any request is given to it. `room` is told
    /// whenever an exchange or the connection ends.
    ///
    /// # Errors
    /// The peer closed, or answered in another protocol.
    pub async fn open<S>(stream: S, deadlines: &Rc<Deadlines>, room: &Rc<Notify>) -> io::Result<Rc<Self>>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let written = Rc::new(Cell::new(0));
        let io = Counted { inner: stream, written: Rc::clone(&written) };
        let (sender, mut connection) = settings().handshake(io).await.map_err(into_io)?;
        poll_fn(|cx| greeted(&mut connection, cx)).await?;
        let now = deadlines.clock().tick();
        let state = Rc::new(State {
            closed: Cell::new(false),
            in_flight: Cell::new(0),
            used: Cell::new(now),
            written,
            room: Rc::clone(room),
        });
        let pings = KeepAlive::new(connection.ping_pong(), deadlines);
        tokio::task::spawn_local(serve(connection, pings, Rc::clone(&state)));
        let (sender, deadlines, place) = (RefCell::new(sender), Rc::clone(deadlines), OnceCell::new());
        Ok(Rc::new(Self { sender, state, deadlines, born: now, place }))
    }

    /// Says where it leads, and whether TLS secures it; the first word counts.
    pub fn is_at(&self, spot: &Rc<Spot>, secured: bool) {
        // Another word was first: it stays.
        let _ = self.place.set((Rc::clone(spot), secured));
    }

    /// When it was opened.
    #[must_use]
    pub fn born(&self) -> Tick {
        self.born
    }

    /// Whether the connection is gone.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.state.closed.get()
    }

    /// Whether the connection takes no more exchanges: it or its address is gone, or the origin said
    /// GOAWAY.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        let cx = &mut Context::from_waker(Waker::noop());
        let gone = self.place.get().is_some_and(|(spot, _)| spot.is_gone());
        gone || self.is_closed() || matches!(self.sender.borrow_mut().poll_ready(cx), Poll::Ready(Err(_)))
    }

    /// Whether it may take one more exchange.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let allowed = self.sender.borrow().current_max_send_streams().min(MAX_STREAMS);
        self.in_flight() < allowed && !self.is_leaving()
    }

    /// Exchanges under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.state.in_flight.get()
    }

    /// Since when it has no exchange; `None` while it has one.
    #[must_use]
    pub fn idle_since(&self) -> Option<Tick> {
        (self.in_flight() == 0).then(|| self.state.used.get())
    }

    /// Sends a request and waits for the response head, sending the body meanwhile and, if it is
    /// not through by then, for as long as the response lasts. The request is taken out of
    /// `outgoing`, and put back when it can be sent again: no byte of a body was taken. `sent` is
    /// called when it goes out; a refusal that says unsent means that the origin provably did not
    /// process the request (RFC 9113 section 8.7).
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn send<B>(
        self: &Rc<Self>,
        outgoing: &mut Option<Request<B>>,
        sent: impl Fn(),
    ) -> Result<Response<StreamBody>, Refused>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
    {
        let Some(request) = outgoing.take() else {
            let cause = "nothing to send".to_owned();
            return Err(Refused { reason: FailureReason::Reset, cause, unsent: true, answered: false });
        };
        let (parts, body) = request.into_parts();
        let flight = Flight::new(self);
        let mark = self.state.written.get();
        let secured = self.place.get().is_some_and(|(_, secured)| *secured);
        let scheme = if secured { Scheme::HTTPS } else { Scheme::HTTP };
        let (response, stream) = match self.begin(head::up(&parts, scheme), body.is_end_stream()) {
            Ok(begun) => begun,
            Err(error) => {
                let fault = Fault::of(&error, true);
                return Err(fault.refuse(outgoing, parts, Some(body)));
            }
        };
        sent();
        let mut awaited = Awaited { response, upload: Upload::new(body, stream), interims: 0 };
        match poll_fn(|cx| awaited.poll(cx)).await {
            Ok(response) => {
                let rest = awaited.upload.go_on();
                Ok(response.map(|(recv, length)| StreamBody::new(recv, length, flight, rest)))
            }
            Err(mut fault) => {
                // Without one byte written since, the request never left.
                fault.unprocessed |= self.is_closed() && self.state.written.get() == mark;
                Err(fault.refuse(outgoing, parts, awaited.upload.untouched()))
            }
        }
    }

    fn begin(
        &self,
        head: Request<()>,
        ends: bool,
    ) -> Result<(ResponseFuture, Option<SendStream<Bytes>>), h2::Error> {
        // A clone, for a handle remembers a stream that waits and then takes no other.
        let mut sender = self.sender.borrow().clone();
        let (response, stream) = sender.send_request(head, ends)?;
        Ok((response, (!ends).then_some(stream)))
    }
}

/// A response head under way, with the request body.
struct Awaited<B> {
    response: ResponseFuture,
    upload: Upload<B>,
    interims: u32,
}

type Head = Response<(RecvStream, Option<u64>)>;

impl<B: Body<Data = Bytes> + Unpin> Awaited<B> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Head, Fault>> {
        let _ = self.upload.poll(cx);
        while let Poll::Ready(Some(interim)) = self.response.poll_informational(cx) {
            let interim = interim.map_err(|error| Fault::of(&error, false))?;
            self.interims += 1;
            if interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Err(Fault::bad("101, which HTTP/2 does not have")));
            }
            if self.interims > MAX_INTERIMS {
                return Poll::Ready(Err(Fault::bad("too many interim responses")));
            }
        }
        let response =
            ready!(Pin::new(&mut self.response).poll(cx)).map_err(|error| Fault::of(&error, false))?;
        if response.status().as_u16() > 599 {
            return Poll::Ready(Err(Fault::bad("a status nobody defined")));
        }
        let length = head::length(response.headers());
        Poll::Ready(Ok(response.map(|recv| (recv, length))))
    }
}

/// Counts an exchange on its connection.
#[derive(Debug)]
struct Flight(Rc<Session>);

impl Flight {
    fn new(session: &Rc<Session>) -> Self {
        let in_flight = &session.state.in_flight;
        in_flight.set(in_flight.get() + 1);
        Self(Rc::clone(session))
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let state = &self.0.state;
        state.in_flight.set(state.in_flight.get().saturating_sub(1));
        state.used.set(self.0.deadlines.clock().tick());
        state.room.notify_one();
    }
}

fn settings() -> Builder {
    let mut settings = Builder::new();
    settings
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER)
        .data_frame_budget(SMALL_FRAMES)
        // Until the origin's settings came: that is how they are noticed.
        .initial_max_send_streams(0)
        .max_concurrent_reset_streams(REMEMBERED_CANCELS)
        // Frames for streams that we cancelled count as the origin's errors: no bound on them, or
        // clients that leave would get a connection cut that others use.
        .max_local_error_reset_streams(None);
    settings
}

/// Ready once the origin's settings came.
fn greeted<S>(connection: &mut Connection<Counted<S>, Bytes>, cx: &mut Context<'_>) -> Poll<io::Result<()>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match Pin::new(&mut *connection).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(Err(io::Error::from(io::ErrorKind::UnexpectedEof))),
        Poll::Ready(Err(error)) => Poll::Ready(Err(into_io(error))),
        Poll::Pending if connection.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
        Poll::Pending => Poll::Pending,
    }
}

/// Drives a connection to its end.
async fn serve<S>(mut connection: Connection<Counted<S>, Bytes>, mut pings: KeepAlive, state: Rc<State>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        if Pin::new(&mut connection).poll(cx).is_ready() {
            return Poll::Ready(());
        }
        pings.poll_dead(cx, state.in_flight.get() > 0)
    })
    .await;
    // First, so that whoever hears of a stream's end knows why.
    state.closed.set(true);
    drop(connection);
    state.room.notify_waiters();
}

fn into_io(error: h2::Error) -> io::Error {
    if error.is_io() {
        return error.into_io().unwrap_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe));
    }
    io::Error::new(io::ErrorKind::InvalidData, error)
}

pin_project_lite::pin_project! {
    /// A transport that counts what it took: a request is unsent for certain while the count stands.
    struct Counted<S> {
        #[pin]
        inner: S,
        written: Rc<Cell<u64>>,
    }
}

impl<S: AsyncRead> AsyncRead for Counted<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_read(cx, buf)
    }
}

impl<S: AsyncWrite> AsyncWrite for Counted<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.project();
        let taken = ready!(this.inner.poll_write(cx, buf))?;
        this.written.set(this.written.get() + taken as u64);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().inner.poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.project();
        let taken = ready!(this.inner.poll_write_vectored(cx, bufs))?;
        this.written.set(this.written.get() + taken as u64);
        Poll::Ready(Ok(taken))
    }
}

#[cfg(test)]
mod tests;
