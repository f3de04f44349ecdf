//! The Forwarded header (RFC 7239): read from trusted peers, continued, never begun.
//!
//! A quoted string may hold every separator, so nothing here splits a line without looking at
//! quotes. It must never write an element that another reader splits differently.

use http::header::FORWARDED;
use http::{HeaderMap, HeaderValue};

use crate::model::Client;

/// The elements of a line, from left to right; a line with an open quote has none.
pub fn elements(line: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    let parts = split(line, b',').unwrap_or_default();
    parts.into_iter().map(<[u8]>::trim_ascii)
}

/// Who asked, by an element's `for`: the node without its quotes.
#[must_use]
pub fn client(element: &[u8]) -> Option<&[u8]> {
    split(element, b';')?.into_iter().find_map(|pair| {
        let pair = pair.trim_ascii();
        let at = pair.iter().position(|byte| *byte == b'=')?;
        let value = &pair[at + 1..];
        let bare = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        pair[..at].eq_ignore_ascii_case(b"for").then(|| bare.unwrap_or(value))
    })
}

/// The header with one element more, as one line; `None` where none came. What cannot be read is
/// not continued: the line begins again with our element.
#[must_use]
pub fn continued(headers: &HeaderMap, peer: &Client, host: &HeaderValue) -> Option<HeaderValue> {
    headers.get(FORWARDED)?;
    let mut line: Vec<u8> = Vec::with_capacity(128);
    if headers.get_all(FORWARDED).iter().all(|one| split(one.as_bytes(), b',').is_some()) {
        for one in headers.get_all(FORWARDED) {
            line.extend_from_slice(one.as_bytes().trim_ascii());
            line.extend_from_slice(b", ");
        }
    }
    line.extend_from_slice(element(peer, host).as_bytes());
    HeaderValue::try_from(line).ok()
}

/// Our element: IPv6 in brackets and quotes, a host in quotes where it is no token (section 4).
fn element(peer: &Client, host: &HeaderValue) -> String {
    let node = match peer.peer.ip().to_canonical() {
        std::net::IpAddr::V4(address) => address.to_string(),
        std::net::IpAddr::V6(address) => format!("\"[{address}]\""),
    };
    let host = host.to_str().unwrap_or_default();
    let token =
        host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~'));
    let quote = if token { "" } else { "\"" };
    let proto = if peer.secure { "https" } else { "http" };
    format!("for={node};host={quote}{host}{quote};proto={proto}")
}

/// Splits outside quotes; `None` when a quote is left open.
fn split(text: &[u8], separator: u8) -> Option<Vec<&[u8]>> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            byte if *byte == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    (!quoted).then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::Tick;

    fn continued_by(lines: &[&'static str], peer: &str, host: &'static str) -> Option<String> {
        let local = ([127, 0, 0, 1], 80).into();
        let client = Client::new(0, peer.parse().unwrap(), local, Tick(0));
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FORWARDED, HeaderValue::from_static(line));
        }
        let line = continued(&headers, &client, &HeaderValue::from_static(host))?;
        Some(line.to_str().unwrap().to_owned())
    }

    #[test]
    fn one_element_is_appended_to_one_line() {
        let rows: &[(&[&'static str], &str, &'static str, Option<&str>)] = &[
            (&[], "10.0.0.1:1", "a", None),
            (&["for=1.2.3.4"], "10.0.0.1:1", "a", Some("for=1.2.3.4, for=10.0.0.1;host=a;proto=http")),
            (&["for=1", "for=2"], "10.0.0.1:1", "a", Some("for=1, for=2, for=10.0.0.1;host=a;proto=http")),
            (
                &["for=\"a,b\""],
                "[2001:db8::1]:9",
                "a:81",
                Some("for=\"a,b\", for=\"[2001:db8::1]\";host=\"a:81\";proto=http"),
            ),
            (&["for=\"open"], "10.0.0.1:1", "a", Some("for=10.0.0.1;host=a;proto=http")),
        ];
        for (lines, peer, host, expected) in rows {
            assert_eq!(continued_by(lines, peer, host).as_deref(), *expected, "{lines:?}");
        }
    }
}
