//! Requests on shared connections: HTTP/2 as configured, or whatever an endpoint agrees on.
//!
//! An endpoint that may choose is asked once; the others wait for its word, then all do as it does
//! until it says otherwise. It must never send a request twice that may have been processed.

use std::rc::Rc;

use http::header::TE;
use http::{Request, Response};

use super::arrived::Arrived;
use super::pool::{Home, Pool, Refused};
use super::upload::RequestBody;
use crate::model::FailureReason;
use crate::plan::{Endpoint, Upstream};

/// Times a request goes out again on another HTTP/2 stream after the origin refused one unprocessed.
const RESENDS: u32 = 2;
/// Times an endpoint may change its mind about the protocol while one request waits.
const TURNS: u32 = 3;

impl Pool {
    /// Sends on a stream of a shared connection, on another when the origin refused it unprocessed.
    pub(super) async fn send_h2(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        upstream: &Upstream,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
    ) -> Result<Response<Arrived>, Refused> {
        let settings = &upstream.connection;
        let home = Home::new(self, settings.max_idle, Self::bounds(upstream));
        let mut resends = 0;
        loop {
            self.destinations.follow(&endpoint.cell.addresses);
            let to = self.destinations.choose(self.shared.now());
            let session = match &to {
                Some(to) => {
                    let connect =
                        async || self.open_session(endpoint, upstream, Some(&to.spot), &to.sessions).await;
                    to.sessions.obtain(settings, self.shared.now(), connect).await?
                }
                // Its name is new: whoever waits for its addresses opens a connection of its own.
                None => self.open_session(endpoint, upstream, None, &self.nowhere).await?,
            };
            match session.send(outgoing, &sent).await {
                Ok(response) => return Ok(response.map(|body| Arrived::h2(body, home))),
                Err(refused) if refused.unsent && outgoing.is_some() && resends < RESENDS => resends += 1,
                Err(refused) => return Err(refused),
            }
        }
    }

    /// Sends by the protocol that the endpoint agreed to the last time, or finds out.
    pub(super) async fn send_agreed(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        upstream: &Upstream,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
    ) -> Result<Response<Arrived>, Refused> {
        let tunnel = outgoing.as_ref().is_some_and(|request| matches!(request.body(), RequestBody::Tunnel));
        let mut turns = 0;
        loop {
            let as_h1 = tunnel || self.agreed_on_h2.get() == Some(false);
            let outcome = if as_h1 {
                if let Some(request) = outgoing {
                    // It speaks of one hop, and HTTP/1.1 would have to say so.
                    request.headers_mut().remove(TE);
                }
                self.send_h1(endpoint, upstream, outgoing, &sent).await
            } else {
                self.send_h2(endpoint, upstream, outgoing, &sent).await
            };
            turns += 1;
            match outcome {
                Err(refused) if self.changed_its_mind(as_h1, &refused) && !tunnel && turns < TURNS => {}
                outcome => return outcome,
            }
        }
    }

    fn changed_its_mind(&self, was_h1: bool, refused: &Refused) -> bool {
        let unsent = refused.unsent && refused.reason == FailureReason::Connect;
        unsent && self.agreed_on_h2.get() == Some(was_h1)
    }
}
