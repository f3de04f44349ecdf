//! Listeners: addresses, bounds, and the rule that a reload never moves a socket.
//!
//! It must never open a socket, nor guess an address.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Context, each_file, encrypted, routes};
use crate::plan::Listener;
use crate::spec::Spot;
use crate::spec::listener::Protocol;

/// Most listeners of one process: a match keeps them as a bit set.
const MAX_LISTENERS: usize = 64;

pub(super) fn compile(context: &mut Context<'_>) -> Vec<Listener> {
    let mut listeners: Vec<Listener> = Vec::new();
    let mut names: Vec<String> = Vec::new();
    each_file(context, |context, file| {
        for written in &file.listeners {
            if names.contains(&written.name.value) {
                let message = format!("listener `{}` is defined twice", *written.name);
                context.findings.error(&written.name, "duplicate-name", message, "rename one of them");
                continue;
            }
            routes::name(context, &written.name, "listener");
            names.push(written.name.value.clone());
            check_limits(context, written);
            encrypted::check(context, written);
            let Some(address) = parse_address(context, &written.address) else { continue };
            if let Some(other) =
                listeners.iter().find(|other| other.address == address && address.port() != 0)
            {
                let message = format!("listeners `{}` and `{}` share {address}", other.name, *written.name);
                context.findings.error(&written.address, "duplicate-address", message, "");
            }
            listeners.push(Listener {
                name: Arc::from(written.name.as_str()),
                address,
                h2c: written.protocol == Protocol::H2c && written.tls.is_none(),
                tls: written.tls.as_ref().map(|tls| tls.value.clone()),
                proxy_peers: written
                    .proxy_protocol
                    .iter()
                    .flat_map(|proxied| proxied.peers.iter().map(|peer| peer.0))
                    .collect(),
                limits: written.limits,
                paths: written.paths,
                via: written.via,
                timeouts: written.timeouts,
            });
        }
    });
    listeners.sort_by(|a, b| a.name.cmp(&b.name));
    check_set(context, &listeners);
    listeners
}

fn check_set(context: &mut Context<'_>, listeners: &[Listener]) {
    let nowhere = context.inputs.spec.files.first().map_or_else(
        || Spot::unwritten(()),
        |(source, _)| {
            context.findings.file.clone_from(&source.name);
            Spot { value: (), line: 1, column: 1, length: 1 }
        },
    );
    let written: usize = context.inputs.spec.files.iter().map(|(_, file)| file.listeners.len()).sum();
    if written == 0 {
        let hint = "listeners: [{ name: web, address: \"0.0.0.0:8080\" }]";
        context.findings.error(&nowhere, "no-listener", "no listener is defined", hint);
        return;
    }
    if written > MAX_LISTENERS {
        let message = format!("more than {MAX_LISTENERS} listeners");
        context.findings.error(&nowhere, "too-many", message, "");
    }
    let Some(previous) = context.inputs.previous else { return };
    let names =
        |list: &[Listener]| list.iter().map(|one| (Arc::clone(&one.name), one.address)).collect::<Vec<_>>();
    if written == listeners.len() && names(listeners) != names(&previous.listeners) {
        let spot = moved_listener(context, previous);
        context.findings.error(
            &spot,
            "listener-changed",
            "listeners cannot be added, removed, renamed or moved by a reload",
            "sockets stay open over reloads; restart to change them",
        );
    }
}

/// The first listener as written that differs from the one in force.
fn moved_listener(context: &mut Context<'_>, previous: &crate::plan::Plan) -> Spot<()> {
    let mut found: Option<(Spot<()>, String)> = None;
    each_file(context, |context, file| {
        for written in &file.listeners {
            let same = previous.listeners.iter().any(|one| {
                *one.name == **written.name
                    && socket_address(&written.address).is_ok_and(|address| address == one.address)
            });
            if !same && found.is_none() {
                found = Some((written.address.with(()), context.findings.file.clone()));
            }
        }
    });
    let (spot, file) =
        found.unwrap_or((Spot { value: (), line: 1, column: 1, length: 1 }, context.findings.file.clone()));
    context.findings.file = file;
    spot
}

fn check_limits(context: &mut Context<'_>, written: &crate::spec::listener::Listener) {
    let limits = &written.limits;
    if !(8 << 10..=1 << 20).contains(&limits.header_bytes.0) {
        let message = "headerBytes must be from 8KiB to 1MiB";
        context.findings.error(&limits.header_bytes, "bad-value", message, "the default is 32KiB");
    } else if !(1..=limits.header_bytes.0).contains(&limits.target_bytes.0) {
        let message = "targetBytes must be from 1B to headerBytes";
        context.findings.error(&limits.target_bytes, "bad-value", message, "the default is 8KiB");
    }
    if !(1..=100).contains(&limits.header_count.value) {
        context.findings.error(&limits.header_count, "bad-value", "headerCount must be from 1 to 100", "");
    }
}

/// Replaces `${NAME}` by the environment's value.
pub(super) fn expand(context: &mut Context<'_>, spot: &Spot<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = spot.as_str();
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            context.findings.error(spot, "bad-value", "`${` without `}`", "");
            return None;
        };
        let Some(value) = context.inputs.env.get(name) else {
            let message = format!("environment variable `{name}` is not set");
            context.findings.error(spot, "unset-variable", message, "set it before starting");
            return None;
        };
        text.push_str(value);
        rest = tail;
    }
    text.push_str(rest);
    Some(text)
}

/// A `host:port` that can be bound, with its environment expanded.
pub(super) fn parse_address(context: &mut Context<'_>, spot: &Spot<String>) -> Option<SocketAddr> {
    let text = expand(context, spot)?;
    match socket_address(&text) {
        Ok(address) => Some(address),
        Err(why) => {
            context.findings.error(spot, "bad-address", why, "write host:port, such as \"0.0.0.0:8080\"");
            None
        }
    }
}

/// Reads `host:port`; `localhost` is the only name understood.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if let Some(port) = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok()) {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    let Some((_, port)) = text.rsplit_once(':') else {
        let missing =
            if text.parse::<u64>().is_ok() { "is a port without an address" } else { "has no port" };
        return Err(format!("`{text}` {missing}"));
    };
    if port.parse::<u64>().is_ok_and(|port| port > u64::from(u16::MAX)) {
        return Err(format!("port {port} is out of range 0 to 65535"));
    }
    Err(format!("`{text}` is not an address to bind"))
}
