//! The switchback binary: argv to exit code, and the choice of allocator.
//!
//! It exists so that everything else is a library that tests can use. It must never decide anything.

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: heap::Mimalloc = heap::Mimalloc;

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

/// mimalloc, asked in its cheapest way: for an alignment that any block has it is not asked, because
/// then it takes a slow way round with all that is over a kibibyte.
#[cfg(feature = "mimalloc")]
#[allow(unsafe_code)]
mod heap {
    use std::alloc::{GlobalAlloc, Layout};

    use libmimalloc_sys as mi;

    /// The alignment of every block that is as large as that, as of any `malloc`.
    const NATURAL: usize = 16;

    pub struct Mimalloc;

    const fn is_natural(size: usize, align: usize) -> bool {
        align <= NATURAL && align <= size
    }

    // SAFETY: every call is passed on to mimalloc, whose blocks are valid until they are freed, by
    // whichever function they were made, and are aligned as any `malloc`'s where that is all it takes.
    unsafe impl GlobalAlloc for Mimalloc {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let (size, align) = (layout.size(), layout.align());
            let natural = is_natural(size, align);
            unsafe { if natural { mi::mi_malloc(size) } else { mi::mi_malloc_aligned(size, align) } }.cast()
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            let (size, align) = (layout.size(), layout.align());
            let natural = is_natural(size, align);
            unsafe { if natural { mi::mi_zalloc(size) } else { mi::mi_zalloc_aligned(size, align) } }.cast()
        }

        unsafe fn dealloc(&self, block: *mut u8, _: Layout) {
            unsafe { mi::mi_free(block.cast()) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            let (block, align) = (block.cast(), layout.align());
            let natural = is_natural(size, align);
            unsafe {
                if natural { mi::mi_realloc(block, size) } else { mi::mi_realloc_aligned(block, size, align) }
            }
            .cast()
        }
    }
}
