//! What a script's keepers tell the worker and each other: a page of memory that is the same in all of them, since between
//! fork and exec there is nothing else that could carry more than an error's number.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::libc;

/// What [`Shared::step`] is when nothing is being done.
const NO_STEP: i32 = -1;

struct Page {
    step: AtomicI32,
    status: AtomicI32,
}

/// The page. Forked processes see the same one; a program that is executed does not.
pub(super) struct Shared(NonNull<Page>);

// SAFETY: the page lives as long as the value, and all that is in it is atomic.
#[allow(unsafe_code)]
unsafe impl Send for Shared {}
// SAFETY: as above.
#[allow(unsafe_code)]
unsafe impl Sync for Shared {}

impl Shared {
    #[allow(unsafe_code)]
    pub(super) fn new() -> io::Result<Self> {
        let (access, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: asks for memory of its own, at no address in particular.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), size_of::<Page>(), access, kind, -1, 0) };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let page = NonNull::new(page.cast::<Page>()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: the memory is large enough, aligned to a page, and nobody else has it yet.
        unsafe { page.write(Page { step: AtomicI32::new(NO_STEP), status: AtomicI32::new(0) }) };
        Ok(Self(page))
    }

    #[allow(unsafe_code)]
    fn page(&self) -> &Page {
        // SAFETY: it was written by `new`, and is there until the value is dropped.
        unsafe { self.0.as_ref() }
    }

    /// Says which step is being done; `None` when they are over.
    pub(super) fn set_step(&self, step: Option<usize>) {
        let number = step.and_then(|step| i32::try_from(step).ok()).unwrap_or(NO_STEP);
        self.page().step.store(number, Ordering::SeqCst);
    }

    /// The step that was being done last, and so the one that failed.
    pub(super) fn step(&self) -> Option<usize> {
        usize::try_from(self.page().step.load(Ordering::SeqCst)).ok()
    }

    /// Says how the script ended, as `wait` has it.
    pub(super) fn set_status(&self, status: i32) {
        self.page().status.store(status, Ordering::SeqCst);
    }

    /// How the script ended.
    pub(super) fn status(&self) -> i32 {
        self.page().status.load(Ordering::SeqCst)
    }
}

impl Drop for Shared {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: it was mapped by `new` with this size, and no reference to it outlives the value.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<Page>()) };
    }
}
