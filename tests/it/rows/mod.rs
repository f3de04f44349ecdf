//! The rows of the fault matrix that a client or an origin can cause, one line of output each.
//!
//! F: framing and request line. P: identity and paths. D: HTTP/2 to HTTP/1. L: slow clients.
//! R: odd origins. U: upgrades. A: the operator's listener. T and L06, of TLS, are noted by `tls.rs`. Every row is judged by bytes: what the client got, what the origin saw, what was
//! counted. A row must never stop the rows after it; a table fails at its end.

mod admin;
mod downgrade;
mod framing;
mod identity;
mod slow;
mod upgrade;
mod upstream;

use std::fs::OpenOptions;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::support::recorder::Recorder;
use crate::support::{Conn, Proxy, eventually};

/// Rows of one test; prints them and appends them to the file that `tests/run` prints.
struct Table {
    failed: Vec<String>,
}

impl Table {
    fn new() -> Self {
        Self { failed: Vec::new() }
    }

    fn row(&mut self, id: &str, what: &str, check: impl FnOnce()) {
        let fine = catch_unwind(AssertUnwindSafe(check)).is_ok();
        let line = format!("row {id} {} ({what})", if fine { "... ok" } else { "... FAILED" });
        println!("{line}");
        if let Some(file) = std::env::var_os("SWITCHBACK_ROWS") {
            let mut file = OpenOptions::new().create(true).append(true).open(file).expect("the file of rows");
            // One write, because other tests append at the same time.
            file.write_all(format!("{line}\n").as_bytes()).expect("note a row");
        }
        if !fine {
            self.failed.push(format!("{id} ({what})"));
        }
    }

    #[track_caller]
    fn end(self) {
        assert!(self.failed.is_empty(), "failed rows: {}", self.failed.join(", "));
    }
}

/// A test that is one row.
#[track_caller]
pub fn row(id: &str, what: &str, check: impl FnOnce()) {
    let mut table = Table::new();
    table.row(id, what, check);
    table.end();
}

/// A proxy in front of one recorder, as arm `app` of route `all`.
struct Stage {
    proxy: Proxy,
    up: Recorder,
}

impl Stage {
    fn new(up: Recorder, top: &str, route: &str) -> Self {
        let proxy = Proxy::start(&format!(
            "{top}upstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }}{route} }}]\n",
            up.url()
        ));
        Self { proxy, up }
    }

    fn polite() -> Self {
        Self::new(Recorder::polite(), "", "")
    }

    /// Forgets what was recorded; what was counted so far under a reason of refusal.
    fn mark(&self, reason: &'static str) -> Mark {
        self.up.clear();
        let rejected = self.proxy.metrics().count("switchback_rejected_total", &[("reason", reason)]);
        Mark { reason, rejected, charged: self.charged() }
    }

    fn charged(&self) -> u64 {
        self.proxy.metrics().count("switchback_requests_total", &[("outcome", "error")])
    }

    /// What a refusal must leave: one more of its reason, nobody charged, not a byte upstream.
    #[track_caller]
    fn refused(&self, mark: &Mark) {
        self.proxy.settles("switchback_rejected_total", &[("reason", mark.reason)], mark.rejected + 1);
        assert_eq!(self.charged(), mark.charged, "no arm is to blame");
        assert_eq!(self.up.bytes(), 0, "an upstream heard of it: {:?}", self.up.messages());
    }

    /// Waits until the recorder has heard the end of so many requests.
    #[track_caller]
    fn heard(&self, count: usize) {
        eventually(&format!("{count} requests ended upstream"), || self.up.messages().len() >= count);
        assert_eq!(self.up.messages().len(), count, "{:?}", self.up.messages());
    }
}

/// Counters before a row.
struct Mark {
    reason: &'static str,
    rejected: u64,
    charged: u64,
}

/// What a client reads until the connection ends: final answers, interim ones, text of each.
#[derive(Debug)]
struct Heard {
    statuses: Vec<u16>,
    interims: Vec<u16>,
    bodies: Vec<String>,
}

/// Reads answers until the proxy ends the connection or `count` came.
fn answers(conn: &mut Conn, methods: &[&str], count: usize) -> Heard {
    let (mut statuses, mut bodies) = (Vec::new(), Vec::new());
    while statuses.len() < count {
        let method = methods.get(statuses.len()).copied().unwrap_or("GET");
        let Ok(head) = conn.read_head(method) else { break };
        statuses.push(head.status);
        let mut body = Vec::new();
        while let Ok(Some(piece)) = conn.piece() {
            body.extend(piece);
        }
        bodies.push(String::from_utf8_lossy(&body).into_owned());
    }
    Heard { statuses, interims: std::mem::take(&mut conn.interims), bodies }
}
