//! Conditions: predicates, names, hosts and paths from text to their compiled form.
//!
//! A condition means what the Kubernetes Gateway API says it means. It must never change what is compared: what
//! is matched is what is forwarded.

use http::{HeaderName, HeaderValue, Method};

use super::Context;
use crate::plan::router::{HostPattern, PathPattern};
use crate::spec::Spot;
use crate::spec::rule::{PathMatch, Predicate};
use crate::split::condition::{Secrets, TextSet};
use crate::split::{Condition, Subject, Test};

/// Largest compiled program of one regular expression, in bytes.
const REGEX_BYTES: usize = 1 << 20;

pub(super) fn header_name(context: &mut Context<'_>, name: &Spot<String>) -> Option<HeaderName> {
    if let Ok(found) = HeaderName::from_bytes(name.as_bytes()) {
        Some(found)
    } else {
        let message = format!("`{}` is not a header name", **name);
        context.findings.error(name, "bad-header", message, "letters, digits and `-`");
        None
    }
}

pub(super) fn header_value(context: &mut Context<'_>, value: &Spot<String>) -> Option<HeaderValue> {
    if let Ok(found) = HeaderValue::try_from(value.as_str()) {
        Some(found)
    } else {
        context.findings.error(value, "bad-header", "the header value holds a control character", "");
        None
    }
}

/// A cookie name (RFC 6265 section 4.1.1 token).
pub(super) fn cookie_name(context: &mut Context<'_>, name: &Spot<String>) -> Option<Box<[u8]>> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        let message = format!("`{}` is not a cookie name", **name);
        context.findings.error(name, "bad-cookie", message, "letters, digits and `_-`");
        return None;
    }
    Some(name.as_bytes().into())
}

pub(super) fn method(context: &mut Context<'_>, written: &Spot<String>) -> Option<Method> {
    let upper = written.to_ascii_uppercase();
    if upper != **written {
        let hint = format!("methods are case-sensitive; write {upper}");
        let message = format!("method `{}` is not upper case", **written);
        context.findings.error(written, "bad-method", message, hint);
        return None;
    }
    Method::from_bytes(written.as_bytes()).map_or_else(
        |_| {
            context.findings.error(written, "bad-method", format!("`{}` is not a method", **written), "");
            None
        },
        Some,
    )
}

/// What the predicates of one list look at.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Header,
    Cookie,
    Query,
}

/// Compiles a list of predicates. Of two with the same name the first counts for headers and
/// parameters (Gateway API), so a second one is refused as dead text.
pub(super) fn conditions(
    context: &mut Context<'_>,
    kind: Kind,
    written: &[Spot<Predicate>],
) -> Vec<Condition> {
    let mut compiled: Vec<Condition> = Vec::new();
    for predicate in written {
        let subject = match kind {
            Kind::Header => header_name(context, &predicate.name).map(Subject::Header),
            Kind::Cookie => cookie_name(context, &predicate.name).map(Subject::Cookie),
            Kind::Query => Some(Subject::Query(predicate.name.as_bytes().into())),
        };
        let Some(subject) = subject else { continue };
        if compiled.iter().any(|one| one.subject == subject) {
            let message = format!("`{}` is asked twice; only the first counts", *predicate.name);
            context.findings.warn(
                &predicate.name,
                "duplicate-condition",
                message,
                "write both tests in one condition",
            );
            continue;
        }
        let tests = tests(context, predicate);
        compiled.push(Condition { subject, tests: tests.into() });
    }
    compiled
}

/// Compiles the tests of one predicate; at least one is needed.
pub(super) fn tests(context: &mut Context<'_>, predicate: &Spot<Predicate>) -> Vec<Test> {
    let predicate = &predicate.value;
    let bytes = |text: &String| -> Box<[u8]> { text.as_bytes().into() };
    let mut tests = Vec::new();
    tests.extend(predicate.value.as_ref().map(|text| Test::Equals(bytes(text))));
    tests.extend(predicate.prefix.as_ref().map(|text| Test::Prefix(bytes(text))));
    tests.extend(predicate.suffix.as_ref().map(|text| Test::Suffix(bytes(text))));
    tests.extend(predicate.contains.as_ref().map(|text| Test::Contains(bytes(text))));
    tests.extend(predicate.present.map(|there| if there { Test::Present } else { Test::Absent }));
    tests.extend(predicate.one_of.as_ref().map(|list| Test::OneOf(list.iter().map(bytes).collect())));
    tests.extend(predicate.in_file.as_ref().and_then(|file| in_file(context, file)));
    tests.extend(predicate.secret_file.as_ref().and_then(|file| secrets(context, file)));
    tests.extend(
        predicate.greater_than.as_ref().and_then(|text| number(context, text)).map(Test::GreaterThan),
    );
    tests.extend(predicate.less_than.as_ref().and_then(|text| number(context, text)).map(Test::LessThan));
    if let Some(pattern) = &predicate.regex {
        match regex::bytes::RegexBuilder::new(&anchored(pattern)).size_limit(REGEX_BYTES).build() {
            Ok(regex) => tests.push(Test::Regex(regex)),
            Err(error) => bad_regex(context, pattern, &error),
        }
    }
    let asked = predicate.in_file.is_some()
        || predicate.secret_file.is_some()
        || predicate.regex.is_some()
        || predicate.greater_than.is_some()
        || predicate.less_than.is_some();
    if tests.is_empty() && !asked {
        let message = format!("the condition on `{}` says nothing", *predicate.name);
        context.findings.error(
            &predicate.name,
            "empty-condition",
            message,
            "add value, present, prefix, in or another test",
        );
    }
    tests
}

fn anchored(pattern: &str) -> String {
    format!("^(?:{pattern})$")
}

fn bad_regex(context: &mut Context<'_>, pattern: &Spot<String>, error: &regex::Error) {
    let why = match error {
        regex::Error::CompiledTooBig(limit) => format!("it compiles to more than {limit} bytes"),
        other => other
            .to_string()
            .lines()
            .last()
            .unwrap_or("syntax error")
            .trim()
            .trim_start_matches("error: ")
            .to_owned(),
    };
    let message = format!("bad regular expression `{}`: {why}", **pattern);
    context.findings.error(
        pattern,
        "bad-regex",
        message,
        "the whole text must match; the syntax is that of Rust's regex crate",
    );
}

fn number(context: &mut Context<'_>, text: &Spot<String>) -> Option<f64> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Some(value),
        _ => {
            context.findings.error(text, "bad-value", format!("`{}` is not a number", **text), "");
            None
        }
    }
}

fn in_file(context: &mut Context<'_>, file: &Spot<String>) -> Option<Test> {
    match context.inputs.lists.get(file.as_str()) {
        Some(Ok(text)) => {
            let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
            let set: TextSet = lines.map(|line| line.as_bytes().into()).collect();
            Some(Test::OneOf(set))
        }
        Some(Err(why)) => {
            let message = format!("list `{}` cannot be read: {why}", **file);
            context.findings.error(
                file,
                "unreadable-list",
                message,
                "paths are relative to the configuration's folder",
            );
            None
        }
        None => {
            context.findings.error(file, "unreadable-list", format!("list `{}` was not loaded", **file), "");
            None
        }
    }
}

/// Shortest secret that a header may carry, in bytes: what is shorter can be guessed.
const MIN_SECRET_BYTES: usize = 16;
/// Most secrets of one condition: every request of the route is compared with all of them.
const MAX_SECRETS: usize = 16;

fn secrets(context: &mut Context<'_>, file: &Spot<String>) -> Option<Test> {
    let text = secret_text(context, file)?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let short = lines.iter().any(|line| line.len() < MIN_SECRET_BYTES);
    if lines.is_empty() || lines.len() > MAX_SECRETS || short {
        let message = format!("`{}` does not hold 1 to {MAX_SECRETS} secrets", **file);
        let hint = format!("one a line, of at least {MIN_SECRET_BYTES} bytes: openssl rand -hex 32");
        context.findings.error(file, "bad-secret", message, hint);
        return None;
    }
    Some(Test::Secret(Secrets::new(lines.into_iter().map(|line| line.as_bytes().into()))))
}

/// What a file with secrets says.
pub(super) fn secret_text<'a>(context: &mut Context<'a>, file: &Spot<String>) -> Option<&'a str> {
    let why = match context.inputs.lists.get(file.as_str()) {
        Some(Ok(text)) => return Some(text),
        Some(Err(why)) => why.as_str(),
        None => "it was not loaded",
    };
    let message = format!("the secret in `{}` cannot be read: {why}", **file);
    let hint = "paths are relative to the configuration's folder";
    context.findings.error(file, "unreadable-secret", message, hint);
    None
}

pub(super) fn host(context: &mut Context<'_>, written: &Spot<String>) -> Option<HostPattern> {
    let lower = written.to_ascii_lowercase();
    let (wildcard, name) = lower.strip_prefix("*.").map_or((false, lower.as_str()), |rest| (true, rest));
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let literal = !wildcard && (name.parse::<std::net::IpAddr>().is_ok() || name.starts_with('['));
    if name.contains('*') || !literal && !name.split('.').all(label) {
        let hint = if name.contains(':') {
            "hostnames carry no port"
        } else {
            "write shop.example.com or *.example.com"
        };
        context.findings.error(written, "bad-hostname", format!("`{}` is not a hostname", **written), hint);
        return None;
    }
    Some(if wildcard { HostPattern::Wildcard(name.into()) } else { HostPattern::Exact(name.into()) })
}

pub(super) fn path(context: &mut Context<'_>, written: &Spot<PathMatch>) -> Option<PathPattern> {
    let PathMatch { prefix, exact, regex } = &written.value;
    match (prefix, exact, regex) {
        (Some(prefix), None, None) => {
            absolute(context, written, prefix)?;
            Some(PathPattern::Prefix(prefix.trim_end_matches('/').into()))
        }
        (None, Some(exact), None) => {
            absolute(context, written, exact)?;
            Some(PathPattern::Exact(exact.as_str().into()))
        }
        (None, None, Some(pattern)) => {
            match regex::RegexBuilder::new(&anchored(pattern)).size_limit(REGEX_BYTES).build() {
                Ok(regex) => Some(PathPattern::Regex(regex)),
                Err(error) => {
                    bad_regex(context, &written.with(pattern.clone()), &error);
                    None
                }
            }
        }
        _ => {
            context.findings.error(
                written,
                "bad-path",
                "a path is matched by exactly one of prefix, exact, regex",
                "write path: /shop or path: { exact: /shop }",
            );
            None
        }
    }
}

fn absolute<T>(context: &mut Context<'_>, spot: &Spot<T>, path: &str) -> Option<()> {
    if !path.starts_with('/') {
        let hint = format!("write /{path}");
        context.findings.error(spot, "bad-path", format!("path `{path}` does not start with `/`"), hint);
        return None;
    }
    let foreign = |one: &char| one.is_control() || matches!(one, '?' | '#' | ' ');
    if let Some(one) = path.chars().find(foreign) {
        let hint =
            if one == '?' { "match the query by queryParams" } else { "write it as the client sends it" };
        let message = format!("path `{path}` holds `{}`, which no path does", one.escape_default());
        context.findings.error(spot, "bad-path", message, hint);
        return None;
    }
    Some(())
}
