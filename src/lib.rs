//! switchback: an L7 traffic-splitting reverse proxy that watches what it does and switches back.
//!
//! # The house, in layer order
//!
//! [`model`] shared words · [`spec`] what the operator writes · [`wire`] the admin API's JSON ·
//! [`split`] who gets which arm · [`ledger`] live numbers · [`analysis`] is the canary harmful? ·
//! [`rollout`] what to do about it ·
//! [`plan`] the compiled snapshot · [`certs`] our own certificates ·
//! [`fetch`] the small HTTP client · [`upstream`] talking to origins · [`net`] accepting clients ·
//! [`proxy`] the request path · [`control`] the only writer · [`telemetry`] metrics and logs ·
//! [`admin`] the operator's listener · [`cli`] the command line · [`app`] the composition root.
//!
//! # Invariants
//!
//! 1. One plan per request: an exchange keeps the plan it began with (`tests/it`: reload).
//! 2. A published plan is never mutated; only cells move.
//! 3. One publisher; publishing is all or nothing (`tests/it`: reload, broken files).
//! 4. Toward the canary: persist, then publish. Toward stable: publish, then persist
//!    (`control::order`).
//! 5. Pure rooms: same input, same bytes out (`tests/tidy.rs`).
//! 6. Every exchange leaves exactly one outcome (`tests/it`: metrics).
//! 7. Shadow traffic can neither delay nor fail a primary (`tests/it`: mirror).
//! 8. Raising an arm's weight moves buckets only into it; siblings keep theirs (`split::ranges`).
//! 9. The data plane never imports the control plane and serves on if it stops (`tests/tidy.rs`).
//! 10. Every queue, loop, buffer and label set has a named bound.
//! 12. Moves toward stable are always accepted; moves toward canary need the current generation
//!     (`tests/it`: admin).
//!
//! 11. The analyzer says what is true (`analysis::Verdict`); only `rollout::transition` says what to
//!     do (`rollout`: the simulation).

pub mod model;

pub mod spec;
pub mod wire;

pub mod ledger;
pub mod split;

pub mod analysis;
pub mod rollout;

pub mod plan;

pub mod certs;
pub mod fetch;

pub mod net;
pub mod upstream;

pub mod proxy;

pub mod control;
pub mod telemetry;

pub mod admin;
pub mod cli;

pub mod app;
