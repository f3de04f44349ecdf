//! Arguments of the verbs that ask a running proxy.
//!
//! It must never hold a token on the command line: tokens come from files or the environment.

use std::path::PathBuf;

use clap::Args;

/// How to reach the proxy, and how to print.
#[derive(Clone, Debug, Args)]
pub struct AdminArgs {
    /// Admin address: http://host:port or unix:/path
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9901")]
    pub admin: String,
    /// File with the operator token; default: $SWITCHBACK_TOKEN, then .switchback/admin.token
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Only this route
    pub route: Option<String>,
    /// Print again every second until interrupted
    #[arg(long)]
    pub watch: bool,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Arguments of `weights`.
#[derive(Clone, Debug, Args)]
pub struct WeightsArgs {
    /// The route
    pub route: String,
    /// The whole split as arm=weight; arms not named get 0
    #[arg(value_name = "ARM=WEIGHT", value_parser = arm_weight, required_unless_present = "reset", conflicts_with = "reset")]
    pub weights: Vec<(String, u32)>,
    /// Return to the weights of the file
    #[arg(long)]
    pub reset: bool,
    /// Why, for the journal
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
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
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

fn arm_weight(text: &str) -> Result<(String, u32), String> {
    let (arm, weight) = text.rsplit_once('=').ok_or("write arm=weight, such as canary=5")?;
    let weight = weight.parse().map_err(|_| format!("`{weight}` is not a whole number from 0"))?;
    Ok((arm.to_owned(), weight))
}
