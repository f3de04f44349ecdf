//! What the kernel knows of this process.
//!
//! It must never fail a scrape: what cannot be read is left out.

use std::fs;

/// Clock ticks of a second in /proc, the same on every Linux.
const TICKS: f64 = 100.0;

/// CPU, memory and files of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// User and system CPU seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident bytes.
    pub resident_bytes: Option<u64>,
    /// Open file descriptors.
    pub open_fds: Option<u64>,
    /// Limit on them.
    pub max_fds: Option<u64>,
    /// Unix time of the start.
    pub start_seconds: Option<f64>,
}

impl Process {
    /// Reads it now.
    #[must_use]
    pub fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let boot = text("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok());
        let mut process = from_stat(&text("/proc/self/stat"), boot);
        process.resident_bytes = field(&text("/proc/self/status"), "VmRSS:").map(|kib| kib * 1024);
        process.open_fds = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64);
        process.max_fds = field(&text("/proc/self/limits"), "Max open files");
        process
    }
}

/// The first number after a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// CPU time and start from a stat line; the program's name may hold anything, so it starts after
/// its last parenthesis.
fn from_stat(stat: &str, boot: Option<f64>) -> Process {
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let number = |at: usize| fields.get(at)?.parse::<f64>().ok();
    Process {
        cpu_seconds: number(11).zip(number(12)).map(|(user, system)| (user + system) / TICKS),
        start_seconds: number(19).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS),
        ..Process::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_a_hostile_name() {
        let stat = "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0 3 0 200 1 2";
        let process = from_stat(stat, Some(1000.0));
        assert_eq!(process.cpu_seconds, Some(2.0));
        assert_eq!(process.start_seconds, Some(1002.0));
        assert_eq!(from_stat("", None), Process::default());
    }

    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 1 << 20), "{process:?}");
        assert!(process.open_fds.is_some_and(|open| open > 2) && process.max_fds.is_some(), "{process:?}");
    }
}
