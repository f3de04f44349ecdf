//! A response body on its way to the client, whatever protocol it came by.
//!
//! When it ends its connection goes back to the pool; when it is dropped before, the connection is
//! closed or the stream reset. It must never buffer a frame.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::destinations::Stay;
use super::gate::Place;
use super::h1;
use super::h2::StreamBody;
use super::pool::Home;
use super::stream::Stream;

/// The body of an upstream's response.
#[derive(Debug)]
pub struct Arrived {
    body: Option<Way>,
    multiplexed: bool,
    home: Home,
}

/// The protocol a body comes by.
#[derive(Debug)]
enum Way {
    H1(h1::Body),
    H2(StreamBody),
}

/// An upstream connection that became a tunnel; it counts as in flight to its end.
#[derive(Debug)]
pub struct Tunnel {
    /// The transport.
    pub stream: Stream,
    /// What was read of it already.
    pub ahead: Bytes,
    _held: (Home, (Place, Stay)),
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
        let mut arrived = Self { body: Some(Way::H1(body)), multiplexed: false, home };
        if !tunnel {
            arrived.go_home_if_over();
        }
        arrived
    }

    /// A body that came over HTTP/2.
    #[must_use]
    pub fn h2(body: StreamBody, home: Home) -> Self {
        let mut arrived = Self { body: Some(Way::H2(body)), multiplexed: true, home };
        arrived.go_home_if_over();
        arrived
    }

    /// Whether it came by HTTP/2.
    #[must_use]
    pub const fn is_multiplexed(&self) -> bool {
        self.multiplexed
    }

    /// The upstream's end of a tunnel; `None` for a body.
    #[must_use]
    pub fn into_tunnel(self) -> Option<Tunnel> {
        let Self { body, home, .. } = self;
        let Way::H1(body) = body? else { return None };
        let (stream, ahead, place) = body.into_tunnel()?;
        Some(Tunnel { stream, ahead, _held: (home, place) })
    }

    fn go_home_if_over(&mut self) {
        if self.body.as_ref().is_some_and(Way::is_over)
            && let Some(Way::H1(body)) = self.body.take()
        {
            self.home.take_back(body.into_connection());
        }
    }
}

impl Way {
    fn is_over(&self) -> bool {
        match self {
            Self::H1(body) => body.is_over(),
            Self::H2(body) => body.is_end_stream(),
        }
    }
}

impl Body for Arrived {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = match body {
            Way::H1(body) => body.poll_frame(cx),
            Way::H2(body) => Pin::new(body).poll_frame(cx),
        };
        if polled.is_ready() {
            this.go_home_if_over();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            None => SizeHint::with_exact(0),
            Some(Way::H1(body)) => body.size_hint(),
            Some(Way::H2(body)) => body.size_hint(),
        }
    }
}
