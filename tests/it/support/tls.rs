//! Certificates made by openssl, and a TLS client whose every choice a test can see.
//!
//! It must never trust what a test did not tell it to trust.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned, SupportedProtocolVersion,
};

use super::tools;

const PATIENCE: Duration = Duration::from_secs(30);

/// An authority that signs what a test asks for.
pub struct Authority {
    folder: TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let authority = Self { folder: tempfile::tempdir().expect("a folder for certificates") };
        let key = authority.path("ca.key");
        authority.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "30",
            "-subj",
            "/CN=Test CA",
            "-keyout",
            &key,
            "-out",
            &authority.path("ca.crt"),
        ]);
        authority
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn ca(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    fn openssl(&self, arguments: &[&str]) {
        let mut command = Command::new("openssl");
        command.args(arguments).current_dir(self.folder.path());
        let finished = tools::run(&mut command, b"");
        assert_eq!(finished.code, Some(0), "openssl {arguments:?}: {}", finished.err);
    }

    /// Signs `NAME.crt` with `NAME.key` for alternative names such as `DNS:a.test,IP:127.0.0.1`.
    pub fn sign(&self, name: &str, subject: &str, names: &str) -> Signed {
        self.sign_for(name, subject, names, &["-days", "30"])
    }

    /// The same, over yesterday.
    pub fn sign_expired(&self, name: &str, names: &str) -> Signed {
        // Older openssl cannot sign with a start of validity, but it signs for days before now.
        self.sign_for(name, "/CN=old", names, &["-days", "-1"])
    }

    fn sign_for(&self, name: &str, subject: &str, names: &str, days: &[&str]) -> Signed {
        let (key, csr, cert) = (
            self.path(&format!("{name}.key")),
            self.path(&format!("{name}.csr")),
            self.path(&format!("{name}.crt")),
        );
        self.openssl(&[
            "req",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            subject,
            "-keyout",
            &key,
            "-out",
            &csr,
        ]);
        let extensions = self.path(&format!("{name}.ext"));
        std::fs::write(&extensions, format!("subjectAltName={names}\n")).expect("written");
        let mut arguments = vec![
            "x509",
            "-req",
            "-in",
            &csr,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &cert,
        ];
        arguments.extend(days);
        self.openssl(&arguments);
        Signed { cert: cert.into(), key: key.into() }
    }
}

/// A certificate and its key.
#[derive(Clone, Debug)]
pub struct Signed {
    pub cert: PathBuf,
    pub key: PathBuf,
}

impl Signed {
    pub fn yaml(&self) -> String {
        format!("{{ cert: \"{}\", key: \"{}\" }}", self.cert.display(), self.key.display())
    }

    /// Puts another pair in its place, each file at once.
    pub fn replace_by(&self, other: &Self) {
        for (ours, theirs) in [(&self.cert, &other.cert), (&self.key, &other.key)] {
            super::site::replace(ours, &std::fs::read_to_string(theirs).expect("a PEM file"));
        }
    }

    pub fn leaf(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_file(&self.cert).expect("a certificate")
    }
}

/// How a client comes.
pub struct Client {
    config: Arc<ClientConfig>,
}

impl Client {
    pub fn new(ca: &Path) -> Self {
        Self::made(ca, None, &[], &[&TLS13, &TLS12])
    }

    pub fn showing(ca: &Path, own: &Signed) -> Self {
        Self::made(ca, Some(own), &[], &[&TLS13, &TLS12])
    }

    pub fn offering(ca: &Path, alpn: &[&[u8]]) -> Self {
        Self::made(ca, None, alpn, &[&TLS13, &TLS12])
    }

    pub fn older(ca: &Path) -> Self {
        Self::made(ca, None, &[], &[&TLS12])
    }

    fn made(
        ca: &Path,
        own: Option<&Signed>,
        alpn: &[&[u8]],
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(ca).expect("a CA")).expect("a root");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
                builder.with_client_auth_cert(vec![own.leaf()], key).expect("a client's certificate")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config.resumption = Resumption::in_memory_sessions(8);
        Self { config: Arc::new(config) }
    }

    /// A connection after its handshake.
    pub fn open(&self, addr: SocketAddr, name: &str) -> io::Result<Secure> {
        self.over(TcpStream::connect(addr)?, name)
    }

    pub fn over(&self, socket: TcpStream, name: &str) -> io::Result<Secure> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let session = ClientConnection::new(Arc::clone(&self.config), name).map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(session, socket);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        Ok(Secure { stream })
    }

    /// One request on a connection of its own.
    pub fn ask(&self, addr: SocketAddr, name: &str, request: &str) -> io::Result<String> {
        self.open(addr, name)?.ask(request)
    }
}

/// An encrypted connection.
pub struct Secure {
    stream: StreamOwned<ClientConnection, TcpStream>,
}

impl Secure {
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// One request and its answer, as far as `content-length` says.
    pub fn ask(&mut self, request: &str) -> io::Result<String> {
        self.write(request.as_bytes())?;
        let mut text = Vec::new();
        let mut piece = [0_u8; 4096];
        loop {
            if let Some(end) = text.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&text[..end]).to_ascii_lowercase();
                let length =
                    head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                if text.len() >= end + 4 + length.unwrap_or(0) {
                    return Ok(String::from_utf8_lossy(&text).into_owned());
                }
            }
            match self.stream.read(&mut piece)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => text.extend_from_slice(&piece[..count]),
            }
        }
    }

    /// What comes until the proxy says under TLS that it ends; an error without that word.
    pub fn rest(&mut self) -> io::Result<String> {
        let mut text = String::new();
        self.stream.read_to_string(&mut text)?;
        Ok(text)
    }

    pub fn leaf(&self) -> CertificateDer<'static> {
        let chain = self.stream.conn.peer_certificates().expect("a certificate");
        chain[0].clone().into_owned()
    }

    pub fn resumed(&self) -> bool {
        self.stream.conn.handshake_kind() == Some(HandshakeKind::Resumed)
    }

    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.conn.alpn_protocol()
    }
}
