//! What text means: scalars as written, short and long forms, several files, places.

#![allow(clippy::format_push_string)]

use super::scalar::{Percent, Span};
use super::{File, Source, Spec, parse, schema};

fn spec(text: &str) -> Spec {
    let source = Source { name: "a.yaml".into(), text: text.into() };
    parse(vec![source]).unwrap_or_else(|finding| panic!("{finding}\n{text}"))
}

fn file(text: &str) -> File {
    spec(text).files.remove(0).1
}

/// The predicate of the only header condition of a route with this condition.
fn predicate(condition: &str) -> super::rule::Predicate {
    let text = format!("routes: [{{ name: a, matches: [{{ headers: [{{ name: h, {condition} }}] }}] }}]");
    file(&text).routes[0].matches[0].headers[0].value.clone()
}

#[test]
fn match_values_are_text_as_written() {
    for written in [
        "no",
        "yes",
        "on",
        "off",
        "true",
        "1",
        "0123",
        "1.10",
        "1e3",
        "0x10",
        "-0",
        "1_000",
        ".5",
        "2026-12-24",
        "NULL?",
    ] {
        assert_eq!(predicate(&format!("value: {written}")).value.as_deref(), Some(written));
        assert_eq!(predicate(&format!("value: \"{written}\"")).value.as_deref(), Some(written));
        let list = predicate(&format!("in: [{written}, b]")).one_of;
        assert_eq!(list, Some(vec![written.to_owned(), "b".to_owned()]));
        assert_eq!(predicate(&format!("greaterThan: {written}")).greater_than.unwrap().value, written);
    }
    assert_eq!(predicate("value: \"null\"").value.as_deref(), Some("null"));
    assert_eq!(predicate("value: ''").value.as_deref(), Some(""));
}

#[test]
fn names_that_look_like_numbers_are_names() {
    let file = file(
        "upstreams: { 1: \"http://a\", no: \"http://b\" }\nroutes: [{ name: 007, split: { 1: 5, no: 5 } }]",
    );
    let names: Vec<&str> = file.upstreams.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["1", "no"]);
    assert_eq!(*file.routes[0].name, "007");
}

#[test]
fn a_bare_number_is_a_percentage_and_zero_needs_no_unit() {
    for written in ["5", "5%", "5.0", "\"5%\"", "5 %"] {
        let log = file(&format!("accessLog: {{ sample: {written} }}")).access_log.unwrap();
        assert_eq!(log.sample, Percent { parts_per_million: 50_000 }, "{written}");
    }
    let route = file("routes: [{ name: a, timeouts: { request: 0, upstream: 0s, streamIdle: 1m 30s } }]")
        .routes
        .remove(0);
    assert_eq!(route.timeouts.request, Span::seconds(0));
    assert_eq!(route.timeouts.upstream, Span::seconds(0));
    assert_eq!(route.timeouts.stream_idle, Span::seconds(90));
}

#[test]
fn short_and_long_forms_are_the_same_tree() {
    let pairs = [
        (
            "upstreams: { a: \"http://a\" }",
            "upstreams: { a: { endpoints: [{ url: \"http://a\", weight: 1 }] } }",
        ),
        ("routes: [{ name: a, split: { b: 5 } }]", "routes: [{ name: a, split: { b: { weight: 5 } } }]"),
        (
            "routes: [{ name: a, matches: [{ path: /x }] }]",
            "routes: [{ name: a, matches: [{ path: { prefix: /x } }] }]",
        ),
        ("{\"routes\": [{\"name\": \"a\"}]}", "routes:\n  - name: a\n"),
        ("routes: [{ name: a }]\r\nworkers: 1\r\n", "\u{feff}workers: 1\nroutes:\n- name: a"),
        ("routes:\nlisteners:\n", "routes: []"),
        (
            "routes: [{ name: a, split: &s { b: 5 } }, { name: c, split: *s }]",
            "routes: [{ name: a, split: { b: 5 } }, { name: c, split: { b: 5 } }]",
        ),
        (
            "routes: [{ name: a, timeouts: &t { request: 1s, upstream: 2s } }, { name: c, timeouts: { <<: *t, request: 3s } }]",
            "routes: [{ name: a, timeouts: { request: 1s, upstream: 2s } }, { name: c, timeouts: { request: 3s, upstream: 2s } }]",
        ),
    ];
    for (short, long) in pairs {
        assert_eq!(file(short), file(long), "{short}");
    }
}

#[test]
fn one_anchor_may_serve_a_thousand_routes() {
    let mut text = "routes:\n- { name: first, sticky: &s { by: [{ header: x }] } }\n".to_owned();
    for n in 0..1_000 {
        text += &format!("- {{ name: r{n}, sticky: *s }}\n");
    }
    assert_eq!(file(&text).routes.len(), 1_001);
}

#[test]
fn ten_thousand_routes_are_within_the_bounds() {
    let mut text = String::from("routes:\n");
    for n in 0..10_000 {
        text += &format!(
            "  - name: route-{n}\n    hostnames: [h{n}.example.com]\n    matches:\n      - path: /service/{n}\n        \
             headers: [{{ name: x-beta, value: \"1\" }}]\n    split: {{ stable: 95, canary: 5 }}\n    sticky: \
             {{ by: [{{ header: x-user-id }}, clientIP] }}\n"
        );
    }
    assert!(text.len() < super::parse::MAX_FILE_BYTES, "{}", text.len());
    assert_eq!(file(&text).routes.len(), 10_000);
}

#[test]
fn files_stay_apart_and_in_order() {
    let sources = [("1.yaml", "routes: [{ name: a }]"), ("2.yaml", "workers: 3")];
    let sources = sources.map(|(name, text)| Source { name: name.into(), text: text.into() });
    let spec = parse(sources.to_vec()).unwrap();
    assert_eq!(spec.files.len(), 2);
    assert_eq!(spec.files[1].1.workers.map(|spot| spot.value), Some(3));
    assert!(spec.files[1].1.routes.is_empty());
}

#[test]
fn list_files_are_named_once_each() {
    let text = "\
routes:
  - name: a
    matches: [{ headers: [{ name: h, inFile: b.txt }], cookies: [{ name: c, inFile: a.txt }], queryParams: [{ name: q, inFile: c.txt }] }]
    overrides:
      - { name: o, when: { stickyKey: { inFile: d.txt }, headers: [{ name: h, inFile: b.txt }] }, arm: x }
    blueGreen: { slots: [x, y], active: x, preview: { headers: [{ name: p, inFile: e.txt }] } }
";
    assert_eq!(spec(text).list_files(), ["a.txt", "b.txt", "c.txt", "d.txt", "e.txt"]);
}

#[test]
fn places_count_characters_from_one() {
    let file = file("# é\nroutes:\n  - name: \"ü\"\n    hostnames: [ä.test, b.test]\n");
    let route = &file.routes[0];
    assert_eq!((route.name.line, route.name.column, route.name.length), (3, 11, 3));
    assert_eq!((route.hostnames[1].line, route.hostnames[1].column), (4, 25));
}

#[test]
fn the_schema_accepts_what_the_examples_write() {
    let schema = schema();
    let route = &schema["$defs"]["Route"]["properties"];
    for key in ["name", "hostnames", "matches", "split", "blueGreen", "sticky", "overrides", "rollout"] {
        assert!(!route[key].is_null(), "{key}");
    }
    assert_eq!(schema["additionalProperties"], false);
    let weights = &schema["$defs"]["Arm"]["properties"]["weight"]["type"];
    assert_eq!(*weights, serde_json::json!(["string", "number"]));
}
