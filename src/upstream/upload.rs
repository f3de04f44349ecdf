//! A request body on its way upstream, watched for who is late and who broke it.
//!
//! It exists so that a client's fault is never charged to an arm. It must never buffer a frame.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::fmt::Debug;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::deadline::Deadlines;
use super::replay::Cursor;
use crate::ledger::UpstreamCell;
use crate::model::trailers::Announced;
use crate::model::{Client, WorkerId};

/// Most bytes of a request body read only to be thrown away.
pub const DRAIN_BYTES: u64 = 256 << 10;

/// The body of a request.
#[derive(Debug)]
pub enum RequestBody {
    /// Nothing to send.
    Empty,
    /// Nothing to send, and the connection is asked to become a tunnel.
    Tunnel,
    /// The client's body as it comes.
    Streaming(Incoming, Rc<Upload>),
    /// A body held in memory.
    Kept(VecDeque<Bytes>),
    /// The client's body as it comes, kept so that it can be sent again.
    Again(Cursor),
}

/// Sees a request body as it passes on. It must never wait, nor hold what it was not asked to.
pub trait Tap: Debug {
    /// The next piece.
    fn piece(&self, data: &Bytes);
    /// That was all of it; may be called more than once.
    fn ended(&self);
}

/// What is known of a request body under way.
#[derive(Debug)]
pub struct Upload {
    /// Whose it is.
    pub client: Rc<Client>,
    /// The worker's deadlines, for their clock.
    pub deadlines: Rc<Deadlines>,
    /// Bytes passed on.
    pub bytes: Cell<u64>,
    /// Bytes allowed; 0 is no bound.
    pub limit: u64,
    /// The whole body was passed on.
    pub ended: Cell<bool>,
    /// The client broke its own body.
    pub broken: Cell<bool>,
    /// The body grew over its limit.
    pub too_large: Cell<bool>,
    /// Which trailers may follow it.
    pub trailers: Announced,
    /// Who else is to see the body; hardly ever anybody.
    pub tap: OnceCell<Rc<dyn Tap>>,
    /// The upstream that admitted its request, until the body ends.
    holds: RefCell<Option<Holds>>,
}

/// Counts a request body that has not ended with the upstream that admitted its request.
#[derive(Debug)]
struct Holds(Arc<UpstreamCell>, WorkerId);

impl Drop for Holds {
    fn drop(&mut self) {
        self.0.uploading(self.1, true);
    }
}

impl Upload {
    /// Nothing passed on yet; `limit` 0 is no bound.
    #[must_use]
    pub fn new(client: &Rc<Client>, deadlines: &Rc<Deadlines>, limit: u64, trailers: Announced) -> Self {
        Self {
            client: Rc::clone(client),
            deadlines: Rc::clone(deadlines),
            bytes: Cell::new(0),
            limit,
            ended: Cell::new(false),
            broken: Cell::new(false),
            too_large: Cell::new(false),
            trailers,
            tap: OnceCell::new(),
            holds: RefCell::default(),
        }
    }

    /// Its request was admitted by an upstream, and by no other any more.
    pub fn admitted(&self, by: &Arc<UpstreamCell>, worker: WorkerId) {
        self.left();
        if !self.ended.get() {
            by.uploading(worker, false);
            self.holds.replace(Some(Holds(Arc::clone(by), worker)));
        }
    }

    /// Its request is admitted by no upstream any more.
    pub fn left(&self) {
        self.holds.take();
    }

    fn over(&self) {
        self.client.body_ended();
        self.ended.set(true);
        self.left();
        self.tap.get().into_iter().for_each(|tap| tap.ended());
    }

    /// Whether the client still owes bytes that somebody waits for.
    #[must_use]
    pub fn is_owed(&self) -> bool {
        !self.ended.get() && self.client.body_wait().is_some()
    }
}

/// A request body that could not be read to its end: the client's fault.
pub type UploadError = Box<dyn std::error::Error + Send + Sync>;

impl RequestBody {
    /// Whether there is nothing to send, so that the request may be sent again.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        matches!(self, Self::Empty | Self::Tunnel)
    }

    /// Reads the rest and throws it away, up to [`DRAIN_BYTES`]: a client that is still sending
    /// would otherwise lose the answer to a reset (RFC 9112 section 9.6).
    pub async fn drain(mut self) {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(frame)) = poll_fn(|cx| Pin::new(&mut self).poll_frame(cx)).await {
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let (body, upload) = match self.get_mut() {
            Self::Streaming(body, upload) => (body, upload),
            Self::Kept(pieces) => return Poll::Ready(pieces.pop_front().map(|piece| Ok(Frame::data(piece)))),
            Self::Again(cursor) => return cursor.poll_frame(cx),
            Self::Empty | Self::Tunnel => return Poll::Ready(None),
        };
        let mut polled = Pin::new(body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            upload.trailers.filter(trailers);
        }
        match &polled {
            Poll::Pending => upload.client.on_body(Some(upload.deadlines.clock().tick())),
            Poll::Ready(Some(Ok(frame))) => {
                upload.client.on_body(None);
                let bytes = upload.bytes.get() + frame.data_ref().map_or(0, |data| data.len() as u64);
                upload.bytes.set(bytes);
                if upload.limit > 0 && bytes > upload.limit {
                    upload.too_large.set(true);
                    return Poll::Ready(Some(Err("the request body is over the limit".into())));
                }
                if let Some(tap) = upload.tap.get() {
                    match frame.data_ref() {
                        Some(data) => tap.piece(data),
                        // Nothing can follow trailers, and nobody may ask again.
                        None => tap.ended(),
                    }
                }
            }
            Poll::Ready(Some(Err(_))) => {
                upload.client.on_body(None);
                upload.broken.set(true);
            }
            Poll::Ready(None) => upload.over(),
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty | Self::Tunnel => true,
            Self::Kept(pieces) => pieces.is_empty(),
            Self::Again(cursor) => cursor.is_over(),
            Self::Streaming(body, upload) => {
                let ended = body.is_end_stream();
                if ended {
                    upload.over();
                }
                ended
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty | Self::Tunnel => SizeHint::with_exact(0),
            Self::Streaming(body, _) => body.size_hint(),
            Self::Again(cursor) => cursor.size_hint(),
            Self::Kept(pieces) => SizeHint::with_exact(pieces.iter().map(|piece| piece.len() as u64).sum()),
        }
    }
}
