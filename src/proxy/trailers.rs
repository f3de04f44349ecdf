//! Which trailers of an answer reach the client.
//!
//! HTTP/1 announces its trailers before the body; what was not announced is dropped, so that no field
//! arrives that nobody expected. It must never merge a trailer into the head (RFC 9110 section 6.5).

use http::header::TRAILER;
use http::{HeaderMap, HeaderName, Version, response};

use crate::upstream::trailers::is_harmless;

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
    /// What the head of an answer announces; `version` is the one it came in.
    #[must_use]
    pub fn by(parts: &response::Parts) -> Self {
        if parts.version == Version::HTTP_2 {
            return Self::Any;
        }
        let lines = parts.headers.get_all(TRAILER).iter();
        let names = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
        let names = names.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok());
        let fields: Vec<_> = names.take(MAX_ANNOUNCED).collect();
        if fields.is_empty() { Self::None } else { Self::Fields(fields) }
    }

    /// Removes what may not pass.
    pub fn filter(&self, trailers: &mut HeaderMap) {
        let passes = |name: &HeaderName| {
            is_harmless(name)
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn passed(version: Version, lines: &[&'static str], names: &[&'static str]) -> Vec<String> {
        let (mut parts, ()) = http::Response::builder().version(version).body(()).unwrap().into_parts();
        for line in lines {
            parts.headers.append(TRAILER, HeaderValue::from_static(line));
        }
        let mut trailers: HeaderMap =
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        Announced::by(&parts).filter(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(ToString::to_string).collect();
        left.sort();
        left
    }

    #[test]
    fn only_announced_and_harmless_fields_pass() {
        let names = ["x-sum", "x-more", "x-other", "content-length", "host", "authorization", "set-cookie"];
        let lines = ["X-Sum, content-length", "x-more,, host"];
        assert_eq!(passed(Version::HTTP_11, &lines, &names), ["x-more", "x-sum"]);
        assert!(passed(Version::HTTP_11, &[], &names).is_empty());
        let names = ["grpc-status", "te", "x-forwarded-for"];
        assert_eq!(passed(Version::HTTP_2, &[], &names), ["grpc-status"]);
    }
}
