//! The Gateway API conformance cases that need no Kubernetes, as one printed table.
//!
//! Users bring expectations from Gateway API; this is the list they can hold us to. Each group
//! is one upstream conformance test, re-expressed in our configuration on a host name of its own,
//! so that all of them run against one proxy. A row must never be adapted to what the proxy does:
//! where our contract differs on purpose, the group says so.
//!
//! Left to the issues that bring the feature: TLS, WebSocket, h2c origins, mirrors, retries, CORS
//! and gRPC. `BackendURLRewrite` and `BackendRequestRedirect` put a path change on one backend;
//! our arms edit headers only, and a path change belongs to the route.

mod filters;
mod hosts;
mod matching;
mod redirects;
mod rest;

use crate::support::{Origin, Proxy, Request, Response, upstreams};

/// One conformance test: its routes and the requests made of them.
struct Group {
    name: &'static str,
    routes: String,
    cases: Vec<Case>,
}

/// One request and everything that must be true of its answer.
struct Case {
    request: Request,
    second_listener: bool,
    status: u16,
    /// The origin that answers; empty when the proxy answers by itself.
    backend: &'static str,
    facts: Vec<Fact>,
}

enum Fact {
    /// The target the origin saw.
    Target(&'static str),
    /// All lines of a header the origin saw, joined; `None` when it must not be there.
    Upstream(&'static str, Option<&'static str>),
    /// All lines of a header the client saw, joined.
    Client(&'static str, Option<&'static str>),
    /// The Location header, with `@web@` for the listener's port.
    Location(&'static str),
}

/// The request reaches this backend.
fn to(backend: &'static str, request: Request) -> Case {
    Case { request, second_listener: false, status: 200, backend, facts: Vec::new() }
}

/// The proxy answers by itself.
fn gets(status: u16, request: Request) -> Case {
    Case { status, ..to("", request) }
}

impl Case {
    fn and(mut self, fact: Fact) -> Self {
        self.facts.push(fact);
        self
    }

    fn on_second_listener(mut self) -> Self {
        self.second_listener = true;
        self
    }
}

/// Routes of one group: a rule per row, each with its matches and what it does.
fn routes(host: &str, rules: &[(&str, &str)]) -> String {
    rules
        .iter()
        .enumerate()
        .map(|(index, (matches, action))| {
            format!(
                "  - {{ name: \"{host}-{index}\", hostnames: [\"{host}\"], matches: [{matches}], {action} }}\n"
            )
        })
        .collect()
}

/// Puts every case of a group on the group's host.
fn on_host(host: &str, cases: Vec<Case>) -> Vec<Case> {
    cases.into_iter().map(|case| Case { request: case.request.clone().host(host), ..case }).collect()
}

#[test]
fn portable_conformance_cases() {
    let origins = ["v1", "v2", "v3"].map(Origin::start);
    rest::script(&origins);
    let groups: Vec<_> =
        [matching::groups(), hosts::groups(), filters::groups(), redirects::groups(), rest::groups()]
            .into_iter()
            .flatten()
            .collect();
    let routes: String = groups.iter().map(|group| group.routes.as_str()).collect();
    let proxy = Proxy::start(&format!(
        "listeners:\n  - {{ name: web, address: \"127.0.0.1:@web@\" }}\n  \
         - {{ name: second, address: \"127.0.0.1:@second@\" }}\n{}routes:\n{routes}",
        upstreams(&origins.each_ref())
    ));

    let mut wrong = Vec::new();
    for group in &groups {
        for case in &group.cases {
            let line = format!("case {:<34} {}", group.name, describe(case));
            match judge(&proxy, &origins, case) {
                Ok(()) => println!("{line} ... ok"),
                Err(reason) => {
                    println!("{line} ... FAILED: {reason}");
                    wrong.push(format!("{line}: {reason}"));
                }
            }
        }
    }
    rest::shares(&proxy);
    assert!(wrong.is_empty(), "{} cases failed:\n{}", wrong.len(), wrong.join("\n"));
}

fn describe(case: &Case) -> String {
    let Request { method, target, host, headers, .. } = &case.request;
    let headers: String = headers.iter().map(|(name, value)| format!(" {name}={value}")).collect();
    format!("{method} {host}{target}{headers} -> {} {}", case.status, case.backend)
}

fn judge(proxy: &Proxy, origins: &[Origin], case: &Case) -> Result<(), String> {
    let site = &proxy.site;
    let addr = if case.second_listener { site.second() } else { site.web() };
    let host = case.request.host.replace("@web@", &site.web().port().to_string());
    let request = case.request.clone().host(&host);
    let response = crate::support::Conn::open(addr).ask(&request);
    same("status", &response.status, &case.status)?;
    same("backend", &response.origin(), &case.backend)?;
    case.facts.iter().try_for_each(|fact| judge_fact(fact, proxy, origins, &response))
}

fn judge_fact(fact: &Fact, proxy: &Proxy, origins: &[Origin], response: &Response) -> Result<(), String> {
    let seen = || {
        let name = response.json()["origin"].clone();
        let index = ["v1", "v2", "v3"].iter().position(|known| name == *known);
        origins[index.expect("a known origin")].last()
    };
    match fact {
        Fact::Target(target) => same("target", &seen().target.as_str(), target),
        Fact::Upstream(name, value) => same(name, &seen().joined(name).as_deref(), value),
        Fact::Client(name, value) => same(name, &response.joined(name).as_deref(), value),
        Fact::Location(location) => {
            let expected = location.replace("@web@", &proxy.web().port().to_string());
            same("location", &response.header("location"), &Some(expected.as_str()))
        }
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, have: &T, want: &T) -> Result<(), String> {
    if have == want { Ok(()) } else { Err(format!("{what} is {have:?}, expected {want:?}")) }
}
