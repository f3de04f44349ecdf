//! WebSocket: who asks for it, and the bytes both ways once both sides agreed (RFC 6455 section 4).
//!
//! A connection becomes a tunnel only after the upstream's 101, and only for `websocket`: a proxy that
//! believes a request instead lets its client speak to the upstream behind everybody's back. It must
//! never look at what passes.

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, Method, Version};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};

use super::tunnels::Claim;
use crate::model::Client;
use crate::model::time::{TICK_MILLIS, Tick};
use crate::upstream::{Deadline, Deadlines, Tunnel};

/// Bytes on their way in each direction.
const BUFFER: usize = 16 << 10;

/// How long the two sides may take to end after they were told.
const PARTING: Duration = Duration::from_millis(300);

/// A tunnel whose two ends agreed.
#[derive(Debug)]
pub struct Opened {
    /// The upstream's end.
    pub upstream: Tunnel,
    /// The connection it came on.
    pub client: Rc<Client>,
    /// The worker's deadlines.
    pub deadlines: Rc<Deadlines>,
    /// How long it may be without a byte either way; zero is for ever.
    pub idle: Duration,
    /// Its place among the tunnels of its arm.
    pub claim: Option<Claim>,
}

/// Whether a request asks for a WebSocket and nothing else: a GET without a body that names it alone.
#[must_use]
pub fn asks(parts: &Parts) -> bool {
    let bodiless = !parts.headers.contains_key(TRANSFER_ENCODING)
        && parts.headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0");
    parts.version == Version::HTTP_11
        && parts.method == Method::GET
        && bodiless
        && is_websocket(&parts.headers)
}

/// Whether a head switches to WebSocket: one Upgrade that says so, named by Connection.
#[must_use]
pub fn is_websocket(headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(UPGRADE).iter();
    let named = lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let options =
        headers.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    named
        && lines.next().is_none()
        && options.map(<[u8]>::trim_ascii).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}

/// Passes bytes both ways until both sides ended, one broke, nothing passed for long,
/// or its arm is drained. `ahead` is what the client sent before the answer.
pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(opened: Opened, client: S, ahead: Bytes) {
    let Opened { upstream, client: owner, deadlines, idle, claim } = opened;
    let Tunnel { mut stream, ahead: first, .. } = upstream;
    let last = Rc::new(Cell::new(deadlines.clock().tick()));
    let mut client = Watched { stream: client, last: Rc::clone(&last), deadlines: Rc::clone(&deadlines) };
    let passing = async {
        client.write_all(&first).await?;
        stream.write_all(&ahead).await?;
        copy_bidirectional_with_sizes(&mut client, &mut stream, BUFFER, BUFFER).await
    };
    tokio::select! {
        // However it ended, both transports are closed now.
        _ = passing => return,
        () = quiet(&deadlines, &last, idle) => {}
        () = told_to_end(&owner) => {}
        () = drained(claim.as_ref()) => {}
    }
    part(client.stream, stream, &deadlines).await;
}

async fn drained(claim: Option<&Claim>) {
    match claim {
        Some(claim) => claim.over().await,
        None => pending().await,
    }
}

/// Ready once the client's connection is to end.
async fn told_to_end(client: &Client) {
    poll_fn(|cx| {
        client.wake_with(cx.waker());
        if client.kill.get().is_some() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Ends both sides in order: what was passed arrives before the end does. Closing at once would reset
/// a side that still sends, and a reset takes away what it has not read.
async fn part(
    mut client: impl AsyncRead + AsyncWrite + Unpin,
    mut upstream: impl AsyncRead + AsyncWrite + Unpin,
    deadlines: &Rc<Deadlines>,
) {
    let ending = async {
        // A side that is gone needs no end.
        let _ = client.shutdown().await;
        let _ = upstream.shutdown().await;
        let (mut ours, mut theirs) = ([0_u8; 2048], [0_u8; 2048]);
        let (mut client_ended, mut upstream_ended) = (false, false);
        while !client_ended || !upstream_ended {
            tokio::select! {
                read = client.read(&mut ours), if !client_ended => client_ended = !matches!(read, Ok(1..)),
                read = upstream.read(&mut theirs), if !upstream_ended => {
                    upstream_ended = !matches!(read, Ok(1..));
                }
            }
        }
    };
    let mut deadline = Deadline::new(deadlines, PARTING);
    tokio::select! {
        () = ending => {}
        () = poll_fn(|cx| deadline.poll_over(cx)) => {}
    }
}

/// Ready once nothing passed for `idle`.
async fn quiet(deadlines: &Rc<Deadlines>, last: &Cell<Tick>, idle: Duration) {
    let mut deadline = Deadline::new(deadlines, idle);
    loop {
        poll_fn(|cx| deadline.poll_over(cx)).await;
        let (now, end) = (deadlines.clock().tick(), last.get().after(idle));
        if now >= end {
            return;
        }
        deadline.restart(Duration::from_millis(u64::from(end.0 - now.0) * TICK_MILLIS));
    }
}

/// The client's transport, watched for when bytes last passed: every byte of a tunnel is read from it
/// or written to it.
struct Watched<S> {
    stream: S,
    last: Rc<Cell<Tick>>,
    deadlines: Rc<Deadlines>,
}

impl<S> Watched<S> {
    fn passed(&self) {
        self.last.set(self.deadlines.clock().tick());
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        self.passed();
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf));
        self.passed();
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request};

    use super::*;

    #[test]
    fn only_a_bare_websocket_is_asked_for() {
        type Row = (&'static str, &'static [(&'static str, &'static str)], bool);
        let rows: [Row; 9] = [
            ("GET", &[("connection", "Upgrade"), ("upgrade", "websocket")], true),
            ("GET", &[("connection", "keep-alive, upgrade"), ("upgrade", "WebSocket")], true),
            ("GET", &[("connection", "upgrade"), ("upgrade", "h2c")], false),
            ("GET", &[("connection", "upgrade"), ("upgrade", "websocket, h2c")], false),
            ("GET", &[("connection", "upgrade"), ("upgrade", "websocket"), ("upgrade", "h2c")], false),
            ("GET", &[("upgrade", "websocket")], false),
            ("GET", &[("connection", "close"), ("upgrade", "websocket")], false),
            ("POST", &[("connection", "upgrade"), ("upgrade", "websocket")], false),
            ("GET", &[("connection", "upgrade"), ("upgrade", "websocket"), ("content-length", "3")], false),
        ];
        for (method, headers, expected) in rows {
            let mut request = Request::builder().method(method);
            for (name, value) in headers {
                request = request.header(*name, HeaderValue::from_static(value));
            }
            let (parts, ()) = request.body(()).unwrap().into_parts();
            assert_eq!(asks(&parts), expected, "{method} {headers:?}");
        }
    }
}
