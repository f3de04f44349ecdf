//! The way to a running proxy: its address, the token, one question, and what to do when it fails.
//!
//! Every verb that asks a proxy goes through here. It must never take a token from the command
//! line, where other users of the machine could read it: tokens come from files or the environment.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http::header::{AUTHORIZATION, CONTENT_TYPE, IF_MATCH};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Exit, remote_text};
use crate::fetch::{Answer, Ask, FetchError, Limits, Target, fetch};
use crate::wire;

/// Variable with the operator token.
const TOKEN_VARIABLE: &str = "SWITCHBACK_TOKEN";
/// Where the token is when nothing else says so, under the working folder.
const TOKEN_FILE: &str = ".switchback/admin.token";

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

/// Why a verb did not succeed, and how the program ends for it.
pub(super) struct Failed(pub Exit, pub String);

pub(super) type Outcome = Result<String, Failed>;

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
    token: Option<Token>,
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
            .map_err(|error| Failed(Exit::Usage, unreached(&self.target, &error)))?;
        if answer.status != StatusCode::OK {
            let told =
                refusal(&answer).ok_or_else(|| Failed(Exit::Refused, stranger(&self.target, &answer)))?;
            let token = token_hint(answer.status, self.token.as_ref());
            return Err(Failed(Exit::Refused, told + &token));
        }
        serde_json::from_slice(&answer.body).map_err(|error| {
            let why = format!("{}\n  what came cannot be read: {error}", stranger(&self.target, &answer));
            Failed(Exit::Usage, why)
        })
    }

    fn authorization(&self) -> Result<Option<(HeaderName, HeaderValue)>, Failed> {
        let Some(Token { text, place }) = &self.token else { return Ok(None) };
        let mut value = HeaderValue::try_from(format!("Bearer {text}")).map_err(|_| {
            Failed(Exit::Usage, format!("the token of {place} holds characters no header can carry"))
        })?;
        value.set_sensitive(true);
        Ok(Some((AUTHORIZATION, value)))
    }
}

/// A token, and where it was found.
#[derive(Debug, PartialEq, Eq)]
struct Token {
    text: String,
    place: String,
}

/// The token by file, by environment, or where a proxy started here has put it.
fn token(file: Option<&Path>) -> Result<Option<Token>, String> {
    let read = |file: &Path| std::fs::read_to_string(file).map(|text| text.trim().to_owned());
    let found = |text: String, place: String| Some(Token { text, place });
    if let Some(file) = file {
        let place = format!("--token-file {}", file.display());
        return read(file)
            .map(|text| found(text, place.clone()))
            .map_err(|error| format!("{place}: {error}"));
    }
    if let Some(token) = std::env::var(TOKEN_VARIABLE).ok().filter(|token| !token.trim().is_empty()) {
        return Ok(found(token.trim().to_owned(), format!("${TOKEN_VARIABLE}")));
    }
    let text = read(Path::new(TOKEN_FILE)).ok().filter(|token| !token.is_empty());
    Ok(text.and_then(|text| found(text, TOKEN_FILE.to_owned())))
}

/// Who is at the terminal, for the journal.
pub(super) fn actor() -> String {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    user.map_or_else(|| "cli".to_owned(), |user| format!("cli:{user}"))
}

pub(super) fn route_path(route: &str) -> String {
    format!("/api/v1/routes/{}", encode(route))
}

pub(super) fn encode(text: &str) -> String {
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

/// Why there was no answer, and what to try.
fn unreached(target: &Target, error: &FetchError) -> String {
    let unix = matches!(target, Target::Unix(_));
    let advice = match error {
        FetchError::Connect(_, error) if unix && error.kind() == io::ErrorKind::PermissionDenied => {
            "its socket is for the user it runs as, and for its group: ask as one of them"
        }
        FetchError::Connect(..) => {
            "is a proxy running? its admin address is `admin.address` of its configuration, by default \
             127.0.0.1:9901: say another one with --admin http://HOST:PORT or --admin unix:/PATH"
        }
        FetchError::Tls(..) => "is it TLS there? say --admin http://HOST:PORT if it is not",
        FetchError::Timeout(_) => {
            "something listens there and is silent: see its log, and whether --admin names the admin address"
        }
        FetchError::Protocol(_) => {
            "is that the admin address (`admin.address`)? with TLS it is --admin https://HOST:PORT"
        }
        FetchError::Request(_) | FetchError::TooLarge(_) => return words(error),
    };
    format!("{}\n  {advice}", words(error))
}

/// What answered is no admin API, or another version's.
fn stranger(target: &Target, answer: &Answer) -> String {
    format!(
        "{target} answered {}, but not as an admin API of version {} does\n  is that the port of the traffic? the \
         admin address is `admin.address` of the configuration: say it with --admin URL",
        answer.status,
        env!("CARGO_PKG_VERSION")
    )
}

/// Where the token comes from, for whoever has none or a wrong one.
fn token_hint(status: StatusCode, used: Option<&Token>) -> String {
    if status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN {
        return String::new();
    }
    let used = match used {
        Some(Token { place, .. }) => format!("the token of {place} was sent"),
        None => "no token was found here".to_owned(),
    };
    format!(
        "\n  {used}: it comes from --token-file FILE, else ${TOKEN_VARIABLE}, else {TOKEN_FILE} under the \
         working folder; the proxy keeps it as admin.token in its `stateDir`"
    )
}

/// A refusal of the admin API; `None` for another's.
fn refusal(answer: &Answer) -> Option<String> {
    let error = serde_json::from_slice::<wire::Error>(&answer.body).ok()?;
    Some(remote_text::refusal(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_token_is_answered_with_where_it_was_looked_for() {
        let used = Token { text: "x".into(), place: "--token-file a".into() };
        for (used, said) in
            [(None, "no token was found"), (Some(&used), "the token of --token-file a was sent")]
        {
            let hint = token_hint(StatusCode::UNAUTHORIZED, used);
            for place in ["--token-file", TOKEN_VARIABLE, TOKEN_FILE, "stateDir", said] {
                assert!(hint.contains(place), "{place} is not in {hint}");
            }
        }
        assert_eq!(token_hint(StatusCode::CONFLICT, None), "");
    }

    #[test]
    fn nobody_there_is_answered_with_the_address_and_the_flag() {
        let target: Target = "http://127.0.0.1:9901".parse().expect("a target");
        let socket = Target::Unix("/run/s.sock".into());
        let error = |kind: io::ErrorKind| FetchError::Connect("x".into(), kind.into());
        let rows = [
            (&target, error(io::ErrorKind::ConnectionRefused), "--admin"),
            (&target, error(io::ErrorKind::ConnectionRefused), "admin.address"),
            (&socket, error(io::ErrorKind::NotFound), "--admin unix:/PATH"),
            (&socket, error(io::ErrorKind::PermissionDenied), "the user it runs as"),
            (&target, FetchError::Timeout(Duration::from_secs(1)), "see its log"),
        ];
        for (target, error, part) in rows {
            let told = unreached(target, &error);
            assert!(told.contains(part) && told.contains(&error.to_string()), "{part}: {told}");
        }
    }

    #[test]
    fn a_token_file_that_was_named_must_be_there() {
        assert!(token(Some(Path::new("/dev/null/none"))).is_err());
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("token");
        std::fs::write(&file, "secret\n").expect("written");
        let found = token(Some(&file)).expect("read").expect("a token");
        assert_eq!(found.text, "secret");
    }
}
