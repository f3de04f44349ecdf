//! Loopback ports that no other test process will take between choosing and binding.
//!
//! A probe bind alone races with its neighbours, and the kernel hands out the ephemeral range to
//! outgoing connections, so ports come from below that range and are reserved by a file lock that
//! lasts as long as the test process. Nothing here may listen on anything but 127.0.0.1.

use std::fs::{self, File};
use std::net::TcpListener;
use std::sync::Mutex;

const LOWEST: u16 = 18_000;
const HIGHEST: u16 = 31_000;
const TRIES: usize = 2_000;

/// Locks of every port this process has reserved; dropped, and so released, at process exit.
static RESERVED: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port that was free a moment ago and that cooperating tests keep away from.
pub fn free_port() -> u16 {
    let folder = std::env::temp_dir().join("switchback-it-ports");
    fs::create_dir_all(&folder).expect("a folder for port locks");
    for _ in 0..TRIES {
        let port = fastrand::u16(LOWEST..HIGHEST);
        let Ok(lock) = File::create(folder.join(port.to_string())) else {
            continue;
        };
        if lock.try_lock().is_err() || TcpListener::bind(("127.0.0.1", port)).is_err() {
            continue;
        }
        RESERVED.lock().expect("port list").push(lock);
        return port;
    }
    panic!("no free loopback port between {LOWEST} and {HIGHEST}");
}
