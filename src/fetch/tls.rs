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
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{CertificateError, ClientConfig, ConfigBuilder, Error, RootCertStore};

/// Who is trusted, once it could be loaded; until then every asker tries again.
static CONNECTOR: OnceCell<TlsConnector> = OnceCell::const_new();

/// Whom to trust in the place of the machine's roots, what is asked for, and what is shown.
#[derive(Clone, Debug)]
pub struct Trust {
    /// `None` is the machine's.
    pub roots: Option<Arc<RootCertStore>>,
    /// The name that the certificate must have.
    pub name: ServerName<'static>,
    /// Our own certificate.
    pub shown: Option<Arc<CertifiedKey>>,
}

impl Trust {
    /// Shakes hands; HTTP/1.1 alone is offered.
    ///
    /// # Errors
    /// Why the other side cannot be trusted, or does not speak TLS, in a sentence.
    pub(super) async fn begin<S>(&self, stream: S) -> Result<TlsStream<S>, String>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let roots = match &self.roots {
            Some(roots) => Arc::clone(roots),
            None => system().await?,
        };
        let config = builder(roots)?;
        let mut config = match &self.shown {
            Some(shown) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(shown))))
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let connector = TlsConnector::from(Arc::new(config));
        let shaken = connector.connect(self.name.clone(), stream).await;
        shaken.map_err(|error| explain(&error, self.roots.is_some()))
    }
}

/// Shakes hands with somebody whom the machine trusts.
///
/// # Errors
/// Why the other side cannot be trusted, or does not speak TLS, in a sentence.
pub(super) async fn begin<S>(host: &str, stream: S) -> Result<TlsStream<S>, String>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let connector = CONNECTOR.get_or_try_init(load).await?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| "this is no name a certificate has")?;
    connector.connect(name, stream).await.map_err(|error| explain(&error, false))
}

async fn load() -> Result<TlsConnector, String> {
    let config = builder(system().await?)?.with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

fn builder(roots: Arc<RootCertStore>) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots))
}

async fn system() -> Result<Arc<RootCertStore>, String> {
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
    Ok(Arc::new(roots))
}

/// The library's error in words that say what to do; `own` when the roots are not the machine's.
fn explain(error: &std::io::Error, own: bool) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    match inner {
        // One of the same name that signed it with another key is somebody else.
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature))
            if own =>
        {
            "its certificate comes from nobody in `tls.ca`".to_owned()
        }
        Some(Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature)) => {
            "its certificate comes from nobody this machine trusts: name its root in SSL_CERT_FILE".to_owned()
        }
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its certificate is for another name".to_owned(),
        Some(Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        )) => "its certificate has expired".to_owned(),
        Some(Error::InvalidCertificate(CertificateError::Other(other)))
            if other.to_string() == "CaUsedAsEndEntity" =>
        {
            "the server shows a CA certificate (CA:TRUE); it needs a certificate of its own".to_owned()
        }
        Some(Error::InvalidCertificate(_)) => "its certificate cannot be used".to_owned(),
        Some(Error::InvalidMessage(_)) => "it does not speak TLS".to_owned(),
        Some(Error::AlertReceived(alert)) => {
            format!("it ended the handshake (TLS alert {})", u8::from(*alert))
        }
        Some(Error::General(why)) => why.clone(),
        // The library's own words are names of its types.
        Some(_) => "the handshake failed".to_owned(),
        None => error.to_string(),
    }
}
