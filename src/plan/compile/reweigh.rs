//! The plan in force with some routes compiled anew: run-time intent moved, the file did not.
//!
//! A weight that moves among ten thousand routes must not cost ten thousand routes. Everything but
//! the routes named is shared with the plan before. It must never be used for another file than the
//! one the plan before was compiled from.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashSet;

use super::upstreams::Upstreams;
use super::{Context, Findings, Inputs, each_file, routes};
use crate::model::{Diagnostic, Severity};
use crate::plan::Plan;

/// Compiles the named routes of the plan before anew and keeps the rest; names it does not have are
/// passed over. Gives nothing without a plan before.
///
/// # Errors
/// Every error of meaning of these routes. What compiled once compiles with other weights.
pub fn reweigh(inputs: Inputs<'_>, names: &[&str]) -> Result<Option<Plan>, Vec<Diagnostic>> {
    let Some(before) = inputs.previous else { return Ok(None) };
    let wanted: HashSet<&str, FixedState> = names.iter().copied().collect();
    let generation = before.generation.next();
    let known = names.iter().filter_map(|name| Some((*name, *before.names.get(*name)?))).collect();
    let (mirror_bytes, replay_bytes) = (before.mirror_bytes, before.replay_bytes);
    let findings = Findings::default();
    let mut context = Context { inputs, findings, generation, mirror_bytes, replay_bytes, before: known };
    let upstreams: Upstreams =
        before.upstreams.iter().map(|one| (Arc::clone(&one.name), Arc::clone(one))).collect();
    let mut all = before.routes.clone();
    each_file(&mut context, |context, file| {
        for written in file.routes.iter().filter(|written| wanted.contains(written.name.as_str())) {
            let at = before.names.get(written.name.as_str());
            let slot = at.and_then(|at| all.get_mut(*at));
            let fresh = routes::again(context, written, &before.listeners, &upstreams);
            if let (Some(slot), Some(fresh)) = (slot, fresh) {
                *slot = Arc::new(fresh);
            }
        }
    });
    let found = context.findings.found;
    if found.iter().any(|one| one.severity != Severity::Warning) {
        return Err(found);
    }
    Ok(Some(Plan {
        generation,
        listeners: Arc::clone(&before.listeners),
        router: Arc::clone(&before.router),
        routes: all,
        names: Arc::clone(&before.names),
        upstreams: before.upstreams.clone(),
        trusted_proxies: before.trusted_proxies.clone(),
        access_log: before.access_log.clone(),
        trace_sample: before.trace_sample,
        otlp: before.otlp.clone(),
        process: before.process.clone(),
        mirror_bytes,
        replay_bytes,
        notify: before.notify.clone(),
    }))
}
