//! Deadlines of one worker by its coarse clock: a slot per pending wait, swept every tick.
//!
//! A deadline costs nothing until its future is really pending, and no timer then. It must never
//! fire early; it may fire one tick late.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;

use super::upload::Upload;
use crate::model::time::{CoarseClock, Tick};

/// The pending deadlines of one worker.
#[derive(Debug)]
pub struct Deadlines {
    clock: Rc<CoarseClock>,
    waiting: RefCell<Slab<(Tick, Option<Waker>)>>,
}

impl Deadlines {
    /// None yet.
    #[must_use]
    pub fn new(clock: Rc<CoarseClock>) -> Rc<Self> {
        Rc::new(Self { clock, waiting: RefCell::default() })
    }

    /// The worker's clock.
    #[must_use]
    pub fn clock(&self) -> &CoarseClock {
        &self.clock
    }

    /// Wakes every wait whose time has come.
    pub fn sweep(&self) {
        let now = self.clock.tick();
        for (_, (at, waker)) in &mut *self.waiting.borrow_mut() {
            if *at <= now
                && let Some(waker) = waker.take()
            {
                waker.wake();
            }
        }
    }
}

/// A wait that may time out.
#[derive(Debug)]
pub struct Deadline {
    owner: Rc<Deadlines>,
    at: Tick,
    span: Duration,
    slot: Option<usize>,
}

impl Deadline {
    /// A deadline `span` from now; a zero span never comes.
    #[must_use]
    pub fn new(owner: &Rc<Deadlines>, span: Duration) -> Self {
        Self { at: owner.clock.tick().after(span), span, owner: Rc::clone(owner), slot: None }
    }

    /// Moves it to `span` from now.
    pub fn restart(&mut self, span: Duration) {
        self.clear();
        self.span = span;
        self.at = self.owner.clock.tick().after(span);
    }

    /// Moves it to its whole span from now.
    pub fn begin_anew(&mut self) {
        self.restart(self.span);
    }

    /// Whether the time has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.at <= self.owner.clock.tick()
    }

    /// Ready once the time has come; registers the task otherwise.
    pub fn poll_over(&mut self, cx: &Context<'_>) -> Poll<()> {
        if self.is_over() {
            return Poll::Ready(());
        }
        if self.at == Tick(u32::MAX) {
            return Poll::Pending;
        }
        let mut waiting = self.owner.waiting.borrow_mut();
        let key = *self.slot.get_or_insert_with(|| waiting.insert((self.at, None)));
        if let Some((at, waker)) = waiting.get_mut(key) {
            *at = self.at;
            if !waker.as_ref().is_some_and(|old| old.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        Poll::Pending
    }

    fn clear(&mut self) {
        if let Some(key) = self.slot.take() {
            self.owner.waiting.borrow_mut().try_remove(key);
        }
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A future's output, or `None` when a deadline came first; `outer` may be shared by several waits.
pub fn within<'a, F: Future>(
    outer: Option<&'a mut Deadline>,
    inner: &'a mut Deadline,
    future: F,
) -> Within<'a, F> {
    Within { outer, inner, upload: None, seen: 0, future }
}

/// The same for a request whose body is still coming: as long as the client owes bytes, or bytes
/// pass, both deadlines begin anew. An upload may take its time; an origin that stops taking it, or
/// does not answer after it, may not.
pub fn within_upload<'a, F: Future>(
    outer: &'a mut Deadline,
    inner: &'a mut Deadline,
    upload: Option<Rc<Upload>>,
    future: F,
) -> Within<'a, F> {
    Within { outer: Some(outer), inner, upload, seen: 0, future }
}

pin_project_lite::pin_project! {
    /// See [`within`]. Written by hand: an async function would hold the future twice.
    #[derive(Debug)]
    pub struct Within<'a, F> {
        outer: Option<&'a mut Deadline>,
        inner: &'a mut Deadline,
        upload: Option<Rc<Upload>>,
        seen: u64,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Within<'_, F> {
    type Output = Option<F::Output>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Some(output));
        }
        if let Some(upload) = this.upload {
            let bytes = upload.bytes.get();
            if upload.is_owed() || std::mem::replace(this.seen, bytes) != bytes {
                this.inner.begin_anew();
                this.outer.iter_mut().for_each(|outer| outer.begin_anew());
            }
        }
        // Only the one that comes first waits: it wakes the task, which then looks at both.
        let first = match this.outer {
            Some(outer) if outer.at < this.inner.at => &mut **outer,
            _ => &mut **this.inner,
        };
        first.poll_over(cx).map(|()| None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::time::UnixMillis;

    #[test]
    fn a_deadline_never_fires_early_and_at_most_two_ticks_late() {
        let clock = Rc::new(CoarseClock::default());
        let deadlines = Deadlines::new(Rc::clone(&clock));
        let mut deadline = Deadline::new(&deadlines, Duration::from_millis(100));
        let cx = Context::from_waker(Waker::noop());
        for (tick, over) in [(0, false), (1, false), (2, false), (3, true)] {
            clock.set(Tick(tick), UnixMillis(0));
            assert_eq!(deadline.poll_over(&cx).is_ready(), over, "{tick}");
        }
        deadline.restart(Duration::ZERO);
        clock.set(Tick(1_000_000), UnixMillis(0));
        assert!(deadline.poll_over(&cx).is_pending());
        drop(deadline);
        assert!(deadlines.waiting.borrow().is_empty());
    }
}
