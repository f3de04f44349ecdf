//! Edits of a request that depend on the arm it goes to.
//!
//! A request that another arm answers must never carry what was meant for the first.

use http::header::TE;
use http::{HeaderMap, HeaderValue, Request};

use crate::model::ArmIx;
use crate::plan::{Route, UpstreamProtocol};
use crate::upstream::RequestBody;

/// Edits a request for the arm it goes to.
pub trait Dress {
    /// Called for every arm the request is sent to, the chosen one first.
    fn dress(&self, request: &mut Request<RequestBody>, arm: ArmIx);
}

/// Edits that depend on the arm a request goes to.
pub struct PerArm<'a> {
    route: &'a Route,
    /// The headers before any arm edited them, kept only when an edit could outlive its arm.
    before: Option<HeaderMap>,
    /// The client takes trailers: an HTTP/2 upstream is told so, as gRPC servers ask for it.
    te_trailers: bool,
}

impl<'a> PerArm<'a> {
    /// Edits of one request, whose headers are `headers` before any arm's edit.
    #[must_use]
    pub fn new(route: &'a Route, headers: &HeaderMap, te_trailers: bool) -> Self {
        let elsewhere = route.redistribute || route.retry.default_arm;
        let edited = elsewhere && route.arms.iter().any(|arm| !arm.request_ops.is_empty());
        Self { route, before: edited.then(|| headers.clone()), te_trailers }
    }
}

impl Dress for PerArm<'_> {
    fn dress(&self, request: &mut Request<RequestBody>, arm: ArmIx) {
        let Some(arm) = self.route.arm(arm) else { return };
        let headers = request.headers_mut();
        if let Some(before) = &self.before {
            headers.clone_from(before);
        }
        if let Some(name) = &self.route.arm_header_upstream {
            headers.insert(name.clone(), arm.header_value.clone());
        }
        arm.request_ops.apply(headers);
        if self.te_trailers && arm.upstream.protocol != UpstreamProtocol::Http1 {
            headers.insert(TE, HeaderValue::from_static("trailers"));
        } else if self.te_trailers {
            headers.remove(TE);
        }
    }
}
