//! `explain`: which route and arm one request would get, and why.
//!
//! It asks [`crate::plan::Plan::explain`], the code of the request path, and puts the answer in
//! words. It must never have an opinion of its own.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::check::{exit_of, findings, shares};
use super::files;
use super::remote::AdminArgs;
use super::verbs::{self, ExplainAsk};
use super::{Exit, Streams};
use crate::model::UnroutedReason;
use crate::plan::explain::Explanation;
use crate::plan::filter::Answer;
use crate::plan::{Asked, Route};

/// Arguments of `explain`.
#[derive(Clone, Debug, Args)]
#[command(group(ArgGroup::new("plan").required(true).args(["config", "admin"])))]
#[expect(clippy::doc_markdown, reason = "help for a terminal")]
pub struct ExplainArgs {
    /// A file, or a folder whose *.yaml files make up one configuration
    #[arg(short, long, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// Ask a running proxy instead: http://host:port or unix:/path
    #[arg(long, value_name = "URL")]
    pub admin: Option<String>,
    /// File with the token a running proxy may want
    #[arg(long, value_name = "FILE", requires = "admin")]
    pub token_file: Option<PathBuf>,
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
    let Some(config) = &args.config else { return Ok(ask_running(args)) };
    let plan = match files::open(config) {
        Ok(opened) => opened.compiled.plan,
        Err(failed) => {
            findings(&failed.findings, &failed.sources, streams)?;
            return Ok(exit_of(&failed));
        }
    };
    let headers: HeaderMap = args.headers.iter().cloned().collect();
    let mut asked = Asked::new(&plan, args.method.clone(), &args.url, headers, args.client_ip);
    let (now, entropy) = (files::now(), || fastrand::u64(..));
    if let Some(key) = &args.key {
        let placed = match asked.explain(&plan, now, entropy).route {
            Ok((route, _)) => asked.place(key, route),
            Err(_) => Ok(()),
        };
        if let Err(why) = placed {
            writeln!(streams.err, "error: --key: {why}")?;
            return Ok(Exit::Usage);
        }
    }
    let explained = asked.explain(&plan, now, entropy);
    if args.json {
        // The same object that a running proxy answers with.
        writeln!(streams.out, "{}", serde_json::to_string_pretty(&explained.told(&plan))?)?;
    } else {
        write!(streams.out, "{}", as_text(&explained))?;
    }
    Ok(Exit::Ok)
}

/// Puts the same question to a running proxy.
fn ask_running(args: &ExplainArgs) -> Exit {
    let value = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let admin = AdminArgs {
        admin: args.admin.clone().unwrap_or_default(),
        token_file: args.token_file.clone(),
        json: args.json,
    };
    let ask = ExplainAsk {
        url: args.url.to_string(),
        method: args.method.to_string(),
        headers: args.headers.iter().map(|(name, text)| format!("{name}: {}", value(text))).collect(),
        client_ip: args.client_ip.to_string(),
        key: args.key.clone(),
    };
    verbs::explain(&admin, &ask)
}

#[expect(clippy::format_push_string, reason = "a few lines for people")]
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
