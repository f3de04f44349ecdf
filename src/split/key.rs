//! Where a sticky key comes from, and the cookie that gives keyless clients one.
//!
//! It must never allocate for a key that can be borrowed.

use std::borrow::Cow;
use std::io::Write;
use std::net::IpAddr;

use http::{HeaderName, HeaderValue};

use crate::model::RequestHead;

/// One place a key may be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// First value of a header.
    Header(HeaderName),
    /// First value of a cookie.
    Cookie(Box<[u8]>),
    /// First value of a query parameter, decoded.
    Query(Box<[u8]>),
    /// The client's address, as text.
    ClientIp,
}

impl KeySource {
    /// The key, if present and not empty.
    #[must_use]
    pub fn read<'a>(&self, head: &RequestHead<'a>) -> Option<Cow<'a, [u8]>> {
        let key = match self {
            Self::Header(name) => head.header(name).map(Cow::Borrowed),
            Self::Cookie(name) => head.cookie(name).map(Cow::Borrowed),
            Self::Query(name) => head.query_param(name),
            Self::ClientIp => Some(Cow::Owned(address_text(head.client_ip))),
        };
        key.filter(|bytes| !bytes.is_empty())
    }
}

/// An address as people write it; IPv4 inside IPv6 is IPv4.
fn address_text(address: IpAddr) -> Vec<u8> {
    let mut text = Vec::with_capacity(40);
    // Writing to a Vec cannot fail.
    let _ = write!(text, "{}", address.to_canonical());
    text
}

/// The cookie that gives a keyless client an id; it identifies, it pins nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssueCookie {
    /// Cookie name.
    pub name: Box<str>,
    /// Everything after the value, prebuilt.
    pub attributes: Box<str>,
}

impl IssueCookie {
    /// A cookie kept for `max_age_secs`.
    #[must_use]
    pub fn new(name: &str, max_age_secs: u64) -> Self {
        let attributes = format!("; Max-Age={max_age_secs}; Path=/; HttpOnly; SameSite=Lax");
        Self { name: name.into(), attributes: attributes.into() }
    }

    /// The Set-Cookie value for an id.
    #[must_use]
    pub fn header(&self, id: u128) -> HeaderValue {
        let text = format!("{}={id:032x}{}", self.name, self.attributes);
        HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
    }

    /// The id as the key it will be on the next request.
    #[must_use]
    pub fn key(id: u128) -> String {
        format!("{id:032x}")
    }
}
