//! Whom a request is for: Host, `:authority`, the absolute target, and what routing compares.
//!
//! Routing and forwarding use one value, so that no request is matched for one host and served by
//! another. It must never believe two names at once (RFC 9112 section 3.2, RFC 9113 section 8.3.1).

use std::borrow::Cow;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderValue, Version};

use super::error::ProxyError;
use super::head::Scan;
use crate::model::{Client, RejectReason};

/// The authority a request is for: the target's when it has one, else Host, which must then agree
/// with nothing else. An HTTP/1.0 client may name none: then it is the address it connected to
/// (RFC 9112 section 3.3), because upstreams are asked in HTTP/1.1, which needs one.
///
/// # Errors
/// Host missing, repeated, malformed, or at odds with `:authority`; a scheme that the listener does
/// not speak.
pub fn authority(parts: &Parts, scan: &Scan, client: &Client) -> Result<HeaderValue, ProxyError> {
    let refuse = |cause: &str| Err(ProxyError::reject(RejectReason::BadHost, cause));
    if scan.hosts > 1 {
        return refuse("more than one Host");
    }
    let host = parts.headers.get(HOST);
    let Some(target) = parts.uri.authority() else {
        return match host {
            Some(host) if is_host(host.as_bytes()) => Ok(host.clone()),
            Some(_) => refuse("malformed Host"),
            None if parts.version == Version::HTTP_10 => text(&client.local.to_string()),
            None => refuse("no Host"),
        };
    };
    if !speaks(parts, client.secure) {
        return Err(ProxyError::reject(RejectReason::BadTarget, "a scheme this listener does not speak"));
    }
    if !is_host(target.as_str().as_bytes()) {
        return refuse("malformed authority");
    }
    if parts.version == Version::HTTP_2 {
        if host.is_some_and(|host| !host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes())) {
            return refuse("Host and :authority differ");
        }
    } else if host.is_none_or(|host| !is_host(host.as_bytes())) && parts.version == Version::HTTP_11 {
        return refuse("malformed Host");
    }
    text(target.as_str())
}

/// Whether the target's scheme is the listener's. Over HTTP/2 a proxy that ended TLS before us may
/// tell the scheme its client used.
fn speaks(parts: &Parts, secure: bool) -> bool {
    match parts.uri.scheme_str() {
        None => true,
        Some("http") => !secure,
        Some("https") => secure || parts.version == Version::HTTP_2,
        Some(_) => false,
    }
}

fn text(authority: &str) -> Result<HeaderValue, ProxyError> {
    HeaderValue::from_str(authority)
        .map_err(|_| ProxyError::reject(RejectReason::BadHost, "malformed authority"))
}

/// Which bytes a name may hold.
const IN_NAMES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b'~');
        byte += 1;
    }
    table
};

/// Whether bytes are `host[:port]` and nothing else: no user, no path, no list.
fn is_host(bytes: &[u8]) -> bool {
    let (name, port) = split_port(bytes);
    let name_fits = match name.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
        Some(inner) => {
            inner.iter().all(|byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'))
                && !inner.is_empty()
        }
        None => !name.is_empty() && name.iter().all(|byte| IN_NAMES[usize::from(*byte)]),
    };
    name_fits && port.is_none_or(is_port)
}

/// Digits of a number up to 65535.
fn is_port(bytes: &[u8]) -> bool {
    let digits = bytes.len() <= 5 && bytes.iter().all(u8::is_ascii_digit);
    digits && std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<u16>().is_ok())
}

fn split_port(bytes: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr::memrchr(b':', bytes) {
        Some(at) if !bytes[at..].contains(&b']') => (&bytes[..at], Some(&bytes[at + 1..])),
        _ => (bytes, None),
    }
}

/// The host of an authority as routing compares it: no port, lower case, no trailing dot.
#[must_use]
pub fn routing_host(authority: &HeaderValue) -> Cow<'_, str> {
    let whole = authority.to_str().unwrap_or("");
    let (name, _) = split_port(whole.as_bytes());
    let name = &whole[..name.len()];
    let name = name.strip_suffix('.').unwrap_or(name);
    // Looks at all of them: without a way out it is done many bytes at a time.
    if name.bytes().fold(false, |upper, byte| upper | byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_with_ports_and_nothing_else() {
        for good in ["a", "a.b:80", "[::1]:8080", "[::1]", "10.0.0.1", "A_b-c.d", "a:65535"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in
            ["", "a/b", "u@a", "a b", "a:", "a:x", "a:123456", "a:65536", "[]", "[zz]", "a,b", "a:80:80"]
        {
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
}
