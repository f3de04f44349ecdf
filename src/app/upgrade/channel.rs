//! The UNIX socket between the old process and the new one: words with descriptors beside them.
//!
//! Packets keep their borders, so a word is a message; the runtime knows no such sockets and is told it is
//! a stream, which changes nothing for it. It must never block its runtime, and a peer
//! that ended is an error.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::Word;

/// Descriptors in one message; the system allows 253.
pub const BATCH: usize = 64;
/// Longest word in bytes.
const MAX_WORD: usize = 64 << 10;

/// One end.
#[derive(Debug)]
pub struct Channel(UnixStream);

impl Channel {
    /// This end, and the descriptor of the other one.
    ///
    /// # Errors
    /// The system's.
    pub fn pair() -> io::Result<(Self, OwnedFd)> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self::of(ours)?, theirs))
    }

    /// An end that came from elsewhere. It does not block: whoever made the pair saw to that.
    ///
    /// # Errors
    /// The system's.
    pub fn of(socket: OwnedFd) -> io::Result<Self> {
        UnixStream::from_std(socket.into()).map(Self)
    }

    /// Says a word, with descriptors.
    ///
    /// # Errors
    /// The other end is gone, or the word is too long.
    pub async fn send(&self, word: &Word, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(word)?;
        if text.len() > MAX_WORD || fds.len() > BATCH {
            return Err(io::Error::other("too much for one message"));
        }
        let say = || {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = SendAncillaryBuffer::new(&mut room);
            if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
                return Err(io::Error::other("no room for descriptors"));
            }
            sendmsg(self.0.as_fd(), &[IoSlice::new(&text)], &mut control, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, say).await
    }

    /// Hears the next word.
    ///
    /// # Errors
    /// The other end is gone, or is not one of ours.
    pub async fn receive(&self) -> io::Result<(Word, Vec<OwnedFd>)> {
        let mut text = vec![0; MAX_WORD];
        let hear = || {
            let mut room = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
            let mut control = RecvAncillaryBuffer::new(&mut room);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let heard = recvmsg(self.0.as_fd(), &mut [IoSliceMut::new(&mut text)], &mut control, flags)?;
            let mut fds = Vec::new();
            for message in control.drain() {
                if let RecvAncillaryMessage::ScmRights(passed) = message {
                    fds.extend(passed);
                }
            }
            Ok((heard.bytes, fds))
        };
        let (length, fds) = self.0.async_io(Interest::READABLE, hear).await?;
        match text.get(..length) {
            None | Some([]) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(word) => Ok((serde_json::from_slice(word)?, fds)),
        }
    }
}
