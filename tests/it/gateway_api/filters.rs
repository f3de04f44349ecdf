//! Header modifiers and rewrites, in both directions.
//!
//! What the origin and the client saw is compared after joining repeated lines, as the conformance
//! suite does. The echo origin answers with the headers a request names in `x-answer-with`.

use super::Fact::{Client, Target, Upstream};
use super::{Group, on_host, routes, to};
use crate::support::{Request, get};

pub(super) fn groups() -> Vec<Group> {
    vec![
        request_header_modifier(),
        response_header_modifier(),
        both_modifiers(),
        rewrite_host(),
        rewrite_path(),
        replace_prefix_table(),
    ]
}

const MULTIPLE: &str = "set: { X-Header-Set-1: header-set-1, X-Header-Set-2: header-set-2 }, \
     add: { X-Header-Add-1: header-add-1, X-Header-Add-2: header-add-2, X-Header-Add-3: header-add-3 }, \
     remove: [X-Header-Remove-1, X-Header-Remove-2]";
const MODIFY: &str = "{ requestHeaders: { set: { X-Header-Set: set-overwrites-values }, \
     add: { X-Header-Add: header-val-1, X-Header-Add-Append: header-val-2 }, remove: [X-Header-Remove] } }";

fn with(target: &str, headers: &[(&str, &str)]) -> Request {
    headers.iter().fold(get(target), |request, (name, value)| request.header(name, value))
}

/// A request whose origin answers with these headers.
fn answered(target: &str, headers: &[&str]) -> Request {
    headers.iter().fold(get(target), |request, line| request.header("x-answer-with", line))
}

fn edits(direction: &str) -> Vec<(&'static str, String)> {
    let edit = |edit: &str| format!("filters: [{{ {direction}: {{ {edit} }} }}], split: {{ v1: 1 }}");
    vec![
        ("{ path: /set }", edit("set: { X-Header-Set: set-overwrites-values }")),
        ("{ path: /add }", edit("add: { X-Header-Add: add-appends-values }")),
        ("{ path: /remove }", edit("remove: [X-Header-Remove]")),
        ("{ path: /multiple }", edit(MULTIPLE)),
        (
            "{ path: /case-insensitivity }",
            edit(
                "set: { X-Header-Set: header-set }, \
                 add: { X-Header-Add: header-add, x-lowercase-add: lowercase-add, X-UPPERCASE-ADD: uppercase-add }, \
                 remove: [X-Header-Remove]",
            ),
        ),
    ]
}

fn edit_routes(host: &str, direction: &str) -> String {
    let rules = edits(direction);
    let rules: Vec<_> = rules.iter().map(|(matches, action)| (*matches, action.as_str())).collect();
    routes(host, &rules)
}

fn request_header_modifier() -> Group {
    let host = "request-headers.test";
    let mixed = [
        ("x-header-set", "original-val-set"),
        ("x-header-add", "original-val-add"),
        ("x-header-remove", "original-val-remove"),
        ("Another-Header", "another-header-val"),
    ];
    let many = [
        ("X-Header-Set-2", "set-val-2"),
        ("X-Header-Add-2", "add-val-2"),
        ("X-Header-Remove-2", "remove-val-2"),
        ("Another-Header", "another-header-val"),
    ];
    let other = ("Some-Other-Header", "val");
    Group {
        name: "RequestHeaderModifier",
        routes: edit_routes(host, "requestHeaders"),
        cases: on_host(
            host,
            vec![
                to("v1", with("/set", &[other]))
                    .and(Upstream("some-other-header", Some("val")))
                    .and(Upstream("x-header-set", Some("set-overwrites-values"))),
                to("v1", with("/set", &[other, ("X-Header-Set", "some-other-value")]))
                    .and(Upstream("x-header-set", Some("set-overwrites-values"))),
                to("v1", with("/add", &[other])).and(Upstream("x-header-add", Some("add-appends-values"))),
                to("v1", with("/add", &[other, ("X-Header-Add", "some-other-value")]))
                    .and(Upstream("x-header-add", Some("some-other-value,add-appends-values"))),
                to("v1", with("/remove", &[("X-Header-Remove", "val")]))
                    .and(Upstream("x-header-remove", None)),
                to("v1", with("/multiple", &many))
                    .and(Upstream("x-header-set-1", Some("header-set-1")))
                    .and(Upstream("x-header-set-2", Some("header-set-2")))
                    .and(Upstream("x-header-add-1", Some("header-add-1")))
                    .and(Upstream("x-header-add-2", Some("add-val-2,header-add-2")))
                    .and(Upstream("x-header-add-3", Some("header-add-3")))
                    .and(Upstream("another-header", Some("another-header-val")))
                    .and(Upstream("x-header-remove-1", None))
                    .and(Upstream("x-header-remove-2", None)),
                to("v1", with("/case-insensitivity", &mixed))
                    .and(Upstream("x-header-set", Some("header-set")))
                    .and(Upstream("x-header-add", Some("original-val-add,header-add")))
                    .and(Upstream("another-header", Some("another-header-val")))
                    .and(Upstream("x-header-remove", None)),
            ],
        ),
    }
}

fn response_header_modifier() -> Group {
    let host = "response-headers.test";
    let many = [
        "X-Header-Set-2: set-val-2",
        "X-Header-Add-2: add-val-2",
        "X-Header-Remove-2: remove-val-2",
        "Another-Header: another-header-val",
        "X-Header-Remove-1: val",
    ];
    let mixed = [
        "x-header-set: original-val-set",
        "x-header-add: original-val-add",
        "x-header-remove: original-val-remove",
        "Another-Header: another-header-val",
    ];
    let other = "Some-Other-Header: val";
    Group {
        name: "ResponseHeaderModifier",
        routes: edit_routes(host, "responseHeaders"),
        cases: on_host(
            host,
            vec![
                to("v1", answered("/set", &[other]))
                    .and(Client("some-other-header", Some("val")))
                    .and(Client("x-header-set", Some("set-overwrites-values"))),
                to("v1", answered("/set", &[other, "X-Header-Set: some-other-value"]))
                    .and(Client("x-header-set", Some("set-overwrites-values"))),
                to("v1", answered("/add", &[other])).and(Client("x-header-add", Some("add-appends-values"))),
                to("v1", answered("/add", &[other, "X-Header-Add: some-other-value"]))
                    .and(Client("x-header-add", Some("some-other-value,add-appends-values"))),
                to("v1", answered("/remove", &["X-Header-Remove: val"])).and(Client("x-header-remove", None)),
                to("v1", answered("/multiple", &many))
                    .and(Client("x-header-set-1", Some("header-set-1")))
                    .and(Client("x-header-set-2", Some("header-set-2")))
                    .and(Client("x-header-add-1", Some("header-add-1")))
                    .and(Client("x-header-add-2", Some("add-val-2,header-add-2")))
                    .and(Client("x-header-add-3", Some("header-add-3")))
                    .and(Client("another-header", Some("another-header-val")))
                    .and(Client("x-header-remove-1", None))
                    .and(Client("x-header-remove-2", None)),
                to("v1", answered("/case-insensitivity", &mixed))
                    .and(Client("x-header-set", Some("header-set")))
                    .and(Client("x-header-add", Some("original-val-add,header-add")))
                    .and(Client("x-lowercase-add", Some("lowercase-add")))
                    .and(Client("x-uppercase-add", Some("uppercase-add")))
                    .and(Client("x-header-remove", None)),
            ],
        ),
    }
}

fn both_modifiers() -> Group {
    let host = "both-headers.test";
    let both = format!("filters: [{{ responseHeaders: {{ {MULTIPLE} }} }}, {MODIFY}], split: {{ v1: 1 }}");
    let request = answered("/", &["X-Header-Add-2: add-val-2", "X-Header-Echo: echo"])
        .header("X-Header-Remove", "remove-val")
        .header("X-Header-Add-Append", "append-val-1");
    Group {
        name: "ResponseHeaderModifier and request",
        routes: routes(host, &[("{ path: / }", &both)]),
        cases: on_host(
            host,
            vec![
                to("v1", request)
                    .and(Upstream("x-header-set", Some("set-overwrites-values")))
                    .and(Upstream("x-header-add", Some("header-val-1")))
                    .and(Upstream("x-header-add-append", Some("append-val-1,header-val-2")))
                    .and(Upstream("x-header-remove", None))
                    .and(Client("x-header-set-1", Some("header-set-1")))
                    .and(Client("x-header-add-2", Some("add-val-2,header-add-2")))
                    .and(Client("x-header-echo", Some("echo"))),
            ],
        ),
    }
}

fn rewrite_host() -> Group {
    let host = "rewrite.example";
    let hostname = |name: &str, to: &str| {
        format!("filters: [{{ rewrite: {{ hostname: {name} }} }}], split: {{ {to}: 1 }}")
    };
    let and_modify =
        format!("filters: [{{ rewrite: {{ hostname: test.example.org }} }}, {MODIFY}], split: {{ v2: 1 }}");
    let modified = [("X-Header-Remove", "remove-val"), ("X-Header-Add-Append", "append-val-1")];
    Group {
        name: "RewriteHost",
        routes: routes(
            host,
            &[
                ("{ path: /one }", &hostname("one.example.org", "v1")),
                ("{ path: / }", &hostname("example.org", "v2")),
                ("{ path: /rewrite-host-and-modify-headers }", &and_modify),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v1", get("/one")).and(Target("/one")).and(Upstream("host", Some("one.example.org"))),
                to("v2", get("/two")).and(Target("/two")).and(Upstream("host", Some("example.org"))),
                to("v2", with("/rewrite-host-and-modify-headers", &modified))
                    .and(Upstream("host", Some("test.example.org")))
                    .and(Upstream("x-header-add", Some("header-val-1")))
                    .and(Upstream("x-header-add-append", Some("append-val-1,header-val-2")))
                    .and(Upstream("x-header-set", Some("set-overwrites-values")))
                    .and(Upstream("x-header-remove", None)),
            ],
        ),
    }
}

/// The table in the documentation of `ReplacePrefixMatch`, each row on a host of its own.
fn replace_prefix_table() -> Group {
    let rows = [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "/", "/bar"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/bar", "/", "/xyz", "/xyz/bar"),
    ];
    let host = |index: usize| format!("prefix-{index}.test");
    Group {
        name: "ReplacePrefixMatch table",
        routes: rows
            .iter()
            .enumerate()
            .map(|(index, (_, prefix, replacement, _))| {
                let matches = format!("{{ path: {prefix} }}");
                let action = format!("filters: [{{ rewrite: {{ path: {{ prefix: \"{replacement}\" }} }} }}], split: {{ v1: 1 }}");
                routes(&host(index), &[(&matches, &action)])
            })
            .collect(),
        cases: rows
            .iter()
            .enumerate()
            .map(|(index, (target, _, _, seen))| to("v1", get(target).host(&host(index))).and(Target(seen)))
            .collect(),
    }
}

fn rewrite_path() -> Group {
    let host = "rewrite-path.test";
    let path =
        |change: &str| format!("filters: [{{ rewrite: {{ path: {{ {change} }} }} }}], split: {{ v1: 1 }}");
    let and_modify = |change: &str| {
        format!("filters: [{{ rewrite: {{ path: {{ {change} }} }} }}, {MODIFY}], split: {{ v1: 1 }}")
    };
    let modified = [("X-Header-Remove", "remove-val"), ("X-Header-Set", "set-val")];
    Group {
        name: "RewritePath",
        routes: routes(
            host,
            &[
                ("{ path: /prefix/one }", &path("prefix: /one")),
                ("{ path: /strip-prefix }", &path("prefix: /")),
                ("{ path: /full/one }", &path("full: /one")),
                ("{ path: /full/rewrite-path-and-modify-headers }", &and_modify("full: /test")),
                ("{ path: /prefix/rewrite-path-and-modify-headers }", &and_modify("prefix: /prefix")),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v1", get("/prefix/one/two")).and(Target("/one/two")),
                to("v1", get("/strip-prefix/three")).and(Target("/three")),
                to("v1", get("/strip-prefix")).and(Target("/")),
                to("v1", get("/full/one/two")).and(Target("/one")),
                // The type's documentation: a query is not part of the path.
                to("v1", get("/prefix/one/two?a=1&b=%20")).and(Target("/one/two?a=1&b=%20")),
                to("v1", get("/strip-prefix?a=1")).and(Target("/?a=1")),
                to("v1", with("/full/rewrite-path-and-modify-headers/test", &modified))
                    .and(Target("/test"))
                    .and(Upstream("x-header-set", Some("set-overwrites-values")))
                    .and(Upstream("x-header-remove", None)),
                to("v1", with("/prefix/rewrite-path-and-modify-headers/one", &modified))
                    .and(Target("/prefix/one"))
                    .and(Upstream("x-header-add", Some("header-val-1"))),
            ],
        ),
    }
}
