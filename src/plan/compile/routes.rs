//! Routes: names, matches, arms, timeouts; the place where a route's parts come together.
//!
//! Every part reports its own mistakes, so that all of them are told at once. It must never leave half a route
//! in a plan.

use std::cmp::Reverse;
use std::sync::Arc;

use super::rules::Kind;
use super::upstreams::Upstreams;
use super::{
    Context, checks, each_file, filters, fingerprint, limit, mirror, retry, rules, slo, slots, split,
};
use crate::plan::rank::Rank;
use crate::plan::router::{HostPattern, MatchRule, PathPattern};
use crate::plan::{Listener, Route, Timeouts};
use crate::spec::Spot;
use crate::spec::filter::Filter;
use crate::spec::route::{Route as Written, Upgrade, WhenUnavailable};
use crate::spec::rule::Match;

/// Longest route or arm name: names are labels, path segments and log fields.
const MAX_NAME: usize = 128;

pub(super) fn compile(
    context: &mut Context<'_>,
    listeners: &[Listener],
    upstreams: &Upstreams,
) -> (Vec<Arc<Route>>, Vec<MatchRule>) {
    let mut routes: Vec<Arc<Route>> = Vec::new();
    let mut all: Vec<MatchRule> = Vec::new();
    let mut names: hashbrown::HashSet<&str, foldhash::fast::FixedState> = hashbrown::HashSet::default();
    let mut reachable = checks::Reachable::default();
    each_file(context, |context, file| {
        for written in &file.routes {
            name(context, &written.name, "route");
            let index = u32::try_from(routes.len()).unwrap_or(u32::MAX);
            let served = listener_set(context, listeners, written);
            let Matched { rules, complete } = matches(context, written, index, served, all.len());
            if let Some(route) = one(context, written, listeners, upstreams, &rules) {
                routes.push(Arc::new(route));
            }
            if !names.insert(written.name.as_str()) {
                let message = format!("route `{}` is defined twice", *written.name);
                context.findings.error(&written.name, "duplicate-name", message, "rename one of them");
                continue;
            }
            if complete {
                reachable.add(written, &rules, &context.findings.file);
            }
            all.extend(rules);
        }
    });
    reachable.report(&mut context.findings);
    (routes, all)
}

/// One route again, against listeners and upstreams that stay.
pub(super) fn again(
    context: &mut Context<'_>,
    written: &Written,
    listeners: &[Listener],
    upstreams: &Upstreams,
) -> Option<Route> {
    let served = listener_set(context, listeners, written);
    let matched = matches(context, written, 0, served, 0);
    one(context, written, listeners, upstreams, &matched.rules)
}

/// Checks a name that will be a label, a path segment and a log field.
pub(super) fn name(context: &mut Context<'_>, name: &Spot<String>, noun: &str) {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let message = format!("a {noun}'s name has 1 to {MAX_NAME} characters and no control characters");
        context.findings.error(name, "bad-name", message, "");
    }
}

fn listener_set(context: &mut Context<'_>, listeners: &[Listener], written: &Written) -> u64 {
    if written.listeners.is_empty() {
        return u64::MAX;
    }
    let mut set = 0;
    for name in &written.listeners {
        if let Some(index) = listeners.iter().position(|listener| *listener.name == **name) {
            set |= 1_u64.checked_shl(u32::try_from(index).unwrap_or(u32::MAX)).unwrap_or(0);
            continue;
        }
        // What is written counts: a listener with an error of its own is not unknown.
        let files = context.inputs.spec.files.iter();
        let known: Vec<&str> =
            files.flat_map(|(_, file)| &file.listeners).map(|one| one.name.as_str()).collect();
        if !known.contains(&name.as_str()) {
            let hint = crate::spec::parse::guess(name, &known);
            context.findings.error(
                name,
                "unknown-listener",
                format!("there is no listener `{}`", **name),
                hint,
            );
        }
    }
    set
}

/// A route's matches, and whether none was left out for an error.
struct Matched {
    rules: Vec<MatchRule>,
    complete: bool,
}

fn matches(
    context: &mut Context<'_>,
    written: &Written,
    route: u32,
    listeners: u64,
    order: usize,
) -> Matched {
    let mut hosts: Vec<HostPattern> =
        written.hostnames.iter().filter_map(|host| rules::host(context, host)).collect();
    if !hosts.is_empty() {
        let previews = written
            .blue_green
            .iter()
            .filter_map(|pair| pair.preview.as_ref())
            .flat_map(|preview| &preview.hostnames);
        hosts.extend(previews.filter_map(|host| rules::host(context, host)));
    }
    if hosts.is_empty() {
        hosts.push(HostPattern::Any);
    }
    let everything = [Spot::unwritten(Match::default())];
    let written_matches = if written.matches.is_empty() { &everything[..] } else { &written.matches[..] };
    let mut compiled = Vec::new();
    for one in written_matches {
        let path = match &one.path {
            Some(path) => rules::path(context, &path.with(path.value.0.clone())),
            None => Some(PathPattern::Prefix("".into())),
        };
        let Some(path) = path else { continue };
        let method = one.method.as_ref().and_then(|method| rules::method(context, method));
        let mut conditions = rules::conditions(context, Kind::Header, &one.headers);
        conditions.extend(rules::conditions(context, Kind::Cookie, &one.cookies));
        let headers = conditions.len() + usize::from(!one.client_ip.is_empty());
        let params = rules::conditions(context, Kind::Query, &one.query_params);
        let query = params.len();
        conditions.extend(params);
        for host in &hosts {
            let rank = Rank {
                priority: one.priority.unwrap_or(written.priority),
                host: host.rank(),
                path: path.rank(),
                method: method.is_some(),
                headers,
                query,
                order: Reverse(order + compiled.len()),
            };
            compiled.push(MatchRule {
                route,
                host: host.clone(),
                path: path.clone(),
                method: method.clone(),
                conditions: conditions.clone().into(),
                networks: one.client_ip.iter().map(|net| net.0).collect(),
                listeners,
                rank,
            });
        }
    }
    let complete = compiled.len() == hosts.len() * written_matches.len();
    Matched { rules: compiled, complete }
}

fn one(
    context: &mut Context<'_>,
    written: &Written,
    listeners: &[Listener],
    upstreams: &Upstreams,
    matched: &[MatchRule],
) -> Option<Route> {
    let prefix_matched = matched.iter().all(|rule| matches!(rule.path, PathPattern::Prefix(_)));
    let filters = filters::compile(context, &written.filters, prefix_matched);
    let name: Arc<str> = Arc::from(written.name.as_str());
    let arm_header = |context: &mut Context<'_>, name: &Option<Spot<String>>| {
        name.as_ref().filter(|name| !name.is_empty()).and_then(|name| rules::header_name(context, name))
    };
    let arm_header_upstream = arm_header(context, &written.arm_header.upstream);
    let arm_header_client = arm_header(context, &written.arm_header.client);
    let retry = retry::compile(context, written.retry.as_ref());
    let rate_limit = limit::compile(context, written.rate_limit.as_ref(), &name);
    let objectives = slo::compile(context, written.slo.as_ref());
    let division = split::compile(context, written, &name, upstreams, answers(written))?;
    let around = mirror::Around {
        listeners,
        upstreams,
        name: &name,
        arms: &division.arms,
        policy: division.policy.as_deref(),
        by_hand: division.operator.is_some(),
    };
    let mirrors = mirror::compile(context, written, &around);
    let flip = slots::rules(context, written, upstreams).map(Arc::new);
    let verified = flip.as_ref().is_some_and(|rules| !rules.verify.is_zero());
    let mut route = Route {
        generation: context.generation,
        fingerprint: 0,
        split_fingerprint: division.fingerprint,
        split: division.split,
        arms: division.arms.into(),
        default_arm: division.default_arm,
        rule_cells: division.rule_cells,
        private_headers: division.private_headers.into(),
        redistribute: written.when_unavailable == WhenUnavailable::Redistribute,
        timeouts: Timeouts {
            request: written.timeouts.request.0,
            upstream: written.timeouts.upstream.0,
            stream_idle: written.timeouts.stream_idle.0,
        },
        retry,
        rate_limit,
        websocket: written.upgrades.iter().any(|one| one.value == Upgrade::Websocket),
        filters,
        arm_header_upstream,
        arm_header_client,
        operator: division.operator,
        policy: division.policy,
        policy_fingerprint: written.rollout.as_ref().map_or(0, |block| fingerprint(&block.value)),
        objectives,
        trial: division.trial,
        mirrors: mirrors.into(),
        slots: division.slots,
        flip,
        watch: verified.then(|| context.inputs.book.watch(&name)),
        name,
    };
    stamp(context, written, &mut route);
    Some(route)
}

/// Whether a filter is meant to answer, even if it has an error of its own.
fn answers(written: &Written) -> bool {
    written.filters.iter().any(|filter| matches!(filter.value, Filter::Redirect(_) | Filter::Respond(_)))
}

/// Gives the route the generation in which it last changed.
fn stamp(context: &Context<'_>, written: &Written, route: &mut Route) {
    let weights: Vec<u32> = route.arms.iter().map(|arm| arm.weight).collect();
    let upstreams: Vec<_> =
        route.arms.iter().map(|arm| written_upstream(context, &arm.upstream.name)).collect();
    let copied: Vec<(u32, bool)> = route.mirrors.iter().map(|one| (one.sample, one.live)).collect();
    route.fingerprint = fingerprint(&(written, weights, upstreams, route.operator.is_some(), copied));
    let before = context.before.get(&*route.name).and_then(|at| context.inputs.previous?.routes.get(*at));
    if let Some(before) = before.filter(|before| before.fingerprint == route.fingerprint) {
        route.generation = before.generation;
    }
}

fn written_upstream<'a>(context: &Context<'a>, name: &str) -> Option<&'a crate::spec::upstream::Upstream> {
    let files = context.inputs.spec.files.iter();
    files.into_iter().find_map(|(_, file)| file.upstreams.get(name)).map(|upstream| &upstream.0)
}
