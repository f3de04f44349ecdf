//! One new connection to an endpoint: address, socket options, HTTP/1 handshake.
//!
//! It must never resolve a name: the resolver does that off the request path.

use std::cell::RefCell;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use hyper::client::conn::http1::{self, SendRequest};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::pool::RequestBody;
use crate::plan::ConnectionSettings;

/// Largest response head, in bytes; 64 KiB as for other proxies.
const HEAD_BYTES: usize = 64 << 10;

/// An upstream transport that the pool can look at while the connection's task owns it.
#[derive(Clone, Debug)]
pub struct SharedIo(Rc<RefCell<TokioIo<TcpStream>>>);

impl SharedIo {
    /// Whether the peer closed or sent something nobody asked for: one non-blocking peek.
    #[must_use]
    pub fn is_spoilt(&self) -> bool {
        let io = self.0.borrow();
        let mut byte = [MaybeUninit::uninit()];
        match SockRef::from(io.inner()).peek(&mut byte) {
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
            Ok(_) => true,
        }
    }
}

impl Read for SharedIo {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buf)
    }
}

impl Write for SharedIo {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.borrow().is_write_vectored()
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write_vectored(cx, bufs)
    }
}

/// A connection ready for its first request.
#[derive(Debug)]
pub struct Connected {
    /// Takes requests.
    pub sender: SendRequest<RequestBody>,
    /// The transport, to be looked at.
    pub io: SharedIo,
    /// Ends the connection at once.
    pub task: AbortHandle,
}

/// Connects to the first address that accepts, in turn from `start`.
///
/// # Errors
/// The last address' error; `NotFound` without addresses.
pub async fn connect(
    addresses: &[SocketAddr],
    start: usize,
    settings: &ConnectionSettings,
) -> io::Result<Connected> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for step in 0..addresses.len() {
        let Some(address) = addresses.get((start + step) % addresses.len()) else { continue };
        match TcpStream::connect(address).await {
            Ok(stream) => return handshake(stream, settings).await,
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn handshake(stream: TcpStream, settings: &ConnectionSettings) -> io::Result<Connected> {
    stream.set_nodelay(true)?;
    if !settings.keepalive.0.is_zero() {
        let probes = socket2::TcpKeepalive::new().with_time(settings.keepalive.0);
        SockRef::from(&stream).set_tcp_keepalive(&probes)?;
    }
    let io = SharedIo(Rc::new(RefCell::new(TokioIo::new(stream))));
    let (sender, connection) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .handshake(io.clone())
        .await
        .map_err(io::Error::other)?;
    let task = tokio::task::spawn_local(async move {
        // Its errors reach whoever waits for a response.
        let _ = connection.await;
    });
    Ok(Connected { sender, io, task: task.abort_handle() })
}
