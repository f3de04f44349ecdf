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

/// Length of one [`Tick`] in milliseconds: the resolution of every data-plane timeout.
pub const TICK_MILLIS: u64 = 50;

/// Coarse monotonic time of one worker, in units of [`TICK_MILLIS`] since the worker began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u32);

impl Tick {
    /// The first tick that is certainly `span` after this one; a zero span never comes.
    #[must_use]
    pub fn after(self, span: std::time::Duration) -> Self {
        if span.is_zero() {
            return Self(u32::MAX);
        }
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let ticks = millis.div_ceil(TICK_MILLIS).saturating_add(1);
        Self(self.0.saturating_add(u32::try_from(ticks).unwrap_or(u32::MAX)))
    }
}

/// The clock of one worker, read on the request path and set by the worker's own timer.
#[derive(Debug, Default)]
pub struct CoarseClock {
    tick: std::cell::Cell<u32>,
    unix_millis: std::cell::Cell<u64>,
}

impl CoarseClock {
    /// Sets both times.
    pub fn set(&self, tick: Tick, now: UnixMillis) {
        self.tick.set(tick.0);
        self.unix_millis.set(now.0);
    }

    /// Coarse monotonic time.
    #[must_use]
    pub fn tick(&self) -> Tick {
        Tick(self.tick.get())
    }

    /// Coarse wall-clock time.
    #[must_use]
    pub fn unix(&self) -> UnixMillis {
        UnixMillis(self.unix_millis.get())
    }
}
