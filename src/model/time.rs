//! Time as a value: decisions receive it, only the shell reads it.
//!
//! It must never call the operating system outside [`SystemClock`], which only shells use.

/// Wall-clock milliseconds since the Unix epoch. For display, windows and ids, never for timeouts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Whole seconds since the epoch.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        (self.0 / 1000).cast_signed()
    }
}

/// A source of wall-clock time, so that the control plane can be driven by a test.
pub trait Clock: Send + Sync {
    /// The present moment.
    fn now(&self) -> UnixMillis;
}
