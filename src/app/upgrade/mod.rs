//! A new program in the place of the old one without a moment nobody listens.
//!
//! On SIGUSR2 the old process starts its own path anew and passes every listening socket over a UNIX
//! socket. The new one checks the configuration and says it is able; the old one stops deciding, writes
//! its state down and says "yours"; the new one reads the state, accepts, and says it is ready; the old
//! one drains. Whatever goes wrong before that leaves the old one serving and deciding. Two processes
//! must never decide, nor write the state folder, at the same time.

mod channel;
pub mod new;
pub mod old;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::sockets::Label;

/// Tells a process that its standard input leads to the one it replaces: `version:process id`.
const VARIABLE: &str = "SWITCHBACK_HANDOVER";
/// Version of the words below.
const VERSION: &str = "1";

/// What the two processes say to each other, in this order.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// Old: sockets come with this message, and whether more messages of them follow.
    Sockets { labels: Vec<Label>, more: bool },
    /// New: the configuration compiles and every address is held.
    Able,
    /// Old: nobody decides and the state is written down.
    Yours,
    /// New: accepting.
    Ready,
}

/// How this process was started, so that it can be started again.
#[derive(Clone, Debug)]
pub struct Own {
    /// The program, as it was named: a link leads to what it leads to by then.
    program: PathBuf,
    arguments: Vec<OsString>,
}

impl Own {
    /// Reads it; to be called before the working folder or the file can change.
    #[must_use]
    pub fn look() -> Self {
        let mut arguments = std::env::args_os();
        let named = PathBuf::from(arguments.next().unwrap_or_default());
        let folder = std::env::current_dir().unwrap_or_default();
        let exe = std::env::current_exe().unwrap_or_else(|_| named.clone());
        Self { program: located(&named, &folder, exe), arguments: arguments.collect() }
    }
}

/// Where the program lies: a name without a slash was found by the shell, and only the system knows
/// where.
fn located(named: &Path, folder: &Path, exe: PathBuf) -> PathBuf {
    if named.components().count() > 1 { folder.join(named) } else { exe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_followed_anew_and_a_bare_name_is_where_it_was_found() {
        let rows = [
            ("/opt/now/switchback", "/opt/now/switchback"),
            ("bin/switchback", "/srv/bin/switchback"),
            ("./switchback", "/srv/./switchback"),
            ("switchback", "/usr/bin/found"),
            ("", "/usr/bin/found"),
        ];
        for (named, program) in rows {
            let found = located(Path::new(named), Path::new("/srv"), "/usr/bin/found".into());
            assert_eq!(found, Path::new(program), "{named}");
        }
    }
}
