//! Trailers: which fields may come after a body.
//!
//! A trailer is read when routing, framing and authorization are long decided; one that names them
//! could only fool a reader that merges it into the head. It must never be merged here (RFC 9110
//! section 6.5).

use http::header::TRAILER;
use http::{HeaderMap, HeaderName};

/// Most fields a message can announce: as many as a head may have.
const MAX_ANNOUNCED: usize = 100;

/// What a message said of its trailers before its body.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Announced {
    /// Nothing was said, and had to be: HTTP/1.
    #[default]
    None,
    /// These fields.
    Fields(Vec<HeaderName>),
    /// Nothing has to be said: HTTP/2, where gRPC sends its status so.
    Any,
}

impl Announced {
    /// What the head of an HTTP/1 message announces.
    #[must_use]
    pub fn by(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(TRAILER).iter();
        let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        let fields: Vec<_> = names.take(MAX_ANNOUNCED).collect();
        if fields.is_empty() { Self::None } else { Self::Fields(fields) }
    }

    /// Removes what may not pass.
    pub fn filter(&self, trailers: &mut HeaderMap) {
        let passes = |name: &HeaderName| {
            allowed_trailer(name)
                && match self {
                    Self::None => false,
                    Self::Fields(fields) => fields.contains(name),
                    Self::Any => true,
                }
        };
        let refused: Vec<_> = trailers.keys().filter(|name| !passes(name)).cloned().collect();
        for name in refused {
            trailers.remove(name);
        }
    }
}

/// Whether a field may be a trailer at all: none that frames, routes, authenticates, names a client
/// or describes the content.
#[must_use]
pub fn allowed_trailer(name: &HeaderName) -> bool {
    let name = name.as_str();
    let content = name.starts_with("content-") && name != "content-digest";
    let identity = name.starts_with("x-forwarded-") || name.starts_with("proxy-");
    !content
        && !identity
        && !matches!(
            name,
            "age"
                | "authorization"
                | "cache-control"
                | "connection"
                | "cookie"
                | "date"
                | "expect"
                | "expires"
                | "forwarded"
                | "host"
                | "http2-settings"
                | "keep-alive"
                | "location"
                | "max-forwards"
                | "pragma"
                | "range"
                | "retry-after"
                | "set-cookie"
                | "te"
                | "traceparent"
                | "tracestate"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
                | "vary"
                | "via"
                | "warning"
                | "www-authenticate"
                | "x-real-ip"
                | "x-request-id"
        )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn passed(announced: &Announced, names: &[&'static str]) -> Vec<String> {
        let mut trailers: HeaderMap =
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        announced.filter(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn only_announced_and_harmless_fields_pass() {
        let mut headers = HeaderMap::new();
        assert_eq!(Announced::by(&headers), Announced::None);
        headers.append(TRAILER, HeaderValue::from_static("X-Sum, content-length"));
        headers.append(TRAILER, HeaderValue::from_static("x-more,, host"));
        let announced = Announced::by(&headers);
        let names = ["x-sum", "x-more", "x-other", "content-length", "host", "authorization", "set-cookie"];
        assert_eq!(passed(&announced, &names), ["x-more", "x-sum"]);
        assert!(passed(&Announced::None, &names).is_empty());
        assert_eq!(
            passed(&Announced::Any, &["grpc-status", "grpc-message", "te", "x-forwarded-for"]),
            ["grpc-message", "grpc-status"]
        );
    }
}
