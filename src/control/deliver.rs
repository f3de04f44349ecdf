//! One thing said to one place outside, again and again until it was heard or is given up.
//!
//! A hook is given up soon: whoever waits for its answer asks again. A notice is kept for as long as
//! its receiver may come back. It must never hold up anything else, nor log an address or a secret.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode};

use super::outbox::Parcel;
use super::secret;
use crate::analysis::policy::Hook;
use crate::fetch::{Ask, Limits, Target, fetch};
use crate::plan::{Receiver, Way};
use crate::spec::rollout::HookEvent;

/// Attempts beyond the first, of a hook.
const RETRIES: u32 = 3;
/// Attempts of a notice that its receiver refuses (a 4xx): as long as one takes to repair it.
const REFUSALS: u32 = 10;
/// Before the second attempt; it doubles.
const BACKOFF: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const LONGEST: Duration = Duration::from_secs(60);
/// How long a receiver of notices may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read.
const ANSWER_BYTES: usize = 64 << 10;
/// Longest reason, in characters.
const MAX_WHY: usize = 200;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Why it was not heard.
struct Unheard {
    why: String,
    /// The other side answered and did not like it.
    answered: bool,
    /// Saying it again helps only when somebody changes something.
    refused: bool,
}

impl Unheard {
    fn of(why: impl ToString) -> Self {
        Self { why: bounded(&why.to_string()), answered: false, refused: false }
    }
}

/// Calls a hook, again if need be.
///
/// # Errors
/// Why nobody said yes, in a few words.
pub async fn call(hook: &Hook, parcel: &Parcel, base: &Path) -> Result<(), String> {
    let timeout = Duration::from_secs_f64(hook.timeout.clamp(0.1, 600.0));
    let mut pause = BACKOFF;
    let mut attempt = 0;
    loop {
        let said = say(&hook.url, hook.secret_file.as_deref(), parcel, base, timeout).await;
        let Err(unheard) = said else { return Ok(()) };
        let (route, name, why) = (&parcel.route, &hook.name, &unheard.why);
        if hook.event == HookEvent::Rollback && unheard.refused {
            // All is well, and nothing has to be put back.
            tracing::debug!(route, hook = name, "a hook said no: {why}");
        } else {
            tracing::warn!(route, hook = name, "a hook did not say yes: {why}");
        }
        // Whoever waits for the answer asks again by itself.
        if attempt >= RETRIES || unheard.answered && parcel.answer {
            return Err(unheard.why);
        }
        attempt += 1;
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Tells a receiver, until it has heard it.
///
/// # Errors
/// Why it was given up, in a few words: it was refused too often.
pub async fn tell(receiver: &Receiver, parcel: &Parcel, base: &Path) -> Result<(), String> {
    let mut pause = BACKOFF;
    let mut refusals = 0;
    loop {
        let Err(unheard) = tell_once(receiver, parcel, base).await else { return Ok(()) };
        refusals += u32::from(unheard.refused);
        tracing::warn!(
            route = parcel.route,
            receiver = receiver.label(),
            "a notice was not heard: {}",
            unheard.why
        );
        if refusals >= REFUSALS {
            return Err(unheard.why);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST);
    }
}

async fn tell_once(receiver: &Receiver, parcel: &Parcel, base: &Path) -> Result<(), Unheard> {
    match &receiver.way {
        Way::Slack { url_file } => {
            let url = secret::read(base, url_file).await.map_err(Unheard::of)?;
            let url =
                String::from_utf8(url).map_err(|_| Unheard::of(format!("{url_file}: it is not text")))?;
            say(&url, None, parcel, base, PATIENCE).await
        }
        Way::Webhook { url, secret_file } => say(url, secret_file.as_deref(), parcel, base, PATIENCE).await,
    }
}

/// Says it once.
async fn say(
    url: &str,
    secret_file: Option<&str>,
    parcel: &Parcel,
    base: &Path,
    timeout: Duration,
) -> Result<(), Unheard> {
    let (target, path) = Target::of_url(url).map_err(Unheard::of)?;
    let body = Bytes::from(parcel.body.to_string());
    let mut headers = vec![
        (http::header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (IDEMPOTENCY_KEY, HeaderValue::try_from(parcel.idempotency_key()).map_err(Unheard::of)?),
    ];
    if let Some(file) = secret_file {
        let secret = secret::read(base, file).await.map_err(Unheard::of)?;
        headers.push((secret::SIGNATURE, secret::sign(&secret, &body).map_err(Unheard::of)?));
    }
    let ask = Ask { method: Method::POST, path, headers, body };
    let answer = fetch(&target, ask, Limits { timeout, body: ANSWER_BYTES }).await.map_err(Unheard::of)?;
    if answer.status.is_success() {
        return Ok(());
    }
    let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    Err(Unheard {
        why: format!("it answered {}", answer.status),
        answered: true,
        refused: answer.status.is_client_error() && !later.contains(&answer.status),
    })
}

/// As much of a text as a reason may have, on one line.
fn bounded(text: &str) -> String {
    text.chars().filter(|one| !one.is_control()).take(MAX_WHY).collect()
}
