//! The one hand that writes into the state folder: a thread of its own, so that a disk that hangs
//! holds up nobody.
//!
//! What is remembered is written as it is last: a newer draft takes the place of one that waits. Lines
//! of the journals go ahead of it. While the state cannot be written, what was put back is marked
//! where no room is needed. It must never decide anything, and never be waited for on the way to
//! stable.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;

use super::audit::{AUDIT, HISTORY, Journal};
use super::putback::{Marks, PutBack};
use super::store::{Kept, Store};
use crate::model::Overlay;

/// Lines that wait for the disk at most; beyond that the oldest is lost, and told.
const MAX_LINES: usize = 1_000;
/// How long the end of the process waits for what was still to be written.
const FLUSH: Duration = Duration::from_millis(500);

/// Everything that is remembered, as it shall be written.
#[derive(Debug)]
pub struct Draft {
    /// Weights set by hand.
    pub overlay: Overlay,
    /// Rollouts and what is to be said.
    pub kept: Kept,
    /// What is put back now, whatever the draft would begin anew.
    pub marks: Marks,
    /// What was marked before the start and no route has claimed yet.
    pub unseen: Marks,
}

/// Where drafts go; the store of the state folder, or what a test puts in its place.
pub trait Disk: Send + fmt::Debug {
    /// Replaces what is remembered. May wait as long as a disk does.
    ///
    /// # Errors
    /// When it cannot be written; what was remembered before is then still whole.
    fn save(&mut self, draft: &Draft) -> io::Result<()>;
}

impl Disk for Store {
    fn save(&mut self, draft: &Draft) -> io::Result<()> {
        Self::save(self, &draft.overlay, &draft.kept)
    }
}

/// One of the journals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Who changed what.
    Audit,
    /// What rollouts decided.
    History,
}

/// How far it came.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Number of the last draft that was tried.
    pub number: u64,
    /// What became of it.
    pub state: Option<String>,
    /// Drafts that could not be written, ever.
    pub failures: u64,
    /// What is wrong with the journals.
    pub journal: Option<String>,
}

/// Takes what is to be written.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    done: watch::Receiver<Done>,
}

/// The controller's end of one journal.
#[derive(Debug)]
pub struct Lines {
    shared: Arc<Shared>,
    which: Which,
}

#[derive(Debug, Default)]
struct Shared {
    pile: Mutex<Pile>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Pile {
    number: u64,
    draft: Option<Draft>,
    lines: VecDeque<(Which, Vec<u8>)>,
    lost: u64,
    busy: bool,
    closed: bool,
    /// Lines wait for the draft that is about to come.
    held: bool,
}

impl Writer {
    /// Begins to write. The thread ends with what is returned; without one nothing is ever written,
    /// which shows as a disk that hangs.
    #[must_use]
    pub fn start(disk: Box<dyn Disk>, put_back: PutBack, journals: Journals) -> Self {
        let shared = Arc::new(Shared::default());
        let (told, done) = watch::channel(Done::default());
        let hand = Hand { disk, put_back, journals, done: Done::default() };
        let pile = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("state".to_owned());
        if let Err(error) = thread.spawn(move || hand.run(&pile, &told)) {
            tracing::error!(%error, "there is no thread to write the state");
        }
        Self { shared, done }
    }

    /// Takes a draft; gives the number under which it, or a later one, is reported.
    pub fn keep(&self, draft: Draft) -> u64 {
        let mut pile = self.shared.pile();
        pile.number += 1;
        pile.draft = Some(draft);
        pile.held = false;
        self.shared.moved.notify_all();
        pile.number
    }

    /// Lines from now on wait for the next draft: a decision must not be in a journal before what it
    /// has to say to the outside is written down.
    pub fn hold(&self) {
        self.shared.pile().held = true;
    }

    /// How far it came, now and from now on.
    #[must_use]
    pub fn done(&self) -> watch::Receiver<Done> {
        self.done.clone()
    }

    /// The end of one journal.
    #[must_use]
    pub fn lines(&self, which: Which) -> Lines {
        Lines { shared: Arc::clone(&self.shared), which }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let until = Instant::now() + FLUSH;
        let mut pile = self.shared.pile();
        pile.closed = true;
        self.shared.moved.notify_all();
        while pile.busy || pile.draft.is_some() || !pile.lines.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = self.shared.moved.wait_timeout(pile, left);
            pile = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Lines {
    /// Appends an entry; never waits.
    pub fn append(&self, entry: &impl Serialize) {
        let Ok(line) = serde_json::to_vec(entry) else { return };
        let mut pile = self.shared.pile();
        if pile.lines.len() >= MAX_LINES {
            pile.lines.pop_front();
            pile.lost += 1;
        }
        pile.lines.push_back((self.which, line));
        self.shared.moved.notify_all();
    }
}

impl Shared {
    fn pile(&self) -> MutexGuard<'_, Pile> {
        self.pile.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The journals of a state folder.
#[derive(Debug)]
pub struct Journals {
    /// Who changed what.
    pub audit: Journal,
    /// What rollouts decided.
    pub history: Journal,
    /// What could not be read of them at the start.
    pub unread: Option<String>,
}

impl Journals {
    /// The journals of a folder; `None` writes nothing.
    #[must_use]
    pub fn of(dir: Option<&Path>) -> Self {
        let journal = |name| Journal::new(dir.map(Path::to_owned), name);
        Self { audit: journal(AUDIT), history: journal(HISTORY), unread: None }
    }
}

impl Journals {
    fn named(&mut self, which: Which) -> (&'static str, &mut Journal) {
        match which {
            Which::Audit => ("audit.jsonl", &mut self.audit),
            Which::History => ("history.jsonl", &mut self.history),
        }
    }
}

/// What the thread holds.
struct Hand {
    disk: Box<dyn Disk>,
    put_back: PutBack,
    journals: Journals,
    done: Done,
}

impl Hand {
    fn run(mut self, shared: &Shared, told: &watch::Sender<Done>) {
        loop {
            let mut pile = shared.pile();
            pile.busy = false;
            shared.moved.notify_all();
            while pile.draft.is_none() && (pile.lines.is_empty() || pile.held && !pile.closed) {
                if pile.closed {
                    return;
                }
                pile = shared.moved.wait(pile).unwrap_or_else(PoisonError::into_inner);
            }
            let draft = pile.draft.take();
            let lines =
                if pile.held && !pile.closed { VecDeque::new() } else { std::mem::take(&mut pile.lines) };
            let (number, lost) = (pile.number, std::mem::take(&mut pile.lost));
            pile.busy = true;
            drop(pile);
            if let Some(draft) = draft {
                self.save(number, &draft);
            }
            self.note(&lines, lost);
            told.send_replace(self.done.clone());
        }
    }

    fn note(&mut self, lines: &VecDeque<(Which, Vec<u8>)>, lost: u64) {
        let mut lost = (lost > 0).then(|| format!("{lost} lines were lost: the disk did not keep up"));
        if lines.is_empty() && lost.is_none() {
            return;
        }
        for (book, line) in lines {
            let (name, journal) = self.journals.named(*book);
            if let Err(error) = journal.append(line) {
                lost = Some(format!("{name} cannot be written: {error}"));
            }
        }
        // Which one is written to seldom must be told as soon.
        for book in [Which::Audit, Which::History] {
            let (name, journal) = self.journals.named(book);
            if let Err(error) = journal.ready() {
                lost = Some(format!("{name} cannot be written: {error}"));
            }
        }
        let wrong = lost.into_iter().chain(self.journals.unread.clone());
        let wrong = wrong.collect::<Vec<_>>().join("; ");
        if !wrong.is_empty() && self.done.journal.as_ref() != Some(&wrong) {
            tracing::warn!("{wrong}");
        }
        self.done.journal = (!wrong.is_empty()).then_some(wrong);
    }

    fn save(&mut self, number: u64, draft: &Draft) {
        self.done.number = number;
        // What is written again needs no mark; the mark goes after, so that nothing is ever without both.
        let marked = match self.disk.save(draft) {
            Ok(()) => {
                self.done.state = None;
                self.put_back.is_kept(&draft.kept);
                self.put_back.mark(&draft.unseen)
            }
            Err(error) => {
                self.done.failures += 1;
                self.done.state = Some(error.to_string());
                let all = draft.marks.iter().chain(&draft.unseen);
                self.put_back.mark(&all.map(|(mark, run)| (*mark, *run)).collect())
            }
        };
        if let (Err(error), Some(state)) = (marked, &mut self.done.state) {
            *state = format!("{state}; what was put back cannot be marked: {error}");
        }
    }
}
