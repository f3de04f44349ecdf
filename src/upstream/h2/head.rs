//! Request heads from HTTP/1.1 form to HTTP/2's (RFC 9113 sections 8.2 and 8.3).
//!
//! Host becomes `:authority`, what frames or describes an HTTP/1 connection goes. It must never add
//! a header of its own.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, uri};

/// What speaks of one HTTP/1 connection only.
const HOP_BY_HOP: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// The head as it goes up; the given one stays whole, to be sent again.
pub(super) fn up(parts: &Parts, scheme: Scheme) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = parts.method.clone();
    *request.headers_mut() = parts.headers.clone();
    strip(request.headers_mut());
    let host = request.headers_mut().remove(HOST);
    let authority = host.as_ref().and_then(|host| Authority::try_from(host.as_bytes()).ok());
    match absolute(&parts.uri, authority, scheme) {
        Some(uri) => {
            *request.uri_mut() = uri;
            *request.version_mut() = Version::HTTP_2;
        }
        None => {
            // HTTP/1.0 without Host: RFC 9113 section 8.3.1 lets `:authority` be absent.
            *request.uri_mut() = parts.uri.clone();
            *request.version_mut() = Version::HTTP_11;
        }
    }
    request
}

fn absolute(target: &Uri, authority: Option<Authority>, scheme: Scheme) -> Option<Uri> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(authority?);
    let slash = || PathAndQuery::from_static("/");
    parts.path_and_query = Some(target.path_and_query().cloned().unwrap_or_else(slash));
    Uri::from_parts(parts).ok()
}

/// Removes what HTTP/2 does not allow; of TE, `trailers` may stay.
fn strip(headers: &mut HeaderMap) {
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
    if let Some(te) = headers.remove(TE)
        && te.as_bytes().eq_ignore_ascii_case(b"trailers")
    {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// The length a response declares.
pub(super) fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translated(target: &str, headers: &[(&'static str, &'static str)]) -> Request<()> {
        let (mut parts, ()) = Request::get(target).body(()).unwrap().into_parts();
        for (name, value) in headers {
            parts.headers.append(*name, HeaderValue::from_static(value));
        }
        up(&parts, Scheme::HTTP)
    }

    #[test]
    fn host_becomes_the_authority_and_the_target_stays_as_it_is() {
        let request = translated("/a//b;c?d=%2F", &[("host", "Shop.example:8080"), ("cookie", "a=b; c=d")]);
        assert_eq!(request.uri().to_string(), "http://Shop.example:8080/a//b;c?d=%2F");
        assert_eq!(request.version(), Version::HTTP_2);
        assert!(!request.headers().contains_key(HOST));
        assert_eq!(request.headers()["cookie"], "a=b; c=d");
        let nameless = translated("/", &[("host", "")]);
        assert_eq!((nameless.version(), nameless.headers().len()), (Version::HTTP_11, 0));
    }

    #[test]
    fn what_frames_an_http1_connection_goes_and_te_keeps_trailers_alone() {
        let rows = [("trailers", Some("trailers")), ("Trailers", Some("trailers")), ("gzip", None)];
        for (te, kept) in rows {
            let request = translated(
                "/",
                &[
                    ("host", "a"),
                    ("te", te),
                    ("connection", "te"),
                    ("transfer-encoding", "chunked"),
                    ("keep-alive", "1"),
                    ("upgrade", "websocket"),
                    ("proxy-connection", "x"),
                    ("content-length", "3"),
                ],
            );
            let left = request.headers();
            assert_eq!(left.get(TE).map(HeaderValue::as_bytes), kept.map(str::as_bytes), "{te}");
            assert_eq!(left.len(), 1 + usize::from(kept.is_some()), "{left:?}");
            assert_eq!(left[CONTENT_LENGTH], "3");
        }
    }
}
