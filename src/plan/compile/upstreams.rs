//! Upstreams: endpoint addresses, references, bounds.
//!
//! It must never look up a name: that happens off the request path, again and again.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::{Context, each_file, guard, listeners, tls};
use crate::plan::{Endpoint, Upstream};
use crate::spec::upstream::{Upstream as Written, UpstreamProtocol};
use crate::spec::{ShortOr, Spot};

/// Unused connections kept to one endpoint by one worker, at most.
const MOST_IDLE: u32 = 4096;

pub(super) type Upstreams = BTreeMap<Arc<str>, Arc<Upstream>>;

pub(super) fn compile(context: &mut Context<'_>) -> Upstreams {
    let mut upstreams = Upstreams::new();
    each_file(context, |context, file| {
        for (name, written) in &file.upstreams {
            if upstreams.contains_key(name.as_str()) {
                let message = format!("upstream `{}` is defined in two files", **name);
                context.findings.error(name, "duplicate-name", message, "rename one of them");
                continue;
            }
            let upstream = one(context, name, written);
            upstreams.insert(Arc::clone(&upstream.name), Arc::new(upstream));
        }
    });
    upstreams
}

fn one<'a>(context: &mut Context<'a>, name: &Spot<String>, written: &'a ShortOr<Written>) -> Upstream {
    if written.endpoints.is_empty() {
        let message = format!("upstream `{}` has no endpoints", **name);
        context.findings.error(name, "no-endpoint", message, "endpoints: [\"http://10.0.0.1:8080\"]");
    }
    if written.connection.min_idle.max(written.connection.max_idle) > MOST_IDLE {
        let message = format!("`minIdle` and `maxIdle` of upstream `{}` are at most {MOST_IDLE}", **name);
        let hint = "they are per endpoint and worker, and each holds a descriptor";
        context.findings.error(name, "bad-value", message, hint);
    }
    let named: Arc<str> = Arc::from(name.as_str());
    let watch = guard::watch(context, &named, written);
    let breaker = guard::breaker(context, &named, written);
    let secured = tls::compile(context, written);
    let mut endpoints: Vec<Endpoint> = written
        .endpoints
        .iter()
        .filter_map(|spot| {
            // A short upstream or endpoint carries no place of its own: point at what does.
            let url = [&spot.url.with(()), &spot.with(()), &name.with(())]
                .into_iter()
                .find(|at| at.line > 0)
                .map_or_else(
                    || Spot::unwritten(spot.url.value.clone()),
                    |at| at.with(spot.url.value.clone()),
                );
            endpoint(context, &url, spot.weight, &secured)
        })
        .collect();
    if watch.is_some() {
        let book = context.inputs.book;
        for one in &mut endpoints {
            one.guard = Some(book.endpoint_guard(&named, &one.cell.url));
        }
    }
    let name = named;
    let upstream = Upstream {
        watch,
        breaker,
        cell: context.inputs.book.upstream(&name),
        shadow: context.inputs.book.shadow_of(&name),
        name,
        protocol: match secured.protocol {
            // Without TLS there is no ALPN: `auto` is then the protocol that every origin speaks.
            UpstreamProtocol::Auto if !endpoints.iter().any(|one| one.tls.is_some()) => {
                UpstreamProtocol::Http1
            }
            protocol => protocol,
        },
        endpoints: endpoints.into(),
        load_balance: written.load_balance.map(|spot| spot.value).unwrap_or_default(),
        max_requests: written.limits.max_requests,
        max_pending: written.limits.max_pending,
        max_connections: written.limits.max_connections,
        connection: written.connection,
    };
    guard::fits(context, &upstream, written);
    upstream
}

fn endpoint(
    context: &mut Context<'_>,
    url: &Spot<String>,
    weight: u32,
    secured: &tls::Secured<'_>,
) -> Option<Endpoint> {
    if !(1..=10_000).contains(&weight) {
        context.findings.error(url, "bad-value", "an endpoint's weight is from 1 to 10000", "");
    }
    let text = listeners::expand(context, url)?;
    match parse_url(&text) {
        Ok((https, host, port)) => {
            let literal = host.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
            let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
            let scheme = if https { "https" } else { "http" };
            let key: Arc<str> = Arc::from(format!("{scheme}://{bracketed}:{port}"));
            let tls = if https { Some(secured.of(context, url, host)?) } else { None };
            if !https && secured.is_written {
                let message = format!("`{text}` is plaintext, and the upstream has `tls`");
                context.findings.error(url, "bad-address", message, "write https://, or remove `tls`");
            }
            let book = context.inputs.book;
            let cell = match &tls {
                Some(tls) => book.endpoint_as(&secured.identity(&key, tls), &key, literal),
                None => book.endpoint(&key, literal),
            };
            Some(Endpoint { cell, host: host.into(), port, weight, tls: tls.map(Arc::new), guard: None })
        }
        Err((code, why, hint)) => {
            context.findings.error(url, code, why, hint);
            None
        }
    }
}

type Refusal = (&'static str, String, &'static str);

/// Whether it is `https`, host and port of `http[s]://host[:port][/]`.
fn parse_url(text: &str) -> Result<(bool, &str, u16), Refusal> {
    let bad = |why: String| ("bad-address", why, "write http://host:port");
    let (https, rest) = match (text.strip_prefix("http://"), text.strip_prefix("https://")) {
        (Some(rest), _) => (false, rest),
        (None, Some(rest)) => (true, rest),
        (None, None) => return Err(bad(format!("`{text}` is not an http:// or https:// address"))),
    };
    let usual = if https { "443" } else { "80" };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) {
        return Err(bad(format!("`{text}` has a path: an endpoint is only an address")));
    }
    if authority.contains('@') {
        return Err(bad(format!("`{text}` carries user information")));
    }
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => {
            (host, port.strip_prefix(':').unwrap_or(if port.is_empty() { usual } else { "x" }))
        }
        None => authority.rsplit_once(':').unwrap_or((authority, usual)),
    };
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.bytes().all(valid) {
        return Err(bad(format!("`{text}` has no valid host")));
    }
    match port.parse::<u16>() {
        Ok(port) if port > 0 => Ok((https, host, port)),
        _ => Err(bad(format!("`{text}`: port `{port}` is out of range 1 to 65535"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_hosts_with_ports() {
        assert_eq!(parse_url("http://a.b:81").unwrap(), (false, "a.b", 81));
        assert_eq!(parse_url("http://a/").unwrap(), (false, "a", 80));
        assert_eq!(parse_url("https://a").unwrap(), (true, "a", 443));
        assert_eq!(parse_url("https://[::1]").unwrap(), (true, "::1", 443));
        assert_eq!(parse_url("http://[::1]:8080").unwrap(), (false, "::1", 8080));
        for bad in [
            "a:1",
            "http://",
            "http://a:0",
            "http://a:70000",
            "http://u@a",
            "http://a/x",
            "ftp://a",
            "http://a b",
        ] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
