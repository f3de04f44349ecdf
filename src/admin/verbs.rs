//! What operators do: weights, rollouts and reload, each as one command to the controller.
//!
//! It must never judge a change; it reads the request and says the answer.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, IF_MATCH};
use axum::http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::Shared;
use super::error::Refused;
use crate::control::{By, DrainAsk, Expected, RolloutAsk};
use crate::model::Generation;
use crate::rollout::Verb;
use crate::wire;

/// Largest request body, in bytes.
pub const MAX_BODY: usize = 1 << 20;
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest actor or reason, in characters.
const MAX_WORDS: usize = 1024;

pub(super) async fn weights(
    State(shared): State<Shared>,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::WeightsSet>, Refused> {
    let _turn = shared.verbs.acquire().await;
    json_only(&headers)?;
    let expected = expected(&headers)?;
    let request: wire::WeightsRequest = read(&headers, body, false).await?;
    let weights = match (request.weights, request.reset) {
        (Some(weights), false) => Some(weights),
        (None, true) => None,
        _ => return Err(bad("say either weights or reset")),
    };
    let by = by(request.actor, request.reason, request.annotations)?;
    let reason = by.reason.clone();
    let done = shared.admin.0.control.set_weights(route, weights, by, expected).await?;
    let changed = done.changed.into_iter().map(changed).collect();
    Ok(Json(wire::WeightsSet { generation: done.generation.0, changed, reason }))
}

pub(super) async fn drain(
    State(shared): State<Shared>,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::WeightsSet>, Refused> {
    let _turn = shared.verbs.acquire().await;
    json_only(&headers)?;
    let expected = expected(&headers)?;
    let request: wire::DrainRequest = read(&headers, body, false).await?;
    let by = by(request.actor, request.reason, request.annotations)?;
    let reason = by.reason.clone();
    let done = shared.admin.0.control.drain(DrainAsk { route, arm: request.arm, by, expected }).await?;
    let changed = done.changed.into_iter().map(changed).collect();
    Ok(Json(wire::WeightsSet { generation: done.generation.0, changed, reason }))
}

pub(super) async fn rollout(
    State(shared): State<Shared>,
    Path((route, verb)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::RolloutMoved>, Refused> {
    let _turn = shared.verbs.acquire().await;
    json_only(&headers)?;
    let verb = verb_named(&verb)?;
    let expected = expected(&headers)?;
    let request: wire::RolloutRequest = read(&headers, body, true).await?;
    let by = by(request.actor, request.reason, request.annotations)?;
    let reason = by.reason.clone();
    let wire::RolloutRequest { version, force, .. } = request;
    let control = &shared.admin.0.control;
    let ask = RolloutAsk { route: route.clone(), verb, version, force, by, expected };
    let done = control.rollout(ask).await;
    let conducted = control.rollouts();
    let now = conducted.rollouts.get(&route).map(|report| &report.rollout);
    let state = now.map(|rollout| rollout.phase.name().to_owned());
    let done = done.map_err(|refusal| Refused::from(refusal).state(state.clone()))?;
    Ok(Json(wire::RolloutMoved {
        generation: done.generation.0,
        changed: done.changed.into_iter().map(changed).collect(),
        reason,
        version: now.map(|rollout| rollout.identity.version.clone()).unwrap_or_default(),
        state: state.unwrap_or_default(),
    }))
}

pub(super) fn changed(one: crate::control::Changed) -> wire::Changed {
    wire::Changed { arm: one.arm, before: one.before, after: one.after }
}

/// A verb as the path names it; `rollback` is what some call an abort.
fn verb_named(name: &str) -> Result<Verb, Refused> {
    const VERBS: [Verb; 8] = [
        Verb::Start,
        Verb::Pause,
        Verb::Resume,
        Verb::Advance,
        Verb::Promote,
        Verb::Finish,
        Verb::Abort,
        Verb::Retry,
    ];
    let name = if name == "rollback" { "abort" } else { name };
    VERBS.into_iter().find(|verb| verb.name() == name).ok_or_else(|| {
        let known = VERBS.map(|verb| verb.name()).join(", ");
        Refused::new(StatusCode::NOT_FOUND, "unknown-verb", "a rollout has no such verb").hint(known)
    })
}

pub(super) async fn reload(
    State(shared): State<Shared>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::Reloaded>, Refused> {
    let _turn = shared.verbs.acquire().await;
    json_only(&headers)?;
    let expected = expected(&headers)?;
    let dry_run = dry_run(query.as_deref())?;
    let request: wire::ReloadRequest = read(&headers, body, true).await?;
    let by = by(request.actor, request.reason, request.annotations)?;
    let reason = by.reason.clone();
    let done = shared.admin.0.control.reload(dry_run, by, expected).await?;
    let changed = done.changes.into_iter().map(|change| wire::PlanChange {
        route: change.route,
        text: change.text,
        moved_percent: change.moved_percent,
    });
    Ok(Json(wire::Reloaded {
        generation: done.generation.0,
        changed: changed.collect(),
        reason,
        dry_run,
        warnings: done.warnings.iter().map(Into::into).collect(),
    }))
}

fn bad(message: impl Into<String>) -> Refused {
    Refused::new(StatusCode::BAD_REQUEST, "bad-request", message)
}

/// A form of a foreign page cannot send this type without asking first.
pub(super) fn json_only(headers: &HeaderMap) -> Result<(), Refused> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or("");
    let essence = kind.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    Err(Refused::new(StatusCode::BAD_REQUEST, "not-json", "the content type must be application/json"))
}

/// What the caller says it saw: `*`, `"7"` or `7`.
pub(super) fn expected(headers: &HeaderMap) -> Result<Expected, Refused> {
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

fn dry_run(query: Option<&str>) -> Result<bool, Refused> {
    let mut dry_run = false;
    for pair in query.into_iter().flat_map(|query| query.split('&')).filter(|pair| !pair.is_empty()) {
        dry_run = match pair {
            "dryRun" | "dryRun=true" | "dryRun=1" => true,
            "dryRun=false" | "dryRun=0" => false,
            other => return Err(bad(format!("`{other}` is not understood")).hint("dryRun=true")),
        };
    }
    Ok(dry_run)
}

pub(super) async fn read<T: DeserializeOwned + Default>(
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

pub(super) fn by(
    actor: Option<String>,
    reason: Option<String>,
    annotations: BTreeMap<String, String>,
) -> Result<By, Refused> {
    let by = By {
        actor: actor.unwrap_or_else(|| "admin".to_owned()),
        reason: reason.unwrap_or_default(),
        annotations,
    };
    let words = by.annotations.iter().flat_map(|(key, value)| [key, value]);
    if words.chain([&by.actor, &by.reason]).any(|text| text.chars().count() > MAX_WORDS) {
        return Err(bad(format!("actor, reason and annotations have at most {MAX_WORDS} characters")));
    }
    Ok(by)
}
