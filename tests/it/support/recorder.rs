//! An origin that keeps every byte it was sent, and answers by a script that sees each request.
//!
//! A library server hides what a proxy really wrote: repeated lines, two framings, an upload that
//! never ended. This one reads strictly, remembers whole and broken messages alike, and lets a test
//! answer early, late, wrongly or not at all. It must never repair or merge what it was sent.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// One request as it came over the wire.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// Every byte of it.
    pub raw: Vec<u8>,
    pub method: String,
    pub target: String,
    pub version: String,
    /// Header lines in their order, names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// Whether it came to its proper end.
    pub whole: bool,
}

impl Message {
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.values(name).first().copied()
    }

    /// Whether nobody could read its framing in two ways: one length or one `chunked`, one Host.
    pub fn is_canonical(&self) -> bool {
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        let length_fits = lengths.iter().all(|one| one.parse::<u64>().is_ok_and(|n| n.to_string() == **one));
        lengths.len() + codings.len() <= 1
            && length_fits
            && codings.iter().all(|coding| *coding == "chunked")
            && self.values("host").len() == 1
            && self.whole
    }
}

/// What becomes of the connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum After {
    Keep,
    Close,
    Reset,
    /// Says nothing more and waits for the proxy to end it.
    Hang,
}

/// One request being answered: its head has been read, its body not.
pub struct Exchange<'a> {
    tape: &'a mut Tape,
    pub message: Message,
    /// Where the tape stood before this request.
    from: usize,
    /// Where it is recorded, in which round of records.
    slot: Option<(usize, usize)>,
}

impl Exchange<'_> {
    /// Reads the body to its end; false when it broke off.
    pub fn read_body(&mut self) -> bool {
        if !self.message.whole {
            self.message.whole = self.tape.body(&mut self.message).is_ok();
        }
        self.message.whole
    }

    /// Records the request as far as it has come: before its answer, which a test waits for.
    fn record(&mut self) {
        self.message.raw = self.tape.bytes[self.from..self.tape.at].to_vec();
        let shared = Arc::clone(&self.tape.shared);
        let mut messages = shared.messages.lock().expect("messages");
        let round = shared.round.load(Ordering::SeqCst);
        match self.slot {
            Some((of, at)) if of == round => messages[at] = self.message.clone(),
            Some(_) => {}
            None => {
                messages.push(self.message.clone());
                self.slot = Some((round, messages.len() - 1));
            }
        }
    }

    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.record();
        self.tape.stream.write_all(bytes).is_ok()
    }

    /// Sends everything back that comes from now on, until the proxy ends it.
    pub fn echo(&mut self) {
        loop {
            let from = self.tape.at;
            self.tape.at = self.tape.bytes.len();
            let piece = self.tape.bytes[from..].to_vec();
            if self.tape.stream.write_all(&piece).is_err() || self.tape.more().is_err() {
                return;
            }
        }
    }

    /// A 200 that names the request it answers, so that a mixed-up answer shows.
    pub fn ok(&mut self) -> After {
        let text = format!("{} {}", self.message.method, self.message.target);
        let body = if self.message.method == "HEAD" { "" } else { text.as_str() };
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", text.len());
        if self.send(answer.as_bytes()) { After::Keep } else { After::Close }
    }
}

type Answer = dyn Fn(&mut Exchange<'_>) -> After + Send + Sync;

#[derive(Default)]
struct Shared {
    messages: Mutex<Vec<Message>>,
    /// Grows when the messages are forgotten.
    round: AtomicUsize,
    bytes: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
    stopped: AtomicBool,
}

/// A running recorder; dropping it stops accepting.
pub struct Recorder {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Recorder {
    /// Reads each request whole and answers [`Exchange::ok`].
    pub fn polite() -> Self {
        Self::start(|exchange| if exchange.read_body() { exchange.ok() } else { After::Close })
    }

    pub fn start(answer: impl Fn(&mut Exchange<'_>) -> After + Send + Sync + 'static) -> Self {
        Self::start_after_resets(0, answer)
    }

    /// The same, but the first connections are reset as soon as they are accepted.
    pub fn start_after_resets(
        resets: usize,
        answer: impl Fn(&mut Exchange<'_>) -> After + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let addr = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let (origin, answer) = (Self { addr, shared: Arc::clone(&shared) }, Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                if shared.connections.fetch_add(1, Ordering::SeqCst) < resets {
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    continue;
                }
                shared.open.fetch_add(1, Ordering::SeqCst);
                let (answer, shared) = (Arc::clone(&answer), Arc::clone(&shared));
                std::thread::spawn(move || {
                    serve(stream, &*answer, &shared);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        origin
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Requests in the order they were answered; a broken one is told when its connection ends.
    pub fn messages(&self) -> Vec<Message> {
        self.shared.messages.lock().expect("messages").clone()
    }

    #[track_caller]
    pub fn last(&self) -> Message {
        self.messages().pop().expect("no request reached the origin")
    }

    /// Bytes received on all connections.
    pub fn bytes(&self) -> usize {
        self.shared.bytes.load(Ordering::SeqCst)
    }

    /// Connections accepted since the start.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Forgets what was recorded.
    pub fn clear(&self) {
        let mut messages = self.shared.messages.lock().expect("messages");
        messages.clear();
        self.shared.round.fetch_add(1, Ordering::SeqCst);
        self.shared.bytes.store(0, Ordering::SeqCst);
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The accept loop looks at the flag only when something connects.
        let _ = TcpStream::connect(self.addr);
    }
}

fn serve(stream: TcpStream, answer: &Answer, shared: &Arc<Shared>) {
    let _ = stream.set_read_timeout(Some(SOCKET_TIMEOUT));
    let _ = stream.set_nodelay(true);
    let mut tape = Tape { stream, bytes: Vec::new(), at: 0, shared: Arc::clone(shared) };
    loop {
        let from = tape.at;
        let Ok(message) = tape.head() else {
            if tape.bytes.len() > from {
                let raw = tape.bytes[from..].to_vec();
                shared.messages.lock().expect("messages").push(Message { raw, ..Message::default() });
            }
            return;
        };
        let mut exchange = Exchange { tape: &mut tape, message, from, slot: None };
        let after = answer(&mut exchange);
        if after == After::Hang {
            exchange.record();
            let _ = exchange.tape.until_end();
            exchange.tape.at = exchange.tape.bytes.len();
        }
        exchange.record();
        let whole = exchange.message.whole;
        match after {
            After::Keep if whole => {}
            After::Reset => {
                let _ = socket2::SockRef::from(&tape.stream).set_linger(Some(Duration::ZERO));
                return;
            }
            After::Keep | After::Close | After::Hang => {
                let _ = tape.stream.shutdown(Shutdown::Write);
                return;
            }
        }
    }
}

/// A connection's bytes, read strictly and kept.
struct Tape {
    stream: TcpStream,
    bytes: Vec<u8>,
    at: usize,
    shared: Arc<Shared>,
}

impl Tape {
    fn more(&mut self) -> io::Result<()> {
        let mut piece = [0; 16 * 1024];
        let count = self.stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.shared.bytes.fetch_add(count, Ordering::SeqCst);
        self.bytes.extend_from_slice(&piece[..count]);
        Ok(())
    }

    fn until_end(&mut self) -> io::Result<()> {
        loop {
            self.more()?;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        loop {
            let rest = &self.bytes[self.at..];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = &rest[..end];
                let Some(line) = line.strip_suffix(b"\r").filter(|line| !line.contains(&b'\r')) else {
                    return Err(io::ErrorKind::InvalidData.into());
                };
                let line = line.iter().copied().map(char::from).collect();
                self.at += end + 1;
                return Ok(line);
            }
            self.more()?;
        }
    }

    fn take(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.bytes.len() - self.at < count {
            self.more()?;
        }
        let taken = self.bytes[self.at..self.at + count].to_vec();
        self.at += count;
        Ok(taken)
    }

    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(fields);
            }
            let (name, value) = line.split_once(':').ok_or(io::ErrorKind::InvalidData)?;
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn head(&mut self) -> io::Result<Message> {
        let start = self.line()?;
        let mut words = start.split(' ').map(str::to_owned);
        let mut word = || words.next().unwrap_or_default();
        let (method, target, version) = (word(), word(), word());
        let headers = self.fields()?;
        let mut message = Message { method, target, version, headers, ..Message::default() };
        message.whole = message.header("transfer-encoding").is_none()
            && message.header("content-length").is_none_or(|length| length == "0");
        Ok(message)
    }

    fn body(&mut self, message: &mut Message) -> io::Result<()> {
        if message.header("transfer-encoding").is_none() {
            let length = message.header("content-length").and_then(|length| length.parse().ok());
            message.body = self.take(length.ok_or(io::ErrorKind::InvalidData)?)?;
            return Ok(());
        }
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(&line, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                message.trailers = self.fields()?;
                return Ok(());
            }
            let piece = self.take(size)?;
            message.body.extend_from_slice(&piece);
            if !self.line()?.is_empty() {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
    }
}
