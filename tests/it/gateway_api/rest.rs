//! Weights, timeouts, and rules without a usable backend.
//!
//! Where Gateway API answers 500 at request time for a rule that names nothing, our contract
//! refuses the file before it serves: the last test holds that. Shares are drawn at random, so they
//! are judged with a margin no fair draw leaves.

use std::time::Duration;

use super::Fact::Upstream;
use super::{Group, gets, on_host, routes, to};
use crate::support::tools::switchback;
use crate::support::{Behaviour, Origin, Proxy, Site, ask, crowd, get};

const WEIGHT_HOST: &str = "weight.test";
const BACKENDS_HOST: &str = "backend-weights.test";
const SLOW: Duration = Duration::from_secs(1);

pub(super) fn groups() -> Vec<Group> {
    vec![weight(), backend_weights(), timeout_request(), timeout_backend_request(), direct_response()]
}

/// Origins that are slow on the paths the timeout groups ask for.
pub(super) fn script(origins: &[Origin]) {
    for path in ["/request-timeout/slow", "/backend-timeout/slow"] {
        origins[0].on(path, Behaviour::Hang);
    }
    for path in ["/disable-request-timeout/slow", "/disable-backend-timeout/slow"] {
        origins[0].on(path, Behaviour::Late(SLOW));
    }
}

fn weight() -> Group {
    Group {
        name: "Weight",
        routes: routes(WEIGHT_HOST, &[("{ path: / }", "split: { v1: 70, v2: 30, v3: 0 }")]),
        cases: Vec::new(),
    }
}

fn backend_weights() -> Group {
    let split = "split: { v1: { weight: 10, requestHeaders: { set: { Backend: v1 } } }, \
                 v2: { weight: 10, requestHeaders: { set: { Backend: v2 } } } }";
    Group {
        name: "RequestHeaderModifierBackendWeights",
        routes: routes(BACKENDS_HOST, &[("{ path: / }", split)]),
        cases: Vec::new(),
    }
}

/// The two groups whose answer is a distribution.
pub(super) fn shares(proxy: &Proxy) {
    let count = 2_000;
    let arms = ask(proxy.web(), count, |_| get("/").host(WEIGHT_HOST));
    for (arm, percent) in [("v1", 70), ("v2", 30), ("v3", 0)] {
        let hits = crowd::count(&arms, arm);
        let margin = if percent == 0 { 0 } else { count * 5 / 100 };
        assert!(hits.abs_diff(count * percent / 100) <= margin, "{arm}: {hits} of {count}");
    }
    println!("case Weight 70/30/0 within 5 points of {count} requests ... ok");

    let pairs = crowd::ask_with(
        proxy.web(),
        100,
        |_| get("/").host(BACKENDS_HOST),
        |response| {
            let headers = response.json()["headers"].to_string();
            (response.origin().to_owned(), headers)
        },
    );
    for (origin, headers) in pairs {
        assert!(headers.contains(&format!("[\"backend\",\"{origin}\"]")), "{origin}: {headers}");
    }
    println!("case RequestHeaderModifierBackendWeights 100 requests ... ok");
}

fn timeout_request() -> Group {
    let host = "request-timeout.test";
    Group {
        name: "TimeoutRequest",
        routes: routes(
            host,
            &[
                ("{ path: /request-timeout }", "split: { v1: 1 }, timeouts: { request: 500ms }"),
                ("{ path: /disable-request-timeout }", "split: { v1: 1 }, timeouts: { request: 0s }"),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v1", get("/request-timeout")),
                gets(504, get("/request-timeout/slow")),
                to("v1", get("/disable-request-timeout/slow")),
            ],
        ),
    }
}

fn timeout_backend_request() -> Group {
    let host = "backend-timeout.test";
    Group {
        name: "TimeoutBackendRequest",
        routes: routes(
            host,
            &[
                ("{ path: /backend-timeout }", "split: { v1: 1 }, timeouts: { upstream: 500ms }"),
                ("{ path: /disable-backend-timeout }", "split: { v1: 1 }, timeouts: { upstream: 0s }"),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v1", get("/backend-timeout")),
                gets(504, get("/backend-timeout/slow")),
                to("v1", get("/disable-backend-timeout/slow")),
            ],
        ),
    }
}

/// Not a conformance case yet upstream, but the same family of filters.
fn direct_response() -> Group {
    let host = "respond.test";
    let respond = "filters: [{ respond: { status: 503, body: back soon, retryAfter: 60s } }]";
    Group {
        name: "DirectResponse",
        routes: routes(host, &[("{ path: /down }", respond), ("{ path: / }", "split: { v1: 1 }")]),
        cases: on_host(
            host,
            vec![
                gets(503, get("/down/x")).and(super::Fact::Client("retry-after", Some("60"))),
                to("v1", get("/up")).and(Upstream("host", Some(host))),
            ],
        ),
    }
}

#[test]
fn rules_without_a_usable_backend_are_refused_at_load() {
    let rows = [
        ("OmittedBackendRefs, omitted", "- { name: broken }", "broken"),
        ("OmittedBackendRefs, empty", "- { name: broken, split: {} }", "broken"),
        ("InvalidNonexistentBackendRef", "- { name: broken, split: { nonexistent: 1 } }", "nonexistent"),
    ];
    for (name, route, named) in rows {
        let site = Site::new(&format!("upstreams: {{ v1: \"http://127.0.0.1:1\" }}\nroutes:\n  {route}\n"));
        let check = switchback(&site.folder(), &["check", &site.file().display().to_string()]);
        assert_eq!(check.code, Some(1), "{name}: {check:?}");
        assert!(format!("{}{}", check.out, check.err).contains(named), "{name}: {check:?}");
        println!("case {name} is refused at load ... ok");
    }
}
