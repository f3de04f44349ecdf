//! TLS and PROXY protocol of listeners: what can be told without reading a file.
//!
//! Whether certificates can be used is found where they are read. It must never open one.

use super::Context;
use crate::spec::listener::Listener;
use crate::spec::process::Admin;
use crate::spec::tls::Pair;

/// Most certificates of one listener.
const MAX_CERTIFICATES: usize = 1_000;

pub(super) fn check(context: &mut Context<'_>, written: &Listener) {
    if let Some(proxied) = &written.proxy_protocol
        && proxied.peers.is_empty()
    {
        let message = "`peers` is empty: nobody could say whose connection it is";
        let hint = "name the networks of the load balancers: [10.0.0.0/8]";
        context.findings.error(&proxied.peers, "bad-value", message, hint);
    }
    let Some(tls) = &written.tls else { return };
    let hint = "certificates: [{ cert: tls.crt, key: tls.key }]";
    if tls.certificates.is_empty() {
        context.findings.error(&tls.certificates, "bad-value", "`certificates` is empty", hint);
    }
    if tls.certificates.len() > MAX_CERTIFICATES {
        let message = format!("more than {MAX_CERTIFICATES} certificates");
        context.findings.error(&tls.certificates, "too-many", message, "");
    }
    tls.certificates.iter().for_each(|pair| named(context, pair));
    if let Some(auth) = &tls.client_auth
        && auth.ca.is_empty()
    {
        context.findings.error(&auth.ca, "bad-value", "`ca` names no file", "ca: clients.crt");
    }
}

pub(super) fn check_admin(context: &mut Context<'_>, admin: &Admin, address: Option<&str>) {
    let Some(pair) = admin.pair() else { return };
    named(context, pair);
    if address.is_some_and(|address| address.starts_with("unix:")) {
        let message = "a unix socket has no TLS: only its owner can connect";
        context.findings.error(pair, "bad-value", message, "remove `tls`");
    }
}

fn named(context: &mut Context<'_>, pair: &Pair) {
    for (key, file) in [("cert", &pair.cert), ("key", &pair.key)] {
        if file.is_empty() {
            let message = format!("`{key}` names no file");
            context.findings.error(file, "bad-value", message, "{ cert: tls.crt, key: tls.key }");
        }
    }
}
