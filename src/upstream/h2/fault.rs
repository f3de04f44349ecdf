//! What an HTTP/2 failure means: whose it is, and whether the request may go out again.
//!
//! RFC 9113 section 8.7 names the only two cases in which the origin certainly did nothing; a
//! request that may have been processed must never be put back.

use h2::Reason;
use http::Request;
use http::request::Parts;
use http_body::Body;

use crate::model::FailureReason;
use crate::upstream::pool::Refused;

/// A failed exchange.
#[derive(Debug)]
pub(super) struct Fault {
    reason: FailureReason,
    cause: String,
    /// The origin certainly did not process the request.
    pub(super) unprocessed: bool,
}

impl Fault {
    /// Reads an error; `unsent` says that the request never reached the connection.
    pub(super) fn of(error: &h2::Error, unsent: bool) -> Self {
        let refused = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
        // Errors that our side found are the origin's breaches of protocol.
        let bad = error.is_library() || error.reason() == Some(Reason::HTTP_1_1_REQUIRED);
        Self {
            reason: if bad { FailureReason::BadResponse } else { FailureReason::Reset },
            cause: error.to_string(),
            unprocessed: unsent || error.is_remote() && refused,
        }
    }

    /// A response that is no HTTP/2.
    pub(super) fn bad(cause: &str) -> Self {
        Self { reason: FailureReason::BadResponse, cause: cause.to_owned(), unprocessed: false }
    }

    /// The refusal. The request is put back if it can be sent again: nobody processed it and its
    /// body is whole, or it has none; whether it may be is the caller's to decide.
    pub(super) fn refuse<B: Body>(
        self,
        outgoing: &mut Option<Request<B>>,
        parts: Parts,
        body: Option<B>,
    ) -> Refused {
        let reset = self.reason == FailureReason::Reset;
        *outgoing = body
            .filter(|body| self.unprocessed || reset && body.is_end_stream())
            .map(|body| Request::from_parts(parts, body));
        Refused { reason: self.reason, cause: self.cause, unsent: self.unprocessed, answered: false }
    }
}
