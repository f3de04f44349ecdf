//! The switchback binary: argv to exit code, and the choice of allocator.
//!
//! It exists so that everything else is a library that tests can use. It must never decide anything.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    #[cfg(feature = "mimalloc")]
    give_memory_back();
    switchback::app::main()
}

/// Memory of connections that went idle returns to the system at once: by default the allocator
/// keeps it until some later allocation happens to look, which an idle proxy never makes. And it
/// asks for huge pages, which make a small process five times as large.
#[cfg(feature = "mimalloc")]
fn give_memory_back() {
    /// `mi_option_purge_delay` of mimalloc's `mi_option_t`.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    #[allow(unsafe_code)]
    // SAFETY: sets one integer of the allocator and one flag of the process before any other
    // thread runs; neither touches memory.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, 0);
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
    }
}
