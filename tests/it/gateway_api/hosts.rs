//! Host names and listeners: specificity, wildcards, ports.
//!
//! Our listeners carry no host names of their own, so what the conformance suite says with a
//! listener's host name is said with the route's.

use super::{Group, gets, to};
use crate::support::{Request, get};

pub(super) fn groups() -> Vec<Group> {
    vec![hostname_intersection(), listener_hostname_matching(), listener_port_matching()]
}

fn at(host: &str, target: &str) -> Request {
    get(target).host(host)
}

fn route(name: &str, hostnames: &str, rest: &str) -> String {
    format!("  - {{ name: {name}, hostnames: [{hostnames}], {rest} }}\n")
}

fn hostname_intersection() -> Group {
    Group {
        name: "HostnameIntersection",
        routes: [
            route("hi-1", "very.specific.com", "matches: [{ path: /s1 }], split: { v1: 1 }"),
            route(
                "hi-2",
                "foo.wildcard.io, bar.wildcard.io, foo.bar.wildcard.io",
                "matches: [{ path: /s2 }], split: { v2: 1 }",
            ),
            route("hi-3", "\"*.specific.com\"", "matches: [{ path: /s3 }], split: { v3: 1 }"),
            route("hi-4", "\"*.anotherwildcard.io\"", "matches: [{ path: /s4 }], split: { v1: 1 }"),
            route("hi-5", "first.com, sub.first.com, second.com, sub.second.com", "split: { v2: 1 }"),
        ]
        .concat(),
        cases: vec![
            to("v1", at("very.specific.com", "/s1")),
            to("v1", at("very.specific.com:1234", "/s1")),
            to("v1", at("VERY.Specific.com", "/s1")),
            gets(404, at("non.matching.com", "/s1")),
            gets(404, at("foo.nonmatchingwildcard.io", "/s1")),
            gets(404, at("foo.wildcard.io", "/s1")),
            gets(404, at("very.specific.com", "/non-matching-prefix")),
            to("v2", at("foo.wildcard.io", "/s2")),
            to("v2", at("bar.wildcard.io", "/s2")),
            to("v2", at("foo.bar.wildcard.io", "/s2")),
            gets(404, at("non.matching.com", "/s2")),
            gets(404, at("wildcard.io", "/s2")),
            gets(404, at("very.specific.com", "/s2")),
            gets(404, at("foo.wildcard.io", "/non-matching-prefix")),
            to("v3", at("very.specific.com", "/s3")),
            gets(404, at("non.matching.com", "/s3")),
            gets(404, at("foo.wildcard.io", "/s3")),
            to("v1", at("foo.anotherwildcard.io", "/s4")),
            to("v1", at("bar.anotherwildcard.io", "/s4")),
            to("v1", at("foo.bar.anotherwildcard.io", "/s4")),
            gets(404, at("anotherwildcard.io", "/s4")),
            gets(404, at("foo.wildcard.io", "/s4")),
            gets(404, at("very.specific.com", "/s4")),
            gets(404, at("foo.anotherwildcard.io", "/non-matching-prefix")),
            to("v2", at("first.com", "/")),
            to("v2", at("sub.first.com", "/")),
            to("v2", at("second.com", "/")),
            to("v2", at("sub.second.com", "/")),
            gets(404, at("third.com", "/")),
            gets(404, at("sub.third.com", "/")),
        ],
    }
}

fn listener_hostname_matching() -> Group {
    Group {
        name: "ListenerHostnameMatching",
        routes: [
            // The wildcard is listed first: specificity must beat list order.
            route("lh-3", "\"*.bar.com\", \"*.foo.com\"", "split: { v3: 1 }"),
            route("lh-1", "bar.com", "split: { v1: 1 }"),
            route("lh-2", "foo.bar.com", "split: { v2: 1 }"),
        ]
        .concat(),
        cases: vec![
            to("v1", at("bar.com", "/")),
            to("v2", at("foo.bar.com", "/")),
            to("v3", at("baz.bar.com", "/")),
            to("v3", at("boo.bar.com", "/")),
            to("v3", at("multiple.prefixes.bar.com", "/")),
            to("v3", at("multiple.prefixes.foo.com", "/")),
            gets(404, at("foo.com", "/")),
            gets(404, at("no.matching.host", "/")),
        ],
    }
}

fn listener_port_matching() -> Group {
    Group {
        name: "ListenerPortMatching",
        routes: [
            route("lp-1", "foo.port.test", "listeners: [web], split: { v1: 1 }"),
            route("lp-2", "foo.port.test, bar.port.test", "listeners: [second], split: { v2: 1 }"),
            route("lp-3", "both.port.test", "split: { v3: 1 }"),
        ]
        .concat(),
        cases: vec![
            to("v1", at("foo.port.test", "/")),
            to("v2", at("foo.port.test:8080", "/")).on_second_listener(),
            to("v2", at("bar.port.test:8080", "/")).on_second_listener(),
            gets(404, at("bar.port.test", "/")),
            to("v3", at("both.port.test", "/")),
            to("v3", at("both.port.test", "/")).on_second_listener(),
        ],
    }
}
