//! `breaker`: stop asking an upstream, or ask it again.
//!
//! It must never say that it is done before the proxy does.

use clap::{Args, ValueEnum};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::Exit;
use super::remote::{AdminArgs, Outcome, Remote, finish, pretty};
use super::why::Why;
use crate::wire;

/// What to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Turn {
    /// Hold it open until it is closed
    Open,
    /// Close it
    Close,
}

/// Arguments of `breaker`.
#[derive(Clone, Debug, Args)]
pub struct BreakerArgs {
    /// open: requests no longer go to the upstream; close: they do again
    pub turn: Turn,
    /// The upstream
    pub upstream: String,
    /// Why.
    #[command(flatten)]
    pub why: Why,
    /// Refuse unless the configuration is at this generation
    #[arg(long, value_name = "GENERATION")]
    pub generation: Option<u64>,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Turns a breaker.
#[must_use]
pub fn breaker(args: &BreakerArgs) -> Exit {
    finish(Remote::open(&args.admin).and_then(|remote| asked(&remote, args)))
}

fn asked(remote: &Remote, args: &BreakerArgs) -> Outcome {
    let state = match args.turn {
        Turn::Open => wire::BreakerState::Open,
        Turn::Close => wire::BreakerState::Close,
    };
    let request = args.why.asked(wire::Breaker { state });
    let expected = args.generation.map_or_else(|| "*".to_owned(), |number| format!("\"{number}\""));
    let path = format!("/api/v1/upstreams/{}/breaker", utf8_percent_encode(&args.upstream, NON_ALPHANUMERIC));
    let done: wire::BreakerTurned = remote.post(&path, &request, &expected)?;
    if args.admin.json {
        return pretty(&done);
    }
    let wire::BreakerTurned { generation, before, state, .. } = &done;
    Ok(format!("breaker of {}: {before} -> {state}\ngeneration {generation}\n", args.upstream))
}
