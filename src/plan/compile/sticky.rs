//! Sticky keys: where a user's key is read, and the cookie for those who have none.

use super::{Context, rules};
use crate::spec::Spot;
use crate::spec::split::{KeySource as WrittenKey, Sticky};
use crate::split::{IssueCookie, KeySource};

pub(super) fn keys(context: &mut Context<'_>, sticky: &Spot<Sticky>) -> Vec<KeySource> {
    if sticky.by.is_empty() {
        context.findings.error(
            &sticky.by,
            "empty-sticky",
            "sticky names no key",
            "by: [{ header: x-user-id }]",
        );
    }
    let mut keys: Vec<KeySource> = Vec::new();
    for source in &sticky.by.value {
        let key = match &source.value {
            WrittenKey::Header(name) => rules::header_name(context, name).map(KeySource::Header),
            WrittenKey::Cookie(name) => rules::cookie_name(context, name).map(KeySource::Cookie),
            WrittenKey::Query(name) => Some(KeySource::Query(name.as_bytes().into())),
            WrittenKey::ClientIp => Some(KeySource::ClientIp),
        };
        if keys.contains(&KeySource::ClientIp) {
            let message = "a key after clientIP is never read: every request has an address";
            context.findings.warn(source, "unreachable-key", message, "move clientIP to the end");
        }
        keys.extend(key);
    }
    // A client that was given an id is known by it from then on.
    if let Some(issue) = &sticky.issue_cookie
        && let Some(name) = rules::cookie_name(context, &issue.name)
    {
        let own = KeySource::Cookie(name);
        if keys.contains(&KeySource::ClientIp) {
            let message = "the cookie is never issued: every request has an address as its key";
            context.findings.warn(&issue.name, "unreachable-key", message, "remove clientIP or issueCookie");
        }
        if !keys.contains(&own) {
            keys.push(own);
        }
    }
    keys
}

pub(super) fn issue(context: &mut Context<'_>, sticky: &Spot<Sticky>) -> Option<IssueCookie> {
    let written = sticky.issue_cookie.as_ref()?;
    if written.max_age.0.is_zero() {
        context.findings.error(&written.name, "bad-value", "the cookie's maxAge is 0", "write 30d");
    }
    Some(IssueCookie::new(&written.name, written.max_age.0.as_secs()))
}
