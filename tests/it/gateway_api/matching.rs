//! Matching and precedence: paths, methods, headers, query parameters.
//!
//! Rows are the conformance suite's own requests and answers; only the spelling is ours.

use super::{Group, gets, on_host, routes, to};
use crate::support::{Request, get};

const V1: &str = "split: { v1: 1 }";
const V2: &str = "split: { v2: 1 }";
const V3: &str = "split: { v3: 1 }";

pub(super) fn groups() -> Vec<Group> {
    vec![
        exact_path_matching(),
        path_match_order(),
        matching(),
        matching_across_routes(),
        header_matching(),
        method_matching(),
        query_param_matching(),
        named_rule(),
        regex_and_priority(),
    ]
}

fn with(target: &str, headers: &[(&str, &str)]) -> Request {
    headers.iter().fold(get(target), |request, (name, value)| request.header(name, value))
}

fn method(method: &str, target: &str) -> Request {
    Request::new(method, target)
}

fn exact_path_matching() -> Group {
    let host = "exact.test";
    Group {
        name: "ExactPathMatching",
        routes: routes(host, &[("{ path: { exact: /one } }", V1), ("{ path: { exact: /two } }", V2)]),
        cases: on_host(
            host,
            vec![
                to("v1", get("/one")),
                to("v2", get("/two")),
                gets(404, get("/")),
                gets(404, get("/one/example")),
                gets(404, get("/two/")),
                gets(404, get("/Two")),
            ],
        ),
    }
}

fn path_match_order() -> Group {
    let host = "order.test";
    Group {
        name: "PathMatchOrder",
        routes: routes(
            host,
            &[
                ("{ path: { exact: /match } }", V1),
                ("{ path: { exact: /match/exact } }", V2),
                ("{ path: { exact: /match/exact/one } }", V3),
                ("{ path: { prefix: /match/ } }", V3),
                ("{ path: { prefix: /match/prefix/ } }", V1),
                ("{ path: { prefix: /match/prefix/one } }", V2),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v3", get("/match/exact/one")),
                to("v2", get("/match/exact")),
                to("v1", get("/match")),
                to("v2", get("/match/prefix/one/any")),
                to("v1", get("/match/prefix/any")),
                to("v3", get("/match/any")),
            ],
        ),
    }
}

fn matching() -> Group {
    let host = "matching.test";
    Group {
        name: "Matching",
        routes: routes(
            host,
            &[
                ("{ path: / }, { headers: [{ name: version, value: one }] }", V1),
                ("{ path: /v2 }, { headers: [{ name: version, value: two }] }", V2),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v1", get("/")),
                to("v1", get("/example")),
                to("v1", with("/", &[("Version", "one")])),
                to("v2", get("/v2")),
                to("v2", get("/v2/example")),
                to("v2", with("/", &[("Version", "two")])),
                to("v2", get("/v2/")),
                to("v1", get("/v2example")),
                to("v1", get("/foo/v2/example")),
            ],
        ),
    }
}

fn matching_across_routes() -> Group {
    let on = |host: &str, request: Request| request.host(host);
    Group {
        name: "MatchingAcrossRoutes",
        routes: "  - { name: across-1, hostnames: [example.com, example.net], \
                 matches: [{ path: / }, { headers: [{ name: version, value: one }] }], split: { v1: 1 } }\n  \
                 - { name: across-2, hostnames: [example.com], \
                 matches: [{ path: /v2 }, { headers: [{ name: version, value: two }] }], split: { v2: 1 } }\n"
            .to_owned(),
        cases: vec![
            to("v1", on("example.com", get("/"))),
            to("v1", on("example.com", get("/example"))),
            to("v1", on("example.net", get("/example"))),
            to("v1", on("example.com", with("/example", &[("Version", "one")]))),
            to("v2", on("example.com", get("/v2"))),
            to("v1", on("example.net", get("/v2"))),
            to("v2", on("example.com", get("/v2/example"))),
            to("v2", on("example.com", with("/", &[("Version", "two")]))),
        ],
    }
}

fn header_matching() -> Group {
    let host = "headers.test";
    let one = "{ headers: [{ name: version, value: one }] }";
    let two = "{ headers: [{ name: version, value: two }] }";
    let two_orange = "{ headers: [{ name: version, value: two }, { name: color, value: orange }] }";
    let cold = "{ headers: [{ name: color, value: blue }] }, { headers: [{ name: color, value: green }] }";
    let warm = "{ headers: [{ name: color, value: red }] }, { headers: [{ name: color, value: yellow }] }";
    let color = |value: &str| with("/", &[("Color", value)]);
    Group {
        name: "HeaderMatching",
        routes: routes(host, &[(one, V1), (two, V2), (two_orange, V1), (cold, V1), (warm, V2)]),
        cases: on_host(
            host,
            vec![
                to("v1", with("/", &[("Version", "one")])),
                to("v2", with("/", &[("Version", "two")])),
                to("v1", with("/", &[("Version", "two"), ("Color", "orange")])),
                to("v2", with("/", &[("Version", "two"), ("Color", "blue")])),
                gets(404, color("orange")),
                gets(404, with("/", &[("Some-Other-Header", "one")])),
                to("v1", color("blue")),
                to("v1", color("green")),
                to("v2", color("red")),
                to("v2", color("yellow")),
                gets(404, color("purple")),
            ],
        ),
    }
}

fn method_matching() -> Group {
    let host = "methods.test";
    let version =
        |method: &str, target: &str, value: &str| Request::new(method, target).header("version", value);
    Group {
        name: "MethodMatching",
        routes: routes(
            host,
            &[
                ("{ method: POST }", V1),
                ("{ method: GET }", V2),
                ("{ path: /path1, method: GET }", V1),
                ("{ headers: [{ name: version, value: one }], method: PUT }", V2),
                ("{ path: /path2, headers: [{ name: version, value: two }], method: POST }", V3),
                (
                    "{ path: /path3, method: PATCH }, \
                     { path: /path4, headers: [{ name: version, value: three }], method: DELETE }",
                    V1,
                ),
                ("{ path: /path5 }", V1),
                ("{ method: PATCH }", V2),
                ("{ headers: [{ name: version, value: four }] }", V3),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v1", method("POST", "/")),
                to("v2", method("GET", "/")),
                gets(404, method("HEAD", "/")),
                to("v1", method("GET", "/path1")),
                to("v2", version("PUT", "/", "one")),
                to("v3", version("POST", "/path2", "two")),
                to("v1", method("PATCH", "/path3")),
                to("v1", version("DELETE", "/path4", "three")),
                gets(404, method("PUT", "/")),
                gets(404, method("DELETE", "/path4")),
                to("v1", method("PATCH", "/path5")),
                to("v2", version("PATCH", "/", "four")),
            ],
        ),
    }
}

fn query_param_matching() -> Group {
    let host = "query.test";
    let animal = |value: &str| format!("queryParams: [{{ name: animal, value: {value} }}]");
    let header = |value: &str| format!("headers: [{{ name: version, value: {value} }}]");
    let rules = [
        (format!("{{ {} }}", animal("whale")), V1),
        (format!("{{ {} }}", animal("dolphin")), V2),
        (
            "{ queryParams: [{ name: animal, value: dolphin }, { name: color, value: blue }] }, \
             { queryParams: [{ name: ANIMAL, value: Whale }] }"
                .to_owned(),
            V3,
        ),
        (format!("{{ path: /path1, {} }}", animal("whale")), V1),
        (format!("{{ {}, {} }}", header("one"), animal("whale")), V2),
        (format!("{{ path: /path2, {}, {} }}", header("two"), animal("whale")), V3),
        (
            format!(
                "{{ path: /path3, {} }}, {{ path: /path4, {}, {} }}",
                animal("shark"),
                header("three"),
                animal("kraken")
            ),
            V1,
        ),
        ("{ path: /path5 }".to_owned(), V1),
        (format!("{{ {} }}", animal("hydra")), V2),
        (format!("{{ {} }}", header("four")), V3),
    ];
    let rules: Vec<_> = rules.iter().map(|(matches, action)| (matches.as_str(), *action)).collect();
    let version = |target: &str, value: &str| with(target, &[("version", value)]);
    Group {
        name: "QueryParamMatching",
        routes: routes(host, &rules),
        cases: on_host(
            host,
            vec![
                to("v1", get("/?animal=whale")),
                to("v2", get("/?animal=dolphin")),
                to("v3", get("/?animal=dolphin&color=blue")),
                to("v3", get("/?ANIMAL=Whale")),
                to("v1", get("/?animal=whale&otherparam=irrelevant")),
                to("v2", get("/?animal=dolphin&color=yellow")),
                gets(404, get("/?color=blue")),
                gets(404, get("/?animal=dog")),
                gets(404, get("/?animal=whaledolphin")),
                gets(404, get("/")),
                to("v1", get("/path1?animal=whale")),
                to("v2", version("/?animal=whale", "one")),
                to("v3", version("/path2?animal=whale", "two")),
                to("v1", get("/path3?animal=shark")),
                to("v1", version("/path4?animal=kraken", "three")),
                gets(404, get("/?animal=shark")),
                gets(404, get("/path4?animal=kraken")),
                to("v1", get("/path5?animal=hydra")),
                to("v3", version("/?animal=hydra", "four")),
                // From the type's documentation: the first value of a repeated parameter counts.
                to("v1", get("/?animal=whale&animal=dolphin")),
            ],
        ),
    }
}

/// What Gateway API leaves to the implementation, as the contract says it: a regex ranks below every
/// prefix, and a written priority beats everything.
fn regex_and_priority() -> Group {
    let host = "ranks.test";
    Group {
        name: "Regex and priority",
        routes: routes(
            host,
            &[
                ("{ path: { regex: \"/r/.*\" } }", V1),
                ("{ path: /r/prefix }", V2),
                ("{ path: { exact: /p/exact } }", V1),
                ("{ path: /p, priority: 10 }", V3),
                ("{ path: { regex: \"/[a-z]+/[0-9]+\" } }", V2),
            ],
        ),
        cases: on_host(
            host,
            vec![
                to("v1", get("/r/any/thing")),
                to("v2", get("/r/prefix/x")),
                to("v3", get("/p/exact")),
                to("v2", get("/abc/123")),
                gets(404, get("/abc/123/tail")),
                gets(404, get("/head/abc/123")),
            ],
        ),
    }
}

fn named_rule() -> Group {
    let host = "named.test";
    Group {
        name: "NamedRule",
        routes: routes(host, &[("{ path: /named }", V1), ("{ path: /unnamed }", V2)]),
        cases: on_host(host, vec![to("v1", get("/named")), to("v2", get("/unnamed"))]),
    }
}
