//! A route's rate limit: how often, by what, and where it is remembered.
//!
//! Asked once per request of a route that has one. It must never allocate for a key, nor depend on
//! which worker asks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::ledger::limiter::{Admission, Limiter, Rate};
use crate::model::RequestHead;
use crate::split::KeySource;

/// A route's rate limit.
#[derive(Debug)]
pub struct RateLimit {
    /// How often.
    pub rate: Rate,
    /// Whose requests are counted together; `None` is the route's.
    pub by: Option<KeySource>,
    /// What it remembers.
    pub limiter: Arc<Limiter>,
}

impl RateLimit {
    /// Counts a request that came at `now`.
    #[must_use]
    pub fn admit(&self, head: &RequestHead<'_>, now: Instant) -> Admission {
        self.limiter.admit(self.rate, self.by.as_ref().map(|by| key(&self.limiter, by, head)), now)
    }
}

/// A hash of whose request it is. Who leaves the key out is counted by address, or nobody would send
/// it. Nobody gains by a collision: it is with somebody whose key they could have sent.
fn key(limiter: &Limiter, by: &KeySource, head: &RequestHead<'_>) -> u64 {
    match by {
        KeySource::ClientIp => None,
        _ => by.read(head).map(|key| limiter.key((0, key))),
    }
    .unwrap_or_else(|| limiter.key((1, network(head.client_ip))))
}

/// The address, or the network of it that one IPv6 client has to itself (RFC 6177).
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, Method};

    use super::*;

    #[test]
    fn keys_are_whose_requests_they_are() {
        let limiter = Limiter::new(3);
        let of = |by: &KeySource, address: &str, user: &str| {
            let mut headers = HeaderMap::new();
            if !user.is_empty() {
                headers.insert("x-user", user.parse().unwrap());
            }
            let head = RequestHead {
                listener: 0,
                method: &Method::GET,
                host: "",
                path: "/",
                query: None,
                headers: &headers,
                client_ip: address.parse().unwrap(),
            };
            key(&limiter, by, &head)
        };
        let user = KeySource::Header(HeaderName::from_static("x-user"));
        // By what, one request, another, whether they are counted together.
        let rows = [
            (&user, ("::1", "a"), ("::2", "a"), true),
            (&user, ("::1", "a"), ("::1", "b"), false),
            (&user, ("10.0.0.1", ""), ("10.0.0.1", ""), true),
            (&user, ("10.0.0.1", ""), ("10.0.0.2", ""), false),
            (&KeySource::ClientIp, ("10.0.0.1", "a"), ("10.0.0.1", "b"), true),
            (&KeySource::ClientIp, ("10.0.0.1", "a"), ("::ffff:10.0.0.1", "a"), true),
            (&KeySource::ClientIp, ("10.0.0.1", "a"), ("10.0.0.2", "a"), false),
            (&KeySource::ClientIp, ("2001:db8:0:1::1", "a"), ("2001:db8:0:1:ffff::9", "a"), true),
            (&KeySource::ClientIp, ("2001:db8:0:1::1", "a"), ("2001:db8:0:2::1", "a"), false),
        ];
        for (by, one, other, together) in rows {
            assert_eq!(of(by, one.0, one.1) == of(by, other.0, other.1), together, "{one:?} {other:?}");
        }
    }
}
