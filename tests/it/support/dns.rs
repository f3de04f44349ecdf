//! A name server of a test: A records over UDP on loopback, changed while it runs.
//!
//! It answers what the test said and nothing else, and counts who asked. It must never ask anybody.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Largest question that is read.
const PACKET: usize = 512;
/// How long it may sleep before it looks whether it is to end.
const LOOK: Duration = Duration::from_millis(50);

/// What is answered for one name.
#[derive(Clone)]
pub enum Says {
    /// These addresses, for so many seconds.
    Addresses(Vec<Ipv4Addr>, u32),
    /// An error: 2 is SERVFAIL, 3 is NXDOMAIN.
    Code(u8),
}

pub struct NameServer {
    pub addr: SocketAddr,
    names: Arc<Mutex<HashMap<String, Says>>>,
    asked: Arc<AtomicUsize>,
    /// Datagrams of nobody's question sent before each answer.
    noise: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl NameServer {
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a loopback port for a name server");
        socket.set_read_timeout(Some(LOOK)).expect("a timeout");
        let addr = socket.local_addr().expect("a bound address");
        let names: Arc<Mutex<HashMap<String, Says>>> = Arc::default();
        let (asked, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (known, count, ended) = (Arc::clone(&names), Arc::clone(&asked), Arc::clone(&stop));
        let noise = Arc::<AtomicUsize>::default();
        let noisy = Arc::clone(&noise);
        let thread = std::thread::spawn(move || {
            let mut packet = [0; PACKET];
            while !ended.load(Ordering::SeqCst) {
                let Ok((length, from)) = socket.recv_from(&mut packet) else { continue };
                count.fetch_add(1, Ordering::SeqCst);
                if let Some(answer) = answer(&packet[..length], &known.lock().expect("names")) {
                    let mut wrong = answer.clone();
                    for _ in 0..noisy.load(Ordering::SeqCst) {
                        wrong[0] = wrong[0].wrapping_add(1);
                        let _ = socket.send_to(&wrong, from);
                    }
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self { addr, names, asked, noise, stop, thread: Some(thread) }
    }

    pub fn says(&self, name: &str, says: Says) {
        self.names.lock().expect("names").insert(name.to_owned(), says);
    }

    pub fn has(&self, name: &str, addresses: &[Ipv4Addr]) {
        self.says(name, Says::Addresses(addresses.to_vec(), 1));
    }

    /// Sends so many datagrams with another question's number before each answer.
    pub fn makes_noise(&self, datagrams: usize) {
        self.noise.store(datagrams, Ordering::SeqCst);
    }

    /// Questions so far.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().map(JoinHandle::join);
    }
}

/// The answer to a question with one name (RFC 1035 section 4).
fn answer(question: &[u8], names: &HashMap<String, Says>) -> Option<Vec<u8>> {
    let (mut at, mut labels) = (12, Vec::new());
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
    let is_a = question.get(at..at + 2)? == [0, 1];
    let end = at + 4;
    let (code, addresses, ttl) = match names.get(&labels.join(".")) {
        Some(Says::Addresses(addresses, ttl)) => (0, addresses.as_slice(), *ttl),
        Some(Says::Code(code)) => (*code, [].as_slice(), 0),
        None => (3, [].as_slice(), 0),
    };
    let addresses = if is_a { addresses } else { &[] };
    let count = u16::try_from(addresses.len()).ok()?.to_be_bytes();
    let mut answer = question.get(..2)?.to_vec();
    answer.extend([0x81, 0x80 | code, 0, 1, count[0], count[1], 0, 0, 0, 0]);
    answer.extend(question.get(12..end)?);
    for address in addresses {
        answer.extend([0xc0, 12, 0, 1, 0, 1]);
        answer.extend(ttl.to_be_bytes());
        answer.extend([0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}
