//! The PROXY protocol, versions 1 and 2: whose connection it is, as a load balancer says.
//!
//! Read before anything else, from listed peers alone, within a deadline. Not one byte beyond the
//! header may be taken: what follows is TLS or HTTP.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, Protocol, ProxyHeader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::tls::unless_killed;
use crate::model::Client;

/// From accept to the header's end.
const DEADLINE: Duration = Duration::from_secs(5);
/// Longest header of version 1, with its line end.
const MAX_V1: usize = 107;
/// Longest header of version 2: addresses and what else balancers add.
const MAX_V2: usize = 4 << 10;
/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The part of version 2 that says how long it is.
const FIXED_V2: usize = 16;

/// The two ends of a connection as the balancer saw them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// The client's.
    pub source: SocketAddr,
    /// The one it connected to.
    pub destination: SocketAddr,
}

/// Reads the header. Gives what was told; `None` within where the balancer speaks for itself.
///
/// # Errors
/// There is no header, it is wrong, or it did not come in time.
pub async fn read(stream: &TcpStream, client: &Client) -> io::Result<Option<Told>> {
    let reading = unless_killed(client, read_header(stream));
    match timeout(DEADLINE, reading).await {
        Ok(Some(read)) => parse(&read?),
        _ => Err(io::Error::from(io::ErrorKind::TimedOut)),
    }
}

async fn read_header(stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut have: Vec<u8> = Vec::with_capacity(MAX_V1);
    let mut piece = [0_u8; 1024];
    loop {
        let want = wanted(&have)?;
        if want == 0 {
            return Ok(have);
        }
        let room = want.min(piece.len());
        let seen = poll_fn(|cx| {
            let mut buffer = tokio::io::ReadBuf::new(&mut piece[..room]);
            stream.poll_peek(cx, &mut buffer)
        });
        let seen = seen.await?;
        if seen == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // A line ends where it ends: what follows is not ours.
        let line = have.first().or(piece.first()) == Some(&b'P');
        let end = piece[..seen].iter().position(|byte| *byte == b'\n').filter(|_| line);
        let take = end.map_or(seen, |at| at + 1);
        let count = stream.try_read(&mut piece[..take])?;
        have.extend_from_slice(&piece[..count]);
    }
}

/// How many bytes at most the header still needs; 0 when it is whole.
fn wanted(have: &[u8]) -> io::Result<usize> {
    let wrong = || Err(io::Error::from(io::ErrorKind::InvalidData));
    if have.is_empty() {
        return Ok(FIXED_V2);
    }
    if have.first() == Some(&b'P') {
        let starts = have.len().min(6);
        return match have.last() {
            _ if have[..starts] != b"PROXY "[..starts] => wrong(),
            Some(b'\n') => Ok(0),
            _ if have.len() >= MAX_V1 => wrong(),
            _ => Ok(MAX_V1 - have.len()),
        };
    }
    let starts = have.len().min(SIGNATURE.len());
    if have[..starts] != SIGNATURE[..starts] {
        return wrong();
    }
    let (Some(high), Some(low)) = (have.get(14), have.get(15)) else { return Ok(FIXED_V2 - have.len()) };
    let whole = FIXED_V2 + usize::from(u16::from_be_bytes([*high, *low]));
    if whole > MAX_V2 { wrong() } else { Ok(whole.saturating_sub(have.len())) }
}

fn parse(header: &[u8]) -> io::Result<Option<Told>> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    let (parsed, _) = ProxyHeader::parse(header, config)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    // What a balancer took in over UDP did not come to us over TCP: such addresses are not believed, and
    // the connection is its own, as HAProxy has it.
    let told = parsed.proxied_address().filter(|told| told.protocol == Protocol::Stream);
    Ok(told.map(|told| Told { source: told.source, destination: told.destination }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, length: u16) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(length.to_be_bytes());
        header
    }

    /// Command, family, addresses, and what is believed of them.
    type Row<'a> = (u8, u8, &'a [u8], Option<Option<SocketAddr>>);

    #[test]
    fn addresses_are_believed_of_tcp_alone() {
        let four = [192, 0, 2, 7, 10, 0, 0, 1, 0x12, 0x34, 1, 187];
        let mut six = [0; 36];
        (six[0], six[15]) = (0x20, 7);
        // What it says: `None` is nothing that can be understood, `Some(None)` the connection's own ends.
        let told = |source: &str| Some(Some(source.parse::<SocketAddr>().unwrap()));
        let own = Some(None);
        let rows: [Row<'_>; 12] = [
            (0x21, 0x11, &four, told("192.0.2.7:4660")),
            (0x21, 0x21, &six, told("[2000::7]:0")),
            (0x21, 0x12, &four, own),
            (0x21, 0x22, &six, own),
            (0x21, 0x31, &[0; 216], own),
            (0x21, 0x00, &[], own),
            (0x20, 0x11, &four, own),
            (0x20, 0x12, &four, own),
            // Reserved families, commands and versions.
            (0x21, 0x13, &four, None),
            (0x21, 0x41, &four, None),
            (0x22, 0x11, &four, None),
            (0x11, 0x11, &four, None),
        ];
        for (command, family, rest, expected) in rows {
            let length = u16::try_from(rest.len()).unwrap();
            let header = [v2(command, family, length), rest.to_vec()].concat();
            let read = parse(&header).ok().map(|told| told.map(|told| told.source));
            assert_eq!(read, expected, "{command:#x} {family:#x}");
        }
    }

    #[test]
    fn not_a_byte_more_than_the_header_is_wanted() {
        let v2 = |length: u16| v2(0x21, 0x11, length);
        let rows: [(&[u8], Option<usize>); 12] = [
            (b"", Some(16)),
            (b"P", Some(106)),
            (b"PROXY UNKNOWN\r\n", Some(0)),
            (b"PROXX", None),
            (b"GET / HTTP/1.1\r\n", None),
            (&[b'P'; 107], None),
            (&SIGNATURE[..5], Some(11)),
            (SIGNATURE, Some(4)),
            (&v2(12), Some(12)),
            (&v2(0), Some(0)),
            (&v2(5000), None),
            (b"\r\n\r\nX", None),
        ];
        for (have, expected) in rows {
            assert_eq!(wanted(have).ok(), expected, "{have:?}");
        }
    }
}
