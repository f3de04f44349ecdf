//! Small typed numbers, so that an arm index cannot be mistaken for a bucket.
//!
//! They must never carry meaning of their own: names live in the plan.

/// Index of an arm inside its route, in name order; at most [`ArmIx::MAX_ARMS`] arms per route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArmIx(pub u8);

impl ArmIx {
    /// Upper bound on arms of one route: a bit set of arms fits one `u64`.
    pub const MAX_ARMS: usize = 64;

    /// The index as a slice index.
    #[must_use]
    pub const fn at(self) -> usize {
        self.0 as usize
    }
}

/// Identity of one endpoint (scheme, host, port) for the life of the process; never reused, so
/// that an exchange on an old plan can never reach the pool of another endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId(pub u32);

/// Number of a data-plane worker, `0..workers`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerId(pub usize);

/// Number of a published plan (global) or of a route's plan; grows by one per change, starts at 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The next number.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}
