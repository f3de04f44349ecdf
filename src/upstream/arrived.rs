//! A response body on its way to the client, whatever protocol it came by.
//!
//! When it ends its connection goes back to the pool; when it is dropped before, the connection is
//! closed or the stream reset. It must never buffer a frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::net::TcpStream;

use super::h1;
use super::pool::Home;

/// The body of an upstream's response.
#[derive(Debug)]
pub struct Arrived {
    body: Option<h1::Body>,
    home: Home,
}

/// An upstream connection that became a tunnel; it counts as in flight to its end.
#[derive(Debug)]
pub struct Tunnel {
    /// The transport.
    pub stream: TcpStream,
    /// What was read of it already.
    pub ahead: Bytes,
    _home: Home,
}

/// Why a body did not end as it should.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The connection ended first.
    #[error("the origin closed the connection in the middle of a body")]
    Truncated,
    /// The coding is broken.
    #[error("the origin sent a malformed body: {0}")]
    Malformed(&'static str),
    /// The transport failed.
    #[error("the connection to the origin broke: {0}")]
    Transport(io::Error),
}

impl Arrived {
    /// A body that came over HTTP/1, or a tunnel.
    #[must_use]
    pub fn h1(body: h1::Body, home: Home, tunnel: bool) -> Self {
        let mut arrived = Self { body: Some(body), home };
        if !tunnel {
            arrived.go_home_if_over();
        }
        arrived
    }

    /// The upstream's end of a tunnel; `None` for a body.
    #[must_use]
    pub fn into_tunnel(self) -> Option<Tunnel> {
        let Self { body, home } = self;
        let (stream, ahead) = body?.into_tunnel()?;
        Some(Tunnel { stream, ahead, _home: home })
    }

    fn go_home_if_over(&mut self) {
        if self.body.as_ref().is_some_and(h1::Body::is_over)
            && let Some(body) = self.body.take()
        {
            self.home.take_back(body.into_connection());
        }
    }
}

impl Body for Arrived {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = body.poll_frame(cx);
        if polled.is_ready() {
            this.go_home_if_over();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), h1::Body::size_hint)
    }
}
