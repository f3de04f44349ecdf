//! The transport of one client, watched: when bytes come, when the client refuses them.
//!
//! It must never buffer anything but the bytes read to tell protocols apart.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::model::Client;
use crate::model::time::CoarseClock;

/// A client's transport.
#[derive(Debug)]
pub struct ClientIo {
    stream: TokioIo<TcpStream>,
    /// Bytes read ahead of the protocol.
    ahead: Bytes,
    client: Rc<Client>,
    clock: Rc<CoarseClock>,
}

impl ClientIo {
    /// Watches a stream.
    #[must_use]
    pub fn new(stream: TcpStream, client: Rc<Client>, clock: Rc<CoarseClock>) -> Self {
        Self { stream: TokioIo::new(stream), ahead: Bytes::new(), client, clock }
    }

    /// The stream itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.stream.inner()
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
            buf.put_slice(&self.ahead[..count]);
            self.ahead.advance(count);
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
        self.noted(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
        self.noted(written)
    }
}
