//! What can be asked of a request head: a named piece of text and what must be true of it.
//!
//! Routes and overrides share it, so that a condition means the same everywhere. It must never
//! look at anything but the head it is given.

use std::borrow::Cow;

use foldhash::fast::FixedState;
use hashbrown::HashSet;
use http::HeaderName;
use ipnet::IpNet;
use subtle::{Choice, ConstantTimeEq};

use crate::model::RequestHead;

/// Which piece of the head is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// First value of a header.
    Header(HeaderName),
    /// First value of a cookie.
    Cookie(Box<[u8]>),
    /// First value of a query parameter, decoded.
    Query(Box<[u8]>),
    /// The host asked for, without port, lower case.
    Host,
}

impl Subject {
    fn read<'a>(&self, head: &RequestHead<'a>) -> Option<Cow<'a, [u8]>> {
        match self {
            Self::Header(name) => head.header(name).map(Cow::Borrowed),
            Self::Cookie(name) => head.cookie(name).map(Cow::Borrowed),
            Self::Query(name) => head.query_param(name),
            Self::Host => Some(Cow::Borrowed(head.host.as_bytes())),
        }
    }
}

/// A set of allowed texts, from a list or a file.
pub type TextSet = HashSet<Box<[u8]>, FixedState>;

/// Texts that nobody may learn: each is compared in a time that tells only lengths.
#[derive(Clone)]
pub struct Secrets(Box<[Box<[u8]>]>);

impl Secrets {
    /// These secrets.
    #[must_use]
    pub fn new(secrets: impl IntoIterator<Item = Box<[u8]>>) -> Self {
        Self(secrets.into_iter().collect())
    }

    fn hold(&self, text: &[u8]) -> bool {
        let equal = self.0.iter().map(|secret| secret.ct_eq(text));
        equal.fold(Choice::from(0), |found, one| found | one).into()
    }
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} secrets", self.0.len())
    }
}

/// One thing that must be true of a text. A text that is absent passes only [`Test::Absent`].
#[derive(Clone, Debug)]
pub enum Test {
    /// Equal to.
    Equals(Box<[u8]>),
    /// Matches as a whole.
    Regex(regex::bytes::Regex),
    /// Starts with.
    Prefix(Box<[u8]>),
    /// Ends with.
    Suffix(Box<[u8]>),
    /// Contains.
    Contains(Box<[u8]>),
    /// Is one of.
    OneOf(TextSet),
    /// Is one of these secrets.
    Secret(Secrets),
    /// Is there.
    Present,
    /// Is not there.
    Absent,
    /// Is a number above.
    GreaterThan(f64),
    /// Is a number below.
    LessThan(f64),
}

impl Test {
    /// Whether the text passes.
    #[must_use]
    pub fn passes(&self, text: Option<&[u8]>) -> bool {
        let Some(text) = text else { return matches!(self, Self::Absent) };
        match self {
            Self::Equals(value) => **value == *text,
            Self::Regex(regex) => regex.is_match(text),
            Self::Prefix(value) => text.starts_with(value),
            Self::Suffix(value) => text.ends_with(value),
            Self::Contains(value) => {
                value.is_empty() || text.windows(value.len()).any(|window| *window == **value)
            }
            Self::OneOf(set) => set.contains(text),
            Self::Secret(secrets) => secrets.hold(text),
            Self::Present => true,
            Self::Absent => false,
            Self::GreaterThan(bound) => number(text).is_some_and(|value| value > *bound),
            Self::LessThan(bound) => number(text).is_some_and(|value| value < *bound),
        }
    }
}

fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok().filter(|value: &f64| value.is_finite())
}

/// All tests of one subject must pass.
#[derive(Clone, Debug)]
pub struct Condition {
    /// What is looked at.
    pub subject: Subject,
    /// What must be true of it.
    pub tests: Box<[Test]>,
}

impl Condition {
    /// The host is one of these.
    #[must_use]
    pub fn host_in(hosts: Vec<Box<str>>) -> Self {
        let set = hosts.into_iter().map(str::into_boxed_bytes).collect();
        Self { subject: Subject::Host, tests: Box::new([Test::OneOf(set)]) }
    }

    /// Whether the head satisfies it.
    #[must_use]
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        let text = self.subject.read(head);
        self.tests.iter().all(|test| test.passes(text.as_deref()))
    }
}

/// Whether an address lies in any of the networks; IPv4 inside IPv6 counts as IPv4.
#[must_use]
pub fn in_networks(networks: &[IpNet], address: std::net::IpAddr) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_text() {
        let rows: &[(Test, &str, bool)] = &[
            (Test::Equals(b"1"[..].into()), "1", true),
            (Test::Equals(b"1"[..].into()), "1.0", false),
            (Test::Prefix(b"ab"[..].into()), "abc", true),
            (Test::Suffix(b"bc"[..].into()), "abc", true),
            (Test::Contains(b"b"[..].into()), "abc", true),
            (Test::Contains(b"x"[..].into()), "abc", false),
            (Test::Secret(Secrets::new([b"one"[..].into(), b"two"[..].into()])), "two", true),
            (Test::Secret(Secrets::new([b"one"[..].into(), b"two"[..].into()])), "tw", false),
            (Test::GreaterThan(17.0), "17.5", true),
            (Test::GreaterThan(17.0), "17", false),
            (Test::GreaterThan(17.0), "many", false),
            (Test::GreaterThan(17.0), "inf", false),
            (Test::LessThan(17.0), " 3 ", true),
            (Test::Present, "", true),
            (Test::Absent, "", false),
        ];
        for (test, text, expected) in rows {
            assert_eq!(test.passes(Some(text.as_bytes())), *expected, "{test:?} {text}");
        }
    }

    #[test]
    fn an_absent_text_passes_only_absent() {
        assert!(Test::Absent.passes(None));
        assert!(!Test::Present.passes(None));
        assert!(!Test::LessThan(5.0).passes(None));
    }
}
