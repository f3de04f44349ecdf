//! Traffic that keeps running while a test does something to the proxy.
//!
//! Each kind counts what a user would have noticed: failed requests, connections closed under
//! them, streams cut. It paces itself so that the machine keeps some time for the thing under
//! test, and it must never retry or reconnect quietly.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::client::{Conn, Request, Response};
use super::h2c::H2c;

/// What one kind of traffic went through.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub done: usize,
    pub failed: usize,
    /// Keep-alive connections the proxy ended, by header or by closing.
    pub closed: usize,
    pub first_failure: Option<String>,
}

impl Report {
    fn note(&mut self, failure: String) {
        self.failed += 1;
        self.first_failure.get_or_insert(failure);
    }

    fn add(&mut self, other: Self) {
        self.done += other.done;
        self.failed += other.failed;
        self.closed += other.closed;
        if self.first_failure.is_none() {
            self.first_failure = other.first_failure;
        }
    }
}

/// Running traffic; `stop` ends it and says how it went.
pub struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Report>>,
}

type Ask = Arc<dyn Fn(usize) -> Request + Send + Sync>;

impl Load {
    /// Keep-alive HTTP/1.1: one request per connection every `pace`.
    pub fn h1(
        addr: SocketAddr,
        connections: usize,
        pace: Duration,
        request: impl Fn(usize) -> Request + Send + Sync + 'static,
    ) -> Self {
        let request: Ask = Arc::new(request);
        Self::threads(connections, move |index, stop| {
            let (mut conn, mut report) = (Conn::open(addr), Report::default());
            run_paced(stop, pace, |round| {
                let outcome = conn.send(&request(index + round * connections));
                let lost = outcome.is_err();
                let closing = outcome.as_ref().is_ok_and(Response::closes);
                judge(&mut report, outcome);
                if lost || closing {
                    report.closed += 1;
                    conn = Conn::open(addr);
                }
            });
            report
        })
    }

    /// The same with an exchange of the test's own; what it complains about is a failure, after which
    /// its connection is a new one. A proxy that is away is waited for.
    pub fn each(
        addr: SocketAddr,
        connections: usize,
        pace: Duration,
        exchange: impl Fn(&mut Conn, usize) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self::threads(connections, move |index, stop| {
            let (mut open, mut report) = (None, Report::default());
            run_paced(stop, pace, |round| {
                let Some(mut conn) = open.take().or_else(|| Conn::try_open(addr).ok()) else { return };
                match exchange(&mut conn, index + round * connections) {
                    Ok(()) => {
                        report.done += 1;
                        open = Some(conn);
                    }
                    Err(why) => report.note(why),
                }
            });
            report
        })
    }

    /// A new connection for every request: one that is refused or reset is a failure.
    pub fn fresh(
        addr: SocketAddr,
        clients: usize,
        pace: Duration,
        request: impl Fn(usize) -> Request + Send + Sync + 'static,
    ) -> Self {
        let request: Ask = Arc::new(request);
        Self::threads(clients, move |index, stop| {
            let mut report = Report::default();
            run_paced(stop, pace, |round| {
                let asked =
                    Conn::try_open(addr).and_then(|mut conn| conn.send(&request(index + round * clients)));
                judge(&mut report, asked);
            });
            report
        })
    }

    /// HTTP/2: several streams at a time on each connection.
    pub fn h2c(
        addr: SocketAddr,
        connections: usize,
        pace: Duration,
        request: impl Fn(usize) -> Request + Send + Sync + 'static,
    ) -> Self {
        let request: Ask = Arc::new(request);
        Self::threads(connections, move |index, stop| {
            let (conn, mut report) = (H2c::open(addr), Report::default());
            run_paced(stop, pace, |round| {
                let request = request(index + round * connections);
                for outcome in conn.send_together(&[request.clone(), request]) {
                    judge(&mut report, outcome);
                }
            });
            report.closed += usize::from(conn.is_closed());
            report
        })
    }

    /// Long answers: reads each until the origin ends it, then asks again unless told to stop.
    pub fn streams(addr: SocketAddr, connections: usize, request: Request) -> Self {
        Self::threads(connections, move |_, stop| {
            let mut report = Report::default();
            while !stop.load(Ordering::SeqCst) {
                judge(&mut report, Conn::open(addr).send(&request));
            }
            report
        })
    }

    fn threads(count: usize, body: impl Fn(usize, &AtomicBool) -> Report + Send + Sync + 'static) -> Self {
        let (stop, body) = (Arc::new(AtomicBool::new(false)), Arc::new(body));
        let threads = (0..count)
            .map(|index| {
                let (stop, body) = (Arc::clone(&stop), Arc::clone(&body));
                std::thread::spawn(move || body(index, &stop))
            })
            .collect();
        Self { stop, threads }
    }

    /// Asks every thread to finish the exchange it is in, and adds up.
    pub fn stop(mut self) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        let mut total = Report::default();
        for thread in self.threads.drain(..) {
            total.add(thread.join().expect("a load thread failed"));
        }
        total
    }
}

impl Drop for Load {
    /// A test that failed asks nothing more; its proxy is about to go.
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn judge(report: &mut Report, outcome: std::io::Result<Response>) {
    match outcome {
        Ok(response) if response.status == 200 => report.done += 1,
        Ok(response) => report.note(format!("{response:?}")),
        Err(error) => report.note(error.to_string()),
    }
}

/// Holds a rate by skipping the wait when behind, so that a slow machine only lowers the rate.
fn run_paced(stop: &AtomicBool, pace: Duration, mut once: impl FnMut(usize)) {
    let mut next = Instant::now();
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            return;
        }
        once(round);
        next = (next + pace).max(Instant::now());
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
