//! What happens, as it happens: one answer that does not end, a `tick` each second.
//!
//! Every watcher has a task and a queue of [`FRAMES`]; one that does not read gets fewer ticks and
//! costs nobody anything. It ends when the process goes away. It must never make the controller wait.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::error::Refused;
use super::listen::Peer;
use super::{Admin, Shared, differences, guards, past, rollouts, views};
use crate::control::audit::Entry;
use crate::control::differences::Rows;
use crate::control::{Conducted, Phase};
use crate::plan::{Plan, Route};
use crate::rollout::Record;
use crate::wire;

/// Watchers at once.
pub const MAX_WATCHERS: usize = 16;
/// Beside them, those with a token: whoever may only look must not keep the operator from looking.
pub const KNOWN_WATCHERS: usize = 8;
/// Routes of one tick at most; a watcher may name those it wants.
const MAX_ROUTES: usize = 50;
/// Frames that wait for a slow watcher.
const FRAMES: usize = 2;
/// Time between two ticks.
const TICK: Duration = Duration::from_secs(1);
/// After this a watcher has to come again: one that is gone without a word keeps no place.
const MAX_AGE: Duration = Duration::from_secs(15 * 60);
/// Decisions of one route told to a new watcher.
const RECALLED: usize = 20;
/// Time between two looks at what mirrors found, in ticks.
const LOOK: u64 = 5;
/// How soon a browser comes again, in milliseconds.
const RETRY: &str = "retry: 1000\n\n";

pub(super) async fn events(
    State(shared): State<Shared>,
    Query(query): Query<Vec<(String, String)>>,
    request: Request,
) -> Result<Response, Refused> {
    let mut wanted = Vec::new();
    for (name, value) in query {
        if name != "route" || wanted.len() >= MAX_ROUTES {
            let message = format!("the only parameter is `route`, at most {MAX_ROUTES} times");
            return Err(Refused::new(StatusCode::BAD_REQUEST, "bad-request", message));
        }
        wanted.push(value);
    }
    let peer = request.extensions().get::<Peer>().copied().unwrap_or_default();
    let is_known = || matches!(shared.gate.role(request.headers(), peer), Ok(Some(_)));
    let place = shared.watchers.place(is_known).ok_or_else(|| {
        let message = format!("{MAX_WATCHERS} watch already");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "too-many-watchers", message)
            .hint("close a page, or give it a token: some places are kept for those")
    })?;
    let (sender, frames) = mpsc::channel(FRAMES);
    let watcher = Watcher { started: shared.started, admin: shared.admin, wanted, told: Told::default() };
    tokio::spawn(watcher.watch(sender, place));
    let kind = (CONTENT_TYPE, "text/event-stream");
    // Proxies in between must not collect it.
    let unbuffered = (HeaderName::from_static("x-accel-buffering"), "no");
    Ok(([kind, unbuffered], Body::new(Frames(frames))).into_response())
}

/// Places of watchers.
#[derive(Clone)]
pub(super) struct Watchers {
    all: Arc<Semaphore>,
    known: Arc<Semaphore>,
}

impl Default for Watchers {
    fn default() -> Self {
        let places = |count| Arc::new(Semaphore::new(count));
        Self { all: places(MAX_WATCHERS), known: places(KNOWN_WATCHERS) }
    }
}

impl Watchers {
    /// A place, if there is one; the token is looked at only when the others have all of theirs.
    fn place(&self, is_known: impl FnOnce() -> bool) -> Option<OwnedSemaphorePermit> {
        let all = Arc::clone(&self.all).try_acquire_owned().ok();
        all.or_else(|| is_known().then(|| Arc::clone(&self.known).try_acquire_owned().ok())?)
    }
}

/// An answer of frames that come by a queue.
struct Frames(mpsc::Receiver<Bytes>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// One who watches, and what it knows already.
struct Watcher {
    admin: Admin,
    started: Instant,
    /// Names of routes; none is those a tick holds.
    wanted: Vec<String>,
    told: Told,
}

/// What a watcher was told.
#[derive(Default)]
struct Told {
    ticks: u64,
    act: u64,
    decisions: BTreeMap<String, Record>,
    pairs: BTreeMap<String, u64>,
}

impl Watcher {
    async fn watch(self, sender: mpsc::Sender<Bytes>, _place: OwnedSemaphorePermit) {
        let mut watcher = self;
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let over = Instant::now() + MAX_AGE;
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            let draining = watcher.admin.0.health.readiness().phase == Phase::Draining;
            let Ok((known, text)) = tokio::task::spawn_blocking(move || {
                let text = watcher.frame();
                (watcher, text)
            })
            .await
            else {
                return;
            };
            watcher = known;
            if sender.send(Bytes::from(text)).await.is_err() || draining || Instant::now() >= over {
                return;
            }
        }
    }

    /// Everything since the last frame, then how it is.
    fn frame(&mut self) -> String {
        let admin = self.admin.clone();
        let parts = &admin.0;
        let (plan, conducted) = (parts.plans.load_full(), parts.control.rollouts());
        let routes = self.routes(&plan, &conducted);
        let mut text = if self.told.ticks == 0 { RETRY.to_owned() } else { String::new() };
        self.config(&mut text);
        self.transitions(&routes, &conducted, &mut text);
        if self.told.ticks.is_multiple_of(LOOK) {
            self.differences(&routes, &parts.control.differences().rows(), &mut text);
        }
        self.told.ticks += 1;
        push(&mut text, "tick", &self.tick(&plan, &conducted, &routes));
        text
    }

    fn routes<'a>(&self, plan: &'a Plan, conducted: &Conducted) -> Vec<&'a Arc<Route>> {
        let mut routes: Vec<_> = if self.wanted.is_empty() {
            plan.routes.iter().collect()
        } else {
            self.wanted.iter().filter_map(|name| plan.route_named(name)).collect()
        };
        routes.sort_by_key(|route| !conducted.rollouts.contains_key(&*route.name));
        routes.truncate(MAX_ROUTES);
        routes
    }

    fn tick(&self, plan: &Plan, conducted: &Conducted, routes: &[&Arc<Route>]) -> wire::Tick {
        let parts = &self.admin.0;
        let readiness = parts.health.readiness();
        let points = routes.iter().map(|route| (route.name.to_string(), self.points(route)));
        wire::Tick {
            at_millis: parts.clock.now().0,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            status: readiness.phase.label().to_owned(),
            checks: readiness.checks.iter().map(|(part, text)| ((*part).to_owned(), text.clone())).collect(),
            uptime_seconds: self.started.elapsed().as_secs(),
            generation: plan.generation.0,
            last_reload: views::load(&parts.control.report().last),
            breakers: turned(plan),
            all_out: guards::dead(plan),
            total: plan.routes.len(),
            routes: routes.iter().map(|route| views::view(&self.admin, conducted, route)).collect(),
            points: points.collect(),
        }
    }

    /// The last whole point of each arm, and the one that is being filled.
    fn points(&self, route: &Arc<Route>) -> BTreeMap<String, Vec<wire::Point>> {
        let parts = &self.admin.0;
        let last = parts.control.past().last_of(&route.name);
        let running = self.admin.recent().running(&parts.book, &route.name, parts.clock.now().0);
        let running = crate::control::past::points(route, &running);
        let mut points = BTreeMap::<String, Vec<wire::Point>>::new();
        for (arm, point) in last.iter().chain(&running) {
            points.entry(arm.to_string()).or_default().push(past::point(point));
        }
        points
    }

    fn config(&mut self, text: &mut String) {
        let (acts, next) = self.admin.0.control.acts().from(self.told.act);
        self.told.act = next;
        // Decisions are told as transitions.
        let own = acts.iter().filter(|(_, entry)| entry.what != "rollout-transition");
        own.for_each(|(number, entry)| push(text, "config", &act(*number, entry)));
    }

    fn transitions(&mut self, routes: &[&Arc<Route>], conducted: &Conducted, text: &mut String) {
        for route in routes {
            let Some(records) = conducted.history.get(&*route.name) else { continue };
            let last = self.told.decisions.get(&*route.name);
            let known = last.and_then(|last| records.iter().rposition(|record| record == last));
            let from = known.map_or(records.len().saturating_sub(RECALLED), |at| at + 1);
            for record in records.iter().skip(from) {
                push(text, "transition", &rollouts::record(&route.name, record));
            }
            if let Some(record) = records.last() {
                self.told.decisions.insert(route.name.to_string(), record.clone());
            }
        }
    }

    fn differences(&mut self, routes: &[&Arc<Route>], rows: &Rows, text: &mut String) {
        for route in routes {
            let Some(found) = rows.get(&*route.name) else { continue };
            let pairs = found.values().map(|row| row.report.pairs).sum();
            if self.told.pairs.insert(route.name.to_string(), pairs) != Some(pairs) {
                let dropped = self.admin.0.control.differences().dropped();
                push(text, "difference", &differences::view(&route.name, rows, dropped));
            }
        }
    }
}

/// A closed breaker is no news.
fn turned(plan: &Plan) -> BTreeMap<String, String> {
    guards::breakers(plan).into_iter().filter(|(_, state)| state != "closed").collect()
}

fn act(number: u64, entry: &Entry) -> wire::Act {
    let Entry { at, actor, reason, what, route, before, after, generation, annotations } = entry.clone();
    let what = what.to_owned();
    wire::Act { number, at_millis: at, actor, reason, what, route, before, after, generation, annotations }
}

/// One event; JSON has no line ends of its own.
fn push(text: &mut String, name: &str, data: &impl Serialize) {
    match serde_json::to_string(data) {
        Ok(data) => ["event: ", name, "\ndata: ", &data, "\n\n"].iter().for_each(|part| text.push_str(part)),
        Err(error) => tracing::error!(%error, "an event cannot be written"),
    }
}
