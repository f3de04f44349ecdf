//! Origins and clients that speak bytes, for peers that break the rules.
//!
//! A real HTTP library refuses to send garbage, to reset at the wrong moment or to stop in the
//! middle of a header. Scripts here are bounded: a connection does one thing and ends.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::client::heard;

const SOCKET_TIMEOUT: Duration = Duration::from_secs(30);

/// What a raw origin does with each connection after it has read a request head.
#[derive(Clone)]
pub enum Script {
    /// Sends these bytes, again for every further request, keeping the connection.
    Send(Vec<u8>),
    /// Sends these bytes and closes.
    SendAndClose(Vec<u8>),
    /// Sends these bytes and resets the connection.
    SendAndReset(Vec<u8>),
    /// Sends these bytes and an end, and keeps reading, as a polite server that refuses an upload.
    SendAndLinger(Vec<u8>),
    /// Sends these bytes and then nothing, keeping the connection open.
    SendAndHang(Vec<u8>),
}

pub struct RawOrigin {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    closed: AtomicUsize,
    stopped: AtomicBool,
}

impl RawOrigin {
    pub fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let addr = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let origin = Self { addr, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (script, shared) = (script.clone(), Arc::clone(&shared));
                std::thread::spawn(move || {
                    play(stream, &script, &shared.heads);
                    shared.closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        origin
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The request heads that arrived, byte for byte.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().expect("heads").clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Connections this side has ended; on loopback the peer's kernel knows by then.
    pub fn closed(&self) -> usize {
        self.shared.closed.load(Ordering::SeqCst)
    }
}

impl Drop for RawOrigin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The accept loop looks at the flag only when something connects.
        let _ = TcpStream::connect(self.addr);
    }
}

fn play(mut stream: TcpStream, script: &Script, heads: &Mutex<Vec<String>>) {
    let _ = stream.set_read_timeout(Some(SOCKET_TIMEOUT));
    while let Some(head) = read_head(&mut stream) {
        heads.lock().expect("heads").push(head);
        let (Script::Send(bytes)
        | Script::SendAndClose(bytes)
        | Script::SendAndReset(bytes)
        | Script::SendAndLinger(bytes)
        | Script::SendAndHang(bytes)) = script;
        if stream.write_all(bytes).is_err() {
            return;
        }
        match script {
            Script::Send(_) => {}
            Script::SendAndClose(_) => return,
            Script::SendAndReset(_) => {
                let socket = socket2::SockRef::from(&stream);
                let _ = socket.set_linger(Some(Duration::ZERO));
                return;
            }
            Script::SendAndLinger(_) => {
                let _ = stream.shutdown(Shutdown::Write);
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
                return;
            }
            Script::SendAndHang(_) => {
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
                return;
            }
        }
    }
}

fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// Sends raw bytes and returns everything until the peer closes.
pub fn exchange(addr: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).expect("connect");
    stream.set_read_timeout(Some(SOCKET_TIMEOUT)).expect("a read timeout");
    stream.write_all(bytes).expect("send");
    let mut answer = Vec::new();
    // A reset after the answer is still an answer; silence is not.
    let _ = heard(stream.read_to_end(&mut answer));
    String::from_utf8_lossy(&answer).into_owned()
}

/// An address nobody listens on: reserved, so that it stays refused for the whole test.
pub fn refused() -> String {
    format!("http://127.0.0.1:{}", super::ports::free_port())
}
