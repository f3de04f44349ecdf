//! Two files to a certificate that can be served, or the reason why not.
//!
//! A pair is read, parsed and checked as one: a key of another certificate is found here, not in a
//! handshake. It must never repeat what a key file says.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, RootCertStore};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};
use xxhash_rust::xxh64::Xxh64;

use crate::model::secured::CertNames;

/// Largest file with certificates or a key, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A certificate with its key, ready to be served.
#[derive(Debug)]
pub struct Pair {
    /// For handshakes.
    pub key: Arc<CertifiedKey>,
    /// Whom it is good for.
    pub names: Arc<CertNames>,
    /// Unix seconds at which it ends.
    pub not_after: i64,
}

/// Which of two files is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The certificate's.
    Cert,
    /// The key's.
    Key,
}

/// Why a file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// Which file.
    pub which: Which,
    /// In a sentence without its name.
    pub why: String,
    /// What to do.
    pub hint: &'static str,
}

impl Unusable {
    fn cert(why: impl Into<String>, hint: &'static str) -> Self {
        Self { which: Which::Cert, why: why.into(), hint }
    }

    fn key(why: impl Into<String>, hint: &'static str) -> Self {
        Self { which: Which::Key, why: why.into(), hint }
    }
}

/// The content of two files, and a hash of it.
pub struct Bytes {
    cert: io::Result<Vec<u8>>,
    key: io::Result<Vec<u8>>,
}

impl Bytes {
    /// Reads both; what cannot be read is told by [`Bytes::pair`].
    #[must_use]
    pub fn read(cert: &Path, key: &Path) -> Self {
        Self { cert: read(cert), key: read(key) }
    }

    /// A hash of both contents, for telling whether they changed.
    #[must_use]
    pub fn hash(&self) -> u64 {
        let mut hash = Xxh64::new(0);
        for one in [&self.cert, &self.key] {
            match one {
                Ok(bytes) => {
                    hash.update(&bytes.len().to_le_bytes());
                    hash.update(bytes);
                }
                Err(error) => hash.update(error.to_string().as_bytes()),
            }
        }
        hash.digest()
    }

    /// The pair that both are; its dates are the caller's to judge.
    ///
    /// # Errors
    /// Which file cannot be used, and why.
    pub fn pair(&self, provider: &CryptoProvider) -> Result<Pair, Unusable> {
        let cert = self.cert.as_ref().map_err(|error| Unusable::cert(unreadable(error), READABLE))?;
        let key = self.key.as_ref().map_err(|error| Unusable::key(unreadable(error), READABLE))?;
        let chain = certificates(cert).map_err(|why| Unusable::cert(why, CERT))?;
        // The library's error may quote a line of the file.
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|_| Unusable::key("it has no whole private key in PEM", KEY))?;
        let leaf = chain.first().ok_or_else(|| Unusable::cert("it has no certificate", CERT))?;
        let (names, not_after) = describe(leaf).map_err(|why| Unusable::cert(why, NAMED))?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                Unusable::key("the key is not the certificate's", "put both files of one pair there")
            }
            _ => Unusable::key("the key cannot be used", KEY),
        })?;
        Ok(Pair { key: Arc::new(certified), names: Arc::new(names), not_after })
    }
}

const READABLE: &str = "the process must be able to read it; paths start at the configuration's folder";
const CERT: &str = "it must hold the certificate and its chain in PEM, leaf first";
const KEY: &str = "it must hold one unencrypted private key in PEM: ECDSA, RSA or Ed25519";
const NAMED: &str = "clients compare names with subjectAltName alone; make one with DNS or IP names in it";

/// Who may sign certificates of clients, and a hash of the file.
///
/// # Errors
/// Why there is nobody.
pub fn authorities(path: &Path) -> (u64, Result<Arc<RootCertStore>, String>) {
    let bytes = read(path);
    let mut hash = Xxh64::new(0);
    match &bytes {
        Ok(bytes) => hash.update(bytes),
        Err(error) => hash.update(error.to_string().as_bytes()),
    }
    let found = bytes.map_err(|error| unreadable(&error)).and_then(|bytes| {
        let mut roots = RootCertStore::empty();
        for one in certificates(&bytes)? {
            roots.add(one).map_err(|_| "it has a certificate that cannot sign others".to_owned())?;
        }
        if roots.is_empty() { Err("it has no certificate".to_owned()) } else { Ok(Arc::new(roots)) }
    });
    (hash.digest(), found)
}

fn unreadable(error: &io::Error) -> String {
    format!("it cannot be read: {error}")
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|_| "it is no whole PEM".to_owned())?;
    if found.is_empty() { Err("it has no certificate in PEM".to_owned()) } else { Ok(found) }
}

/// Whom a certificate is good for, and until when.
fn describe(der: &CertificateDer<'_>) -> Result<(CertNames, i64), String> {
    let (_, leaf) =
        X509Certificate::from_der(der).map_err(|_| "its first certificate cannot be read".to_owned())?;
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let listed = leaf.subject_alternative_name().ok().flatten();
    for name in listed.iter().flat_map(|names| &names.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push(*name),
            GeneralName::IPAddress(bytes) => addresses.extend(address(bytes)),
            _ => {}
        }
    }
    let names = CertNames::new(names.into_iter(), addresses);
    if names.is_empty() {
        return Err("its certificate covers no host".to_owned());
    }
    Ok((names, leaf.validity().not_after.timestamp()))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is too large for a certificate or a key"));
    }
    Ok(bytes)
}
