//! One copy on its way: sent once, its answer read to a bound and thrown away.
//!
//! One try, one deadline over head and body, an admission and connections that originals never use.
//! A copy whose answer is too long or too late is cut with its connection. It must never be retried.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body::Body as _;
use tokio::task::spawn_local;

use super::pairing::Kept;
use super::ticket::Ticket;
use crate::ledger::shadow::Held;
use crate::model::log::AccessRecord;
use crate::model::{FailureReason, Heard, ShadowResult, WorkerId};
use crate::plan::{Mirror, Upstream};
use crate::proxy::exchange::nanos;
use crate::proxy::forward::choose_endpoint;
use crate::proxy::grpc;
use crate::proxy::logged::Request as Logged;
use crate::proxy::spans;
use crate::proxy::worker::PlanRef;
use crate::upstream::{Arrived, Deadline, RequestBody, within};

/// Most bytes of an answer that are read, kept or not; its connection ends with a longer one.
const ANSWER_BYTES: u64 = 256 << 10;

/// A copy, ready but for its body.
pub struct Copy {
    /// Hash of the user's sticky key, if there is one.
    pub key: Option<u64>,
    /// Its place and its result.
    pub ticket: Ticket,
    /// Largest request body.
    pub max_body: u64,
    /// The plan of its original.
    pub plan: PlanRef,
    /// Index of the route.
    pub route: usize,
    /// Index of the mirror in the route.
    pub mirror: usize,
    /// Who gets it.
    pub upstream: Arc<Upstream>,
    /// Head.
    pub parts: Parts,
    /// The original speaks gRPC.
    pub grpc: bool,
    /// What the log says of the original.
    pub log: Option<Box<Logged>>,
}

/// What is known of an answer.
#[derive(Default)]
struct Answer {
    status: u16,
    grpc: Option<u8>,
    headers: HeaderMap,
    /// Copy sent to response head.
    head: Option<Duration>,
    /// Bytes read.
    bytes: u64,
    kept: Option<Kept>,
    endpoint: Option<usize>,
}

impl Copy {
    /// Sends it with this body in a task of its own; `held` counts the body's bytes to the end.
    pub fn dispatch(self, body: Vec<Bytes>, held: Option<Rc<Held>>) {
        spawn_local(async move {
            self.run(body).await;
            drop(held);
        });
    }

    async fn run(self, body: Vec<Bytes>) {
        let plan = Rc::clone(&self.plan);
        let mirror = plan.routes.get(self.route).and_then(|route| route.mirrors.get(self.mirror));
        let Some(mirror) = mirror else { return };
        let (id, limit) = (self.ticket.worker.id, self.upstream.max_requests);
        let Some(_admitted) = Admitted::enter(&self.upstream, id, limit) else {
            return self.ticket.end(ShadowResult::Overflow, None);
        };
        let started = Instant::now();
        let bytes_in = body.iter().map(|piece| piece.len() as u64).sum();
        let mut answer = Answer::default();
        let mut copy = self;
        let result = copy.exchange(mirror, body, &mut answer).await;
        copy.log(result, &answer, bytes_in, started.elapsed());
        copy.end(mirror, result, answer);
    }

    /// Sends the copy and reads its answer.
    async fn exchange(&mut self, mirror: &Mirror, body: Vec<Bytes>, answer: &mut Answer) -> ShadowResult {
        let worker = Rc::clone(&self.ticket.worker);
        let pools = &worker.shadows.pools;
        answer.endpoint = choose_endpoint(&worker, pools, &self.upstream, None, self.key);
        let Some(endpoint) = answer.endpoint.and_then(|at| self.upstream.endpoints.get(at)) else {
            return ShadowResult::Connect;
        };
        let (mut parts, ()) = Request::new(()).into_parts();
        std::mem::swap(&mut parts, &mut self.parts);
        let body = if body.is_empty() { RequestBody::Empty } else { RequestBody::Kept(body.into()) };
        let mut outgoing = Some(Request::from_parts(parts, body));
        let went_out = Cell::new(None);
        let mut deadline = Deadline::new(&worker.deadlines, mirror.timeout);
        let pool = pools.of(endpoint);
        let sending =
            pool.send(endpoint, &self.upstream, &mut outgoing, || went_out.set(Some(Instant::now())));
        let response = match within(None, &mut deadline, sending).await {
            Some(Ok(response)) => response,
            Some(Err(refused)) => return of_failure(refused.reason),
            None => return ShadowResult::Timeout,
        };
        answer.head = Some(went_out.get().map_or(Duration::ZERO, |at: Instant| at.elapsed()));
        answer.status = response.status().as_u16();
        let (head, body) = response.into_parts();
        if self.grpc {
            answer.grpc = grpc::status_of(&head.headers);
        }
        if self.ticket.pairing.is_some() {
            answer.headers = head.headers;
            answer.kept = Some(Kept::new(&worker, self.plan.mirror_bytes, mirror.max_body));
        }
        let most = ANSWER_BYTES.max(mirror.max_body);
        match within(None, &mut deadline, self.read(body, most, answer)).await {
            Some(true) if answer.status >= 500 => ShadowResult::ServerError,
            Some(true) => ShadowResult::Ok,
            Some(false) => ShadowResult::Truncated,
            None => ShadowResult::Timeout,
        }
    }

    /// Reads an answer to its end or its bound; false when it broke.
    async fn read(&self, mut body: Arrived, most: u64, answer: &mut Answer) -> bool {
        while !body.is_end_stream() && answer.bytes <= most {
            let frame = match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                Some(Ok(frame)) => frame,
                Some(Err(_)) => return false,
                None => break,
            };
            if let Some(data) = frame.data_ref() {
                answer.bytes += data.len() as u64;
                answer.kept.iter_mut().for_each(|kept| kept.piece(data));
            }
            if let Some(trailers) = frame.trailers_ref().filter(|_| self.grpc) {
                answer.grpc = grpc::status_of(trailers).or(answer.grpc);
            }
        }
        true
    }

    fn end(self, mirror: &Mirror, result: ShadowResult, answer: Answer) {
        let head = answer.head.map(nanos);
        if let Some(pairing) = self.ticket.pairing.as_ref().filter(|_| !result.is_drop()) {
            let whole = matches!(result, ShadowResult::Ok | ShadowResult::ServerError);
            let (body, cut) = answer.kept.map_or((Bytes::new(), false), Kept::into_body);
            pairing.shadow(Heard {
                status: answer.status,
                grpc: answer.grpc,
                headers: answer.headers,
                body,
                cut: cut || !whole,
                nanos: head.unwrap_or(0),
                failed: !whole || mirror.bad.holds(answer.status, answer.grpc),
            });
        }
        self.ticket.end(result, head);
    }

    /// A line of its own, found by the original's request id.
    fn log(&mut self, result: ShadowResult, answer: &Answer, bytes_in: u64, duration: Duration) {
        let Some(request) = self.log.take() else { return };
        let worker = &self.ticket.worker;
        let failed = result != ShadowResult::Ok;
        let logged = self.plan.access_log.as_ref().is_some_and(|settings| {
            let wanted = request.debug || failed && settings.errors_always;
            let share = u64::from(settings.sample_canary);
            wanted || share >= 1_000_000 || worker.entropy() % 1_000_000 < share
        });
        let span = request.span;
        if !logged && span.is_none() {
            return;
        }
        let none: Arc<str> = Arc::from("");
        let named = |name: Option<&Arc<str>>| name.map_or_else(|| Arc::clone(&none), Arc::clone);
        let endpoint = answer.endpoint.and_then(|at| self.upstream.endpoints.get(at));
        let record = AccessRecord {
            at_millis: worker.clock.unix().0,
            request_id: Bytes::copy_from_slice(request.id.as_bytes()),
            path: request.path(),
            trace_id: request.trace,
            listener: named(self.plan.listeners.get(request.listener).map(|one| &one.name)),
            client: request.client,
            method: request.method,
            host: Bytes::copy_from_slice(request.host.as_bytes()),
            status: answer.status,
            route: named(self.plan.routes.get(self.route).map(|one| &one.name)),
            arm: Arc::clone(&none),
            upstream: Arc::clone(&self.upstream.name),
            endpoint: named(endpoint.map(|one| &one.cell.url)),
            choice: None,
            rule: Arc::clone(&none),
            bucket: None,
            key_digest: None,
            duration,
            upstream_time: answer.head,
            bytes_in,
            bytes_out: answer.bytes,
            attempts: u32::from(!result.is_drop()),
            error: if failed { result.label() } else { "" },
            shadow: request.shadow,
        };
        if let Some(original) = span {
            worker.sink.span(spans::of_copy(original, worker.entropy(), record.clone()));
        }
        if logged {
            worker.sink.record(record);
        }
    }
}

fn of_failure(reason: FailureReason) -> ShadowResult {
    match reason {
        FailureReason::Connect
        | FailureReason::ConnectTimeout
        | FailureReason::Tls
        | FailureReason::NoEndpoint
        | FailureReason::Breaker => ShadowResult::Connect,
        FailureReason::Reset => ShadowResult::Reset,
        FailureReason::Overflow => ShadowResult::Overflow,
        FailureReason::Timeout => ShadowResult::Timeout,
        FailureReason::Truncated | FailureReason::Stalled => ShadowResult::Truncated,
        FailureReason::BadResponse | FailureReason::Status | FailureReason::GrpcStatus => {
            ShadowResult::BadResponse
        }
    }
}

/// A copy that its upstream's limit admitted, until dropped.
struct Admitted {
    upstream: Arc<Upstream>,
    worker: WorkerId,
}

impl Admitted {
    fn enter(upstream: &Arc<Upstream>, worker: WorkerId, limit: u32) -> Option<Self> {
        let entered = upstream.shadow.enter(worker, limit);
        entered.then(|| Self { upstream: Arc::clone(upstream), worker })
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.upstream.shadow.leave(self.worker);
    }
}
