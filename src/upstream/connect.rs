//! One new connection to an endpoint: address and socket options.
//!
//! It must never resolve a name: the resolver does that off the request path.

use std::io;
use std::net::SocketAddr;

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::plan::ConnectionSettings;

/// Connects to the first address that accepts, in turn from `start`.
///
/// # Errors
/// The last address' error; `NotFound` without addresses.
pub async fn connect(
    addresses: &[SocketAddr],
    start: usize,
    settings: &ConnectionSettings,
) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for step in 0..addresses.len() {
        let Some(address) = addresses.get((start + step) % addresses.len()) else { continue };
        match TcpStream::connect(address).await {
            Ok(stream) => return dress(stream, settings),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn dress(stream: TcpStream, settings: &ConnectionSettings) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    if !settings.keepalive.0.is_zero() {
        let probes = socket2::TcpKeepalive::new().with_time(settings.keepalive.0);
        SockRef::from(&stream).set_tcp_keepalive(&probes)?;
    }
    Ok(stream)
}
