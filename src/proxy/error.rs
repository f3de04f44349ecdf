//! Everything that can go wrong with an exchange, and the one table of what the client is told, in
//! HTTP and in gRPC.
//!
//! An error knows its side: only the upstream's are charged to an arm. It must never carry text of
//! the request to the client.

use http::StatusCode;

use super::grpc::Status;
use crate::model::{FailureReason, RejectReason, UnroutedReason};

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The request was refused.
    Reject(RejectReason),
    /// Nobody owns the request.
    Unrouted(UnroutedReason),
    /// The chosen arm failed.
    Upstream(FailureReason),
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The client's.
    Client,
    /// The upstream's.
    Upstream,
    /// Ours, or the configuration's.
    Internal,
}

/// A failed exchange.
#[derive(Debug)]
pub struct ProxyError {
    /// What.
    pub kind: Kind,
    /// For the log.
    pub cause: String,
}

impl ProxyError {
    /// A refusal.
    #[must_use]
    pub fn reject(reason: RejectReason, cause: impl Into<String>) -> Self {
        Self { kind: Kind::Reject(reason), cause: cause.into() }
    }
}

impl Kind {
    /// Whose fault it is.
    #[must_use]
    pub const fn side(self) -> Side {
        match self {
            Self::Reject(_) => Side::Client,
            Self::Unrouted(_) => Side::Internal,
            Self::Upstream(_) => Side::Upstream,
        }
    }

    /// The label in metrics and logs.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Reject(reason) => reason.label(),
            Self::Unrouted(reason) => reason.label(),
            Self::Upstream(reason) => reason.label(),
        }
    }

    /// What the client is told, and whether its connection ends: 502 is an upstream that answered
    /// wrongly, 503 one that was not there, 504 one that was too slow.
    #[must_use]
    pub const fn answer(self) -> (StatusCode, bool) {
        match self {
            Self::Reject(reason) => match reason {
                RejectReason::BadHost
                | RejectReason::BadTarget
                | RejectReason::BadPath
                | RejectReason::BadHeader
                | RejectReason::Upgrade
                | RejectReason::Handshake
                | RejectReason::Malformed => (StatusCode::BAD_REQUEST, true),
                RejectReason::Misdirected => (StatusCode::MISDIRECTED_REQUEST, true),
                RejectReason::Method => (StatusCode::METHOD_NOT_ALLOWED, true),
                RejectReason::Expectation => (StatusCode::EXPECTATION_FAILED, true),
                RejectReason::HeadersTooLarge => (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, true),
                RejectReason::TargetTooLong => (StatusCode::URI_TOO_LONG, true),
                RejectReason::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, true),
                RejectReason::ClientTimeout => (StatusCode::REQUEST_TIMEOUT, true),
                RejectReason::Connections => (StatusCode::SERVICE_UNAVAILABLE, true),
                // Nothing is wrong with its connection: the next request may be within the rate.
                RejectReason::RateLimited => (StatusCode::TOO_MANY_REQUESTS, false),
            },
            Self::Unrouted(reason) => match reason {
                UnroutedReason::Host | UnroutedReason::Match => (StatusCode::NOT_FOUND, false),
                UnroutedReason::NoWeight => (StatusCode::SERVICE_UNAVAILABLE, false),
            },
            Self::Upstream(reason) => match reason {
                FailureReason::Tls
                | FailureReason::Reset
                | FailureReason::BadResponse
                | FailureReason::Truncated
                | FailureReason::Status
                | FailureReason::GrpcStatus => (StatusCode::BAD_GATEWAY, false),
                FailureReason::Connect
                | FailureReason::NoEndpoint
                | FailureReason::Overflow
                | FailureReason::Breaker => (StatusCode::SERVICE_UNAVAILABLE, false),
                FailureReason::ConnectTimeout | FailureReason::Timeout | FailureReason::Stalled => {
                    (StatusCode::GATEWAY_TIMEOUT, false)
                }
            },
        }
    }

    /// What a gRPC client is told instead: the status that says the same, not the one a library
    /// would guess from the HTTP status.
    #[must_use]
    pub const fn grpc(self) -> Status {
        match self {
            Self::Reject(reason) => match reason {
                RejectReason::BadHost
                | RejectReason::BadTarget
                | RejectReason::BadPath
                | RejectReason::BadHeader
                | RejectReason::Upgrade
                | RejectReason::Handshake
                | RejectReason::Misdirected
                | RejectReason::Malformed
                | RejectReason::Expectation => Status::Internal,
                RejectReason::Method => Status::Unimplemented,
                RejectReason::HeadersTooLarge
                | RejectReason::TargetTooLong
                | RejectReason::BodyTooLarge
                | RejectReason::RateLimited => Status::ResourceExhausted,
                RejectReason::ClientTimeout => Status::DeadlineExceeded,
                RejectReason::Connections => Status::Unavailable,
            },
            Self::Unrouted(reason) => match reason {
                UnroutedReason::Host | UnroutedReason::Match => Status::Unimplemented,
                UnroutedReason::NoWeight => Status::Unavailable,
            },
            Self::Upstream(reason) => match reason {
                FailureReason::Connect
                | FailureReason::ConnectTimeout
                | FailureReason::Tls
                | FailureReason::NoEndpoint
                | FailureReason::Overflow
                | FailureReason::Breaker
                | FailureReason::Reset
                | FailureReason::Truncated
                | FailureReason::Stalled => Status::Unavailable,
                FailureReason::Timeout => Status::DeadlineExceeded,
                FailureReason::BadResponse => Status::Internal,
                FailureReason::Status | FailureReason::GrpcStatus => Status::Unknown,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_an_error_status_and_only_upstreams_are_charged() {
        let rejects = RejectReason::ALL.iter().map(|reason| Kind::Reject(*reason));
        let unrouted = UnroutedReason::ALL.iter().map(|reason| Kind::Unrouted(*reason));
        let upstream = FailureReason::ALL.iter().map(|reason| Kind::Upstream(*reason));
        for kind in rejects.chain(unrouted).chain(upstream) {
            let (status, close) = kind.answer();
            assert!(status.as_u16() >= 400, "{kind:?}");
            let limited = kind == Kind::Reject(RejectReason::RateLimited);
            assert_eq!(close, kind.side() == Side::Client && !limited, "{kind:?}");
            assert_eq!(
                kind.side() == Side::Upstream,
                status.as_u16() >= 500 && matches!(kind, Kind::Upstream(_))
            );
        }
    }
}
