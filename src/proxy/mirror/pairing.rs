//! Two answers to one request: the original's as it passes, the copy's as it is thrown away.
//!
//! Kept up to a bound and counted against the memory for copies until whoever compares lets go. A
//! client that left, or a copy that never went out, leaves no pair. It must never hold up an answer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

use super::Original;
use super::tee::keep;
use crate::ledger::ShadowCell;
use crate::ledger::shadow::Held;
use crate::model::{ArmIx, FailureReason, Heard, Pair};
use crate::plan::Mirror;
use crate::proxy::worker::{PlanRef, Worker};

/// Where the two answers meet.
pub struct Pairing {
    worker: Rc<Worker>,
    plan: PlanRef,
    route: usize,
    mirror: usize,
    noise: bool,
    cell: Arc<ShadowCell>,
    id: HeaderValue,
    method: Method,
    path: Box<str>,
    first: RefCell<First>,
    void: Cell<bool>,
}

/// The answer that came first.
#[derive(Default)]
enum First {
    #[default]
    None,
    Primary(Heard),
    Shadow(Heard),
}

impl Pairing {
    /// No answer yet.
    #[must_use]
    pub fn new(
        worker: &Rc<Worker>,
        plan: &PlanRef,
        original: &Original<'_>,
        mirror: usize,
        noise: Option<ArmIx>,
        cell: &Arc<ShadowCell>,
    ) -> Self {
        Self {
            worker: Rc::clone(worker),
            plan: Rc::clone(plan),
            route: original.route,
            mirror,
            noise: noise.is_some(),
            cell: Arc::clone(cell),
            id: original.id.clone(),
            method: original.parts.method.clone(),
            path: original.parts.uri.path().into(),
            first: RefCell::default(),
            void: Cell::new(false),
        }
    }

    /// There will be no pair: what was kept is let go.
    pub fn void(&self) {
        self.void.set(true);
        self.first.take();
    }

    /// The copy's answer.
    pub fn shadow(&self, heard: Heard) {
        match self.first.take() {
            _ if self.void.get() => {}
            First::Primary(primary) => self.give(primary, heard),
            First::None | First::Shadow(_) => *self.first.borrow_mut() = First::Shadow(heard),
        }
    }

    fn primary(&self, heard: Heard) {
        match self.first.take() {
            _ if self.void.get() => {}
            First::Shadow(shadow) => self.give(heard, shadow),
            First::None | First::Primary(_) => *self.first.borrow_mut() = First::Primary(heard),
        }
    }

    fn mirror(&self) -> Option<&Mirror> {
        self.plan.routes.get(self.route)?.mirrors.get(self.mirror)
    }

    fn give(&self, primary: Heard, shadow: Heard) {
        let Some(route) = self.plan.routes.get(self.route) else { return };
        self.cell.pair(self.worker.id, (primary.failed, shadow.failed));
        let taken = self.worker.shadows.pairs.pair(Pair {
            route: Arc::clone(&route.name),
            mirror: u8::try_from(self.mirror).unwrap_or(u8::MAX),
            request_id: self.id.clone(),
            method: self.method.clone(),
            path: self.path.clone(),
            noise: self.noise,
            primary,
            shadow,
            unix_millis: self.worker.clock.unix().0,
        });
        if !taken {
            self.cell.lost(self.worker.id);
        }
    }
}

/// The original's answer as it passes.
pub struct Captured {
    pairings: Vec<Rc<Pairing>>,
    headers: HeaderMap,
    kept: Kept,
}

/// How the original ended.
#[derive(Clone, Copy, Debug)]
pub struct Primary {
    /// What the client saw; 0 is none.
    pub status: u16,
    /// A gRPC status, when one was told.
    pub grpc: Option<u8>,
    /// First failure of the chosen arm.
    pub failure: Option<FailureReason>,
    /// Request sent to response head.
    pub nanos: u64,
    /// The client left, or broke its own request: neither good nor bad.
    pub left: bool,
}

impl Captured {
    /// Nothing kept yet.
    #[must_use]
    pub fn new(worker: &Rc<Worker>, plan: &PlanRef) -> Self {
        Self {
            pairings: Vec::new(),
            headers: HeaderMap::new(),
            kept: Kept::new(worker, plan.mirror_bytes, 0),
        }
    }

    /// One more copy whose answer it is held against.
    pub fn add(&mut self, pairing: Rc<Pairing>) {
        self.kept.most = self.kept.most.max(pairing.mirror().map_or(0, |mirror| mirror.max_body));
        self.pairings.push(pairing);
    }

    /// The upstream's headers, before edits of ours.
    pub fn headers(&mut self, headers: &HeaderMap) {
        if self.is_wanted() {
            self.headers = headers.clone();
        }
    }

    /// The next piece of the body.
    pub fn piece(&mut self, data: &Bytes) {
        if self.is_wanted() {
            self.kept.piece(data);
        } else {
            self.kept.give_up();
        }
    }

    fn is_wanted(&self) -> bool {
        self.pairings.iter().any(|pairing| !pairing.void.get())
    }

    /// The exchange is over.
    pub fn finish(self, primary: &Primary) {
        let Self { pairings, headers, kept } = self;
        if primary.left {
            for pairing in pairings {
                pairing.void();
            }
            return;
        }
        let broken = matches!(primary.failure, Some(FailureReason::Truncated | FailureReason::Stalled));
        let told = matches!(primary.failure, Some(FailureReason::Status | FailureReason::GrpcStatus) | None);
        let (body, cut) = kept.into_body();
        for pairing in pairings {
            let Some(mirror) = pairing.mirror() else { continue };
            let most = usize::try_from(mirror.max_body).unwrap_or(usize::MAX);
            pairing.primary(Heard {
                status: primary.status,
                grpc: primary.grpc,
                headers: headers.clone(),
                body: body.slice(..body.len().min(most)),
                cut: cut || broken || body.len() > most,
                nanos: primary.nanos,
                failed: !told || mirror.bad.holds(primary.status, primary.grpc),
            });
        }
    }
}

/// The beginning of a body, up to a bound.
pub struct Kept {
    pieces: Vec<Bytes>,
    total: u64,
    most: u64,
    held: Held,
    cap: u64,
    cut: bool,
}

impl Kept {
    /// Nothing yet of a body of which `most` bytes are kept; `cap` is what all copies may hold.
    #[must_use]
    pub fn new(worker: &Rc<Worker>, cap: u64, most: u64) -> Self {
        let held = Held::new(Arc::clone(&worker.book.mirror_bytes));
        Self { pieces: Vec::new(), total: 0, most, held, cap, cut: false }
    }

    /// The next piece.
    pub fn piece(&mut self, data: &Bytes) {
        let room = usize::try_from(self.most - self.total).unwrap_or(usize::MAX);
        let part = data.slice(..data.len().min(room));
        self.cut |= part.len() < data.len();
        if part.is_empty() {
            return;
        }
        if !self.held.grow(part.len() as u64, self.cap) {
            return self.give_up();
        }
        self.total += part.len() as u64;
        self.pieces.push(keep(&part));
    }

    /// Lets go of everything; the body counts as cut.
    fn give_up(&mut self) {
        self.cut = true;
        self.pieces = Vec::new();
        self.most = self.total;
        self.held = Held::new(Arc::clone(self.held.of()));
    }

    /// The body, counted as held until the last of its owners lets go, and whether there was more.
    #[must_use]
    pub fn into_body(self) -> (Bytes, bool) {
        let bytes = match &self.pieces[..] {
            [] => return (Bytes::new(), self.cut),
            [only] => only.clone(),
            pieces => Bytes::from(pieces.concat()),
        };
        (Bytes::from_owner(Counted { bytes, _held: self.held }), self.cut)
    }
}

/// Bytes that count as held.
struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}
