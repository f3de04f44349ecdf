//! `status --record`: what the analyzer sees of a live rollout, a line each, into a file.
//!
//! Every second it asks for what is new and appends it as it came, so that `simulate --counts` judges
//! what was judged. It goes on over a restart of the proxy. It must never write over a file, nor
//! keep quiet about seconds it missed.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;

use super::Exit;
use super::remote::{Failed, Outcome, Remote, route_path};
use super::stop::Stop;
use crate::analysis::recording::{Told, Writer};
use crate::wire;

/// Time between two questions.
const PACE: Duration = Duration::from_secs(1);
/// Questions in a row that may stay without an answer: a proxy that is started again takes a moment.
const MAX_SILENT: u32 = 60;
/// Lines that a second makes: its counts, and what was decided.
const LINES_A_SECOND: u64 = 2;

/// Records until the rollout ends, or until interrupted.
pub(super) fn record(remote: &Remote, route: &str, path: &Path) -> Outcome {
    let broken = |error: io::Error| Failed(Exit::Usage, format!("{}: {error}", path.display()));
    let mut stop = Stop::new(remote).map_err(broken)?;
    let mut answer = ask(remote, route, None);
    if let Err(failed) = answer {
        return Err(failed);
    }
    let mut tape = Tape::create(path).map_err(|error| uncreated(path, &error))?;
    let mut silent = 0;
    loop {
        let more = match answer {
            Ok(ticks) => {
                silent = 0;
                let fresh = tape.add(&ticks).map_err(broken)?;
                if !ticks.live && !ticks.more && fresh {
                    return Ok(tape.told(path, &format!("the rollout is {}", ticks.state)));
                }
                ticks.more || !fresh
            }
            Err(Failed(Exit::Usage, why)) if silent >= MAX_SILENT => {
                return Err(Failed(Exit::Usage, format!("{why}; {}", tape.told(path, "gave up").trim_end())));
            }
            Err(Failed(Exit::Usage, _)) => {
                silent += 1;
                false
            }
            Err(refused) => return Err(refused),
        };
        if stop.within(remote, if more { Duration::ZERO } else { PACE }) {
            return Ok(tape.told(path, "interrupted"));
        }
        answer = ask(remote, route, tape.next);
    }
}

/// Why there is no file to write to, and what to do.
fn uncreated(path: &Path, error: &io::Error) -> Failed {
    let path = path.display();
    Failed(
        Exit::Usage,
        match error.kind() {
            io::ErrorKind::AlreadyExists => format!(
                "{path} is there already, and a recording is never written over\n  name a new file, or move that \
                 one away; `switchback simulate --counts {path}` judges it"
            ),
            io::ErrorKind::NotFound => format!("{path}: there is no such folder; make it first"),
            _ => format!("{path}: {error}"),
        },
    )
}

fn ask(remote: &Remote, route: &str, after: Option<u64>) -> Result<wire::Ticks, Failed> {
    let query = after.map_or_else(String::new, |after| format!("?after={after}"));
    remote.get(&format!("{}/ticks{query}", route_path(route)))
}

/// The file, and how far it goes.
struct Tape {
    file: File,
    source: Option<u64>,
    next: Option<u64>,
    /// Second of the last line.
    last: Option<u64>,
    lines: u64,
    lost: u64,
}

/// As much of a line as must be known here.
#[derive(Deserialize)]
struct Moment {
    t: u64,
}

impl Tape {
    fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        Ok(Self { file, source: None, next: None, last: None, lines: 0, lost: 0 })
    }

    /// Appends an answer; `false` when it is another process's, which must be asked from its beginning.
    fn add(&mut self, ticks: &wire::Ticks) -> io::Result<bool> {
        if self.source.replace(ticks.source).is_some_and(|source| source != ticks.source) {
            (self.next, self.last) = (None, None);
            return Ok(false);
        }
        let moment = |line: &String| serde_json::from_str::<Moment>(line).ok().map(|moment| moment.t);
        let mut text = String::new();
        if let Some(first) = ticks.lines.first().and_then(moment).filter(|_| ticks.missing > 0) {
            let seconds = self.last.map_or_else(
                || ticks.missing.div_ceil(LINES_A_SECOND),
                |last| first.saturating_sub(last).saturating_sub(1).max(1),
            );
            self.lost += seconds;
            text += &Writer::told(first, &Told::Lost { seconds });
            text.push('\n');
        }
        for line in &ticks.lines {
            text += line;
            text.push('\n');
        }
        self.file.write_all(text.as_bytes())?;
        self.lines += ticks.lines.len() as u64;
        self.last = ticks.lines.last().and_then(moment).or(self.last);
        self.next = Some(ticks.next);
        Ok(true)
    }

    fn told(&self, path: &Path, why: &str) -> String {
        let lost = match self.lost {
            0 => String::new(),
            seconds => format!("; {seconds} seconds are missing: it fell behind, or began too late"),
        };
        format!("{why}: {} lines in {}{lost}\n", self.lines, path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(source: u64, next: u64, missing: u64, lines: &[&str]) -> wire::Ticks {
        let lines = lines.iter().map(|line| (*line).to_owned()).collect();
        wire::Ticks { source, next, missing, lines, ..wire::Ticks::default() }
    }

    #[test]
    fn what_fell_out_is_counted_in_seconds_and_another_process_is_asked_anew() {
        let desk = tempfile::tempdir().unwrap();
        let path = desk.path().join("r.jsonl");
        let mut tape = Tape::create(&path).unwrap();
        let again = Tape::create(&path).map(drop).expect_err("nothing is written over");
        assert!(uncreated(&path, &again).1.contains("name a new file"));
        assert!(tape.add(&answer(1, 2, 0, &[r#"{"t":1}"#, r#"{"t":1}"#])).unwrap());
        assert!(tape.add(&answer(1, 9, 5, &[r#"{"t":5}"#])).unwrap());
        assert!(tape.add(&answer(1, 9, 0, &[])).unwrap());
        assert_eq!((tape.next, tape.lost), (Some(9), 3));
        assert!(!tape.add(&answer(2, 4, 0, &[r#"{"t":9}"#])).unwrap());
        assert_eq!(tape.next, None);
        assert!(tape.add(&answer(2, 1, 0, &[r#"{"t":6}"#])).unwrap());
        let lost = r#"{"t":5,"event":"lost","seconds":3}"#;
        let expected = format!("{{\"t\":1}}\n{{\"t\":1}}\n{lost}\n{{\"t\":5}}\n{{\"t\":6}}\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), expected);
        assert!(
            tape.told(&path, "over").contains("4 lines") && tape.told(&path, "over").contains("3 seconds")
        );
    }
}
