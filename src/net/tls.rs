//! From an accepted socket to an encrypted connection: the handshake, its deadline, what it proved.
//!
//! A silent client costs its socket and nothing else: the machinery is set up at its first byte. It
//! must never serve in the clear what was to be encrypted.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::transport::Transport;
use crate::certs::{Served, identity};
use crate::model::Client;
use crate::model::secured::Secured;

/// From accept to the end of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// What ALPN says of HTTP/2.
const H2: &[u8] = b"h2";

/// How a handshake ended.
#[derive(Debug)]
pub enum Shaken {
    /// Encrypted; whether HTTP/2 was agreed on.
    Done(Transport, bool),
    /// The client said something else, or stopped in the middle.
    Failed,
    /// It never said a word, or the process ends.
    Silent,
}

/// Encrypts a connection.
pub async fn begin(stream: TcpStream, client: &Client, served: &Served) -> Shaken {
    let mut heard = false;
    let shaking = async {
        // A port scan, or a load balancer's look whether anybody is there, ends without a word.
        let first = unless_killed(client, stream.peek(&mut [0])).await?.ok()?;
        if first == 0 {
            return None;
        }
        heard = true;
        let accepting = TlsAcceptor::from(std::sync::Arc::clone(&served.config)).accept(stream);
        unless_killed(client, accepting).await?.ok()
    };
    match timeout(HANDSHAKE, shaking).await {
        Ok(Some(stream)) => {
            let h2 = prove(&stream, client, served);
            Shaken::Done(Transport::Tls(Box::new(stream)), h2)
        }
        _ if heard => Shaken::Failed,
        _ => Shaken::Silent,
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
