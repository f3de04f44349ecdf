//! Mirrors: where copies go, which requests are copied, what of the answers is compared.
//!
//! What cannot work is refused with its place: a shadow that is nobody, a mirror of an upstream to
//! itself, a comparison of streams. A rollout's own mirror of its candidate is made here too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Method;

use super::upstreams::Upstreams;
use super::{Context, filters, guided, rules};
use crate::analysis::Policy;
use crate::model::{BodyRule, CompareRules, PathStep};
use crate::plan::mirror::{Bad, MAX_MIRRORS, Methods, Mirror};
use crate::plan::{Arm, Listener, Upstream};
use crate::spec::Spot;
use crate::spec::mirror::{Compared, Mirror as Written};
use crate::spec::parse::guess;
use crate::spec::route::Route;

/// Most paths that may be ignored, and steps of one.
const MAX_IGNORED: usize = 64;
const MAX_STEPS: usize = 32;
/// What a rollout's mirror may take when the file has none for the candidate.
const MAX_BODY: u64 = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(2);

/// What a route's mirrors depend on besides themselves.
pub(super) struct Around<'a> {
    pub listeners: &'a [Listener],
    pub upstreams: &'a Upstreams,
    pub name: &'a Arc<str>,
    pub arms: &'a [Arm],
    pub policy: Option<&'a Policy>,
    /// Weights were set by hand: no rollout speaks.
    pub by_hand: bool,
}

pub(super) fn compile(context: &mut Context<'_>, route: &Route, around: &Around<'_>) -> Vec<Mirror> {
    let mut mirrors: Vec<Mirror> = Vec::new();
    for written in route.mirror.iter().flat_map(|list| &list.value.0) {
        if mirrors.len() == MAX_MIRRORS - 1 {
            let message = format!("more than {} mirrors", MAX_MIRRORS - 1);
            context.findings.error(&written.to, "too-many", message, "remove one");
            break;
        }
        let Some(mirror) = one(context, route, written, around) else { continue };
        if mirrors.iter().any(|other| other.upstream.name == mirror.upstream.name) {
            let message = format!("two mirrors go to `{}`", *written.to);
            context.findings.error(&written.to, "duplicate-mirror", message, "keep one of them");
            continue;
        }
        mirrors.push(mirror);
    }
    of_rollout(context, around, &mut mirrors);
    mirrors
}

fn one(context: &mut Context<'_>, route: &Route, written: &Written, around: &Around<'_>) -> Option<Mirror> {
    if around.arms.is_empty() {
        let message = "nothing is forwarded here that could be copied";
        context.findings.error(&written.to, "bad-mirror", message, "remove the mirror");
    }
    let methods = methods(context, &written.methods);
    let headers = written.headers.as_ref().map(|edit| filters::header_ops(context, edit)).unwrap_or_default();
    let compare = compare(context, route, written);
    if written.timeout.value.0.is_zero() {
        let message = "a shadow that may take for ever holds its copies for ever";
        context.findings.error(&written.timeout, "bad-value", message, "timeout: 2s");
    }
    if written.max_body.value.0 > context.mirror_bytes {
        let message =
            format!("one body could be larger than all that copies may hold, {} bytes", context.mirror_bytes);
        let hint = "raise budgets.mirrorBytes, or lower maxBody";
        context.findings.error(&written.max_body, "over-budget", message, hint);
    }
    let Some(upstream) = around.upstreams.get(written.to.as_str()) else {
        let known: Vec<&str> = around.upstreams.keys().map(|name| &**name).collect();
        let message = format!("there is no upstream `{}` to mirror to", *written.to);
        context.findings.error(&written.to, "unknown-upstream", message, guess(&written.to, &known));
        return None;
    };
    to_itself(context, written, upstream, around);
    Some(Mirror {
        sample: written.percent.value.parts_per_million,
        methods,
        max_body: written.max_body.value.0,
        timeout: written.timeout.value.0,
        headers,
        live: false,
        bad: bad(around.policy),
        cell: context.inputs.book.shadow(around.name, &upstream.name),
        noise: if compare.is_some() { noise(context, around) } else { Box::default() },
        compare,
        upstream: Arc::clone(upstream),
    })
}

/// Adds what a rollout asks for: copies for its candidate before its first step.
fn of_rollout(context: &Context<'_>, around: &Around<'_>, mirrors: &mut Vec<Mirror>) {
    let guide = context.inputs.overlay.guided.get(&**around.name).filter(|_| !around.by_hand);
    let asked = guide.and_then(|guide| Some((guide, guide.shadow.filter(|share| *share > 0)?)));
    let Some((guide, share)) = asked else { return };
    let Some(candidate) = around.arms.iter().find(|arm| *arm.name == *guide.to) else { return };
    let same = mirrors.iter_mut().find(|mirror| mirror.upstream.name == candidate.upstream.name);
    if let Some(mirror) = same {
        mirror.sample = mirror.sample.max(share);
        mirror.live = true;
        return;
    }
    mirrors.push(Mirror {
        sample: share,
        methods: Methods::Of([Method::GET, Method::HEAD, Method::OPTIONS].into()),
        max_body: MAX_BODY.min(context.mirror_bytes),
        timeout: TIMEOUT,
        headers: crate::plan::HeaderOps::default(),
        compare: None,
        live: true,
        bad: bad(around.policy),
        cell: context.inputs.book.shadow(around.name, &candidate.upstream.name),
        noise: Box::default(),
        upstream: Arc::clone(&candidate.upstream),
    });
}

fn noise(context: &Context<'_>, around: &Around<'_>) -> Box<[Arc<crate::ledger::ShadowCell>]> {
    around.arms.iter().map(|arm| context.inputs.book.shadow(around.name, &arm.upstream.name)).collect()
}

fn bad(policy: Option<&Policy>) -> Bad {
    policy.map(guided::bad).unwrap_or_default()
}

/// A copy must not come back, nor go where its original went.
fn to_itself(context: &mut Context<'_>, written: &Written, upstream: &Upstream, around: &Around<'_>) {
    if !around.arms.is_empty() && around.arms.iter().all(|arm| arm.upstream.name == upstream.name) {
        let message = format!("every request goes to `{}` already: it would mirror to itself", *written.to);
        context.findings.error(&written.to, "mirror-to-itself", message, "name another upstream");
    }
    for endpoint in &upstream.endpoints {
        let addresses = endpoint.cell.addresses.get();
        let back = around.listeners.iter().find(|one| addresses.iter().any(|to| reaches(*to, one.address)));
        if let Some(listener) = back {
            let message = format!(
                "{} is our own listener `{}`: copies would come back to be copied again",
                endpoint.cell.url, listener.name
            );
            context.findings.error(&written.to, "mirror-to-itself", message, "name another upstream");
        }
    }
}

/// Whether what is sent to an address arrives at a listener bound to another.
fn reaches(to: SocketAddr, bound: SocketAddr) -> bool {
    to.port() == bound.port()
        && to.port() != 0
        && (to.ip() == bound.ip()
            || bound.ip().is_unspecified() && (to.ip().is_loopback() || to.ip().is_unspecified()))
}

fn methods(context: &mut Context<'_>, written: &Spot<Vec<Spot<String>>>) -> Methods {
    if let [only] = &written.value[..]
        && only.as_str() == "any"
    {
        return Methods::Any;
    }
    let mut found = Vec::new();
    for name in &written.value {
        if name.as_str() == "any" {
            context.findings.error(name, "bad-method", "`any` stands alone", "methods: [any]");
            continue;
        }
        let Some(method) = rules::method(context, name) else { continue };
        if method == Method::CONNECT {
            context.findings.error(name, "bad-method", "CONNECT is never mirrored", "remove it");
            continue;
        }
        found.push(method);
    }
    if written.value.is_empty() {
        context.findings.error(
            written,
            "bad-method",
            "no method is mirrored",
            "methods: [GET, HEAD, OPTIONS]",
        );
    }
    Methods::Of(found.into())
}

fn compare(context: &mut Context<'_>, route: &Route, written: &Written) -> Option<CompareRules> {
    let ignore = ignored(context, written);
    let Some(list) = &written.compare else {
        if let Some(first) = written.ignore.first() {
            let hint = "compare: [status, json]";
            context.findings.error(first, "bad-compare", "nothing is compared that could be ignored", hint);
        }
        return None;
    };
    if let Some(upgrade) = route.upgrades.first() {
        let message = "a route whose connections become streams cannot be compared";
        let hint = "give what is upgraded a route of its own";
        let at = if list.line > 0 { list.with(()) } else { upgrade.with(()) };
        context.findings.error(&at, "compare-streams", message, hint);
    }
    let mut compared = CompareRules { ignore, ..CompareRules::default() };
    let mut headers = Vec::new();
    for item in &list.value {
        match &item.value {
            Compared::Status => compared.status = true,
            Compared::Body | Compared::Json if compared.body != BodyRule::None => {
                let message = "a body is compared by its bytes or as JSON, once";
                context.findings.error(item, "bad-compare", message, "keep one of body and json");
            }
            Compared::Body => compared.body = BodyRule::Bytes,
            Compared::Json => compared.body = BodyRule::Json,
            Compared::Header(name) => headers.extend(rules::header_name(context, name)),
        }
    }
    if list.value.is_empty() {
        context.findings.error(list, "bad-compare", "nothing is compared", "compare: [status, json]");
    }
    if let Some(first) = written.ignore.first().filter(|_| compared.body != BodyRule::Json) {
        let message = "only places in a JSON body can be ignored";
        context.findings.error(first, "bad-compare", message, "compare: [status, json]");
    }
    compared.headers = headers.into();
    Some(compared)
}

fn ignored(context: &mut Context<'_>, written: &Written) -> Box<[Box<[PathStep]>]> {
    if let Some(over) = written.ignore.get(MAX_IGNORED) {
        context.findings.error(over, "too-many", format!("more than {MAX_IGNORED} paths"), "use [*]");
    }
    let mut found = Vec::new();
    for path in written.ignore.iter().take(MAX_IGNORED) {
        match steps(path) {
            Some(steps) => found.push(steps),
            None => {
                let message = format!("`{}` is not a path into JSON", **path);
                context.findings.error(
                    path,
                    "bad-json-path",
                    message,
                    "such as $.requestId or $.items[*].id",
                );
            }
        }
    }
    found.into()
}

/// The steps of `$.a["b"].c[0][*].*`; `None` when it is no such path.
fn steps(text: &str) -> Option<Box<[PathStep]>> {
    let mut rest = text.strip_prefix('$')?;
    let mut found = Vec::new();
    while !rest.is_empty() && found.len() <= MAX_STEPS {
        if let Some(inside) = rest.strip_prefix("[\"") {
            let (key, after) = inside.split_once("\"]")?;
            found.push(PathStep::Key(key.into()));
            rest = after;
        } else if let Some(inside) = rest.strip_prefix('[') {
            let (index, after) = inside.split_once(']')?;
            found.push(if index == "*" { PathStep::Any } else { PathStep::Index(index.parse().ok()?) });
            rest = after;
        } else {
            let inside = rest.strip_prefix('.')?;
            let (key, after) = inside.split_at(inside.find(['.', '[']).unwrap_or(inside.len()));
            if key.is_empty() {
                return None;
            }
            found.push(if key == "*" { PathStep::Any } else { PathStep::Key(key.into()) });
            rest = after;
        }
    }
    (1..=MAX_STEPS).contains(&found.len()).then(|| found.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_step_by_step() {
        let key = |name: &str| PathStep::Key(name.into());
        let rows: [(&str, Option<Vec<PathStep>>); 8] = [
            ("$.a.b", Some(vec![key("a"), key("b")])),
            ("$.items[*].id", Some(vec![key("items"), PathStep::Any, key("id")])),
            ("$[3][\"a.b\"].*", Some(vec![PathStep::Index(3), key("a.b"), PathStep::Any])),
            ("$", None),
            ("a.b", None),
            ("$.a..b", None),
            ("$.a[x]", None),
            ("$.a[\"b", None),
        ];
        for (text, expected) in rows {
            assert_eq!(steps(text).map(Vec::from), expected, "{text}");
        }
    }
}
