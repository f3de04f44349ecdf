//! Filters: header edits, rewrites, redirects and fixed responses, checked and prebuilt.
//!
//! What can be built before a request comes is built here. It must never let an edit touch the headers that
//! frame a message.

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderName, HeaderValue, StatusCode};

use super::{Context, rules};
use crate::plan::filter::{Answer, Filters, HeaderOps, PathEdit, Redirect, Respond};
use crate::spec::Spot;
use crate::spec::filter::{
    Filter, HeaderEdit, PathChange, Redirect as WrittenRedirect, Respond as WrittenRespond,
};

/// Headers that frame messages: editing them by rule would desynchronise a connection.
const FRAMING: [HeaderName; 7] = [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];

pub(super) fn compile(context: &mut Context<'_>, written: &[Spot<Filter>], prefix_matched: bool) -> Filters {
    let mut filters = Filters::default();
    let mut answers = Vec::new();
    for filter in written {
        match &filter.value {
            Filter::RequestHeaders(edit) => {
                filters.request = std::mem::take(&mut filters.request).then(header_ops(context, edit));
            }
            Filter::ResponseHeaders(edit) => {
                filters.response = std::mem::take(&mut filters.response).then(header_ops(context, edit));
            }
            Filter::Rewrite(rewrite) => {
                if rewrite.path.is_none() && rewrite.hostname.is_none() {
                    context.findings.error(
                        rewrite,
                        "empty-filter",
                        "the rewrite changes nothing",
                        "add path or hostname",
                    );
                }
                if let Some(change) = &rewrite.path {
                    filters.path = path_edit(context, change, prefix_matched);
                }
                if let Some(host) = &rewrite.hostname {
                    filters.hostname = hostname(context, host);
                }
            }
            Filter::Redirect(redirect) => {
                filters.answer = self::redirect(context, redirect, prefix_matched).map(Answer::Redirect);
                answers.push(filter);
            }
            Filter::Respond(respond) => {
                filters.answer = self::respond(context, respond).map(Answer::Respond);
                answers.push(filter);
            }
        }
    }
    for second in answers.into_iter().skip(1) {
        let message = "a route can answer only once";
        context.findings.error(second, "two-answers", message, "keep one redirect or respond");
    }
    filters
}

pub(super) fn header_ops(context: &mut Context<'_>, edit: &HeaderEdit) -> HeaderOps {
    let mut pairs =
        |map: &std::collections::BTreeMap<Spot<String>, Spot<String>>| -> Box<[(HeaderName, HeaderValue)]> {
            map.iter()
                .filter_map(|(name, value)| {
                    let (name, value) = (editable(context, name), rules::header_value(context, value));
                    name.zip(value)
                })
                .collect()
        };
    let (set, add) = (pairs(&edit.set), pairs(&edit.add));
    let remove = edit.remove.iter().filter_map(|name| editable(context, name)).collect();
    HeaderOps { set, add, remove }
}

fn editable(context: &mut Context<'_>, name: &Spot<String>) -> Option<HeaderName> {
    let found = rules::header_name(context, name)?;
    if FRAMING.contains(&found) {
        let hint = if found == HOST {
            "use rewrite.hostname"
        } else {
            "it frames the message and is set by the proxy"
        };
        context.findings.error(name, "framing-header", format!("header `{found}` cannot be edited"), hint);
        return None;
    }
    Some(found)
}

fn hostname(context: &mut Context<'_>, host: &Spot<String>) -> Option<HeaderValue> {
    let valid = !host.is_empty()
        && host.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']')
        });
    if !valid {
        context.findings.error(host, "bad-hostname", format!("`{}` is not a hostname", **host), "");
        return None;
    }
    rules::header_value(context, host)
}

fn path_edit(context: &mut Context<'_>, change: &Spot<PathChange>, prefix_matched: bool) -> Option<PathEdit> {
    let edit = match (&change.prefix, &change.full) {
        (Some(prefix), None) => {
            if !prefix_matched {
                let hint = "match by prefix, or replace the full path";
                context.findings.error(
                    change,
                    "bad-rewrite",
                    "a prefix is replaced but none is matched",
                    hint,
                );
            }
            PathEdit::Prefix(prefix.as_str().into())
        }
        (None, Some(full)) => PathEdit::Full(full.as_str().into()),
        _ => {
            context.findings.error(
                change,
                "bad-rewrite",
                "a path is replaced by exactly one of prefix, full",
                "write path: { prefix: /new } or path: { full: /new }",
            );
            return None;
        }
    };
    let (PathEdit::Prefix(text) | PathEdit::Full(text)) = &edit;
    let clean = (text.is_empty() || text.starts_with('/'))
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    if !clean || text.is_empty() && matches!(edit, PathEdit::Full(_)) {
        context.findings.error(change, "bad-rewrite", format!("`{text}` is not a path"), "write /new");
        return None;
    }
    Some(edit)
}

fn redirect(
    context: &mut Context<'_>,
    written: &Spot<WrittenRedirect>,
    prefix_matched: bool,
) -> Option<Redirect> {
    let status = written.status.map_or(302, |spot| spot.value);
    if let Some(spot) = written.status.filter(|spot| ![301, 302, 303, 307, 308].contains(&spot.value)) {
        context.findings.error(
            &spot,
            "bad-status",
            format!("{} is not a redirect", spot.value),
            "301, 302, 303, 307 or 308",
        );
    }
    if let Some(scheme) =
        written.scheme.as_ref().filter(|scheme| !["http", "https"].contains(&scheme.as_str()))
    {
        context.findings.error(scheme, "bad-value", format!("scheme `{}`", **scheme), "http or https");
    }
    if written.value == WrittenRedirect::default() {
        context.findings.error(
            written,
            "empty-filter",
            "the redirect leads where it came from",
            "add scheme, hostname, port or path",
        );
    }
    let path = written.path.as_ref().map(|change| path_edit(context, change, prefix_matched));
    if let Some(host) = &written.hostname {
        hostname(context, host)?;
    }
    let text = |spot: &Option<Spot<String>>| spot.as_ref().map(|text| text.as_str().into());
    Some(Redirect {
        status: StatusCode::from_u16(status).ok()?,
        scheme: text(&written.scheme),
        hostname: text(&written.hostname),
        port: written.port,
        path: path.unwrap_or_default(),
    })
}

pub(super) fn respond(context: &mut Context<'_>, written: &Spot<WrittenRespond>) -> Option<Respond> {
    let status = StatusCode::from_u16(written.status.value)
        .ok()
        .filter(|status| (200..600).contains(&status.as_u16()));
    if status.is_none() {
        let message = format!("status {} cannot be answered", written.status.value);
        context.findings.error(&written.status, "bad-status", message, "200 to 599");
    }
    let content_type = match &written.content_type {
        Some(value) => rules::header_value(context, value)?,
        None => HeaderValue::from_static("text/plain; charset=utf-8"),
    };
    Some(Respond {
        status: status?,
        body: written.body.clone().into_bytes().into(),
        content_type,
        retry_after: written.retry_after.map(|span| HeaderValue::from(span.0.as_secs())),
    })
}
