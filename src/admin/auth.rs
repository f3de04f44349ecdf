//! Who may do what: the operator's and the viewer's token, and a bound on wrong guesses.
//!
//! Tokens are compared in constant time and never shown. An empty token is no token.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use subtle::ConstantTimeEq;
use tokio::time::Instant;

use crate::control::regular;
use crate::plan::AdminSettings;

/// File name of the operator's token in the state folder.
pub const FILE: &str = "admin.token";
/// Random bytes of a generated token.
const TOKEN_BYTES: usize = 32;
/// Shortest token in bytes: anything shorter can be guessed.
const MIN_TOKEN: usize = 16;
/// Longest token file in bytes.
const MAX_TOKEN: usize = 4096;
/// Most that is read of it, white space with it, in bytes.
const MAX_FILE: u64 = 64 << 10;
/// Wrong tokens of one peer in [`WINDOW`] before it is asked to wait.
pub const MAX_FAILURES: u32 = 10;
/// Time over which wrong tokens are counted.
const WINDOW: Duration = Duration::from_secs(60);
/// Peers whose wrong tokens are remembered.
const MAX_PEERS: usize = 1024;

/// A token; it prints as a placeholder.
struct Secret(Box<[u8]>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads.
    Viewer,
    /// Reads and verbs.
    Operator,
}

/// The tokens in force.
#[derive(Debug, Default)]
pub struct Tokens {
    operator: Option<Secret>,
    viewer: Option<Secret>,
}

impl Tokens {
    /// Reads the tokens; the operator's is generated when its file is not there. `base` is the
    /// folder relative paths start from.
    ///
    /// # Errors
    /// One sentence when a configured token cannot be used. A state folder that cannot be written
    /// is no error: there is then no operator token.
    pub fn open(admin: &AdminSettings, base: &Path, state_dir: &Path) -> Result<Self, String> {
        let written =
            |file: Option<&String>| file.filter(|file| !file.is_empty()).map(|file| base.join(file));
        let viewer = match written(admin.viewer_token_file.as_deref()) {
            Some(file) => Some(read(&file).map_err(|why| sentence(&file, &why))?),
            None => None,
        };
        let given = written(admin.token_file.as_deref());
        let file = given.clone().unwrap_or_else(|| state_dir.join(FILE));
        let operator = match read_or_generate(&file) {
            Ok(secret) => Some(secret),
            Err(why) if given.is_some() && why.kind() != io::ErrorKind::InvalidInput => {
                return Err(sentence(&file, &why));
            }
            Err(why) => {
                let what = "verbs are refused; remove the file and start again: a token is then made";
                tracing::error!("{}; {what}", sentence(&file, &why));
                None
            }
        };
        Ok(Self { operator, viewer })
    }

    /// Whether anybody can be an operator.
    #[must_use]
    pub fn has_operator(&self) -> bool {
        self.operator.is_some()
    }

    /// What a presented token allows.
    #[must_use]
    pub fn role(&self, presented: &[u8]) -> Option<Role> {
        let is = |secret: &Option<Secret>| {
            secret.as_ref().is_some_and(|secret| bool::from(secret.0.ct_eq(presented)))
        };
        if is(&self.operator) {
            return Some(Role::Operator);
        }
        is(&self.viewer).then_some(Role::Viewer)
    }
}

fn sentence(file: &Path, why: &io::Error) -> String {
    format!("the token file {} cannot be used: {why}", file.display())
}

fn read(file: &Path) -> io::Result<Secret> {
    let text = regular::read(file, MAX_FILE)?;
    let token = text.trim_ascii();
    if token.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty"));
    }
    if token.len() > MAX_TOKEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(Secret(token.into()))
}

fn read_or_generate(file: &Path) -> io::Result<Secret> {
    match read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => generate(file),
        Ok(secret) if secret.0.len() < MIN_TOKEN => {
            let why = format!("it is shorter than {MIN_TOKEN} bytes");
            Err(io::Error::new(io::ErrorKind::InvalidInput, why))
        }
        result => result,
    }
}

fn generate(file: &Path) -> io::Result<Secret> {
    let mut bytes = [0_u8; TOKEN_BYTES];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let hex = bytes.iter().fold(String::with_capacity(2 * TOKEN_BYTES), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = std::fmt::Write::write_fmt(&mut hex, format_args!("{byte:02x}"));
        hex
    });
    // Complete under another name first: a reader must never see half a token.
    let draft = PathBuf::from(format!("{}.{}~", file.display(), std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut out| writeln!(out, "{hex}").and_then(|()| out.sync_all()));
    written.and_then(|()| fs::rename(&draft, file))?;
    Ok(Secret(hex.into_bytes().into()))
}

/// Wrong tokens by peer.
#[derive(Debug, Default)]
pub struct Failures(HashMap<IpAddr, (Instant, u32)>);

impl Failures {
    /// Whether a peer has to wait.
    #[must_use]
    pub fn limited(&self, peer: IpAddr, now: Instant) -> bool {
        self.0.get(&peer).is_some_and(|(since, count)| *count >= MAX_FAILURES && now < *since + WINDOW)
    }

    /// Counts a wrong token.
    pub fn note(&mut self, peer: IpAddr, now: Instant) {
        if !self.0.contains_key(&peer) && self.0.len() >= MAX_PEERS {
            self.0.retain(|_, (since, _)| now < *since + WINDOW);
            if self.0.len() >= MAX_PEERS {
                // Forgetting everybody beats remembering without bound.
                self.0.clear();
            }
        }
        let (since, count) = self.0.entry(peer).or_insert((now, 0));
        if now >= *since + WINDOW {
            (*since, *count) = (now, 0);
        }
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_generated_once_for_its_owner_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || Tokens::open(&AdminSettings::default(), Path::new("."), dir.path()).expect("tokens");
        let first = open();
        let text = fs::read_to_string(dir.path().join(FILE)).expect("a token");
        let token = text.trim();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        let mode = fs::metadata(dir.path().join(FILE)).expect("a token").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for tokens in [first, open()] {
            assert_eq!(tokens.role(token.as_bytes()), Some(Role::Operator));
            for wrong in ["", "x", &token[1..], &format!("{token} ")] {
                assert_eq!(tokens.role(wrong.as_bytes()), None, "{wrong:?}");
            }
            assert!(!format!("{tokens:?}").contains(token));
        }
    }

    #[test]
    fn an_empty_or_missing_configured_token_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("empty"), " \n").expect("written");
        let spot = |name: &str| Some(crate::spec::Spot::unwritten(name.to_owned()));
        let empty = AdminSettings { token_file: spot("empty"), ..AdminSettings::default() };
        assert!(Tokens::open(&empty, dir.path(), dir.path()).is_err_and(|why| why.contains("empty")));
        let missing = AdminSettings { viewer_token_file: spot("none"), ..AdminSettings::default() };
        assert!(Tokens::open(&missing, dir.path(), dir.path()).is_err());
        let unwritable =
            Tokens::open(&AdminSettings::default(), dir.path(), Path::new("/dev/null/x")).expect("tokens");
        assert_eq!(unwritable.role(b""), None);
    }

    #[test]
    fn a_token_that_can_be_guessed_is_none() {
        let dir = tempfile::tempdir().expect("a folder");
        for (text, counts) in
            [("", false), (" \n", false), ("fifteen-letters", false), ("sixteen--letters", true)]
        {
            fs::write(dir.path().join(FILE), text).expect("written");
            let tokens = Tokens::open(&AdminSettings::default(), dir.path(), dir.path()).expect("tokens");
            assert_eq!(tokens.has_operator(), counts, "{text:?}");
            assert_eq!(tokens.role(text.as_bytes()).is_some(), counts, "{text:?}");
        }
    }

    #[test]
    fn ten_wrong_tokens_a_minute() {
        let (peer, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let now = Instant::now();
        let mut failures = Failures::default();
        for _ in 0..MAX_FAILURES {
            assert!(!failures.limited(peer, now));
            failures.note(peer, now);
        }
        assert!(failures.limited(peer, now) && !failures.limited(other, now));
        assert!(!failures.limited(peer, now + WINDOW));
        for last in 0..=u16::MAX {
            let [high, low] = last.to_be_bytes();
            failures.note(IpAddr::from([10, 0, high, low]), now);
        }
        assert!(failures.0.len() <= MAX_PEERS);
    }
}
