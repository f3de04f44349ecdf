//! Spans on their way to a collector: a bounded queue and one task that sends them in batches.
//!
//! Workers hand spans over and never wait: what does not fit is dropped and counted, and so is what the
//! collector does not take after a few tries. It must never touch a request.

use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method};
use metrics::Counter;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::otlp;
use crate::fetch::{Ask, Limits, Target, fetch};
use crate::model::span::Span;

/// Spans waiting at most.
const QUEUE: usize = 2048;
/// Spans of one request to the collector at most.
const BATCH: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_secs(1);
/// Pauses between tries of one batch; after the last it is given up.
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(2)];
/// How long the collector may take, and what it may answer.
const LIMITS: Limits = Limits { timeout: Duration::from_secs(5), body: 64 << 10 };

/// Takes spans.
#[derive(Debug)]
pub struct Spans {
    queue: mpsc::Sender<Handed>,
    dropped: Counter,
}

#[derive(Debug)]
enum Handed {
    Span(Box<Span>),
    /// Everything handed over before is to be sent now; the answer is that it was.
    Flush(oneshot::Sender<()>),
}

impl Spans {
    /// Begins to send; `to` gives the collector's address as it is by then.
    pub fn start(dropped: Counter, to: impl Fn() -> Option<String> + Send + 'static) -> Self {
        let (queue, spans) = mpsc::channel(QUEUE);
        tokio::spawn(run(spans, dropped.clone(), to));
        Self { queue, dropped }
    }

    /// Takes one; never waits.
    pub fn take(&self, span: Span) {
        if self.queue.try_send(Handed::Span(Box::new(span))).is_err() {
            self.dropped.increment(1);
        }
    }

    /// Waits until what was taken is sent or given up.
    pub async fn flush(&self) {
        let (sent, done) = oneshot::channel();
        if self.queue.send(Handed::Flush(sent)).await.is_ok() {
            // A task that is gone sends nothing more.
            let _ = done.await;
        }
    }
}

async fn run(
    mut handed: mpsc::Receiver<Handed>,
    dropped: Counter,
    to: impl Fn() -> Option<String> + Send + 'static,
) {
    let mut failing = false;
    while let Some(first) = handed.recv().await {
        let (spans, flushed) = gather(first, &mut handed).await;
        if !spans.is_empty() {
            let sent = match to() {
                Some(url) => send(&url, &spans).await,
                None => Err("there is no collector any more".to_owned()),
            };
            if let Err(why) = &sent {
                dropped.increment(spans.len() as u64);
                if !failing {
                    tracing::warn!("{} spans were given up: {why}", spans.len());
                }
            }
            failing = sent.is_err();
        }
        if let Some(flushed) = flushed {
            // Who asked may be gone.
            let _ = flushed.send(());
        }
    }
}

/// A batch: what comes within the time to gather, up to its size.
async fn gather(
    first: Handed,
    handed: &mut mpsc::Receiver<Handed>,
) -> (Vec<Span>, Option<oneshot::Sender<()>>) {
    let (until, mut spans, mut next) = (Instant::now() + GATHER, Vec::new(), Some(first));
    loop {
        match next {
            Some(Handed::Span(span)) => spans.push(*span),
            Some(Handed::Flush(flushed)) => return (spans, Some(flushed)),
            None => return (spans, None),
        }
        if spans.len() == BATCH {
            return (spans, None);
        }
        next = timeout_at(until, handed.recv()).await.unwrap_or(None);
    }
}

/// Sends a batch, again while the collector is away or asks for it (OTLP 1.x, failures).
async fn send(url: &str, spans: &[Span]) -> Result<(), String> {
    let (target, path) = Target::of_url(url)?;
    let path = format!("{}/v1/traces", path.trim_end_matches('/'));
    let body = Bytes::from(otlp::request(spans));
    let mut pauses = PAUSES.iter();
    loop {
        let headers = vec![(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))];
        let ask = Ask { method: Method::POST, path: path.clone(), headers, body: body.clone() };
        let why = match fetch(&target, ask, LIMITS).await {
            Ok(answer) if answer.status.is_success() => return Ok(()),
            Ok(answer) if matches!(answer.status.as_u16(), 429 | 502..=504) => {
                format!("{target} answers {}", answer.status)
            }
            Ok(answer) => return Err(format!("{target} answers {}", answer.status)),
            Err(error) => error.to_string(),
        };
        let Some(pause) = pauses.next() else { return Err(why) };
        sleep(*pause).await;
    }
}
