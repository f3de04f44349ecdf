//! One listener's TLS: which certificate a client gets, and everything else a handshake needs.
//!
//! The name a client asks for picks: exact, then wildcard, then the first certificate. It must never
//! change once made: a change makes another.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{Error, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::pair::Pair;
use crate::model::secured::CertNames;

/// Both versions that are served.
const BOTH: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// The newer alone.
const NEWER: &[&SupportedProtocolVersion] = &[&TLS13];

/// What a listener is served with.
pub(super) struct Terms {
    pub pairs: Vec<Arc<Pair>>,
    /// Who signs clients' certificates, and whether every client must show one.
    pub clients: Option<(Arc<RootCertStore>, bool)>,
    pub newer_only: bool,
    /// Protocols by ALPN, best first.
    pub alpn: &'static [&'static [u8]],
}

/// One listener's TLS.
#[derive(Debug)]
pub struct Served {
    /// For handshakes.
    pub config: Arc<ServerConfig>,
    picker: Arc<Picker>,
}

impl Served {
    /// Makes it. `ticketer` keeps sessions over changes; where clients show certificates there are no
    /// tickets, because a resumed session would not show one again.
    pub(super) fn new(
        terms: Terms,
        provider: &Arc<CryptoProvider>,
        ticketer: &Arc<dyn ProducesTickets>,
    ) -> Result<Self, Error> {
        let versions = if terms.newer_only { NEWER } else { BOTH };
        let picker = Arc::new(Picker::new(terms.pairs));
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(provider)).with_protocol_versions(versions)?;
        let anonymous = terms.clients.is_none();
        let verifier = verifier(terms.clients, provider)?;
        let resolver = Arc::clone(&picker);
        let mut config = builder.with_client_cert_verifier(verifier).with_cert_resolver(resolver);
        config.alpn_protocols = terms.alpn.iter().map(|name| name.to_vec()).collect();
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = usize::from(anonymous);
        if anonymous {
            config.ticketer = Arc::clone(ticketer);
        }
        Ok(Self { config: Arc::new(config), picker })
    }

    /// What the certificate covers that a client got who asked for this name.
    #[must_use]
    pub fn names(&self, asked: Option<&str>) -> Option<Arc<CertNames>> {
        self.picker.pick(asked).map(|pair| Arc::clone(&pair.names))
    }
}

fn verifier(
    clients: Option<(Arc<RootCertStore>, bool)>,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let Some((roots, required)) = clients else { return Ok(WebPkiClientVerifier::no_client_auth()) };
    let builder = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
    let builder = if required { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| Error::General(error.to_string()))
}

/// Certificates by the names they cover.
#[derive(Debug)]
struct Picker {
    pairs: Vec<Arc<Pair>>,
    exact: HashMap<String, usize>,
    wildcards: HashMap<String, usize>,
}

impl Picker {
    fn new(pairs: Vec<Arc<Pair>>) -> Self {
        let (mut exact, mut wildcards) = (HashMap::new(), HashMap::new());
        for (at, pair) in pairs.iter().enumerate() {
            // Of two certificates for one name the first one written serves.
            pair.names.exact().for_each(|name| {
                exact.entry(name.to_owned()).or_insert(at);
            });
            pair.names.wildcards().for_each(|rest| {
                wildcards.entry(rest.to_owned()).or_insert(at);
            });
        }
        Self { pairs, exact, wildcards }
    }

    fn pick(&self, asked: Option<&str>) -> Option<&Arc<Pair>> {
        let found = asked.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let wild = || name.split_once('.').and_then(|(_, rest)| self.wildcards.get(rest));
            self.exact.get(&name).or_else(wild).copied()
        });
        self.pairs.get(found.unwrap_or(0))
    }
}

impl ResolvesServerCert for Picker {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.pick(hello.server_name()).map(|pair| Arc::clone(&pair.key))
    }
}
