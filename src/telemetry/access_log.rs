//! The access log: a bounded queue and one thread that writes.
//!
//! Workers hand records over and never wait: when the queue is full a record is dropped and
//! counted. It must never be touched by the data plane in any other way.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use metrics::Counter;

use super::line::LineWriter;
use crate::model::log::{AccessRecord, AccessSink};

/// Records waiting at most.
const QUEUE: usize = 4096;
/// Bytes gathered at most before they are written.
const BATCH: usize = 128 << 10;
/// How long the writer lets records gather, so that workers need not wake it for each.
const GATHER: Duration = Duration::from_millis(2);

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, appended to.
    File(PathBuf),
}

impl Target {
    /// Reads `stdout`, `stderr` or a path, taken from `base` when relative.
    #[must_use]
    pub fn of(path: &str, base: &std::path::Path) -> Self {
        match path {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            file => Self::File(base.join(file)),
        }
    }
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly every message is a record; a box would cost each of them"
)]
enum Message {
    Record(AccessRecord),
    /// Open this from now on; `None`: nothing is written.
    Open(Option<Target>),
    /// Open the same again: the file was moved away.
    Reopen,
    Stop,
}

/// The sink workers are given. Nothing is allocated until a target is opened for the first time.
#[derive(Debug)]
pub struct AccessLog {
    sender: OnceLock<SyncSender<Message>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    target: Mutex<Option<Target>>,
    dropped: Counter,
}

impl AccessLog {
    /// A log that writes nowhere yet and counts drops.
    #[must_use]
    pub fn new(dropped: Counter) -> Self {
        Self { sender: OnceLock::new(), writer: Mutex::default(), target: Mutex::default(), dropped }
    }

    /// Writes to a target from now on; the same target again changes nothing. May wait for the
    /// writer: not for data-plane threads.
    pub fn open(&self, target: Option<Target>) {
        {
            let mut present = self.target.lock().unwrap_or_else(PoisonError::into_inner);
            if *present == target {
                return;
            }
            present.clone_from(&target);
        }
        if target.is_some() {
            self.start();
        }
        self.tell(Message::Open(target));
    }

    /// Opens the file anew, after it was moved away. May wait for the writer.
    pub fn reopen(&self) {
        self.tell(Message::Reopen);
    }

    /// Writes what is queued and ends the writer. May wait for it.
    pub fn close(&self) {
        self.tell(Message::Stop);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has nothing left to write.
            let _ = writer.join();
        }
    }

    fn start(&self) {
        self.sender.get_or_init(|| {
            let (sender, receiver) = sync_channel(QUEUE);
            let dropped = self.dropped.clone();
            let spawned = std::thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || Writer::new(receiver, dropped).run());
            match spawned {
                Ok(handle) => {
                    *self.writer.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
                }
                Err(error) => tracing::error!(%error, "the access log has no writer"),
            }
            sender
        });
    }

    fn tell(&self, message: Message) {
        if let Some(sender) = self.sender.get() {
            // The writer is gone only after a stop.
            let _ = sender.send(message);
        }
    }
}

impl AccessSink for AccessLog {
    fn record(&self, record: AccessRecord) {
        let Some(sender) = self.sender.get() else { return };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            sender.try_send(Message::Record(record))
        {
            self.dropped.increment(1);
        }
    }
}

struct Writer {
    receiver: Receiver<Message>,
    dropped: Counter,
    target: Option<Target>,
    out: Option<Box<dyn Write>>,
    lines: LineWriter,
    buffer: Vec<u8>,
    gathered: u64,
    failing: bool,
}

impl Writer {
    fn new(receiver: Receiver<Message>, dropped: Counter) -> Self {
        Self {
            receiver,
            dropped,
            target: None,
            out: None,
            lines: LineWriter::default(),
            buffer: Vec::with_capacity(BATCH),
            gathered: 0,
            failing: false,
        }
    }

    fn run(mut self) {
        while let Ok(first) = self.receiver.recv() {
            let mut running = self.take(first);
            std::thread::sleep(GATHER);
            while let (true, Ok(next)) = (running, self.receiver.try_recv()) {
                running = self.take(next);
            }
            self.flush();
            if !running {
                return;
            }
        }
    }

    /// Takes one message; false when it was the last.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Record(record) => {
                if self.out.is_none() {
                    if self.target.is_some() {
                        self.dropped.increment(1);
                    }
                    return true;
                }
                self.lines.write(&mut self.buffer, &record);
                self.gathered += 1;
                if self.buffer.len() >= BATCH {
                    self.flush();
                }
            }
            Message::Open(target) => {
                self.flush();
                self.target = target;
                self.open();
            }
            Message::Reopen => {
                self.flush();
                self.open();
            }
            Message::Stop => return false,
        }
        true
    }

    fn open(&mut self) {
        self.failing = false;
        self.out = match &self.target {
            None => None,
            Some(Target::Stdout) => Some(Box::new(io::stdout())),
            Some(Target::Stderr) => Some(Box::new(io::stderr())),
            Some(Target::File(path)) => match append_to(path) {
                Ok(file) => Some(Box::new(file)),
                Err(error) => {
                    tracing::error!(%error, path = %path.display(), "the access log cannot be opened");
                    None
                }
            },
        };
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if let Some(out) = &mut self.out {
            let written = out.write_all(&self.buffer).and_then(|()| out.flush());
            if let Err(error) = written {
                self.dropped.increment(self.gathered);
                // Said once: a full disk would fill the other log too.
                if !self.failing {
                    tracing::error!(%error, "the access log cannot be written");
                }
                self.failing = true;
            } else {
                self.failing = false;
            }
        }
        self.buffer.clear();
        self.gathered = 0;
    }
}

fn append_to(path: &std::path::Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o640).open(path)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::names::LOG_DROPPED;
    use crate::telemetry::Cold;
    use crate::telemetry::line::tests::record;

    fn log() -> (Cold, AccessLog) {
        let cold = Cold::new();
        let log = AccessLog::new(cold.counter(&LOG_DROPPED, &[]));
        (cold, log)
    }

    fn dropped(cold: &Cold) -> u64 {
        let mut text = String::new();
        cold.render(&mut text);
        let line = text.lines().find_map(|line| line.strip_prefix(LOG_DROPPED.name)?.trim().parse().ok());
        line.expect("the counter")
    }

    #[test]
    fn a_moved_file_gets_no_more_lines_after_a_reopen() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("access.log");
        let (cold, log) = log();
        log.record(record());
        log.open(Some(Target::of("access.log", dir.path())));
        log.record(record());
        log.record(record());
        fs::rename(&file, dir.path().join("old.log"))
            .or_else(|_| {
                // The writer may not have opened it yet; a reopen comes after the opening.
                log.reopen();
                Ok::<(), io::Error>(())
            })
            .expect("moved");
        log.reopen();
        log.record(record());
        log.close();
        let lines =
            |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default().lines().count();
        assert_eq!(lines("old.log") + lines("access.log"), 3);
        assert!(lines("access.log") >= 1);
        assert_eq!(dropped(&cold), 0);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (cold, log) = log();
        log.open(Some(Target::File("/dev/full".into())));
        for _ in 0..10 {
            log.record(record());
        }
        log.close();
        assert_eq!(dropped(&cold), 10);
        log.record(record());
        assert_eq!(dropped(&cold), 11, "after the end");
    }

    #[test]
    fn a_stuck_writer_costs_lines_and_never_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let pipe = dir.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo");
        assert!(made.success());
        let (cold, log) = log();
        // Opening a pipe nobody reads does not return.
        log.open(Some(Target::File(pipe.clone())));
        for _ in 0..QUEUE + 100 {
            log.record(record());
        }
        assert!(dropped(&cold) >= 100);
        let reader = std::thread::spawn(move || fs::read(pipe).expect("lines"));
        log.close();
        drop(log);
        let read = reader.join().expect("a reader");
        assert!(read.split(|byte| *byte == b'\n').count() >= QUEUE);
    }
}
