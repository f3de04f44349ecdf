//! The accept loop of one listener on one worker.
//!
//! It must never spin when the process runs out of descriptors, and on drain takes what the kernel
//! already accepted before it closes the socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::Handler;
use super::conn::{self, Encryption, Serving};
use super::proxied;
use super::sweep::Registry;
use crate::model::time::CoarseClock;
use crate::model::{Client, HandshakeReason, RejectReason};

/// Pause after an accept failed for want of resources.
const BACKOFF: Duration = Duration::from_millis(100);
/// Connections taken at most after the word to stop: as many as wait for an accept.
const LAST_ACCEPTS: usize = 4096;
/// Sent when the listener is full.
const FULL_ANSWER: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

/// What an accept loop needs.
pub struct Accepting<H> {
    /// Index of the listener.
    pub listener: usize,
    /// Serves requests.
    pub handler: Rc<H>,
    /// The worker's clock.
    pub clock: Rc<CoarseClock>,
    /// The worker's connections.
    pub registry: Rc<Registry>,
}

/// Accepts until `stop` turns true.
pub async fn accept<H: Handler>(
    listener: TcpListener,
    accepting: Rc<Accepting<H>>,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => accepting.arrived(stream, peer),
            Err(error) if is_resource(&error) => tokio::time::sleep(BACKOFF).await,
            Err(_) => {}
        }
    }
    // What the kernel accepted for us would be reset with the socket; where another process holds it as
    // well, more keeps coming. The kernel is asked itself: the runtime knows only of what came before it
    // last looked.
    let Ok(listener) = listener.into_std() else { return };
    for _ in 0..LAST_ACCEPTS {
        let Ok((stream, peer)) = listener.accept() else { break };
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            accepting.arrived(stream, peer);
        }
    }
}

/// Out of descriptors or memory: the socket stays readable, so trying again at once would spin.
fn is_resource(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

impl<H: Handler> Accepting<H> {
    fn arrived(self: &Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Without it small writes of a stream wait for the peer's acknowledgement.
        let _ = stream.set_nodelay(true);
        let Ok(local) = stream.local_addr() else { return };
        if self.handler.is_proxied(self.listener, peer.ip()) {
            let Some(open) = self.admit(&stream, None) else { return };
            let accepting = Rc::clone(self);
            tokio::task::spawn_local(async move { accepting.introduced(stream, peer, local, open).await });
            return;
        }
        self.take(stream, peer, local);
    }

    /// Waits to be told whose connection it is.
    async fn introduced(&self, stream: TcpStream, peer: SocketAddr, local: SocketAddr, open: Open<H>) {
        let client = Rc::new(Client::new(self.listener, peer, local, self.clock.tick()));
        let ticket = self.registry.enter(Rc::clone(&client));
        let told = proxied::read(&stream, &client).await;
        drop((ticket, open));
        match told {
            Ok(told) => {
                let (peer, local) = told.map_or((peer, local), |told| (told.source, told.destination));
                self.take(stream, peer, local);
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                self.handler.unshaken(&client, HandshakeReason::ProxyHeader, Some(&error));
            }
            Err(_) => {}
        }
    }

    /// Counts a connection; one too many is answered and not served.
    fn admit(&self, stream: &TcpStream, peer: Option<IpAddr>) -> Option<Open<H>> {
        let settings = self.handler.settings(self.listener);
        let peer_counted = peer.filter(|_| settings.connections_per_ip > 0).map(|peer| peer.to_canonical());
        let open = Open::new(&self.handler, self.listener, peer_counted);
        let full = settings.connections > 0 && open.count > i64::from(settings.connections);
        if full || peer_counted.is_some() && open.of_peer > settings.connections_per_ip {
            self.handler.refused(RejectReason::Connections);
            // Best effort: a full listener owes nobody a wait.
            let _ = stream.try_write(FULL_ANSWER);
            return None;
        }
        Some(open)
    }

    fn take(&self, stream: TcpStream, peer: SocketAddr, local: SocketAddr) {
        let Some(open) = self.admit(&stream, Some(peer.ip())) else { return };
        let (settings, encryption) =
            (self.handler.settings(self.listener), self.handler.encryption(self.listener));
        let mut client = Client::new(self.listener, peer, local, self.clock.tick());
        client.secure = !matches!(encryption, Encryption::None);
        let client = Rc::new(client);
        let ticket = self.registry.enter(Rc::clone(&client));
        let serving = Serving { handler: Rc::clone(&self.handler), clock: Rc::clone(&self.clock), settings };
        tokio::task::spawn_local(async move {
            conn::serve(stream, client, serving, encryption).await;
            drop((ticket, open));
        });
    }
}

/// Counts a connection while it is open.
struct Open<H: Handler> {
    handler: Rc<H>,
    listener: usize,
    count: i64,
    /// The peer, where connections per address are bounded.
    peer: Option<IpAddr>,
    of_peer: u32,
}

impl<H: Handler> Open<H> {
    fn new(handler: &Rc<H>, listener: usize, peer: Option<IpAddr>) -> Self {
        let of_peer = peer.map_or(0, |peer| handler.peer(listener, peer, true));
        Self { handler: Rc::clone(handler), listener, count: handler.connections(listener, 1), peer, of_peer }
    }
}

impl<H: Handler> Drop for Open<H> {
    fn drop(&mut self) {
        self.handler.connections(self.listener, -1);
        if let Some(peer) = self.peer {
            self.handler.peer(self.listener, peer, false);
        }
    }
}
