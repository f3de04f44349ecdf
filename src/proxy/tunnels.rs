//! The tunnels of one worker: counted where they belong, and closed when their arm is drained.
//!
//! A tunnel outlives its exchange, so that an arm is not empty while one is open. The worker's sweep
//! asks the cells which ones are over. It must never be looked at for a request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use slab::Slab;
use tokio::sync::Notify;

use super::worker::Worker;
use crate::ledger::Cell;

/// The open tunnels of one worker; each holds a client's connection, whose number is bounded.
#[derive(Debug, Default)]
pub struct Tunnels(RefCell<Slab<Open>>);

#[derive(Debug)]
struct Open {
    cell: Arc<Cell>,
    /// When, in Unix milliseconds.
    since: u64,
    over: Rc<Notify>,
}

impl Tunnels {
    /// Tells those that are to be closed.
    pub fn sweep(&self) {
        for (_, open) in &*self.0.borrow() {
            if open.cell.ends_tunnel(open.since) {
                open.over.notify_one();
            }
        }
    }
}

/// A tunnel's place among them, until dropped.
pub struct Claim {
    worker: Rc<Worker>,
    key: usize,
    over: Rc<Notify>,
}

impl Claim {
    /// A tunnel of this cell opens now.
    #[must_use]
    pub fn new(worker: &Rc<Worker>, cell: &Arc<Cell>) -> Self {
        if let Some(shard) = cell.shard(worker.id) {
            shard.tunnel_opened();
        }
        let (cell, over) = (Arc::clone(cell), Rc::new(Notify::new()));
        let open = Open { cell, since: worker.clock.unix().0, over: Rc::clone(&over) };
        let key = worker.tunnels.0.borrow_mut().insert(open);
        Self { worker: Rc::clone(worker), key, over }
    }

    /// Ready once it is to be closed.
    pub async fn over(&self) {
        self.over.notified().await;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let open = self.worker.tunnels.0.borrow_mut().try_remove(self.key);
        if let Some(shard) = open.as_ref().and_then(|open| open.cell.shard(self.worker.id)) {
            shard.tunnel_closed();
        }
    }
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").finish_non_exhaustive()
    }
}
