//! A match in words: method, host, path and what else is asked, for reports on what failed.
//!
//! It exists so that people find the line of their file again. It must never hold anything that a
//! client sent.

use std::fmt::Write as _;

use super::router::{HostPattern, MatchRule, PathPattern};
use crate::split::Subject;

/// A match as one short text: `GET shop.example.com/api`, `/health exactly`, `/ with header x-beta`.
#[must_use]
pub fn words(rule: &MatchRule) -> String {
    let mut text = rule.method.as_ref().map(|method| format!("{method} ")).unwrap_or_default();
    match &rule.host {
        HostPattern::Any => {}
        HostPattern::Wildcard(suffix) => add(&mut text, format_args!("*.{suffix}")),
        HostPattern::Exact(host) => text.push_str(host),
    }
    match &rule.path {
        PathPattern::Prefix(prefix) if prefix.is_empty() => text.push('/'),
        PathPattern::Prefix(prefix) => text.push_str(prefix),
        PathPattern::Exact(path) => add(&mut text, format_args!("{path} exactly")),
        PathPattern::Regex(regex) => {
            let anchored = regex.as_str();
            let written = anchored.strip_prefix("^(?:").and_then(|rest| rest.strip_suffix(")$"));
            add(&mut text, format_args!(" regex {}", written.unwrap_or(anchored)));
        }
    }
    for (at, condition) in rule.conditions.iter().enumerate() {
        text.push_str(if at == 0 { " with " } else { ", " });
        let lossy = String::from_utf8_lossy;
        match &condition.subject {
            Subject::Header(name) => add(&mut text, format_args!("header {name}")),
            Subject::Cookie(name) => add(&mut text, format_args!("cookie {}", lossy(name))),
            Subject::Query(name) => add(&mut text, format_args!("parameter {}", lossy(name))),
            Subject::Host => text.push_str("host"),
        }
    }
    if !rule.networks.is_empty() {
        text.push_str(" from certain networks");
    }
    text.trim_start().to_owned()
}

fn add(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(words);
}
