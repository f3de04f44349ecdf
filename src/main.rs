//! The switchback binary.
#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
fn main() { switchback::app::quick(&std::env::args().nth(1).unwrap()); }
