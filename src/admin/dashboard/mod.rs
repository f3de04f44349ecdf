//! The page an operator looks at: a few files inside the program, served as they are.
//!
//! No build step, nothing of other people's, nothing fetched from elsewhere. The files hold no
//! secret and may be read by whoever reaches the listener; what they show has to be asked for. A
//! file must never be made up from a request.

use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY};
use axum::http::{HeaderName, HeaderValue};
use axum::response::IntoResponse;
use axum::routing::get;

/// What the page may do: read its own files and ask its own origin. No inline code or style, no
/// frame around it, and no text that a browser would take for markup.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";

/// Path, type and text of every file.
pub(super) const FILES: &[(&str, &str, &str)] = &[
    ("/", HTML, include_str!("index.html")),
    ("/dashboard/style.css", STYLE, include_str!("style.css")),
    ("/dashboard/icon.svg", PICTURE, include_str!("icon.svg")),
    ("/dashboard/app.js", SCRIPT, include_str!("app.js")),
    ("/dashboard/dom.js", SCRIPT, include_str!("dom.js")),
    ("/dashboard/words.js", SCRIPT, include_str!("words.js")),
    ("/dashboard/stream.js", SCRIPT, include_str!("stream.js")),
    ("/dashboard/arms.js", SCRIPT, include_str!("arms.js")),
    ("/dashboard/chart.js", SCRIPT, include_str!("chart.js")),
    ("/dashboard/outages.js", SCRIPT, include_str!("outages.js")),
    ("/dashboard/route.js", SCRIPT, include_str!("route.js")),
    ("/dashboard/rollout.js", SCRIPT, include_str!("rollout.js")),
    ("/dashboard/timeline.js", SCRIPT, include_str!("timeline.js")),
    ("/dashboard/verbs.js", SCRIPT, include_str!("verbs.js")),
    ("/dashboard/dialog.js", SCRIPT, include_str!("dialog.js")),
    ("/dashboard/access.js", SCRIPT, include_str!("access.js")),
    ("/dashboard/upstreams.js", SCRIPT, include_str!("upstreams.js")),
    ("/dashboard/reload.js", SCRIPT, include_str!("reload.js")),
];

/// Whether a path is one of the page's files.
pub(super) fn is_file(path: &str) -> bool {
    FILES.iter().any(|(own, ..)| *own == path)
}

/// Every file.
pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.iter().fold(Router::new(), |router, (path, kind, text)| {
        router.route(path, get(move || std::future::ready(file(kind, text))))
    })
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    let headers = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("x-frame-options"), "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ];
    (headers.map(|(name, value)| (name, HeaderValue::from_static(value))), text)
}
