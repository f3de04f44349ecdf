//! Binding: one socket per worker on the same address, and a second instance that cannot share it.
//!
//! SO_REUSEPORT lets the kernel spread connections over workers; it would also let another process
//! take half of them silently, so the address is first bound without it. It must never be called
//! after start: reloads do not touch sockets.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

/// Connections the kernel queues before they are accepted.
const BACKLOG: i32 = 4096;

/// Binds `count` listening sockets to one address; port 0 takes a free port for all of them.
///
/// # Errors
/// The system's error when the address is taken by any socket or cannot be bound.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<Vec<TcpListener>> {
    let probe = socket(address)?;
    probe.bind(&address.into())?;
    probe.listen(1)?;
    let taken = probe.local_addr()?.as_socket().unwrap_or(address);
    drop(probe);
    (0..count).map(|_| bind_shared(taken)).collect()
}

/// Binds one socket that nobody shares.
///
/// # Errors
/// The system's error when the address is taken or cannot be bound.
pub fn bind_alone(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Has the kernel ignore who begins to connect from now on: those who began before can be accepted, and
/// then the socket closes without resetting anybody. Who is ignored asks again after a second and is
/// refused, or finds another process.
///
/// To be called of sockets that no other process has: theirs would be ignored as well, for ever.
///
/// # Errors
/// The system's, where it has no such filters.
pub fn close_door(socket: &impl AsFd) -> io::Result<()> {
    // Classic BPF over the TCP header (socket(7), RFC 9293 3.1): SYN without ACK is dropped.
    const FLAGS: u32 = 13;
    const SYN: u32 = 0x02;
    const SYN_ACK: u32 = 0x12;
    SockRef::from(socket).attach_filter(&[
        SockFilter::new(0x30, 0, 0, FLAGS),
        SockFilter::new(0x54, 0, 0, SYN_ACK),
        SockFilter::new(0x15, 0, 1, SYN),
        SockFilter::new(0x06, 0, 0, 0),
        SockFilter::new(0x06, 0, 0, u32::MAX),
    ])
}

/// At least `count` sockets out of some that listen already: more are bound beside them where the
/// system shares their address, else the same ones are accepted from by several workers.
///
/// # Errors
/// The system's.
pub fn enough(mut listening: Vec<TcpListener>, count: usize) -> io::Result<Vec<TcpListener>> {
    let given = listening.len();
    while listening.len() < count {
        let Some(one) = listening.get(listening.len() % given.max(1)) else { break };
        let more = if SockRef::from(one).reuse_port().unwrap_or(false) {
            bind_shared(one.local_addr()?)
        } else {
            one.try_clone()
        };
        listening.push(more?);
    }
    Ok(listening)
}

fn bind_shared(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn behind_a_closed_door_nobody_is_reset() {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 1).unwrap().remove(0);
        let address = listener.local_addr().unwrap();
        let early = TcpStream::connect(address).unwrap();
        close_door(&listener).unwrap();
        let soon = Duration::from_millis(50);
        assert_eq!(TcpStream::connect_timeout(&address, soon).unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (mut served, _) = listener.accept().unwrap();
        drop(listener);
        served.write_all(b"x").unwrap();
        assert_eq!((&early).read(&mut [0; 1]).unwrap(), 1);
        assert_eq!(TcpStream::connect(address).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_second_instance_cannot_share_the_port() {
        let first = bind(SocketAddr::from(([127, 0, 0, 1], 0)), 2).unwrap();
        let address = first[0].local_addr().unwrap();
        assert_eq!(first[1].local_addr().unwrap(), address);
        assert_eq!(bind(address, 2).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(bind_alone(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
