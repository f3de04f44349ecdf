//! TLS towards one endpoint: what is offered, whom to trust, and what went wrong in words.
//!
//! Each pool keeps its own sessions to resume, so that nothing of one identity is ever offered under
//! another. It must never skip a check, nor read files on a worker.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::sign::SingleCertAndKey;
use tokio_rustls::rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};

use crate::plan::{Tls, UpstreamProtocol};

/// Sessions kept by one worker for one endpoint, to resume.
const SESSIONS: usize = 32;

/// Whom the system trusts, once it could be loaded; until then every asker tries again.
static SYSTEM: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();

/// Shakes hands with one endpoint, again and again.
#[derive(Debug)]
pub struct Handshakes {
    tls: Arc<Tls>,
    /// What is offered as a rule, and to what becomes a tunnel.
    made: OnceCell<[Arc<ClientConfig>; 2]>,
}

impl Handshakes {
    /// None yet.
    #[must_use]
    pub fn new(tls: &Arc<Tls>) -> Self {
        Self { tls: Arc::clone(tls), made: OnceCell::new() }
    }

    /// Shakes hands; `tunnel` offers HTTP/1.1 alone, which alone can become one.
    ///
    /// # Errors
    /// Why the other side cannot be trusted, or does not speak TLS, in a sentence.
    pub async fn begin(&self, stream: TcpStream, tunnel: bool) -> Result<Box<TlsStream<TcpStream>>, String> {
        let [usual, plain] = self.made.get_or_try_init(|| self.make()).await?;
        let connector = TlsConnector::from(Arc::clone(if tunnel { plain } else { usual }));
        let stream = connector.connect(self.tls.name.clone(), stream).await;
        let stream = stream.map_err(|error| explain(&error, self.tls.trusted.is_some()))?;
        if self.tls.protocol == UpstreamProtocol::H2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err("it does not speak HTTP/2: write `protocol: auto` or `http1`".to_owned());
        }
        Ok(Box::new(stream))
    }

    async fn make(&self) -> Result<[Arc<ClientConfig>; 2], String> {
        let roots = match &self.tls.trusted {
            Some(roots) => Arc::clone(roots),
            None => Arc::clone(SYSTEM.get_or_try_init(load).await?),
        };
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let mut config = match &self.tls.shown {
            Some(shown) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(shown))))
            }
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let (h1, h2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        config.alpn_protocols = vec![h1.clone()];
        let plain = config.clone();
        config.alpn_protocols = match self.tls.protocol {
            UpstreamProtocol::Http1 => vec![h1],
            UpstreamProtocol::H2 => vec![h2],
            UpstreamProtocol::Auto => vec![h2, h1],
        };
        Ok([Arc::new(config), Arc::new(plain)])
    }
}

async fn load() -> Result<Arc<RootCertStore>, String> {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let loaded = loaded.map_err(|error| format!("certificates cannot be loaded: {error}"))?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(loaded.certs);
    if roots.is_empty() {
        let why = loaded.errors.first().map(|error| format!(" ({error})")).unwrap_or_default();
        return Err(format!(
            "this machine trusts no certificate{why}: install ca-certificates, or write `tls.ca`"
        ));
    }
    Ok(Arc::new(roots))
}

/// The library's error in words that say what to do; `own` when the roots are those of `tls.ca`.
fn explain(error: &io::Error, own: bool) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let said =
        match inner {
            // One of the same name that signed it with another key is somebody else.
            Some(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) if own => "its certificate comes from nobody in `tls.ca`",
            Some(Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => "its certificate comes from nobody this machine trusts: name its root in `tls.ca`",
            Some(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => "its certificate is for another name: `tls.serverName` says which is meant",
            Some(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => "its certificate has expired",
            Some(Error::InvalidCertificate(
                CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
            )) => "its certificate is not valid yet",
            Some(Error::InvalidCertificate(why)) => unusable(why),
            Some(Error::AlertReceived(alert)) => return refused(*alert),
            Some(Error::NoApplicationProtocol) => NO_PROTOCOL,
            Some(Error::PeerIncompatible(_)) => {
                "it shares no version, cipher or signature of TLS with us: 1.2 and 1.3 are spoken"
            }
            Some(
                Error::PeerMisbehaved(_)
                | Error::InappropriateMessage { .. }
                | Error::InappropriateHandshakeMessage { .. },
            ) => "it breaks the rules of TLS",
            Some(Error::InvalidMessage(_) | Error::PeerSentOversizedRecord) => "it does not speak TLS",
            Some(Error::NoCertificatesPresented) => "it shows no certificate",
            Some(Error::DecryptError) => "what it sends cannot be decrypted",
            Some(Error::General(why)) => return why.clone(),
            Some(_) => "the handshake failed",
            // What the system says, such as a connection that was reset.
            None => return error.to_string(),
        };
    said.to_owned()
}

const NO_PROTOCOL: &str = "it does not speak the upstream's `protocol`";

/// What else is wrong with a certificate.
fn unusable(why: &CertificateError) -> &'static str {
    match why {
        CertificateError::BadEncoding => "its certificate cannot be read",
        CertificateError::Revoked => "its certificate was revoked",
        CertificateError::UnhandledCriticalExtension => "its certificate makes a demand that is not known",
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "its certificate is signed in a way that is not supported, such as SHA-1"
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not for servers (extendedKeyUsage)"
        }
        // The library that checks them gives these no name of their own, but the same text for good.
        CertificateError::Other(other) => match other.to_string().as_str() {
            "CaUsedAsEndEntity" => {
                "the server shows a CA certificate (CA:TRUE); it needs a certificate of its own"
            }
            "UnsupportedCertVersion" => "its certificate is of an old version; X.509 version 3 is needed",
            _ => "its certificate cannot be used",
        },
        _ => "its certificate cannot be used",
    }
}

/// What the other side means that ended the handshake.
fn refused(alert: AlertDescription) -> String {
    let said = match alert {
        AlertDescription::CertificateRequired => {
            "it asks for a certificate: `tls.clientCert` and `tls.clientKey` show one"
        }
        AlertDescription::NoApplicationProtocol => NO_PROTOCOL,
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::AccessDenied => "it does not accept what `tls.clientCert` shows",
        AlertDescription::UnrecognisedName => {
            "it does not know the name it was asked for: `tls.serverName` says which is meant"
        }
        AlertDescription::ProtocolVersion => "it speaks neither TLS 1.2 nor 1.3",
        AlertDescription::HandshakeFailure => {
            "it found no way to agree: a cipher it knows, or a certificate it asks for, is missing"
        }
        other => return format!("it ended the handshake (TLS alert {})", u8::from(other)),
    };
    said.to_owned()
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::{InvalidMessage, OtherError, PeerIncompatible, PeerMisbehaved};

    use super::*;

    #[derive(Debug)]
    struct Unnamed(&'static str);

    impl std::fmt::Display for Unnamed {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl std::error::Error for Unnamed {}

    #[test]
    fn no_error_is_told_in_the_librarys_own_names() {
        let unnamed =
            |name| Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Unnamed(name)))));
        let rows = [
            (unnamed("CaUsedAsEndEntity"), "a CA certificate (CA:TRUE); it needs a certificate of its own"),
            (unnamed("UnsupportedCertVersion"), "X.509 version 3"),
            (unnamed("EmptyEkuExtension"), "its certificate cannot be used"),
            (Error::InvalidCertificate(CertificateError::BadEncoding), "cannot be read"),
            (Error::InvalidCertificate(CertificateError::Revoked), "revoked"),
            (Error::InvalidCertificate(CertificateError::InvalidPurpose), "not for servers"),
            (Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure), "cannot be used"),
            (Error::AlertReceived(AlertDescription::UnknownCA), "`tls.clientCert`"),
            (Error::AlertReceived(AlertDescription::CertificateRequired), "it asks for a certificate"),
            (Error::AlertReceived(AlertDescription::UnrecognisedName), "`tls.serverName`"),
            (Error::AlertReceived(AlertDescription::HandshakeFailure), "no way to agree"),
            (Error::AlertReceived(AlertDescription::InternalError), "TLS alert 80"),
            (Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon), "1.2 and 1.3"),
            (Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare), "rules of TLS"),
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS"),
            (Error::HandshakeNotComplete, "the handshake failed"),
        ];
        for (error, words) in rows {
            let debug = format!("{error:?}");
            let said = explain(&io::Error::new(io::ErrorKind::InvalidData, error), false);
            assert!(said.contains(words), "{debug}: {said}");
            let names = debug.split(|one: char| !one.is_alphanumeric()).filter(|name| name.len() > 10);
            for name in names {
                assert!(!said.contains(name), "{name} in {said}");
            }
        }
        let reset = io::Error::new(io::ErrorKind::ConnectionReset, "reset by peer");
        assert_eq!(explain(&reset, true), "reset by peer");
    }
}
