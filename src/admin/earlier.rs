//! Configurations that were in force, and the way back to one.
//!
//! It must never show their text: that is the file's, and may name what is secret.

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;

use super::Shared;
use super::asked::{Asked, Empty, asked};
use super::error::Refused;
use super::verbs::reloaded;
use crate::model::Generation;
use crate::wire;

pub(super) async fn history(State(shared): State<Shared>) -> Json<wire::ConfigHistory> {
    let report = shared.admin.0.control.report();
    let entries = report.earlier.iter().map(|entry| wire::ConfigEntry {
        generation: entry.generation.0,
        at_millis: entry.at.0,
        actor: entry.actor.clone(),
        reason: entry.reason.clone(),
        back_to: entry.back_to.map(|generation| generation.0),
        changes: entry.changes.clone(),
    });
    Json(wire::ConfigHistory { entries: entries.collect() })
}

pub(super) async fn rollback(
    State(shared): State<Shared>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<wire::Reloaded>, Refused> {
    let Asked::<wire::Rollback> { what, by, expected, _turn } =
        asked(&shared, &headers, body, Empty::Refused).await?;
    let reason = by.reason.clone();
    let done = shared.admin.0.control.roll_back(Generation(what.generation), by, expected).await?;
    Ok(Json(reloaded(done, reason, false)))
}
