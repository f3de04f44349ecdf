//! What the demo shows: one picture redrawn in a terminal, plain lines elsewhere.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::users::Tally;

/// Width of a bar in characters.
const BAR: usize = 40;

/// What one arm saw lately.
#[derive(Clone, Debug)]
pub(super) struct ArmRow {
    /// Arm name.
    pub name: Arc<str>,
    /// Share of requests in percent.
    pub observed: f64,
    /// Requests a second.
    pub rate: f64,
    /// Failed requests.
    pub errors: u64,
    /// Median latency in nanoseconds.
    pub p50: Option<u64>,
    /// 99th percentile in nanoseconds.
    pub p99: Option<u64>,
}

/// The demo's output.
pub(super) struct Screen {
    live: bool,
    drawn: usize,
    last: Vec<String>,
}

impl Screen {
    /// `live` redraws in place.
    pub(super) fn new(live: bool) -> Self {
        Self { live, drawn: 0, last: Vec::new() }
    }

    /// Says what is where.
    pub(super) fn open(file: &Path, web: SocketAddr, admin: SocketAddr) {
        say(
            "switchback demo: two origins (v1 is stable, v2 is the canary), 1000 users, 8 keep-alive connections",
        );
        say(&format!("  proxy http://{web}/   admin http://{admin}/   configuration {}", file.display()));
        say("  The canary's weight is raised by editing that file while requests run.\n");
    }

    /// Draws the present step.
    pub(super) fn draw(&mut self, share: u32, arms: &[ArmRow], tally: &Tally) {
        let (users, on_canary) = tally.users();
        let mut lines = vec![format!("canary weight {share:>3} %")];
        for arm in arms.iter().rev() {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "0 to 100 percent of a bar"
            )]
            let filled = ((arm.observed / 100.0 * BAR as f64).round() as usize).min(BAR);
            lines.push(format!(
                "  {:<7} {}{} {:5.1} %  {:>5.0} req/s  {:>2} errors  p50 {:>7}  p99 {:>7}",
                arm.name,
                "█".repeat(filled),
                "·".repeat(BAR - filled),
                arm.observed,
                arm.rate,
                arm.errors,
                millis(arm.p50),
                millis(arm.p99),
            ));
        }
        lines.push(format!(
            "  {} requests, {} failed; {on_canary} of {users} users on v2; {} went v1 to v2, {} back",
            tally.requests, tally.failed, tally.moved_on, tally.moved_back
        ));
        if self.live {
            if self.drawn > 0 {
                print!("\x1b[{}A", self.drawn);
            }
            for line in &lines {
                println!("\x1b[2K{line}");
            }
            let _ = std::io::stdout().flush();
            self.drawn = lines.len();
        }
        self.last = lines;
    }

    /// Leaves the last picture where it is.
    pub(super) fn keep(&mut self) {
        if !self.live {
            self.last.iter().for_each(|line| say(line));
        }
        say("");
        self.drawn = 0;
    }

    /// Says how to look around.
    pub(super) fn stay(web: SocketAddr, admin: SocketAddr) {
        say("Everything stays up until Ctrl-C. Try, in another terminal:");
        say(&format!("  curl -s -H 'x-user-id: u42' http://{web}/"));
        say(&format!("  curl -s http://{admin}/api/v1/routes/all"));
        say(&format!("  switchback status --admin http://{admin}"));
    }

    /// Says what moved and what failed.
    pub(super) fn close(tally: &Tally, edits: usize) {
        let (users, _) = tally.users();
        say(&format!(
            "{edits} edits of the file under load, {} requests from {users} users:",
            tally.requests
        ));
        say(&format!(
            "  {} users moved from v1 to v2, each once; {} moved back",
            tally.moved_on, tally.moved_back
        ));
        say(&format!("  {} requests failed, {} connections were closed", tally.failed, tally.closed));
    }
}

fn say(line: &str) {
    println!("{line}");
}

fn millis(nanos: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 ns")]
    nanos.map_or_else(|| "-".to_owned(), |nanos| format!("{:.1} ms", nanos as f64 / 1e6))
}
