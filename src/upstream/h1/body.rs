//! The body of a response as it comes, and what is left of the request that goes on beside it.
//!
//! A frame is handed on as soon as it is there. It must never end cleanly unless the message did.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::Notify;
use tokio::task::spawn_local;

use super::chunked::{Chunked, Step};
use super::request::{Sending, Stopped};
use super::response::Framing;
use super::{Connection, poll_read};
use crate::upstream::arrived::Broken;
use crate::upstream::buffers::{Buffers, READ_BYTES};
use crate::upstream::destinations::Stay;
use crate::upstream::gate::Place;
use crate::upstream::stream::Stream;

/// Room for a read of a large body, in bytes.
const LARGE_READ: usize = 64 << 10;

/// A response body on its connection.
#[derive(Debug)]
pub struct Body {
    connection: Connection,
    buffers: Rc<Buffers>,
    kind: Kind,
    /// The connection may serve another exchange, as far as the head says.
    keep: bool,
    rest: Option<Rest>,
}

#[derive(Debug)]
enum Kind {
    Length(u64),
    Chunked(Chunked),
    Close { over: bool },
    Broken,
}

impl Body {
    pub(super) fn new(
        connection: Connection,
        framing: Framing,
        keep: bool,
        rest: Option<Rest>,
        buffers: &Rc<Buffers>,
    ) -> Self {
        let kind = match framing {
            Framing::Length(length) => Kind::Length(length),
            Framing::Chunked => Kind::Chunked(Chunked::default()),
            Framing::Close => Kind::Close { over: false },
        };
        Self { connection, buffers: Rc::clone(buffers), kind, keep, rest }
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Length(left) => *left == 0,
            Kind::Chunked(chunked) => chunked.is_over(),
            Kind::Close { over } => *over,
            Kind::Broken => true,
        }
    }

    /// Bytes to come, as far as they are known.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Length(left) => SizeHint::with_exact(*left),
            Kind::Chunked(chunked) if !chunked.is_over() => SizeHint::default(),
            Kind::Close { over: false } => SizeHint::default(),
            _ => SizeHint::with_exact(0),
        }
    }

    /// The connection, when the exchange is over and both sides know where it ended.
    #[must_use]
    pub fn into_connection(self) -> Option<Connection> {
        let ended = self.is_over() && self.keep && !matches!(self.kind, Kind::Broken);
        let Self { mut connection, buffers, rest, .. } = self;
        let uploaded = rest.as_ref().is_none_or(Rest::ended);
        if !ended || !uploaded || !connection.inbox.is_empty() {
            return None;
        }
        buffers.keep_inbox(std::mem::take(&mut connection.inbox));
        Some(connection)
    }

    /// The transport of a response that made it a tunnel, and what was read of it already.
    #[must_use]
    pub fn into_tunnel(self) -> Option<(Stream, Bytes, (Place, Stay))> {
        let Connection { io, inbox, place, stay, .. } = self.connection;
        Rc::try_unwrap(io).ok().map(|io| (io.into_inner(), inbox.freeze(), (place, stay)))
    }

    /// The next frame.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let polled = self.poll(cx);
        if let Poll::Ready(Some(Err(_))) = polled {
            self.kind = Kind::Broken;
        }
        polled
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        loop {
            let inbox = &mut self.connection.inbox;
            match &mut self.kind {
                Kind::Length(0) | Kind::Close { over: true } | Kind::Broken => return Poll::Ready(None),
                Kind::Length(left) if !inbox.is_empty() => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(inbox.len());
                    *left -= count as u64;
                    return Poll::Ready(Some(Ok(Frame::data(inbox.split_to(count).freeze()))));
                }
                Kind::Close { .. } if !inbox.is_empty() => {
                    return Poll::Ready(Some(Ok(Frame::data(inbox.split().freeze()))));
                }
                Kind::Chunked(chunked) => match chunked.decode(inbox) {
                    Ok(Step::More) => {}
                    Ok(Step::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                    Ok(Step::Over(trailers)) => {
                        return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                    }
                    Err(error) => return Poll::Ready(Some(Err(Broken::Malformed(error.0)))),
                },
                _ => {}
            }
            match ready!(self.read(cx)) {
                Ok(0) => match &mut self.kind {
                    Kind::Close { over } if !self.rest.as_ref().is_some_and(|rest| rest.0.broken.get()) => {
                        *over = true;
                    }
                    _ => return Poll::Ready(Some(Err(Broken::Truncated))),
                },
                Ok(_) => {}
                Err(error) => return Poll::Ready(Some(Err(Broken::Transport(error)))),
            }
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let room = match &self.kind {
            Kind::Length(left) if *left <= READ_BYTES as u64 => READ_BYTES,
            _ => LARGE_READ,
        };
        let Connection { io, inbox, .. } = &mut self.connection;
        poll_read(&mut io.borrow_mut(), inbox, room, cx)
    }
}

/// A request that was still going out when its response began: it goes on in a task of its own, so
/// that a slow reader of the response does not stop it. Dropped, the origin gets no more of it.
#[derive(Debug)]
pub struct Rest(Rc<Going>);

#[derive(Debug, Default)]
struct Going {
    done: Cell<bool>,
    /// The client broke its body, and the connection was ended for it.
    broken: Cell<bool>,
    stop: Notify,
}

impl Rest {
    /// Lets the request go on; `cut` when the origin takes no more of it.
    pub(super) fn go_on(mut sending: Sending, io: &Rc<RefCell<Stream>>, cut: bool) -> Self {
        let going = Rc::new(Going::default());
        let (told, io) = (Rc::clone(&going), Rc::clone(io));
        spawn_local(async move {
            if !cut {
                tokio::select! {
                    sent = poll_fn(|cx| sending.poll(&mut io.borrow_mut(), cx)) => match sent {
                        Ok(()) => told.done.set(true),
                        // The origin must not take the broken body for a whole one, nor wait for its end.
                        Err(Stopped::Client(_)) => {
                            told.broken.set(true); io.borrow().cut(); }
                        Err(Stopped::Transport) => {}
                    },
                    () = told.stop.notified() => {}
                }
            }
            drop(io);
            if !told.done.get() {
                sending.into_parts().1.drain().await;
            }
        });
        Self(going)
    }

    /// Whether the whole request went out.
    fn ended(&self) -> bool {
        self.0.done.get()
    }
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.stop.notify_one();
    }
}
