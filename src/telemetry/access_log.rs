//! The access log: a bounded queue and one thread that writes.
//!
//! Workers hand records over and never wait: when the queue is full a record is dropped and
//! counted. It must never be touched by the data plane in any other way.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::Counter;

use super::line::LineWriter;
use crate::model::log::{AccessRecord, AccessSink};

/// Records waiting at most.
const QUEUE: usize = 4096;
/// Bytes gathered at most before they are written.
const BATCH: usize = 128 << 10;
/// How long the writer lets records gather, so that workers need not wake it for each.
const GATHER: Duration = Duration::from_millis(2);
/// Time between two attempts to open a file that could not be opened.
const AGAIN: Duration = Duration::from_secs(2);

/// Is told what is wrong with the log, and `None` once nothing is.
type Told = Arc<dyn Fn(Option<String>) + Send + Sync>;

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
    pub fn of(path: &str, base: &Path) -> Self {
        match path {
            "stdout" => Self::Stdout,
            "stderr" => Self::Stderr,
            file => Self::File(base.join(file)),
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Stdout => "stdout".to_owned(),
            Self::Stderr => "stderr".to_owned(),
            Self::File(path) => path.display().to_string(),
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
pub struct AccessLog {
    sender: OnceLock<SyncSender<Message>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    target: Mutex<Option<Target>>,
    dropped: Counter,
    told: Told,
}

impl std::fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AccessLog").field("target", &self.target).finish_non_exhaustive()
    }
}

impl AccessLog {
    /// A log that writes nowhere yet and counts drops. `told` hears from the writer what is wrong with
    /// the target, in a sentence, and `None` once nothing is.
    #[must_use]
    pub fn new(dropped: Counter, told: impl Fn(Option<String>) + Send + Sync + 'static) -> Self {
        let (sender, told) = (OnceLock::new(), Arc::new(told));
        Self { sender, writer: Mutex::default(), target: Mutex::default(), dropped, told }
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
            let (dropped, told) = (self.dropped.clone(), Arc::clone(&self.told));
            let spawned = std::thread::Builder::new()
                .name("access-log".to_owned())
                .spawn(move || Writer::new(receiver, dropped, told).run());
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
    told: Told,
    /// Something is wrong, and was said.
    failing: bool,
    /// When a target that could not be opened is tried again.
    again: Option<Instant>,
}

impl Writer {
    fn new(receiver: Receiver<Message>, dropped: Counter, told: Told) -> Self {
        Self {
            receiver,
            dropped,
            told,
            target: None,
            out: None,
            lines: LineWriter::default(),
            buffer: Vec::with_capacity(BATCH),
            gathered: 0,
            failing: false,
            again: None,
        }
    }

    fn run(mut self) {
        loop {
            let first = match self.wait() {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            };
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

    /// Waits for a message, at most until a target that could not be opened is tried again.
    fn wait(&mut self) -> Result<Message, RecvTimeoutError> {
        self.try_again();
        match self.again {
            Some(again) => self.receiver.recv_timeout(again.saturating_duration_since(Instant::now())),
            None => self.receiver.recv().map_err(Into::into),
        }
    }

    fn try_again(&mut self) {
        if self.again.is_some_and(|again| again <= Instant::now()) {
            self.open();
        }
    }

    /// Takes one message; false when it was the last.
    fn take(&mut self, message: Message) -> bool {
        match message {
            Message::Record(record) => {
                self.try_again();
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
                self.open_anew();
            }
            Message::Reopen => {
                self.flush();
                self.open_anew();
            }
            Message::Stop => return false,
        }
        true
    }

    /// Opens what somebody asked for, who is told again if it fails again.
    fn open_anew(&mut self) {
        let ill = std::mem::take(&mut self.failing);
        self.open();
        if ill && !self.failing {
            (self.told)(None);
        }
    }

    fn open(&mut self) {
        self.again = None;
        let opened: io::Result<Option<Box<dyn Write>>> = match &self.target {
            None => Ok(None),
            Some(Target::Stdout) => Ok(Some(Box::new(io::stdout()))),
            Some(Target::Stderr) => Ok(Some(Box::new(io::stderr()))),
            Some(Target::File(path)) => append_to(path).map(|file| Some(Box::new(file) as _)),
        };
        match opened {
            Ok(out) => {
                self.out = out;
                self.well();
            }
            Err(error) => {
                self.out = None;
                self.again = Some(Instant::now() + AGAIN);
                self.ill("the access log cannot be opened", &error);
            }
        }
    }

    fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if let Some(out) = &mut self.out {
            let written = out.write_all(&self.buffer).and_then(|()| out.flush());
            match written {
                Ok(()) => self.well(),
                Err(error) => {
                    self.dropped.increment(self.gathered);
                    self.ill("the access log cannot be written", &error);
                }
            }
        }
        self.buffer.clear();
        self.gathered = 0;
    }

    /// Says once what is wrong: a full disk would fill the other log too.
    fn ill(&mut self, what: &str, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let path = self.target.as_ref().map(Target::name).unwrap_or_default();
            tracing::error!(%error, %path, "{what}; lines are lost until it can");
            (self.told)(Some(format!("lines are lost: {path}: {error}")));
        }
    }

    /// Takes back what was wrong, if anything was.
    fn well(&mut self) {
        if std::mem::take(&mut self.failing) {
            tracing::info!("nothing is wrong with the access log any more");
            (self.told)(None);
        }
    }
}

/// Opens a file to append to, with the folders above it where they are missing.
fn append_to(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    if let Some(folder) = path.parent() {
        let cannot = |error: io::Error| {
            let text = format!("the folder {} cannot be made: {error}", folder.display());
            io::Error::new(error.kind(), text)
        };
        DirBuilder::new().recursive(true).mode(0o750).create(folder).map_err(cannot)?;
    }
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
        let log = AccessLog::new(cold.counter(&LOG_DROPPED, &[]), |_| ());
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
    fn a_missing_folder_is_made() {
        let dir = tempfile::tempdir().expect("a folder");
        let (cold, log) = log();
        log.open(Some(Target::of("logs/today/access.log", dir.path())));
        log.record(record());
        log.close();
        let text = fs::read_to_string(dir.path().join("logs/today/access.log")).expect("a log");
        assert_eq!((text.lines().count(), dropped(&cold)), (1, 0));
    }

    #[test]
    fn a_file_that_could_not_be_opened_is_tried_again_by_itself() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("logs"), "in the way").expect("a file");
        let cold = Cold::new();
        let (tell, told) = std::sync::mpsc::channel();
        let log = AccessLog::new(cold.counter(&LOG_DROPPED, &[]), move |why| {
            // Nobody listens after the end.
            let _ = tell.send(why);
        });
        log.open(Some(Target::of("logs/access.log", dir.path())));
        let patience = Duration::from_secs(60);
        let why = told.recv_timeout(patience).expect("told").expect("trouble");
        assert!(why.contains("logs/access.log: "), "{why}");
        log.record(record());
        log.reopen();
        let again = told.recv_timeout(patience).expect("told");
        assert_eq!(again, Some(why), "who asks is told again");
        fs::remove_file(dir.path().join("logs")).expect("removed");
        assert_eq!(told.recv_timeout(patience), Ok(None), "without a line, a reload or a signal");
        log.record(record());
        log.close();
        let text = fs::read_to_string(dir.path().join("logs/access.log")).expect("a log");
        assert!(!text.is_empty());
        assert_eq!(text.lines().count() as u64 + dropped(&cold), 2);
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
