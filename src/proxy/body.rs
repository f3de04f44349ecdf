//! Response bodies: passed on as they come, with the exchange and its connection riding along.
//!
//! When the body ends, errs or is dropped, so does the exchange. It must never buffer a frame.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::exchange::Exchange;
use crate::model::FailureReason;
use crate::model::time::Tick;
use crate::model::trailers::Announced;
use crate::upstream::{Arrived, Broken, Deadline};

/// How long an upstream may owe bytes before a client that leaves is its failure: shorter pauses are told
/// from a client's whim by nobody.
const OWED_FOR: Duration = Duration::from_secs(1);

/// The body of any response.
#[expect(
    clippy::large_enum_variant,
    reason = "the large one is the usual one, and a box would be an allocation"
)]
pub enum Body {
    /// A text of ours.
    Fixed(Option<Bytes>, Box<Exchange>),
    /// An upstream's, as it comes.
    Upstream(Passing),
}

/// An upstream's body under way.
pub struct Passing {
    body: Arrived,
    /// What the body began with, read before the head was passed on.
    opening: Option<Frame<Bytes>>,
    exchange: Box<Exchange>,
    stall: Deadline,
    stream_idle: Duration,
    /// A break that is told only after what came before it went out.
    held: Option<Broken>,
    /// A frame was handed on since the writer last came to rest.
    fresh: bool,
    trailers: Announced,
    /// Since when its upstream is waited for.
    waits: Option<Tick>,
}

impl Passing {
    /// An upstream's body that began with `opening`; `trailers` may follow it.
    #[must_use]
    pub fn new(
        body: Arrived,
        opening: Option<Frame<Bytes>>,
        exchange: Box<Exchange>,
        stream_idle: Duration,
        trailers: Announced,
    ) -> Self {
        let stall = Deadline::new(&exchange.worker().deadlines, stream_idle);
        let (held, fresh) = (None, true);
        let waits = None;
        let mut passing = Self { body, opening, exchange, stall, stream_idle, held, fresh, trailers, waits };
        passing.end_if_over(false);
        passing
    }

    /// Ends the exchange when the body is over.
    fn end_if_over(&mut self, last: bool) {
        if last || self.opening.is_none() && self.body.is_end_stream() {
            self.exchange.complete();
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(broken) = self.held.take() {
            return Poll::Ready(Some(Err(broken)));
        }
        let mut polled = match self.opening.take() {
            Some(frame) => Poll::Ready(Some(Ok(frame))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        };
        if let Poll::Ready(Some(Ok(frame))) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            self.trailers.filter(trailers);
        }
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                (self.fresh, self.waits) = (true, None);
                self.exchange.sent(frame.data_ref().map_or(0, |data| data.len() as u64));
                if let (Some(captured), Some(data)) = (self.exchange.captured(), frame.data_ref()) {
                    captured.piece(data);
                }
                self.stall.restart(self.stream_idle);
                if let Some(trailers) = frame.trailers_ref() {
                    self.exchange.grpc_fields(trailers);
                }
                // Nothing can follow trailers, and the server may not ask again.
                self.end_if_over(frame.is_trailers());
            }
            Poll::Ready(Some(Err(_))) => self.exchange.broke(FailureReason::Truncated),
            Poll::Ready(None) => self.end_if_over(true),
            Poll::Pending => {
                self.fresh = false;
                self.waits.get_or_insert(self.exchange.worker().clock.tick());
            }
        }
        match polled {
            // Told at once, a break would take along what the server has not written yet, the head
            // perhaps: the client would get nothing at all.
            Poll::Ready(Some(Err(broken))) if std::mem::take(&mut self.fresh) => {
                self.held = Some(broken);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }
}

impl Passing {
    fn size_hint(&self) -> SizeHint {
        let rest = self.body.size_hint();
        if self.opening.as_ref().is_some_and(Frame::is_trailers) {
            // Trailers pass only behind a body whose length nobody said.
            return SizeHint::default();
        }
        let opened = self.opening.as_ref().and_then(Frame::data_ref).map_or(0, |data| data.len() as u64);
        rest.exact().map_or(rest, |rest| SizeHint::with_exact(rest + opened))
    }
}

impl Drop for Passing {
    /// A client that leaves while its upstream has owed the rest of an announced length for a while
    /// leaves because of it.
    fn drop(&mut self) {
        let Some(since) = self.waits else { return };
        let owed = |body: &Arrived| body.size_hint().exact().is_some_and(|rest| rest > 0);
        if self.exchange.worker().clock.tick() < since.after(OWED_FOR) || !owed(&self.body) {
            return;
        }
        // What came since is the client's not to have taken.
        let cx = &mut Context::from_waker(Waker::noop());
        if Pin::new(&mut self.body).poll_frame(cx).is_pending() {
            self.exchange.broke(FailureReason::Stalled);
        }
    }
}

/// What a body begins with, as far as it is there already.
///
/// # Errors
/// The body is broken from its start: the client can still be told.
pub async fn opening(body: &mut Arrived) -> Result<Option<Frame<Bytes>>, Broken> {
    if body.is_end_stream() {
        return Ok(None);
    }
    poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *body).poll_frame(cx) {
            Poll::Ready(frame) => frame.transpose(),
            Poll::Pending => Ok(None),
        })
    })
    .await
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match self.get_mut() {
            Self::Fixed(text, exchange) => {
                let text = text.take().filter(|text| !text.is_empty());
                exchange.sent(text.as_ref().map_or(0, |text| text.len() as u64));
                Poll::Ready(text.map(|text| Ok(Frame::data(text))))
            }
            Self::Upstream(passing) => match passing.poll(cx) {
                Poll::Pending if passing.stall.poll_over(cx).is_ready() => {
                    passing.exchange.broke(FailureReason::Stalled);
                    Poll::Ready(Some(Err("the upstream stalled".into())))
                }
                polled => polled.map_err(Into::into),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Fixed(text, _) => text.as_ref().is_none_or(Bytes::is_empty),
            Self::Upstream(passing) => {
                passing.opening.is_none() && passing.held.is_none() && passing.body.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Fixed(text, _) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Self::Upstream(passing) => passing.size_hint(),
        }
    }
}
