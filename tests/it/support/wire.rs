//! HTTP/1.1 as bytes: messages as they stood on the wire, with the order of their lines kept.
//!
//! It exists because comparing two sides of a proxy needs every byte of a value and every line of a
//! repeated header, which a friendlier client folds away. It must never accept a message that is
//! framed wrongly, and never repair one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::client::heard;

const TIMEOUT: Duration = Duration::from_secs(30);
/// Longest line accepted, in bytes.
const MAX_LINE: u64 = 256 * 1024;
/// Most interim answers read before the final one.
const MAX_INTERIMS: usize = 64;

/// Header lines in order; names in lower case, values as bytes without outer blanks.
pub type Lines = Vec<(String, Vec<u8>)>;

/// One request or response.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The request line or status line without its end.
    pub start: String,
    pub headers: Lines,
    pub body: Vec<u8>,
    pub trailers: Lines,
    /// Whether its body came in chunks, or until the connection closed.
    pub framing: Framing,
    /// Status codes of interim answers before this one.
    pub interims: Vec<u16>,
}

/// How a body was delimited.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Message {
    /// A word of the start line: method, target, version; or version, status.
    pub fn word(&self, index: usize) -> &str {
        self.start.splitn(3, ' ').nth(index).unwrap_or("")
    }

    pub fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_else(|_| panic!("no status in {:?}", self.start))
    }

    /// The lines of one header, in order.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let lines = self.headers.iter().filter(|(known, _)| known == name);
        lines.map(|(_, value)| value.as_slice()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().and_then(|value| std::str::from_utf8(value).ok())
    }

    fn lists(&self, name: &str, token: &str) -> bool {
        let lines = self.all(name).into_iter().flat_map(|line| line.split(|byte| *byte == b','));
        lines.map(<[u8]>::trim_ascii).any(|item| item.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Whether its sender ends the connection after it.
    pub fn closes(&self) -> bool {
        self.lists("connection", "close")
            || self.framing == Framing::UntilClose
            || self.start.contains("HTTP/1.0")
    }
}

/// A connection of either side.
pub struct Wire {
    stream: BufReader<TcpStream>,
}

impl Wire {
    pub fn open(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).unwrap_or_else(|error| panic!("connect to {addr}: {error}"));
        Self::over(stream)
    }

    pub fn over(stream: TcpStream) -> Self {
        stream.set_nodelay(true).expect("nodelay");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a read timeout");
        stream.set_write_timeout(Some(TIMEOUT)).expect("a write timeout");
        Self { stream: BufReader::with_capacity(64 * 1024, stream) }
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends while reading the answer: a large echo needs both directions at once.
    pub fn exchange(&mut self, bytes: &[u8]) -> io::Result<Message> {
        let method =
            String::from_utf8_lossy(bytes.trim_ascii_start()).split(' ').next().unwrap_or("").to_owned();
        let mut writer = self.stream.get_ref().try_clone()?;
        std::thread::scope(|scope| {
            // A peer that answers early may stop reading; what it answered counts.
            scope.spawn(move || drop(writer.write_all(bytes)));
            self.response(&method)
        })
    }

    /// The next request, or `None` when the peer closed between two.
    pub fn request(&mut self) -> io::Result<Option<Message>> {
        // Some peers reset a connection they no longer want instead of closing it.
        if heard(self.stream.fill_buf()).map_or(true, <[u8]>::is_empty) {
            return Ok(None);
        }
        let mut start = self.line_or_end()?;
        while start.as_ref().is_some_and(Vec::is_empty) {
            start = self.line_or_end()?;
        }
        let Some(start) = start else { return Ok(None) };
        let mut message = self.head(&start)?;
        message.framing = match body_of(&message)? {
            Framing::UntilClose => Framing::None,
            framing => framing,
        };
        if message.lists("expect", "100-continue") {
            self.write(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.body(&mut message)?;
        Ok(Some(message))
    }

    /// The answer to a request of this method, interim answers noted.
    pub fn response(&mut self, method: &str) -> io::Result<Message> {
        let mut interims = Vec::new();
        loop {
            let start = self.line()?;
            let mut message = self.head(&start)?;
            let status = message.status();
            if (100..200).contains(&status) && status != 101 {
                interims.push(status);
                if interims.len() > MAX_INTERIMS {
                    return Err(wrong("too many interim answers"));
                }
                continue;
            }
            let bodiless = method == "HEAD" || matches!(status, 101 | 204 | 304);
            let framing = body_of(&message)?;
            message.framing = if bodiless { Framing::None } else { framing };
            self.body(&mut message)?;
            message.interims = interims;
            return Ok(message);
        }
    }

    fn head(&mut self, start: &[u8]) -> io::Result<Message> {
        let start = String::from_utf8_lossy(start).into_owned();
        Ok(Message { start, headers: self.lines()?, ..Message::default() })
    }

    fn lines(&mut self) -> io::Result<Lines> {
        let mut lines = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(lines);
            }
            let colon = line.iter().position(|byte| *byte == b':').ok_or_else(|| wrong("no colon"))?;
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            lines.push((name, trimmed(&line[colon + 1..]).to_vec()));
        }
    }

    fn body(&mut self, message: &mut Message) -> io::Result<()> {
        match message.framing {
            Framing::None => Ok(()),
            Framing::Length(size) => {
                let got = heard((&mut self.stream).take(size).read_to_end(&mut message.body))?;
                if (got as u64) < size { Err(wrong("closed before the end of a body")) } else { Ok(()) }
            }
            Framing::Chunked => self.chunks(message),
            Framing::UntilClose => heard(self.stream.read_to_end(&mut message.body)).map(drop),
        }
    }

    fn chunks(&mut self, message: &mut Message) -> io::Result<()> {
        loop {
            let line = self.line()?;
            let size = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
            let size = std::str::from_utf8(size).ok().and_then(|text| u64::from_str_radix(text, 16).ok());
            let size = size.ok_or_else(|| wrong("a chunk size that is no number"))?;
            if size == 0 {
                message.trailers = self.lines()?;
                return Ok(());
            }
            let got = heard((&mut self.stream).take(size).read_to_end(&mut message.body))?;
            if (got as u64) < size || !self.line()?.is_empty() {
                return Err(wrong("a chunk that does not end where it says"));
            }
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        self.line_or_end()?.ok_or_else(|| wrong("closed before a line"))
    }

    fn line_or_end(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut line = Vec::new();
        heard((&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line))?;
        if line.is_empty() {
            return Ok(None);
        }
        if !line.ends_with(b"\r\n") {
            return Err(wrong(format!("a line without its end: {}", line.escape_ascii())));
        }
        line.truncate(line.len() - 2);
        Ok(Some(line))
    }
}

/// RFC 9112 section 6.3, refusing what it calls ambiguous.
fn body_of(message: &Message) -> io::Result<Framing> {
    let lengths = message.all("content-length");
    let codings = message.all("transfer-encoding");
    match (codings.as_slice(), lengths.as_slice()) {
        ([], []) => Ok(Framing::UntilClose),
        ([coding], []) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        ([], [length]) => {
            let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
            length.map(Framing::Length).ok_or_else(|| wrong("a length that is no number"))
        }
        _ => Err(wrong(format!("ambiguous framing: {codings:?} {lengths:?}"))),
    }
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|byte| !blank(byte)).map_or(start, |at| at + 1);
    &bytes[start..end]
}

fn wrong(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}
