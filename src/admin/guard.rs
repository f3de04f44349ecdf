//! The gate in front of every answer: which host was asked, from which page, by whom.
//!
//! Host before Origin before token, so that a rebound name learns nothing. Nothing behind it needs
//! to ask again. It must never grant by network position what the exposure table does not.

use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::time::Instant;

use super::auth::{Failures, Role, Tokens};
use super::error::Refused;
use super::listen::{Exposure, Peer};
use super::{Shared, dashboard};

/// Fetch metadata of browsers.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Decides who passes.
#[derive(Debug)]
pub struct Gate {
    exposure: Exposure,
    tokens: Tokens,
    allowed_hosts: Vec<String>,
    failures: Mutex<Failures>,
}

impl Gate {
    /// A gate for a listener.
    #[must_use]
    pub fn new(exposure: Exposure, tokens: Tokens, allowed_hosts: &[String]) -> Self {
        let lower = |host: &String| host.to_ascii_lowercase();
        Self {
            exposure,
            tokens,
            allowed_hosts: allowed_hosts.iter().map(lower).collect(),
            failures: Mutex::default(),
        }
    }

    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap, peer: Peer) -> Result<(), Refused> {
        let verb = !matches!(*method, Method::GET | Method::HEAD);
        if self.exposure == Exposure::Unix {
            return Ok(());
        }
        let host = self.host(uri, headers)?;
        if !verb && dashboard::is_file(uri.path()) {
            // A link from elsewhere may lead here, and a browser sends no token with it.
            return Ok(());
        }
        same_origin(headers, &host)?;
        if !verb && self.exposure == Exposure::Loopback {
            return Ok(());
        }
        let needed = if verb { Role::Operator } else { Role::Viewer };
        self.token(headers, peer, needed).map(drop)
    }

    /// What the asker may do; `None` where reading is free and no token was sent.
    ///
    /// # Errors
    /// When a token was sent and is wrong.
    pub(super) fn role(&self, headers: &HeaderMap, peer: Peer) -> Result<Option<Role>, Refused> {
        match self.exposure {
            Exposure::Unix => Ok(Some(Role::Operator)),
            Exposure::Loopback if !headers.contains_key(AUTHORIZATION) => Ok(None),
            _ => self.token(headers, peer, Role::Viewer).map(Some),
        }
    }

    /// The host asked for, if it is one of ours: a name that was rebound to us is not.
    fn host(&self, uri: &Uri, headers: &HeaderMap) -> Result<String, Refused> {
        let refuse = || {
            Refused::new(StatusCode::FORBIDDEN, "host-not-allowed", "this host name is not served here")
                .hint("ask by loopback address or localhost, or add the name to admin.allowedHosts")
        };
        let mut hosts = headers.get_all(HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(refuse()) };
        let host = host.to_str().ok().and_then(|host| host.parse::<Authority>().ok()).ok_or_else(refuse)?;
        let named = host.as_str().to_ascii_lowercase();
        let other = uri.authority().is_some_and(|target| !target.as_str().eq_ignore_ascii_case(&named));
        if other || named.contains('@') || !self.serves(host.host()) {
            return Err(refuse());
        }
        Ok(named)
    }

    fn serves(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
        host == "localhost"
            || literal
                .is_some_and(|address| address.is_loopback() || self.exposure == Exposure::Address(address))
            || self.allowed_hosts.contains(&host)
    }

    fn token(&self, headers: &HeaderMap, peer: Peer, needed: Role) -> Result<Role, Refused> {
        let now = Instant::now();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(address) = peer.address
            && failures.limited(address, now)
        {
            let message = "too many wrong tokens from this address";
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, "too-many-failures", message)
                .hint("wait a minute")
                .header(RETRY_AFTER, "60"));
        }
        let unauthorized = |message: &str| {
            let hint = if self.tokens.has_operator() {
                "send `Authorization: Bearer TOKEN`; the token is in admin.token of the state folder"
            } else {
                "there is no operator's token: the log of the start says what is wrong with its file"
            };
            Refused::new(StatusCode::UNAUTHORIZED, "unauthorized", message)
                .hint(hint)
                .header(WWW_AUTHENTICATE, "Bearer")
        };
        let Some(presented) = bearer(headers) else { return Err(unauthorized("a token is needed")) };
        match self.tokens.role(presented) {
            Some(role) if role >= needed => Ok(role),
            Some(_) => {
                Err(Refused::new(StatusCode::FORBIDDEN, "read-only-token", "this token may only read"))
            }
            None => {
                if let Some(address) = peer.address {
                    failures.note(address, now);
                }
                Err(unauthorized("the token is wrong"))
            }
        }
    }
}

/// A page of another origin must not speak through an operator's browser.
fn same_origin(headers: &HeaderMap, host: &str) -> Result<(), Refused> {
    let same = |origin: &str| {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        rest.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
    };
    let origins = headers.get_all(ORIGIN).iter().all(|origin| origin.to_str().is_ok_and(same));
    let own = |site: &str| matches!(site, "same-origin" | "none");
    let sites = headers.get_all(SEC_FETCH_SITE).iter().all(|site| site.to_str().is_ok_and(own));
    if origins && sites {
        return Ok(());
    }
    Err(Refused::new(StatusCode::FORBIDDEN, "cross-origin", "requests of other origins are refused"))
}

/// The token of the one Authorization header.
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

pub(super) async fn guard(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    match shared.gate.check(request.method(), request.uri(), request.headers(), peer) {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    }
}
