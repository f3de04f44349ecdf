//! From an accepted socket to an encrypted connection: the handshake, its deadline, what it proved.
//!
//! A silent client costs its socket and nothing else: the machinery is set up at its first byte, and
//! only so many have it at once. It must never serve in the clear what was to be encrypted.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::Error;
use tokio_rustls::server::TlsStream;

use super::transport::Transport;
use crate::certs::{Served, identity};
use crate::model::secured::Secured;
use crate::model::{Client, HandshakeReason};

/// From accept to the end of the handshake.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once on one worker; who comes later waits for a place within the same time.
/// Each holds some 30 KiB, so that they come to 60 MiB.
pub const MAX_HANDSHAKES: usize = 2_048;

/// What ALPN says of HTTP/2.
const H2: &[u8] = b"h2";

/// How a handshake ended.
#[derive(Debug)]
pub enum Shaken {
    /// Encrypted; whether HTTP/2 was agreed on.
    Done(Transport, bool),
    /// The client said something else, stopped in the middle, or found no place; what was said of it.
    Failed(HandshakeReason, Option<io::Error>),
    /// It never said a word.
    Silent,
}

/// How far a handshake came.
#[derive(Clone, Copy)]
enum Stage {
    Silent,
    Waiting,
    Shaking,
}

/// Encrypts a connection, once `places` has one for it.
pub async fn begin(stream: TcpStream, client: &Client, served: &Served, places: &Semaphore) -> Shaken {
    let stage = Cell::new(Stage::Silent);
    let shaking = async {
        // A port scan, or a load balancer's look whether anybody is there, ends without a word.
        let first = unless_killed(client, stream.peek(&mut [0])).await?.ok()?;
        if first == 0 {
            return None;
        }
        stage.set(Stage::Waiting);
        // It is never closed.
        let _place = unless_killed(client, places.acquire()).await?.ok()?;
        stage.set(Stage::Shaking);
        let accepting = TlsAcceptor::from(std::sync::Arc::clone(&served.config)).accept(stream);
        unless_killed(client, accepting).await
    };
    let shaken = timeout(HANDSHAKE, shaking).await;
    match (shaken, stage.get()) {
        (Ok(Some(Ok(stream))), _) => {
            let h2 = prove(&stream, client, served);
            Shaken::Done(Transport::Tls(Box::new(stream)), h2)
        }
        (Ok(Some(Err(error))), _) => Shaken::Failed(reason(&error), Some(error)),
        (_, Stage::Silent) => Shaken::Silent,
        (_, Stage::Waiting) => Shaken::Failed(HandshakeReason::Busy, None),
        (_, Stage::Shaking) => Shaken::Failed(HandshakeReason::Timeout, None),
    }
}

/// What went wrong, out of what the library says.
fn reason(error: &io::Error) -> HandshakeReason {
    let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
        return HandshakeReason::Closed;
    };
    match inner {
        Error::NoCertificatesPresented => HandshakeReason::NoCertificate,
        Error::InvalidCertificate(_) | Error::InvalidCertRevocationList(_) => HandshakeReason::Certificate,
        Error::NoApplicationProtocol => HandshakeReason::Protocol,
        Error::PeerIncompatible(_) => HandshakeReason::Parameters,
        Error::AlertReceived(_) => HandshakeReason::Client,
        Error::InvalidMessage(_) => HandshakeReason::NotTls,
        _ => HandshakeReason::Other,
    }
}

/// Notes what the handshake proved; gives whether HTTP/2 was agreed on.
fn prove(stream: &TlsStream<TcpStream>, client: &Client, served: &Served) -> bool {
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().and_then(|chain| chain.first());
    let names = served.names(session.server_name()).unwrap_or_default();
    let secured = Secured { names, identity: shown.and_then(|leaf| identity::header(leaf)) };
    // A connection has one handshake.
    let _ = client.secured.set(secured);
    session.alpn_protocol() == Some(H2)
}

/// A future's output, or `None` when the connection was told to end first.
pub async fn unless_killed<F: Future>(client: &Client, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| {
        client.wake_with(cx.waker());
        if client.kill.get().is_some() {
            return Poll::Ready(None);
        }
        future.as_mut().poll(cx).map(Some)
    })
    .await
}
