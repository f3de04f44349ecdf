//! What operators look at: readiness, status, routes, the effective configuration and its limits.
//!
//! Every number is read from the plan or the ledger at the moment of asking. It must never show a
//! secret.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::ETAG;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::error::Refused;
use super::scrape::ratio;
use super::{Admin, Shared, differences, flips, guards, objectives, rollouts, steering};
use crate::control::{self, Attempt, Conducted, Phase, Readiness};
use crate::ledger::Seen;
use crate::plan::{Listener, Route, Upstream};
use crate::wire;

/// Runs work that may take long off the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(%error, "a view failed");
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "the view failed")
    })
}

// --- probes ---

/// `GET /livez`: the process answers.
pub async fn livez(State(admin): State<Admin>) -> Response {
    probe(&admin.0.health.readiness(), true)
}

/// `GET /readyz`: it wants traffic.
pub async fn readyz(State(admin): State<Admin>) -> Response {
    let readiness = admin.0.health.readiness();
    probe(&readiness, readiness.phase == Phase::Ready)
}

/// `GET /startupz`: it has started.
pub async fn startupz(State(admin): State<Admin>) -> Response {
    let readiness = admin.0.health.readiness();
    probe(&readiness, readiness.phase != Phase::Starting)
}

fn probe(readiness: &Readiness, good: bool) -> Response {
    let body = wire::Ready { status: readiness.phase.label().to_owned(), checks: checks(readiness) };
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(body)).into_response()
}

fn checks(readiness: &Readiness) -> BTreeMap<String, String> {
    readiness.checks.iter().map(|(part, text)| ((*part).to_owned(), text.clone())).collect()
}

// --- status and routes ---

pub(super) async fn status(State(shared): State<Shared>) -> Json<wire::Status> {
    let parts = &shared.admin.0;
    let plan = parts.plans.load_full();
    let report = parts.control.report();
    let readiness = parts.health.readiness();
    let listeners = plan.listeners.iter().enumerate().map(|(at, listener)| wire::Listener {
        name: listener.name.to_string(),
        address: listener.address.to_string(),
        connections: parts.book.process.connections(at),
    });
    Json(wire::Status {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        status: readiness.phase.label().to_owned(),
        generation: plan.generation.0,
        uptime_seconds: shared.started.elapsed().as_secs(),
        workers: parts.book.workers(),
        checks: checks(&readiness),
        config: wire::Config {
            path: report.path.clone(),
            files: report.files.clone(),
            last_reload: load(&report.last),
            rolled_back: report.earlier.last().and_then(rolled_back),
        },
        state: wire::State { dir: report.state_dir.clone(), detail: report.state.clone() },
        listeners: listeners.collect(),
        routes: plan.routes.len(),
        upstreams: plan.upstreams.len(),
        breakers: guards::breakers(&plan),
        all_out: guards::dead(&plan),
        rollouts: rollouts::all(&parts.control.rollouts(), &plan, parts.clock.now()),
    })
}

fn rolled_back(in_force: &control::earlier::Entry) -> Option<wire::RolledBack> {
    Some(wire::RolledBack {
        to: in_force.back_to?.0,
        actor: in_force.actor.clone(),
        reason: in_force.reason.clone(),
        at_millis: in_force.at.0,
    })
}

pub(super) fn load(attempt: &Attempt) -> wire::Load {
    wire::Load {
        at_millis: attempt.at.0,
        actor: attempt.actor.clone(),
        ok: attempt.ok,
        diagnostics: attempt.diagnostics.iter().map(Into::into).collect(),
    }
}

pub(super) async fn routes(State(shared): State<Shared>) -> Result<Json<wire::Routes>, Refused> {
    let admin = shared.admin;
    let view = move || {
        let plan = admin.0.plans.load_full();
        let conducted = admin.0.control.rollouts();
        let routes = plan.routes.iter().map(|route| view(&admin, &conducted, route)).collect();
        wire::Routes { generation: plan.generation.0, routes }
    };
    blocking(view).await.map(Json)
}

pub(super) async fn route(
    State(shared): State<Shared>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    let plan = shared.admin.0.plans.load_full();
    let route = control::find(&plan, &name)?;
    let conducted = shared.admin.0.control.rollouts();
    let tag = format!("\"{}\"", route.generation);
    Ok(([(ETAG, tag)], Json(view(&shared.admin, &conducted, route))).into_response())
}

/// What the arms of a route saw in the last minute.
#[derive(Debug, Default)]
pub(super) struct LastMinute {
    arms: BTreeMap<Arc<str>, Seen>,
    total: u64,
}

impl LastMinute {
    /// An arm's share of the route's requests; `None` when there were none.
    pub(super) fn share(&self, arm: &str) -> Option<f64> {
        let own = self.arms.get(arm).map_or(0, |seen| seen.requests);
        (self.total > 0).then(|| ratio(own, self.total))
    }
}

pub(super) fn seen(admin: &Admin, route: &str) -> LastMinute {
    let (arms, _) = admin.recent().of_route(&admin.0.book, route, admin.0.clock.now().0);
    let total = arms.values().map(|seen| seen.requests).sum();
    LastMinute { arms, total }
}

pub(super) fn view(admin: &Admin, conducted: &Conducted, route: &Route) -> wire::Route {
    let minute = seen(admin, &route.name);
    let cells = admin.0.book.route_cells(&route.name);
    // Once for the arm and for the slots: two readings would contradict each other.
    let flying: Vec<(u64, u64)> = route.arms.iter().map(|arm| flips::flying(&cells, &arm.name)).collect();
    let arms = route.arms.iter().zip(&flying).map(|(arm, &(running, tunnels))| {
        let seen = minute.arms.get(&arm.name);
        let quantile = |q: f64| seen.and_then(|seen| seen.latency.quantile(q)).map(millis);
        wire::Arm {
            name: arm.name.to_string(),
            upstream: arm.upstream.name.to_string(),
            weight: arm.weight,
            source: arm.source.label().to_owned(),
            observed: minute.share(&arm.name),
            requests: seen.map_or(0, |seen| seen.requests),
            errors: seen.map_or(0, |seen| seen.errors),
            p50_ms: quantile(0.50),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            in_flight: running,
            pinned: route.split.pin.is_some().then(|| seen.map_or(0, |seen| seen.pinned)),
            drain: steering::drain(admin, route, arm, running + tunnels),
            endpoints: arm.upstream.endpoints.iter().map(guards::endpoint).collect(),
            breaker: arm.upstream.breaker.as_ref().map(|one| guards::state(&one.cell).to_owned()),
            when_open: arm.upstream.breaker.as_ref().map(|one| guards::when_open(one, route.redistribute)),
        }
    });
    let blue_green = flips::view(conducted, route, &flying);
    wire::Route {
        name: route.name.to_string(),
        generation: route.generation.0,
        arms: arms.collect(),
        operator: route.operator.as_ref().map(|by| wire::ByHand {
            actor: by.actor.clone(),
            reason: by.reason.clone(),
            at_millis: by.at_millis,
        }),
        rollout: rollouts::of(conducted, route, admin.0.clock.now()),
        slo: objectives::of(conducted, &route.name),
        overrides: steering::overrides(admin, route, &cells),
        mirrors: differences::mirrors(admin, route),
        blue_green,
    }
}

pub(super) fn millis(nanos: u64) -> f64 {
    ratio(nanos, 1_000_000)
}

// --- configuration ---

pub(super) async fn config(State(shared): State<Shared>) -> Result<Json<Value>, Refused> {
    let admin = shared.admin;
    let view = move || {
        let plan = admin.0.plans.load_full();
        let report = admin.0.control.report();
        let process = &plan.process;
        json!({
            "generation": plan.generation.0,
            "path": report.path,
            "files": report.files,
            "lastReload": load(&report.last),
            "stateDir": report.state_dir,
            "workers": admin.0.book.workers(),
            "admin": { "address": process.admin_address, "allowedHosts": process.admin.allowed_hosts },
            "metrics": { "address": process.metrics_address.map(|address| address.to_string()) },
            "shutdown": { "delay": span(process.shutdown_delay), "grace": span(process.shutdown_grace) },
            "trustedProxies": plan.trusted_proxies.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "accessLog": plan.access_log.as_ref().map(|log| json!({
                "path": log.path,
                "sample": percent(log.sample),
                "sampleCanary": percent(log.sample_canary),
                "errorsAlways": log.errors_always,
                "debugHeader": log.debug_header.as_ref().map(ToString::to_string),
            })),
            "tracing": plan.trace_sample.map(|sample| json!({ "sample": percent(sample), "otlp": plan.otlp.as_deref() })),
            "listeners": plan.listeners.iter().map(listener).collect::<Vec<_>>(),
            "upstreams": plan.upstreams.iter().map(|one| upstream(one)).collect::<Vec<_>>(),
            "routes": plan.routes.iter().map(|route| effective(route)).collect::<Vec<_>>(),
        })
    };
    blocking(view).await.map(Json)
}

fn listener(listener: &Listener) -> Value {
    let (limits, timeouts) = (&listener.limits, &listener.timeouts);
    json!({
        "name": &*listener.name,
        "address": listener.address.to_string(),
        "protocol": if listener.h2c { "h2c" } else { "auto" },
        "via": listener.via,
        "limits": {
            "headerBytes": limits.header_bytes.0,
            "headerCount": limits.header_count.value,
            "targetBytes": limits.target_bytes.0,
            "connections": limits.connections,
            "connectionsPerIp": limits.connections_per_ip,
            "streams": limits.streams,
            "bodyBytes": limits.body_bytes.0,
        },
        "timeouts": {
            "firstByte": span(timeouts.first_byte.0),
            "header": span(timeouts.header.0),
            "bodyIdle": span(timeouts.body_idle.0),
            "idle": span(timeouts.idle.0),
            "sendStall": span(timeouts.send_stall.0),
            "maxAge": span(timeouts.max_age.0),
        },
    })
}

fn upstream(upstream: &Upstream) -> Value {
    let connection = &upstream.connection;
    let endpoints = upstream
        .endpoints
        .iter()
        .map(|endpoint| json!({ "url": &*endpoint.cell.url, "weight": endpoint.weight }));
    json!({
        "name": &*upstream.name,
        "endpoints": endpoints.collect::<Vec<_>>(),
        "loadBalance": format!("{:?}", upstream.load_balance),
        "inFlight": upstream.cell.in_flight(),
        "limits": {
            "maxRequests": upstream.max_requests,
            "maxPending": upstream.max_pending,
            "maxConnections": upstream.max_connections,
        },
        "connection": {
            "connectTimeout": span(connection.connect_timeout.0),
            "idleTimeout": span(connection.idle_timeout.0),
            "minIdle": connection.min_idle,
            "maxIdle": connection.max_idle,
            "maxAge": span(connection.max_age.0),
            "keepalive": span(connection.keepalive.0),
        },
    })
}

fn effective(route: &Route) -> Value {
    let arms = route.arms.iter().map(|arm| {
        json!({
            "name": &*arm.name,
            "upstream": &*arm.upstream.name,
            "weight": arm.weight,
            "source": arm.source.label(),
        })
    });
    let ranges = route.bucket_ranges();
    let ranges = ranges.iter().map(|(arm, from, to)| json!({ "arm": arm, "from": from, "to": to }));
    json!({
        "name": &*route.name,
        "generation": route.generation.0,
        "arms": arms.collect::<Vec<_>>(),
        "defaultArm": route.arm_name(route.default_arm),
        "ranges": ranges.collect::<Vec<_>>(),
        "sticky": !route.split.keys.is_empty(),
        "salt": route.split.salt.text(),
        "pin": route.split.pin.as_ref().map(|pin| json!({
            "cookie": pin.cookie(),
            "maxAge": span(std::time::Duration::from_secs(pin.max_age_secs())),
        })),
        "overrides": route.split.overrides.iter().map(|rule| &*rule.name).collect::<Vec<_>>(),
        "whenUnavailable": if route.redistribute { "redistribute" } else { "fail" },
        "timeouts": {
            "request": span(route.timeouts.request),
            "upstream": span(route.timeouts.upstream),
            "streamIdle": span(route.timeouts.stream_idle),
        },
        "operator": route.operator,
    })
}

pub(super) async fn limits(State(shared): State<Shared>) -> Json<Value> {
    let plan = shared.admin.0.plans.load_full();
    let pick = |mut value: Value, keys: &[&str]| {
        if let Value::Object(map) = &mut value {
            map.retain(|key, _| keys.contains(&key.as_str()));
        }
        value
    };
    let listeners = plan.listeners.iter().map(|one| pick(listener(one), &["name", "limits", "timeouts"]));
    let upstreams = plan.upstreams.iter().map(|one| pick(upstream(one), &["name", "limits", "connection"]));
    Json(json!({
        "generation": plan.generation.0,
        "listeners": listeners.collect::<Vec<_>>(),
        "upstreams": upstreams.collect::<Vec<_>>(),
        "routes": plan.routes.iter().map(|one| bounds(one)).collect::<Vec<_>>(),
        "budgets": { "mirrorBytes": plan.mirror_bytes, "replayBytes": plan.replay_bytes },
        "config": {
            "fileBytes": crate::control::load::MAX_FILE_BYTES,
            "files": crate::control::load::MAX_FILES,
            "listBytes": crate::control::load::MAX_LIST_BYTES,
        },
        "admin": { "bodyBytes": super::asked::MAX_BODY, "verbs": super::MAX_VERBS },
        "fixed": super::fixed::bounds(),
    }))
}

/// How long a route's exchanges may take, and how often there may be one.
fn bounds(route: &Route) -> Value {
    let (timeouts, retry) = (&route.timeouts, &route.retry);
    let rate = route.rate_limit.as_ref().map(|limit| {
        let keys = limit.by.as_ref().map(|_| crate::ledger::limiter::MAX_KEYS);
        json!({ "intervalNanos": limit.rate.interval, "toleranceNanos": limit.rate.tolerance, "keys": keys })
    });
    json!({
        "name": &*route.name,
        "timeouts": {
            "request": span(timeouts.request),
            "upstream": span(timeouts.upstream),
            "streamIdle": span(timeouts.stream_idle),
        },
        "retry": {
            "attempts": retry.attempts,
            "perTry": span(retry.per_try),
            "budget": percent(retry.budget),
            "maxBody": retry.max_body,
        },
        "rateLimit": rate,
    })
}

fn span(time: std::time::Duration) -> String {
    humantime::format_duration(time).to_string()
}

fn percent(parts_per_million: u32) -> String {
    format!("{}%", f64::from(parts_per_million) / 10_000.0)
}
