//! Response bodies of HTTP/2: frames as they come, room for more given back as they are taken.
//!
//! A body that did not end as HTTP/2 ends one is an error, whatever the origin's reason. It must
//! never touch another stream of its connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame, SizeHint};

use super::upload::Rest;
use super::{Flight, into_io};
use crate::upstream::arrived::Broken;

/// The body of one response. Dropped before its end, it resets its stream, and only that.
#[derive(Debug)]
pub struct StreamBody {
    recv: RecvStream,
    /// Bytes still to come, when declared.
    length: Option<u64>,
    data_over: bool,
    running: Option<Running>,
}

/// What lasts as long as the stream; after the response nobody wants the rest of the request.
#[derive(Debug)]
struct Running {
    _rest: Option<Rest>,
    _flight: Flight,
}

impl StreamBody {
    pub(super) fn new(recv: RecvStream, length: Option<u64>, flight: Flight, rest: Option<Rest>) -> Self {
        let running = (!recv.is_end_stream()).then_some(Running { _rest: rest, _flight: flight });
        Self { length, data_over: running.is_none(), running, recv }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.data_over {
            if let Some(data) = ready!(self.recv.poll_data(cx)) {
                return Poll::Ready(Some(data.and_then(|data| self.taken(data))));
            }
            self.data_over = true;
        }
        if self.running.is_none() {
            return Poll::Ready(None);
        }
        let trailers = ready!(self.recv.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn taken(&mut self, data: Bytes) -> Result<Frame<Bytes>, h2::Error> {
        let size = data.len();
        // The room goes to the origin as soon as the frame goes on.
        self.recv.flow_control().release_capacity(size)?;
        self.length = self.length.map(|left| left.saturating_sub(size as u64));
        Ok(Frame::data(data))
    }
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let polled = ready!(this.poll(cx));
        let over = match &polled {
            None | Some(Err(_)) => true,
            Some(Ok(frame)) => frame.is_trailers() || this.recv.is_end_stream(),
        };
        if over {
            this.running = None;
            this.data_over = true;
        }
        Poll::Ready(polled.map(|frame| frame.map_err(|error| Broken::Transport(into_io(error)))))
    }

    fn is_end_stream(&self) -> bool {
        self.running.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match self.length {
            _ if self.running.is_none() => SizeHint::with_exact(0),
            Some(length) => SizeHint::with_exact(length),
            None => SizeHint::default(),
        }
    }
}
