//! Why a request would go where it goes, asked of the running process.
//!
//! The answer is [`crate::plan::Plan::explain`], the code of the request path. It must never send
//! anything anywhere.

use std::net::IpAddr;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use percent_encoding::percent_decode_str;

use super::Shared;
use super::error::Refused;
use crate::plan::Asked;
use crate::wire;

/// Most parameters of one question.
const MAX_PARAMETERS: usize = 128;

/// The parameters of a question.
#[derive(Debug)]
struct Question {
    url: Option<Uri>,
    method: Method,
    headers: HeaderMap,
    client_ip: IpAddr,
    key: Option<String>,
    listener: Option<String>,
}

pub(super) async fn explain(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::Explained>, Refused> {
    let parts = &shared.admin.0;
    let plan = parts.plans.load_full();
    let Question { url, method, headers, client_ip, key, listener } = read(query.as_deref().unwrap_or(""))?;
    let url = url.ok_or_else(|| bad("url is missing"))?;
    let mut asked = Asked::new(&plan, method, &url, headers, client_ip);
    if let Some(listener) = listener {
        asked = asked.on(&plan, &listener).map_err(bad)?;
    }
    let now = parts.clock.now().seconds();
    let entropy = || fastrand::u64(..);
    if let Some(key) = key
        && let Ok((route, _)) = asked.explain(&plan, now, entropy).route
    {
        asked.place(&key, route).map_err(bad)?;
    }
    Ok(Json(asked.explain(&plan, now, entropy).told(&plan)))
}

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad-request", message)
        .hint("url=http://host/path, and method, header (name: value), clientIP, key, listener as needed")
}

fn read(query: &str) -> Result<Question, Refused> {
    let mut question = Question {
        url: None,
        method: Method::GET,
        headers: HeaderMap::new(),
        client_ip: IpAddr::from([127, 0, 0, 1]),
        key: None,
        listener: None,
    };
    let pairs: Vec<&str> = query.split('&').filter(|pair| !pair.is_empty()).collect();
    if pairs.len() > MAX_PARAMETERS {
        return Err(bad(format!("more than {MAX_PARAMETERS} parameters")));
    }
    for pair in pairs {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value)?;
        let wrong = |what: &str| bad(format!("`{value}` is no {what}"));
        match name {
            "url" => question.url = Some(value.parse().map_err(|_| wrong("URL"))?),
            "method" => question.method = value.parse().map_err(|_| wrong("method"))?,
            "header" => {
                let (name, value) = one_header(&value)?;
                question.headers.append(name, value);
            }
            "clientIP" => question.client_ip = value.parse().map_err(|_| wrong("address"))?,
            "key" => question.key = Some(value),
            "listener" => question.listener = Some(value),
            other => return Err(bad(format!("`{other}` is not understood"))),
        }
    }
    Ok(question)
}

fn decode(text: &str) -> Result<String, Refused> {
    let spaced = text.replace('+', " ");
    let text = percent_decode_str(&spaced).decode_utf8().map_err(|_| bad("a parameter is not UTF-8"))?;
    Ok(text.into_owned())
}

fn one_header(text: &str) -> Result<(HeaderName, HeaderValue), Refused> {
    let (name, value) = text.split_once(':').ok_or_else(|| bad("a header is written `name: value`"))?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| bad(format!("`{name}` is no header name")))?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| bad("a header value has control bytes"))?;
    Ok((name, value))
}
