//! A request body gathered for copies as it passes on to the original's upstream.
//!
//! Pieces are shared, not copied, and let go of at once when a body grows over its bound or all
//! copies together hold too much. It must never hold the original up, nor hold a byte for nobody.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::copy::Copy;
use crate::ledger::shadow::Held;
use crate::model::ShadowResult;
use crate::proxy::worker::Worker;
use crate::upstream::Tap;

/// Pieces below this are copied: a small one would hold on to the whole buffer it was read into.
const SMALL: usize = 4 << 10;

/// A piece that may be held.
#[must_use]
pub fn keep(piece: &Bytes) -> Bytes {
    if piece.len() < SMALL { Bytes::copy_from_slice(piece) } else { piece.clone() }
}

/// Copies that wait for their request body.
pub struct Tee(RefCell<Gathering>);

struct Gathering {
    waiting: Vec<Copy>,
    pieces: Vec<Bytes>,
    total: u64,
    held: Held,
    /// Most that all copies of the process may hold.
    cap: u64,
}

impl Tee {
    /// Nothing gathered yet; `cap` is what all copies of the process may hold.
    #[must_use]
    pub fn new(worker: &Rc<Worker>, cap: u64, waiting: Vec<Copy>) -> Self {
        let held = Held::new(Arc::clone(&worker.book.mirror_bytes));
        Self(RefCell::new(Gathering { waiting, pieces: Vec::new(), total: 0, held, cap }))
    }
}

impl Gathering {
    fn piece(&mut self, data: &Bytes) {
        if self.waiting.is_empty() {
            return;
        }
        self.total += data.len() as u64;
        let over = self.waiting.extract_if(.., |copy| copy.max_body < self.total);
        over.for_each(|copy| copy.ticket.end(ShadowResult::BodyTooLarge, None));
        if !self.waiting.is_empty() && !self.held.grow(data.len() as u64, self.cap) {
            self.waiting.drain(..).for_each(|copy| copy.ticket.end(ShadowResult::Budget, None));
        }
        if self.waiting.is_empty() {
            self.pieces = Vec::new();
            self.held = Held::new(Arc::clone(self.held.of()));
        } else if !data.is_empty() {
            self.pieces.push(keep(data));
        }
    }

    fn ended(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let of = Arc::clone(self.held.of());
        let held = Rc::new(std::mem::replace(&mut self.held, Held::new(of)));
        let pieces = std::mem::take(&mut self.pieces);
        for copy in self.waiting.drain(..) {
            copy.dispatch(pieces.clone(), Some(Rc::clone(&held)));
        }
    }
}

impl Tap for Tee {
    fn piece(&self, data: &Bytes) {
        self.0.borrow_mut().piece(data);
    }

    fn ended(&self) {
        self.0.borrow_mut().ended();
    }
}

impl std::fmt::Debug for Tee {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tee").finish_non_exhaustive()
    }
}
