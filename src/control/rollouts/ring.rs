//! The last hour of a rollout as the analyzer saw it, for whoever records it.
//!
//! The controller adds a line or two a second, the operator's listener reads; nothing of it is on a
//! request's path. It must never hold more than its bounds, nor say nothing of what it dropped.

use std::collections::VecDeque;
use std::mem::size_of;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::analysis::Tick;
use crate::analysis::recording::{Said, Second, Told, Writer};

/// Lines kept of one route: the counts and the decision of each second of an hour.
pub const MAX_LINES: usize = 7_200;
/// Bytes kept of one route.
pub const MAX_BYTES: usize = 8 << 20;
/// Bytes kept of all routes together.
pub const MAX_ALL_BYTES: usize = 64 << 20;
/// Lines given at once.
pub const MAX_ANSWER: usize = 500;

/// What was seen of one route.
#[derive(Debug)]
pub struct Ring {
    /// Another process, or another rollout block, has another one.
    source: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    lines: VecDeque<(u64, Kept)>,
    bytes: usize,
    /// Number of the next line.
    next: u64,
    /// Number of the present run's first line.
    run: u64,
    room: usize,
}

#[derive(Clone, Debug)]
enum Kept {
    Tick(Box<Tick>, Option<Said>),
    Second(Box<Second>),
    Line(String),
}

/// Some of the lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Numbers mean nothing under another one.
    pub source: u64,
    /// Number of the line after the last given one.
    pub next: u64,
    /// Whether there are more already.
    pub more: bool,
    /// Lines that were asked for and are gone.
    pub missing: u64,
    /// Each a line of a recording.
    pub lines: Vec<String>,
}

impl Ring {
    /// An empty one.
    #[must_use]
    pub fn new(source: u64) -> Self {
        let inner = Inner { lines: VecDeque::new(), bytes: 0, next: 0, run: 0, room: MAX_BYTES };
        Self { source, inner: Mutex::new(inner) }
    }

    /// How many bytes it may hold, when so many routes keep theirs.
    pub fn share(&self, routes: usize) {
        let mut inner = self.inner();
        inner.room = MAX_BYTES.min(MAX_ALL_BYTES / routes.max(1));
        inner.trim();
    }

    /// Adds what was counted, and what was said of it.
    pub fn tick(&self, tick: Tick, said: Option<Said>) {
        self.inner().push(tick.at_second, Kept::Tick(Box::new(tick), said));
    }

    /// Adds anything else.
    pub fn told(&self, second: u64, told: Told) {
        let begins = matches!(told, Told::Begin { .. });
        let kept = match told {
            Told::Second(decided) => Kept::Second(Box::new(decided)),
            told => Kept::Line(Writer::told(second, &told)),
        };
        let mut inner = self.inner();
        if begins {
            inner.run = inner.next;
        }
        inner.push(second, kept);
    }

    /// At most [`MAX_ANSWER`] lines from this number on; without one, from the present run's first.
    #[must_use]
    pub fn read(&self, from: Option<u64>) -> Page {
        let (first, next, from, picked) = {
            let inner = self.inner();
            let first = inner.first();
            let from = from.unwrap_or(inner.run).min(inner.next);
            let skip = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
            let picked: Vec<_> = inner.lines.iter().skip(skip).take(MAX_ANSWER).cloned().collect();
            (first, inner.next, from, picked)
        };
        // Rendered after the controller can go on.
        let mut writer = Writer::default();
        let lines: Vec<String> = picked
            .into_iter()
            .map(|(second, kept)| match kept {
                Kept::Tick(tick, said) => writer.tick(&tick, said.as_ref()),
                Kept::Second(decided) => Writer::told(second, &Told::Second(*decided)),
                Kept::Line(line) => line,
            })
            .collect();
        let given = from.max(first) + lines.len() as u64;
        Page {
            source: self.source,
            next: given,
            more: given < next,
            missing: first.saturating_sub(from),
            lines,
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn first(&self) -> u64 {
        self.next - self.lines.len() as u64
    }

    fn push(&mut self, second: u64, kept: Kept) {
        self.bytes += kept.bytes();
        self.lines.push_back((second, kept));
        self.next += 1;
        self.trim();
    }

    fn trim(&mut self) {
        while self.lines.len() > MAX_LINES || self.bytes > self.room {
            let Some((_, gone)) = self.lines.pop_front() else { return };
            self.bytes -= gone.bytes();
        }
    }
}

impl Kept {
    fn bytes(&self) -> usize {
        size_of::<(u64, Self)>()
            + match self {
                Self::Tick(tick, _) => {
                    size_of::<Tick>() + [&tick.stable, &tick.canary].map(heap).iter().sum::<usize>()
                }
                Self::Second(_) => size_of::<Second>(),
                Self::Line(line) => line.len(),
            }
    }
}

/// Bytes of an arm's bins.
fn heap(arm: &crate::analysis::ArmCounts) -> usize {
    let bins = arm.latency.iter().chain([&arm.left]).map(|bins| bins.iter().count());
    bins.sum::<usize>() * size_of::<(u64, u64)>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::ArmCounts;

    fn tick(second: u64, bins: u64) -> Tick {
        let latency = (1..=bins).map(|upper| (upper * 1_000, 1)).collect();
        let arm = ArmCounts { n: bins, latency: Some(latency), ..ArmCounts::default() };
        Tick { at_second: second, w: 0.5, stable: arm, ..Tick::default() }
    }

    #[test]
    fn lines_are_read_from_a_number_on_and_what_is_gone_is_counted() {
        let ring = Ring::new(3);
        for second in 0..MAX_LINES as u64 + 10 {
            ring.tick(tick(second, 0), None);
        }
        let page = ring.read(Some(4));
        assert_eq!((page.missing, page.next, page.more), (6, 510, true));
        assert_eq!(page.lines.len(), MAX_ANSWER);
        assert!(
            page.lines[0].starts_with("{\"t\":10,") && page.lines[0].contains("\"w\":50.0"),
            "{}",
            page.lines[0]
        );
        let page = ring.read(Some(page.next));
        assert_eq!((page.missing, page.lines.len()), (0, MAX_ANSWER));
        let last = ring.read(Some(7_205));
        assert_eq!((last.lines.len(), last.next, last.more), (5, 7_210, false));
        assert_eq!(ring.read(Some(9_999)).lines.len(), 0);
    }

    #[test]
    fn without_a_number_it_begins_with_the_present_run() {
        let ring = Ring::new(3);
        ring.tick(tick(1, 0), None);
        ring.told(2, Told::Begin { version: "v2".into(), run: 2, rate: 0.0 });
        ring.tick(tick(3, 0), None);
        let page = ring.read(None);
        assert_eq!(page.lines.len(), 2);
        assert!(page.lines[0].contains("begin"), "{page:?}");
    }

    #[test]
    fn bytes_are_bounded_by_route_and_over_all() {
        let ring = Ring::new(3);
        for second in 0..5_000 {
            ring.tick(tick(second, 400), None);
        }
        let held = |ring: &Ring| {
            let inner = ring.inner();
            (inner.bytes, inner.lines.len())
        };
        assert!(held(&ring).0 <= MAX_BYTES && held(&ring).1 > 100, "{:?}", held(&ring));
        ring.share(1_000);
        assert!(held(&ring).0 <= MAX_ALL_BYTES / 1_000, "{:?}", held(&ring));
    }
}
