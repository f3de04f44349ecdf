//! A request body kept as it passes on, so that the request can be sent again.
//!
//! Every attempt reads through a cursor of its own: first what was kept, then what the client still
//! sends. What grows over its bound is let go of and never sent again. An attempt that was given up
//! must never take a byte from the one after it.

use std::cell::RefCell;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::upload::{RequestBody, UploadError};
use crate::ledger::shadow::{Held, MirrorBytes};
use crate::model::DeniedReason;

/// Pieces below this are copied: a small one would hold on to the whole buffer it was read into.
const SMALL: usize = 4 << 10;
/// What a piece costs beside its bytes, so that many tiny ones count as what they are.
const PIECE_BYTES: u64 = 64;

/// A request body that may be sent again.
pub struct Replay(RefCell<State>);

struct State {
    /// The client's body.
    live: RequestBody,
    /// Its size when nothing was read.
    size: SizeHint,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
    /// All of it was read.
    ended: bool,
    /// What comes is still kept.
    keeping: bool,
    /// Why it cannot be sent again, once it cannot.
    lost: Option<DeniedReason>,
    kept: u64,
    /// Kept pieces that the attempt under way has read.
    at: usize,
    held: Held,
    /// Most bytes kept of this body, and of all of the process.
    most: u64,
    cap: u64,
    /// The attempt that reads.
    turn: u32,
}

impl Replay {
    /// Nothing read yet. At most `most` bytes of it are kept, and of all bodies of the process `cap`
    /// bytes, counted in `of`.
    #[must_use]
    pub fn new(live: RequestBody, most: u64, of: &Arc<MirrorBytes>, cap: u64) -> Rc<Self> {
        let size = live.size_hint();
        let lost = (size.lower() > most).then_some(DeniedReason::BodyTooLarge);
        Rc::new(Self(RefCell::new(State {
            live,
            size,
            pieces: Vec::new(),
            trailers: None,
            ended: false,
            keeping: lost.is_none(),
            lost,
            kept: 0,
            at: 0,
            held: Held::new(Arc::clone(of)),
            most,
            cap,
            turn: 0,
        })))
    }

    /// The body for one more attempt, from its beginning; the one before gets nothing any more.
    ///
    /// # Errors
    /// Why it cannot be sent again.
    pub fn again(self: &Rc<Self>) -> Result<RequestBody, DeniedReason> {
        let mut state = self.0.borrow_mut();
        if let Some(reason) = state.lost.filter(|_| state.turn > 0) {
            return Err(reason);
        }
        state.turn += 1;
        state.at = 0;
        let (turn, of) = (state.turn, Rc::clone(self));
        Ok(RequestBody::Again(Cursor { of, turn, sent: 0, trailed: false }))
    }

    /// Why it cannot be sent again, when it cannot.
    #[must_use]
    pub fn lost(&self) -> Option<DeniedReason> {
        self.0.borrow().lost
    }

    /// No further attempt will be made: nothing more is kept.
    pub fn settle(&self) {
        let mut state = self.0.borrow_mut();
        state.keeping = false;
        state.lost = state.lost.or(Some(DeniedReason::BodyTooLarge));
        state.release_if_read();
    }
}

impl State {
    fn keep(&mut self, piece: &Bytes) {
        if !self.keeping || piece.is_empty() {
            return;
        }
        self.kept += piece.len() as u64;
        if self.kept > self.most {
            self.lose(DeniedReason::BodyTooLarge);
        } else if !self.held.grow(piece.len() as u64 + PIECE_BYTES, self.cap) {
            self.lose(DeniedReason::Memory);
        } else {
            let small = piece.len() < SMALL;
            self.pieces.push(if small { Bytes::copy_from_slice(piece) } else { piece.clone() });
        }
    }

    fn lose(&mut self, reason: DeniedReason) {
        self.lost = Some(reason);
        self.keeping = false;
        self.release();
    }

    /// What the attempt under way has still to read stays until it was read.
    fn release_if_read(&mut self) {
        if !self.keeping && self.at == self.pieces.len() {
            self.release();
        }
    }

    fn release(&mut self) {
        self.at = 0;
        self.pieces = Vec::new();
        self.held = Held::new(Arc::clone(self.held.of()));
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay").finish_non_exhaustive()
    }
}

/// How far one attempt read.
#[derive(Debug)]
pub struct Cursor {
    of: Rc<Replay>,
    turn: u32,
    /// Bytes read.
    sent: u64,
    trailed: bool,
}

impl Cursor {
    /// The next frame; an error once another attempt reads.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let mut state = self.of.0.borrow_mut();
        let state = &mut *state;
        if state.turn != self.turn {
            return Poll::Ready(Some(Err("another attempt reads the request body".into())));
        }
        if let Some(piece) = state.pieces.get(state.at).cloned() {
            state.at += 1;
            self.sent += piece.len() as u64;
            state.release_if_read();
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if state.ended {
            let trailers = state.trailers.clone().filter(|_| !self.trailed);
            self.trailed = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let frame = match ready!(Pin::new(&mut state.live).poll_frame(cx)) {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            None => {
                state.ended = true;
                return Poll::Ready(None);
            }
        };
        match (frame.data_ref(), frame.trailers_ref()) {
            (Some(data), _) => {
                self.sent += data.len() as u64;
                state.keep(data);
                state.at = state.pieces.len();
                state.ended = state.live.is_end_stream();
            }
            (None, trailers) => {
                state.trailers = trailers.cloned();
                state.ended = true;
                self.trailed = true;
            }
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Whether nothing is left to read.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let mut state = self.of.0.borrow_mut();
        if state.turn != self.turn {
            return true;
        }
        if state.at < state.pieces.len() {
            return false;
        }
        state.ended = state.ended || state.live.is_end_stream();
        state.ended && (self.trailed || state.trailers.is_none())
    }

    /// What is left, as far as it was announced.
    #[must_use]
    pub fn size_hint(&self) -> SizeHint {
        let size = &self.of.0.borrow().size;
        size.exact().map_or_else(SizeHint::new, |all| SizeHint::with_exact(all.saturating_sub(self.sent)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::task::Waker;

    use super::*;

    fn body(pieces: &[&'static str]) -> RequestBody {
        RequestBody::Kept(
            pieces.iter().map(|piece| Bytes::from_static(piece.as_bytes())).collect::<VecDeque<_>>(),
        )
    }

    /// Reads at most `count` pieces; `None` in the place of an error.
    fn read(body: &mut RequestBody, count: usize) -> Option<String> {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut text = String::new();
        for _ in 0..count {
            match Pin::new(&mut *body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => text += std::str::from_utf8(frame.data_ref()?).ok()?,
                Poll::Ready(Some(Err(_))) => return None,
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        Some(text)
    }

    #[test]
    fn every_attempt_reads_the_whole_body_and_only_the_last_may() {
        let all = Arc::default();
        let replay = Replay::new(body(&["ab", "cd", "ef"]), 6, &all, 1 << 10);
        let mut first = replay.again().unwrap();
        assert_eq!(first.size_hint().exact(), Some(6));
        assert_eq!(read(&mut first, 2).as_deref(), Some("abcd"));
        let mut second = replay.again().unwrap();
        assert_eq!(read(&mut first, 1), None, "the first was given up");
        assert_eq!((read(&mut second, 1).as_deref(), second.size_hint().exact()), (Some("ab"), Some(4)));
        assert_eq!(read(&mut second, 9).as_deref(), Some("cdef"));
        assert!(second.is_end_stream());
        let mut third = replay.again().unwrap();
        assert_eq!(read(&mut third, 9).as_deref(), Some("abcdef"));
        assert_eq!(all.held(), 6 + 3 * PIECE_BYTES);
        drop((first, second, third, replay));
        assert_eq!(all.held(), 0);
    }

    #[test]
    fn what_is_too_long_passes_once_and_holds_nothing() {
        // Most of one, most of all, why not again.
        let rows = [(3, 1 << 10, DeniedReason::BodyTooLarge), (9, 100, DeniedReason::Memory)];
        for (most, cap, reason) in rows {
            let all = Arc::default();
            let mut inner = body(&["ab", "cd", "ef"]);
            let replay = Replay::new(RequestBody::Empty, most, &all, cap);
            replay.0.borrow_mut().live = std::mem::replace(&mut inner, RequestBody::Empty);
            let mut first = replay.again().unwrap();
            assert_eq!(read(&mut first, 9).as_deref(), Some("abcdef"));
            assert_eq!(replay.again().unwrap_err(), reason);
            assert_eq!(all.held(), 0, "{reason}");
        }
        let declared = Replay::new(body(&["abcd"]), 3, &Arc::default(), 99);
        assert!(declared.again().is_ok(), "it is sent once");
        assert_eq!(declared.again().unwrap_err(), DeniedReason::BodyTooLarge);
    }

    #[test]
    fn a_settled_body_is_let_go_of_as_it_is_read() {
        let all = Arc::default();
        let replay = Replay::new(body(&["ab", "cd", "ef"]), 9, &all, 1 << 10);
        assert_eq!(read(&mut replay.again().unwrap(), 2).as_deref(), Some("abcd"));
        let mut second = replay.again().unwrap();
        replay.settle();
        assert_eq!(read(&mut second, 9).as_deref(), Some("abcdef"));
        assert_eq!(all.held(), 0);
        assert!(replay.again().is_err());
    }
}
