//! `flip`: everything to the other slot of a blue-green route, or back.
//!
//! The proxy tries the slot before it answers, which takes longer than other verbs do. It must never
//! say that it is done before the proxy does.

use std::time::Duration;

use clap::Args;

use super::Exit;
use super::remote::{AdminArgs, Outcome, Remote, actor, finish, pretty, route_path};
use super::remote_text;
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
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Refuse unless the route is at this generation
    #[arg(long, value_name = "GENERATION")]
    pub generation: Option<u64>,
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
    let request = wire::FlipRequest {
        back: args.back,
        force: args.force,
        reason: Some(args.reason.clone()).filter(|reason| !reason.is_empty()),
        actor: Some(actor()),
        ..wire::FlipRequest::default()
    };
    let expected = args.generation.map_or_else(|| "*".to_owned(), |number| format!("\"{number}\""));
    let done: wire::Flipped =
        remote.post(&format!("{}/flip", route_path(&args.route)), &request, &expected)?;
    if args.admin.json { pretty(&done) } else { Ok(remote_text::flipped(&args.route, &done)) }
}
