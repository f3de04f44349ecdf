//! An origin that comes and goes on one port: there, gone as if killed, silent, or cutting answers off.
//!
//! It writes down the head of every request it could have acted on, answered or not, and counts those
//! it left without a whole answer. It must never answer two heads on a connection at once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::ports::free_port;
use super::wait::eventually;

/// How soon a thread sees that the mode is another.
const LOOK: Duration = Duration::from_millis(5);
const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nx-origin: flapper\r\ncontent-length: 4\r\n\r\nwell";

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    Up,
    /// Nobody listens, and every connection was reset: what is left of a process that was killed.
    Gone,
    /// Reads and says nothing.
    Silent,
    /// Resets after so many bytes of each answer.
    Cut(usize),
}

impl Mode {
    /// Before a byte, in the status line, in the head, after the head, in the body.
    pub const CUTS: [Self; 5] =
        [Self::Cut(0), Self::Cut(9), Self::Cut(30), Self::Cut(WHOLE.len() - 4), Self::Cut(WHOLE.len() - 2)];
}

pub struct Flapper {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    mode: Mutex<Mode>,
    /// Counts changes of the mode.
    turn: AtomicUsize,
    listening: AtomicBool,
    stopped: AtomicBool,
    open: AtomicUsize,
    heads: Mutex<Vec<String>>,
    answered: AtomicUsize,
}

impl Flapper {
    pub fn start() -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let shared = Arc::new(Shared {
            mode: Mutex::new(Mode::Up),
            turn: AtomicUsize::default(),
            listening: AtomicBool::default(),
            stopped: AtomicBool::default(),
            open: AtomicUsize::default(),
            heads: Mutex::default(),
            answered: AtomicUsize::default(),
        });
        let own = Arc::clone(&shared);
        let thread = std::thread::spawn(move || accept(addr, &own));
        let flapper = Self { addr, shared, thread: Some(thread) };
        flapper.becomes(Mode::Up);
        flapper
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Becomes so, and has become so on return; gives the connections open before, which it resets.
    pub fn becomes(&self, mode: Mode) -> usize {
        let open = self.shared.open.load(Ordering::SeqCst);
        *self.shared.mode.lock().expect("mode") = mode;
        self.shared.turn.fetch_add(1, Ordering::SeqCst);
        eventually("it listens or does not", || {
            self.shared.listening.load(Ordering::SeqCst) == (mode != Mode::Gone)
        });
        open
    }

    /// Heads of requests it read, in no order.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("heads").clone()
    }

    /// Requests it answered whole.
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::SeqCst)
    }
}

impl Drop for Flapper {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}

impl Shared {
    fn mode(&self) -> Mode {
        *self.mode.lock().expect("mode")
    }

    fn is_over(&self, turn: usize) -> bool {
        self.turn.load(Ordering::SeqCst) != turn || self.stopped.load(Ordering::SeqCst)
    }
}

fn accept(addr: SocketAddr, shared: &Arc<Shared>) {
    let mut listener: Option<TcpListener> = None;
    while !shared.stopped.load(Ordering::SeqCst) {
        if shared.mode() == Mode::Gone {
            listener = None;
        } else if listener.is_none() {
            // Somebody who looks for a free port may have it for a moment.
            listener = TcpListener::bind(addr).ok();
            let blocking = listener.as_ref().map(|bound| bound.set_nonblocking(true));
            blocking.transpose().expect("a listener that does not block");
        }
        shared.listening.store(listener.is_some(), Ordering::SeqCst);
        match listener.as_ref().map(TcpListener::accept) {
            Some(Ok((stream, _))) => {
                let shared = Arc::clone(shared);
                shared.open.fetch_add(1, Ordering::SeqCst);
                std::thread::spawn(move || {
                    let _ = serve(stream, &shared);
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
            _ => std::thread::sleep(LOOK / 5),
        }
    }
}

/// Serves until the mode changes; then reads what is there already, and resets.
fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let turn = shared.turn.load(Ordering::SeqCst);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let over = shared.is_over(turn);
        match stream.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(count) => read.extend_from_slice(&piece[..count]),
            Err(_) if over => return Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        let Some(end) = whole(&read) else { continue };
        let head = String::from_utf8_lossy(&read[..end]).into_owned();
        read.drain(..end);
        shared.heads.lock().expect("heads").push(head);
        match shared.mode() {
            _ if over => return Ok(()),
            Mode::Up => {
                stream.write_all(WHOLE)?;
                shared.answered.fetch_add(1, Ordering::SeqCst);
            }
            Mode::Cut(count) => {
                stream.write_all(&WHOLE[..count])?;
                // Sent bytes that nobody read yet go with a reset, on loopback too.
                std::thread::sleep(LOOK);
                return Ok(());
            }
            Mode::Gone | Mode::Silent => {}
        }
    }
}

/// Where the first request ends, if all of it is there.
fn whole(read: &[u8]) -> Option<usize> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&read[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let end = end + length.unwrap_or(0);
    (read.len() >= end).then_some(end)
}
