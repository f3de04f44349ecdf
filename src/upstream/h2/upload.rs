//! A request body on its way up: as fast as the origin takes it, and no further than it allows.
//!
//! It runs beside the wait for the response head, and goes on as a task of its own when the head
//! comes first. It must never hold more than one frame, nor end a stream cleanly that the client
//! broke off.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use tokio::task::AbortHandle;

use super::head;

/// A body under way on one stream.
#[derive(Debug)]
pub(super) struct Upload<B> {
    body: B,
    /// `None` when there is nothing more to send.
    stream: Option<SendStream<Bytes>>,
    /// The part of a frame that found no room yet.
    rest: Bytes,
    touched: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Upload<B> {
    /// A body to be sent on `stream`; `None` when the head ended it.
    pub(super) fn new(body: B, stream: Option<SendStream<Bytes>>) -> Self {
        Self { body, stream, rest: Bytes::new(), touched: false }
    }

    /// Sends what can be sent; ready when the body is through, or nobody wants it any more.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = self.poll_stream(cx);
        if polled.is_ready() {
            self.stream = None;
        }
        polled
    }

    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Self { body, stream, rest, touched } = self;
        let Some(stream) = stream else { return Poll::Ready(()) };
        loop {
            if !rest.is_empty() && ready!(poll_rest(stream, rest, body.is_end_stream(), cx)) {
                return Poll::Ready(());
            }
            let frame = match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Pending => {
                    // A stream that the origin reset has no use for what the client may still send.
                    return stream.poll_reset(cx).map(|_| ());
                }
                Poll::Ready(frame) => frame,
            };
            *touched = true;
            match frame {
                None => {
                    let _ = stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
                Some(Err(_)) => {
                    stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(());
                }
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => *rest = data,
                    Err(frame) => {
                        let mut trailers = frame.into_trailers().unwrap_or_default();
                        head::strip(&mut trailers);
                        let _ = stream.send_trailers(trailers);
                        return Poll::Ready(());
                    }
                },
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin + 'static> Upload<B> {
    /// Goes on after the response head came, if there is more to send.
    pub(super) fn go_on(mut self) -> Option<AbortHandle> {
        self.stream.as_ref()?;
        Some(tokio::task::spawn_local(poll_fn(move |cx| self.poll(cx))).abort_handle())
    }

    /// The body, if nothing of it was taken.
    pub(super) fn untouched(self) -> Option<B> {
        (!self.touched).then_some(self.body)
    }
}

/// Sends the rest of a frame, the end of the stream with its last byte if `last`; true when the
/// stream is over.
fn poll_rest(
    stream: &mut SendStream<Bytes>,
    rest: &mut Bytes,
    last: bool,
    cx: &mut Context<'_>,
) -> Poll<bool> {
    while !rest.is_empty() {
        stream.reserve_capacity(rest.len());
        if stream.capacity() == 0 {
            match ready!(stream.poll_capacity(cx)) {
                Some(Ok(_)) => continue,
                Some(Err(_)) | None => return Poll::Ready(true),
            }
        }
        let piece = rest.split_to(rest.len().min(stream.capacity()));
        let ends = last && rest.is_empty();
        if stream.send_data(piece, ends).is_err() || ends {
            return Poll::Ready(true);
        }
    }
    Poll::Ready(false)
}
