//! The transport of one client, watched: when bytes come, when the client refuses them.
//!
//! It must never buffer anything but the bytes read to tell protocols apart.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::rt::{Read, ReadBuf, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::frames::HeadWatch;
use super::transport::Transport;
use crate::model::Client;
use crate::model::client::Close;
use crate::model::time::{CoarseClock, TICK_MILLIS};

/// Bytes read at once where they are looked at on the way.
const WATCHED_READ: usize = 8 << 10;

/// A client's transport.
#[derive(Debug)]
pub struct ClientIo {
    stream: TokioIo<Transport>,
    /// Bytes read ahead of the protocol.
    ahead: Bytes,
    client: Rc<Client>,
    clock: Rc<CoarseClock>,
    /// Follows the frames of HTTP/2.
    frames: Option<HeadWatch>,
    /// The second their count belongs to.
    second: u64,
}

impl ClientIo {
    /// Watches a stream.
    #[must_use]
    pub fn new(stream: Transport, client: Rc<Client>, clock: Rc<CoarseClock>) -> Self {
        Self { stream: TokioIo::new(stream), ahead: Bytes::new(), client, clock, frames: None, second: 0 }
    }

    /// The stream, and the bytes that wait to be read first.
    #[must_use]
    pub fn into_parts(self) -> (Transport, Bytes) {
        (self.stream.into_inner(), self.ahead)
    }

    /// The socket.
    #[must_use]
    pub fn tcp(&self) -> &TcpStream {
        self.stream.inner().tcp()
    }

    /// What carries the bytes.
    pub fn transport_mut(&mut self) -> &mut Transport {
        self.stream.inner_mut()
    }

    /// Gives bytes back, to be read first.
    pub fn unread(&mut self, bytes: Bytes) {
        self.ahead =
            if self.ahead.is_empty() { bytes } else { [bytes, self.ahead.split_off(0)].concat().into() };
    }

    /// Whether bytes wait to be read again.
    #[must_use]
    pub fn has_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Looks at the frames that come from now on, the preface first.
    pub fn watch_frames(&mut self) {
        self.frames = Some(HeadWatch::default());
    }

    fn look(&mut self, bytes: &[u8]) {
        let now = self.clock.tick();
        self.client.on_read(now);
        if let Some(frames) = &mut self.frames {
            let second = u64::from(now.0) * TICK_MILLIS / 1_000;
            if self.second != second {
                self.second = second;
                frames.second();
            }
            let open = frames.read(bytes);
            self.client.on_head(open.then_some(now));
            if frames.is_flood() {
                self.client.kill.set(Some(Close::Flood));
                self.client.wake();
            }
        }
    }

    /// The first `count` bytes of these went out.
    fn wrote(&mut self, mut count: usize, bufs: &[io::IoSlice<'_>]) {
        let Some(frames) = &mut self.frames else { return };
        for buf in bufs {
            let taken = count.min(buf.len());
            frames.wrote(&buf[..taken]);
            count -= taken;
        }
        if frames.is_flood() {
            self.client.kill.set(Some(Close::Flood));
            self.client.wake();
        }
    }

    fn noted<T>(&self, outcome: Poll<T>) -> Poll<T> {
        let blocked = outcome.is_pending().then(|| self.clock.tick());
        self.client.on_write(blocked);
        outcome
    }
}

impl Read for ClientIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let count = self.ahead.len().min(buf.remaining());
            let bytes = self.ahead.split_to(count);
            buf.put_slice(&bytes);
            self.look(&bytes);
            return Poll::Ready(Ok(()));
        }
        if self.frames.is_some() {
            let mut piece = [0_u8; WATCHED_READ];
            let room = buf.remaining().min(WATCHED_READ);
            let mut read = ReadBuf::new(&mut piece[..room]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, read.unfilled()))?;
            buf.put_slice(read.filled());
            self.look(read.filled());
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.client.on_read(self.clock.tick());
        }
        read
    }
}

impl Write for ClientIo {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written {
            self.wrote(count, &[io::IoSlice::new(buf)]);
        }
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        // Under TLS bytes may be taken that the client does not take.
        if self.stream.inner().is_tls() { self.noted(flushed) } else { flushed }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // HTTP/1 ends with [`super::ending::linger`], by whoever then reads what the client still sends.
        if self.frames.is_none() { Poll::Ready(Ok(())) } else { Pin::new(&mut self.stream).poll_shutdown(cx) }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = written {
            self.wrote(count, bufs);
        }
        self.noted(written)
    }
}
