//! The process that replaces another: takes its sockets first and its state last.
//!
//! It must never read or write the state folder before it was told that it is its own, nor go on when
//! the old process ended without saying so.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::channel::Channel;
use super::{VARIABLE, VERSION, Word};
use crate::app::sockets::Found;

/// Sockets of one process at most.
const MAX_SOCKETS: usize = 64 << 10;

/// The way to the process that is to be replaced.
#[derive(Debug)]
pub struct Predecessor(Channel);

impl Predecessor {
    /// Finds it, if this process was started to replace another, and takes its sockets.
    ///
    /// # Errors
    /// It does not speak as it should, or ended.
    pub async fn find() -> io::Result<Option<(Self, Vec<Found>)>> {
        let Some(channel) = inherited()? else { return Ok(None) };
        let mut found = Vec::new();
        loop {
            let (word, fds) = channel.receive().await?;
            let Word::Sockets { labels, more } = word else { return Err(unexpected()) };
            if labels.len() != fds.len() || found.len() + fds.len() > MAX_SOCKETS {
                return Err(unexpected());
            }
            found.extend(labels.into_iter().zip(fds).map(|(label, fd)| Found::passed(label, fd)));
            if !more {
                return Ok(Some((Self(channel), found)));
            }
        }
    }

    /// Says that this process can take over, and waits until it may.
    ///
    /// # Errors
    /// The other process ended, or does not speak as it should.
    pub async fn able(&self) -> io::Result<()> {
        self.0.send(&Word::Able, &[]).await?;
        match self.0.receive().await?.0 {
            Word::Yours => Ok(()),
            _ => Err(unexpected()),
        }
    }

    /// Says that this process accepts.
    ///
    /// # Errors
    /// The other process ended; that it did changes nothing any more.
    pub async fn ready(self) -> io::Result<()> {
        self.0.send(&Word::Ready, &[]).await
    }
}

/// The end of the channel that is this process's standard input, when it is one: the variable may be
/// left over from a process further up.
fn inherited() -> io::Result<Option<Channel>> {
    let Ok(value) = std::env::var(VARIABLE) else { return Ok(None) };
    let Some((version, process)) = value.split_once(':') else { return Ok(None) };
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().to_string());
    if parent.as_deref() != Some(process) {
        return Ok(None);
    }
    if version != VERSION {
        return Err(io::Error::other(format!("it speaks version {version}, this program {VERSION}")));
    }
    let socket: OwnedFd = io::stdin().as_fd().try_clone_to_owned()?;
    // Nothing reads from it again, and the other end must see when this process lets go.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    Channel::of(socket).map(Some)
}

fn unexpected() -> io::Error {
    io::Error::other("the process to be replaced said something unexpected")
}
