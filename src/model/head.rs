//! What routing and choosing may know of a request: its head, borrowed, and who sent it.
//!
//! It exists so that `explain` and the request path ask the same questions of the same type. It
//! must never allocate for a question nobody asks.

use std::borrow::Cow;
use std::net::IpAddr;

use http::{HeaderMap, Method};

/// A borrowed view of one request head.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// Index of the listener that took the connection, as in the plan.
    pub listener: usize,
    /// The request method.
    pub method: &'a Method,
    /// Host without port, lower case; empty when the client named none.
    pub host: &'a str,
    /// Path as it will be forwarded, never empty.
    pub path: &'a str,
    /// Query without the question mark.
    pub query: Option<&'a str>,
    /// All headers.
    pub headers: &'a HeaderMap,
    /// The client after trusted proxies have been believed.
    pub client_ip: IpAddr,
}

impl<'a> RequestHead<'a> {
    /// First value of a header, as bytes.
    #[must_use]
    pub fn header(&self, name: &http::HeaderName) -> Option<&'a [u8]> {
        self.headers.get(name).map(http::HeaderValue::as_bytes)
    }

    /// First value of a cookie over all Cookie lines; the crumbs of HTTP/2 need no joining.
    #[must_use]
    pub fn cookie(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.cookies(name).next()
    }

    /// Every value of a cookie over all Cookie lines, in their order.
    pub fn cookies(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let lines = self.headers.get_all(http::header::COOKIE).iter();
        lines.flat_map(move |line| cookies_in(line.as_bytes(), name))
    }

    /// First value of a query parameter, percent-decoded, `+` read as a space.
    #[must_use]
    pub fn query_param(&self, name: &[u8]) -> Option<Cow<'a, [u8]>> {
        self.query?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (*form_decode(key) == *name).then(|| form_decode(value))
        })
    }
}

/// Finds a cookie in one Cookie line (RFC 6265 section 4.2.1), surrounding quotes removed.
fn cookies_in<'a>(line: &'a [u8], name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    line.split(|byte| *byte == b';').filter_map(move |pair| {
        let pair = pair.trim_ascii();
        let value = pair.strip_prefix(name)?.strip_prefix(b"=")?;
        let quoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
        Some(quoted.unwrap_or(value))
    })
}

fn form_decode(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|byte| byte == b'%' || byte == b'+') {
        return Cow::Borrowed(text.as_bytes());
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_encoding::percent_decode_str(&spaced).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_by_whole_name() {
        let line = b"ab=1; b=\"two\";c=; b=3";
        let rows: [(&[u8], &[&[u8]]); 4] =
            [(b"b", &[b"two", b"3"]), (b"ab", &[b"1"]), (b"c", &[b""]), (b"a", &[])];
        for (name, values) in rows {
            assert_eq!(cookies_in(line, name).collect::<Vec<_>>(), values);
        }
    }

    #[test]
    fn query_values_are_decoded_and_the_first_counts() {
        let headers = HeaderMap::new();
        let head = RequestHead {
            listener: 0,
            method: &Method::GET,
            host: "h",
            path: "/",
            query: Some("a%20b=1&u=x+y%2Fz&u=2&flag"),
            headers: &headers,
            client_ip: IpAddr::from([127, 0, 0, 1]),
        };
        assert_eq!(head.query_param(b"u").as_deref(), Some(&b"x y/z"[..]));
        assert_eq!(head.query_param(b"a b").as_deref(), Some(&b"1"[..]));
        assert_eq!(head.query_param(b"flag").as_deref(), Some(&b""[..]));
        assert_eq!(head.query_param(b"none"), None);
    }
}
