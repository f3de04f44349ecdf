//! Compiled filters: header edits, rewrites and answers that need no upstream.
//!
//! Names and values are built at compile time. It must never parse text per request.

use std::fmt::Write;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

/// Header edits in the order set, add, remove.
#[derive(Clone, Debug, Default)]
pub struct HeaderOps {
    /// Replaced.
    pub set: Box<[(HeaderName, HeaderValue)]>,
    /// Added.
    pub add: Box<[(HeaderName, HeaderValue)]>,
    /// Removed.
    pub remove: Box<[HeaderName]>,
}

impl HeaderOps {
    /// Whether it changes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty()
    }

    /// Applies the edits.
    pub fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }

    /// These edits, then others.
    #[must_use]
    pub fn then(self, next: Self) -> Self {
        let join = |a: Box<[_]>, b: Box<[_]>| a.into_iter().chain(b).collect();
        Self {
            set: join(self.set, next.set),
            add: join(self.add, next.add),
            remove: self.remove.into_iter().chain(next.remove).collect(),
        }
    }
}

/// How a path is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathEdit {
    /// The whole path.
    Full(Box<str>),
    /// The matched prefix.
    Prefix(Box<str>),
}

impl PathEdit {
    /// The new path; `prefix_len` is the length of the matched prefix without trailing slash.
    #[must_use]
    pub fn apply(&self, path: &str, prefix_len: usize) -> String {
        match self {
            Self::Full(full) => full.to_string(),
            Self::Prefix(replacement) => {
                let rest = path.get(prefix_len..).unwrap_or("");
                let replacement = replacement.trim_end_matches('/');
                if replacement.is_empty() && !rest.starts_with('/') {
                    return format!("/{rest}");
                }
                format!("{replacement}{rest}")
            }
        }
    }
}

/// An answer that sends the client elsewhere.
#[derive(Clone, Debug)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// New scheme.
    pub scheme: Option<Box<str>>,
    /// New host.
    pub hostname: Option<Box<str>>,
    /// New port.
    pub port: Option<u16>,
    /// New path.
    pub path: Option<PathEdit>,
}

/// The request as far as a redirect builds upon it.
#[derive(Clone, Copy, Debug)]
pub struct Location<'a> {
    /// Scheme the client used.
    pub scheme: &'a str,
    /// Host the client asked, without port.
    pub host: &'a str,
    /// Port of the listener.
    pub port: u16,
    /// Path.
    pub path: &'a str,
    /// Query.
    pub query: Option<&'a str>,
    /// Length of the matched prefix.
    pub prefix_len: usize,
}

impl Redirect {
    /// The Location value (Gateway API `HTTPRequestRedirectFilter`: a given scheme brings its own
    /// port, otherwise the listener's; default ports are left out).
    #[must_use]
    pub fn location(&self, from: &Location<'_>) -> String {
        let scheme = self.scheme.as_deref().unwrap_or(from.scheme);
        let well_known = if scheme == "https" { 443 } else { 80 };
        let inherited = if self.scheme.is_some() { well_known } else { from.port };
        let port = self.port.unwrap_or(inherited);
        let mut text = format!("{scheme}://{}", self.hostname.as_deref().unwrap_or(from.host));
        if port != well_known {
            // Writing to a String cannot fail.
            let _ = write!(text, ":{port}");
        }
        match &self.path {
            Some(edit) => text.push_str(&edit.apply(from.path, from.prefix_len)),
            None => text.push_str(from.path),
        }
        if let Some(query) = from.query {
            text.push('?');
            text.push_str(query);
        }
        text
    }
}

/// A fixed answer.
#[derive(Clone, Debug)]
pub struct Respond {
    /// Status.
    pub status: StatusCode,
    /// Body.
    pub body: Bytes,
    /// Content type.
    pub content_type: HeaderValue,
    /// Retry-After.
    pub retry_after: Option<HeaderValue>,
}

/// What ends a request without an upstream.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Elsewhere.
    Redirect(Redirect),
    /// Fixed.
    Respond(Respond),
}

/// Everything a route changes on the way.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    /// Edits of requests.
    pub request: HeaderOps,
    /// Edits of responses.
    pub response: HeaderOps,
    /// New path.
    pub path: Option<PathEdit>,
    /// New Host.
    pub hostname: Option<HeaderValue>,
    /// Answers without an upstream.
    pub answer: Option<Answer>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_replaced_by_segment() {
        let rows = [
            ("/xyz", "/foo/bar", 4, "/xyz/bar"),
            ("/xyz", "/foo", 4, "/xyz"),
            ("/xyz/", "/foo/bar", 4, "/xyz/bar"),
            ("/xyz", "/foo/", 4, "/xyz/"),
            ("/", "/foo/bar", 4, "/bar"),
            ("/", "/foo", 4, "/"),
            ("/xyz", "/bar", 0, "/xyz/bar"),
        ];
        for (to, path, len, expected) in rows {
            assert_eq!(PathEdit::Prefix(to.into()).apply(path, len), expected, "{to} {path}");
        }
    }

    #[test]
    fn locations_leave_default_ports_out() {
        let from =
            Location { scheme: "http", host: "a", port: 8080, path: "/p", query: Some("q"), prefix_len: 0 };
        let plain =
            Redirect { status: StatusCode::FOUND, scheme: None, hostname: None, port: None, path: None };
        assert_eq!(plain.location(&from), "http://a:8080/p?q");
        let secure = Redirect { scheme: Some("https".into()), ..plain.clone() };
        assert_eq!(secure.location(&from), "https://a/p?q");
        let ported = Redirect { port: Some(80), hostname: Some("b".into()), ..plain };
        assert_eq!(ported.location(&from), "http://b/p?q");
    }
}
