//! Names of endpoints to addresses, off the request path, by the system's resolver.
//!
//! The last good set is kept when a lookup fails or comes back empty. It must never run on a
//! worker.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::model::Generation;
use crate::plan::{Endpoint, Plan, Plans};

/// Time between two lookups of the same name.
pub const EVERY: Duration = Duration::from_secs(5);
/// How long one lookup may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Looks up every named endpoint of the plan once; returns what failed, one line each.
pub async fn resolve(plan: &Plan) -> Vec<String> {
    let mut failed = Vec::new();
    let named = plan.upstreams.iter().flat_map(|upstream| &upstream.endpoints);
    for endpoint in named.filter(|endpoint| endpoint.host.parse::<std::net::IpAddr>().is_err()) {
        failed.extend(one(endpoint).await.err());
    }
    failed
}

async fn one(endpoint: &Endpoint) -> Result<(), String> {
    let lookup = tokio::net::lookup_host((&*endpoint.host, endpoint.port));
    let found = match tokio::time::timeout(TIMEOUT, lookup).await {
        Ok(Ok(addresses)) => addresses.collect::<Vec<_>>(),
        Ok(Err(error)) => return Err(format!("{}: {error}", endpoint.host)),
        Err(_) => return Err(format!("{}: no answer in {TIMEOUT:?}", endpoint.host)),
    };
    if found.is_empty() {
        return Err(format!("{}: no address", endpoint.host));
    }
    if **endpoint.cell.addresses.load() != found {
        endpoint.cell.addresses.store(Arc::new(found));
    }
    Ok(())
}

/// Looks names up again and again, and at once for every new plan.
pub async fn keep_resolving(plans: Plans, mut published: watch::Receiver<Generation>) {
    loop {
        // Whether a plan came or the time, the plan in force is looked through.
        if let Ok(Err(_)) = tokio::time::timeout(EVERY, published.changed()).await {
            return;
        }
        let plan = plans.load_full();
        for failure in resolve(&plan).await {
            tracing::warn!("name lookup failed, the last addresses stay in use: {failure}");
        }
    }
}
