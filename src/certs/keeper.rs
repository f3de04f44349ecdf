//! All certificates of the process: what is held, what every listener is served with, what is wrong.
//!
//! A start or a reload asks [`Certificates::prepare`] and then [`Certificates::follow`]; between
//! them [`Certificates::look`] swaps pairs that changed on the disk. A pair that cannot be used, or
//! has expired, never replaces one that is held.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::crypto::CryptoProvider;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::ProducesTickets;

use super::pair::{Bytes, Pair, Unusable, Which, authorities};
use super::picker::{Served, Terms};
use crate::model::{Diagnostic, Place};
use crate::plan::Plan;
use crate::spec::tls::{ClientAuthMode, MinVersion, Pair as Written, Tls};
use crate::spec::{Spec, Spot};

/// What clients of the data plane may speak.
const WEB: &[&[u8]] = &[b"h2", b"http/1.1"];
/// What the admin listener speaks.
const ADMIN: &[&[u8]] = &[b"http/1.1"];

/// How one held pair is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The certificate's file as written.
    pub cert: String,
    /// Unix seconds at which the served certificate ends.
    pub not_after: i64,
    /// Why its files do not replace it.
    pub trouble: Option<String>,
}

/// What a look at the files found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Look {
    /// Files of what was swapped.
    pub swapped: Vec<String>,
    /// Everything that is wrong now.
    pub troubles: Vec<String>,
}

struct HeldPair {
    written: Written,
    pair: Arc<Pair>,
    /// Hash of the files it was read from.
    hash: u64,
    trouble: Option<String>,
}

struct HeldRoots {
    file: String,
    roots: Arc<RootCertStore>,
    hash: u64,
    trouble: Option<String>,
}

#[derive(Default)]
struct Inner {
    pairs: Vec<HeldPair>,
    roots: Vec<HeldRoots>,
    /// What listeners want, in plan order.
    wanted: Vec<Option<Tls>>,
    admin: Option<Written>,
}

#[derive(Default)]
struct Table {
    listeners: Vec<Option<Arc<Served>>>,
    admin: Option<Arc<Served>>,
}

/// All certificates of the process.
pub struct Certificates {
    base: PathBuf,
    provider: Arc<CryptoProvider>,
    ticketer: Arc<dyn ProducesTickets>,
    inner: Mutex<Inner>,
    table: ArcSwap<Table>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Certificates").finish_non_exhaustive()
    }
}

impl Certificates {
    /// None yet; paths are meant from `base`.
    ///
    /// # Errors
    /// The system gives no randomness for tickets.
    pub fn new(base: PathBuf) -> Result<Self, String> {
        let ticketer = aws_lc_rs::Ticketer::new().map_err(|error| format!("no keys for tickets: {error}"))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        Ok(Self { base, provider, ticketer, inner: Mutex::default(), table: ArcSwap::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads what a configuration names and is not held yet. Errors say what cannot be used; a
    /// certificate that has expired is a warning, because a process must come back after a crash.
    /// `now` is in Unix seconds.
    pub fn prepare(&self, spec: &Spec, now: i64) -> Vec<Diagnostic> {
        let mut inner = self.lock();
        let mut found = Vec::new();
        for (source, file) in &spec.files {
            let listeners = file.listeners.iter().filter_map(|listener| listener.tls.as_ref());
            for tls in listeners.clone() {
                for pair in tls.certificates.iter() {
                    found.extend(self.hold(&mut inner, pair, &source.name, now));
                }
            }
            let admin = file.admin.iter().filter_map(|admin| admin.pair());
            for pair in admin {
                found.extend(self.hold(&mut inner, pair, &source.name, now));
            }
            for auth in listeners.filter_map(|tls| tls.client_auth.as_ref()) {
                found.extend(self.hold_roots(&mut inner, &auth.ca, &source.name));
            }
        }
        found
    }

    fn hold(&self, inner: &mut Inner, written: &Written, file: &str, now: i64) -> Option<Diagnostic> {
        if inner.pairs.iter().any(|held| held.written == *written) {
            return None;
        }
        let bytes = Bytes::read(&self.base.join(&*written.cert), &self.base.join(&*written.key));
        match bytes.pair(&self.provider) {
            Ok(pair) => {
                let expired = pair.not_after < now;
                let pair = Arc::new(pair);
                inner.pairs.push(HeldPair {
                    written: written.clone(),
                    pair,
                    hash: bytes.hash(),
                    trouble: None,
                });
                let message =
                    format!("the certificate in `{}` has expired: clients will refuse it", *written.cert);
                let finding =
                    Diagnostic::error("expired-certificate", message).at(place(file, &written.cert));
                expired.then(|| finding.hint("renew it; the new files are taken at once").warning())
            }
            Err(Unusable { which, why, hint }) => {
                let (kind, spot) = match which {
                    Which::Cert => ("certificate", &written.cert),
                    Which::Key => ("key", &written.key),
                };
                let message = format!("the {kind} in `{}` cannot be used: {why}", **spot);
                Some(Diagnostic::error("unusable-certificate", message).at(place(file, spot)).hint(hint))
            }
        }
    }

    fn hold_roots(&self, inner: &mut Inner, written: &Spot<String>, file: &str) -> Option<Diagnostic> {
        if inner.roots.iter().any(|held| held.file == **written) {
            return None;
        }
        match authorities(&self.base.join(&**written)) {
            (hash, Ok(roots)) => {
                inner.roots.push(HeldRoots { file: written.value.clone(), roots, hash, trouble: None });
                None
            }
            (_, Err(why)) => {
                let message = format!("who signs clients, in `{}`, is not known: {why}", **written);
                let hint = "it must hold the signers' certificates in PEM";
                Some(Diagnostic::error("unusable-certificate", message).at(place(file, written)).hint(hint))
            }
        }
    }

    /// Serves listeners as a plan says, with what [`Self::prepare`] read. What no longer is named is
    /// let go.
    pub fn follow(&self, plan: &Plan) {
        let mut inner = self.lock();
        let wanted: Vec<Option<Tls>> = plan.listeners.iter().map(|listener| listener.tls.clone()).collect();
        let admin = plan.process.admin.pair().map(|pair| pair.value.clone());
        let named = |pair: &Written| {
            wanted.iter().flatten().any(|tls| tls.certificates.contains(pair)) || admin.as_ref() == Some(pair)
        };
        let auths = || wanted.iter().flatten().filter_map(|tls| tls.client_auth.as_ref());
        inner.pairs.retain(|held| named(&held.written));
        inner.roots.retain(|held| auths().any(|auth| *auth.ca == held.file));
        if wanted == inner.wanted && admin == inner.admin {
            return;
        }
        (inner.wanted, inner.admin) = (wanted, admin);
        self.serve(&inner);
    }

    /// Reads every file again and swaps what changed and is good. `now` is in Unix seconds. A trouble
    /// that is new is noted once files are `settled`: of two that are replaced one is the first.
    pub fn look(&self, now: i64, settled: bool) -> Look {
        let mut inner = self.lock();
        let mut look = Look::default();
        for held in &mut inner.pairs {
            let (cert, key) = (&*held.written.cert, &*held.written.key);
            let bytes = Bytes::read(&self.base.join(cert), &self.base.join(key));
            let hash = bytes.hash();
            if hash == held.hash {
                held.trouble = None;
                continue;
            }
            let trouble = match bytes.pair(&self.provider) {
                Ok(pair) if pair.not_after < now => Some(format!("{cert}: the new certificate has expired")),
                Ok(pair) => {
                    (held.pair, held.hash) = (Arc::new(pair), hash);
                    look.swapped.push(cert.clone());
                    None
                }
                Err(Unusable { which, why, .. }) => {
                    let file = if which == Which::Cert { cert } else { key };
                    Some(format!("{file}: {why}"))
                }
            };
            look.troubles.extend(trouble.clone());
            note(&mut held.trouble, trouble, settled);
        }
        for held in &mut inner.roots {
            let (hash, roots) = authorities(&self.base.join(&held.file));
            let trouble = match roots {
                _ if hash == held.hash => None,
                Ok(roots) => {
                    (held.roots, held.hash) = (roots, hash);
                    look.swapped.push(held.file.clone());
                    None
                }
                Err(why) => Some(format!("{}: {why}", held.file)),
            };
            look.troubles.extend(trouble.clone());
            note(&mut held.trouble, trouble, settled);
        }
        if !look.swapped.is_empty() {
            self.serve(&inner);
        }
        look
    }

    fn serve(&self, inner: &Inner) {
        let listeners = inner.wanted.iter().map(|tls| self.listener(inner, tls.as_ref()?)).collect();
        let admin = inner.admin.as_ref().and_then(|written| {
            let pairs = vec![held(inner, written)?];
            self.made(Terms { pairs, clients: None, newer_only: false, alpn: ADMIN })
        });
        self.table.store(Arc::new(Table { listeners, admin }));
    }

    fn listener(&self, inner: &Inner, tls: &Tls) -> Option<Arc<Served>> {
        let pairs =
            tls.certificates.iter().map(|written| held(inner, written)).collect::<Option<Vec<_>>>()?;
        let clients = match &tls.client_auth {
            None => None,
            Some(auth) => {
                let roots = inner.roots.iter().find(|held| held.file == *auth.ca)?;
                Some((Arc::clone(&roots.roots), auth.mode == ClientAuthMode::Required))
            }
        };
        self.made(Terms { pairs, clients, newer_only: tls.min_version == MinVersion::V13, alpn: WEB })
    }

    fn made(&self, terms: Terms) -> Option<Arc<Served>> {
        let made = Served::new(terms, &self.provider, &self.ticketer);
        made.inspect_err(|error| tracing::error!("a listener's TLS cannot be set up: {error}"))
            .ok()
            .map(Arc::new)
    }

    /// What a listener is served with; `None` where it has no TLS, or none that works: then its
    /// connections are refused.
    #[must_use]
    pub fn listener_tls(&self, listener: usize) -> Option<Arc<Served>> {
        self.table.load().listeners.get(listener).cloned().flatten()
    }

    /// What the admin listener is served with.
    #[must_use]
    pub fn admin_tls(&self) -> Option<Arc<Served>> {
        self.table.load().admin.clone()
    }

    /// How every held pair is.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let inner = self.lock();
        let held = inner.pairs.iter().map(|held| Held {
            cert: held.written.cert.value.clone(),
            not_after: held.pair.not_after,
            trouble: held.trouble.clone(),
        });
        held.collect()
    }

    /// Every file that is read, as named.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let inner = self.lock();
        let pairs = inner.pairs.iter().flat_map(|held| [&*held.written.cert, &*held.written.key]);
        let files = pairs.chain(inner.roots.iter().map(|held| &held.file));
        files.map(|file| self.base.join(file)).collect()
    }
}

/// What is wrong now, in the place of what was; something new only once files are settled.
fn note(held: &mut Option<String>, trouble: Option<String>, settled: bool) {
    if settled || held.is_some() || trouble.is_none() {
        *held = trouble;
    }
}

fn held(inner: &Inner, written: &Written) -> Option<Arc<Pair>> {
    inner.pairs.iter().find(|held| held.written == *written).map(|held| Arc::clone(&held.pair))
}

fn place(file: &str, spot: &Spot<String>) -> Place {
    Place { file: file.to_owned(), line: spot.line, column: spot.column, length: spot.length }
}

/// Folders in which a change of files may matter: where they are named and where links lead.
#[must_use]
pub fn folders(files: &[PathBuf]) -> Vec<PathBuf> {
    let real = files.iter().filter_map(|file| std::fs::canonicalize(file).ok());
    let parents = files.iter().cloned().chain(real);
    let mut folders: Vec<PathBuf> = parents.filter_map(|file| file.parent().map(Path::to_owned)).collect();
    folders.iter_mut().filter(|folder| folder.as_os_str().is_empty()).for_each(|folder| folder.push("."));
    folders.sort();
    folders.dedup();
    folders
}
