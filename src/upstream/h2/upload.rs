//! A request body on its way up: as fast as the origin takes it, and no further than it allows.
//!
//! It runs beside the wait for the response head, and goes on as a task of its own when the head
//! comes first. It must never hold more than one frame, nor end a stream cleanly that the client
//! broke off.

use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;
use tokio::sync::Notify;
use tokio::task::spawn_local;

use crate::upstream::upload::DRAIN_BYTES;

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
                        let _ = stream.send_trailers(frame.into_trailers().unwrap_or_default());
                        return Poll::Ready(());
                    }
                },
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin + 'static> Upload<B> {
    /// Goes on in a task of its own after the response head came, if there is more to send.
    pub(super) fn go_on(mut self) -> Option<Rest> {
        self.stream.as_ref()?;
        let stop = Rc::new(Notify::new());
        let stopped = Rc::clone(&stop);
        spawn_local(async move {
            tokio::select! {
                () = poll_fn(|cx| self.poll(cx)) => {}
                () = stopped.notified() => {}
            }
            // Without its handle the stream ends when the response body is gone, too.
            self.stream = None;
            self.drain().await;
        });
        Some(Rest(stop))
    }

    /// The body, if nothing of it was taken.
    pub(super) fn untouched(self) -> Option<B> {
        (!self.touched).then_some(self.body)
    }

    /// Reads what the client still sends and throws it away, up to [`DRAIN_BYTES`]: it would
    /// otherwise lose the answer to a reset.
    async fn drain(mut self) {
        let mut left = DRAIN_BYTES;
        while !self.body.is_end_stream() {
            let frame = poll_fn(|cx| Pin::new(&mut self.body).poll_frame(cx)).await;
            let Some(Ok(frame)) = frame else { return };
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            match left.checked_sub(length) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    }
}

/// The rest of a request that goes on beside its response. Dropped, the origin gets no more of it.
#[derive(Debug)]
pub(super) struct Rest(Rc<Notify>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.notify_one();
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
