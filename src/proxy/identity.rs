//! Who the client is and what upstreams are told of it: forwarded headers, request ids.
//!
//! Nothing a client says of itself is believed unless its peer is a trusted proxy. Headers are
//! authored after hop-by-hop removal, so that no `Connection` option can delete ours.

use std::net::IpAddr;

use http::header::{FORWARDED, HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;

use super::forwarded;
use crate::model::Client;
use crate::split::condition::in_networks;

/// `x-forwarded-for`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `x-forwarded-proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `x-forwarded-host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `x-forwarded-client-cert`.
const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
/// `x-real-ip`.
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
/// Marks a copy. A request that has it is never copied again, so that copies cannot go in circles.
pub const X_SHADOW: HeaderName = HeaderName::from_static("x-switchback-shadow");
/// `x-request-id`.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest request id passed on, in bytes.
const MAX_REQUEST_ID: usize = 128;
/// Most addresses of a forwarded chain that are looked at.
const MAX_HOPS: usize = 64;

/// Whether what the peer says of its client is believed.
#[must_use]
pub fn is_trusted(trusted: &[IpNet], peer: IpAddr) -> bool {
    !trusted.is_empty() && in_networks(trusted, peer)
}

/// The client: the first address from the right of X-Forwarded-For that is not a trusted proxy, or
/// of Forwarded where only that came; the peer itself when the peer is not trusted. A malformed
/// entry ends the walk at the last good address.
#[must_use]
pub fn client_ip(headers: &HeaderMap, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if !is_trusted(trusted, peer) {
        return peer;
    }
    if !headers.contains_key(X_FORWARDED_FOR) {
        let lines = headers.get_all(FORWARDED).iter().rev();
        let hops = lines.flat_map(|line| forwarded::elements(line.as_bytes()).rev());
        return walk(hops.map(|element| forwarded::client(element).and_then(address)), peer, trusted);
    }
    let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
    let hops = lines.flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
    walk(hops.map(address), peer, trusted)
}

fn walk(hops: impl Iterator<Item = Option<IpAddr>>, peer: IpAddr, trusted: &[IpNet]) -> IpAddr {
    let mut client = peer;
    for hop in hops.take(MAX_HOPS) {
        let Some(address) = hop else { break };
        client = address;
        if !in_networks(trusted, address) {
            break;
        }
    }
    client
}

/// An address of a forwarded chain; some proxies add a port or brackets.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let address = bare.and_then(|bare| bare.parse().ok());
    address
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()))
        .map(|ip| ip.to_canonical())
}

/// Authors the forwarded headers. An untrusted peer's are replaced; a trusted peer's are continued,
/// each in its own form. `Forwarded` is never begun.
pub fn forward(
    headers: &mut HeaderMap,
    client: &Client,
    trusted: bool,
    any_forwarded: bool,
    host: &HeaderValue,
) {
    let peer = client.peer_header.get_or_init(|| {
        let text = client.peer.ip().to_canonical().to_string();
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static("unknown"))
    });
    let proto = HeaderValue::from_static(if client.secure { "https" } else { "http" });
    if trusted && any_forwarded {
        if let Some(line) = forwarded::continued(headers, client, host) {
            headers.insert(FORWARDED, line);
        }
        let chain = joined(headers, peer);
        headers.insert(X_FORWARDED_FOR, chain);
        headers.entry(X_FORWARDED_PROTO).or_insert(proto);
        headers.entry(X_FORWARDED_HOST).or_insert_with(|| host.clone());
        identify(headers, client);
        return;
    }
    if any_forwarded {
        // Frameworks believe more of the family than we author: `-prefix`, `-ssl`, `-scheme`.
        let claimed = |name: &&HeaderName| name.as_str().starts_with("x-forwarded-");
        let claimed: Vec<HeaderName> = headers.keys().filter(claimed).cloned().collect();
        claimed.iter().chain([&FORWARDED, &X_REAL_IP, &X_SHADOW]).for_each(|name| {
            headers.remove(name);
        });
    }
    headers.insert(X_FORWARDED_FOR, peer.clone());
    headers.insert(X_FORWARDED_PROTO, proto);
    headers.insert(X_FORWARDED_HOST, host.clone());
    identify(headers, client);
}

/// Removes what a client says of its own certificate, in the spellings that CGI cannot tell apart.
/// Nobody but us says whose was shown, not even a trusted proxy; nor does anybody say in another
/// spelling than ours that a request is a copy.
pub fn strip_identity(headers: &mut HeaderMap) {
    let dashed = |byte: u8| if byte == b'_' { b'-' } else { byte };
    let is =
        |name: &HeaderName, ours: &HeaderName| name.as_str().bytes().map(dashed).eq(ours.as_str().bytes());
    let same =
        |name: &&HeaderName| is(name, &X_FORWARDED_CLIENT_CERT) || **name != X_SHADOW && is(name, &X_SHADOW);
    let claimed: Vec<HeaderName> = headers.keys().filter(same).cloned().collect();
    for name in claimed {
        headers.remove(name);
    }
}

/// Says whose certificate was shown and verified.
fn identify(headers: &mut HeaderMap, client: &Client) {
    if let Some(identity) = client.secured.get().and_then(|secured| secured.identity.as_ref()) {
        headers.insert(X_FORWARDED_CLIENT_CERT, identity.clone());
    }
}

/// The chain as one line with the peer appended: of two lines the spoofed first one could win.
fn joined(headers: &HeaderMap, peer: &HeaderValue) -> HeaderValue {
    let mut chain: Vec<u8> = Vec::with_capacity(64);
    for line in headers.get_all(X_FORWARDED_FOR) {
        chain.extend_from_slice(line.as_bytes().trim_ascii());
        chain.extend_from_slice(b", ");
    }
    chain.extend_from_slice(peer.as_bytes());
    HeaderValue::try_from(chain).unwrap_or_else(|_| peer.clone())
}

/// Whether an incoming request id is passed on: short and harmless in any log.
#[must_use]
pub fn is_request_id(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=MAX_REQUEST_ID).contains(&bytes.len())
        && bytes.iter().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'=' | b'+' | b'/')
        })
}

/// A new request id: UUID version 7 (RFC 9562 section 5.7) from the wall clock and 128 random bits.
#[must_use]
pub fn request_id(unix_millis: u64, entropy: [u64; 2]) -> HeaderValue {
    let mut random = [0_u8; 10];
    let [first, second] = entropy.map(u64::to_le_bytes);
    random[..8].copy_from_slice(&first);
    random[8..].copy_from_slice(&second[..2]);
    let id = uuid::Builder::from_unix_timestamp_millis(unix_millis, &random).into_uuid();
    let mut text = [0_u8; uuid::fmt::Hyphenated::LENGTH];
    let text = id.hyphenated().encode_lower(&mut text);
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (X_FORWARDED_FOR, HeaderValue::from_static(line))).collect()
    }

    #[test]
    fn the_walk_goes_right_to_left_and_stops_at_the_first_stranger() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let rows: &[(&[&'static str], &str)] = &[
            (&["1.2.3.4"], "1.2.3.4"),
            (&["6.6.6.6, 1.2.3.4, 10.0.0.2"], "1.2.3.4"),
            (&["6.6.6.6", "1.2.3.4"], "1.2.3.4"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["1.2.3.4, nonsense"], "10.0.0.1"),
            (&["[2001:db8::1]:443"], "2001:db8::1"),
            (&[], "10.0.0.1"),
            (&["1.2.3.4", ""], "10.0.0.1"),
        ];
        for (lines, expected) in rows {
            assert_eq!(client_ip(&chain(lines), peer, &trusted).to_string(), *expected, "{lines:?}");
        }
        let stranger: IpAddr = "9.9.9.9".parse().unwrap();
        assert_eq!(client_ip(&chain(&["1.2.3.4"]), stranger, &trusted), stranger);
    }

    #[test]
    fn forwarded_is_walked_where_only_that_came() {
        let trusted: Vec<IpNet> = vec!["10.0.0.0/8".parse().unwrap()];
        let peer: IpAddr = "10.0.0.1".parse().unwrap();
        let walk = |lines: &[&'static str], also: Option<&'static str>| {
            let mut headers: HeaderMap =
                lines.iter().map(|line| (FORWARDED, HeaderValue::from_static(line))).collect();
            headers.extend(also.map(|line| (X_FORWARDED_FOR, HeaderValue::from_static(line))));
            client_ip(&headers, peer, &trusted).to_string()
        };
        assert_eq!(walk(&["for=6.6.6.6, For=\"1.2.3.4:55\";proto=https, for=10.0.0.2"], None), "1.2.3.4");
        assert_eq!(walk(&["for=\"[2001:db8::1]:4711\""], None), "2001:db8::1");
        assert_eq!(walk(&["for=1.2.3.4", "for=10.0.0.2"], None), "1.2.3.4");
        assert_eq!(walk(&["for=1.2.3.4, for=_hidden"], None), "10.0.0.1");
        assert_eq!(walk(&["for=\"1.2.3.4, for=5.6.7.8"], None), "10.0.0.1");
        assert_eq!(walk(&["for=1.2.3.4"], Some("5.6.7.8")), "5.6.7.8");
    }

    #[test]
    fn request_ids_are_uuids_of_version_7() {
        let id = request_id(1_700_000_000_000, [1, 2]);
        let parsed = uuid::Uuid::parse_str(id.to_str().unwrap()).unwrap();
        assert_eq!(parsed.get_version_num(), 7);
        assert!(is_request_id(&id));
        assert!(!is_request_id(&HeaderValue::from_static("a b")));
    }
}
