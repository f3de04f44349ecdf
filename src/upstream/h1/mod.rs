//! HTTP/1.1 towards origins: one connection, one exchange at a time, on the worker's own socket.
//!
//! Request and response never cross a task, which halves what a proxied request costs. What an
//! origin may say is decided in [`response`] and [`chunked`], both pure. A connection must never be
//! used again unless both messages ended where both sides know it.

mod body;
mod chunked;
mod request;
mod response;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use tokio::io::AsyncReadExt;

use self::body::Rest;
use self::request::{Sending, Stopped};
use self::response::{Head, take};
use super::buffers::{Buffers, READ_BYTES};
use super::destinations::{Spot, Stay};
use super::gate::Place;
use super::stream::Stream;
use super::upload::RequestBody;
use crate::model::FailureReason;
use crate::model::time::Tick;

pub use self::body::Body;
pub use self::response::Names;

/// Most interim responses before the final one; more is a fault (1xx, RFC 9110 section 15.2).
const MAX_INTERIMS: u32 = crate::model::bounds::INTERIMS;
/// Least room for a read, in bytes.
const LEAST_ROOM: usize = 1 << 10;

/// A connection between two exchanges.
#[derive(Debug)]
pub struct Connection {
    io: Rc<RefCell<Stream>>,
    inbox: BytesMut,
    /// When it was made.
    pub born: Tick,
    place: Place,
    stay: Stay,
}

/// Why there is no response.
#[derive(Debug)]
pub struct Failed {
    /// Cause.
    pub reason: FailureReason,
    /// What the log says.
    pub cause: String,
    /// The origin cannot have seen any of the request.
    pub unsent: bool,
    /// Some of an answer came.
    pub answered: bool,
}

impl Connection {
    /// A fresh connection.
    #[must_use]
    pub fn new(stream: Stream, born: Tick, place: Place, stay: Stay) -> Self {
        Self { io: Rc::new(RefCell::new(stream)), inbox: BytesMut::new(), born, place, stay }
    }

    /// Where it leads.
    #[must_use]
    pub fn spot(&self) -> &Rc<Spot> {
        self.stay.spot()
    }

    /// Whether the origin closed it or sent something nobody asked for: one look without waiting.
    #[must_use]
    pub fn is_spoilt(&self) -> bool {
        self.io.borrow_mut().is_spoilt()
    }

    /// Sends the request taken out of `outgoing` and waits for the head of its response; the rest of
    /// both bodies goes on with the response. When it fails and the request could be sent again, it
    /// is put back; whether it may be is the caller's to decide.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn exchange(
        mut self,
        outgoing: &mut Option<Request<RequestBody>>,
        buffers: &Rc<Buffers>,
    ) -> Result<Response<Body>, Failed> {
        let Some(request) = outgoing.take() else {
            return Err(Failed::new(FailureReason::Reset, "nothing to send", true));
        };
        let (mut parts, body) = request.into_parts();
        self.inbox = buffers.inbox();
        let mut sending = Sending::new(buffers.head(), &parts, body);
        let mut wait = Wait::default();
        let head =
            poll_fn(|cx| self.poll_head(&mut sending, &mut wait, &mut parts.headers, buffers, cx)).await;
        let framed = match head {
            Ok(mut head) => head
                .framing(parts.method == Method::HEAD)
                .map(|framing| (head, framing))
                .map_err(|error| Failed::new(FailureReason::BadResponse, error.0, false)),
            Err(failed) => Err(failed),
        };
        match framed {
            Ok((head, (framing, keep))) => {
                let rest = if sending.is_done() && !wait.cut {
                    buffers.keep_head(sending.into_parts().0);
                    None
                } else {
                    Some(Rest::go_on(sending, &self.io, wait.cut))
                };
                let Head { status, headers, reason, .. } = head;
                let mut response = Response::new(Body::new(self, framing, keep, rest, buffers));
                *response.status_mut() = status;
                *response.headers_mut() = headers;
                if let Some(reason) = reason {
                    response.extensions_mut().insert(reason);
                }
                Ok(response)
            }
            Err(mut failed) => {
                failed.unsent &= !sending.has_begun();
                failed.answered = !wait.silent;
                let again = wait.silent && sending.is_whole();
                let (text, body) = sending.into_parts();
                buffers.keep_head(text);
                if again && (failed.unsent || body.is_empty()) {
                    *outgoing = Some(Request::from_parts(parts, body));
                }
                Err(failed)
            }
        }
    }

    fn poll_head(
        &mut self,
        sending: &mut Sending,
        wait: &mut Wait,
        spare: &mut HeaderMap,
        buffers: &Buffers,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Head, Failed>> {
        let mut io = self.io.borrow_mut();
        if !wait.cut {
            match sending.poll(&mut io, cx) {
                Poll::Pending | Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(Stopped::Client(error))) => {
                    return Poll::Ready(Err(Failed::new(FailureReason::Reset, error.to_string(), false)));
                }
                // The origin may have answered before it closed: the answer is still to be read.
                Poll::Ready(Err(Stopped::Transport)) => wait.cut = true,
            }
        }
        loop {
            match ready!(poll_read(&mut io, &mut self.inbox, READ_BYTES, cx)) {
                Ok(0) => return Poll::Ready(Err(wait.closed("the origin closed the connection"))),
                Ok(_) => wait.silent = false,
                Err(error) => return Poll::Ready(Err(wait.closed(&error.to_string()))),
            }
            let mut names = buffers.names.borrow_mut();
            while let Some(head) =
                take(&mut self.inbox, wait.seen, spare, &mut names).map_err(Failed::malformed)?
            {
                wait.seen = 0;
                if !head.status.is_informational() {
                    return Poll::Ready(Ok(head));
                }
                wait.interims += 1;
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    let asked = sending.asks_for_tunnel() && sending.is_done();
                    let unasked = response::Malformed("the origin switched protocols unasked");
                    return Poll::Ready(asked.then_some(head).ok_or(Failed::malformed(unasked)));
                }
                if wait.interims > MAX_INTERIMS {
                    return Poll::Ready(Err(Failed::malformed(response::Malformed(
                        "too many interim responses",
                    ))));
                }
            }
            wait.seen = self.inbox.len();
        }
    }
}

/// A wait for a response head.
#[derive(Debug)]
struct Wait {
    /// How much of the inbox was looked at.
    seen: usize,
    interims: u32,
    /// No byte of an answer came.
    silent: bool,
    /// The origin stopped taking the request.
    cut: bool,
}

impl Default for Wait {
    fn default() -> Self {
        Self { seen: 0, interims: 0, silent: true, cut: false }
    }
}

impl Wait {
    fn closed(&self, cause: &str) -> Failed {
        Failed::new(FailureReason::Reset, cause, self.silent)
    }
}

impl Failed {
    fn new(reason: FailureReason, cause: impl Into<String>, unsent: bool) -> Self {
        Self { reason, cause: cause.into(), unsent, answered: false }
    }

    fn malformed(error: response::Malformed) -> Self {
        Self::new(FailureReason::BadResponse, error.0, false)
    }
}

/// Reads what is there into the inbox, with room for `room` bytes when it has to grow.
fn poll_read(
    io: &mut Stream,
    inbox: &mut BytesMut,
    room: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if inbox.capacity() - inbox.len() < LEAST_ROOM {
        inbox.reserve(room);
    }
    pin!(io.read_buf(inbox)).poll(cx)
}
