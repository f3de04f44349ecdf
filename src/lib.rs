//! switchback: an L7 traffic-splitting reverse proxy that watches what it does and switches back.
pub mod ledger;
pub mod model;
pub mod plan;
pub mod spec;
pub mod split;

pub mod wire;

pub mod fetch;

pub mod control;

pub mod telemetry;

pub mod admin;

pub mod cli;
