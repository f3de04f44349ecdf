//! Request and response heads: what is refused, what is dropped, what is matched and forwarded.
//!
//! One pass over the headers finds everything that needs work, so that an ordinary request pays for
//! nothing else. What is matched is what is forwarded, byte for byte. Rules: RFC 9110 section 7.6,
//! RFC 9112 sections 3 and 6, RFC 9113 section 8.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, response};

use super::error::ProxyError;
pub use super::host::{authority, routing_host};
use crate::model::RejectReason;
use crate::plan::{Paths, Policy};

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const PROXY_AUTHENTICATION_INFO: HeaderName = HeaderName::from_static("proxy-authentication-info");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// Largest length a body can be said to have: every peer can count it with a sign.
const MAX_LENGTH: u64 = i64::MAX as u64;
/// Most headers that Connection may name: as many as a head may have.
const MAX_CONNECTION_OPTIONS: usize = 100;

/// What one pass over a head found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Host lines.
    pub hosts: usize,
    connection: bool,
    hop_by_hop: bool,
    /// Upgrade is there.
    pub upgrade: bool,
    /// Expect is there.
    pub expect: bool,
    transfer_encoding: bool,
    lengths: usize,
    /// A name with an underscore is there.
    pub underscore: bool,
    bytes: usize,
    fields: usize,
    /// Forwarded, X-Forwarded-*, X-Real-IP or X-Switchback-Shadow is there: what trusted proxies alone say.
    pub forwarded: bool,
    /// X-Request-Id is there.
    pub request_id: bool,
    /// TE names trailers: HTTP/2 upstreams are told.
    pub te_trailers: bool,
    /// Traceparent or Tracestate is there.
    pub trace: bool,
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
        if !may_be_known(text) {
            found.underscore |= has_underscore(text.as_bytes());
            continue;
        }
        match text {
            "host" => found.hosts += 1,
            "connection" => found.connection = true,
            "te" => {
                found.hop_by_hop = true;
                found.te_trailers |= names_trailers(value);
            }
            "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "proxy-authorization"
            | "http2-settings" => found.hop_by_hop = true,
            "upgrade" => found.upgrade = true,
            "transfer-encoding" => found.transfer_encoding = true,
            "content-length" => found.lengths += 1,
            "expect" => found.expect = true,
            "x-request-id" => found.request_id = true,
            "traceparent" | "tracestate" => found.trace = true,
            "cookie" => found.cookies += 1,
            "forwarded"
            | "x-forwarded-for"
            | "x-forwarded-proto"
            | "x-forwarded-host"
            | "x-forwarded-port"
            | "x-real-ip"
            | "x-switchback-shadow" => found.forwarded = true,
            _ if text.starts_with("x-forwarded-") => found.forwarded = true,
            _ => found.underscore |= has_underscore(text.as_bytes()),
        }
    }
    found
}

/// The same for an upstream's answer, of which only what frames it and what concerns its connection is
/// looked for.
fn scan_response(headers: &HeaderMap) -> Scan {
    let mut found = Scan::default();
    for name in headers.keys() {
        match name.as_str() {
            text if !may_be_known(text) => {}
            "connection" => found.connection = true,
            "te"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authentication-info"
            | "http2-settings" => found.hop_by_hop = true,
            "upgrade" => found.upgrade = true,
            "transfer-encoding" => found.transfer_encoding = true,
            "content-length" => found.lengths += 1,
            _ => {}
        }
    }
    found
}

/// Whether a name begins like any that is looked for: many do not, and are told apart by one byte.
fn may_be_known(name: &str) -> bool {
    let first = name.as_bytes().first();
    matches!(first, Some(b'c' | b'e' | b'f' | b'h' | b'k' | b'p' | b't' | b'u' | b'x'))
}

/// Whether a name holds an underscore, looked for eight bytes at a time.
fn has_underscore(name: &[u8]) -> bool {
    const ONES: u64 = u64::MAX / 0xff;
    let holds = |bytes: &[u8; 8]| {
        // A byte is zero where the name has an underscore.
        let word = u64::from_ne_bytes(*bytes) ^ (ONES * u64::from(b'_'));
        word.wrapping_sub(ONES) & !word & (ONES << 7) != 0
    };
    match name.last_chunk() {
        Some(last) => holds(last) || name.as_chunks().0.iter().any(holds),
        None => name.contains(&b'_'),
    }
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
    if scan.lengths > 0 && length(&parts.headers).is_none_or(|length| length > MAX_LENGTH) {
        return refuse(RejectReason::BadHeader, "a length nobody can send");
    }
    if scan.upgrade {
        vet_upgrade(&parts.headers, scan)?;
    }
    if parts.version == Version::HTTP_2 && parts.headers.values().any(is_padded) {
        return refuse(RejectReason::BadHeader, "a value begins or ends with space");
    }
    if scan.expect {
        let only_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        if !parts.headers.get_all(EXPECT).iter().all(only_continue) {
            return refuse(RejectReason::Expectation, "only 100-continue can be expected");
        }
    }
    vet_path(&parts.uri, rules.paths)
}

/// Refuses an upgrade that brings a body: whoever reads on would take it for the new protocol, or the
/// new protocol for a body. No token is honoured, so what is not refused goes on as a plain request.
fn vet_upgrade(headers: &HeaderMap, scan: &Scan) -> Result<(), ProxyError> {
    if scan.transfer_encoding || length(headers).is_some_and(|length| length > 0) {
        return Err(ProxyError::reject(RejectReason::Upgrade, "an upgrade with a body"));
    }
    Ok(())
}

/// Whether a value has the padding that HTTP/2 forbids (RFC 9113 section 8.2.1) and HTTP/1 would
/// lose, so that two readers saw two values.
fn is_padded(value: &HeaderValue) -> bool {
    let is_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    is_space(value.as_bytes().first()) || is_space(value.as_bytes().last())
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
    if uri.query().is_some_and(|query| !query.is_ascii()) {
        return Err(ProxyError::reject(RejectReason::BadTarget, "the query holds bytes outside ASCII"));
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

/// Removes what concerns only the client's connection.
///
/// # Errors
/// A Connection option that names a header no client may have removed.
pub fn strip_request(headers: &mut HeaderMap, scan: &Scan) -> Result<(), ProxyError> {
    if scan.connection {
        strip_nominated(headers, true)?;
    }
    if scan.upgrade {
        headers.remove(UPGRADE);
    }
    if scan.hop_by_hop {
        for name in [
            &KEEP_ALIVE,
            &PROXY_CONNECTION,
            &TE,
            &PROXY_AUTHENTICATE,
            &PROXY_AUTHENTICATION_INFO,
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

/// Leaves one length in its canonical form; unequal ones are left for the framing to refuse.
fn one_length(headers: &mut HeaderMap) {
    let plain = |first: &HeaderValue| {
        first.as_bytes().iter().all(u8::is_ascii_digit) && (first.len() == 1 || first.as_bytes()[0] != b'0')
    };
    let mut lines = headers.get_all(CONTENT_LENGTH).iter();
    if lines.next().is_some_and(plain) && lines.next().is_none() {
        return;
    }
    if let Some(length) = length(headers) {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// The length that all lines, and all entries of a list, agree on (RFC 9110 section 8.6).
fn length(headers: &HeaderMap) -> Option<u64> {
    let entries =
        headers.get_all(CONTENT_LENGTH).iter().flat_map(|line| line.as_bytes().split(|b| *b == b','));
    let mut numbers = entries.map(|entry| {
        let entry = entry.trim_ascii();
        let digits = !entry.is_empty() && entry.iter().all(u8::is_ascii_digit);
        std::str::from_utf8(entry).ok().filter(|_| digits)?.parse().ok()
    });
    let first: u64 = numbers.next()??;
    numbers.all(|number| number == Some(first)).then_some(first)
}

/// Removes what concerns only the upstream's connection.
pub fn strip_response(parts: &mut response::Parts) {
    let headers = &mut parts.headers;
    let scan = scan_response(headers);
    if scan.connection {
        // A response's nominations are honoured as far as they are harmless.
        let _ = strip_nominated(headers, false);
    }
    if scan.upgrade {
        headers.remove(UPGRADE);
    }
    if scan.hop_by_hop {
        for name in [
            &KEEP_ALIVE,
            &PROXY_CONNECTION,
            &TE,
            &PROXY_AUTHENTICATE,
            &PROXY_AUTHENTICATION_INFO,
            &HTTP2_SETTINGS,
        ] {
            headers.remove(name);
        }
    }
    if scan.transfer_encoding {
        headers.remove(TRANSFER_ENCODING);
    }
    // No length beside a coding, nor where no body can be (RFC 9110 section 8.6).
    if scan.lengths > 0 && (scan.transfer_encoding || parts.status == StatusCode::NO_CONTENT) {
        headers.remove(CONTENT_LENGTH);
    } else if scan.lengths > 0 {
        one_length(headers);
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
            | "x-forwarded-client-cert"
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
    fn an_underscore_is_seen_wherever_it_is() {
        for length in 1..40 {
            assert!(!has_underscore(&vec![b'-'; length]), "{length}");
            for at in 0..length {
                let mut name = vec![b'`'; length];
                name[at] = b'_';
                assert!(has_underscore(&name), "{at} of {length}");
            }
        }
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
    fn a_list_of_equal_lengths_is_one_length() {
        let check = |lines: &[&'static str]| {
            length(&lines.iter().map(|line| (CONTENT_LENGTH, HeaderValue::from_static(line))).collect())
        };
        assert_eq!(check(&["3, 3"]), Some(3));
        assert_eq!(check(&["3", "03"]), Some(3));
        for lines in [&["3, 4"][..], &["3", "4"], &["+3"], &[""], &["3,"], &["18446744073709551616"], &[]] {
            assert_eq!(check(lines), None, "{lines:?}");
        }
    }

    #[test]
    fn answers_keep_a_length_only_where_it_means_something() {
        let check = |status: u16, lines: &[(&'static str, &'static str)]| {
            let (mut parts, ()) = http::Response::builder().status(status).body(()).unwrap().into_parts();
            for (name, value) in lines {
                parts.headers.append(*name, HeaderValue::from_static(value));
            }
            strip_response(&mut parts);
            parts.headers.get(CONTENT_LENGTH).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(check(200, &[("content-length", "3, 3")]).as_deref(), Some("3"));
        assert_eq!(check(304, &[("content-length", "3")]).as_deref(), Some("3"));
        assert_eq!(check(204, &[("content-length", "0")]), None);
        assert_eq!(check(200, &[("content-length", "3"), ("transfer-encoding", "chunked")]), None);
    }

    #[test]
    fn an_upgrade_brings_no_body() {
        let vet = |lines: &[(&'static str, &'static str)]| {
            let headers: HeaderMap = lines
                .iter()
                .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect();
            vet_upgrade(&headers, &scan(&headers)).is_ok()
        };
        assert!(vet(&[("upgrade", "websocket")]));
        assert!(vet(&[("upgrade", "websocket"), ("content-length", "0")]));
        assert!(!vet(&[("upgrade", "websocket"), ("content-length", "1")]));
        assert!(!vet(&[("upgrade", "h2c"), ("transfer-encoding", "chunked")]));
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
