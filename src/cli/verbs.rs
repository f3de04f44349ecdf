//! Verbs that change a running proxy or ask it about a request: weights, drain, reload, explain.
//!
//! They print what changed and the generation. They must never change anything that the proxy did
//! not say that it changed.

use clap::Args;

use super::remote::{AdminArgs, Failed, Outcome, Remote, encode, finish, pretty, route_path};
use super::why::{Based, Why};
use super::{Exit, remote_text};
use crate::wire;

/// Arguments of `weights`.
#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// The route
    pub route: String,
    /// The whole split as arm=weight; arms not named get 0
    #[arg(value_name = "ARM=WEIGHT", value_parser = arm_weight, required_unless_present = "reset", conflicts_with = "reset")]
    pub weights: Vec<(String, u32)>,
    /// Give up what was set by hand: the rollout rules again, without one the file
    #[arg(long)]
    pub reset: bool,
    /// Even if no arm has weight then
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

/// Arguments of `drain`.
#[derive(Clone, Debug, Args)]
pub struct DrainArgs {
    /// The route
    pub route: String,
    /// The arm that gets no new users
    pub arm: String,
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

/// Arguments of `reload`.
#[derive(Clone, Debug, Args)]
pub struct ReloadArgs {
    /// Only say whether it would load
    #[arg(long)]
    pub dry_run: bool,
    /// Why.
    #[command(flatten)]
    pub why: Why,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// A request for `explain` to ask a running proxy about.
#[derive(Clone, Debug, Default)]
pub struct ExplainAsk {
    /// `http://host/path`.
    pub url: String,
    /// Method.
    pub method: String,
    /// Headers as `name: value`.
    pub headers: Vec<String>,
    /// Client address.
    pub client_ip: String,
    /// Sticky key.
    pub key: Option<String>,
}

fn arm_weight(text: &str) -> Result<(String, u32), String> {
    let (arm, weight) = text.rsplit_once('=').ok_or("write arm=weight, such as canary=5")?;
    let weight = weight.parse().map_err(|_| format!("`{weight}` is not a whole number from 0"))?;
    Ok((arm.to_owned(), weight))
}

/// Sets the weights of a route, or returns to the file's.
#[must_use]
pub fn weights(args: &WeightsArgs) -> Exit {
    if !args.reset && !args.force && args.weights.iter().all(|(_, weight)| *weight == 0) {
        let why = "no arm would have weight, and everybody would get 503: arms that are not named get 0. \
                   Name the arm that shall serve as well, such as stable=100, or say --force";
        return finish(Err(Failed(Exit::Refused, why.to_owned())));
    }
    let asked = wire::Weights {
        weights: (!args.reset).then(|| args.weights.iter().cloned().collect()),
        reset: args.reset,
        force: args.force,
    };
    let done = || -> Outcome {
        let text = split(&args.admin, &args.route, "weights", &args.why.asked(asked), args.based)?;
        let told = args.reset && !args.admin.json;
        Ok(if told { text + &rules_now(&args.admin, &args.route) } else { text })
    };
    finish(done())
}

/// What says the weights once nobody's hand does; nothing when that cannot be read, for they are given
/// back all the same.
fn rules_now(admin: &AdminArgs, route: &str) -> String {
    let now = Remote::open(admin).and_then(|remote| remote.get::<wire::Route>(&route_path(route)));
    now.map(|now| remote_text::rules(&now)).unwrap_or_default()
}

/// Takes an arm's weight and leaves it the users that are pinned to it.
#[must_use]
pub fn drain(args: &DrainArgs) -> Exit {
    let asked = wire::DrainOf { arm: args.arm.clone() };
    finish(split(&args.admin, &args.route, "drain", &args.why.asked(asked), args.based))
}

/// A verb that changes weights.
fn split(admin: &AdminArgs, route: &str, verb: &str, asked: &impl serde::Serialize, based: Based) -> Outcome {
    let path = format!("{}/{verb}", route_path(route));
    let done: wire::WeightsSet = Remote::open(admin)?.post(&path, asked, &based.expected())?;
    if admin.json { pretty(&done) } else { Ok(remote_text::weights(route, &done)) }
}

/// Loads the configuration again.
#[must_use]
pub fn reload(args: &ReloadArgs) -> Exit {
    let done = || -> Outcome {
        let path = if args.dry_run { "/api/v1/reload?dryRun=true" } else { "/api/v1/reload" };
        let asked = args.why.asked(wire::Reload {});
        let done: wire::Reloaded = Remote::open(&args.admin)?.post(path, &asked, "*")?;
        if args.admin.json { pretty(&done) } else { Ok(remote_text::reload(&done)) }
    };
    finish(done())
}

/// Says what a running proxy would do with a request.
#[must_use]
pub fn explain(admin: &AdminArgs, ask: &ExplainAsk) -> Exit {
    let told = || -> Outcome {
        let mut path = String::from("/api/v1/explain?");
        let single = [("url", &ask.url), ("method", &ask.method), ("clientIP", &ask.client_ip)];
        let repeated = ask.headers.iter().map(|value| ("header", value));
        let key = ask.key.iter().map(|key| ("key", key));
        for (name, value) in single.into_iter().chain(repeated).chain(key) {
            path.extend([name, "=", &encode(value), "&"]);
        }
        let told: wire::Explained = Remote::open(admin)?.get(&path)?;
        if admin.json { pretty(&told) } else { Ok(remote_text::explained(&told)) }
    };
    finish(told())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Weights {
        #[command(flatten)]
        args: WeightsArgs,
    }

    #[test]
    fn weights_are_written_as_pairs_or_reset() {
        let parsed = |line: &str| Weights::try_parse_from(line.split(' ')).map(|parsed| parsed.args);
        let args = parsed("weights all stable=95 canary=5").expect("two pairs");
        assert_eq!(args.weights, [("stable".to_owned(), 95), ("canary".to_owned(), 5)]);
        assert!(parsed("weights all --reset").expect("a reset").reset);
        let args = parsed("weights all a=1 --annotate build=42 --generation 7").expect("notes");
        let asked = serde_json::to_value(args.why.asked(())).expect("a body");
        assert_eq!((&asked["annotations"]["build"], &*args.based.expected()), (&"42".into(), "\"7\""));
        for wrong in
            ["weights all", "weights all a=1 --reset", "weights all a", "weights all a=-1", "weights all a=x"]
        {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }
}
