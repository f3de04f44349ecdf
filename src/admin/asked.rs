//! The part that every verb has: a turn, what the caller saw, what is asked, by whom and why.
//!
//! Bodies are bounded in size and time, and what people write can be shown by any terminal. It must
//! never know what a verb does.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use super::Shared;
use super::error::Refused;
use crate::control::{By, Expected};
use crate::model::Generation;
use crate::wire;

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest actor, in characters.
const MAX_ACTOR: usize = 128;
/// Longest reason, in characters.
const MAX_REASON: usize = 1024;
/// Annotations of one request at most.
const MAX_ANNOTATIONS: usize = 32;
/// Longest name and longest value of an annotation, in characters.
const MAX_ANNOTATION: (usize, usize) = (64, 256);

/// What a caller asks of a verb; only so many are under way at once, and each has its turn until this
/// is dropped.
pub(super) struct Asked<'a, T> {
    /// What is asked.
    pub what: T,
    /// By whom, and why.
    pub by: By,
    /// The generation that was seen.
    pub expected: Expected,
    /// Held until the answer is known.
    pub _turn: Option<SemaphorePermit<'a>>,
}

/// Whether a verb can be meant without a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Empty {
    Fine,
    Refused,
}

/// Reads a verb.
pub(super) async fn asked<'a, T: DeserializeOwned + Default>(
    shared: &'a Shared,
    headers: &HeaderMap,
    body: Body,
    empty: Empty,
) -> Result<Asked<'a, T>, Refused> {
    let turn = shared.verbs.acquire().await.ok();
    json_only(headers)?;
    let expected = expected(headers)?;
    let request: wire::Asked<T> = read(headers, body, empty == Empty::Fine).await?;
    Ok(Asked { what: request.what, by: by(request.said)?, expected, _turn: turn })
}

pub(super) fn bad(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad-request", message)
}

/// A form of a foreign page cannot send this type without asking first.
fn json_only(headers: &HeaderMap) -> Result<(), Refused> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refused::new(StatusCode::BAD_REQUEST, "not-json", "the content type must be application/json"))
}

/// What the caller says it saw: `*`, `"7"` or `7`.
fn expected(headers: &HeaderMap) -> Result<Expected, Refused> {
    let mut values = headers.get_all(IF_MATCH).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(Expected::Nothing),
        (Some(value), None) => value.to_str().unwrap_or("").trim(),
        _ => "",
    };
    let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    if bare == "*" {
        return Ok(Expected::Any);
    }
    let generation = bare.parse().map_err(|_| bad("If-Match is a generation or *"))?;
    Ok(Expected::Exactly(Generation(generation)))
}

async fn read<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
    may_be_empty: bool,
) -> Result<T, Refused> {
    let too_large = || {
        let message = format!("the body is larger than {MAX_BODY} bytes");
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    };
    let announced = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_BODY) {
        return Err(too_large());
    }
    let bytes = match tokio::time::timeout(BODY_TIMEOUT, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => bytes,
        Ok(Err(error)) if is_limit(&error) => return Err(too_large()),
        Ok(Err(_)) => return Err(bad("the body broke off")),
        Err(_) => return Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body did not come")),
    };
    if may_be_empty && bytes.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(&bytes).map_err(|error| bad(format!("the body is not understood: {error}")))
}

fn is_limit(error: &axum::Error) -> bool {
    let cause = std::error::Error::source(error);
    matches!(cause, Some(cause) if cause.is::<http_body_util::LengthLimitError>())
}

fn by(said: wire::Said) -> Result<By, Refused> {
    let wire::Said { actor, reason, annotations } = said;
    let (actor, reason) = (actor.unwrap_or_else(|| "admin".to_owned()), reason.unwrap_or_default());
    let longer = |text: &str, most: usize| text.chars().count() > most;
    if longer(&actor, MAX_ACTOR) || longer(&reason, MAX_REASON) {
        let message =
            format!("an actor has at most {MAX_ACTOR} characters and a reason at most {MAX_REASON}");
        return Err(bad(message));
    }
    let (name, value) = MAX_ANNOTATION;
    if annotations.len() > MAX_ANNOTATIONS
        || annotations.iter().any(|(key, text)| longer(key, name) || longer(text, value))
    {
        let message = format!(
            "there are at most {MAX_ANNOTATIONS} annotations, of {name} characters with {value} characters"
        );
        return Err(bad(message));
    }
    let annotations = annotations.iter().map(|(key, text)| (printable(key), printable(text))).collect();
    Ok(By { actor: printable(&actor), reason: printable(&reason), annotations })
}

/// A text that logs, journals and terminals can show as it is: line ends and tabs become spaces, what
/// would move a cursor or turn the direction of writing becomes U+FFFD.
fn printable(text: &str) -> String {
    let shown = |one: char| match one {
        '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}' => ' ',
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        one if one.is_control() => '\u{fffd}',
        one => one,
    };
    text.chars().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn what_people_say_cannot_forge_lines_or_move_a_cursor() {
        let notes = BTreeMap::from([("a\nb".to_owned(), "\u{1b}[2J".to_owned())]);
        let (actor, reason) = (Some("ann\n\u{1b}[31m".into()), Some("fine\u{202e}\r\u{9b}1m\0é".into()));
        let by = by(wire::Said { actor, reason, annotations: notes });
        let by = by.expect("short enough");
        assert_eq!(by.actor, "ann \u{fffd}[31m");
        assert_eq!(by.reason, "fine\u{fffd} \u{fffd}1m\u{fffd}é");
        assert_eq!(by.annotations, BTreeMap::from([("a b".to_owned(), "\u{fffd}[2J".to_owned())]));
    }

    #[test]
    fn what_people_say_is_bounded() {
        let text = |length: usize| "é".repeat(length);
        let note = |key: usize, value: usize| BTreeMap::from([(text(key), text(value))]);
        let many = |count: u32| (0..count).map(|at| (at.to_string(), String::new())).collect();
        let rows = [
            (text(128), text(1_024), note(64, 256), true),
            (text(129), text(1), note(1, 1), false),
            (text(1), text(1_025), note(1, 1), false),
            (text(1), text(1), note(65, 1), false),
            (text(1), text(1), note(1, 257), false),
            (text(1), text(1), many(32), true),
            (text(1), text(1), many(33), false),
        ];
        for (actor, reason, notes, fine) in rows {
            let said = format!("{} {} {}", actor.len(), reason.len(), notes.len());
            let told = wire::Said { actor: Some(actor), reason: Some(reason), annotations: notes };
            assert_eq!(by(told).is_ok(), fine, "{said}");
        }
    }
}
