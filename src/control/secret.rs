//! Secrets in files, and what is signed with them.
//!
//! Read at every use, so that a rotated file counts at once, and never kept. A path is meant from the
//! configuration's folder. It must never show what a file says, in an error either.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue};
use sha2::Sha256;

use crate::model::Diagnostic;
use crate::spec::Spec;

/// Header of the signature.
pub const SIGNATURE: HeaderName = HeaderName::from_static("x-switchback-signature");
/// Largest file with a secret, in bytes.
const MAX_BYTES: usize = 64 << 10;

/// What a file says, without white space around it.
///
/// # Errors
/// The file's name as written, and why it cannot be used.
pub async fn read(base: &Path, file: &str) -> Result<Vec<u8>, String> {
    let path = base.join(file);
    let read = tokio::task::spawn_blocking(move || read_now(&path)).await;
    read.map_err(io::Error::other).and_then(|read| read).map_err(|error| format!("{file}: {error}"))
}

fn read_now(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    match bytes.trim_ascii() {
        _ if bytes.len() > MAX_BYTES => Err(io::Error::other("it is too large for a secret")),
        [] => Err(io::Error::other("it is empty")),
        secret => Ok(secret.to_vec()),
    }
}

/// A warning for every secret of a configuration that cannot be read now.
#[must_use]
pub fn missing(base: &Path, spec: &Spec) -> Vec<Diagnostic> {
    let files = spec.secret_files().into_iter();
    let found = files.filter_map(|(at, written)| {
        let why = read_now(&base.join(&written.value)).err()?;
        Some(spec.unreadable_secret(at, written, &why))
    });
    found.collect()
}

/// HMAC-SHA256 of a body (RFC 2104), as `sha256=` and hexadecimal digits.
///
/// # Errors
/// Never with a key of any length; the library's type has one.
pub fn sign(secret: &[u8], body: &[u8]) -> Result<HeaderValue, String> {
    use std::fmt::Write as _;
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|error| error.to_string())?;
    mac.update(body);
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        // Writing into memory cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    HeaderValue::try_from(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_signed_as_rfc_4231_says() {
        let key = [0x0b_u8; 20];
        let expected = "sha256=b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7";
        assert_eq!(sign(&key, b"Hi There").expect("a signature"), expected);
    }

    #[tokio::test]
    async fn what_is_no_secret_is_told_by_name_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("good"), " s3cret\n").expect("written");
        std::fs::write(dir.path().join("empty"), "\n").expect("written");
        std::fs::write(dir.path().join("large"), "s3cret".repeat(20_000)).expect("written");
        assert_eq!(read(dir.path(), "good").await.as_deref(), Ok(&b"s3cret"[..]));
        for wrong in ["empty", "large", "none", "."] {
            let why = read(dir.path(), wrong).await.expect_err(wrong);
            assert!(why.starts_with(&format!("{wrong}: ")) && !why.contains("s3cret"), "{why}");
        }
    }
}
