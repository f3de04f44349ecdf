//! One exchange from choice to outcome: recorded once, at the true end, whatever that is.
//!
//! The guard travels with the response body; its drop is the end. It must never be cloned.

mod admitted;
mod asked;
mod ended;

use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderMap, StatusCode};

use self::admitted::Admitted;
use super::compared::Named;
use super::error::{Kind, ProxyError};
use super::grpc;
use super::logged::Request;
use super::mirror::{Captured, Pairing};
use super::spans::Sampled;
use super::worker::{PlanRef, Worker};
use crate::ledger::Cell;
use crate::model::log::Shadow;
use crate::model::{ArmIx, FailureReason, RejectReason, RetryReason, Verdict};
use crate::plan::{Arm, Route};
use crate::split::Choice;
use crate::upstream::Upload;

/// One exchange under way.
pub struct Exchange {
    worker: Rc<Worker>,
    plan: PlanRef,
    started: Instant,
    /// Index of the route; `None` when unrouted.
    route: Option<usize>,
    client: IpAddr,
    choice: Option<Choice>,
    /// The arm whose upstream answered.
    answered: ArmIx,
    endpoint: Option<usize>,
    /// Why the attempt under way failed.
    blame: Option<FailureReason>,
    /// The upstream that stands in for the chosen arm's is asked.
    stood: bool,
    /// Who admitted it, to be told of its end.
    admitted: Option<Admitted>,
    /// The answer is passing to the client.
    answering: bool,
    status: u16,
    failure: Option<FailureReason>,
    /// What the chosen arm answered, and when, that was its failure.
    own: Option<(u16, Duration)>,
    upstream_time: Option<Duration>,
    attempts: u32,
    retries: [u32; RetryReason::COUNT],
    redistributed: bool,
    client_fault: bool,
    /// A limit was reached that others than the arm filled.
    crowded: bool,
    complete: bool,
    bytes_out: u64,
    upload: Option<Rc<Upload>>,
    error: &'static str,
    /// The client speaks gRPC.
    grpc: bool,
    grpc_status: Option<u8>,
    /// Seconds after which the client may come again; 0 says nothing.
    pub retry_after: u32,
    /// What it is named by among failures, on a route that compares arms.
    named: Option<Named>,
    /// The endpoint of the chosen arm that failed first.
    failed_at: Option<usize>,
    /// The answer as it passes, where a copy's answer is to be held against it.
    captured: Option<Box<Captured>>,
    log: Option<Box<Request>>,
    /// Its spans, when it is sampled.
    sampled: Option<Box<Sampled>>,
}

impl Exchange {
    /// An exchange that began at `started`.
    #[must_use]
    pub fn new(
        worker: Rc<Worker>,
        plan: PlanRef,
        started: Instant,
        client: IpAddr,
        log: Option<Box<Request>>,
    ) -> Self {
        Self {
            client,
            worker,
            plan,
            started,
            route: None,
            choice: None,
            answered: ArmIx(0),
            endpoint: None,
            blame: None,
            stood: false,
            admitted: None,
            answering: false,
            status: 0,
            failure: None,
            own: None,
            upstream_time: None,
            attempts: 0,
            retries: [0; RetryReason::COUNT],
            redistributed: false,
            client_fault: false,
            crowded: false,
            complete: false,
            bytes_out: 0,
            upload: None,
            error: "",
            grpc: false,
            grpc_status: None,
            retry_after: 0,
            named: None,
            failed_at: None,
            captured: None,
            log,
            sampled: None,
        }
    }

    /// When it began.
    #[must_use]
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Spans are made of it, or not.
    pub fn sampled(&mut self, sampled: Option<Box<Sampled>>) {
        self.sampled = sampled;
    }

    /// The route owns it; `named` is asked for where arms are compared.
    pub fn routed(&mut self, route: usize, named: Option<Named>) {
        self.route = Some(route);
        self.named = named;
    }

    /// An arm was chosen: it is charged from now on.
    pub fn chosen(&mut self, choice: Choice) {
        self.choice = Some(choice);
        self.answered = choice.arm;
        let Some((route, arm)) = self.charged() else { return };
        if let Some(shard) = arm.cells.get(choice.arm.at()).and_then(|cell| cell.shard(self.worker.id)) {
            shard.begin();
        }
        if let Some(rule) = choice.rule {
            let cell = route.rule_cells.get(usize::from(rule)).and_then(|arms| arms.get(choice.arm.at()));
            if let Some(cell) = cell {
                cell.hit(self.worker.id);
            }
        }
    }

    /// The request body under way.
    pub fn uploading(&mut self, upload: &Rc<Upload>) {
        self.upload = Some(Rc::clone(upload));
    }

    /// The request body under way, if there is one.
    #[must_use]
    pub fn upload(&self) -> Option<Rc<Upload>> {
        self.upload.clone()
    }

    /// An attempt begins on an endpoint of an arm.
    pub fn attempt(&mut self, arm: ArmIx, endpoint: usize) {
        self.settle();
        self.attempts += 1;
        self.answered = arm;
        self.endpoint = Some(endpoint);
        if let Some(sampled) = &mut self.sampled {
            let arm = self.route.and_then(|at| self.plan.routes.get(at)?.arm(arm));
            if let Some(endpoint) = arm.and_then(|arm| arm.upstream.endpoints.get(endpoint)) {
                sampled.attempt(self.worker.entropy(), &endpoint.cell.url);
            }
        }
    }

    /// An attempt on an arm failed; the first failure of the chosen arm is what it deserved.
    pub fn failed(&mut self, arm: ArmIx, reason: FailureReason) {
        if reason == FailureReason::Reset && self.upload.as_ref().is_some_and(|upload| upload.is_owed()) {
            // The upstream lost patience with a client that did not send what it announced.
            self.client_fault = true;
        }
        // Of an arm that failed by itself before, another's full house says nothing.
        if reason == FailureReason::Overflow && self.is_chosen(arm) && self.failure.is_none() {
            self.overflowed(arm);
        }
        if self.endpoint.is_some() {
            self.blame.get_or_insert(reason);
        }
        if self.is_chosen(arm) && self.failure.is_none() {
            self.failure = Some(reason);
            self.failed_at = self.endpoint.filter(|_| reason != FailureReason::NoEndpoint);
        }
        self.error = reason.label();
        self.sampled.iter_mut().for_each(|sampled| sampled.failed(reason.label()));
    }

    /// The request is sent again.
    pub fn retried(&mut self, reason: RetryReason) {
        if let Some(count) = self.retries.get_mut(reason.index()) {
            *count += 1;
        }
    }

    /// Another arm answers for the chosen one.
    pub fn redistributed(&mut self) {
        self.redistributed = true;
        self.retried(RetryReason::Redistributed);
    }

    /// The upstream's response head came `after` the request went out.
    pub fn head(&mut self, status: StatusCode, after: Duration) {
        self.status = status.as_u16();
        self.upstream_time = Some(after);
        if let Some(by) = self.admitted.filter(|_| !self.answering) {
            self.answering = true;
            self.upstream_of(by.arm, by.stood).inspect(|found| found.cell.answering(self.worker.id, false));
        }
        self.sampled.iter_mut().for_each(|sampled| sampled.head(status.as_u16()));
        if status.is_server_error() {
            if self.failure.is_none() && self.choice.is_some_and(|choice| choice.arm == self.answered) {
                self.own = Some((self.status, after));
            }
            self.failed(self.answered, FailureReason::Status);
        }
    }

    /// The client speaks gRPC: its errors are told and read in gRPC's way.
    pub fn speaks_grpc(&mut self) {
        self.grpc = true;
    }

    /// Hash of the user's sticky key, if there is one.
    #[must_use]
    pub fn key(&self) -> Option<u64> {
        self.choice.and_then(|choice| choice.key_hash)
    }

    /// Whether the client speaks gRPC.
    #[must_use]
    pub const fn is_grpc(&self) -> bool {
        self.grpc
    }

    /// Fields of the upstream's response in which gRPC puts its status: a head or trailers.
    pub fn grpc_fields(&mut self, fields: &HeaderMap) {
        if !self.grpc {
            return;
        }
        self.grpc_status = grpc::status_of(fields).or(self.grpc_status);
        if grpc::tells_failure(fields) {
            self.failed(self.answered, FailureReason::GrpcStatus);
        }
    }

    /// A copy goes to an upstream of this name; gives what the log says of the original.
    pub fn mirrored(&mut self, upstream: &Arc<str>) -> Option<Box<Request>> {
        let log = self.log.as_mut()?;
        log.shadow.add(upstream);
        Some(Box::new(Request { shadow: Shadow::Copy, ..Request::clone(log) }))
    }

    /// Its answer is to be kept, up to a bound, to be held against a copy's.
    pub fn paired(&mut self, pairing: Rc<Pairing>) {
        self.captured.get_or_insert_with(|| Box::new(Captured::new(&self.worker, &self.plan))).add(pairing);
    }

    /// The answer to be kept, if it is.
    pub fn captured(&mut self) -> Option<&mut Captured> {
        self.captured.as_deref_mut()
    }

    /// The client gets an answer of ours.
    pub fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
    }

    /// The client gets an error of ours.
    pub fn refused(&mut self, error: &ProxyError) {
        let (status, _) = error.kind.answer();
        self.status = status.as_u16();
        self.error = error.kind.label();
        match error.kind {
            Kind::Reject(reason) => {
                self.client_fault = true;
                self.worker.reject(reason);
            }
            Kind::Unrouted(reason) => {
                if let Some(counts) = self.worker.counts() {
                    counts.unrouted(reason);
                }
            }
            Kind::Upstream(_) => {}
        }
    }

    /// Body bytes went to the client.
    pub fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// The response body ended as it should.
    pub fn complete(&mut self) {
        self.complete = true;
    }

    /// The upstream broke off or stalled after its head.
    pub fn broke(&mut self, reason: FailureReason) {
        self.complete = true;
        self.failed(self.answered, reason);
    }

    /// The arm whose upstream answered, or was tried last.
    #[must_use]
    pub fn answering(&self) -> ArmIx {
        self.answered
    }

    /// Whether a client is why it failed, this one or one who left it no room.
    #[must_use]
    pub fn is_clients_fault(&self) -> bool {
        self.client_fault || self.crowded || self.client_error().is_some()
    }

    /// What the client did to its own body, if that is why the exchange failed.
    #[must_use]
    pub fn client_error(&self) -> Option<RejectReason> {
        let upload = self.upload.as_ref()?;
        if upload.too_large.get() {
            return Some(RejectReason::BodyTooLarge);
        }
        upload.broken.get().then_some(RejectReason::Malformed)
    }

    /// Whether a request body has not come to its end.
    #[must_use]
    pub fn is_uploading(&self) -> bool {
        self.upload.as_ref().is_some_and(|upload| !upload.ended.get())
    }

    /// The plan it runs under, to its end.
    #[must_use]
    pub fn plan(&self) -> &PlanRef {
        &self.plan
    }

    /// The worker that serves it.
    #[must_use]
    pub fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Where it counts: of the chosen arm, by who answered.
    #[must_use]
    pub fn cell(&self) -> Option<&Arc<Cell>> {
        let (_, arm) = self.charged()?;
        arm.cells.get(self.answered.at())
    }

    fn charged(&self) -> Option<(&Arc<Route>, &Arm)> {
        let route = self.plan.routes.get(self.route?)?;
        Some((route, route.arm(self.choice?.arm)?))
    }

    fn verdict(&self) -> Verdict {
        let client_broke = self.client_error().is_some();
        match self.failure {
            _ if client_broke || self.client_fault => Verdict::ClientClosed,
            Some(_) if self.crowded => Verdict::ClientClosed,
            Some(_) => Verdict::Error,
            None if self.complete => Verdict::Ok,
            None => Verdict::ClientClosed,
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.leave();
        self.record();
    }
}

pub(super) fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
