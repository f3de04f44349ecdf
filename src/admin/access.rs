//! What the asker may do.
//!
//! A token that is sent is judged like that of a verb: a wrong one is refused and counted, so that asking
//! here is no way to guess. It must never grant anything.

use axum::Json;
use axum::extract::{Request, State};

use super::Shared;
use super::auth::Role;
use super::error::Refused;
use super::listen::Peer;
use crate::wire;

pub(super) async fn access(
    State(shared): State<Shared>,
    request: Request,
) -> Result<Json<wire::Access>, Refused> {
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    let role = shared.gate.role(request.headers(), peer)?;
    let (role, why) = match role {
        Some(Role::Operator) => ("operator", ""),
        Some(Role::Viewer) => ("viewer", "this token may only read"),
        None => ("none", "verbs need the operator's token"),
    };
    Ok(Json(wire::Access { role: role.to_owned(), verbs: role == "operator", why: why.to_owned() }))
}
