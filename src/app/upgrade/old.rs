//! The process that is replaced: starts the new one, passes its sockets, lets go of the state.
//!
//! Until the new one said that it is ready, everything can be taken back. It must never stop serving,
//! and must never leave behind a new process that it gave up on.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::channel::{BATCH, Channel};
use super::{Own, VARIABLE, VERSION, Word};
use crate::app::run::Proxy;
use crate::app::sockets::Label;
use crate::control::Resting;

/// From the start of the new process to its word that it is able.
const START: Duration = Duration::from_secs(20);
/// From the word that the state is its own to its word that it is ready. Nobody decides meanwhile.
const TAKEOVER: Duration = Duration::from_secs(10);
/// How long a new process that ended is waited for, to say how.
const LAST_WORD: Duration = Duration::from_secs(1);
/// Time between two looks at it.
const LOOK: Duration = Duration::from_millis(10);

/// Has a new process take over; gives its number. Dropped before its end, or failing, it leaves
/// everything as it was; else this process never decides again.
///
/// # Errors
/// Why this process goes on, in one sentence.
pub async fn hand_over(proxy: &Proxy, own: &Own) -> Result<u32, String> {
    if std::process::id() == 1 {
        return Err("process 1 cannot be replaced: its container would end with it".to_owned());
    }
    let (channel, theirs) = Channel::pair().map_err(|error| error.to_string())?;
    let mut newcomer = Newcomer::start(own, theirs)?;
    let replaced = converse(proxy, &channel).await;
    match replaced {
        Ok(resting) => {
            resting.for_good();
            Ok(newcomer.stays())
        }
        Err(why) => Err(newcomer.ended(why).await),
    }
}

async fn converse(proxy: &Proxy, channel: &Channel) -> Result<Resting, String> {
    let able = async {
        pass(channel, proxy.passing()).await?;
        hear(channel, "able", |word| matches!(word, Word::Able)).await
    };
    within(START, "able", able).await?;
    let rest = async { proxy.control().rest().await.map_err(|refusal| refusal.message) };
    let resting = within(TAKEOVER, "given the state", rest).await?;
    let ready = async {
        channel.send(&Word::Yours, &[]).await.map_err(gone)?;
        hear(channel, "ready", |word| matches!(word, Word::Ready)).await
    };
    within(TAKEOVER, "ready", ready).await?;
    Ok(resting)
}

async fn within<T>(
    limit: Duration,
    what: &str,
    step: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    let late = || format!("the new process was not {what} within {} s", limit.as_secs());
    tokio::time::timeout(limit, step).await.unwrap_or_else(|_| Err(late()))
}

/// Sends every socket, a bounded number with each message.
async fn pass(channel: &Channel, sockets: &[(Label, OwnedFd)]) -> Result<(), String> {
    let mut batches = sockets.chunks(BATCH).peekable();
    while let Some(batch) = batches.next() {
        let labels = batch.iter().map(|(label, _)| label.clone()).collect();
        let fds: Vec<_> = batch.iter().map(|(_, socket)| socket.as_fd()).collect();
        let word = Word::Sockets { labels, more: batches.peek().is_some() };
        channel.send(&word, &fds).await.map_err(gone)?;
    }
    Ok(())
}

async fn hear(channel: &Channel, what: &str, expected: impl Fn(&Word) -> bool) -> Result<(), String> {
    let (word, _) = channel.receive().await.map_err(gone)?;
    if expected(&word) { Ok(()) } else { Err(format!("the new process said something else than {what}")) }
}

fn gone(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof
        | std::io::ErrorKind::BrokenPipe
        | std::io::ErrorKind::ConnectionReset => "the new process ended before it was ready".to_owned(),
        _ => format!("the new process cannot be talked to: {error}"),
    }
}

/// The new process; killed unless it stays.
struct Newcomer(Option<Child>);

impl Newcomer {
    fn start(own: &Own, channel: OwnedFd) -> Result<Self, String> {
        let spawned = Command::new(&own.program)
            .args(&own.arguments)
            .env(VARIABLE, format!("{VERSION}:{}", std::process::id()))
            // What was meant for this process alone.
            .env_remove("WATCHDOG_PID")
            .env_remove("LISTEN_FDNAMES")
            .stdin(Stdio::from(channel))
            .spawn();
        let cannot = |error| format!("{} cannot be started: {error}", own.program.display());
        spawned.map(|child| Self(Some(child))).map_err(cannot)
    }

    fn stays(&mut self) -> u32 {
        self.0.take().map_or(0, |child| child.id())
    }

    /// Why it failed, with how it ended when it did.
    async fn ended(mut self, why: String) -> String {
        let Some(child) = &mut self.0 else { return why };
        let until = tokio::time::Instant::now() + LAST_WORD;
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return format!("{why} ({status})"),
                Ok(None) if tokio::time::Instant::now() < until => tokio::time::sleep(LOOK).await,
                _ => return why,
            }
        }
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        let Some(mut child) = self.0.take() else { return };
        // One that ended already cannot be killed, only collected.
        let _ = child.kill();
        std::thread::spawn(move || child.wait());
    }
}
