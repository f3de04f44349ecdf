//! Where the demo prints: lines that stay, and below them one picture that is redrawn in a terminal.
//!
//! Elsewhere the picture is printed only when it is to be kept. It must never redraw a line that was
//! said.

use std::io::Write;
use std::sync::Arc;

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

impl ArmRow {
    /// As a line with a bar.
    pub(super) fn line(&self) -> String {
        format!(
            "    {:<7} {} {:5.1} %  {:>5.0} req/s  {:>3} errors  p50 {:>8}  p99 {:>8}",
            self.name,
            bar(self.observed / 100.0, BAR),
            self.observed,
            self.rate,
            self.errors,
            millis(self.p50),
            millis(self.p99),
        )
    }
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

    /// A line that stays, above the picture.
    pub(super) fn say(&mut self, line: &str) {
        self.erase();
        println!("{line}");
        if self.live {
            self.paint();
        }
    }

    /// Replaces the picture.
    pub(super) fn draw(&mut self, lines: Vec<String>) {
        self.erase();
        self.last = lines;
        if self.live {
            self.paint();
        }
    }

    /// Leaves the picture where it is and begins another.
    pub(super) fn keep(&mut self) {
        self.erase();
        self.paint();
        self.drawn = 0;
        self.last.clear();
    }

    fn erase(&mut self) {
        if self.drawn > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }

    fn paint(&mut self) {
        // A line that a narrow terminal breaks would be two to erase.
        let [narrow, wide] = if self.live { ["\x1b[?7l", "\x1b[?7h"] } else { ["", ""] };
        for line in &self.last {
            println!("{narrow}{line}{wide}");
        }
        // A terminal that is gone will be noticed by the next line.
        let _ = std::io::stdout().flush();
        self.drawn = self.last.len();
    }
}

/// A bar filled to a part from 0 to 1.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "0 to 1 of a bar"
)]
pub(super) fn bar(part: f64, width: usize) -> String {
    let filled = ((part.clamp(0.0, 1.0) * width as f64).round() as usize).min(width);
    format!("{}{}", "█".repeat(filled), "·".repeat(width - filled))
}

fn millis(nanos: Option<u64>) -> String {
    #[expect(clippy::cast_precision_loss, reason = "latencies are far below 2^52 ns")]
    nanos.map_or_else(|| "-".to_owned(), |nanos| format!("{:.1} ms", nanos as f64 / 1e6))
}
