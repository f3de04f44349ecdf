//! Which trailers pass a hop (RFC 9110 section 6.5).
//!
//! Pure. A field that decides framing, routing, access or identity must never arrive behind the body:
//! who merges trailers into headers would then act on it.

use http::{HeaderName, HeaderValue};

/// Whether a trailer passes where the message announces its trailers in a `Trailer` field.
#[must_use]
pub fn passes(name: &HeaderName, announced: Option<&HeaderValue>) -> bool {
    let names = announced.map(HeaderValue::as_bytes).unwrap_or_default();
    let is_announced = names
        .split(|byte| *byte == b',')
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(name.as_str().as_bytes()));
    is_announced && is_harmless(name)
}

/// Whether a field may ever be a trailer.
#[must_use]
pub fn is_harmless(name: &HeaderName) -> bool {
    let name = name.as_str();
    !matches!(
        name,
        "host"
            | "connection"
            | "keep-alive"
            | "proxy-connection"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "expect"
            | "max-forwards"
            | "range"
            | "age"
            | "authorization"
            | "proxy-authorization"
            | "proxy-authenticate"
            | "www-authenticate"
            | "cookie"
            | "set-cookie"
            | "cache-control"
            | "pragma"
            | "date"
            | "location"
            | "retry-after"
            | "vary"
            | "forwarded"
            | "via"
            | "x-request-id"
            | "x-real-ip"
            | "traceparent"
            | "tracestate"
    ) && !["content-", "if-", "x-forwarded-", "x-switchback-"].iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_announced_and_harmless_trailers_pass() {
        let announced = HeaderValue::from_static("X-Sum , content-length,grpc-status");
        let rows = [
            ("x-sum", true),
            ("grpc-status", true),
            ("content-length", false),
            ("x-other", false),
            ("sum", false),
        ];
        for (name, expected) in rows {
            assert_eq!(passes(&HeaderName::from_static(name), Some(&announced)), expected, "{name}");
            assert!(!passes(&HeaderName::from_static(name), None), "{name}");
        }
        for name in ["x-forwarded-for", "if-match", "set-cookie", "authorization"] {
            assert!(!is_harmless(&HeaderName::from_static(name)), "{name}");
        }
    }
}
