//! `flip`: everything to the other slot of a blue-green route, or back.
//!
//! The proxy tries the slot before it answers, which takes longer than other verbs do. It must never
//! say that it is done before the proxy does.

use std::time::Duration;

use clap::Args;

use super::Exit;
use super::remote::{AdminArgs, Outcome, Remote, finish, pretty, route_path};
use super::remote_text;
use super::why::{Based, Why};
use crate::wire;

/// How long the proxy may try the slot, and a little more.
const PATIENCE: Duration = Duration::from_secs(45);

/// Arguments of `flip`.
#[derive(Clone, Debug, Args)]
pub struct FlipArgs {
    /// The route
    pub route: String,
    /// To the slot that served before, at once
    #[arg(long)]
    pub back: bool,
    /// Untried, and whether or not anybody answers there
    #[arg(long)]
    pub force: bool,
    /// Why.
    #[command(flatten)]
    pub why: Why,
    /// On what it is based.
    #[command(flatten)]
    pub based: Based,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Exchanges the slots of a route.
#[must_use]
pub fn flip(args: &FlipArgs) -> Exit {
    finish(Remote::open(&args.admin).and_then(|remote| asked(&remote.patient(PATIENCE), args)))
}

fn asked(remote: &Remote, args: &FlipArgs) -> Outcome {
    let asked = args.why.asked(wire::Flip { back: args.back, force: args.force });
    let path = format!("{}/flip", route_path(&args.route));
    let done: wire::Flipped = remote.post(&path, &asked, &args.based.expected())?;
    if args.admin.json { pretty(&done) } else { Ok(remote_text::flipped(&args.route, &done)) }
}
