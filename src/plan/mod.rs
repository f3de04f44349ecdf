//! The compiled snapshot: everything a request needs, precomputed and frozen.
//!
//! `Plan = compile(Spec, Overlay, Book)`. A published plan is never mutated; only the cells it
//! points to move. It must never be built on a data-plane thread, and holds no text to parse.

pub mod asked;
pub mod compile;
pub mod diff;
pub mod drained;
pub mod explain;
pub mod filter;
pub mod flip;
pub mod guard;
pub mod limit;
pub mod matched;
pub mod mirror;
pub mod pick;
pub mod plans;
pub mod rank;
pub mod receiver;
pub mod rendezvous;
pub mod router;
pub mod tls;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use http::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::analysis::Policy as RolloutPolicy;
use crate::analysis::slo::Objective;
use crate::ledger::trial::Side;
use crate::ledger::{Cell, EndpointCell, EndpointGuard, RuleCell, Trial, UpstreamCell, Watch};
use crate::model::{ArmIx, Generation, Provenance};
use crate::spec;
use crate::split::Split;

pub use asked::Asked;
pub use compile::{Compiled, Inputs, Lists, compile, reweigh};
pub use drained::Drain;
pub use filter::{Filters, HeaderOps};
pub use flip::FlipRules;
pub use limit::RateLimit;
pub use mirror::Mirror;
pub use plans::{PlanCache, Plans};
pub use receiver::{Receiver, Way};
pub use router::{Routed, Router};
pub use tls::Tls;

pub use crate::spec::listener::{Paths, Policy, Timeouts as ClientTimeouts};
pub use crate::spec::process::Admin as AdminSettings;
pub use crate::spec::upstream::Connection as ConnectionSettings;
pub use crate::spec::upstream::LoadBalance;
pub use crate::spec::upstream::UpstreamProtocol;

/// Indices of routes by name.
type Names = HashMap<Arc<str>, usize, FixedState>;

/// One immutable configuration of the data plane.
#[derive(Debug)]
pub struct Plan {
    /// Number of this plan, global.
    pub generation: Generation,
    /// Listeners in name order; the index is the same in every plan of a process.
    pub listeners: Arc<[Listener]>,
    /// Who owns which request.
    pub router: Arc<Router>,
    /// Routes in file order.
    pub routes: Box<[Arc<Route>]>,
    /// Indices of the routes by name.
    names: Arc<Names>,
    /// Upstreams in name order.
    pub upstreams: Box<[Arc<Upstream>]>,
    /// Networks whose forwarded headers are believed.
    pub trusted_proxies: Box<[IpNet]>,
    /// Access log settings; `None` is off.
    pub access_log: Option<AccessLog>,
    /// Share of the traces begun here that are marked as sampled, in parts per million; `None` begins
    /// none.
    pub trace_sample: Option<u32>,
    /// Collector that spans of sampled exchanges go to; `None` makes none.
    pub otlp: Option<Arc<str>>,
    /// What only a start reads, and how the process ends.
    pub process: Process,
    /// Bytes of bodies held for copies at most, in the process.
    pub mirror_bytes: u64,
    /// Bytes of bodies held to be sent again at most, in the process.
    pub replay_bytes: u64,
    /// Who is told what rollouts do.
    pub notify: Box<[Receiver]>,
}

impl Plan {
    /// A route by name.
    #[must_use]
    pub fn route_named(&self, name: &str) -> Option<&Arc<Route>> {
        self.names.get(name).and_then(|at| self.routes.get(*at))
    }
}

/// Settings that take effect at start only, but for those of the shutdown: they are read when it comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Admin address: `host:port` or `unix:/path`.
    pub admin_address: String,
    /// The admin block as written.
    pub admin: spec::process::Admin,
    /// Address of probes and metrics alone.
    pub metrics_address: Option<SocketAddr>,
    /// Data-plane threads; 0 is one per available core.
    pub workers: u16,
    /// Folder for run-time state, as written.
    pub state_dir: Option<String>,
    /// Not ready but still accepting.
    pub shutdown_delay: Duration,
    /// At most this long for what is running.
    pub shutdown_grace: Duration,
}

impl Process {
    /// Keys in which it differs from another that only a start can put in force.
    #[must_use]
    pub fn restarts(&self, from: &Self) -> Vec<&'static str> {
        let rows = [
            ("admin", from.admin_address != self.admin_address || from.admin != self.admin),
            ("metrics", from.metrics_address != self.metrics_address),
            ("workers", from.workers != self.workers),
            ("stateDir", from.state_dir != self.state_dir),
        ];
        rows.iter().filter(|(_, edited)| *edited).map(|(key, _)| *key).collect()
    }
}

/// One bound address and its rules.
#[derive(Debug)]
pub struct Listener {
    /// Name.
    pub name: Arc<str>,
    /// Address to bind.
    pub address: SocketAddr,
    /// Whether HTTP/2 with prior knowledge is accepted.
    pub h2c: bool,
    /// TLS as written; the certificates themselves are no part of a plan.
    pub tls: Option<spec::tls::Tls>,
    /// Networks that begin every connection with the PROXY protocol.
    pub proxy_peers: Vec<ipnet::IpNet>,
    /// Bounds on what a client may send.
    pub limits: spec::listener::Limits,
    /// What is done with ambiguous paths.
    pub paths: spec::listener::Paths,
    /// Whether a Via header is added.
    pub via: bool,
    /// How long a client may take.
    pub timeouts: spec::listener::Timeouts,
}

/// One rule that owns traffic.
#[derive(Debug)]
pub struct Route {
    /// Name.
    pub name: Arc<str>,
    /// Generation of the plan in which this route last changed.
    pub generation: Generation,
    /// Hash of everything that shapes it.
    pub fingerprint: u64,
    /// Hash of its split alone, to which operator weights are bound.
    pub split_fingerprint: u64,
    /// Who gets which arm.
    pub split: Split,
    /// Arms in name order; empty when a filter answers.
    pub arms: Box<[Arm]>,
    /// The arm that owns the remainder.
    pub default_arm: ArmIx,
    /// Cells of override choices, by override and arm.
    pub rule_cells: Box<[Box<[Arc<RuleCell>]>]>,
    /// Headers of override conditions, kept from upstreams.
    pub private_headers: Box<[HeaderName]>,
    /// Whether another arm answers for one without endpoints.
    pub redistribute: bool,
    /// How long an exchange may take; zero is for ever.
    pub timeouts: Timeouts,
    /// Which failures lead to another attempt.
    pub retry: Retry,
    /// How often it may be asked; `None` is no bound.
    pub rate_limit: Option<RateLimit>,
    /// Whether a client may upgrade to WebSocket.
    pub websocket: bool,
    /// Changes on the way.
    pub filters: Filters,
    /// Header that names the arm to upstreams.
    pub arm_header_upstream: Option<HeaderName>,
    /// Header that names the arm to clients.
    pub arm_header_client: Option<HeaderName>,
    /// Who set the operator weights in force.
    pub operator: Option<Provenance>,
    /// How a rollout of it is judged and conducted.
    pub policy: Option<Arc<RolloutPolicy>>,
    /// A hash of the rollout block as written.
    pub policy_fingerprint: u64,
    /// What it promises; empty when it promises nothing.
    pub objectives: Box<[Objective]>,
    /// The comparison of two of its arms, when one is under way.
    pub trial: Option<Compare>,
    /// Who gets copies of its requests; empty for nearly every route.
    pub mirrors: Box<[Mirror]>,
    /// The blue-green slot that serves, and the idle one.
    pub slots: Option<(ArmIx, ArmIx)>,
    /// How its slots are exchanged; none without slots.
    pub flip: Option<Arc<FlipRules>>,
    /// What its slots leave; none when no flip is verified.
    pub watch: Option<Arc<Watch>>,
}

impl Route {
    /// An arm by index.
    #[must_use]
    pub fn arm(&self, arm: ArmIx) -> Option<&Arm> {
        self.arms.get(arm.at())
    }

    /// The arm that answers for those already tried: the default arm, else the heaviest left.
    #[must_use]
    pub fn substitute(&self, tried: u64) -> Option<ArmIx> {
        let usable =
            |arm: &ArmIx| tried & (1 << arm.0) == 0 && self.arm(*arm).is_some_and(|found| found.weight > 0);
        if usable(&self.default_arm) {
            return Some(self.default_arm);
        }
        let arms = (0..u8::try_from(self.arms.len()).unwrap_or(u8::MAX)).map(ArmIx).filter(usable);
        arms.max_by_key(|arm| self.arm(*arm).map_or(0, |found| found.weight))
    }
}

/// How long an exchange may take; zero is for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To the response head, all attempts together.
    pub request: Duration,
    /// To the response head, one attempt.
    pub upstream: Duration,
    /// Between two pieces of a response body.
    pub stream_idle: Duration,
}

/// Two arms that are compared, and what counts as bad.
#[derive(Clone, Debug)]
pub struct Compare {
    /// Where outcomes are counted.
    pub trial: Arc<Trial>,
    /// The arm it is compared with.
    pub reference: ArmIx,
    /// The arm on trial.
    pub candidate: ArmIx,
    /// The router's probability of the arm on trial, of both, 0 to 1.
    pub w: f64,
    /// Statuses that are bad, by number.
    pub bad_statuses: StatusSet,
    /// gRPC statuses that are bad, a bit each.
    pub bad_grpc: u32,
}

impl Compare {
    /// Which of the two an arm is.
    #[must_use]
    pub fn side(&self, arm: ArmIx) -> Option<Side> {
        if arm == self.candidate {
            return Some(Side::Canary);
        }
        (arm == self.reference).then_some(Side::Stable)
    }
}

/// A set of HTTP statuses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatusSet([u64; 10]);

impl StatusSet {
    /// Adds a status of 0 to 639.
    pub fn insert(&mut self, status: u16) {
        if let Some(word) = self.0.get_mut(usize::from(status) / 64) {
            *word |= 1 << (status % 64);
        }
    }

    /// Whether it holds a status.
    #[must_use]
    pub fn contains(&self, status: u16) -> bool {
        self.0.get(usize::from(status) / 64).is_some_and(|word| word & 1 << (status % 64) != 0)
    }
}

/// Which failures of an attempt lead to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Attempts beyond the first.
    pub attempts: u32,
    /// After a failure before any byte of the request left.
    pub connect: bool,
    /// After a failure before any byte of an answer came, of an idempotent request.
    pub reset: bool,
    /// After an answer of one of these statuses, a bit each from 500 on, of an idempotent request.
    pub statuses: u128,
    /// How long one attempt may take to its response head; an idempotent request that takes longer is
    /// sent again. Zero is for ever.
    pub per_try: Duration,
    /// Whether the default arm is asked after another arm failed.
    pub default_arm: bool,
    /// Share of retries, in parts per million of the upstream's requests.
    pub budget: u32,
    /// Largest request body kept to be sent again, in bytes.
    pub max_body: u64,
}

impl Retry {
    /// Whether an answer of this status leads to another attempt.
    #[must_use]
    pub fn again_after(&self, status: u16) -> bool {
        matches!(status, 500..=599) && self.statuses & 1 << (status - 500) != 0
    }

    /// Whether heads must be kept: what was answered, or took too long, does not come back.
    #[must_use]
    pub const fn keeps_heads(&self) -> bool {
        self.attempts > 0 && (self.statuses != 0 || !self.per_try.is_zero())
    }
}

/// Where an arm's weight comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WeightSource {
    /// The file.
    Spec,
    /// A rollout.
    Rollout,
    /// An operator's verb.
    Operator,
}

impl WeightSource {
    /// As the admin API spells it.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Spec => "spec",
            Self::Rollout => "rollout",
            Self::Operator => "operator",
        }
    }
}

/// One named share of a route.
#[derive(Debug)]
pub struct Arm {
    /// Name.
    pub name: Arc<str>,
    /// The name as a header value.
    pub header_value: HeaderValue,
    /// Upstream that serves it.
    pub upstream: Arc<Upstream>,
    /// Relative weight in force.
    pub weight: u32,
    /// Relative weight as the file has it.
    pub written: u32,
    /// Where the weight comes from.
    pub source: WeightSource,
    /// Since when it is drained, in Unix milliseconds: it has no weight and its pins hold.
    pub draining: Option<u64>,
    /// Edits of requests sent to it.
    pub request_ops: HeaderOps,
    /// Edits of its responses.
    pub response_ops: HeaderOps,
    /// Cells by the index of the arm that answers.
    pub cells: Box<[Arc<Cell>]>,
    /// Who answers while its upstream's breaker is open.
    pub stand: Option<guard::Stand>,
}

/// A named group of equal addresses.
#[derive(Debug)]
pub struct Upstream {
    /// Name.
    pub name: Arc<str>,
    /// Its addresses.
    pub endpoints: Box<[Endpoint]>,
    /// Protocol spoken to them.
    pub protocol: UpstreamProtocol,
    /// How one is picked.
    pub load_balance: spec::upstream::LoadBalance,
    /// Requests in flight at most; 0 is no bound.
    pub max_requests: u32,
    /// Requests waiting for a connection to one endpoint at most, in the process; 0 is no bound.
    pub max_pending: u32,
    /// Connections to one endpoint at most, in the process; 0 is no bound.
    pub max_connections: u32,
    /// Connection handling.
    pub connection: spec::upstream::Connection,
    /// How its endpoints are watched; nothing is watched where it is absent.
    pub watch: Option<guard::Watch>,
    /// What stops asking it.
    pub breaker: Option<guard::Breaker>,
    /// Live state.
    pub cell: Arc<UpstreamCell>,
    /// The same for copies of requests, which its limits bound apart.
    pub shadow: Arc<UpstreamCell>,
}

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    /// Live state and identity.
    pub cell: Arc<EndpointCell>,
    /// Host name or address, without brackets.
    pub host: Box<str>,
    /// Port.
    pub port: u16,
    /// Relative share.
    pub weight: u32,
    /// What is known of it, where it is watched.
    pub guard: Option<Arc<EndpointGuard>>,
    /// How its connections are secured; `None` is plaintext.
    pub tls: Option<Arc<Tls>>,
}

/// Access log settings of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    /// `stdout`, `stderr` or a file.
    pub path: String,
    /// Share logged, in parts per million.
    pub sample: u32,
    /// Share logged of arms other than the default, in parts per million.
    pub sample_canary: u32,
    /// Whether every failed exchange is logged.
    pub errors_always: bool,
    /// A header whose presence logs the exchange.
    pub debug_header: Option<HeaderName>,
}

#[cfg(test)]
pub(crate) mod tests;
