//! What is kept of a request so that it can be sent again: its head, and its body as it passes.
//!
//! Only for routes that ask for retries which need it. It must never give a request that is not
//! idempotent a second time unless it provably never was processed: that is decided in
//! [`super::forward`], for which this only keeps.

use std::rc::Rc;

use http::Request;
use http::request::Parts;

use super::exchange::Exchange;
use super::forward::Outgoing;
use crate::model::DeniedReason;
use crate::plan::{Route, UpstreamProtocol};
use crate::upstream::{Replay, RequestBody};

/// A request that may be sent again, before edits for any arm.
pub struct Kept {
    head: Parts,
    body: Option<Rc<Replay>>,
}

/// Makes a request ready to go out; keeps what the route's retries need of it.
pub fn prepare(exchange: &Exchange, route: &Route, head: Parts, body: RequestBody) -> Outgoing {
    if !is_kept(route, &head, &body) {
        return Outgoing { request: Some(Request::from_parts(head, body)), kept: None };
    }
    let mut kept = Box::new(Kept { head: head.clone(), body: None });
    if body.is_empty() {
        return Outgoing { request: Some(Request::from_parts(head, body)), kept: Some(kept) };
    }
    let (bytes, cap) = (&exchange.worker().book.replay_bytes, exchange.plan().replay_bytes);
    let replay = Replay::new(body, route.retry.max_body, bytes, cap);
    let first = replay.again().unwrap_or(RequestBody::Empty);
    kept.body = Some(replay);
    Outgoing { request: Some(Request::from_parts(head, first)), kept: Some(kept) }
}

/// Whether a retry of this request would need what is gone once it went out.
fn is_kept(route: &Route, head: &Parts, body: &RequestBody) -> bool {
    let retry = &route.retry;
    match body {
        _ if retry.attempts == 0 => false,
        RequestBody::Empty => retry.keeps_heads() && head.method.is_idempotent(),
        RequestBody::Streaming(..) if head.method.is_idempotent() => retry.keeps_heads() || retry.reset,
        // An HTTP/2 origin may say that it did not process what it had begun to read.
        RequestBody::Streaming(..) => {
            let multiplexed = |arm: &crate::plan::Arm| arm.upstream.protocol == UpstreamProtocol::H2;
            (retry.keeps_heads() || retry.reset) && route.arms.iter().any(multiplexed)
        }
        RequestBody::Tunnel | RequestBody::Kept(_) | RequestBody::Again(_) => false,
    }
}

impl Kept {
    /// Why its body cannot be sent again, when it cannot.
    #[must_use]
    pub fn lost(&self) -> Option<DeniedReason> {
        self.body.as_ref()?.lost()
    }

    /// The request once more.
    ///
    /// # Errors
    /// Why its body cannot be sent again.
    pub fn again(&self) -> Result<Request<RequestBody>, DeniedReason> {
        let body = self.body.as_ref().map_or(Ok(RequestBody::Empty), Replay::again)?;
        Ok(Request::from_parts(self.head.clone(), body))
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // The attempt that was answered may go on reading; nothing of it is kept any more.
        self.body.iter().for_each(|body| body.settle());
    }
}
