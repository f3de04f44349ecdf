//! What both benches measure: the same steps over the same configurations.
//!
//! It must never time anything itself.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use switchback::ledger::Book;
use switchback::model::{ChoiceReason, CodeClass, Outcome, Overlay, RequestHead, Verdict};
use switchback::plan::{Compiled, Inputs, Lists, Plan, compile};
use switchback::spec::{Source, Spec, parse};

/// How many requests a bench cycles through, so that no branch is learnt by heart.
pub const REQUESTS: usize = 256;

/// A configuration of `count` routes, each with a host and a path of its own.
pub fn routes(count: usize) -> String {
    let mut text = String::from(
        "listeners: [{ name: web, address: \"0.0.0.0:8080\" }]\n\
         upstreams: { stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }\nroutes:\n",
    );
    for n in 0..count {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "  - name: route-{n}\n    hostnames: [h{}.example.com]\n    matches: [{{ path: /service/{n} }}]\n    \
             split: {{ stable: 95, canary: 5 }}\n    sticky: {{ by: [{{ header: x-user-id }}] }}\n",
            n % (count / 4).max(1)
        );
    }
    text
}

/// The text as a spec.
pub fn spec(text: String) -> Spec {
    parse(vec![Source { name: "bench.yaml".into(), text }]).expect("the bench's own configuration is sound")
}

/// The spec as a plan.
pub fn plan(spec: &Spec, book: &Book) -> Compiled {
    let inputs = Inputs {
        spec,
        lists: &Lists::new(),
        env: &BTreeMap::new(),
        overlay: &Overlay::default(),
        book,
        previous: None,
        now: 0,
    };
    compile(inputs).expect("the bench's own configuration is sound")
}

/// A plan of `count` routes.
pub fn plan_of(count: usize) -> Plan {
    plan(&spec(routes(count)), &Book::new(2, 1)).plan
}

/// A request with everything it borrows.
pub struct Request {
    host: String,
    path: String,
    headers: HeaderMap,
}

impl Request {
    /// Its head.
    pub fn head(&self) -> RequestHead<'_> {
        RequestHead {
            listener: 0,
            method: &Method::GET,
            host: &self.host,
            path: &self.path,
            query: None,
            headers: &self.headers,
            client_ip: IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }
}

/// Requests spread over the routes of [`routes`], as a browser sends them.
pub fn requests(count: usize) -> Vec<Request> {
    (0..REQUESTS)
        .map(|index| {
            let n = index * 7_919 % count;
            let mut headers = HeaderMap::new();
            for (name, value) in [
                ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
                ("accept", "text/html,application/xhtml+xml"),
                ("accept-encoding", "gzip, br"),
                ("x-user-id", &format!("user-{index}")),
                ("cookie", &format!("theme=dark; uid=user-{index}; lang=en")),
            ] {
                let value = HeaderValue::try_from(value).expect("plain text");
                headers.insert(HeaderName::try_from(name).expect("a header name"), value);
            }
            let host = format!("h{}.example.com", n % (count / 4).max(1));
            Request { host, path: format!("/service/{n}/items/{index}"), headers }
        })
        .collect()
}

/// What an ordinary exchange leaves.
pub fn outcome(index: usize) -> Outcome {
    let micros = 300 + (index as u64 * 97) % 20_000;
    Outcome {
        code: CodeClass::Success,
        verdict: Verdict::Ok,
        choice: ChoiceReason::Sticky,
        failure: None,
        total_nanos: micros * 1_000,
        upstream_nanos: Some(micros * 900),
        retries: [0; 5],
    }
}

/// One route whose split is asked in different ways.
pub fn split(sticky: &str, overrides: &str) -> Plan {
    let text = format!(
        "listeners: [{{ name: web, address: \"0.0.0.0:8080\" }}]\n\
         upstreams: {{ stable: \"http://10.0.0.1:8080\", canary: \"http://10.0.1.1:8080\" }}\n\
         routes: [{{ name: checkout, split: {{ stable: 95, canary: 5 }}{sticky}{overrides} }}]\n"
    );
    plan(&spec(text), &Book::new(2, 1)).plan
}

/// Ways a split is asked: name, sticky block, overrides.
pub const WAYS: &[(&str, &str, &str)] = &[
    ("random", "", ""),
    ("header", ", sticky: { by: [{ header: x-user-id }] }", ""),
    ("cookie", ", sticky: { by: [{ cookie: uid }] }", ""),
    (
        "overrides",
        ", sticky: { by: [{ header: x-user-id }] }",
        ", overrides: [{ name: qa, when: { headers: [{ name: x-canary, value: always }] }, arm: canary }, \
         { name: plan, when: { headers: [{ name: x-plan, in: [pro, team] }] }, arm: canary }]",
    ),
];
