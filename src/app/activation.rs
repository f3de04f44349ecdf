//! Sockets that systemd opened before it started us (`LISTEN_FDS`, sd_listen_fds(3)).
//!
//! They fit a listener by the name the unit gives them (`FileDescriptorName=`) or by their address. It
//! must never take descriptors that were meant for another process.

use std::os::fd::OwnedFd;

use listenfd::ListenFd;

use super::sockets::Found;

/// Takes them; to be called before any thread runs, for it changes the environment.
#[must_use]
pub fn sockets() -> Vec<Found> {
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut given = ListenFd::from_env();
    (0..given.len()).filter_map(|at| found(&mut given, at, names.next().unwrap_or_default())).collect()
}

fn found(given: &mut ListenFd, at: usize, name: &str) -> Option<Found> {
    let (socket, address): (OwnedFd, Option<String>) = match given.take_tcp_listener(at) {
        Ok(listener) => {
            let listener = listener?;
            let address = listener.local_addr().ok().map(|address| address.to_string());
            (listener.into(), address)
        }
        Err(_) => {
            let listener = given.take_unix_listener(at).ok()??;
            let path = listener.local_addr().ok();
            let path = path.and_then(|path| path.as_pathname().map(|path| path.display().to_string()));
            (listener.into(), path.map(|path| format!("unix:{path}")))
        }
    };
    Some(Found::activated(name.to_owned(), address.unwrap_or_default(), socket))
}
