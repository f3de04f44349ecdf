//! `explain`: which route and arm one request would get, and why.
//!
//! It asks [`crate::plan::Plan::explain`], the code of the request path, and puts the answer in
//! words. It must never have an opinion of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde_json::{Value, json};

use super::check::{exit_of, findings, shares};
use super::files;
use super::{Exit, Streams};
use crate::model::{RequestHead, UnroutedReason};
use crate::plan::explain::Explanation;
use crate::plan::filter::Answer;
use crate::plan::{Plan, Route};
use crate::split::{Choice, KeySource};

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// A file, or a folder whose *.yaml files make up one configuration
    #[arg(short, long, value_name = "PATH")]
    pub config: PathBuf,
    /// What would be asked: http://host[:port]/path?query, or a path alone
    pub url: Uri,
    /// Request method
    #[arg(short = 'X', long, default_value = "GET")]
    pub method: Method,
    /// A request header; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = header)]
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// A sticky key, put where the route looks first
    #[arg(long, value_name = "KEY")]
    pub key: Option<String>,
    /// The client's address
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub client_ip: IpAddr,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write `name: value`")?;
    let name = HeaderName::try_from(name.trim()).map_err(|_| format!("`{name}` is not a header name"))?;
    let value = HeaderValue::try_from(value.trim()).map_err(|_| "the value holds a control character")?;
    Ok((name, value))
}

/// Explains one request: 0 whatever becomes of it, 1 when the configuration is refused.
///
/// # Errors
/// Only when a stream cannot be written to.
pub fn run(args: &ExplainArgs, streams: &mut Streams<'_>) -> io::Result<Exit> {
    let plan = match files::open(&args.config) {
        Ok(opened) => opened.compiled.plan,
        Err(failed) => {
            findings(&failed.findings, &failed.sources, streams)?;
            return Ok(exit_of(&failed));
        }
    };
    let mut request = Request::new(args, &plan);
    if let Some(key) = &args.key {
        let placed = match request.ask(&plan).route {
            Ok((route, _)) => request.place(key, route),
            Err(_) => Ok(()),
        };
        if let Err(why) = placed {
            writeln!(streams.err, "error: --key: {why}")?;
            return Ok(Exit::Usage);
        }
    }
    let explained = request.ask(&plan);
    if args.json {
        writeln!(streams.out, "{:#}", as_json(&explained))?;
    } else {
        write!(streams.out, "{}", as_text(&explained))?;
    }
    Ok(Exit::Ok)
}

/// A request that was never sent.
struct Request {
    listener: usize,
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    client_ip: IpAddr,
}

impl Request {
    fn new(args: &ExplainArgs, plan: &Plan) -> Self {
        let headers: HeaderMap = args.headers.iter().cloned().collect();
        let named = headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
        let authority = named.and_then(|host| host.parse::<http::uri::Authority>().ok());
        let authority = authority.as_ref().or(args.url.authority());
        let port = args.url.port_u16();
        Self {
            // Without a port that says which, the first by name.
            listener: plan.listeners.iter().position(|one| Some(one.address.port()) == port).unwrap_or(0),
            method: args.method.clone(),
            host: authority.map(|found| found.host().to_ascii_lowercase()).unwrap_or_default(),
            path: Some(args.url.path()).filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
            query: args.url.query().map(str::to_owned),
            headers,
            client_ip: args.client_ip,
        }
    }

    fn ask<'p>(&self, plan: &'p Plan) -> Explanation<'p> {
        let head = RequestHead {
            listener: self.listener,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client_ip: self.client_ip,
        };
        plan.explain(&head, files::now(), || fastrand::u64(..))
    }

    /// Puts a key where the route looks first.
    fn place(&mut self, key: &str, route: &Route) -> Result<(), String> {
        let value = || HeaderValue::try_from(key).map_err(|_| "a header cannot carry it".to_owned());
        match route.split.keys.first() {
            None => return Err(format!("route `{}` has no sticky key", route.name)),
            Some(KeySource::Header(name)) => {
                self.headers.insert(name.clone(), value()?);
            }
            Some(KeySource::Cookie(name)) => {
                let text = format!("{}={key}", String::from_utf8_lossy(name));
                let cookie = HeaderValue::try_from(text).map_err(|_| "a cookie cannot carry it")?;
                // The first cookie of a name counts.
                let others: Vec<HeaderValue> =
                    self.headers.get_all(http::header::COOKIE).iter().cloned().collect();
                self.headers.insert(http::header::COOKIE, cookie);
                for other in others {
                    self.headers.append(http::header::COOKIE, other);
                }
            }
            Some(KeySource::Query(name)) => {
                let encode = |bytes: &[u8]| {
                    percent_encoding::percent_encode(bytes, percent_encoding::NON_ALPHANUMERIC).to_string()
                };
                let rest = self.query.take().map(|rest| format!("&{rest}")).unwrap_or_default();
                self.query = Some(format!("{}={}{rest}", encode(name), encode(key.as_bytes())));
            }
            Some(KeySource::ClientIp) => {
                self.client_ip = key.parse().map_err(|_| {
                    format!("route `{}` looks at the client's address first; `{key}` is none", route.name)
                })?;
            }
        }
        Ok(())
    }
}

fn as_text(explained: &Explanation<'_>) -> String {
    let (route, why) = match &explained.route {
        Ok(found) => found,
        Err(UnroutedReason::Host) => return "no route serves this host: 404\n".to_owned(),
        Err(_) => return "routes serve this host, but none matches the request: 404\n".to_owned(),
    };
    let mut text = format!("route   {}: won by {why}\n", route.name);
    if let Some(answer) = answer(route) {
        text.push_str(&format!("answer  {answer}, without an upstream\n"));
        return text;
    }
    match &explained.choice {
        None => text.push_str("arm     none: no arm has weight: 503\n"),
        Some(choice) => {
            let upstream = route.arm(choice.arm).map_or("", |arm| &arm.upstream.name);
            text.push_str(&format!("arm     {}, upstream {upstream}\n", route.arm_name(choice.arm)));
            text.push_str(&format!("why     {}\n", route.reason(choice)));
            if choice.key_hash.is_some() && choice.issue.is_none() {
                let salt = route.split.salt.text();
                text.push_str(&format!("bucket  {} of 0-9999, salt `{salt}`\n", choice.bucket));
            }
            if choice.issue.is_some() {
                text.push_str("issued  a new id as a cookie; the next request keeps its arm\n");
            }
        }
    }
    text.push_str(&format!("ranges  {}\n", shares(route)));
    if let Some(by) = &route.operator {
        text.push_str(&format!("weights set by {}: {}\n", by.actor, by.reason));
    }
    text
}

fn answer(route: &Route) -> Option<String> {
    match route.filters.answer.as_ref()? {
        Answer::Redirect(_) | Answer::Respond(_) => Some(shares(route)),
    }
}

fn as_json(explained: &Explanation<'_>) -> Value {
    let (route, why) = match &explained.route {
        Ok(found) => found,
        Err(reason) => return json!({ "route": null, "unrouted": reason.label(), "status": 404 }),
    };
    let ranges: Vec<Value> = route
        .bucket_ranges()
        .into_iter()
        .map(|(arm, first, last)| json!({ "arm": arm, "first": first, "last": last }))
        .collect();
    let mut value = json!({ "route": &*route.name, "won": why, "ranges": ranges });
    let more = match &explained.choice {
        Some(choice) => chosen(route, choice),
        None => match answer(route) {
            Some(answer) => json!({ "answer": answer }),
            None => json!({ "unrouted": UnroutedReason::NoWeight.label(), "status": 503 }),
        },
    };
    if let (Value::Object(value), Value::Object(more)) = (&mut value, more) {
        value.extend(more);
    }
    value
}

fn chosen(route: &Route, choice: &Choice) -> Value {
    json!({
        "arm": route.arm_name(choice.arm),
        "upstream": route.arm(choice.arm).map(|arm| &*arm.upstream.name),
        "reason": choice.reason.label(),
        "why": route.reason(choice),
        "rule": choice.rule.map(|_| route.rule_name(choice)),
        "bucket": choice.bucket,
        "salt": route.split.salt.text(),
        "sticky": choice.key_hash.is_some(),
        "issuesCookie": choice.issue.is_some(),
    })
}
