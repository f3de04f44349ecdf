//! An HTTP/2 client that writes any frame, for what a library refuses to send.
//!
//! Header blocks are literals without indexing or Huffman coding (RFC 7541 section 6.2.2), so that a
//! row can say exactly which bytes arrive. It must never validate what it sends.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::client::heard;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

/// How one stream ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum End {
    /// An answer of this status, to its end.
    Status(u16),
    /// Reset with this code; a status may have come before.
    Reset(u32),
    /// The connection was ended with this code.
    GoAway(u32),
    /// The connection was closed without a word.
    Closed,
}

#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub struct H2Raw {
    wire: TcpStream,
    next: u32,
}

impl H2Raw {
    /// Connects and exchanges settings; our table size of 0 keeps answers readable.
    pub fn open(addr: SocketAddr) -> Self {
        let mut raw = Self::connect(addr);
        raw.write(PREFACE);
        raw.frame(SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0]);
        raw
    }

    /// Connects and says nothing.
    pub fn connect(addr: SocketAddr) -> Self {
        let wire = TcpStream::connect(addr).expect("connect");
        wire.set_nodelay(true).expect("no delay");
        wire.set_read_timeout(Some(SOCKET_TIMEOUT)).expect("a read timeout");
        Self { wire, next: 1 }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // The peer may have ended the connection: what it said is read later.
        let _ = self.wire.write_all(bytes);
    }

    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
        let mut bytes = vec![length[1], length[2], length[3], kind, flags];
        bytes.extend_from_slice(&stream.to_be_bytes());
        bytes.extend_from_slice(payload);
        self.write(&bytes);
    }

    /// Opens a stream with these fields, pseudo-fields included.
    pub fn open_stream(&mut self, fields: &[(&[u8], &[u8])], end: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.frame(HEADERS, flags, stream, &block(fields));
        stream
    }

    pub fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        self.frame(DATA, if end { END_STREAM } else { 0 }, stream, bytes);
    }

    pub fn trailers(&mut self, stream: u32, fields: &[(&[u8], &[u8])]) {
        self.frame(HEADERS, END_HEADERS | END_STREAM, stream, &block(fields));
    }

    /// The next frame; `None` at the end of the connection.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        heard(self.wire.read_exact(&mut head)).ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let mut payload = vec![0; length];
        heard(self.wire.read_exact(&mut payload)).ok()?;
        if head[3] == SETTINGS && head[4] & ACK == 0 {
            self.frame(SETTINGS, ACK, 0, &[]);
        }
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Reads until one stream is over; the body of its answer comes along.
    pub fn end_of(&mut self, stream: u32) -> (End, Vec<u8>) {
        let (mut status, mut body) = (0, Vec::new());
        while let Some(frame) = self.next_frame() {
            let code = |from: usize| {
                let at = frame.payload.get(from..from + 4).expect("an error code");
                u32::from_be_bytes([at[0], at[1], at[2], at[3]])
            };
            match frame.kind {
                GOAWAY if code(4) != 0 => return (End::GoAway(code(4)), body),
                RST_STREAM if frame.stream == stream => return (End::Reset(code(0)), body),
                HEADERS if frame.stream == stream && status == 0 => status = status_of(&frame.payload),
                DATA if frame.stream == stream => {
                    body.extend_from_slice(&frame.payload);
                    let given = u32::try_from(frame.payload.len()).expect("a frame").to_be_bytes();
                    if !frame.payload.is_empty() {
                        self.frame(WINDOW_UPDATE, 0, 0, &given);
                    }
                }
                _ => {}
            }
            if frame.stream == stream && frame.flags & END_STREAM != 0 && matches!(frame.kind, DATA | HEADERS)
            {
                return (End::Status(status), body);
            }
        }
        (End::Closed, body)
    }

    /// Waits for the peer to end the connection; gives the last GOAWAY's code, if one came.
    pub fn ended(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next_frame() {
            if frame.kind == GOAWAY {
                let at = frame.payload.get(4..8).expect("an error code");
                code = Some(u32::from_be_bytes([at[0], at[1], at[2], at[3]]));
            }
        }
        code
    }

    /// Whether the connection still answers.
    pub fn is_alive(&mut self) -> bool {
        self.frame(PING, 0, 0, b"are you?");
        while let Some(frame) = self.next_frame() {
            if frame.kind == PING && frame.flags & ACK != 0 {
                return true;
            }
        }
        false
    }
}

/// The fields of an ordinary request, to be changed by a row.
pub fn request<'a>(method: &'a str, authority: &'a str, path: &'a str) -> Vec<(&'a [u8], &'a [u8])> {
    vec![
        (b":method", method.as_bytes()),
        (b":scheme", b"http"),
        (b":authority", authority.as_bytes()),
        (b":path", path.as_bytes()),
    ]
}

/// A header block of literals.
pub fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            length(&mut bytes, text.len());
            bytes.extend_from_slice(text);
        }
    }
    bytes
}

/// An integer with a prefix of 7 bits (RFC 7541 section 5.1).
fn length(bytes: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        bytes.push(u8::try_from(length).expect("below 127"));
        return;
    };
    bytes.push(127);
    while rest >= 128 {
        bytes.push(u8::try_from(rest % 128).expect("7 bits") | 128);
        rest /= 128;
    }
    bytes.push(u8::try_from(rest).expect("7 bits"));
}

/// The status an answer's header block begins with (RFC 7541 appendices A and B).
fn status_of(block: &[u8]) -> u16 {
    // A change of the table size may come first.
    let block = &block[block.iter().take_while(|byte| **byte & 0xe0 == 0x20).count()..];
    match block {
        [first @ 0x88..=0x8e, ..] => [200, 204, 206, 304, 400, 404, 500][usize::from(first - 0x88)],
        [0x08 | 0x18 | 0x48, length, rest @ ..] => {
            let text = &rest[..usize::from(length & 0x7f)];
            let text = if length & 0x80 == 0 { text.to_vec() } else { digits(text) };
            String::from_utf8_lossy(&text).parse().expect("a status")
        }
        other => panic!("no status in {other:?}"),
    }
}

/// Decodes the Huffman codes of three digits: 0 to 2 have 5 bits, the others 6.
fn digits(bytes: &[u8]) -> Vec<u8> {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1));
    let mut take = |count| (0..count).fold(0, |all, _| all << 1 | bits.next().unwrap_or(1));
    (0..3)
        .map(|_| match take(5) {
            short @ 0..=2 => b'0' + short,
            // The codes of 3 to 9 are 0x19 to 0x1f.
            long => b'3' + (long << 1 | take(1)) - 0x19,
        })
        .collect()
}
