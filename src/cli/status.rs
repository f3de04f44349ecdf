//! `status`: the process and its routes, once, or again and again.
//!
//! In a terminal `--watch` replaces its picture in place, on a screen of its own, and leaves the last
//! one behind when it ends. It must never leave a terminal without its cursor, nor go on when nobody
//! reads.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use super::look::{Look, Tone};
use super::remote::{AdminArgs, Failed, Outcome, Remote, finish, pretty, route_path, say};
use super::stop::Stop;
use super::{Exit, record, status_text};
use crate::wire;

/// Time between two pictures.
const REFRESH: Duration = Duration::from_secs(1);
/// A screen of its own, without a cursor.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
/// The way back.
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// Arguments of `status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Only this route
    pub route: Option<String>,
    /// Show it anew every second until interrupted
    #[arg(long)]
    pub watch: bool,
    /// Record the route's rollout into a new file, for `simulate --counts`, until it ends or until
    /// interrupted
    #[arg(long, value_name = "FILE", requires = "route", conflicts_with_all = ["watch", "json"])]
    pub record: Option<PathBuf>,
    /// How to reach the proxy.
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// Shows the process and its routes.
#[must_use]
pub fn status(args: &StatusArgs) -> Exit {
    let remote = match Remote::open(&args.admin) {
        Ok(remote) => remote,
        Err(failed) => return finish(Err(failed)),
    };
    if let (Some(route), Some(file)) = (&args.route, &args.record) {
        return finish(record::record(&remote, route, file));
    }
    if !args.watch {
        return finish(shown(&remote, args, Look::here()));
    }
    let stop = match Stop::new(&remote) {
        Ok(stop) => stop,
        Err(error) => return finish(Err(Failed(Exit::Usage, error.to_string()))),
    };
    if io::stdout().is_terminal() && !args.admin.json {
        live(&remote, args, stop)
    } else {
        follow(&remote, args, stop)
    }
}

fn shown(remote: &Remote, args: &StatusArgs, look: Look) -> Outcome {
    if args.admin.json { json(remote, args) } else { text(remote, args, look) }
}

fn json(remote: &Remote, args: &StatusArgs) -> Outcome {
    if let Some(route) = &args.route {
        return pretty(&remote.get::<serde_json::Value>(&route_path(route))?);
    }
    let mut status: serde_json::Value = remote.get("/api/v1/status")?;
    let routes: serde_json::Value = remote.get("/api/v1/routes")?;
    // Counted in the status, listed here.
    if let (Some(status), Some(list)) = (status.as_object_mut(), routes.get("routes")) {
        status.insert("routes".to_owned(), list.clone());
    }
    pretty(&status)
}

fn text(remote: &Remote, args: &StatusArgs, look: Look) -> Outcome {
    let status: wire::Status = remote.get("/api/v1/status")?;
    let routes: Vec<wire::Route> = match &args.route {
        Some(route) => vec![remote.get(&route_path(route))?],
        None => remote.get::<wire::Routes>("/api/v1/routes")?.routes,
    };
    Ok(status_text::status(&status, &routes, look))
}

/// One after the other, for whoever reads a pipe.
fn follow(remote: &Remote, args: &StatusArgs, mut stop: Stop) -> Exit {
    loop {
        if let Err(exit) = say(shown(remote, args, Look::here())) {
            return exit;
        }
        if stop.within(remote, REFRESH) {
            return Exit::Ok;
        }
    }
}

/// In place. What fails at first ends it; what fails later is told above the last picture, as a proxy
/// that restarts comes back.
fn live(remote: &Remote, args: &StatusArgs, mut stop: Stop) -> Exit {
    let mut last = match text(remote, args, Look::here()) {
        Ok(picture) => picture,
        Err(failed) => return finish(Err(failed)),
    };
    let mut seen = Instant::now();
    let Ok(screen) = Screen::enter() else { return Exit::Ok };
    let mut notice = None;
    let ended = loop {
        if Screen::show(&last, notice.as_deref()).is_err() {
            break Ok(());
        }
        if stop.within(remote, REFRESH) {
            break Ok(());
        }
        match text(remote, args, Look::here()) {
            Ok(picture) => (last, seen, notice) = (picture, Instant::now(), None),
            Err(Failed(Exit::Usage, why)) => {
                let why = why.lines().next().unwrap_or_default().to_owned();
                notice = Some(format!("{why}; the picture is {} s old", seen.elapsed().as_secs()));
            }
            Err(refused) => break Err(refused),
        }
    };
    drop(screen);
    match ended {
        // What was seen last stays where the shell goes on.
        Ok(()) => finish(Ok(last)),
        Err(failed) => finish(Err(failed)),
    }
}

/// The terminal while it is drawn on.
struct Screen;

impl Screen {
    fn enter() -> io::Result<Self> {
        put(ENTER)?;
        Ok(Self)
    }

    fn show(picture: &str, notice: Option<&str>) -> io::Result<()> {
        put(&frame(picture, notice, Look::here()))
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = put(LEAVE);
    }
}

fn put(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// A picture that replaces the one before without a moment in which there is none: every line is
/// written over and only its rest is cleared. What is below the terminal's last row is counted.
fn frame(picture: &str, notice: Option<&str>, look: Look) -> String {
    let notice = notice.map(|notice| look.line(0, Tone::Bad, notice)).unwrap_or_default();
    let lines: Vec<&str> = notice.lines().chain(picture.lines()).collect();
    let rows = look.rows.unwrap_or(usize::MAX).max(2);
    let fits = lines.len() <= rows;
    let kept = if fits { lines.len() } else { rows - 1 };
    let mut text = String::from("\x1b[?2026h\x1b[H");
    for (at, line) in lines.iter().take(kept).enumerate() {
        if at > 0 {
            text.push_str("\r\n");
        }
        text.push_str(line);
        text.push_str("\x1b[K");
    }
    if !fits {
        let more = format!("... {} more lines: name a route", lines.len() - kept);
        text.extend(["\r\n", &look.paint(Tone::Dim, &more), "\x1b[K"]);
    }
    text + "\x1b[J\x1b[?2026l"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_writes_over_and_never_scrolls() {
        let look = Look { rows: Some(3), ..Look::default() };
        assert_eq!(frame("a\nb\n", None, look), "\x1b[?2026h\x1b[Ha\x1b[K\r\nb\x1b[K\x1b[J\x1b[?2026l");
        let tall = frame("a\nb\nc\nd\n", Some("gone"), look);
        assert_eq!(tall.matches("\r\n").count(), 2, "{tall:?}");
        assert!(tall.contains("gone") && tall.contains("... 3 more lines"), "{tall:?}");
        assert!(!tall.contains("\x1b[2J"), "a cleared screen flickers");
    }
}
