//! What TLS towards an endpoint takes: whom to trust, the name asked for, the certificate shown.
//!
//! Read from PEM texts when a plan is compiled, so that a file that cannot serve is refused with
//! every other error. It must never show a key, nor hold a way around verification.

use std::sync::Arc;

use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::{Error, InconsistentKeys, RootCertStore};

use super::UpstreamProtocol;

/// How connections to an endpoint are secured.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whose certificates are trusted; `None` is the system's roots.
    pub trusted: Option<Arc<RootCertStore>>,
    /// The name a certificate must have, which is asked for too.
    pub name: ServerName<'static>,
    /// The protocols offered.
    pub protocol: UpstreamProtocol,
    /// The certificate shown to endpoints that ask for one.
    pub shown: Option<Arc<CertifiedKey>>,
}

/// The certificates of a PEM text as roots.
///
/// # Errors
/// Why it holds none that can be trusted.
pub fn roots(text: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(text)? {
        store.add(certificate).map_err(|error| format!("a certificate in it cannot be a root: {error}"))?;
    }
    Ok(store)
}

/// A certificate with its chain, and its key: both from PEM texts, and a pair.
///
/// # Errors
/// Whether the certificate's text is at fault, and why.
pub fn pair(certificate: &str, key: &str) -> Result<CertifiedKey, (bool, String)> {
    let chain = certificates(certificate).map_err(|why| (true, why))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| match error {
        pem::Error::NoItemsFound => (false, "it holds no private key".to_owned()),
        other => (false, format!("it is not PEM: {other}")),
    })?;
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            (false, "it is the key of another certificate".to_owned())
        }
        Error::InvalidCertificate(why) => (true, format!("its first certificate cannot be read: {why}")),
        other => (false, format!("the key cannot be used: {other}")),
    })
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(read) if read.is_empty() => Err("it holds no certificate".to_owned()),
        Ok(read) => Ok(read),
        Err(error) => Err(format!("it is not PEM: {error}")),
    }
}
