//! Verbs that ask a running proxy: status, weights, reload, explain.
//!
//! They speak the admin API and print what changed and the generation. It must never take a token
//! from the command line, where other users of the machine could read it: tokens come from files
//! or the environment.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Exit, record, remote_text};
use crate::fetch::{Answer, Ask, Limits, Target, fetch};
use crate::wire;

/// Variable with the operator token.
const TOKEN_VARIABLE: &str = "SWITCHBACK_TOKEN";
/// Where the token is when nothing else says so, under the working folder.
const TOKEN_FILE: &str = ".switchback/admin.token";
/// Time between two pictures of `status --watch`.
const REFRESH: Duration = Duration::from_secs(1);

/// How to reach the proxy, and how to print.
#[derive(Clone, Debug, Args)]
#[expect(clippy::doc_markdown, reason = "help for a terminal")]
pub struct AdminArgs {
    /// Admin address: http://host:port, https://host:port or unix:/path
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901")]
    pub admin: String,
    /// File with the operator token; default: $SWITCHBACK_TOKEN, then .switchback/admin.token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Only this route
    pub route: Option<String>,
    /// Print again every second until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Record the route's rollout into a new file, for `simulate --counts`, until it ends or until
    /// interrupted
    #[arg(long, value_name = "FILE", requires = "route", conflicts_with_all = ["watch", "json"])]
    pub record: Option<PathBuf>,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `weights`.
#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// The route
    pub route: String,
    /// The whole split as arm=weight; arms not named get 0
    #[arg(value_name = "ARM=WEIGHT", value_parser = arm_weight, required_unless_present = "reset", conflicts_with = "reset")]
    pub weights: Vec<(String, u32)>,
    /// Return to the weights of the file
    #[arg(long)]
    pub reset: bool,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Refuse unless the route is at this generation
    #[arg(long, value_name = "GENERATION")]
    pub generation: Option<u64>,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// The route
    pub route: String,
    /// The arm that gets no new users
    pub arm: String,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Refuse unless the route is at this generation
    #[arg(long, value_name = "GENERATION")]
    pub generation: Option<u64>,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// Only say whether it would load
    #[arg(long)]
    pub dry_run: bool,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// A request for `explain` to ask a running proxy about.
#[derive(Clone, Debug, Default)]
pub struct ExplainAsk {
    /// `http://host/path`.
    pub url: String,
    /// Method.
    pub method: String,
    /// Headers as `name: value`.
    pub headers: Vec<String>,
    /// Client address.
    pub client_ip: String,
    /// Sticky key.
    pub key: Option<String>,
}

fn arm_weight(text: &str) -> Result<(String, u32), String> {
    let (arm, weight) = text.rsplit_once('=').ok_or("write arm=weight, such as canary=5")?;
    let weight = weight.parse().map_err(|_| format!("`{weight}` is not a whole number from 0"))?;
    Ok((arm.to_owned(), weight))
}

/// Why a verb did not succeed, and how the program ends for it.
pub(super) struct Failed(pub Exit, pub String);

pub(super) type Outcome = Result<String, Failed>;

/// Shows the process and its routes.
#[must_use]
pub fn status(args: &StatusArgs) -> Exit {
    let remote = match Remote::open(&args.admin) {
        Ok(remote) => remote,
        Err(failed) => return finish(Err(failed)),
    };
    if let (Some(route), Some(file)) = (&args.route, &args.record) {
        return finish(record::record(&remote, route, file));
    }
    let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    loop {
        let shown = if args.admin.json { remote.status_json(args) } else { remote.status_text(args, colour) };
        if !args.watch {
            return finish(shown);
        }
        // Home and clear to the end: the picture is replaced without a flicker.
        let shown = shown.map(|text| if colour { format!("\x1b[H\x1b[J{text}") } else { text });
        if let Err(exit) = say(shown) {
            return exit;
        }
        std::thread::sleep(REFRESH);
    }
}

/// Sets the weights of a route, or returns to the file's.
#[must_use]
pub fn weights(args: &WeightsArgs) -> Exit {
    finish(Remote::open(&args.admin).and_then(|remote| remote.weights(args)))
}

/// Takes an arm's weight and leaves it the users that are pinned to it.
#[must_use]
pub fn drain(args: &DrainArgs) -> Exit {
    finish(Remote::open(&args.admin).and_then(|remote| remote.drain(args)))
}

/// Loads the configuration again.
#[must_use]
pub fn reload(args: &ReloadArgs) -> Exit {
    finish(Remote::open(&args.admin).and_then(|remote| remote.reload(args)))
}

/// Says what a running proxy would do with a request.
#[must_use]
pub fn explain(admin: &AdminArgs, ask: &ExplainAsk) -> Exit {
    finish(Remote::open(admin).and_then(|remote| remote.explain(admin, ask)))
}

pub(super) fn finish(outcome: Outcome) -> Exit {
    say(outcome).err().unwrap_or(Exit::Ok)
}

/// Prints a result or a failure; the exit code of a failure.
pub(super) fn say(outcome: Outcome) -> Result<(), Exit> {
    match outcome {
        Ok(text) => {
            // A reader that went away is no failure, and ends a watch.
            io::stdout().write_all(text.as_bytes()).map_err(|_| Exit::Ok)
        }
        Err(Failed(exit, why)) => {
            let _ = writeln!(io::stderr(), "error: {why}");
            Err(exit)
        }
    }
}

/// A proxy to ask.
pub(super) struct Remote {
    target: Target,
    limits: Limits,
    token: Option<String>,
    pub(super) runtime: tokio::runtime::Runtime,
}

impl Remote {
    pub(super) fn open(args: &AdminArgs) -> Result<Self, Failed> {
        let usage = |why: String| Failed(Exit::Usage, why);
        let target = args.admin.parse().map_err(|why| usage(format!("--admin: {why}")))?;
        let token = token(args.token_file.as_deref()).map_err(usage)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| usage(error.to_string()))?;
        Ok(Self { target, limits: Limits::default(), token, runtime })
    }

    /// The same that waits so long for an answer.
    pub(super) fn patient(self, timeout: Duration) -> Self {
        Self { limits: Limits { timeout, ..self.limits }, ..self }
    }

    fn status_json(&self, args: &StatusArgs) -> Outcome {
        if let Some(route) = &args.route {
            return pretty(&self.get::<serde_json::Value>(&route_path(route))?);
        }
        let mut status: serde_json::Value = self.get("/api/v1/status")?;
        let routes: serde_json::Value = self.get("/api/v1/routes")?;
        // Counted in the status, listed here.
        if let (Some(status), Some(list)) = (status.as_object_mut(), routes.get("routes")) {
            status.insert("routes".to_owned(), list.clone());
        }
        pretty(&status)
    }

    fn status_text(&self, args: &StatusArgs, colour: bool) -> Outcome {
        let status: wire::Status = self.get("/api/v1/status")?;
        let routes: Vec<wire::Route> = match &args.route {
            Some(route) => vec![self.get(&route_path(route))?],
            None => self.get::<wire::Routes>("/api/v1/routes")?.routes,
        };
        Ok(remote_text::status(&status, &routes, colour))
    }

    fn weights(&self, args: &WeightsArgs) -> Outcome {
        let request = wire::WeightsRequest {
            weights: (!args.reset).then(|| args.weights.iter().cloned().collect()),
            reset: args.reset,
            reason: Some(args.reason.clone()).filter(|reason| !reason.is_empty()),
            actor: Some(actor()),
            ..wire::WeightsRequest::default()
        };
        let expected = args.generation.map_or_else(|| "*".to_owned(), |number| format!("\"{number}\""));
        let path = format!("{}/weights", route_path(&args.route));
        let done: wire::WeightsSet = self.post(&path, &request, &expected)?;
        if args.admin.json { pretty(&done) } else { Ok(remote_text::weights(&args.route, &done)) }
    }

    fn drain(&self, args: &DrainArgs) -> Outcome {
        let request = wire::DrainRequest {
            arm: args.arm.clone(),
            reason: Some(args.reason.clone()).filter(|reason| !reason.is_empty()),
            actor: Some(actor()),
            ..wire::DrainRequest::default()
        };
        let expected = args.generation.map_or_else(|| "*".to_owned(), |number| format!("\"{number}\""));
        let path = format!("{}/drain", route_path(&args.route));
        let done: wire::WeightsSet = self.post(&path, &request, &expected)?;
        if args.admin.json { pretty(&done) } else { Ok(remote_text::weights(&args.route, &done)) }
    }

    fn reload(&self, args: &ReloadArgs) -> Outcome {
        let request = wire::ReloadRequest {
            reason: Some(args.reason.clone()).filter(|reason| !reason.is_empty()),
            actor: Some(actor()),
            ..wire::ReloadRequest::default()
        };
        let path = if args.dry_run { "/api/v1/reload?dryRun=true" } else { "/api/v1/reload" };
        let done: wire::Reloaded = self.post(path, &request, "*")?;
        if args.admin.json { pretty(&done) } else { Ok(remote_text::reload(&done)) }
    }

    fn explain(&self, admin: &AdminArgs, ask: &ExplainAsk) -> Outcome {
        let mut path = String::from("/api/v1/explain?");
        let single = [("url", &ask.url), ("method", &ask.method), ("clientIP", &ask.client_ip)];
        let repeated = ask.headers.iter().map(|value| ("header", value));
        let key = ask.key.iter().map(|key| ("key", key));
        for (name, value) in single.into_iter().chain(repeated).chain(key) {
            path.extend([name, "=", &encode(value), "&"]);
        }
        let told: wire::Explained = self.get(&path)?;
        if admin.json { pretty(&told) } else { Ok(remote_text::explained(&told)) }
    }

    pub(super) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failed> {
        self.ask(Ask::get(path))
    }

    pub(super) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        expected: &str,
    ) -> Result<T, Failed> {
        let broken = |error: &dyn std::fmt::Display| Failed(Exit::Usage, error.to_string());
        let body = serde_json::to_vec(body).map_err(|error| broken(&error))?;
        let expected = HeaderValue::try_from(expected).map_err(|error| broken(&error))?;
        let headers =
            vec![(CONTENT_TYPE, HeaderValue::from_static("application/json")), (IF_MATCH, expected)];
        self.ask(Ask { method: Method::POST, path: path.to_owned(), headers, body: Bytes::from(body) })
    }

    fn ask<T: DeserializeOwned>(&self, mut ask: Ask) -> Result<T, Failed> {
        ask.headers.extend(self.authorization()?);
        let answer = self
            .runtime
            .block_on(fetch(&self.target, ask, self.limits))
            .map_err(|error| Failed(Exit::Usage, words(&error)))?;
        if answer.status != StatusCode::OK {
            return Err(Failed(Exit::Refused, refusal(&answer) + token_hint(answer.status)));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| Failed(Exit::Usage, format!("{} answered something else: {error}", self.target)))
    }

    fn authorization(&self) -> Result<Option<(HeaderName, HeaderValue)>, Failed> {
        let Some(token) = &self.token else { return Ok(None) };
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| Failed(Exit::Usage, "the token holds characters no header can carry".to_owned()))?;
        value.set_sensitive(true);
        Ok(Some((AUTHORIZATION, value)))
    }
}

/// The token by file, by environment, or where a proxy started here has put it.
fn token(file: Option<&Path>) -> Result<Option<String>, String> {
    let read = |file: &Path| std::fs::read_to_string(file).map(|text| text.trim().to_owned());
    if let Some(file) = file {
        return read(file).map(Some).map_err(|error| format!("--token-file {}: {error}", file.display()));
    }
    if let Some(token) = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.trim().is_empty()) {
        return Ok(Some(token.trim().to_owned()));
    }
    Ok(read(Path::new(TOKEN_FILE)).ok().filter(|token| !token.is_empty()))
}

/// Who is at the terminal, for the journal.
pub(super) fn actor() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    user.map_or_else(|| "cli".to_owned(), |user| format!("cli:{user}"))
}

pub(super) fn route_path(route: &str) -> String {
    format!("/api/v1/routes/{}", encode(route))
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

pub(super) fn pretty(view: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(view).map_err(|error| Failed(Exit::Usage, error.to_string()))?;
    Ok(text + "\n")
}

/// An error with its causes.
fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let more = one.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = one.source();
    }
    text
}

/// Where the token comes from, for whoever has none or a wrong one.
fn token_hint(status: StatusCode) -> &'static str {
    if status == StatusCode::UNAUTHORIZED {
        "; the operator token comes from --token-file FILE, else $SWITCHBACK_TOKEN, else .switchback/admin.token"
    } else {
        ""
    }
}

fn refusal(answer: &Answer) -> String {
    let Ok(error) = serde_json::from_slice::<wire::Error>(&answer.body) else {
        return format!("refused with {}", answer.status);
    };
    remote_text::refusal(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Weights {
        #[command(flatten)]
        args: WeightsArgs,
    }

    #[test]
    fn weights_are_written_as_pairs_or_reset() {
        let parsed = |line: &str| Weights::try_parse_from(line.split(' ')).map(|parsed| parsed.args);
        let args = parsed("weights all stable=95 canary=5").expect("two pairs");
        assert_eq!(args.weights, [("stable".to_owned(), 95), ("canary".to_owned(), 5)]);
        assert!(parsed("weights all --reset").expect("a reset").reset);
        for wrong in
            ["weights all", "weights all a=1 --reset", "weights all a", "weights all a=-1", "weights all a=x"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_missing_token_is_answered_with_where_it_comes_from() {
        let hint = token_hint(StatusCode::UNAUTHORIZED);
        for place in ["--token-file", TOKEN_VARIABLE, TOKEN_FILE] {
            assert!(hint.contains(place), "{place} is not in {hint}");
        }
        assert_eq!(token_hint(StatusCode::CONFLICT), "");
    }

    #[test]
    fn a_token_file_that_was_named_must_be_there() {
        assert!(token(Some(Path::new("/dev/null/none"))).is_err());
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        std::fs::write(&file, "secret\n").expect("written");
        assert_eq!(token(Some(&file)), Ok(Some("secret".to_owned())));
    }
}
