//! Spec + overlay + book to a plan, or every error of meaning at once.
//!
//! Pure but for the cells it takes from the book: `now`, the lists and the environment come in.
//! It must never publish, and never stop at the first finding.

mod checks;
mod encrypted;
mod filters;
mod guard;
mod guided;
mod limit;
mod listeners;
mod mirror;
mod notify;
mod overrides;
mod retry;
mod reweigh;
mod routes;
mod rules;
mod slo;
mod slots;
mod spans;
mod split;
mod sticky;
mod tls;
mod upstreams;

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use xxhash_rust::xxh64::Xxh64;

use super::{AccessLog, Names, Plan, Process, Router};

pub use reweigh::reweigh;

use crate::ledger::Book;
use crate::model::{Diagnostic, Generation, Overlay, Place, Severity};
use crate::spec::process::LogErrors;
use crate::spec::{File, Spec, Spot};

/// Contents of the files named by `inFile`, `secretFile` of conditions and `keyFile`, or why they could not
/// be read.
pub type Lists = BTreeMap<String, Result<String, String>>;

/// Everything a compilation depends on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The file.
    pub spec: &'a Spec,
    /// Its lists.
    pub lists: &'a Lists,
    /// Variables for `${NAME}` in addresses.
    pub env: &'a BTreeMap<String, String>,
    /// Run-time intent.
    pub overlay: &'a Overlay,
    /// Live cells.
    pub book: &'a Book,
    /// The plan in force, whose listeners must stay and whose generation goes on.
    pub previous: Option<&'a Plan>,
    /// Unix seconds, for warnings about windows.
    pub now: i64,
}

/// A plan and what somebody should look at.
#[derive(Debug)]
pub struct Compiled {
    /// The plan, not yet published.
    pub plan: Plan,
    /// Findings that do not refuse the file.
    pub warnings: Vec<Diagnostic>,
}

/// Collects findings about one file at a time.
#[derive(Debug, Default)]
struct Findings {
    file: String,
    found: Vec<Diagnostic>,
}

impl Findings {
    fn extend(&mut self, found: Vec<Diagnostic>) {
        self.found.extend(found);
    }

    fn place<T>(&self, spot: &Spot<T>) -> Place {
        Place { file: self.file.clone(), line: spot.line, column: spot.column, length: spot.length }
    }

    fn error<T>(
        &mut self,
        spot: &Spot<T>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let place = self.place(spot);
        self.found.push(Diagnostic::error(code, message).at(place).hint(hint));
    }

    fn warn<T>(
        &mut self,
        spot: &Spot<T>,
        code: &'static str,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let place = self.place(spot);
        self.found.push(Diagnostic::error(code, message).at(place).hint(hint).warning());
    }
}

/// What every part of a compilation shares.
struct Context<'a> {
    inputs: Inputs<'a>,
    findings: Findings,
    generation: Generation,
    /// Bytes of bodies held for copies at most.
    mirror_bytes: u64,
    /// Bytes of bodies held to be sent again at most.
    replay_bytes: u64,
    /// Indices of the routes in force, by name.
    before: HashMap<&'a str, usize, FixedState>,
}

/// Compiles a plan.
///
/// # Errors
/// Every error of meaning, with warnings among them, in file order.
pub fn compile(inputs: Inputs<'_>) -> Result<Compiled, Vec<Diagnostic>> {
    let generation = inputs.previous.map_or(Generation(1), |plan| plan.generation.next());
    let routes = inputs.previous.map(|plan| plan.routes.iter().zip(0..)).into_iter().flatten();
    let before = routes.map(|(route, at)| (&*route.name, at)).collect();
    let budgets = crate::spec::process::Budgets::default();
    let (mirror_bytes, replay_bytes) = (budgets.mirror_bytes.value.0, budgets.replay_bytes.value.0);
    let findings = Findings::default();
    let mut context = Context { inputs, findings, generation, mirror_bytes, replay_bytes, before };
    let plan = build(&mut context);
    let mut found = context.findings.found;
    found.sort_by(|a, b| a.place.cmp(&b.place));
    match plan {
        Some(plan) if found.iter().all(|one| one.severity == Severity::Warning) => {
            Ok(Compiled { plan, warnings: found })
        }
        _ => Err(found),
    }
}

fn build(context: &mut Context<'_>) -> Option<Plan> {
    let spec = context.inputs.spec;
    each_file(context, |context, file| {
        for (path, spot) in file.later() {
            let message = format!("`{path}` is not yet supported");
            context.findings.error(&spot, "not-yet", message, "remove it; the feature is planned");
        }
    });
    no_routes(context);
    let listeners = listeners::compile(context);
    let upstreams = upstreams::compile(context);
    if let Some(budgets) = single(context, "budgets", |file| file.budgets.as_ref()) {
        context.mirror_bytes = budgets.mirror_bytes.value.0;
        context.replay_bytes = budgets.replay_bytes.value.0;
    }
    let (routes, rules) = routes::compile(context, &listeners, &upstreams);
    let trusted = spec.files.iter().flat_map(|(_, file)| &file.trusted_proxies).map(|net| net.0).collect();
    let process = process(context);
    let access_log = single(context, "accessLog", |file| file.access_log.as_ref())
        .and_then(|log| access_log(context, &log));
    let tracing = single(context, "tracing", |file| file.tracing.as_ref());
    let otlp = spans::collector(context, tracing.as_ref().and_then(|tracing| tracing.otlp.as_ref()));
    let notify = notify::compile(context);
    unused_upstreams(context);
    Some(Plan {
        generation: context.generation,
        listeners: listeners.into(),
        router: Router::new(rules).into(),
        names: routes
            .iter()
            .zip(0..)
            .map(|(route, at)| (Arc::clone(&route.name), at))
            .collect::<Names>()
            .into(),
        routes: routes.into(),
        upstreams: upstreams.into_values().collect(),
        trusted_proxies: trusted,
        access_log,
        trace_sample: tracing.map(|tracing| tracing.sample.parts_per_million),
        otlp,
        process: process?,
        mirror_bytes: context.mirror_bytes,
        replay_bytes: context.replay_bytes,
        notify: notify.into(),
    })
}

/// A configuration without routes answers 404 to everybody: allowed, but seldom meant.
fn no_routes(context: &mut Context<'_>) {
    let files = &context.inputs.spec.files;
    if let Some((source, _)) = files.first().filter(|_| files.iter().all(|(_, file)| file.routes.is_empty()))
    {
        context.findings.file.clone_from(&source.name);
        let spot = Spot { value: (), line: 1, column: 1, length: 1 };
        let hint = "routes: [{ name: all, split: { stable: 100 } }]";
        context.findings.warn(&spot, "no-route", "no route is defined: every request gets a 404", hint);
    }
}

/// Upstreams that no arm names. What is written counts, so that an error elsewhere in a route does
/// not make its upstreams look unused.
fn unused_upstreams(context: &mut Context<'_>) {
    let spec = context.inputs.spec;
    let mut used: HashSet<&str, FixedState> = HashSet::default();
    for route in spec.files.iter().flat_map(|(_, file)| &file.routes) {
        let arms = route.split.iter().flat_map(|split| &split.value);
        used.extend(arms.map(|(name, arm)| arm.upstream.as_deref().unwrap_or(name).as_str()));
        let slots = route.blue_green.iter().flat_map(|pair| &pair.slots.value);
        used.extend(slots.map(|slot| slot.as_str()));
        let mirrors = route.mirror.iter().flat_map(|list| &list.value.0);
        used.extend(mirrors.map(|mirror| mirror.to.as_str()));
    }
    for upstream in spec.files.iter().flat_map(|(_, file)| file.upstreams.values()) {
        let fallback = upstream.breaker.as_ref().and_then(|breaker| breaker.fallback.as_ref());
        used.extend(fallback.and_then(|one| one.upstream.as_ref()).map(|name| name.as_str()));
    }
    each_file(context, |context, file| {
        for name in file.upstreams.keys().filter(|name| !used.contains(name.as_str())) {
            let message = format!("upstream `{}` is used by no route", **name);
            context.findings.warn(name, "unused-upstream", message, "");
        }
    });
}

/// Runs `visit` for every file with findings pointed at it.
fn each_file<'a>(context: &mut Context<'a>, mut visit: impl FnMut(&mut Context<'a>, &'a File)) {
    for (source, file) in &context.inputs.spec.files {
        context.findings.file.clone_from(&source.name);
        visit(context, file);
    }
}

/// A block that may be written once over all files.
fn single<'a, T: Clone + 'a>(
    context: &mut Context<'a>,
    key: &str,
    get: impl Fn(&'a File) -> Option<&'a Spot<T>>,
) -> Option<Spot<T>> {
    let mut found: Option<Spot<T>> = None;
    each_file(context, |context, file| {
        if let Some(spot) = get(file) {
            if found.is_some() {
                let message = format!("`{key}` is written in two files");
                context.findings.error(spot, "duplicate-block", message, "keep one of them");
            } else {
                found = Some(spot.clone());
            }
        }
    });
    found
}

fn process(context: &mut Context<'_>) -> Option<Process> {
    let admin = single(context, "admin", |file| file.admin.as_ref()).unwrap_or_default();
    let admin_address = match &admin.address {
        Some(address) => listeners::expand(context, address),
        None => Some("127.0.0.1:9901".to_owned()),
    };
    if let (Some(text), Some(spot)) = (&admin_address, &admin.address)
        && !text.starts_with("unix:")
        && let Ok(address) = listeners::socket_address(text)
        && !address.ip().is_loopback()
        && !admin.insecure
        && admin.pair().is_none()
    {
        let message = format!("the admin listener on {address} would be reachable from outside without TLS");
        let hint = "write `tls`, use a loopback address or `unix:/path`, or say `insecure: true` and mean it";
        context.findings.error(spot, "admin-exposed", message, hint);
    }
    if let (Some(text), Some(spot)) = (&admin_address, &admin.address)
        && !text.starts_with("unix:")
        && let Err(why) = listeners::socket_address(text)
    {
        context.findings.error(spot, "bad-address", why, "write host:port or unix:/path");
    }
    encrypted::check_admin(context, &admin, admin_address.as_deref());
    let metrics = single(context, "metrics", |file| file.metrics.as_ref());
    let metrics_address =
        metrics.as_ref().and_then(|block| block.address.as_ref()).filter(|spot| !spot.is_empty());
    let metrics_address = metrics_address.and_then(|spot| listeners::parse_address(context, spot));
    let shutdown =
        single(context, "shutdown", |file| file.shutdown.as_ref()).map(|spot| spot.value).unwrap_or_default();
    let workers = single(context, "workers", |file| file.workers.as_ref());
    if let Some(spot) = workers.as_ref().filter(|spot| spot.value > 1024) {
        context.findings.error(spot, "bad-value", "more than 1024 workers", "0 is one per available core");
    }
    Some(Process {
        admin_address: admin_address?,
        admin: admin.value,
        metrics_address,
        workers: workers.map_or(0, |spot| spot.value),
        state_dir: single(context, "stateDir", |file| file.state_dir.as_ref())
            .map(|spot| spot.value)
            .filter(|dir| !dir.is_empty()),
        shutdown_delay: shutdown.delay.0,
        shutdown_grace: shutdown.grace.0,
    })
}

fn access_log(context: &mut Context<'_>, log: &Spot<crate::spec::process::AccessLog>) -> Option<AccessLog> {
    let debug_header = match &log.debug {
        Some(debug) => Some(rules::header_name(context, &debug.header)?),
        None => None,
    };
    Some(AccessLog {
        path: log.path.clone(),
        sample: log.sample.parts_per_million,
        sample_canary: log.sample_canary.parts_per_million,
        errors_always: log.errors == LogErrors::Always,
        debug_header,
    })
}

/// A hash of what was written, for telling whether it changed; not stable across versions.
fn fingerprint(value: &impl Hash) -> u64 {
    struct Wide(Xxh64);
    impl Hasher for Wide {
        fn finish(&self) -> u64 {
            self.0.digest()
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut hasher = Wide(Xxh64::new(0));
    value.hash(&mut hasher);
    hasher.finish()
}
