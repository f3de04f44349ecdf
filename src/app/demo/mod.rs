//! `switchback demo`: the main job in a quarter of a minute, with real sockets and a real file.
//!
//! Two small origins, the very proxy that `run` starts, and a bounded stream of users; the weights
//! are changed by editing the configuration file while requests run. It must never touch anything
//! but loopback and its own temporary folder.

mod origin;
mod screen;
mod users;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::screen::Screen;
use self::users::Crowd;
use super::run::{self, Proxy};
use crate::ledger::Seen;

/// The canary's share, step by step, in percent.
const STEPS: [u32; 5] = [5, 10, 25, 50, 100];
/// The demo's only route.
const ROUTE: &str = "all";
/// How long each step is shown.
const STEP: Duration = Duration::from_millis(2_500);
/// Time between two pictures.
const FRAME: Duration = Duration::from_millis(250);

/// Plays the demo; true when nothing failed.
///
/// # Errors
/// A socket or a file that could not be had.
pub fn play(stay: bool) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = tempfile::Builder::new().prefix("switchback-demo-").tempdir()?;
    let result = runtime.block_on(show(folder.path(), stay));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}

async fn show(folder: &Path, stay: bool) -> io::Result<bool> {
    let stable = origin::start("v1", Duration::from_millis(2)).await?;
    let canary = origin::start("v2", Duration::from_millis(3)).await?;
    let set = Stage {
        file: folder.join("switchback.yaml"),
        stable,
        canary,
        web: free_port()?,
        admin: free_port()?,
    };
    set.write(STEPS[0])?;
    let proxy = run::start(&set.file).await.map_err(|refused| io::Error::other(refused.text))?;
    let crowd = Crowd::gather(set.web);
    let mut screen = Screen::new(io::stdout().is_terminal());
    Screen::open(&set.file, set.web, set.admin);
    for (number, share) in STEPS.into_iter().enumerate() {
        if number > 0 {
            set.write(share)?;
            proxy.generation_after(number as u64).await;
        }
        let (before, began) = (proxy.seen(ROUTE), tokio::time::Instant::now());
        while began.elapsed() < STEP {
            tokio::time::sleep(FRAME).await;
            screen.draw(share, &rows(&proxy, &before, began.elapsed()), &crowd.tally());
        }
        screen.keep();
    }
    if stay {
        Screen::stay(set.web, set.admin);
        let _ = tokio::signal::ctrl_c().await;
    }
    let tally = crowd.disperse().await;
    Screen::close(&tally, STEPS.len() - 1);
    proxy.stop().await;
    Ok(tally.failed == 0 && tally.moved_back == 0)
}

/// Where everything is.
struct Stage {
    file: PathBuf,
    stable: SocketAddr,
    canary: SocketAddr,
    web: SocketAddr,
    admin: SocketAddr,
}

impl Stage {
    /// Writes the configuration as an editor would: a new file renamed over the old one.
    fn write(&self, canary: u32) -> io::Result<()> {
        let mut text = String::new();
        let Self { stable: v1, canary: v2, web, admin, .. } = self;
        let share = 100 - canary;
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "listeners: [{{ name: web, address: \"{web}\" }}]\n\
             admin: {{ address: \"{admin}\" }}\n\
             upstreams: {{ stable: \"http://{v1}\", canary: \"http://{v2}\" }}\n\
             routes:\n\
             \x20 - name: all\n\
             \x20   split: {{ stable: {share}, canary: {canary} }}\n\
             \x20   sticky: {{ by: [{{ header: x-user-id }}] }}\n"
        );
        let fresh = self.file.with_extension("new");
        std::fs::write(&fresh, text)?;
        std::fs::rename(fresh, &self.file)
    }
}

fn free_port() -> io::Result<SocketAddr> {
    std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()
}

/// What each arm saw since `before`, over `span`.
fn rows(proxy: &Proxy, before: &BTreeMap<Arc<str>, Seen>, span: Duration) -> Vec<screen::ArmRow> {
    let now = proxy.seen(ROUTE);
    let none = Seen::default();
    let seen: Vec<(Arc<str>, Seen)> = now
        .into_iter()
        .map(|(name, arm)| (Arc::clone(&name), arm.since(before.get(&name).unwrap_or(&none))))
        .collect();
    let total: u64 = seen.iter().map(|(_, arm)| arm.requests).sum();
    #[expect(clippy::cast_precision_loss, reason = "a demo counts thousands")]
    let row = |(name, arm): (Arc<str>, Seen)| screen::ArmRow {
        observed: if total == 0 { 0.0 } else { arm.requests as f64 * 100.0 / total as f64 },
        rate: arm.requests as f64 / span.as_secs_f64().max(0.001),
        errors: arm.errors,
        p50: arm.latency.quantile(0.5),
        p99: arm.latency.quantile(0.99),
        name,
    };
    seen.into_iter().map(row).collect()
}
