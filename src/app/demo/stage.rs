//! The demo's set: two origins, the proxy `run` starts, the users, and the configuration file.
//!
//! Versions change as an operator changes them: the origin is deployed, then the file is edited. It
//! must never touch anything but loopback and the demo's own temporary folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::origin::{Build, Origin};
use super::users::Crowd;
use crate::app::run::{self, Proxy};
use crate::control::{By, Expected, RolloutAsk, RolloutReport};
use crate::ledger::Seen;
use crate::rollout::{Record, Verb};

/// The demo's only route.
pub(super) const ROUTE: &str = "all";
/// Starts tried, each on other ports.
const ATTEMPTS: u32 = 5;
/// How its versions are judged: short times, everything else as by default.
const POLICY: &str = "\
\x20     bake: 2s
\x20     analysis: { dwell: 3s, warmup: { errors: 2s, latency: 3s }, confidence: low, bursts: 1 }
";
/// The steps of a new version.
const STEPS: &str = "[{ weight: 5, dwell: 6s }, 25, 50, 100]";
/// The steps back to stable, of a version that everybody is on.
const STEPS_BACK: &str = "[50, 100]";
/// The same in words.
pub(super) const SHORTENED: &str = "Shortened for the demo; defaults in brackets: dwell 6 s, then 3 s [60 s], bake 2 s [10 min], warm-up of\n  \
    errors 2 s [15 s], of latency 3 s [60 s], confidence low [auto], bursts 1. Alpha is the default: 0.001.";

/// Everything that runs.
pub(super) struct Stage {
    /// The file an operator would edit.
    pub file: PathBuf,
    /// Where users connect.
    pub web: SocketAddr,
    /// Where operators connect.
    pub admin: SocketAddr,
    /// The arm that serves.
    pub stable: Origin,
    /// The arm new versions come to.
    pub canary: Origin,
    /// What is shown.
    pub proxy: Proxy,
    /// Who uses it.
    pub crowd: Crowd,
}

impl Stage {
    /// Sets everything up with v1 and no rollout.
    pub(super) async fn set(folder: &Path) -> io::Result<Self> {
        let stable = Origin::start(Build::healthy(1)).await?;
        let canary = Origin::start(Build::healthy(1)).await?;
        let file = folder.join("switchback.yaml");
        let mut attempt = 1;
        let (web, admin, proxy) = loop {
            let [web, admin] = free_ports()?;
            write(&file, &text(web, admin, [stable.address, canary.address], None))?;
            match run::start(&file).await {
                Ok(proxy) => break (web, admin, proxy),
                // Somebody else may have taken a port that was free.
                Err(_) if attempt < ATTEMPTS => attempt += 1,
                Err(refused) => return Err(io::Error::other(refused.text)),
            }
        };
        Ok(Self { file, web, admin, stable, canary, proxy, crowd: Crowd::gather(web) })
    }

    /// Deploys a version to the canary and writes its name into the file.
    pub(super) fn roll_out(&self, build: Build) -> io::Result<()> {
        self.canary.deploy(build);
        self.edit(build.version, STEPS)
    }

    fn edit(&self, version: usize, steps: &str) -> io::Result<()> {
        let origins = [self.stable.address, self.canary.address];
        write(&self.file, &text(self.web, self.admin, origins, Some((version, steps))))
    }

    /// Walks traffic back to stable in fewer steps, as an edit and `switchback rollout finish` do.
    pub(super) async fn finish(&self, version: usize) -> io::Result<()> {
        self.edit(version, STEPS_BACK)?;
        let read = self.proxy.control().reload(false, By::actor("demo"), Expected::Any).await;
        read.map_err(|refusal| io::Error::other(format!("the steps back were refused: {refusal:?}")))?;
        let ask = RolloutAsk {
            route: ROUTE.to_owned(),
            verb: Verb::Finish,
            version: None,
            force: false,
            by: By::actor("demo"),
            expected: Expected::Any,
        };
        let done = self.proxy.control().rollout(ask).await;
        done.map(drop).map_err(|refusal| io::Error::other(format!("finish was refused: {refusal:?}")))
    }

    /// How the rollout is.
    pub(super) fn report(&self) -> Option<RolloutReport> {
        self.proxy.control().rollouts().rollouts.get(ROUTE).cloned()
    }

    /// What was decided from the `from`-th decision on.
    pub(super) fn decided(&self, from: usize) -> Vec<Record> {
        let conducted = self.proxy.control().rollouts();
        conducted.history.get(ROUTE).into_iter().flat_map(|all| all.iter()).skip(from).cloned().collect()
    }

    /// The canary's weight that requests meet, in percent.
    pub(super) fn weight(&self) -> f64 {
        let plan = self.proxy.plan();
        let arms = plan.routes.iter().filter(|route| &*route.name == ROUTE).flat_map(|route| &route.arms);
        let (canary, all) = arms.fold((0, 0), |(canary, all), arm| {
            let weight = u64::from(arm.weight);
            (canary + if &*arm.name == "canary" { weight } else { 0 }, all + weight)
        });
        #[expect(clippy::cast_precision_loss, reason = "weights of two arms")]
        let percent = canary as f64 * 100.0 / all.max(1) as f64;
        percent
    }

    /// What each arm saw since the start.
    pub(super) fn seen(&self) -> BTreeMap<Arc<str>, Seen> {
        self.proxy.seen(ROUTE)
    }
}

fn text(
    web: SocketAddr,
    admin: SocketAddr,
    origins: [SocketAddr; 2],
    rollout: Option<(usize, &str)>,
) -> String {
    let [stable, canary] = origins;
    let mut text = format!(
        "listeners: [{{ name: web, address: \"{web}\" }}]\n\
         admin: {{ address: \"{admin}\" }}\n\
         stateDir: state\n\
         upstreams: {{ stable: \"http://{stable}\", canary: \"http://{canary}\" }}\n\
         routes:\n\
         \x20 - name: {ROUTE}\n\
         \x20   split: {{ stable: 100, canary: 0 }}\n\
         \x20   sticky: {{ by: [{{ header: x-user-id }}] }}\n"
    );
    if let Some((version, steps)) = rollout {
        // Writing to a String cannot fail.
        let _ = write!(text, "    rollout:\n      version: v{version}\n      steps: {steps}\n{POLICY}");
    }
    text
}

/// Writes as an editor would: a new file renamed over the old one.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let fresh = file.with_extension("new");
    std::fs::write(&fresh, text)?;
    std::fs::rename(fresh, file)
}

/// Two that are free now, and not the same.
fn free_ports() -> io::Result<[SocketAddr; 2]> {
    let bind = || std::net::TcpListener::bind(("127.0.0.1", 0));
    let (one, other) = (bind()?, bind()?);
    Ok([one.local_addr()?, other.local_addr()?])
}
