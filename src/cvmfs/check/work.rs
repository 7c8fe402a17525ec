//! The work of a check and the threads that share it: catalogs, which find more catalogs, and batches of objects.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Batches of objects that may wait. Whoever has more looks at them itself, so that memory stays bounded.
const MOST_BATCHES: usize = 64;

/// A piece of work.
pub(super) enum Task<C, O> {
    /// A catalog.
    Catalog(C),
    /// A batch of objects.
    Objects(Vec<O>),
}

struct State<C, O> {
    catalogs: Vec<C>,
    objects: VecDeque<Vec<O>>,
    busy: usize,
}

/// What is still to be done.
pub(super) struct Work<C, O> {
    state: Mutex<State<C, O>>,
    changed: Condvar,
}

impl<C: Send, O: Send> Work<C, O> {
    /// Starts with one catalog.
    pub(super) fn new(first: C) -> Self {
        let state = State { catalogs: vec![first], objects: VecDeque::new(), busy: 0 };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    /// Adds a catalog.
    pub(super) fn add_catalog(&self, catalog: C) {
        lock(&self.state).catalogs.push(catalog);
        self.changed.notify_one();
    }

    /// Adds a batch of objects; gives it back when too many wait.
    pub(super) fn add_objects(&self, batch: Vec<O>) -> Option<Vec<O>> {
        let mut state = lock(&self.state);
        if state.objects.len() >= MOST_BATCHES {
            return Some(batch);
        }
        state.objects.push_back(batch);
        self.changed.notify_one();
        None
    }

    /// Does everything there is to do, and whatever comes of it, in so many threads.
    pub(super) fn finish(&self, threads: usize, act: &(dyn Fn(Task<C, O>) + Sync)) {
        std::thread::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|| self.run(act));
            }
            self.run(act);
        });
    }

    fn run(&self, act: &(dyn Fn(Task<C, O>) + Sync)) {
        while let Some(task) = self.take() {
            let _busy = Busy(self);
            act(task);
        }
    }

    /// The next piece; `None` when nothing is left and nothing can come.
    fn take(&self) -> Option<Task<C, O>> {
        let mut state = lock(&self.state);
        loop {
            // Objects first, and the catalog found last: fewest things wait that way.
            let task = state.objects.pop_front().map(Task::Objects).or_else(|| state.catalogs.pop().map(Task::Catalog));
            if task.is_some() {
                state.busy += 1;
                return task;
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Counts a thread out when its piece is done, or has panicked: the others must not wait for it.
struct Busy<'w, C, O>(&'w Work<C, O>);

impl<C, O> Drop for Busy<'_, C, O> {
    fn drop(&mut self) {
        lock(&self.0.state).busy -= 1;
        self.0.changed.notify_all();
    }
}

/// Locks; what a panicked thread left behind is as good as it was.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
