//! The operator's own listener: probes, metrics, views and verbs.
//!
//! It runs on the control runtime with its own limits, so that traffic cannot starve it and it
//! cannot starve traffic. It must never change anything itself: verbs are commands to the
//! controller, views are read from the plan and the ledger.

mod access;
mod asked;
pub mod auth;
mod dashboard;
mod differences;
mod earlier;
pub mod error;
mod events;
pub mod explain;
mod fixed;
mod flips;
pub mod guard;
mod guards;
pub mod listen;
mod objectives;
mod openapi;
mod past;
mod planned;
pub mod rollouts;
mod room;
pub mod scrape;
mod steering;
pub mod ticks;
mod verbs;
pub mod views;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::certs::Certificates;
use crate::control::{ControlHandle, Health};
use crate::ledger::{Book, Recent};
use crate::model::time::Clock;
use crate::plan::Plans;
use crate::telemetry::Cold;

pub use auth::Tokens;
pub use guard::Gate;
pub use listen::{Bound, Exposure, bind, serve};

/// Verbs that may run at once.
const MAX_VERBS: usize = 8;

/// What the operator's listener reads and whom it asks.
#[derive(Clone)]
pub struct Admin(Arc<Parts>);

/// What an [`Admin`] is made of.
pub struct Parts {
    /// The plan in force.
    pub plans: Plans,
    /// Live numbers.
    pub book: Arc<Book>,
    /// The last minute.
    pub recent: Arc<Mutex<Recent>>,
    /// The controller.
    pub control: ControlHandle,
    /// Certificates of listeners.
    pub certificates: Arc<Certificates>,
    /// Shared readiness.
    pub health: Arc<Health>,
    /// Rare numbers.
    pub cold: Arc<Cold>,
    /// Wall clock.
    pub clock: Arc<dyn Clock>,
}

/// An [`Admin`] with what only its own listener needs.
#[derive(Clone)]
struct Shared {
    admin: Admin,
    gate: Arc<Gate>,
    verbs: Arc<Semaphore>,
    watchers: events::Watchers,
    started: Instant,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin").finish_non_exhaustive()
    }
}

impl Admin {
    /// From its parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Everything, behind a gate.
    pub fn router(&self, gate: Gate) -> Router {
        let shared = Shared {
            admin: self.clone(),
            gate: Arc::new(gate),
            verbs: Arc::new(Semaphore::new(MAX_VERBS)),
            watchers: events::Watchers::default(),
            started: Instant::now(),
        };
        let api = Router::new()
            .route("/status", get(views::status))
            .route("/routes", get(views::routes))
            .route("/routes/{route}", get(views::route))
            .route("/config", get(views::config))
            .route("/config/history", get(earlier::history))
            .route("/config/rollback", post(earlier::rollback))
            .route("/limits", get(views::limits))
            .route("/explain", get(explain::explain))
            .route("/access", get(access::access))
            .route("/routes/{route}/weights", post(verbs::weights))
            .route("/routes/{route}/drain", post(verbs::drain))
            .route("/routes/{route}/flip", post(flips::flip))
            .route("/routes/{route}/rollout/plan", get(planned::plan))
            .route("/routes/{route}/rollout/{verb}", post(verbs::rollout))
            .route("/routes/{route}/history", get(rollouts::history))
            .route("/routes/{route}/ticks", get(ticks::ticks))
            .route("/routes/{route}/differences", get(differences::differences))
            .route("/upstreams/{upstream}/breaker", post(guards::breaker))
            .route("/routes/{route}/past", get(past::past))
            .route("/events", get(events::events))
            .route("/reload", post(verbs::reload));
        Router::new()
            .nest("/api/v1", api)
            .route("/openapi.json", get(openapi::openapi))
            .with_state(shared.clone())
            .merge(dashboard::router())
            .merge(self.open_routes())
            .fallback(error::not_found)
            .method_not_allowed_fallback(error::method_not_allowed)
            .layer(from_fn_with_state(shared, guard::guard))
            .layer(from_fn(error::harden))
    }

    /// Metrics and probes alone, for an address of their own.
    pub fn metrics_router(&self) -> Router {
        self.open_routes()
            .fallback(error::not_found)
            .method_not_allowed_fallback(error::method_not_allowed)
            .layer(from_fn(error::harden))
    }

    fn open_routes(&self) -> Router {
        Router::new()
            .route("/metrics", get(scrape::metrics))
            .route("/livez", get(views::livez))
            .route("/readyz", get(views::readyz))
            .route("/startupz", get(views::startupz))
            .with_state(self.clone())
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
