//! Read and write buffers of one worker, lent to upstream connections while they work.
//!
//! An idle connection holds none, so that many idle ones cost what their sockets cost. It must never
//! keep more than its bound, nor a buffer that grew large.

use std::cell::RefCell;

use bytes::BytesMut;

use super::h1::Names;

/// Size of a fresh read buffer, in bytes: a head and a small body in one read.
pub const READ_BYTES: usize = 8 << 10;
/// Room for the request heads of nearly everybody, in bytes.
const HEAD_BYTES: usize = 1 << 10;
/// Largest buffer kept for the next connection, in bytes.
const KEPT_BYTES: usize = 16 << 10;
/// Buffers of each kind kept by one worker.
const KEPT: usize = 64;

/// The spare buffers of one worker.
#[derive(Debug, Default)]
pub struct Buffers {
    inboxes: RefCell<Vec<BytesMut>>,
    heads: RefCell<Vec<Vec<u8>>>,
    /// What helps to read the next head of a response.
    pub names: RefCell<Names>,
}

impl Buffers {
    /// An empty read buffer.
    #[must_use]
    pub fn inbox(&self) -> BytesMut {
        self.inboxes.borrow_mut().pop().unwrap_or_else(|| BytesMut::with_capacity(READ_BYTES))
    }

    /// An empty buffer for a request head.
    #[must_use]
    pub fn head(&self) -> Vec<u8> {
        self.heads.borrow_mut().pop().unwrap_or_else(|| Vec::with_capacity(HEAD_BYTES))
    }

    /// Takes an empty read buffer back.
    pub fn keep_inbox(&self, inbox: BytesMut) {
        let mut kept = self.inboxes.borrow_mut();
        if kept.len() < KEPT && inbox.capacity() <= KEPT_BYTES {
            kept.push(inbox);
        }
    }

    /// Takes a head buffer back.
    pub fn keep_head(&self, mut head: Vec<u8>) {
        let mut kept = self.heads.borrow_mut();
        if kept.len() < KEPT && (1..=KEPT_BYTES).contains(&head.capacity()) {
            head.clear();
            kept.push(head);
        }
    }
}
