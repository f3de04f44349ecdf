//! A bad configuration is refused at its place, by a stable code, in words that help.
//!
//! A row marks with « and » what the finding must point at.

#![allow(clippy::format_collect)]

use super::{BASE, load, load_files};
use crate::ledger::Book;
use crate::model::{Diagnostic, Overlay, Severity};
use crate::spec::Source;
use crate::spec::render::render;

/// Code, text after the two lines of [`BASE`], and what message and hint must say.
type Row = (&'static str, &'static str, &'static [&'static str]);

/// Takes the marks out of a text: the text, and line, column and length of what was marked.
fn unmark(marked: &str) -> (String, (u32, u32, u32)) {
    let small = |number: usize| u32::try_from(number).unwrap();
    let (before, rest) = marked.split_once('«').unwrap_or_else(|| panic!("no mark in {marked}"));
    let (inside, after) = rest.split_once('»').unwrap();
    let line = small(before.matches('\n').count()) + 1;
    let column = small(before.rsplit('\n').next().unwrap().chars().count()) + 1;
    (format!("{before}{inside}{after}"), (line, column, small(inside.chars().count())))
}

fn findings(text: &str) -> Vec<Diagnostic> {
    load(text).map_or_else(|findings| findings, |compiled| compiled.warnings)
}

/// Checks rows whose marked text gets a finding of this severity; every other finding of the row
/// must be a warning.
fn check(rows: &[Row], base: &str, severity: Severity) {
    for (code, marked, says) in rows {
        let (text, (line, column, length)) = unmark(&format!("{base}{marked}"));
        let found = findings(&text);
        let at =
            |one: &&Diagnostic| one.code == *code && (one.place.line, one.place.column) == (line, column);
        let Some(finding) = found.iter().find(at) else {
            panic!("no {code} at {line}:{column} in\n{text}\n{found:#?}")
        };
        assert_eq!(finding.severity, severity, "{text}");
        assert_eq!(finding.place.length.max(1), length, "length of the mark in\n{text}\n{finding:?}");
        assert_eq!(finding.place.file, "a.yaml");
        let words = format!("{} | {}", finding.message, finding.hint);
        for part in *says {
            assert!(words.contains(part), "`{part}` is not in `{words}`");
        }
        let others = found.iter().filter(|one| one.severity == Severity::Error && *one != finding);
        assert_eq!(others.count(), 0, "noise around {code} in\n{text}\n{found:#?}");
        for jargon in ["scalar", "sequence", "mapping", "i32", "u16", "u32", "serde", "newtype", "variant"] {
            assert!(!words.contains(jargon), "{jargon} in {words}");
        }
    }
}

#[test]
#[rustfmt::skip]
fn shapes() {
    let rows: &[Row] = &[
        ("unknown-key", "«rotues»: []", &["unknown key `rotues`", "did you mean `routes`?"]),
        ("unknown-key", "routes: [{ name: a, «splitt»: { stable: 1 } }]", &["did you mean `split`?"]),
        ("unknown-key", "routes: [{ name: a, split: { stable: { «wieght»: 1 } } }]", &["`weight`?"]),
        ("unknown-key", "routes: [{ name: a, «zzzzzz»: 1 }]", &["known here: name, listeners"]),
        ("unknown-key", "routes: [{ name: a, filters: [{ «requestHeader»: {} }] }]", &["`requestHeaders`?"]),
        ("unknown-key", "routes: [{ name: a, sticky: { by: [{ «heder»: x }] } }]", &["`header`?"]),
        ("unknown-value", "routes: [{ name: a, whenUnavailable: «redistribut» }]", &["`whenUnavailable`", "`redistribute`?"]),
        ("unknown-value", "routes: [{ name: a, sticky: { by: [«clientip»] } }]", &["`clientIP`?"]),
        ("bad-value", "routes: [{ name: a, rateLimit: { requests: 5, by: «cookie» } }]", &["`cookie` needs a name", "`{ cookie: NAME }`", "`{ header: NAME }`", "`clientIP`"]),
        ("bad-value", "routes: [{ name: a, sticky: { by: [«header»] } }]", &["`{ header: NAME }`", "`{ query: NAME }`"]),
        ("bad-value", "routes:\n  - name: a\n    rateLimit:\n      requests: 5\n      by: «query»\n", &["`{ query: NAME }`"]),
        ("unknown-value", "accessLog: { format: «xml» }", &["`format`", "known here: json"]),
        ("bad-value", "routes: [{ name: a, split: { stable: «-1» } }]", &["`stable`: `-1` is not a weight"]),
        ("bad-value", "routes: [{ name: a, split: { stable: «1.5» } }]", &["`stable`", "whole number"]),
        ("bad-value", "routes: [{ name: a, split: { stable: «lots» } }]", &["`stable`", "`lots`"]),
        ("bad-value", "routes: [{ name: a, split: { stable: «4294967296» } }]", &["from 0 to 1000000"]),
        ("bad-value", "routes: [{ name: a, split: { stable: «.nan» } }]", &["`stable`: `.nan`"]),
        ("bad-value", "routes: [{ name: a, split: { stable: { weight: «1000001» } } }]", &["`weight`"]),
        ("bad-value", "routes: [{ name: a, split: { «stable»: } }]", &["`stable`: nothing is written"]),
        ("bad-value", "routes: [{ name: a, split: { «stable»: [1] } }]", &["`stable`: a list is written"]),
        ("bad-value", "routes: [{ name: a, split: «stable» }]", &["`split`: a map is expected", "`stable`"]),
        ("bad-value", "routes: «{» name: a }", &["`routes`: a list is expected here", "begins with `-`"]),
        ("bad-value", "routes: [«all»]", &["`routes`: a map is expected here, not `all`"]),
        ("bad-value", "routes:\n  - name«:»\n    split: { stable: 1 }", &["`name`: nothing is written"]),
        ("bad-value", "routes: [{ name: a, timeouts: { request: «15» } }]", &["`request`", "`15s`"]),
        ("bad-value", "routes:\n  - name: a\n    timeouts:\n      request: «soon»", &["`request`: `soon`"]),
        ("bad-value", "routes: [{ name: a, timeouts: { request: «-5s» } }]", &["`request`"]),
        ("bad-value", "routes: [{ name: a, timeouts: { request: «[»5s] } }]", &["`request`: a single value"]),
        ("bad-value", "routes: [{ name: a, priority: «high» }]", &["`priority`: a whole number", "`high`"]),
        ("bad-value", "routes: [{ name: a, priority: «99999999999» }]", &["`priority`"]),
        ("bad-value", "routes: [{ name: a, hostnames: [b, «[»c]] }]", &["`hostnames`: a single value"]),
        ("bad-value", "routes:\n- name: a\n  hostnames:\n  - b\n  - «[»c]", &["`hostnames`"]),
        ("bad-value", "routes: [{ name: a, sticky: { by: «{» header: x } } }]", &["`by`: a list is expected"]),
        ("bad-value", "routes: [{ name: a, sticky: { by: [{ header: x, «cookie»: y }] } }]", &["`cookie` is a second key"]),
        ("bad-value", "routes: [{ name: a, overrides: [{ name: o, when: { clientIP: [10.0.0.0/8, «10.0.0.0/99»] } }] }]", &["`clientIP`", "10.0.0.0/8"]),
        ("bad-value", "routes: [{ name: a, overrides: [{ name: o, when: {}, force: «yes» }] }]", &["`force`: true or false", "`yes`"]),
        ("bad-value", "routes: [{ name: a, overrides: [{ name: o, when: {}, activeFrom: «tomorrow» }] }]", &["`activeFrom`", "2026-12-24T00:00:00Z"]),
        ("bad-value", "routes: [{ name: a, filters: [{ respond: { status: «ok» } }] }]", &["`status`"]),
        ("bad-value", "routes: [{ name: a, split: { stable: !include «x» } }]", &["`!include`"]),
        ("bad-value", "workers: «-1»", &["`workers`: a whole number from 0 to 65535", "`-1`"]),
        ("bad-value", "accessLog: { sample: «5x» }", &["`sample`: `5x` is not a percentage such as `5%`"]),
        ("bad-value", "accessLog: { sample: «500%» }", &["0% and 100%"]),
        ("bad-value", "accessLog: «true»", &["`accessLog`: a map is expected"]),
        ("bad-value", "trustedProxies: «10.0.0.0/8»", &["`trustedProxies`: a list is expected"]),
        ("missing-key", "routes: [{ «split»: { stable: 1 } }]", &["`name` is missing"]),
        ("missing-key", "routes: [{ name: a, split: { stable: { «upstream»: stable } } }]", &["`weight` is missing"]),
        ("missing-key", "routes: [{ name: a, overrides: [{ name: o, «arm»: stable }] }]", &["`when` is missing"]),
        ("duplicate-key", "routes: [{ name: a, split: { stable: 1, «stable»: 2 } }]", &["`stable` is written twice"]),
        ("duplicate-key", "routes: [{ name: a, «name»: b }]", &["`name` is written twice"]),
        ("duplicate-key", "«upstreams»: {}", &["`upstreams` is written twice"]),
        ("syntax", "routes: [«{» name: a", &["unclosed `{`"]),
        ("syntax", "routes:\n  - name: a\n   «s»plit: { stable: 1 }", &["begins with `-`", "indentation"]),
        ("syntax", "routes:\n\t«-» name: a", &["a tab", "indent with spaces"]),
        ("syntax", "routes: «*»nothing", &["an alias stands here for nothing"]),
    ];
    check(rows, BASE, Severity::Error);
    let whole: &[Row] = &[
        ("bad-value", "«hello»", &["a map is expected here, not `hello`"]),
        ("bad-value", "«[»1, 2]", &["a map is expected here"]),
        ("bad-value", "upstreams: { a: { endpoints: [{ url: \"http://a\", weight: «-1» }] } }", &["`weight`"]),
        ("missing-key", "upstreams: { a: { endpoints: [{ «weight»: 1 }] } }", &["`url` is missing"]),
        ("bad-value", "upstreams: { «a»: null }", &["`a`: nothing is written, but an address"]),
        ("unknown-value", "upstreams: { a: { loadBalance: «random» } }", &["`loadBalance`", "p2c, roundRobin"]),
        ("missing-key", "listeners: [{ «name»: web }]", &["`address` is missing"]),
        ("unknown-value", "listeners: [{ name: web, address: \"[::1]:1\", protocol: «h3» }]", &["auto, h2c"]),
        ("bad-value", "listeners: [{ name: web, address: \"[::1]:1\", limits: { headerBytes: «32» } }]", &["`headerBytes`", "`32KiB`"]),
        ("bad-value", "listeners: [{ name: web, address: \"[::1]:1\", via: «maybe» }]", &["`via`: true or false"]),
    ];
    check(whole, "", Severity::Error);
}

#[test]
#[rustfmt::skip]
fn meanings() {
    let rows: &[Row] = &[
        // References and names.
        ("unknown-upstream", "routes: [{ name: a, split: { stable: 95, «canery»: 5 } }]", &["no upstream `canery`", "`canary`?"]),
        ("unknown-upstream", "routes: [{ name: a, split: { stable: 95, v2: { weight: 5, upstream: «canery» } } }]", &["for arm `v2`", "`canary`?"]),
        ("unknown-upstream", "routes: [{ name: a, split: { stable: 95, «other»: 5 } }]", &["define it under upstreams"]),
        ("unknown-arm", "routes: [{ name: a, split: { stable: 1, canary: 1 }, defaultArm: «canry» }]", &["`canary`?"]),
        ("unknown-listener", "routes: [{ name: a, split: { stable: 1 }, listeners: [«wep»] }]", &["`web`?"]),
        ("duplicate-name", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: /x }] }, { name: «a», split: { stable: 1 } }]", &["route `a` is defined twice"]),
        ("bad-name", "routes: [{ name: «\"\"», split: { stable: 1 } }]", &["1 to 128 characters"]),
        ("empty-split", "routes: [{ name: a, split: «{»} }]", &["no arms"]),
        ("no-split", "routes: [{ name: «a» }]", &["leads nowhere", "redirect or respond"]),
        ("two-splits", "routes: [{ name: a, split: { stable: 1 }, blueGreen: «{» slots: [stable, canary], active: stable } }]", &["either"]),
        // Slots.
        ("bad-slot", "routes: [{ name: a, split: { stable: 1, canary: { weight: 1, slot: «9» } } }]", &["1 to 4"]),
        ("duplicate-slot", "routes: [{ name: a, split: { stable: 1, canary: { weight: 1, slot: 2 }, x: { weight: 1, slot: «2», upstream: canary } } }]", &["slot 2 is taken"]),
        ("bad-slots", "routes: [{ name: a, blueGreen: { slots: «[»stable], active: stable } }]", &["exactly two slots"]),
        ("bad-slots", "routes: [{ name: a, blueGreen: { slots: [stable, «stable»], active: stable } }]", &["both slots are the same"]),
        ("unknown-arm", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: «canarie» } }]", &["`canary`?"]),
        ("empty-condition", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, preview: «{»} } }]", &["headers or hostnames"]),
        ("bad-hostname", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, preview: { hostnames: [«\"*.a\"»] } } }]", &["whole name"]),
        ("empty-smoke", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, smoke: «[»] } }]", &["no request", "/healthz"]),
        ("bad-path", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, smoke: [{ path: «healthz» }] } }]", &["not a path"]),
        ("empty-smoke", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, smoke: [«{» path: /, expect: [] }] } }]", &["always fail"]),
        ("unknown-status", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, smoke: [{ path: /, expect: [200, «20»] }] } }]", &["20 is no status"]),
        ("bad-value", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, smoke: [{ path: /, count: «0» }] } }]", &["`count` is 0"]),
        ("too-many", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, smoke: «[»{ path: /, count: 101 }] } }]", &["101 times", "at most are 100"]),
        ("bad-method", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, smoke: [{ path: /, method: «get» }] } }]", &["write GET"]),
        ("cannot-decide", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, verify: { for: 60s, thresholds: «{» maxErrorRate: 1%, interval: 30s, failures: 3 } } } }]", &["after 90s", "after 60s"]),
        ("cannot-decide", "routes: [{ name: a, blueGreen: { slots: [stable, canary], active: stable, verify: { thresholds: { maxLatencyRatio: «0.5» } } } }]", &["at least 1"]),
        ("bad-value", "routes: [{ name: a, blueGreen: «{» slots: [stable, canary], active: stable, drain: 48h } }]", &["at most 24h"]),
        // Hosts, paths, methods.
        ("bad-hostname", "routes: [{ name: a, split: { stable: 1 }, hostnames: [«\"*\"»] }]", &["*.example.com"]),
        ("bad-hostname", "routes: [{ name: a, split: { stable: 1 }, hostnames: [«\"a.*.b\"»] }]", &["not a hostname"]),
        ("bad-hostname", "routes: [{ name: a, split: { stable: 1 }, hostnames: [«\"a:80\"»] }]", &["no port"]),
        ("bad-hostname", "routes: [{ name: a, split: { stable: 1 }, hostnames: [«a..b»] }]", &["not a hostname"]),
        ("bad-path", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: «shop» }] }]", &["start with `/`", "write /shop"]),
        ("bad-path", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: «1» }] }]", &["path `1`"]),
        ("bad-path", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: «\"/a?b=c\"» }] }]", &["holds `?`", "queryParams"]),
        ("bad-path", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: «{» exact: /a, prefix: /b } }] }]", &["exactly one of"]),
        ("bad-path", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: «{»} }] }]", &["exactly one of"]),
        ("bad-regex", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: «{» regex: \"(\" } }] }]", &["unclosed group"]),
        ("bad-regex", "routes: [{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: h, regex: «\"((a{1000}){1000}){1000}\"» }] }] }]", &["more than 1048576 bytes"]),
        ("bad-method", "routes: [{ name: a, split: { stable: 1 }, matches: [{ method: «get» }] }]", &["not upper case", "write GET"]),
        ("bad-method", "routes: [{ name: a, split: { stable: 1 }, matches: [{ method: «\"G T\"» }] }]", &["not a method"]),
        // Conditions.
        ("bad-header", "routes: [{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: «\"a b\"», value: x }] }] }]", &["not a header name"]),
        ("bad-cookie", "routes: [{ name: a, split: { stable: 1 }, matches: [{ cookies: [{ name: «\"a;b\"», value: x }] }] }]", &["not a cookie name"]),
        ("empty-condition", "routes: [{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: «h» }] }] }]", &["says nothing", "add value"]),
        ("empty-condition", "routes: [{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: «h», value: ~ }] }] }]", &["says nothing"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: h, greaterThan: «many» }] }] }]", &["`many` is not a number"]),
        ("unreadable-list", "routes: [{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: h, inFile: «gone.txt» }] }] }]", &["cannot be read: no such file", "relative"]),
        // Sticky keys.
        ("empty-sticky", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: «[»] } }]", &["header: x-user-id"]),
        ("bad-header", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [{ header: «\"a b\"» }] } }]", &["not a header name"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [{ header: h }], issueCookie: { name: «c», maxAge: 0s } } }]", &["maxAge is 0"]),
        // Overrides.
        ("empty-condition", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: «{»}, arm: stable }] }]", &["catch everything"]),
        ("unknown-arm", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { clientIP: [::1] }, arm: «stabel» }] }]", &["`stable`?"]),
        ("bad-override", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: «o», when: { clientIP: [::1] } }] }]", &["neither an arm nor a split"]),
        ("bad-override", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: «o», when: { clientIP: [::1] }, arm: stable, split: { stable: 1 } }] }]", &["both an arm and a split"]),
        ("no-weight", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { clientIP: [::1] }, split: «{» stable: 0 } }] }]", &["no arm of the segment"]),
        ("unknown-arm", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { clientIP: [::1] }, split: { «stabel»: 1 } }] }]", &["`stable`?"]),
        ("duplicate-name", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { clientIP: [::1] }, arm: stable }, { name: «o», when: { clientIP: [::1] }, arm: stable }] }]", &["override `o` is defined twice"]),
        ("untrusted", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: «o», when: { headers: [{ name: h, value: v }] }, arm: stable, trusted: true }] }]", &["anybody can send a header"]),
        ("no-sticky", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { stickyKey: «{» value: u } }, arm: stable }] }]", &["add sticky.by"]),
        ("bad-window", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { clientIP: [::1] }, arm: stable, activeFrom: 2030-01-02T00:00:00Z, activeUntil: «2030-01-01T00:00:00Z» }] }]", &["ends before it begins"]),
        // Filters.
        ("empty-filter", "routes: [{ name: a, split: { stable: 1 }, filters: [{ rewrite: «{»} }] }]", &["changes nothing"]),
        ("bad-rewrite", "routes: [{ name: a, split: { stable: 1 }, filters: [{ rewrite: { path: «{» prefix: /a, full: /b } } }] }]", &["exactly one of"]),
        ("bad-rewrite", "routes: [{ name: a, split: { stable: 1 }, filters: [{ rewrite: { path: «{» full: a } } }] }]", &["`a` is not a path"]),
        ("bad-rewrite", "routes: [{ name: a, split: { stable: 1 }, matches: [{ path: { exact: /a } }], filters: [{ rewrite: { path: «{» prefix: /b } } }] }]", &["none is matched"]),
        ("bad-hostname", "routes: [{ name: a, split: { stable: 1 }, filters: [{ rewrite: { hostname: «\"a b\"» } }] }]", &["not a hostname"]),
        ("empty-filter", "routes: [{ name: a, filters: [{ redirect: «{»} }] }]", &["where it came from"]),
        ("bad-status", "routes: [{ name: a, filters: [{ redirect: { hostname: b, status: «200» } }] }]", &["301, 302"]),
        ("bad-status", "routes: [{ name: a, filters: [{ respond: { status: «100» } }] }]", &["200 to 599"]),
        ("bad-value", "routes: [{ name: a, filters: [{ redirect: { scheme: «ftp» } }] }]", &["http or https"]),
        ("two-answers", "routes: [{ name: a, filters: [{ respond: { status: 200 } }, «{» respond: { status: 201 } }] }]", &["only once"]),
        ("framing-header", "routes: [{ name: a, split: { stable: 1 }, filters: [{ requestHeaders: { set: { «host»: b } } }] }]", &["rewrite.hostname"]),
        ("framing-header", "routes: [{ name: a, split: { stable: { weight: 1, requestHeaders: { remove: [«Transfer-Encoding»] } } } }]", &["cannot be edited"]),
        ("bad-header", "routes: [{ name: a, split: { stable: 1 }, filters: [{ responseHeaders: { add: { x: «\"a\\nb\"» } } }] }]", &["control character"]),
        ("bad-header", "routes: [{ name: a, split: { stable: 1 }, armHeader: { client: «\"x y\"» } }]", &["not a header name"]),
        // Process.
        ("admin-exposed", "admin: { address: «\"0.0.0.0:9901\"» }", &["without TLS", "insecure: true"]),
        ("bad-address", "admin: { address: «9901» }", &["a port without an address"]),
        ("bad-address", "metrics: { address: «nowhere» }", &["no port"]),
        ("bad-value", "workers: «5000»", &["1024"]),
        ("bad-header", "accessLog: { debug: { header: «\"x y\"» } }", &["not a header name"]),
    ];
    check(rows, BASE, Severity::Error);
}

#[test]
#[rustfmt::skip]
fn listeners_and_upstreams() {
    let listeners: &[Row] = &[
        ("no-listener", "«u»pstreams: {}", &["no listener is defined", "address"]),
        ("no-listener", "«#» only a comment", &["no listener"]),
        ("bad-name", "listeners: [{ name: «\"\"», address: \"0.0.0.0:1\" }]", &["listener"]),
        ("duplicate-name", "listeners: [{ name: a, address: \"0.0.0.0:1\" }, { name: «a», address: \"0.0.0.0:2\" }]", &["rename"]),
        ("duplicate-address", "listeners: [{ name: a, address: \"0.0.0.0:1\" }, { name: b, address: «\"0.0.0.0:1\"» }]", &["share 0.0.0.0:1"]),
        ("bad-address", "listeners: [{ name: a, address: «\"0.0.0.0\"» }]", &["no port"]),
        ("bad-address", "listeners: [{ name: a, address: «\"0.0.0.0:99999\"» }]", &["99999 is out of range"]),
        ("bad-address", "listeners: [{ name: a, address: «\"example.com:80\"» }]", &["not an address to bind"]),
        ("unset-variable", "listeners: [{ name: a, address: «\"${HOST}:80\"» }]", &["`HOST` is not set"]),
        ("bad-value", "listeners: [{ name: a, address: «\"${HOST:80\"» }]", &["without `}`"]),
        ("bad-value", "listeners: [{ name: a, address: \"[::]:1\", limits: { headerBytes: «1KiB» } }]", &["8KiB to 1MiB"]),
        ("bad-value", "listeners: [{ name: a, address: \"[::]:1\", limits: { headerCount: «101» } }]", &["1 to 100"]),
        ("bad-value", "listeners: [{ name: a, address: \"[::]:1\", limits: { targetBytes: «64KiB» } }]", &["headerBytes"]),
    ];
    check(listeners, "", Severity::Error);
    let upstreams: &[Row] = &[
        ("bad-address", "upstreams: { «a»: \"http://a:0\" }", &["`0` is out of range 1 to 65535"]),
        ("bad-address", "upstreams: { a: { endpoints: [«\"http://a:70000\"»] } }", &["`70000` is out of range"]),
        ("bad-address", "upstreams: { «a»: \"tcp://a\" }", &["not an http:// or https:// address"]),
        ("bad-address", "upstreams: { «a»: 5 }", &["not an http:// or https:// address"]),
        ("bad-address", "upstreams: { «a»: \"http://a/x\" }", &["has a path"]),
        ("bad-address", "upstreams: { «a»: \"http://u@a\" }", &["user information"]),
        ("unset-variable", "upstreams: { «a»: \"http://${HOST}\" }", &["`HOST` is not set"]),
        ("no-endpoint", "upstreams: { «a»: { endpoints: [] } }", &["has no endpoints"]),
        ("bad-value", "upstreams: { a: { endpoints: [{ url: «\"http://a\"», weight: 0 }] } }", &["1 to 10000"]),
        (
            "bad-value",
            "upstreams: { «a»: { endpoints: [\"http://a\"], connection: { maxIdle: 1000000 } } }",
            &["at most 4096"],
        ),
    ];
    let receivers: &[Row] = &[
        ("duplicate-name", "notify: [{ webhook: { url: \"http://a/\" } }, «{» webhook: { url: \"http://a/\", secretFile: s } }]", &["written twice"]),
        ("bad-address", "notify: [{ webhook: { url: «\"ftp://a/\"» } }]", &["no address"]),
        ("unset-variable", "notify: [{ webhook: { url: «\"http://a/${TOKEN}\"» } }]", &["`TOKEN` is not set"]),
        ("bad-value", "notify: [{ slack: { urlFile: «\"\"» } }]", &["no name"]),
    ];
    check(receivers, BASE, Severity::Error);
    check(upstreams, "listeners: [{ name: web, address: \"0.0.0.0:${PORT}\" }]\n", Severity::Error);
}

#[test]
#[rustfmt::skip]
fn pins_and_secrets() {
    let rows: &[Row] = &[
        ("bad-cookie", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [clientIP], pin: { cookie: «a b», keyFile: pin.key } } }]", &["not a cookie name"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [clientIP], pin: { cookie: «p», maxAge: 0s, keyFile: pin.key } } }]", &["1s to 30d"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [clientIP], pin: { cookie: «p», maxAge: 31d, keyFile: pin.key } } }]", &["1s to 30d"]),
        ("duplicate-name", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [{ cookie: p }], pin: { cookie: «p», keyFile: pin.key } } }]", &["a sticky key already", "of its own"]),
        ("duplicate-name", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [{ header: h }], issueCookie: { name: p }, pin: { cookie: «p», keyFile: pin.key } } }]", &["a sticky key already"]),
        ("unreadable-secret", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [clientIP], pin: { cookie: p, keyFile: «gone.txt» } } }]", &["`gone.txt` cannot be read: no such file", "relative"]),
        ("bad-key", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [clientIP], pin: { cookie: p, keyFile: «short.key» } } }]", &["`short.key` holds no key", "fewer than 16", "openssl"]),
        ("unreadable-secret", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { headers: [{ name: h, secretFile: «gone.txt» }] }, arm: stable, trusted: true }] }]", &["cannot be read"]),
        ("bad-secret", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { headers: [{ name: h, secretFile: «short.key» }] }, arm: stable, trusted: true }] }]", &["`short.key` does not hold 1 to 16 secrets", "16 bytes"]),
    ];
    check(rows, BASE, Severity::Error);
    let rows: &[Row] = &[
        ("pinned-rollout", "routes: [{ name: a, split: { stable: 1, canary: 0 }, sticky: { by: [clientIP], pin: «{» cookie: p, keyFile: pin.key } }, rollout: { version: v1 } }]", &["count for no test"]),
    ];
    check(rows, BASE, Severity::Warning);
    let secret = "routes: [{ name: a, split: { stable: 1, canary: 1 }, overrides: [{ name: o, when: { headers: [{ name: h, secretFile: pin.key }] }, arm: stable, trusted: true }] }]";
    assert_eq!(findings(&format!("{BASE}{secret}")), [], "a secret makes an override trusted");
}

#[test]
fn receivers_have_a_bound() {
    let list = |count: usize| -> String {
        (0..count).map(|at| format!("{{ webhook: {{ url: \"http://a/{at}\" }} }}, ")).collect()
    };
    assert_eq!(load(&format!("{BASE}notify: [{}]\n", list(16))).expect("16 receivers").plan.notify.len(), 16);
    let found = load(&format!("{BASE}notify: [{}]\n", list(17))).unwrap_err();
    let errors = found.iter().filter(|one| one.severity == Severity::Error);
    assert_eq!(errors.map(|one| one.code).collect::<Vec<_>>(), ["too-many"], "{found:?}");
}

#[test]
#[rustfmt::skip]
fn objectives() {
    let rows: &[Row] = &[
        ("cannot-decide", "routes: [{ name: a, split: { stable: 1 }, slo: { availability: «0%» } }]", &["promises nothing"]),
        ("cannot-decide", "routes: [{ name: a, split: { stable: 1 }, slo: { availability: «100%» } }]", &["leaves no budget", "99.9%"]),
        ("cannot-decide", "routes: [{ name: a, split: { stable: 1 }, slo: { latency: [{ threshold: 300ms, target: «100%» }] } }]", &["`target`"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, slo: { availability: «101%» } }]", &["between 0% and 100%"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, slo: { window: «59m» } }]", &["1h to 31d"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, slo: { window: «32d» } }]", &["1h to 31d"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, slo: { latency: [{ threshold: «333ms», target: 99% }] } }]", &["333ms", "325ms or 337ms 500us"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, slo: { latency: [{ threshold: «5m», target: 99% }] } }]", &["10us to 100s"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, slo: { latency: [{ threshold: «0», target: 99% }] } }]", &["10us to 100s"]),
        ("not-rising", "routes: [{ name: a, split: { stable: 1 }, slo: { latency: [{ threshold: 300ms, target: 99% }, { threshold: «300ms», target: 99.9% }] } }]", &["does not rise"]),
        ("not-rising", "routes: [{ name: a, split: { stable: 1 }, slo: { latency: [{ threshold: 1s, target: 99% }, { threshold: «300ms», target: 90% }] } }]", &["the shortest first"]),
        ("too-many", "routes: [{ name: a, split: { stable: 1 }, slo: { latency: [{ threshold: 1ms, target: 9% }, { threshold: 2ms, target: 9% }, { threshold: 3ms, target: 9% }, { threshold: 4ms, target: 9% }, «{» threshold: 5ms, target: 9% }] } }]", &["at most 4"]),
        ("unknown-key", "routes: [{ name: a, split: { stable: 1 }, slo: { «availabilty»: 99% } }]", &["`availability`?"]),
    ];
    check(rows, BASE, Severity::Error);
    let text = "routes: [{ name: a, split: { stable: 1, canary: 1 }, slo: { availability: 99.95%, latency: [{ threshold: 300ms, target: 99% }, { threshold: 337ms 500us, target: 99.5% }], window: 7d, freezeBelow: 10% } }]";
    let plan = load(&format!("{BASE}{text}")).unwrap_or_else(|found| panic!("{found:#?}")).plan;
    let told: Vec<_> = plan.routes[0].objectives.iter().map(|one| (one.name.as_str(), one.slower_than, one.target)).collect();
    assert_eq!(told, [("availability", None, 0.9995), ("latency_300ms", Some(300_000_000), 0.99), ("latency_337ms_500us", Some(337_500_000), 0.995)]);
    assert!(plan.routes[0].objectives.iter().all(|one| (one.window, one.freeze_below) == (7 * 86_400, 0.1)));
}

#[test]
#[rustfmt::skip]
fn mirrors() {
    let rows: &[Row] = &[
        ("unknown-upstream", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: «canery», percent: 5% } }]", &["canery", "canary"]),
        ("mirror-to-itself", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: «stable», percent: 5% } }]", &["already"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: «101%» } }]", &["between 0% and 100%"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, timeout: «0s» } }]", &["for ever"]),
        ("bad-mirror", "routes: [{ name: a, filters: [{ respond: { status: 200 } }], mirror: { to: «canary», percent: 5% } }]", &["nothing is forwarded"]),
        ("bad-method", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, methods: [GET, «any»] } }]", &["alone"]),
        ("bad-method", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, methods: [«CONNECT»] } }]", &["never mirrored"]),
        ("compare-streams", "routes: [{ name: a, split: { stable: 1 }, upgrades: [websocket], mirror: { to: canary, percent: 5%, compare: «[»status] } }]", &["streams"]),
        ("bad-compare", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, compare: [body, «json»] } }]", &["once"]),
        ("bad-compare", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, ignore: [«$.a»] } }]", &["nothing is compared"]),
        ("bad-compare", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, compare: [status], ignore: [«$.a»] } }]", &["JSON"]),
        ("bad-json-path", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, compare: [json], ignore: [«a.b»] } }]", &["$.requestId"]),
        ("over-budget", "budgets: { mirrorBytes: 1KiB }\nroutes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, maxBody: «2KiB» } }]", &["mirrorBytes"]),
        ("duplicate-mirror", "routes: [{ name: a, split: { stable: 1 }, mirror: [{ to: canary, percent: 5%, maxBody: 1KiB }, { to: «canary», percent: 1% }] }]", &["two mirrors"]),
        ("framing-header", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 5%, headers: { set: { «host»: x } } } }]", &["host"]),
    ];
    check(rows, BASE, Severity::Error);
    let rows: &[Row] = &[
        ("mirror-to-itself", "routes: [{ name: a, split: { stable: 1 }, mirror: { to: «me», percent: 5% } }]", &["listener `web`"]),
    ];
    check(rows, &BASE.replace("10.0.1.1", "127.0.0.1").replace("canary", "me"), Severity::Error);
    let text = "routes: [{ name: a, split: { stable: 1 }, mirror: { to: canary, percent: 10%, compare: [status, { header: content-type }, json], ignore: [\"$.items[*].id\"] } }]";
    let plan = load(&format!("{BASE}{text}")).unwrap_or_else(|found| panic!("{found:#?}")).plan;
    let [mirror] = &plan.routes[0].mirrors[..] else { panic!("one mirror") };
    assert_eq!((&*mirror.upstream.name, mirror.sample, mirror.max_body, mirror.timeout.as_secs()), ("canary", 100_000, 64 << 10, 2));
    let rules = mirror.compare.as_ref().expect("rules");
    assert_eq!((rules.status, rules.headers.len(), rules.ignore.len(), mirror.noise.len()), (true, 1, 1, 1));
}

#[test]
#[rustfmt::skip]
fn retries_and_rates() {
    let rows: &[Row] = &[
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, retry: { attempts: «6» } }]", &["0 to 5"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, retry: { when: [reset, «always»] } }]", &["`always`", "5xx"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, retry: { when: [«429»] } }]", &["`429`", "from 500 to 599"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, retry: { when: [«600»] } }]", &["`600`"]),
        ("over-budget", "budgets: { replayBytes: 1KiB }\nroutes: [{ name: a, split: { stable: 1 }, retry: { maxBody: «2KiB» } }]", &["replayBytes"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, rateLimit: { requests: «0» } }]", &["`requests`"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, rateLimit: { requests: 1, burst: «1000001» } }]", &["`burst`"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, rateLimit: { requests: 1, per: «0» } }]", &["`per`", "24h"]),
        ("bad-value", "routes: [{ name: a, split: { stable: 1 }, rateLimit: { requests: 1, per: «25h» } }]", &["`per`"]),
    ];
    check(rows, BASE, Severity::Error);
    let text = "routes: [{ name: a, split: { stable: 1 }, retry: { when: [500, 599], to: defaultArm }, rateLimit: { requests: 100, per: 10s, burst: 3 } }]";
    let plan = load(&format!("{BASE}{text}")).unwrap_or_else(|found| panic!("{found:#?}")).plan;
    let retry = plan.routes[0].retry;
    let again: Vec<u16> = (0..=u16::MAX).filter(|status| retry.again_after(*status)).collect();
    assert_eq!((again, retry.default_arm, retry.connect), (vec![500, 599], true, false));
    let rate = plan.routes[0].rate_limit.as_ref().expect("a limit").rate;
    assert_eq!((rate.interval, rate.tolerance), (100_000_000, 200_000_000));
}

#[test]
#[rustfmt::skip]
fn not_yet() {
    let rows = [
        ("state", "state: «{» etcd: {} }".to_owned()),
    ];
    for (says, marked) in rows {
        let (text, (line, column, _)) = unmark(&marked);
        let found = findings(&text);
        let finding = found.iter().find(|one| one.code == "not-yet").unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!((finding.place.line, finding.place.column), (line, column), "{text}");
        assert!(finding.message.contains(says) && finding.message.contains("not yet"), "{finding:?}");
    }
}

#[test]
fn an_upstream_without_weight_is_used_all_the_same() {
    let text = "routes: [{ name: a, split: { stable: 0, canary: 0 } }]";
    let codes: Vec<_> = findings(&format!("{BASE}{text}")).into_iter().map(|one| one.code).collect();
    assert_eq!(codes, ["no-weight"]);
}

#[test]
#[rustfmt::skip]
fn warnings_let_the_file_load() {
    let rows: &[Row] = &[
        ("no-weight", "routes: [{ name: «a», split: { stable: 0 } }]", &["503"]),
        ("expired-window", "routes: [{ name: a, split: { stable: 1 }, overrides: [{ name: o, when: { clientIP: [::1] }, arm: stable, activeUntil: «2020-01-01T00:00:00Z» }] }]", &["`o` has ended"]),
        ("unset-slot", "routes: [{ name: «a», split: { stable: 1, canary: 1, x: { weight: 1, upstream: canary } } }]", &["canary: 1, x: 2", "slot:"]),
        ("slots-collide", "routes: [{ name: «a», split: { stable: 1, canary: { weight: 8, slot: 1 }, x: { weight: 1, slot: 3, upstream: canary } } }]", &["grow into each other"]),
        ("duplicate-condition", "routes: [{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: h, value: 1 }, { name: «H», value: 2 }] }] }]", &["only the first counts"]),
        ("unreachable-key", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [clientIP, «{» header: h }] } }]", &["clientIP"]),
        ("unreachable-key", "routes: [{ name: a, split: { stable: 1 }, sticky: { by: [clientIP], issueCookie: { name: «c» } } }]", &["never issued"]),
        ("always-frozen", "routes: [{ name: a, split: { stable: 1 }, slo: { freezeBelow: «100%» } }]", &["one bad answer", "10%"]),
        ("no-bake", "routes: [{ name: a, split: { stable: 9, canary: 1 }, rollout: «{» version: v2, steps: [50, 100], bake: 0s } }]", &["bake: 10m"]),
        ("unused-upstream", "routes: [{ name: a, split: { stable: 1 } }] # «»", &[]),
        ("no-route", "", &["404"]),
    ];
    for (code, marked, says) in rows {
        let text = marked.replace(['«', '»'], "");
        let compiled = load(&format!("{BASE}{text}")).unwrap_or_else(|found| panic!("{text}: {found:#?}"));
        let found = compiled.warnings.iter().find(|one| one.code == *code);
        let found = found.unwrap_or_else(|| panic!("no {code}: {:#?}", compiled.warnings));
        assert_eq!(found.severity, Severity::Warning);
        assert!(
            says.iter().all(|part| format!("{} {}", found.message, found.hint).contains(part)),
            "{found:?}"
        );
    }
    let marked: Vec<Row> =
        rows.iter().filter(|row| row.1.contains('«') && !row.1.contains("«»")).copied().collect();
    check(&marked, BASE, Severity::Warning);
}

#[test]
#[rustfmt::skip]
fn routes_nobody_can_reach() {
    let dead = [
        "[{ name: a, split: { stable: 1 } }, { name: «b», split: { stable: 1 } }]",
        "[{ name: a, split: { stable: 1 }, priority: 5 }, { name: «b», split: { stable: 1 }, matches: [{ path: /x }] }]",
        "[{ name: a, split: { stable: 1 }, matches: [{ path: /x }] }, { name: «b», split: { stable: 1 }, matches: [{ path: /x/ }] }]",
        "[{ name: a, split: { stable: 1 }, matches: [{ headers: [{ name: h, value: 1 }, { name: i, value: 2 }] }] }, { name: «b», split: { stable: 1 }, matches: [{ headers: [{ name: i, value: 2 }, { name: h, value: 1 }] }] }]",
        "[{ name: a, hostnames: [x.test, y.test], split: { stable: 1 } }, { name: «b», hostnames: [Y.test], split: { stable: 1 } }]",
    ];
    for routes in dead {
        let (text, (line, column, _)) = unmark(&format!("{BASE}routes: {routes}"));
        let found = findings(&text);
        let finding = found.iter().find(|one| one.code == "unreachable-route");
        let finding = finding.unwrap_or_else(|| panic!("{text}\n{found:?}"));
        assert_eq!((finding.place.line, finding.place.column), (line, column), "{text}");
        assert!(finding.message.contains("route `b` can never be reached: route `a` takes"), "{finding:?}");
    }
    let alive = [
        "[{ name: a, split: { stable: 1 } }, { name: b, split: { stable: 1 }, matches: [{ path: /x }] }]",
        "[{ name: a, split: { stable: 1 } }, { name: b, split: { stable: 1 }, priority: 1 , matches: [{ path: /x }]}]",
        "[{ name: a, split: { stable: 1 }, matches: [{ method: GET }] }, { name: b, split: { stable: 1 } }]",
        "[{ name: a, split: { stable: 1 }, priority: 5, matches: [{ clientIP: [10.0.0.0/8] }] }, { name: b, split: { stable: 1 } }]",
        "[{ name: a, split: { stable: 1 }, matches: [{ path: /x }, { path: /y }] }, { name: b, split: { stable: 1 }, matches: [{ path: /x }, { path: /z }] }]",
        "[{ name: a, split: { stable: 1 }, hostnames: [x.test] }, { name: b, split: { stable: 1 }, hostnames: [\"*.test\"] }]",
    ];
    for routes in alive {
        let text = format!("{BASE}routes: {routes}");
        assert!(load(&text).is_ok(), "{text}\n{:?}", load(&text).unwrap_err());
    }
}

#[test]
fn all_errors_of_meaning_come_at_once_in_file_order() {
    let text = format!(
        "{BASE}\
workers: 5000
routes:
  - name: a
    hostnames: [\"*\"]
    matches: [{{ path: x }}, {{ method: get }}]
    filters: [{{ respond: {{ status: 100 }} }}, {{ redirect: {{ status: 200, hostname: \"a b\" }} }}]
  - name: a
    split: {{ stabel: 1 }}
    defaultArm: x
    sticky: {{ by: [{{ header: \"a b\" }}] }}
    overrides:
      - {{ name: o, when: {{ headers: [{{ name: \"a b\", value: x }}] }}, split: {{ p: 1, q: 1 }} }}
    retry: {{ attempts: 6, when: [always] }}
  - name: c
    sticky: {{ by: [] }}
"
    );
    let found = findings(&text);
    let codes: Vec<(u32, &str)> = found
        .iter()
        .filter(|one| one.severity == Severity::Error)
        .map(|one| (one.place.line, one.code))
        .collect();
    assert_eq!(
        codes,
        [
            (3, "bad-value"),
            (6, "bad-hostname"),
            (7, "bad-path"),
            (7, "bad-method"),
            (8, "bad-status"),
            (8, "two-answers"),
            (8, "bad-status"),
            (8, "bad-hostname"),
            (9, "duplicate-name"),
            (10, "unknown-upstream"),
            (11, "unknown-arm"),
            (12, "bad-header"),
            (14, "bad-header"),
            (14, "unknown-arm"),
            (14, "unknown-arm"),
            (15, "bad-value"),
            (15, "bad-value"),
            (16, "no-split"),
            (17, "empty-sticky"),
        ],
        "{found:#?}"
    );
}

#[test]
#[rustfmt::skip]
fn documents_have_bounds() {
    let bomb = "routes: &a [{ name: x, hostnames: &h [a,a,a,a,a,a,a,a,a,a] }]\n".to_owned()
        + "upstreams:\n"
        + &(0..40_000).map(|n| format!("  u{n}: {{ endpoints: *h }}\n")).collect::<String>();
    let nested = format!("routes: {}{}", "[".repeat(80), "]".repeat(80));
    let deep: String = (0..100).map(|n| format!("{}a:\n", " ".repeat(n))).collect();
    let large = format!("# {}\n{BASE}", "x".repeat(5 << 20));
    let laughs = "&a [x,x,x,x,x,x,x,x,x], &b [*a,*a,*a,*a,*a,*a,*a,*a,*a], &c [*b,*b,*b,*b,*b,*b,*b,*b,*b], \
        &d [*c,*c,*c,*c,*c,*c,*c,*c,*c], &e [*d,*d,*d,*d,*d,*d,*d,*d,*d], &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]";
    let skipped = format!("{BASE}state: [{laughs}]\n");
    let billion = "a: &a [x,x,x,x,x,x,x,x,x]\nroutes: [*a]\nupstreams: *a\n";
    for (text, codes) in [
        (bomb.as_str(), &["over-budget"][..]),
        (&nested, &["over-budget", "bad-value"]),
        (&deep, &["over-budget", "unknown-key"]),
        (&large, &["too-large"]),
        (&skipped, &["over-budget"]),
        (billion, &["unknown-key"]),
        ("", &["empty"]),
        (" \n\t\n", &["empty"]),
    ] {
        let found = load(text).unwrap_err();
        assert_eq!(found.len(), 1);
        assert!(codes.contains(&found[0].code), "{:?}", found[0]);
        assert!(!found[0].message.contains("budget"), "{:?}", found[0]);
    }
}

#[test]
fn several_files_are_one_configuration() {
    let load = |files: &[(&str, &str)]| load_files(files, &Overlay::default(), &Book::new(1, 64), None);
    let route = "routes: [{ name: b, split: { stable: 1, canary: 1 }, matches: [{ path: /b }] }]";
    let other = "routes: [{ name: c, split: { stable: 1 } }]";
    let plan = load(&[("1.yaml", BASE), ("2.yaml", route), ("3.yaml", other)]).unwrap().plan;
    assert_eq!(plan.routes.iter().map(|one| &*one.name).collect::<Vec<_>>(), ["b", "c"]);

    let again = "upstreams: { stable: \"http://a\" }\nlisteners: [{ name: web, address: \"[::]:2\" }]\n\
                 routes: [{ name: b, split: { stable: 1 } }]\nworkers: 2";
    let found =
        load(&[("1.yaml", &format!("{BASE}workers: 1")), ("2.yaml", route), ("3.yaml", again)]).unwrap_err();
    let places: Vec<_> = found.iter().map(|one| (&*one.place.file, one.place.line, one.code)).collect();
    assert_eq!(
        places,
        [
            ("3.yaml", 1, "duplicate-name"),
            ("3.yaml", 2, "duplicate-name"),
            ("3.yaml", 3, "duplicate-name"),
            ("3.yaml", 4, "duplicate-block"),
        ]
    );
    assert_eq!(load(&[("1.yaml", BASE), ("2.yaml", "x")]).unwrap_err()[0].place.file, "2.yaml");
}

#[test]
fn findings_are_drawn_with_line_caret_and_hint() {
    let text = format!(
        "{BASE}routes: [{{ name: all, split: {{ stable: 95, canery: 5 }}, whenUnavailable: fail }}]\n"
    );
    let found = findings(&text);
    let error: Vec<_> = found.into_iter().filter(|one| one.severity == Severity::Error).collect();
    let source = Source { name: "a.yaml".into(), text };
    assert_eq!(
        render(&error, &[source], false),
        "\
error[unknown-upstream]: there is no upstream `canery` for arm `canery`
 --> a.yaml:3:44
  |
3 | routes: [{ name: all, split: { stable: 95, canery: 5 }, whenUnavailable: fail }]
  |                                            ^^^^^^
  |
  = help: did you mean `canary`?"
    );
    let found = load("").unwrap_err();
    let source = Source { name: "a.yaml".into(), text: String::new() };
    assert_eq!(
        render(&found, &[source], false),
        "\
error[empty]: the file is empty
 --> a.yaml:1:1
  |
1 |
  | ^
  |
  = help: a half-written file looks like this; write at least listeners, upstreams and routes"
    );
}
