//! What an exchange leaves at its end: numbers, its part in a comparison, a line, a span.
//!
//! It runs once, when the exchange is dropped. It must never leave two outcomes, nor anything that
//! was not asked for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{Exchange, nanos};
use crate::ledger::watch::Answered;
use crate::model::log::AccessRecord;
use crate::model::{ArmIx, ChoiceReason, CodeClass, FailureReason, Outcome, RejectReason, Verdict};
use crate::plan::AccessLog;
use crate::proxy::compared;
use crate::proxy::logged::Request;
use crate::proxy::mirror::Primary;

impl Exchange {
    pub(super) fn record(&mut self) {
        let total = self.started.elapsed();
        if self.status == 0 && self.upload.as_ref().is_some_and(|upload| upload.client.is_late()) {
            // Its connection was ended for that, with an answer no exchange was asked for.
            let reason = RejectReason::ClientTimeout;
            (self.status, self.error, self.client_fault) = (408, reason.label(), true);
        }
        self.settle();
        let verdict = self.verdict();
        if let Some(captured) = self.captured.take() {
            captured.finish(&Primary {
                status: self.status,
                grpc: self.grpc_status,
                failure: self.failure,
                nanos: self.upstream_time.map_or(0, nanos),
                left: verdict == Verdict::ClientClosed,
            });
        }
        self.count(verdict, total);
        self.compare(verdict, total);
        self.watch(verdict);
        if let Some(request) = self.log.take() {
            self.tell(*request, verdict, total);
        }
    }

    /// Counts it at the arm that answered, under the route and the arm that was chosen; why it failed
    /// counts where it failed first, which is always the chosen arm's own upstream.
    fn count(&self, verdict: Verdict, total: Duration) {
        if let (Some((_, arm)), Some(choice)) = (self.charged(), self.choice) {
            let shard = |at: ArmIx| arm.cells.get(at.at()).and_then(|cell| cell.shard(self.worker.id));
            let other = match &arm.stand {
                Some(stand) if self.stood => stand.cell.shard(self.worker.id),
                _ => shard(self.answered),
            };
            let mut failure = self.failure.filter(|_| verdict == Verdict::Error);
            if (self.answered != choice.arm || self.stood)
                && let (Some(own), Some(other)) = (shard(choice.arm), other)
            {
                own.forget();
                failure.take().into_iter().for_each(|reason| own.failed(reason));
                other.begin();
            }
            if let Some(shard) = other {
                shard.record(&Outcome {
                    code: CodeClass::of(self.status),
                    verdict,
                    choice: if self.redistributed { ChoiceReason::Redistributed } else { choice.reason },
                    failure,
                    total_nanos: nanos(total),
                    upstream_nanos: self.upstream_time.map(nanos),
                    retries: self.retries,
                });
            }
        }
    }

    /// Tells a comparison of arms how the chosen one did.
    fn compare(&self, verdict: Verdict, total: Duration) {
        if let Some(route) = self.route.and_then(|at| self.plan.routes.get(at))
            && route.trial.is_some()
            && let Some(choice) = self.choice
        {
            // An arm is judged by what it answered itself, even when another attempt saved the client.
            let first = self.own.filter(|_| self.failure == Some(FailureReason::Status));
            let itself = self.upstream_time.filter(|_| self.answered == choice.arm);
            let seen = compared::Seen {
                choice,
                verdict,
                failure: self.failure,
                client_fault: self.is_clients_fault(),
                status: first.map_or(self.status, |(status, _)| status),
                grpc: self.grpc_status,
                upstream_nanos: first.map(|(_, after)| after).or(itself).map(nanos),
                total_nanos: nanos(total),
                address: self.client,
                unix_millis: self.worker.clock.unix().0,
            };
            // One that is bad without a failure was answered by the arm itself.
            let at = if self.failure.is_some() { self.failed_at } else { self.endpoint };
            compared::count(&self.plan, route, self.worker.id, &seen, self.named.as_ref(), at);
        }
    }

    /// Tells the verification of a flip how its slot did; of one that left nothing is known.
    fn watch(&self, verdict: Verdict) {
        if let Some(route) = self.route.and_then(|at| self.plan.routes.get(at))
            && let (Some(watch), Some(choice)) = (&route.watch, self.choice)
            && verdict != Verdict::ClientClosed
        {
            let answered = Answered {
                bad: verdict == Verdict::Error,
                nanos: self.upstream_time.map(nanos),
                address: self.client,
                unix_millis: self.worker.clock.unix().0,
            };
            watch.record(self.worker.id, choice.arm.at(), &answered);
        }
    }

    /// Hands over what the access log and tracing want to know.
    fn tell(&mut self, request: Request, verdict: Verdict, total: Duration) {
        let settings = self.plan.access_log.as_ref();
        let logged = settings.is_some_and(|settings| self.is_logged(settings, &request, verdict));
        let sampled = self.sampled.take();
        if !logged && sampled.is_none() {
            return;
        }
        let record = self.access_record(request, total);
        if let Some(sampled) = sampled {
            self.worker.sink.span(sampled.end(record.clone()));
        }
        if logged {
            self.worker.sink.record(record);
        }
    }

    fn is_logged(&self, settings: &AccessLog, request: &Request, verdict: Verdict) -> bool {
        let failed = verdict == Verdict::Error || self.status >= 500 || self.status == 0;
        if request.debug || failed && settings.errors_always {
            return true;
        }
        let default =
            self.charged().is_none_or(|(route, _)| Some(route.default_arm) == self.choice.map(|one| one.arm));
        let share = if default { settings.sample } else { settings.sample_canary };
        share >= 1_000_000 || self.worker.entropy() % 1_000_000 < u64::from(share)
    }

    fn access_record(&self, request: Request, duration: Duration) -> AccessRecord {
        let none: Arc<str> = Arc::from("");
        let route = self.route.and_then(|at| self.plan.routes.get(at));
        let arm = self.charged().map(|(_, arm)| arm);
        let answering = self.upstream_of(self.answered, self.stood).filter(|_| self.attempts > 0);
        let endpoint = answering.and_then(|upstream| upstream.endpoints.get(self.endpoint?));
        let path = request.path();
        let rule = route.and_then(|route| self.choice.map(|choice| route.rule_name(&choice)));
        AccessRecord {
            at_millis: self.worker.clock.unix().0,
            request_id: Bytes::copy_from_slice(request.id.as_bytes()),
            trace_id: request.trace,
            listener: self
                .plan
                .listeners
                .get(request.listener)
                .map_or_else(|| Arc::clone(&none), |one| Arc::clone(&one.name)),
            client: request.client,
            method: request.method,
            host: Bytes::copy_from_slice(request.host.as_bytes()),
            path,
            status: self.status,
            route: route.map_or_else(|| Arc::clone(&none), |route| Arc::clone(&route.name)),
            arm: arm.map_or_else(|| Arc::clone(&none), |arm| Arc::clone(&arm.name)),
            upstream: answering.map_or_else(|| Arc::clone(&none), |upstream| Arc::clone(&upstream.name)),
            endpoint: endpoint.map_or_else(|| Arc::clone(&none), |endpoint| Arc::clone(&endpoint.cell.url)),
            choice: self
                .choice
                .map(|choice| if self.redistributed { ChoiceReason::Redistributed } else { choice.reason }),
            rule: rule.filter(|rule| !rule.is_empty()).map_or(none, Arc::from),
            bucket: self.choice.map(|choice| choice.bucket),
            key_digest: self.choice.and_then(|choice| choice.key_hash).map(|hash| (hash >> 32) as u32),
            duration,
            upstream_time: self.upstream_time,
            bytes_in: self.upload.as_ref().map_or(0, |upload| upload.bytes.get()),
            bytes_out: self.bytes_out,
            attempts: self.attempts,
            error: self.error,
            shadow: request.shadow,
        }
    }
}
