//! A request on the wire: its head, then its body as it comes (RFC 9112 sections 3, 6 and 7).
//!
//! The body's own length decides the framing, never a field that came along. It must never be asked
//! for a byte more than the origin takes.

use std::io::{self, IoSlice, Write as _};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderValue, Method};
use http_body::Body;
use tokio::io::AsyncWrite;

use crate::upstream::stream::Stream;
use crate::upstream::upload::{RequestBody, UploadError};

/// How the body is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    None,
    Length,
    Chunked,
}

/// A request on its way.
#[derive(Debug)]
pub struct Sending {
    /// The head, later the size lines of chunks: what goes before `data`.
    text: Vec<u8>,
    at: usize,
    data: Bytes,
    tail: &'static [u8],
    body: RequestBody,
    framing: Framing,
    over: bool,
    /// The transport took at least one byte.
    begun: bool,
    /// A piece of the body was taken: it cannot be sent again.
    touched: bool,
    /// The transport may hold back some of what it took.
    held: bool,
}

/// Why a request did not go out whole.
#[derive(Debug)]
pub enum Stopped {
    /// The origin takes no more.
    Transport,
    /// The client broke its own body.
    Client(UploadError),
}

impl Sending {
    /// A request whose head is written into `text`, an empty buffer.
    #[must_use]
    pub fn new(mut text: Vec<u8>, parts: &Parts, body: RequestBody) -> Self {
        let framing = match (&body, body.size_hint().exact()) {
            (RequestBody::Empty | RequestBody::Tunnel, _) => Framing::None,
            (_, Some(_)) => Framing::Length,
            (_, None) => Framing::Chunked,
        };
        write_head(&mut text, parts, &body);
        let over = framing == Framing::None;
        Self {
            text,
            at: 0,
            data: Bytes::new(),
            tail: b"",
            body,
            framing,
            over,
            begun: false,
            touched: false,
            held: false,
        }
    }

    /// Whether the connection is asked to become a tunnel.
    #[must_use]
    pub const fn asks_for_tunnel(&self) -> bool {
        matches!(self.body, RequestBody::Tunnel)
    }

    /// Everything went out.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.over && self.is_flushed() && !self.held
    }

    /// The origin may have seen a part of it.
    #[must_use]
    pub const fn has_begun(&self) -> bool {
        self.begun
    }

    /// The body is as it came: the request may be sent again, as far as the body goes.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        !self.touched
    }

    /// The buffer and the body, to be used otherwise.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, RequestBody) {
        (self.text, self.body)
    }

    /// Writes what the transport takes; ready when all of it went out.
    ///
    /// # Errors
    /// The transport or the client's body broke.
    pub fn poll(&mut self, io: &mut Stream, cx: &mut Context<'_>) -> Poll<Result<(), Stopped>> {
        loop {
            // The first piece of a body goes out with the head, in one call.
            let waiting = if self.over || !self.data.is_empty() || !self.tail.is_empty() {
                false
            } else {
                self.fill(cx)?.is_pending()
            };
            while !self.is_flushed() {
                ready!(self.write(io, cx)).map_err(|_| Stopped::Transport)?;
            }
            if self.held {
                ready!(Pin::new(&mut *io).poll_flush(cx)).map_err(|_| Stopped::Transport)?;
                self.held = false;
            }
            if waiting {
                return Poll::Pending;
            }
            if self.over {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn is_flushed(&self) -> bool {
        self.at == self.text.len() && self.data.is_empty() && self.tail.is_empty()
    }

    /// Takes the next piece of the body.
    fn fill(&mut self, cx: &mut Context<'_>) -> Result<Poll<()>, Stopped> {
        let frame = match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => return Ok(Poll::Pending),
            Poll::Ready(frame) => frame.transpose().map_err(Stopped::Client)?,
        };
        if self.at == self.text.len() {
            self.text.clear();
            self.at = 0;
        }
        self.touched = true;
        let chunked = self.framing == Framing::Chunked;
        match frame.map(http_body::Frame::into_data) {
            Some(Ok(data)) => {
                self.over = self.body.is_end_stream();
                if chunked && !data.is_empty() {
                    // Writing into memory cannot fail.
                    let _ = write!(self.text, "{:x}\r\n", data.len());
                    self.tail = if self.over { b"\r\n0\r\n\r\n" } else { b"\r\n" };
                } else if chunked && self.over {
                    self.tail = b"0\r\n\r\n";
                }
                self.data = data;
            }
            Some(Err(frame)) => {
                self.over = true;
                if chunked {
                    self.text.extend_from_slice(b"0\r\n");
                    if let Ok(trailers) = frame.into_trailers() {
                        trailers
                            .iter()
                            .for_each(|(name, value)| write_field(&mut self.text, name.as_str(), value));
                    }
                    self.tail = b"\r\n";
                }
            }
            None => {
                self.over = true;
                if chunked {
                    self.tail = b"0\r\n\r\n";
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn write(&mut self, io: &mut Stream, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let text = &self.text[self.at..];
        let io = Pin::new(io);
        let count = if self.data.is_empty() && self.tail.is_empty() {
            ready!(io.poll_write(cx, text))?
        } else {
            let pieces = [IoSlice::new(text), IoSlice::new(&self.data), IoSlice::new(self.tail)];
            ready!(io.poll_write_vectored(cx, &pieces))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.begun = true;
        self.held = true;
        self.advance(count);
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize) {
        let text = count.min(self.text.len() - self.at);
        self.at += text;
        count -= text;
        let data = count.min(self.data.len());
        self.data.advance(data);
        self.tail = self.tail.get(count - data..).unwrap_or_default();
    }
}

fn write_head(text: &mut Vec<u8>, parts: &Parts, body: &RequestBody) {
    text.extend_from_slice(parts.method.as_str().as_bytes());
    text.push(b' ');
    match parts.uri.path_and_query() {
        Some(target) => text.extend_from_slice(target.as_str().as_bytes()),
        None => text.push(b'/'),
    }
    text.extend_from_slice(b" HTTP/1.1\r\n");
    let mut length_said = false;
    for (name, value) in &parts.headers {
        if *name == CONTENT_LENGTH {
            length_said = true;
        } else if *name != TRANSFER_ENCODING {
            write_field(text, name.as_str(), value);
        }
    }
    match body.size_hint().exact() {
        None => text.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Some(0) if !(length_said || expects_body(&parts.method)) => {}
        Some(length) => {
            // Writing into memory cannot fail.
            let _ = write!(text, "content-length: {length}\r\n");
        }
    }
    text.extend_from_slice(b"\r\n");
}

/// Whether origins want to hear that there is no body (RFC 9110 section 8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn write_field(text: &mut Vec<u8>, name: &str, value: &HeaderValue) {
    text.extend_from_slice(name.as_bytes());
    text.extend_from_slice(b": ");
    text.extend_from_slice(value.as_bytes());
    text.extend_from_slice(b"\r\n");
}
