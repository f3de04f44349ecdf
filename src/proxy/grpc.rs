//! gRPC as far as a proxy must know it: who speaks it, how it is told of an error, how it fails.
//!
//! gRPC answers 200 and puts the truth into trailers, so both an error of ours and an error of the
//! upstream are invisible to whoever reads statuses alone. It must never look into a message.
//! Source: grpc/doc PROTOCOL-HTTP2.md, statuscodes.md and http-grpc-status-mapping.md.

use http::header::CONTENT_TYPE;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Response, Version};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

const GRPC: &str = "application/grpc";
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// What a message escapes beside everything outside printable ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// The statuses that the proxy itself gives, or holds against an arm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nobody knows what happened.
    Unknown = 2,
    /// Its time was over.
    DeadlineExceeded = 4,
    /// Something is too large.
    ResourceExhausted = 8,
    /// Nobody serves the method.
    Unimplemented = 12,
    /// A promise of the protocol was broken.
    Internal = 13,
    /// Nobody is there; trying again may help.
    Unavailable = 14,
}

/// Whether a request speaks gRPC: HTTP/2 and the media type, bare or with a suffix. gRPC-Web is
/// something else, made for clients that cannot read trailers.
#[must_use]
pub fn is_asked(parts: &Parts) -> bool {
    parts.version == Version::HTTP_2 && parts.headers.get(CONTENT_TYPE).is_some_and(is_grpc)
}

fn is_grpc(value: &HeaderValue) -> bool {
    let rest = value.as_bytes().get(GRPC.len()..);
    let same =
        value.as_bytes().get(..GRPC.len()).is_some_and(|one| one.eq_ignore_ascii_case(GRPC.as_bytes()));
    same && rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';' | b' ')))
}

/// Makes a response without a body one of trailers alone, which is how gRPC tells an early error.
pub fn tell<B>(response: &mut Response<B>, status: Status, message: &str) {
    *response.status_mut() = http::StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
    headers.insert(STATUS, HeaderValue::from(status as u16));
    let message = utf8_percent_encode(message, ESCAPED).to_string();
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert(MESSAGE, message);
    }
}

/// The status that trailers, or a head that stands for them, tell.
#[must_use]
pub fn status_of(fields: &HeaderMap) -> Option<u8> {
    fields.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// Whether trailers, or a head that stands for them, tell of a failure of the server: UNKNOWN,
/// DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE or DATA_LOSS. Other statuses answer the client's
/// request, as 4xx do.
#[must_use]
pub fn tells_failure(fields: &HeaderMap) -> bool {
    fields.get(STATUS).is_some_and(|status| matches!(status.as_bytes(), b"2" | b"4" | b"13" | b"14" | b"15"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_is_a_media_type_with_or_without_a_suffix_over_http2() {
        let rows = [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("Application/GRPC;x=y", true),
            ("application/grpc-web", false),
            ("application/grpc-web+proto", false),
            ("application/json", false),
            ("", false),
        ];
        for (value, expected) in rows {
            assert_eq!(is_grpc(&HeaderValue::from_static(value)), expected, "{value}");
        }
        let mut request = http::Request::new(());
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(GRPC));
        assert!(!is_asked(&request.into_parts().0), "HTTP/1.1");
    }

    #[test]
    fn an_error_is_a_head_alone_with_an_escaped_message() {
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        tell(&mut response, Status::Unavailable, "100 % gone\n");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["grpc-message"], "100 %25 gone%0A");
        assert!(tells_failure(response.headers()));
    }

    #[test]
    fn only_statuses_that_blame_the_server_are_failures() {
        for code in 0_u16..=16 {
            let mut fields = HeaderMap::new();
            fields.insert(STATUS, HeaderValue::from(code));
            assert_eq!(tells_failure(&fields), [2, 4, 13, 14, 15].contains(&code), "{code}");
        }
        assert!(!tells_failure(&HeaderMap::new()));
    }
}
