//! Names of endpoints to addresses, off the request path, each again when its answer is too old.
//!
//! The last good set is kept when a lookup fails or comes back empty. A name never leads to addresses
//! that only an operator may mean. It must never run on a worker.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::resolver::Resolver;
use crate::model::Generation;
use crate::plan::{Endpoint, Plan, Plans, Process};

/// Shortest and longest time between two lookups of the same name.
pub const CLAMP: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Time between two lookups of a name whose answer says nothing about it, or that failed.
pub const EVERY: Duration = Duration::from_secs(5);
/// Lookups at a time.
const AT_ONCE: usize = 16;
/// Addresses of one name that are used.
const MAX_ADDRESSES: usize = 64;
/// Addresses at which clouds answer their own machines, beyond the link-local ones.
const METADATA: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V6(std::net::Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// The names of a plan and what is known of them.
#[derive(Debug)]
pub struct Names {
    resolver: Resolver,
    known: BTreeMap<Arc<str>, Known>,
    /// A look was given up before its end.
    unfinished: bool,
}

/// What is known of one name.
#[derive(Debug)]
struct Known {
    /// The last good answer.
    found: Option<Vec<IpAddr>>,
    due: Instant,
    failing: bool,
}

impl Names {
    /// None yet.
    #[must_use]
    pub fn new(resolver: Resolver) -> Self {
        Self { resolver, known: BTreeMap::new(), unfinished: false }
    }

    /// Looks up every name of the plan whose time has come, and tells its endpoints; returns what began
    /// to fail, one line each.
    pub async fn resolve(&mut self, plan: &Plan) -> Vec<String> {
        let names: BTreeSet<Arc<str>> = named(plan).map(|endpoint| Arc::from(&*endpoint.host)).collect();
        self.known.retain(|name, _| names.contains(name));
        self.tell(plan);
        let now = Instant::now();
        let mut due = names.into_iter().filter(|name| self.known.get(name).is_none_or(|one| one.due <= now));
        let due: Vec<Arc<str>> = due.by_ref().collect();
        let mut failed = Vec::new();
        self.unfinished = true;
        for some in due.chunks(AT_ONCE) {
            let mut asked = JoinSet::new();
            for name in some {
                let (name, resolver) = (Arc::clone(name), self.resolver.clone());
                asked.spawn(async move {
                    let found = resolver.lookup(&name).await;
                    (name, found)
                });
            }
            while let Some(answered) = asked.join_next().await {
                if let Ok((name, found)) = answered {
                    failed.extend(self.note(name, found));
                }
            }
            self.tell(plan);
        }
        self.unfinished = false;
        failed
    }

    fn note(
        &mut self,
        name: Arc<str>,
        found: Result<(Vec<IpAddr>, Option<Duration>), String>,
    ) -> Option<String> {
        let fresh = || Known { found: None, due: Instant::now(), failing: false };
        let known = self.known.entry(Arc::clone(&name)).or_insert_with(fresh);
        let was_failing = known.failing;
        known.failing = found.is_err();
        match found {
            Ok((mut found, holds)) => {
                found.truncate(MAX_ADDRESSES);
                known.found = Some(found);
                known.due = Instant::now() + holds.map_or(EVERY, |holds| holds.clamp(CLAMP.0, CLAMP.1));
                None
            }
            Err(why) => {
                known.due = Instant::now() + if known.found.is_some() { EVERY } else { CLAMP.0 };
                (!was_failing).then(|| format!("{name}: {why}"))
            }
        }
    }

    /// Tells endpoints what is known of their names.
    fn tell(&self, plan: &Plan) {
        for endpoint in named(plan) {
            let Some(known) = self.known.get(&*endpoint.host) else { continue };
            let address = |ip: &IpAddr| SocketAddr::new(*ip, endpoint.port);
            let set: Option<Vec<SocketAddr>> = known.found.as_ref().map(|found| {
                let all = found.iter().map(address);
                all.filter(|address| is_allowed(*address, &plan.process)).collect()
            });
            if set.as_ref().is_some_and(Vec::is_empty) && !endpoint.cell.addresses.is_asked() {
                let name = &endpoint.host;
                tracing::warn!("{name} leads to addresses that only their literal form may: it is not used");
            }
            endpoint.cell.addresses.found(set);
        }
    }

    /// Looks names up again and again, and new ones at once for every new plan.
    pub async fn keep_resolving(mut self, plans: Plans, mut published: watch::Receiver<Generation>) {
        loop {
            let soonest = self.known.values().map(|known| known.due).min();
            let pause = soonest.map_or(EVERY, |due| due.saturating_duration_since(Instant::now()).min(EVERY));
            let pause = if self.unfinished { Duration::ZERO } else { pause };
            // Whether a plan came or the time, the plan in force is looked through.
            if let Ok(Err(_)) = tokio::time::timeout(pause, published.changed()).await {
                return;
            }
            if self.resolver.renew() {
                let now = Instant::now();
                self.known.values_mut().for_each(|known| known.due = now);
            }
            let plan = plans.load_full();
            for failure in self.resolve(&plan).await {
                tracing::warn!("name lookup failed, the last addresses stay in use: {failure}");
            }
        }
    }
}

fn named(plan: &Plan) -> impl Iterator<Item = &Endpoint> {
    let endpoints = plan.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    endpoints.filter(|endpoint| endpoint.host.parse::<IpAddr>().is_err())
}

/// Whether a name may lead there: not to what a machine tells only itself, which whoever controls a
/// name would reach through this proxy.
fn is_allowed(address: SocketAddr, process: &Process) -> bool {
    let ip = address.ip().to_canonical();
    let link_local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
    };
    // A name of the machine itself is all of its own addresses.
    let admin = process.admin_address.replace("localhost:", "127.0.0.1:").parse().ok();
    let own = [admin, process.metrics_address];
    let within = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    let ours = own.into_iter().flatten().any(|own: SocketAddr| {
        let same = own.ip().to_canonical() == ip || within(own.ip().to_canonical()) && within(ip);
        own.port() == address.port() && same
    });
    !link_local && !METADATA.contains(&ip) && !ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_neither_to_the_machine_itself_nor_to_the_admin_port() {
        let process = Process {
            admin_address: "127.0.0.1:9901".to_owned(),
            admin: crate::plan::AdminSettings::default(),
            metrics_address: Some("0.0.0.0:9902".parse().unwrap()),
            workers: 0,
            state_dir: None,
            shutdown_delay: Duration::ZERO,
            shutdown_grace: Duration::ZERO,
        };
        let rows = [
            ("127.0.0.1:8080", true),
            ("10.0.0.1:9901", true),
            ("[fd00::1]:80", true),
            ("127.0.0.1:9901", false),
            ("[::ffff:127.0.0.1]:9901", false),
            ("127.0.0.2:9902", false),
            ("169.254.169.254:80", false),
            ("[::ffff:169.254.169.254]:80", false),
            ("[fe80::1]:80", false),
            ("[fd00:ec2::254]:80", false),
            ("100.100.100.200:80", false),
        ];
        // A name of the machine is the address that it has.
        for admin_address in ["127.0.0.1:9901", "localhost:9901"] {
            let process = Process { admin_address: admin_address.to_owned(), ..process.clone() };
            for (address, allowed) in rows {
                let found = is_allowed(address.parse().unwrap(), &process);
                assert_eq!(found, allowed, "{address} beside {admin_address}");
            }
        }
    }
}
