//! Whether the access log of a configuration could be written here.
//!
//! Whoever checks a file learns of a folder that cannot be made before lines are lost. It must never
//! make or open anything, and never refuse: the file may be meant for another machine.

use std::path::Path;

use rustix::fs::{Access, access};

use crate::model::{Diagnostic, Place};
use crate::spec::Spec;

/// A warning for every file of an access log that a start here could not write.
#[must_use]
pub fn unwritable(base: &Path, spec: &Spec) -> Vec<Diagnostic> {
    let written = spec.files.iter().filter_map(|(source, file)| Some((source, file.access_log.as_ref()?)));
    let found = written.filter(|(_, log)| !["stdout", "stderr"].contains(&log.path.as_str())).filter_map(
        |(source, log)| {
            let why = hindrance(&base.join(&log.path))?;
            let (line, column, length) = (log.line, log.column, log.length);
            let place = Place { file: source.name.clone(), line, column, length };
            let message = format!("the access log `{}` cannot be written here: {why}", log.path);
            let hint = "it is tried again every few seconds; until then its lines are lost";
            Some(Diagnostic::error("unwritable-log", message).at(place).hint(hint).warning())
        },
    );
    found.collect()
}

/// Why a file could not be opened to append to, with the folders above it that are missing.
fn hindrance(path: &Path) -> Option<String> {
    if path.is_dir() {
        return Some("it is a folder".to_owned());
    }
    // A pipe or a device is as good as a file.
    if path.exists() {
        return access(path, Access::WRITE_OK).err().map(|error| plain(error.into()));
    }
    let above =
        path.ancestors().skip(1).map(|one| if one.as_os_str().is_empty() { Path::new(".") } else { one });
    let nearest = above.into_iter().find(|one| one.exists())?;
    let name = nearest.display();
    if !nearest.is_dir() {
        return Some(format!("{name} is not a folder"));
    }
    let denied = access(nearest, Access::WRITE_OK | Access::EXEC_OK).err()?;
    Some(format!("nothing can be made in {name}: {}", plain(denied.into())))
}

fn plain(error: std::io::Error) -> String {
    super::files::plain(&error)
}
