//! What a scrape shows beyond the ledger: the plan's arms, limits and listeners.
//!
//! It exists because these are no counts: they are read from the plan in force at the moment of the scrape.
//! It must never add a series that a request could cause.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::error::Refused;
use super::views::blocking;
use super::{Admin, differences, guards, objectives, rollouts, views};
use crate::control::Conducted;
use crate::plan::{Plan, Route};
use crate::telemetry::certificates::CertificateSeries;
use crate::telemetry::metrics::{self, ArmSeries, Scrape};

/// Content type of Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every state a rollout can be in, as the API names them.
const STATES: [&str; 13] = [
    "IDLE",
    "PENDING",
    "SHADOW",
    "STAGE",
    "HOLD",
    "PAUSED",
    "BAKE",
    "REVERTING",
    "PROMOTED",
    "REVERTED",
    "ABORTED",
    "SUPERSEDED",
    "FINISHED",
];

/// `GET /metrics`.
pub async fn metrics(State(admin): State<Admin>) -> Result<Response, Refused> {
    let text = blocking(move || scrape(&admin)).await?;
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}

/// The text of a scrape. Sums every live cell: not for a thread that must not wait.
#[must_use]
pub fn scrape(admin: &Admin) -> String {
    let plan = admin.0.plans.load_full();
    let limits = plan.upstreams.iter().flat_map(|upstream| {
        let kinds = [
            ("max_requests", upstream.max_requests),
            ("max_pending", upstream.max_pending),
            ("max_connections", upstream.max_connections),
        ];
        kinds.map(|(kind, limit)| (Arc::clone(&upstream.name), kind, u64::from(limit)))
    });
    let limits: Vec<_> = limits.filter(|(_, _, limit)| *limit > 0).collect();
    let listeners: Vec<_> = plan.listeners.iter().map(|listener| Arc::clone(&listener.name)).collect();
    let conducted = admin.0.control.rollouts();
    metrics::render(&Scrape {
        book: &admin.0.book,
        cold: &admin.0.cold,
        arms: &arms(admin, &plan, &conducted),
        rollouts: &rollouts::series(&conducted),
        rollout_states: &STATES,
        objectives: &objectives::series(&conducted),
        bounds: &objectives::bounds(&plan),
        transitions: &rollouts::transitions(&conducted),
        harms: &rollouts::harms(&conducted),
        differences: &differences::series(&admin.0.control.differences().rows()),
        guards: &guards::series(&plan),
        limits: &limits,
        listeners: &listeners,
        certificates: &certificates(admin),
    })
}

/// One series per file: a certificate may be named with two keys.
fn certificates(admin: &Admin) -> Vec<CertificateSeries> {
    let held = admin.0.certificates.held().into_iter();
    let mut series: Vec<CertificateSeries> = held
        .map(|held| CertificateSeries {
            file: held.cert,
            not_after: held.not_after,
            refused: held.trouble.is_some(),
        })
        .collect();
    series.sort_by(|a, b| a.file.cmp(&b.file));
    series.dedup_by(|a, b| a.file == b.file);
    series
}

fn arms(admin: &Admin, plan: &Plan, conducted: &Conducted) -> Vec<ArmSeries> {
    plan.routes.iter().flat_map(|route| arms_of(admin, route, conducted)).collect()
}

fn arms_of(admin: &Admin, route: &Arc<Route>, conducted: &Conducted) -> Vec<ArmSeries> {
    let live = admin.0.book.route_cells(&route.name).iter().any(|cell| cell.is_live());
    let seen = if live { views::seen(admin, &route.name) } else { views::LastMinute::default() };
    let total: u64 = route.arms.iter().map(|arm| u64::from(arm.weight)).sum();
    let series = route.arms.iter().zip(0_u8..).map(|(arm, at)| ArmSeries {
        route: Arc::clone(&route.name),
        arm: Arc::clone(&arm.name),
        upstream: Arc::clone(&arm.upstream.name),
        role: role(route, at),
        version: route
            .policy
            .as_ref()
            .filter(|policy| rollouts::new_arm(conducted, route, policy) == &*arm.name)
            .map(|policy| policy.version.clone())
            .unwrap_or_default(),
        weight: if total == 0 { 0.0 } else { ratio(u64::from(arm.weight), total) },
        // A route that served before and is idle now has no share, not a share of 0.
        observed: live.then(|| seen.share(&arm.name).unwrap_or(f64::NAN)),
    });
    series.collect()
}

fn role(route: &Route, arm: u8) -> &'static str {
    match route.slots {
        Some((active, _)) if active.0 == arm => "active",
        Some((_, idle)) if idle.0 == arm => "idle",
        _ if route.default_arm.0 == arm => "stable",
        _ => "canary",
    }
}

/// One number as a share of another.
#[must_use]
pub fn ratio(part: u64, whole: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a share needs no more than 52 bits")]
    let ratio = part as f64 / whole as f64;
    ratio
}
