//! One new connection to an endpoint: address and socket options.
//!
//! Several addresses are tried one after the other, the next one early when one keeps silent (RFC 8305
//! section 5). It must never resolve a name: the resolver does that off the request path.

use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpStream;

use super::destinations::Spot;
use crate::plan::ConnectionSettings;

/// How long an address may keep silent before the next is tried as well.
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the first address that accepts, in their order; `failed` hears of every one that did
/// not.
///
/// # Errors
/// The last address' error; `NotFound` without addresses.
pub async fn connect(
    spots: &[Rc<Spot>],
    settings: &ConnectionSettings,
    failed: impl Fn(&Spot),
) -> io::Result<(Rc<Spot>, TcpStream)> {
    if let [only] = spots {
        let stream = TcpStream::connect(only.address).await.inspect_err(|_| failed(only))?;
        return Ok((Rc::clone(only), dress(stream, settings)?));
    }
    let mut left = spots.iter();
    let mut under_way = Vec::new();
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    loop {
        if let Some(spot) = left.next() {
            under_way.push((spot, Box::pin(attempt(spot.address))));
        }
        if under_way.is_empty() {
            return Err(last);
        }
        let more = left.len() > 0;
        let first = poll_fn(|cx| {
            let ready = under_way.iter_mut().enumerate().find_map(|(at, (_, attempt))| {
                match attempt.as_mut().poll(cx) {
                    Poll::Ready(result) => Some((at, result)),
                    Poll::Pending => None,
                }
            });
            ready.map_or(Poll::Pending, Poll::Ready)
        });
        tokio::select! {
            (at, result) = first => {
                let (spot, _) = under_way.swap_remove(at);
                match result {
                    Ok(stream) => return Ok((Rc::clone(spot), dress(stream, settings)?)),
                    Err(error) => {
                        failed(spot);
                        last = error;
                    }
                }
            }
            () = tokio::time::sleep(STAGGER), if more => {}
        }
    }
}

/// Connects to the first address that accepts, one after the other: for whoever is in no hurry.
///
/// # Errors
/// The last address' error; `NotFound` without addresses.
pub async fn connect_any(addresses: &[SocketAddr], settings: &ConnectionSettings) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return dress(stream, settings),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn attempt(address: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect(address).await
}

fn dress(stream: TcpStream, settings: &ConnectionSettings) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    if !settings.keepalive.0.is_zero() {
        let probes = socket2::TcpKeepalive::new().with_time(settings.keepalive.0);
        SockRef::from(&stream).set_tcp_keepalive(&probes)?;
    }
    Ok(stream)
}
