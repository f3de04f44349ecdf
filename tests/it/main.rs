//! Black-box tests of the real binary, against the operator's contract.
//!
//! Every test starts `switchback` with a configuration file, in front of scripted origins or a real
//! nginx, and looks only at what an operator or a user can see: sockets, files, exit codes, the
//! admin API, metrics and logs. One binary, a module per feature, because linking is slow.
//!
//! What they must never do: sleep to order events, assert that something was fast, use a fixed
//! port, leave a process behind, or reach inside the library.
//!
//! `SWITCHBACK_LONG=1` runs the full counts; `SWITCHBACK_REQUIRE_TOOLS=1` turns a skipped test
//! (a program or a python module that is not installed) into a failed one.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a helper that cannot go on must fail its test"
)]
#![allow(
    clippy::format_collect,
    clippy::format_push_string,
    clippy::large_stack_arrays,
    clippy::type_complexity,
    reason = "rows and generated configurations are for readers, not for speed"
)]

mod access_log;
mod admin;
mod bluegreen;
mod cli;
mod dashboard;
mod deploy;
mod differences;
mod drains;
mod endpoints;
mod experiments;
mod explain;
mod failures;
mod flapping;
mod forwarding;
mod gateway_api;
mod h2c_origins;
mod health;
mod life;
mod lifecycle;
mod limits;
mod metrics;
mod mirror;
mod mirrored;
mod mutations;
mod objectives;
mod one_client;
mod openapi;
mod origins;
mod origins_tls;
mod outside;
mod overrides;
mod pins;
mod probes_tls;
mod proofs;
mod rate_limit;
mod recipes;
mod recording;
mod reload;
mod retries;
mod rollouts;
mod rows;
mod shadowed;
mod simulate;
mod spans;
mod splitting;
mod sticky;
mod strangers;
mod streaming;
mod suffering;
mod support;
mod terminal;
mod tls;
mod upgrade;
mod waiting;
