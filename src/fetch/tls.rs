//! TLS as a client: whom the machine trusts, loaded once, and what to say when that is nobody.
//!
//! Roots are the system's, or those of `SSL_CERT_FILE` and `SSL_CERT_DIR` where these are set. It must
//! never install a default for the process, skip a check of a certificate, or read files on a thread
//! that others wait for.

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{CertificateError, ClientConfig, Error, RootCertStore};

/// Who is trusted, once it could be loaded; until then every asker tries again.
static CONNECTOR: OnceCell<TlsConnector> = OnceCell::const_new();

/// What every conversation begins with.
///
/// # Errors
/// When the machine trusts nobody.
pub(super) async fn connector() -> Result<&'static TlsConnector, String> {
    CONNECTOR.get_or_try_init(load).await
}

/// Shakes hands.
///
/// # Errors
/// Why the other side cannot be trusted, or does not speak TLS, in a sentence.
pub(super) async fn begin<S>(connector: &TlsConnector, host: &str, stream: S) -> Result<TlsStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "this is no name a certificate has")?;
    connector.connect(name, stream).await.map_err(|error| explain(&error))
}

async fn load() -> Result<TlsConnector, String> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|error| format!("certificates cannot be loaded: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let why = loaded.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this machine trusts no certificate{why}: install ca-certificates, or name a file in SSL_CERT_FILE"
        ));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The library's error in words that say what to do.
fn explain(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            "its certificate comes from nobody this machine trusts: name its root in SSL_CERT_FILE".to_owned()
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is for another name".to_owned(),
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired".to_owned(),
        Some(Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        _ => error.to_string(),
    }
}
