//! Refusals as answers, and what every answer carries.
//!
//! Every refusal is `{code, message, hint, generation}`. It must never show more of a request than
//! the names it asked for.

use axum::Json;
use axum::extract::Request;
use axum::http::header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::control::{Refusal, RefusalKind};
use crate::wire;

/// A refusal on its way out.
#[derive(Clone, Debug)]
pub struct Refused {
    status: StatusCode,
    body: Box<wire::Error>,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Refused {
    /// A refusal with a sentence.
    pub fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        let body = wire::Error { code: code.to_owned(), message: message.into(), ..wire::Error::default() };
        Self { status, body: Box::new(body), header: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = hint.into();
        self
    }

    /// The same with the state of the rollout that stands against it.
    #[must_use]
    pub fn state(mut self, state: Option<String>) -> Self {
        if self.status == StatusCode::CONFLICT {
            self.body.state = state;
        }
        self
    }

    /// The same with a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: &'static str) -> Self {
        self.header = Some((name, HeaderValue::from_static(value)));
        self
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.kind {
            RefusalKind::NotFound => StatusCode::NOT_FOUND,
            RefusalKind::Invalid => StatusCode::BAD_REQUEST,
            RefusalKind::Stale | RefusalKind::Conflict => StatusCode::CONFLICT,
            RefusalKind::MissingGeneration => StatusCode::PRECONDITION_FAILED,
            RefusalKind::Diagnostics => StatusCode::UNPROCESSABLE_ENTITY,
            RefusalKind::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        let body = wire::Error {
            code: refusal.code.to_owned(),
            message: refusal.message,
            hint: refusal.hint,
            generation: refusal.generation.map(|generation| generation.0),
            state: None,
            diagnostics: refusal.diagnostics.iter().map(Into::into).collect(),
        };
        Self { status, body: Box::new(body), header: None }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// Nothing is here.
pub async fn not_found() -> Refused {
    Refused::new(StatusCode::NOT_FOUND, "not-found", "there is nothing here").hint("the API is under /api/v1")
}

/// Something is here, but not for this method.
pub async fn method_not_allowed(request: Request) -> Refused {
    let reads = request.method() == axum::http::Method::POST;
    let allow = if reads { "GET, HEAD" } else { "POST" };
    Refused::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", format!("ask with {allow}"))
        .header(ALLOW, allow)
}

/// What every answer carries: it is not to be guessed at or kept.
pub async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
