//! Where spans go: an address that can be asked, and nothing secret in it.
//!
//! It must never look whether anybody answers there.

use std::sync::Arc;

use super::Context;
use crate::spec::Spot;

/// The collector's address, when one is written and good.
pub(super) fn collector(context: &mut Context<'_>, written: Option<&Spot<String>>) -> Option<Arc<str>> {
    let written = written?;
    let uri = written.value.parse::<http::Uri>().ok().filter(|uri| {
        let scheme = matches!(uri.scheme_str(), Some("http" | "https"));
        let plain =
            uri.authority().is_some_and(|host| !host.as_str().contains('@') && !host.host().is_empty());
        scheme && plain && uri.query().is_none()
    });
    if uri.is_none() {
        let hint = "write otlp: \"http://127.0.0.1:4318\"; /v1/traces is added to it";
        context.findings.error(
            written,
            "bad-url",
            "it is no http:// or https:// address without a query",
            hint,
        );
        return None;
    }
    Some(Arc::from(written.as_str()))
}
