//! Memory for content on its way: blocks of one size, recycled, and never more than a budget of them.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of a block. Also how content is divided for the encoder: the bytes of an object must depend on nothing else
/// than its content, so changing this changes objects of content that is stored uncompressed in part.
pub(super) const BLOCK: usize = 256 << 10;

/// Blocks in flight: 64 MiB.
const LIMIT: usize = 256;

/// Hands out blocks.
#[derive(Debug, Default)]
pub(super) struct Budget {
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    in_flight: usize,
    free: Vec<Box<[u8]>>,
}

impl Budget {
    /// An empty block; waits until there is room for one.
    pub(super) fn block(self: &Arc<Self>) -> Block {
        let mut state = self.lock();
        while state.in_flight >= LIMIT {
            state = self.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.in_flight += 1;
        let bytes = state.free.pop().unwrap_or_else(|| vec![0; BLOCK].into_boxed_slice());
        Block { bytes, length: 0, budget: self.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A piece of content. Dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Block {
    bytes: Box<[u8]>,
    length: usize,
    budget: Arc<Budget>,
}

impl Block {
    /// What it holds.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_full(&self) -> bool {
        self.length == BLOCK
    }

    /// What is behind it.
    pub(super) fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.length..]
    }

    /// Takes over what was written into the room.
    pub(super) fn grow(&mut self, count: usize) {
        self.length = (self.length + count).min(self.bytes.len());
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// Keeps the first bytes, gives the others in a block of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut rest = self.budget.block();
        let moved = &self.bytes()[at..];
        rest.bytes[..moved.len()].copy_from_slice(moved);
        rest.length = moved.len();
        self.length = at;
        rest
    }

    pub(super) fn is_zero(&self) -> bool {
        // Each byte is equal to the one before it: one comparison of memory, which ends at the first that is not.
        match self.bytes() {
            [] => true,
            bytes @ [first, rest @ ..] => *first == 0 && bytes[..rest.len()] == *rest,
        }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let mut state = self.budget.lock();
        state.in_flight -= 1;
        state.free.push(std::mem::take(&mut self.bytes));
        drop(state);
        self.budget.returned.notify_one();
    }
}
