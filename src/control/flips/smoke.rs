//! Whether a slot is fit to serve: somebody listens, and every endpoint answers what it must.
//!
//! It speaks to the endpoints themselves, never through the proxy, so that no user's number moves. It
//! must never take longer than [`LONGEST`], nor ask one endpoint two things at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::fetch::{Ask, Limits, Target, Trust, fetch, fetch_trusting};
use crate::plan::flip::Smoke;
use crate::plan::{Endpoint, FlipRules, Route};

/// How long a whole test may take.
const LONGEST: Duration = Duration::from_secs(30);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may take where nothing is asked.
const CONNECT: Duration = Duration::from_secs(1);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 1 << 20;

/// Why a slot is not fit: a code and a sentence.
type Unfit = (&'static str, String);

/// Whom to ask what.
pub(super) struct Trial {
    slot: String,
    endpoints: Vec<Asked>,
    rules: Option<Arc<FlipRules>>,
}

/// One endpoint.
struct Asked {
    target: Target,
    addresses: Vec<SocketAddr>,
    /// Whom to trust, where it speaks TLS.
    trust: Option<Trust>,
}

impl Asked {
    fn of(endpoint: &Endpoint) -> Self {
        let (host, port) = (endpoint.host.to_string(), endpoint.port);
        let trust = endpoint.tls.as_ref().map(|tls| Trust {
            roots: tls.trusted.clone(),
            name: tls.name.clone(),
            shown: tls.shown.clone(),
        });
        let target = if trust.is_some() { Target::Tls { host, port } } else { Target::Tcp { host, port } };
        Self { target, addresses: endpoint.cell.addresses.get().to_vec(), trust }
    }
}

impl Trial {
    /// Of a slot of a route.
    pub(super) fn of(route: &Route, slot: &str) -> Self {
        let arm = route.arms.iter().find(|arm| *arm.name == *slot);
        let endpoints = arm.into_iter().flat_map(|arm| &arm.upstream.endpoints).map(Asked::of);
        Self { slot: slot.to_owned(), endpoints: endpoints.collect(), rules: route.flip.clone() }
    }
}

/// Tries a slot; what is wrong with it.
pub(super) async fn smoke(trial: Trial) -> Option<Unfit> {
    let late = || ("smoke-failed", format!("the smoke test took longer than {} s", LONGEST.as_secs()));
    timeout(LONGEST, tried(trial)).await.unwrap_or_else(|_| Err(late())).err()
}

async fn tried(trial: Trial) -> Result<(), Unfit> {
    let Trial { slot, endpoints, rules } = trial;
    let mut connections = JoinSet::new();
    for one in &endpoints {
        connections.spawn(answers(one.addresses.clone()));
    }
    if !connections.join_all().await.contains(&true) {
        return Err(("no-endpoint", format!("no endpoint of `{slot}` takes a connection")));
    }
    let mut asked = JoinSet::new();
    for one in endpoints {
        asked.spawn(passes(one, rules.clone()));
    }
    while let Some(passed) = asked.join_next().await {
        passed.map_err(|error| ("smoke-failed", error.to_string()))??;
    }
    Ok(())
}

async fn answers(addresses: Vec<SocketAddr>) -> bool {
    matches!(timeout(CONNECT, TcpStream::connect(&*addresses)).await, Ok(Ok(_)))
}

/// Whether one endpoint answers everything it must.
async fn passes(one: Asked, rules: Option<Arc<FlipRules>>) -> Result<(), Unfit> {
    for smoke in rules.iter().flat_map(|rules| &rules.smoke) {
        for turn in 1..=smoke.count {
            once(&one, smoke).await.map_err(|why| {
                let target = &one.target;
                let Smoke { method, path, count, .. } = smoke;
                let of = if *count > 1 { format!(" ({turn} of {count})") } else { String::new() };
                ("smoke-failed", format!("smoke: {target} answered {method} {path}{of} {why}"))
            })?;
        }
    }
    Ok(())
}

async fn once(one: &Asked, smoke: &Smoke) -> Result<(), String> {
    let headers = smoke.host.iter().map(|host| (HOST, host.clone())).collect();
    let path = smoke.path.to_string();
    let ask = Ask { method: smoke.method.clone(), path, headers, body: Bytes::new() };
    let limits = Limits { timeout: PATIENCE, body: ANSWER_BYTES };
    let answer = match &one.trust {
        Some(trust) => fetch_trusting(&one.target, trust, ask, limits).await,
        None => fetch(&one.target, ask, limits).await,
    };
    match answer {
        Ok(answer) if smoke.expect.contains(&answer.status.as_u16()) => Ok(()),
        Ok(answer) => Err(format!("with {}, expected {:?}", answer.status.as_u16(), smoke.expect)),
        Err(error) => Err(format!("not at all: {error}")),
    }
}
