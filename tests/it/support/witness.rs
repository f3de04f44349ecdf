//! An origin that keeps every request as it came and answers with the bytes it is told.
//!
//! It stands behind other servers and at the end of the chain, where values of any byte must be
//! compared (the recorder keeps text). It must never read a request it cannot frame: such a
//! connection is closed and counted, for the test to find.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::wire::{Message, Wire};

/// The bytes of an answer, each piece written by itself.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub pieces: Vec<Vec<u8>>,
    /// Whether the connection ends after it.
    pub close: bool,
}

pub struct Witness {
    pub addr: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Vec<Message>>,
    broken: Mutex<Vec<String>>,
    stopped: AtomicBool,
}

type Script = dyn Fn(&Message) -> Answer + Send + Sync;

impl Witness {
    pub fn start(script: impl Fn(&Message) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        let addr = listener.local_addr().expect("a bound address");
        let shared = Arc::new(Shared::default());
        let witness = Self { addr, shared: Arc::clone(&shared) };
        let script: Arc<Script> = Arc::new(script);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let (script, shared) = (Arc::clone(&script), Arc::clone(&shared));
                std::thread::spawn(move || serve(stream, &*script, &shared));
            }
        });
        witness
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Takes what has come so far.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut *self.shared.seen.lock().expect("seen"))
    }

    /// Requests that could not be read, in words.
    pub fn broken(&self) -> Vec<String> {
        self.shared.broken.lock().expect("broken").clone()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // The accept loop looks at the flag only when something connects.
        let _ = TcpStream::connect(self.addr);
    }
}

fn serve(stream: TcpStream, script: &Script, shared: &Shared) {
    let mut wire = Wire::over(stream);
    loop {
        let message = match wire.request() {
            Ok(Some(message)) => message,
            Ok(None) => return,
            Err(error) => return shared.broken.lock().expect("broken").push(error.to_string()),
        };
        let close = message.closes();
        let answer = script(&message);
        shared.seen.lock().expect("seen").push(message);
        for piece in &answer.pieces {
            if wire.write(piece).is_err() {
                return;
            }
        }
        if close || answer.close {
            return;
        }
    }
}
