//! What this library costs each process that the server forks.
//!
//! A page of a library that a new process touches is a page fault, and for a client that connects for each transaction every fault is about a
//! thousandth of its session. So in the calm a session runs the hooks, which lie in pages that are needed anyway, and nothing else of ours:
//! no handler at its start (here), no function at its end (`build.rs`).

use std::ffi::c_void;

// What the start files define (a variable that holds its own address), and the C library's `pthread_atfork` and Rust's thread-local variables
// ask for: what stands for this library. Weak, so that start files that bring it are welcome.
std::arch::global_asm!(
    ".pushsection .data.rel.ro.__dso_handle, \"aw\"",
    ".weak __dso_handle",
    ".hidden __dso_handle",
    ".balign 8",
    "__dso_handle:",
    ".quad __dso_handle",
    ".popsection",
);

unsafe extern "C" {
    static __dso_handle: c_void;
    /// Carries out what a library has registered for its end, and forgets its handlers of `fork` (Itanium C++ ABI, 3.3.5; glibc).
    fn __cxa_finalize(library: *const c_void);
}

/// Takes back the handler by which pgrx forgets, in every forked process, which thread may call the server. A forked process has but one
/// thread, the same as far as pgrx can see, so nothing is lost. From `_PG_init` only, as its last step.
pub(crate) fn forget_handlers() {
    // SAFETY: of what the call may run or forget, this library has registered that handler alone. A C library that is linked in one day and
    // calls atexit would see its function run here.
    unsafe { __cxa_finalize(&raw const __dso_handle) }
}
