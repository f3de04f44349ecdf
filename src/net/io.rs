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

/// Bytes written in one go before others of the worker have their turn: a client that takes whatever comes
/// would keep it for as long as the kernel's buffers have room, which is megabytes.
const TURN: usize = 256 << 10;

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
    /// Bytes written in this turn.
    written: usize,
}

impl ClientIo {
    /// Watches a stream.
    #[must_use]
    pub fn new(stream: Transport, client: Rc<Client>, clock: Rc<CoarseClock>) -> Self {
        let (stream, ahead) = (TokioIo::new(stream), Bytes::new());
        Self { stream, ahead, client, clock, frames: None, second: 0, written: 0 }
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

    /// Whether others have their turn now; this one's next comes after theirs.
    fn is_over(&mut self, cx: &Context<'_>) -> bool {
        let over = self.written >= TURN;
        if over {
            self.written = 0;
            cx.waker().wake_by_ref();
        }
        over
    }

    /// The first `count` bytes of these went out.
    fn wrote(&mut self, mut count: usize, bufs: &[io::IoSlice<'_>]) {
        self.written += count;
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
        if self.is_over(cx) {
            return Poll::Pending;
        }
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
        if self.is_over(cx) {
            return Poll::Pending;
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(count)) = written {
            self.wrote(count, bufs);
        }
        self.noted(written)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::io::Read as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::model::time::Tick;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_client_that_takes_everything_leaves_others_their_turn() {
        const PIECE: usize = 16 << 10;
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        let (mut other, _) = listener.accept().unwrap();
        std::thread::spawn(move || {
            let mut piece = [0; PIECE];
            while other.read(&mut piece).is_ok_and(|count| count > 0) {}
        });
        let client = Rc::new(Client::new(0, address, address, Tick(0)));
        let clock = Rc::new(CoarseClock::default());
        let mut io = ClientIo::new(Transport::Plain(stream), Rc::clone(&client), clock);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut written = 0;
        loop {
            match Pin::new(&mut io).poll_write(&mut cx, &[b'x'; PIECE]) {
                Poll::Ready(count) => written += count.unwrap(),
                Poll::Pending if client.send_wait().is_none() => break,
                // The kernel has no room for the moment.
                Poll::Pending => poll_fn(|cx| io.tcp().poll_write_ready(cx)).await.unwrap(),
            }
        }
        assert!((TURN..TURN + PIECE).contains(&written), "{written}");
        assert!(woken.0.load(Ordering::SeqCst) > 0, "its next turn comes");
        assert!(Pin::new(&mut io).poll_write(&mut cx, b"more").is_ready() || client.send_wait().is_some());
    }
}
