//! Accepting clients: sockets, connections, their timeouts and their end.
//!
//! Generic over the handler that serves requests. It must never know what a route or an upstream
//! is, and never hold a buffer for a connection that is idle.

pub mod bind;
pub mod conn;
pub mod ending;
pub mod frames;
pub mod io;
pub mod listen;
pub mod proxied;
pub mod sweep;
pub mod tls;
pub mod transport;

use std::any::Any;
use std::future::Future;
use std::rc::Rc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;

use crate::model::Client;

pub use conn::{Encryption, Settings};
pub use transport::Transport;

/// Serves the requests of one worker's connections.
pub trait Handler: 'static {
    /// The response body.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + 'static;

    /// Serves one request; dropped when the client leaves.
    fn handle(
        self: Rc<Self>,
        client: Rc<Client>,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Passes bytes both ways until either side ends; `left` is what the last exchange left in its
    /// client's `tunnel`, `ahead` what was read of the client's bytes already. It ends itself when the
    /// client is told to by its `kill`.
    fn tunnel(
        self: Rc<Self>,
        left: Box<dyn Any>,
        stream: Transport,
        ahead: Bytes,
    ) -> impl Future<Output = ()>;

    /// A connection was ended for taking too long or not speaking HTTP.
    fn refused(&self, reason: crate::model::RejectReason);

    /// A connection was ended before its first request could come, by its peer's fault or for want of
    /// room; what the library said of it.
    fn unshaken(&self, client: &Client, reason: crate::model::HandshakeReason, said: Option<&std::io::Error>);

    /// Places of handshakes under way on the worker.
    fn handshakes(&self) -> &tokio::sync::Semaphore;

    /// Connections of a listener were opened or closed; gives how many are open in the process.
    fn connections(&self, listener: usize, by: i64) -> i64;

    /// A peer opened (true) or closed a connection; gives how many it has open on the listener.
    fn peer(&self, listener: usize, peer: std::net::IpAddr, opened: bool) -> u32;

    /// Whether and how connections of a listener are encrypted.
    fn encryption(&self, listener: usize) -> Encryption;

    /// Whether a peer begins its connections with the PROXY protocol.
    fn is_proxied(&self, listener: usize, peer: std::net::IpAddr) -> bool;

    /// How connections of a listener are served, as the plan in force says.
    fn settings(&self, listener: usize) -> Settings;
}
