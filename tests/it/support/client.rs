//! A small blocking HTTP/1.1 client that shows the wire: framing, connection reuse, early closes.
//!
//! A library client would pool, retry and hide exactly the faults these tests look for. It must
//! never retry, follow a redirect, or repair what the proxy sent.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// What is asked, built up by name.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub host: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

pub fn get(target: &str) -> Request {
    Request::new("GET", target)
}

pub fn post(target: &str, body: impl Into<Vec<u8>>) -> Request {
    Request { body: body.into(), ..Request::new("POST", target) }
}

impl Request {
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            host: "shop.test".to_owned(),
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    pub fn host(mut self, host: &str) -> Self {
        host.clone_into(&mut self.host);
        self
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The head as sent, without any framing header of its own.
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {}\r\n", self.method, self.target, self.host);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = self.head().into_bytes();
        if !self.body.is_empty() || self.method == "POST" {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// All lines of one header joined the way RFC 9110 allows, so that line folding is no difference.
    pub fn joined(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {} {:?}", self.status, self.text()))
    }

    /// The origin that answered, as it names itself; empty when the proxy answered by itself.
    pub fn origin(&self) -> &str {
        self.header("x-origin").unwrap_or("")
    }

    pub fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.to_ascii_lowercase().contains("close"))
    }

    #[track_caller]
    pub fn expect_status(self, status: u16) -> Self {
        assert_eq!(self.status, status, "unexpected status: {self:?}");
        self
    }
}

pub fn joined(headers: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<_> = headers
        .iter()
        .filter(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// One client connection; dropping it closes it.
pub struct Conn {
    wire: BufReader<Box<dyn Wire>>,
    framing: Framing,
    /// Trailers of the last chunked answer.
    pub trailers: Vec<(String, String)>,
    /// Interim answers skipped so far, by status.
    pub interims: Vec<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Framing {
    Done,
    Length(u64),
    Chunked,
    UntilClose,
}

impl Conn {
    pub fn open(addr: SocketAddr) -> Self {
        Self::try_open(addr).unwrap_or_else(|error| panic!("cannot connect to {addr}: {error}"))
    }

    /// From another loopback address, which is another client.
    pub fn open_from(local: [u8; 4], addr: SocketAddr) -> Self {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        socket.bind(&SocketAddr::from((local, 0)).into()).expect("bind another loopback address");
        socket.connect(&addr.into()).expect("connect");
        Self::tcp(socket.into()).expect("socket options")
    }

    pub fn try_open(addr: SocketAddr) -> io::Result<Self> {
        Self::tcp(TcpStream::connect_timeout(&addr, SOCKET_TIMEOUT)?)
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
        stream.set_write_timeout(Some(SOCKET_TIMEOUT))?;
        Ok(Self::over(Box::new(stream)))
    }

    pub fn open_unix(path: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(SOCKET_TIMEOUT))?;
        Ok(Self::over(Box::new(stream)))
    }

    fn over(wire: Box<dyn Wire>) -> Self {
        Self {
            wire: BufReader::with_capacity(64 * 1024, wire),
            framing: Framing::Done,
            trailers: Vec::new(),
            interims: Vec::new(),
        }
    }

    /// One request and its whole answer; an error is a connection that broke before the end of it.
    pub fn send(&mut self, request: &Request) -> io::Result<Response> {
        let mut response = self.begin(request)?;
        while let Some(piece) = self.piece()? {
            response.body.extend_from_slice(&piece);
        }
        Ok(response)
    }

    #[track_caller]
    pub fn ask(&mut self, request: &Request) -> Response {
        self.send(request).unwrap_or_else(|error| panic!("{} {}: {error}", request.method, request.target))
    }

    /// Sends the request and reads only the head of its answer.
    pub fn begin(&mut self, request: &Request) -> io::Result<Response> {
        let written = self.write(&request.encode());
        // A peer that refuses early stops reading; its answer is what counts then.
        self.read_head(&request.method).or_else(|error| written.and(Err(error)))
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let wire = self.wire.get_mut();
        wire.write_all(bytes)?;
        wire.flush()
    }

    pub fn write_chunk(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
        chunk.extend_from_slice(bytes);
        chunk.extend_from_slice(b"\r\n");
        self.write(&chunk)
    }

    /// Reads a head, skipping interim answers but a 101, and remembers how its body is framed.
    pub fn read_head(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let status_line = self.line()?;
            let status = status_line
                .split(' ')
                .nth(1)
                .and_then(|code| code.parse().ok())
                .ok_or_else(|| broken(format!("status line {status_line:?}")))?;
            let mut response = Response { status, ..Response::default() };
            loop {
                let line = self.line()?;
                let Some((name, value)) = line.split_once(':') else {
                    break;
                };
                response.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            if !(100..200).contains(&status) || status == 101 {
                self.framing = framing_of(method, &response);
                return Ok(response);
            }
            self.interims.push(status);
        }
    }

    /// The next bytes of the body as they arrive, or `None` at its proper end.
    pub fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        match self.framing {
            Framing::Done => Ok(None),
            Framing::Length(left) => {
                let piece = self.available(left)?;
                if piece.is_empty() {
                    return Err(broken(format!("closed {left} bytes before the end")));
                }
                self.framing = match left - piece.len() as u64 {
                    0 => Framing::Done,
                    left => Framing::Length(left),
                };
                Ok(Some(piece))
            }
            Framing::Chunked => self.chunk(),
            Framing::UntilClose => {
                let piece = self.available(u64::MAX)?;
                if piece.is_empty() {
                    self.framing = Framing::Done;
                    return Ok(None);
                }
                Ok(Some(piece))
            }
        }
    }

    fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let line = self.line()?;
        let size = line.split(';').next().unwrap_or_default();
        let size =
            usize::from_str_radix(size.trim(), 16).map_err(|_| broken(format!("chunk size {line:?}")))?;
        if size == 0 {
            self.trailers.clear();
            loop {
                let line = self.line()?;
                let Some((name, value)) = line.split_once(':') else { break };
                self.trailers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
            }
            self.framing = Framing::Done;
            return Ok(None);
        }
        let mut piece = vec![0; size];
        heard(self.wire.read_exact(&mut piece))?;
        self.line()?;
        Ok(Some(piece))
    }

    fn available(&mut self, limit: u64) -> io::Result<Vec<u8>> {
        let buffered = heard(self.wire.fill_buf())?;
        let size = usize::try_from(limit).unwrap_or(usize::MAX).min(buffered.len());
        let piece = buffered[..size].to_vec();
        self.wire.consume(size);
        Ok(piece)
    }

    /// The first frame of an HTTP/2 server, which must be its settings.
    pub fn http2_settings(&mut self) -> io::Result<BTreeMap<u16, u32>> {
        let mut head = [0; 9];
        self.wire.read_exact(&mut head)?;
        let [_, high, low, kind, ..] = head;
        if kind != 4 {
            return Err(broken(format!("the first frame is {head:?}")));
        }
        let mut payload = vec![0; usize::from(u16::from_be_bytes([high, low]))];
        self.wire.read_exact(&mut payload)?;
        let pair = |entry: &[u8]| {
            let id = u16::from_be_bytes([entry[0], entry[1]]);
            (id, u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
        };
        Ok(payload.chunks_exact(6).map(pair).collect())
    }

    /// One byte as it arrives.
    pub fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        heard(self.wire.read_exact(&mut byte))?;
        Ok(byte[0])
    }

    /// Everything until the peer ends the connection; a reset is an end too.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let _ = heard(self.wire.read_to_end(&mut bytes));
        bytes
    }

    fn line(&mut self) -> io::Result<String> {
        let mut bytes = Vec::new();
        heard(self.wire.read_until(b'\n', &mut bytes))?;
        if bytes.pop() != Some(b'\n') {
            return Err(broken(format!("closed in the middle of a line after {bytes:?}")));
        }
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// Silence is no end: a peer that says nothing for so long fails the test, whatever it waits for.
pub fn heard<T>(result: io::Result<T>) -> io::Result<T> {
    let silent =
        |error: &io::Error| matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
    assert!(!result.as_ref().is_err_and(silent), "the peer kept silent for {SOCKET_TIMEOUT:?}");
    result
}

fn framing_of(method: &str, response: &Response) -> Framing {
    let no_body = method == "HEAD" || matches!(response.status, 204 | 304);
    let chunked =
        response.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
    let length = response.header("content-length").and_then(|value| value.parse().ok());
    match (no_body, chunked, length) {
        (true, _, _) | (_, false, Some(0)) => Framing::Done,
        (_, true, _) => Framing::Chunked,
        (_, _, Some(length)) => Framing::Length(length),
        _ => Framing::UntilClose,
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, what)
}
