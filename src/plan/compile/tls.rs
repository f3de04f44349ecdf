//! TLS of an upstream as written: its files, its names, and the identity of its connections.
//!
//! Two endpoints share connections only if everything that TLS depends on is the same. It must never
//! accept files that could not serve.

use std::hash::Hash;
use std::sync::Arc;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::sign::CertifiedKey;
use xxhash_rust::xxh64::Xxh64;

use super::Context;
use crate::plan::Tls;
use crate::plan::tls::{pair, roots};
use crate::spec::Spot;
use crate::spec::upstream::{Upstream as Written, UpstreamProtocol};

/// What every endpoint of an upstream has in common.
pub(super) struct Secured<'a> {
    /// As written, or the usual.
    pub protocol: UpstreamProtocol,
    /// Whether the upstream has a `tls` block.
    pub is_written: bool,
    trusted: Option<Arc<RootCertStore>>,
    shown: Option<Arc<CertifiedKey>>,
    server_name: Option<&'a Spot<String>>,
    /// Hash of the files' contents.
    files: u64,
}

pub(super) fn compile<'a>(context: &mut Context<'a>, upstream: &'a Written) -> Secured<'a> {
    let tls = upstream.tls.as_ref();
    let mut files = Xxh64::new(0);
    for file in tls.into_iter().flat_map(|tls| tls.files()) {
        let text = context.inputs.lists.get(file.as_str()).and_then(|text| text.as_deref().ok());
        (file.as_str(), text).hash(&mut files);
    }
    Secured {
        protocol: upstream.protocol.as_ref().map_or(UpstreamProtocol::Http1, |spot| spot.value),
        is_written: tls.is_some(),
        trusted: tls.and_then(|tls| tls.ca.as_ref()).and_then(|file| trusted(context, file)),
        shown: tls.and_then(|tls| shown(context, tls)),
        server_name: tls.and_then(|tls| tls.server_name.as_ref()),
        files: files.digest(),
    }
}

impl Secured<'_> {
    /// TLS of one endpoint.
    pub(super) fn of(&self, context: &mut Context<'_>, url: &Spot<String>, host: &str) -> Option<Tls> {
        let (spot, name) = self.server_name.map_or((url, host), |spot| (spot, spot.as_str()));
        let Ok(name) = ServerName::try_from(name.to_owned()) else {
            let message = format!("`{name}` is no name that a certificate can have");
            context.findings.error(spot, "bad-value", message, "tls: { serverName: app.internal }");
            return None;
        };
        let (trusted, shown) = (self.trusted.clone(), self.shown.clone());
        Some(Tls { trusted, name, protocol: self.protocol, shown })
    }

    /// What tells connections apart that must not be used for one another.
    pub(super) fn identity(&self, url: &str, tls: &Tls) -> Arc<str> {
        let (name, protocol, files) = (tls.name.to_str(), self.protocol, self.files);
        Arc::from(format!("{url} {name} {protocol:?} {files:x}"))
    }
}

fn trusted(context: &mut Context<'_>, file: &Spot<String>) -> Option<Arc<RootCertStore>> {
    let text = text_of(context, file)?;
    match roots(text) {
        Ok(store) => Some(Arc::new(store)),
        Err(why) => {
            let message = format!("`{}` cannot be trusted: {why}", **file);
            context.findings.error(file, "bad-certificate", message, "give a PEM file of CA certificates");
            None
        }
    }
}

fn shown(context: &mut Context<'_>, tls: &crate::spec::upstream::Tls) -> Option<Arc<CertifiedKey>> {
    let (cert, key) = match (&tls.client_cert, &tls.client_key) {
        (Some(cert), Some(key)) => (cert, key),
        (None, None) => return None,
        (Some(alone), None) | (None, Some(alone)) => {
            let message = "a client certificate needs its key, and a key its certificate";
            let hint = "tls: { clientCert: client.crt, clientKey: client.key }";
            context.findings.error(alone, "bad-value", message, hint);
            return None;
        }
    };
    let texts = (text_of(context, cert), text_of(context, key));
    let (Some(cert_text), Some(key_text)) = texts else { return None };
    match pair(cert_text, key_text) {
        Ok(shown) => Some(Arc::new(shown)),
        Err((of_certificate, why)) => {
            let file = if of_certificate { cert } else { key };
            let message = format!("`{}` cannot be shown to endpoints: {why}", **file);
            let hint = "give the certificate and its unencrypted key as PEM files";
            context.findings.error(file, "bad-certificate", message, hint);
            None
        }
    }
}

/// What a file of certificates or keys says.
fn text_of<'a>(context: &mut Context<'a>, file: &Spot<String>) -> Option<&'a str> {
    let why = match context.inputs.lists.get(file.as_str()) {
        Some(Ok(text)) => return Some(text),
        Some(Err(why)) => why.as_str(),
        None => "it was not loaded",
    };
    let message = format!("`{}` cannot be read: {why}", **file);
    let hint = "paths are relative to the configuration's folder";
    context.findings.error(file, "unreadable-file", message, hint);
    None
}
