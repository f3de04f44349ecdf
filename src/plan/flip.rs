//! What surrounds an exchange of two slots: what is asked before, what is watched after.
//!
//! It exists so that the control plane reads it from the plan in force like everything else. It must
//! never be read on the request path.

use std::time::Duration;

use http::{HeaderValue, Method};

use crate::analysis::thresholds::Limits;

/// How the slots of a route are exchanged.
#[derive(Clone, Debug, PartialEq)]
pub struct FlipRules {
    /// What every endpoint of the idle slot must answer well before it serves.
    pub smoke: Box<[Smoke]>,
    /// How long the new slot is watched; zero is not at all.
    pub verify: Duration,
    /// Fixed limits of that time.
    pub limits: Option<Limits>,
    /// How long tunnels of the old slot stay open after a flip.
    pub drain: Duration,
}

/// One request of the smoke test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Smoke {
    /// Path with its query.
    pub path: Box<str>,
    /// Statuses that are well.
    pub expect: Box<[u16]>,
    /// How often each endpoint is asked.
    pub count: u32,
    /// Method.
    pub method: Method,
    /// Host asked for; `None` is the endpoint's own address.
    pub host: Option<HeaderValue>,
}
