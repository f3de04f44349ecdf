//! Why a request would go where it goes, asked of the running process.
//!
//! The answer is [`crate::plan::Plan::explain`], the code of the request path. It must never send
//! anything anywhere.

use std::borrow::Cow;
use std::net::IpAddr;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::Shared;
use super::error::Refused;
use crate::model::{RequestHead, UnroutedReason};
use crate::plan::explain::Explanation;
use crate::plan::filter::Answer;
use crate::plan::{Plan, Route};
use crate::split::KeySource;
use crate::wire;

/// Most parameters of one question.
const MAX_PARAMETERS: usize = 128;

/// A request that was never sent.
#[derive(Debug)]
struct Question {
    listener: usize,
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    client_ip: IpAddr,
}

pub(super) async fn explain(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
) -> Result<Json<wire::Explained>, Refused> {
    let parts = &shared.admin.0;
    let plan = parts.plans.load_full();
    let (mut question, key) = read(query.as_deref().unwrap_or(""), &plan)?;
    let now = parts.clock.now().seconds();
    if let Some(key) = key
        && let Ok((route, _)) = question.ask(&plan, now).route
    {
        question.place(&key, route)?;
    }
    Ok(Json(answer(&plan, &question.ask(&plan, now))))
}

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad-request", message)
        .hint("url=http://host/path, and method, header (name: value), clientIP, key, listener as needed")
}

fn read(query: &str, plan: &Plan) -> Result<(Question, Option<String>), Refused> {
    let (mut url, mut method, mut client_ip) = (None, Method::GET, IpAddr::from([127, 0, 0, 1]));
    let (mut headers, mut key, mut listener) = (HeaderMap::new(), None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()).take(MAX_PARAMETERS) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decode(value)?;
        match name {
            "url" => url = Some(value.parse::<Uri>().map_err(|_| bad(format!("`{value}` is no URL")))?),
            "method" => {
                method = value.parse().map_err(|_| bad(format!("`{value}` is no method")))?;
            }
            "header" => {
                let (name, value) = one_header(&value)?;
                headers.append(name, value);
            }
            "clientIP" => {
                client_ip = value.parse().map_err(|_| bad(format!("`{value}` is no address")))?;
            }
            "key" => key = Some(value),
            "listener" => listener = Some(value),
            other => return Err(bad(format!("`{other}` is not understood"))),
        }
    }
    let url = url.ok_or_else(|| bad("url is missing"))?;
    let listener = listener_index(plan, &url, listener.as_deref())?;
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
    let authority = named.as_ref().or(url.authority());
    let question = Question {
        listener,
        method,
        host: authority.map(|found| found.host().to_ascii_lowercase()).unwrap_or_default(),
        path: Some(url.path()).filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
        query: url.query().map(str::to_owned),
        headers,
        client_ip,
    };
    Ok((question, key))
}

fn decode(text: &str) -> Result<String, Refused> {
    let spaced: Cow<'_, str> =
        if text.contains('+') { Cow::Owned(text.replace('+', " ")) } else { Cow::Borrowed(text) };
    let text = percent_decode_str(&spaced).decode_utf8().map_err(|_| bad("a parameter is not UTF-8"))?;
    Ok(text.into_owned())
}

fn one_header(text: &str) -> Result<(HeaderName, HeaderValue), Refused> {
    let (name, value) = text.split_once(':').ok_or_else(|| bad("a header is written `name: value`"))?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| bad(format!("`{name}` is no header name")))?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| bad("a header value has control bytes"))?;
    Ok((name, value))
}

/// The listener by name, else by the URL's port, else the first.
fn listener_index(plan: &Plan, url: &Uri, name: Option<&str>) -> Result<usize, Refused> {
    if let Some(name) = name {
        let found = plan.listeners.iter().position(|listener| &*listener.name == name);
        return found.ok_or_else(|| bad(format!("there is no listener `{name}`")));
    }
    let port = url.port_u16();
    Ok(plan.listeners.iter().position(|one| Some(one.address.port()) == port).unwrap_or(0))
}

impl Question {
    fn ask<'p>(&self, plan: &'p Plan, now: i64) -> Explanation<'p> {
        let head = RequestHead {
            listener: self.listener,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client_ip: self.client_ip,
        };
        plan.explain(&head, now, || fastrand::u64(..))
    }

    /// Puts a key where the route looks first.
    fn place(&mut self, key: &str, route: &Route) -> Result<(), Refused> {
        let value =
            |text: &str| HeaderValue::try_from(text).map_err(|_| bad("a header cannot carry the key"));
        match route.split.keys.first() {
            None => return Err(bad(format!("route `{}` has no sticky key", route.name))),
            Some(KeySource::Header(name)) => {
                self.headers.insert(name.clone(), value(key)?);
            }
            Some(KeySource::Cookie(name)) => {
                // The first cookie of a name counts.
                let rest: Vec<HeaderValue> = self.headers.get_all(header::COOKIE).iter().cloned().collect();
                self.headers
                    .insert(header::COOKIE, value(&format!("{}={key}", String::from_utf8_lossy(name)))?);
                for old in rest {
                    self.headers.append(header::COOKIE, old);
                }
            }
            Some(KeySource::Query(name)) => {
                let name = percent_encoding::percent_encode(name, NON_ALPHANUMERIC).to_string();
                let rest = self.query.take().map(|rest| format!("&{rest}")).unwrap_or_default();
                self.query = Some(format!("{name}={}{rest}", utf8_percent_encode(key, NON_ALPHANUMERIC)));
            }
            Some(KeySource::ClientIp) => {
                self.client_ip = key.parse().map_err(|_| bad(format!("the key `{key}` is no address")))?;
            }
        }
        Ok(())
    }
}

fn answer(plan: &Plan, explained: &Explanation<'_>) -> wire::Explained {
    let (route, why) = match &explained.route {
        Ok(found) => found,
        Err(reason) => {
            let why = match reason {
                UnroutedReason::Host => "no route serves this host",
                UnroutedReason::Match | UnroutedReason::NoWeight => {
                    "routes serve this host, but none matches the request"
                }
            };
            return wire::Explained {
                why: why.to_owned(),
                reason: "none".to_owned(),
                unrouted: Some(reason.label().to_owned()),
                text: format!("{why}: 404"),
                generation: plan.generation.0,
                ..wire::Explained::default()
            };
        }
    };
    let range = |(arm, from, to): (&str, u16, u16)| wire::Range { arm: arm.to_owned(), from, to };
    let mut told = wire::Explained {
        route: Some(route.name.to_string()),
        why: why.clone(),
        ranges: route.bucket_ranges().into_iter().map(range).collect(),
        generation: route.generation.0,
        ..wire::Explained::default()
    };
    let opening = format!("route `{}` ({why})", route.name);
    if let Some(filter) = &route.filters.answer {
        let what = match filter {
            Answer::Redirect(_) => "a redirect",
            Answer::Respond(_) => "a fixed text",
        };
        "answer".clone_into(&mut told.reason);
        told.text = format!("{opening} answers with {what}");
        return told;
    }
    let Some(choice) = &explained.choice else {
        "none".clone_into(&mut told.reason);
        told.unrouted = Some(UnroutedReason::NoWeight.label().to_owned());
        told.text = format!("{opening} has no arm with weight: 503");
        return told;
    };
    let sentence = route.reason(choice);
    told.arm = Some(route.arm_name(choice.arm).to_owned());
    told.upstream = route.arm(choice.arm).map(|arm| arm.upstream.name.to_string());
    choice.reason.label().clone_into(&mut told.reason);
    route.rule_name(choice).clone_into(&mut told.rule);
    told.bucket = choice.key_hash.filter(|_| choice.issue.is_none()).map(|_| choice.bucket);
    told.text = format!("{opening}: {sentence}");
    told
}
