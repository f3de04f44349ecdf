//! What is known of an encrypted client connection: the names its certificate covers, who the client
//! proved to be.
//!
//! It exists so that the request path can tell a misdirected request without knowing what TLS is. It
//! must never hold a key.

use std::net::IpAddr;
use std::sync::Arc;

use http::HeaderValue;

/// The hosts a certificate is good for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertNames {
    /// Names, lower case.
    exact: Vec<Box<str>>,
    /// What follows the first label of wildcards, lower case.
    wildcards: Vec<Box<str>>,
    addresses: Vec<IpAddr>,
}

impl CertNames {
    /// From the names and addresses of a certificate.
    #[must_use]
    pub fn new<'a>(names: impl Iterator<Item = &'a str>, addresses: Vec<IpAddr>) -> Self {
        let mut made = Self { addresses, ..Self::default() };
        for name in names {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            match name.strip_prefix("*.") {
                Some(rest) => made.wildcards.push(rest.into()),
                None => made.exact.push(name.into()),
            }
        }
        made
    }

    /// Names without a wildcard.
    pub fn exact(&self) -> impl Iterator<Item = &str> {
        self.exact.iter().map(AsRef::as_ref)
    }

    /// What follows the star and its dot of wildcards.
    pub fn wildcards(&self) -> impl Iterator<Item = &str> {
        self.wildcards.iter().map(AsRef::as_ref)
    }

    /// Whether it is good for nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.wildcards.is_empty() && self.addresses.is_empty()
    }

    /// Whether it is good for a host, written in lower case without a port; an address may have
    /// brackets. A wildcard stands for one label (RFC 9525 section 6.3).
    #[must_use]
    pub fn cover(&self, host: &str) -> bool {
        let is = |name: &str| self.exact.iter().any(|one| **one == *name);
        if is(host) {
            return true;
        }
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.addresses.iter().any(|one| one.to_canonical() == address.to_canonical());
        }
        let (label, rest) = host.split_once('.').unwrap_or_default();
        !label.is_empty() && self.wildcards.iter().any(|one| **one == *rest)
    }
}

/// An encrypted connection.
#[derive(Clone, Debug)]
pub struct Secured {
    /// What its certificate covers.
    pub names: Arc<CertNames>,
    /// Who the client proved to be, as a header value.
    pub identity: Option<HeaderValue>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_one_label_and_addresses_are_no_names() {
        let addresses = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
        let names = CertNames::new(["Shop.example.com", "*.apps.example.com"].into_iter(), addresses);
        for good in ["shop.example.com", "a.apps.example.com", "127.0.0.1", "[::1]"] {
            assert!(names.cover(good), "{good}");
        }
        for bad in
            ["example.com", "apps.example.com", ".apps.example.com", "a.b.apps.example.com", "127.0.0.2", ""]
        {
            assert!(!names.cover(bad), "{bad}");
        }
    }
}
