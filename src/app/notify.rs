//! What systemd is told of our life (sd_notify(3)): ready, reloading, stopping, alive, who is in charge.
//!
//! It costs nothing where nobody listens. It must never fail or delay what it tells of.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// Says something, if somebody asked to hear it.
pub fn say(what: &str) {
    let Some(address) = std::env::var_os("NOTIFY_SOCKET").as_deref().and_then(address) else { return };
    let said = UnixDatagram::unbound().and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.send_to_addr(what.as_bytes(), &address)
    });
    if let Err(error) = said {
        tracing::debug!(%error, "the service manager cannot be told");
    }
}

/// Says that a reload begins, which the time must be said with, or how it ended.
pub fn reloading(done: Option<bool>) {
    match done {
        None => {
            let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
            let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1_000;
            say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
        }
        Some(true) => say("READY=1\nSTATUS=the configuration is in force"),
        Some(false) => say("READY=1\nSTATUS=the last configuration was refused"),
    }
}

/// Says again and again that we are alive, as often as the unit's `WatchdogSec=` asks for.
pub async fn keep_alive() {
    let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
    let every = std::env::var("WATCHDOG_USEC").ok().filter(|_| ours).and_then(|micros| period(&micros));
    let Some(every) = every else { return };
    let mut interval = tokio::time::interval(every);
    loop {
        interval.tick().await;
        say("WATCHDOG=1");
    }
}

/// Half of what is allowed, as the manual advises.
fn period(micros: &str) -> Option<Duration> {
    micros.parse().ok().filter(|micros| *micros > 1).map(|micros: u64| Duration::from_micros(micros / 2))
}

/// A path, or a name without a file when it begins with `@`.
fn address(written: &OsStr) -> Option<SocketAddr> {
    match written.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name).ok(),
        [b'/', ..] => SocketAddr::from_pathname(written).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_periods_as_systemd_writes_them() {
        let rows = [("/run/notify", true), ("@name", true), ("", false), ("run/notify", false)];
        for (written, good) in rows {
            assert_eq!(address(OsStr::new(written)).is_some(), good, "{written}");
        }
        assert_eq!(period("30000000"), Some(Duration::from_secs(15)));
        assert_eq!((period("0"), period("x")), (None, None));
    }
}
