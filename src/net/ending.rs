//! The end of an HTTP/1 connection, so that its last answer is read.
//!
//! Bytes that nobody reads would turn the close into a reset, and a reset takes the answer away from
//! a client that is still sending. It must never wait longer than the sweep allows.

use std::future::poll_fn;
use std::task::Poll;

use super::io::ClientIo;
use super::tls::unless_killed;
use crate::model::Client;
use crate::model::time::CoarseClock;

/// Most bytes thrown away so that a client which still sends can read its last answer.
const LINGER_BYTES: usize = 1 << 20;

/// Ends a connection; `whole` is whether everything was said that was to be said: under TLS only then
/// is the client told that this is the end.
pub async fn linger(mut io: ClientIo, client: &Client, clock: &CoarseClock, whole: bool) {
    client.ending(clock.tick());
    let closed = if whole {
        unless_killed(client, poll_fn(|cx| io.transport_mut().poll_half_close(cx))).await
    } else {
        Some(socket2::SockRef::from(io.tcp()).shutdown(std::net::Shutdown::Write))
    };
    if closed.is_none_or(|closed| closed.is_err()) {
        return;
    }
    let mut left = LINGER_BYTES;
    let mut piece = [0_u8; 2048];
    while left > 0 {
        let ready = poll_fn(|cx| {
            client.wake_with(cx.waker());
            if client.kill.get().is_some() {
                return Poll::Ready(false);
            }
            io.tcp().poll_read_ready(cx).map(|ready| ready.is_ok())
        });
        if !ready.await {
            return;
        }
        match io.tcp().try_read(&mut piece) {
            Ok(0) => return,
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
