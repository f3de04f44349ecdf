//! Request and response heads: what is refused, what is dropped, what is matched and forwarded.
//!
//! One pass over the headers finds everything that needs work, so that an ordinary request pays for
//! nothing else. What is matched is what is forwarded, byte for byte. Rules: RFC 9110 section 7.6,
//! RFC 9112 sections 3 and 6, RFC 9113 section 8.

use std::borrow::Cow;

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, Version};

use super::error::ProxyError;
use crate::model::RejectReason;
use crate::plan::{Paths, Policy};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Most headers that Connection may name: as many as a head may have.
const MAX_CONNECTION_OPTIONS: usize = 100;

/// What one pass over a head found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    hosts: usize,
    connection: bool,
    hop_by_hop: bool,
    /// Expect is there.
    pub expect: bool,
    transfer_encoding: bool,
    lengths: usize,
    underscore: bool,
    bytes: usize,
    fields: usize,
    /// Forwarded, X-Forwarded-* or X-Real-IP is there.
    pub forwarded: bool,
    /// X-Request-Id is there.
    pub request_id: bool,
    /// TE names trailers: HTTP/2 upstreams are told.
    pub te_trailers: bool,
    /// More than one Cookie line is there.
    pub cookies: usize,
}

/// Looks at every header once.
#[must_use]
pub fn scan(headers: &HeaderMap) -> Scan {
    let mut found = Scan::default();
    for (name, value) in headers {
        let text = name.as_str();
        found.fields += 1;
        found.bytes += text.len() + value.len() + 4;
        match text {
            "host" => found.hosts += 1,
            "connection" => found.connection = true,
            "te" => {
                found.hop_by_hop = true;
                found.te_trailers |= names_trailers(value);
            }
            "keep-alive"
            | "proxy-connection"
            | "upgrade"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "http2-settings" => found.hop_by_hop = true,
            "transfer-encoding" => found.transfer_encoding = true,
            "content-length" => found.lengths += 1,
            "expect" => found.expect = true,
            "x-request-id" => found.request_id = true,
            "cookie" => found.cookies += 1,
            "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
            | "x-forwarded-port" | "x-real-ip" => found.forwarded = true,
            _ => found.underscore |= text.contains('_'),
        }
    }
    found
}

/// Whether a TE line holds `trailers` (RFC 9110 section 10.1.4).
fn names_trailers(line: &HeaderValue) -> bool {
    let mut codings = line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    codings.any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

/// Bounds and policies a head is held to.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Request line and headers together, in bytes.
    pub header_bytes: u64,
    /// Header fields.
    pub header_count: u16,
    /// Request target, in bytes.
    pub target_bytes: u64,
    /// Ambiguous paths and names.
    pub paths: Paths,
}

/// Refuses what must not be forwarded.
///
/// # Errors
/// The refusal.
pub fn vet(parts: &Parts, scan: &Scan, rules: &Rules) -> Result<(), ProxyError> {
    let refuse = |reason, cause: &str| Err(ProxyError::reject(reason, cause));
    let target = parts.uri.path().len() + parts.uri.query().map_or(0, |query| query.len() + 1);
    if target as u64 > rules.target_bytes {
        return refuse(RejectReason::TargetTooLong, "the target is too long");
    }
    if scan.fields > usize::from(rules.header_count) || (scan.bytes + target) as u64 > rules.header_bytes {
        return refuse(RejectReason::HeadersTooLarge, "too many or too large headers");
    }
    if parts.method == Method::CONNECT || parts.method == Method::TRACE {
        return refuse(RejectReason::Method, "CONNECT and TRACE are not forwarded");
    }
    if scan.underscore && rules.paths.underscores == Policy::Reject {
        return refuse(RejectReason::BadHeader, "a header name holds an underscore");
    }
    if scan.transfer_encoding && !is_only_chunked(&parts.headers) {
        return refuse(RejectReason::BadHeader, "a transfer coding other than one chunked");
    }
    if scan.expect {
        let only_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if !parts.headers.get_all(EXPECT).iter().all(only_continue) {
            return refuse(RejectReason::Expectation, "only 100-continue can be expected");
        }
    }
    vet_path(&parts.uri, rules.paths)
}

/// Whether the message is framed by exactly one `chunked` (RFC 9112 section 6.1): any other coding
/// would arrive undecoded and unnamed.
fn is_only_chunked(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(TRANSFER_ENCODING).iter();
    let first =
        lines.next().is_some_and(|line| line.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked"));
    first && lines.next().is_none()
}

/// Refuses ambiguous paths by the listener's policy.
fn vet_path(uri: &Uri, policy: Paths) -> Result<(), ProxyError> {
    let path = uri.path();
    if !path.starts_with('/') {
        return Err(ProxyError::reject(RejectReason::BadTarget, "the target has no absolute path"));
    }
    let bytes = path.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'.' | b'\\') || !byte.is_ascii()) {
        return Ok(());
    }
    if bytes.iter().any(|byte| !byte.is_ascii()) {
        return Err(ProxyError::reject(RejectReason::BadTarget, "the path holds bytes outside ASCII"));
    }
    let lower = path.to_ascii_lowercase();
    if lower.contains("%00") {
        return Err(ProxyError::reject(RejectReason::BadPath, "the path holds NUL"));
    }
    if policy.encoded_slash == Policy::Reject
        && (lower.contains("%2f") || lower.contains("%5c") || lower.contains('\\'))
    {
        return Err(ProxyError::reject(RejectReason::BadPath, "the path holds an encoded slash"));
    }
    let plain = lower.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    let is_dots = |segment: &str| matches!(segment.split(';').next(), Some("." | ".."));
    if policy.dot_segments == Policy::Reject && plain.split('/').any(is_dots) {
        return Err(ProxyError::reject(RejectReason::BadPath, "the path holds dot segments"));
    }
    Ok(())
}

/// The authority a request is for: the target's when it has one, else Host, which must then agree
/// with nothing else. `None` for HTTP/1.0 without Host.
///
/// # Errors
/// Host missing, repeated, malformed, or at odds with `:authority`.
pub fn authority(parts: &Parts, scan: &Scan) -> Result<Option<HeaderValue>, ProxyError> {
    let refuse = |cause: &str| Err(ProxyError::reject(RejectReason::BadHost, cause));
    if scan.hosts > 1 {
        return refuse("more than one Host");
    }
    let host = parts.headers.get(HOST);
    let Some(target) = parts.uri.authority() else {
        return match host {
            Some(host) if is_host(host.as_bytes()) => Ok(Some(host.clone())),
            Some(_) => refuse("malformed Host"),
            None if parts.version == Version::HTTP_10 => Ok(None),
            None => refuse("no Host"),
        };
    };
    let scheme_fits = parts.uri.scheme_str().is_none_or(|scheme| scheme == "http" || scheme == "https");
    if !is_host(target.as_str().as_bytes()) || !scheme_fits {
        return refuse("malformed authority");
    }
    if parts.version == Version::HTTP_2 {
        if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes())) {
            return refuse("Host and :authority differ");
        }
    } else if host.is_none_or(|host| !is_host(host.as_bytes())) && parts.version == Version::HTTP_11 {
        return refuse("malformed Host");
    }
    HeaderValue::from_str(target.as_str())
        .map(Some)
        .map_err(|_| ProxyError::reject(RejectReason::BadHost, "malformed authority"))
}

/// Whether bytes are `host[:port]` and nothing else: no user, no path, no list.
fn is_host(bytes: &[u8]) -> bool {
    let (name, port) = split_port(bytes);
    let name_fits = match name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        Some(inner) => {
            inner.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
                && !inner.is_empty()
        }
        None => {
            !name.is_empty()
                && name
                    .iter()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~'))
        }
    };
    name_fits
        && port.is_none_or(|port| !port.is_empty() && port.len() <= 5 && port.iter().all(u8::is_ascii_digit))
}

fn split_port(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    let colon = bytes.iter().rposition(|byte| *byte == b':');
    match colon {
        Some(at) if !bytes[at..].contains(&b']') => (&bytes[..at], Some(&bytes[at + 1..])),
        _ => (bytes, None),
    }
}

/// The host of an authority as routing compares it: no port, lower case, no trailing dot.
#[must_use]
pub fn routing_host(authority: &HeaderValue) -> Cow<'_, str> {
    let (name, _) = split_port(authority.as_bytes());
    let name = std::str::from_utf8(name).unwrap_or("");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Removes what concerns only the client's connection.
///
/// # Errors
/// A Connection option that names a header no client may have removed.
pub fn strip_request(headers: &mut HeaderMap, scan: &Scan) -> Result<(), ProxyError> {
    if scan.connection {
        strip_nominated(headers, true)?;
    }
    if scan.hop_by_hop {
        for name in [
            &KEEP_ALIVE,
            &PROXY_CONNECTION,
            &TE,
            &UPGRADE,
            &PROXY_AUTHENTICATE,
            &PROXY_AUTHORIZATION,
            &HTTP2_SETTINGS,
        ] {
            headers.remove(name);
        }
    }
    if scan.transfer_encoding {
        headers.remove(TRANSFER_ENCODING);
        // Of the two the coding decides (RFC 9112 section 6.3); a length left behind would smuggle.
        headers.remove(CONTENT_LENGTH);
    }
    if scan.lengths > 0 {
        one_length(headers);
    }
    if scan.expect {
        headers.remove(EXPECT);
    }
    if scan.cookies > 1 {
        join_cookies(headers);
    }
    Ok(())
}

/// Leaves one length in its canonical form; the parsers before us accepted only equal ones.
fn one_length(headers: &mut HeaderMap) {
    let lines = headers.get_all(CONTENT_LENGTH).iter().count();
    let Some(first) = headers.get(CONTENT_LENGTH) else { return };
    let padded = first.as_bytes().starts_with(b"0") && first.len() > 1;
    if lines > 1 || padded {
        let number = first.to_str().ok().and_then(|text| text.parse::<u64>().ok());
        if let Some(number) = number {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(number));
        }
    }
}

/// Removes what concerns only the upstream's connection.
pub fn strip_response(headers: &mut HeaderMap) {
    let scan = scan(headers);
    if scan.connection {
        // A response's nominations are honoured as far as they are harmless.
        let _ = strip_nominated(headers, false);
    }
    if scan.hop_by_hop {
        for name in [&KEEP_ALIVE, &PROXY_CONNECTION, &TE, &UPGRADE, &PROXY_AUTHENTICATE] {
            headers.remove(name);
        }
    }
    if scan.transfer_encoding {
        headers.remove(TRANSFER_ENCODING);
        headers.remove(CONTENT_LENGTH);
    }
}

/// Removes the headers that Connection names, then Connection.
fn strip_nominated(headers: &mut HeaderMap, strict: bool) -> Result<(), ProxyError> {
    let mut nominated: Vec<HeaderName> = Vec::new();
    for line in headers.get_all(CONNECTION) {
        for option in line.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.is_empty()
                || option.eq_ignore_ascii_case(b"close")
                || option.eq_ignore_ascii_case(b"keep-alive")
            {
                continue;
            }
            let Ok(name) = HeaderName::from_bytes(option) else { continue };
            if is_protected(&name) {
                if strict {
                    let cause = format!("Connection names {name}");
                    return Err(ProxyError::reject(RejectReason::BadHeader, cause));
                }
                continue;
            }
            if nominated.len() >= MAX_CONNECTION_OPTIONS {
                return Err(ProxyError::reject(RejectReason::BadHeader, "Connection names too many headers"));
            }
            nominated.push(name);
        }
    }
    for name in nominated {
        headers.remove(name);
    }
    headers.remove(CONNECTION);
    Ok(())
}

/// Headers that routing, security or tracing relies on.
fn is_protected(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "host"
            | "content-length"
            | "content-type"
            | "authorization"
            | "cookie"
            | "set-cookie"
            | "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-proto"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-real-ip"
            | "x-request-id"
            | "traceparent"
            | "tracestate"
            | "via"
    )
}

/// Joins Cookie lines as one (RFC 9113 section 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let lines: Vec<&[u8]> = headers.get_all(http::header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(line) = HeaderValue::from_bytes(&lines.join(&b"; "[..])) {
        headers.insert(http::header::COOKIE, line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_ports_and_nothing_else() {
        for good in ["a", "a.b:80", "[::1]:8080", "[::1]", "10.0.0.1", "A_b-c.d"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["", "a/b", "u@a", "a b", "a:", "a:x", "a:123456", "[]", "[zz]", "a,b", "a:80:80"] {
            assert!(!is_host(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn routing_ignores_port_case_and_the_final_dot() {
        let host = |text: &'static str| routing_host(&HeaderValue::from_static(text)).into_owned();
        assert_eq!(host("Shop.Example.com:8080"), "shop.example.com");
        assert_eq!(host("a."), "a");
        assert_eq!(host("[::1]:80"), "[::1]");
    }

    #[test]
    fn paths_are_held_to_the_policy() {
        let strict =
            Paths { dot_segments: Policy::Reject, encoded_slash: Policy::Reject, underscores: Policy::Keep };
        let loose =
            Paths { dot_segments: Policy::Keep, encoded_slash: Policy::Keep, underscores: Policy::Keep };
        let check = |path: &str, policy| vet_path(&path.parse().unwrap(), policy).is_ok();
        for path in ["/a/../b", "/a/%2e%2E/b", "/.", "/a/..", "/a/..;x/b", "/a%2f..%2fb"] {
            assert!(!check(path, Paths::default()), "{path}");
            assert!(check(path, loose), "{path}");
        }
        for path in ["/a.b/c..d", "/...", "/a%20b"] {
            assert!(check(path, strict), "{path}");
        }
        assert!(check("/a%2Fb", Paths::default()));
        assert!(!check("/a%2Fb", strict));
        assert!(!check("/a%00", loose));
    }

    #[test]
    fn lengths_are_one_and_canonical() {
        let mut headers = HeaderMap::new();
        headers.append(CONTENT_LENGTH, HeaderValue::from_static("003"));
        headers.append(CONTENT_LENGTH, HeaderValue::from_static("003"));
        let found = scan(&headers);
        strip_request(&mut headers, &found).unwrap();
        assert_eq!(headers.get_all(CONTENT_LENGTH).iter().collect::<Vec<_>>(), ["3"]);
    }

    #[test]
    fn only_one_chunked_frames_a_message() {
        let check = |lines: &[&'static str]| {
            is_only_chunked(
                &lines.iter().map(|line| (TRANSFER_ENCODING, HeaderValue::from_static(line))).collect(),
            )
        };
        assert!(check(&["chunked"]) && check(&["Chunked"]));
        for lines in
            [&["gzip, chunked"][..], &["chunked", "chunked"], &["identity", "chunked"], &[",chunked"]]
        {
            assert!(!check(lines), "{lines:?}");
        }
    }

    #[test]
    fn nominated_headers_go_before_ours_come() {
        let mut headers = HeaderMap::new();
        headers.insert(CONNECTION, HeaderValue::from_static("x-drop, close"));
        headers.insert("x-drop", HeaderValue::from_static("1"));
        headers.insert("x-keep", HeaderValue::from_static("1"));
        let found = scan(&headers);
        strip_request(&mut headers, &found).unwrap();
        assert_eq!(headers.len(), 1);

        headers.insert(CONNECTION, HeaderValue::from_static("X-Forwarded-For"));
        let found = scan(&headers);
        assert!(strip_request(&mut headers, &found).is_err());
    }
}
