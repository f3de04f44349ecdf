//! What must be said to the outside, kept until somebody heard it: hooks of rollouts.
//!
//! What is to be said is written in the same file as the decision it comes from, and sent after: so it
//! is heard at least once, over every restart, and its key tells repetitions apart. It must never hold
//! up a decision, nor keep a secret.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::sync::mpsc;

use crate::analysis::policy::Hook;
use crate::fetch::{Ask, Limits, Target, fetch};
use crate::rollout::HookAnswer;
use crate::rollout::moves::Call;

/// Things to say that are kept at most; beyond that the oldest is forgotten, loudly.
const MAX_KEPT: usize = 1_000;
/// Answers waiting for the controller at most.
pub const ANSWERS: usize = 64;
/// Attempts beyond the first.
const RETRIES: u32 = 3;
/// Before the first of them; it doubles.
const BACKOFF: Duration = Duration::from_secs(1);
/// Largest answer that is read.
const ANSWER_BYTES: usize = 64 << 10;
const SIGNATURE: HeaderName = HeaderName::from_static("x-switchback-signature");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// One thing to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Parcel {
    /// The route.
    pub route: String,
    /// The hook's name in the policy.
    pub hook: String,
    /// Of the call, coming back with its answer.
    pub key: u64,
    /// Whether somebody waits for the answer.
    pub answer: bool,
    /// What is said.
    pub body: Value,
}

/// A parcel that was heard, or given up.
#[derive(Debug)]
pub struct Delivered {
    /// Number of the parcel.
    pub number: u64,
    /// The route.
    pub route: String,
    /// The answer, when somebody waits for it.
    pub answer: Option<HookAnswer>,
}

/// What is still to be said.
#[derive(Debug)]
pub struct Outbox {
    parcels: BTreeMap<u64, Parcel>,
    next: u64,
    told: mpsc::Sender<Delivered>,
    /// Folder from which relative paths of secrets are meant.
    base: PathBuf,
}

impl Outbox {
    /// With what was left of the last time; `base` is the configuration's folder.
    #[must_use]
    pub fn new(left: Vec<Parcel>, told: mpsc::Sender<Delivered>, base: PathBuf) -> Self {
        let parcels: BTreeMap<u64, Parcel> = (0..).zip(left).collect();
        Self { next: parcels.len() as u64, parcels, told, base }
    }

    /// Adds a call; gives its number.
    pub fn add(&mut self, parcel: Parcel) -> u64 {
        if self.parcels.len() >= MAX_KEPT
            && let Some((_, lost)) = self.parcels.pop_first()
        {
            tracing::error!(
                route = lost.route,
                hook = lost.hook,
                "too many hooks are waiting: the oldest is lost"
            );
        }
        let number = self.next;
        self.next += 1;
        self.parcels.insert(number, parcel);
        number
    }

    /// Forgets a parcel.
    pub fn remove(&mut self, number: u64) {
        self.parcels.remove(&number);
    }

    /// What to remember.
    #[must_use]
    pub fn to_remember(&self) -> Vec<Parcel> {
        self.parcels.values().cloned().collect()
    }

    /// Numbers of all parcels with their routes and hooks.
    #[must_use]
    pub fn numbers(&self) -> Vec<(u64, String, String)> {
        let name = |(number, one): (&u64, &Parcel)| (*number, one.route.clone(), one.hook.clone());
        self.parcels.iter().map(name).collect()
    }

    /// Sends a parcel; what became of it comes back later. A hook that the file no longer has is
    /// given up.
    pub fn send(&self, number: u64, hook: Option<&Hook>) {
        let Some(parcel) = self.parcels.get(&number).cloned() else { return };
        let (told, hook, base) = (self.told.clone(), hook.cloned(), self.base.clone());
        tokio::spawn(async move {
            let good = match &hook {
                Some(hook) => say(hook, &parcel, &base).await,
                None => false,
            };
            let answer =
                parcel.answer.then(|| HookAnswer { name: parcel.hook.clone(), key: parcel.key, good });
            // The controller is gone with the process: the parcel is in its file.
            let _ = told.send(Delivered { number, route: parcel.route, answer }).await;
        });
    }
}

/// What a hook is told, in Flagger's words where it has them.
#[must_use]
pub fn body(route: &str, call: &Call, hook: &Hook, phase: &str, canary: f64) -> Value {
    let metadata: BTreeMap<&str, &str> =
        hook.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    json!({
        "name": route,
        "hook": call.name,
        "event": format!("{:?}", call.event),
        "phase": phase,
        "canaryWeight": canary,
        "key": call.key,
        "metadata": metadata,
    })
}

/// Says it, again if need be; whether it was answered with a 2xx.
async fn say(hook: &Hook, parcel: &Parcel, base: &Path) -> bool {
    let mut pause = BACKOFF;
    for attempt in 0..=RETRIES {
        match once(hook, parcel, base).await {
            Ok(true) => return true,
            Ok(false) if parcel.answer => return false,
            Ok(false) => {
                tracing::warn!(route = parcel.route, hook = hook.name, "a hook did not answer with a 2xx");
            }
            Err(why) => {
                tracing::warn!(route = parcel.route, hook = hook.name, "a hook cannot be asked: {why}");
            }
        }
        if attempt < RETRIES {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }
    false
}

async fn once(hook: &Hook, parcel: &Parcel, base: &Path) -> Result<bool, String> {
    let (target, path) = address(&hook.url).ok_or_else(|| format!("{} is no http:// address", hook.url))?;
    let body = Bytes::from(parcel.body.to_string());
    let key = format!("{}-{}-{}", parcel.route, parcel.hook, parcel.key);
    let mut headers = vec![
        (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (IDEMPOTENCY_KEY, HeaderValue::try_from(key).map_err(|error| error.to_string())?),
    ];
    if let Some(file) = &hook.secret_file {
        let path = base.join(file);
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        let secret = read.map_err(std::io::Error::other).and_then(|read| read);
        let secret = secret.map_err(|error| format!("{file}: {error}"))?;
        headers.push((SIGNATURE, sign(secret.trim_ascii(), &body)?));
    }
    let ask = Ask { method: Method::POST, path, headers, body };
    let limits =
        Limits { timeout: Duration::from_secs_f64(hook.timeout.clamp(0.1, 600.0)), body: ANSWER_BYTES };
    let answer = fetch(&target, ask, limits).await.map_err(|error| error.to_string())?;
    Ok(answer.status.is_success())
}

/// HMAC-SHA256 of a body (RFC 2104), as `sha256=` and hexadecimal digits.
fn sign(secret: &[u8], body: &[u8]) -> Result<HeaderValue, String> {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| error.to_string())?;
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    HeaderValue::try_from(text).map_err(|error| error.to_string())
}

/// Where to ask, and for what.
fn address(url: &str) -> Option<(Target, String)> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let target = Target::Tcp { host, port: uri.port_u16().unwrap_or(80) };
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    (uri.scheme_str() == Some("http")).then_some((target, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_signed_as_rfc_4231_says() {
        let key = [0x0b_u8; 20];
        let expected = "sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(sign(&key, b"Hi There").expect("a signature"), expected);
    }

    #[test]
    fn hooks_are_asked_over_http_alone() {
        assert!(address("http://gate:8080/ok?x=1").is_some_and(|(_, path)| path == "/ok?x=1"));
        assert!(address("http://gate").is_some_and(|(_, path)| path == "/"));
        assert!(address("https://gate/ok").is_none() && address("gate").is_none());
    }
}
