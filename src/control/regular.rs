//! Regular files of the state folder, and nothing else.
//!
//! Opening a pipe waits for its other end and a device may never end: neither may keep the process from
//! starting. It must never wait for anything but a disk, and never read without a bound.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

/// Opens a regular file as told.
///
/// # Errors
/// When it cannot be opened, or is something else.
pub fn open(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    // To open some devices is to do something with them.
    if fs::metadata(path).is_ok_and(|meta| !meta.is_file()) {
        return Err(other());
    }
    let at_once = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = options.clone().custom_flags(at_once).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// Reads a regular file whole.
///
/// # Errors
/// When it cannot be read, is something else, or has more than `most` bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path, OpenOptions::new().read(true))?;
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {most} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_regular_file_is_read_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = |name: &str| dir.path().join(name);
        fs::write(path("file"), "four").expect("written");
        std::os::unix::fs::symlink(path("file"), path("link")).expect("a link");
        std::os::unix::fs::symlink("/dev/zero", path("zeros")).expect("a link");
        let made = std::process::Command::new("mkfifo").arg(path("pipe")).status().expect("mkfifo");
        assert!(made.success());
        assert_eq!(read(&path("file"), 4).expect("four bytes"), b"four");
        assert_eq!(read(&path("link"), 4).expect("four bytes"), b"four");
        assert!(read(&path("file"), 3).is_err());
        for name in ["zeros", "pipe", "."] {
            assert!(read(&path(name), 4).is_err(), "{name}");
            assert!(open(&path(name), OpenOptions::new().append(true).create(true)).is_err(), "{name}");
        }
    }
}
