//! Tables of what differs, what is noise, and what is never shown.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use serde_json::{Value, json};

use super::tally::{LEAST_NOISE, MAX_PATHS, OTHER};
use super::*;
use crate::model::{BodyRule, CompareRules, Heard, Pair, PathStep};

fn heard(status: u16, body: &str) -> Heard {
    let body = Bytes::copy_from_slice(body.as_bytes());
    Heard { status, body, nanos: 5_000_000, failed: status >= 500, ..Heard::default() }
}

fn pair(noise: bool, primary: Heard, shadow: Heard) -> Pair {
    Pair {
        route: "all".into(),
        mirror: 0,
        request_id: HeaderValue::from_static("id-1"),
        method: Method::GET,
        path: "/cart?token=abc".into(),
        noise,
        primary,
        shadow,
        unix_millis: 7,
    }
}

/// `status`, `body`, `json` and names of headers; ignored places as steps between blanks.
fn rules(words: &[&str], ignore: &[&str]) -> CompareRules {
    let mut rules = CompareRules::default();
    let mut headers = Vec::new();
    for word in words {
        match *word {
            "status" => rules.status = true,
            "body" => rules.body = BodyRule::Bytes,
            "json" => rules.body = BodyRule::Json,
            name => headers.push(name.parse().expect("a header")),
        }
    }
    let step = |text: &str| match (text, text.parse()) {
        ("*", _) => PathStep::Any,
        (_, Ok(index)) => PathStep::Index(index),
        (key, _) => PathStep::Key(key.into()),
    };
    rules.ignore = ignore.iter().map(|path| path.split(' ').map(step).collect()).collect();
    rules.headers = headers.into();
    rules
}

/// Kinds and paths of what differs in two bodies.
fn found(words: &[&str], ignore: &[&str], one: &str, other: &str) -> Vec<(&'static str, String)> {
    let pair = pair(false, heard(200, one), heard(200, other));
    let compared = compare(&pair, &rules(words, ignore));
    compared.differences.into_iter().map(|one| (one.kind.label(), one.path)).collect()
}

#[test]
fn json_differs_by_place_and_kind() {
    type Row = (&'static str, &'static str, &'static [(&'static str, &'static str)]);
    let rows: [Row; 14] = [
        (r#"{"a":1,"b":[1,2]}"#, r#"{ "b": [1, 2], "a": 1.0 }"#, &[]),
        (r#"{"a":1}"#, r#"{"a":2}"#, &[("json-value", "$.a")]),
        (r#"{"a":1}"#, r#"{"a":"1"}"#, &[("json-type", "$.a")]),
        (r#"{"a":null}"#, "{}", &[("json-missing", "$.a")]),
        ("{}", r#"{"a":{"b":1}}"#, &[("json-extra", "$.a")]),
        (r#"{"l":[1,2,3]}"#, r#"{"l":[1,9,9]}"#, &[("json-value", "$.l[*]")]),
        (r#"{"l":[1,2]}"#, r#"{"l":[1,3,4]}"#, &[("length", "$.l"), ("json-value", "$.l[*]")]),
        (r#"{"l":[{"p":1},{"p":2}]}"#, r#"{"l":[{"p":1},{"p":3}]}"#, &[("json-value", "$.l[*].p")]),
        (r#"{"17":{"a":1}}"#, r#"{"17":{"a":2}}"#, &[("json-value", "$.*.a")]),
        (r#"{"a b":1}"#, r#"{"a b":2}"#, &[("json-value", r#"$["a b"]"#)]),
        ("[1]", "{}", &[("json-type", "$")]),
        ("1", "2", &[("json-value", "$")]),
        ("{", "{\"a\":1}", &[("body", "")]),
        ("plain", "plain!", &[("body", "")]),
    ];
    for (one, other, expected) in rows {
        let expected: Vec<_> = expected.iter().map(|(kind, path)| (*kind, (*path).to_owned())).collect();
        assert_eq!(found(&["json"], &[], one, other), expected, "{one} {other}");
    }
    assert_eq!(found(&["body"], &[], r#"{"a":1}"#, r#"{"a": 1}"#), [("body", String::new())]);
    assert_eq!(found(&["status"], &[], "1", "2"), []);
}

#[test]
fn ignored_places_are_ignored_with_all_below_them() {
    let one = r#"{"id":"x","user":{"seen":1,"name":"a"},"items":[{"at":1,"n":1}]}"#;
    let other = r#"{"id":"y","user":{"seen":2,"name":"b"},"items":[{"at":2,"n":2}]}"#;
    let paths = |ignore: &[&str]| -> Vec<String> {
        found(&["json"], ignore, one, other).into_iter().map(|(_, path)| path).collect()
    };
    assert_eq!(paths(&["id", "user", "items * at"]), ["$.items[*].n"]);
    assert_eq!(paths(&["* seen", "id", "items 0"]), ["$.user.name"]);
    assert_eq!(paths(&["nothing", "items 1"]).len(), 5);
}

#[test]
fn statuses_headers_and_what_cannot_be_read() {
    let rules = rules(&["status", "json", "content-type", "set-cookie"], &[]);
    let label = |one: Heard, other: Heard| {
        let compared = compare(&pair(false, one, other), &rules);
        let found = compared.differences.into_iter().map(|one| format!("{} {}", one.kind.label(), one.path));
        (found.collect::<Vec<_>>().join(", "), compared.body_unread)
    };
    let with = |name: &'static str, value: &'static str| Heard {
        headers: HeaderMap::from_iter([(
            http::HeaderName::from_static(name),
            HeaderValue::from_static(value),
        )]),
        ..heard(200, "{}")
    };
    let rows = [
        ((heard(200, "a"), heard(503, "b")), ("status 2xx -> 5xx", false)),
        ((heard(200, "1"), heard(204, "1")), ("", false)),
        ((heard(200, "a"), heard(0, "")), ("status 2xx -> none", false)),
        ((heard(200, "1"), Heard { grpc: Some(13), ..heard(200, "1") }), ("status grpc-status", false)),
        ((with("content-type", "a/b"), with("content-type", "a/c")), ("header content-type", false)),
        ((with("date", "1"), with("date", "2")), ("", false)),
        ((heard(200, "1"), Heard { cut: true, ..heard(200, "2") }), ("", true)),
        ((with("content-encoding", "gzip"), heard(200, "{}")), ("", true)),
    ];
    for ((one, other), (expected, unread)) in rows {
        let shown = format!("{one:?} {other:?}");
        assert_eq!(label(one, other), (expected.to_owned(), unread), "{shown}");
    }
}

#[test]
fn secrets_are_never_shown_and_values_are_short() {
    let one = json!({ "password": "hunter2", "user": { "accessToken": { "v": "hunter2" } }, "big": "x".repeat(9_999) });
    let other = json!({ "password": "hunter3", "user": { "accessToken": { "v": "hunter3" } }, "big": "y".repeat(9_999),
        "more": { "deep": [{ "api_key": "hunter4" }] } });
    let with = |body: &Value, cookie: &'static str| {
        let headers = HeaderMap::from_iter([(http::header::SET_COOKIE, HeaderValue::from_static(cookie))]);
        Heard { headers, ..heard(200, &body.to_string()) }
    };
    let pair = pair(false, with(&one, "hunter5"), with(&other, "hunter6"));
    let mut tally = Tally::default();
    tally.add(&pair, Some(&rules(&["set-cookie", "json"], &[])));
    let report = tally.report();
    let text = format!("{report:?}");
    assert_eq!((report.differing.len(), report.samples.len()), (5, 5), "{text}");
    assert!(!text.contains("hunter") && !text.contains("abc"), "{text}");
    assert!(report.samples.iter().all(|one| one.difference.primary.len() < 150), "{text}");
    assert!(text.contains("[redacted]") && text.contains("$.user.accessToken.v"), "{text}");
}

/// Every answer has an id and a time of its own, and version 1 another price for one user in fifty.
fn page(request: u64, answer: u64, version: u64) -> Heard {
    let price = if request.is_multiple_of(50) { 100 + version } else { 100 };
    let body = json!({
        "requestId": format!("{:x}", request * 7_919 + answer),
        "at": request * 1_000 + answer,
        "cart": { "items": [{ "price": price }] },
        // Once in two hundred two answers differ, whoever gives them.
        "cache": if answer == 1 && request.is_multiple_of(199) { "miss" } else { "hit" },
    });
    heard(200, &body.to_string())
}

/// The next number of a sequence without a pattern.
fn draw(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

#[test]
fn one_field_for_one_user_in_fifty_is_found_and_noise_is_not() {
    let rules = rules(&["status", "json"], &[]);
    let mut tally = Tally::default();
    let (mut random, mut found_at) = (12_345, None);
    for request in 0..6_000 {
        let noise = draw(&mut random).is_multiple_of(5);
        let version = u64::from(!noise);
        tally.add(&pair(noise, page(request, 0, 0), page(request, 1, version)), Some(&rules));
        let report = tally.report();
        let confirmed: Vec<&str> = report.confirmed().map(|one| one.path.as_str()).collect();
        if report.noise < LEAST_NOISE {
            assert_eq!(confirmed, Vec::<&str>::new());
        }
        assert!(confirmed.iter().all(|path| *path == "$.cart.items[*].price"), "{request}: {confirmed:?}");
        if confirmed.len() == 1 {
            found_at.get_or_insert(request);
        }
    }
    assert!(found_at.is_some_and(|at| at < 4_000), "{found_at:?}");
    let report = tally.report();
    let standing = |path: &str| report.differing.iter().find(|one| one.path == path).map(|one| one.standing);
    assert_eq!(standing("$.requestId"), Some(Standing::Noise));
    assert_eq!(standing("$.at"), Some(Standing::Noise));
    assert!(report.samples.iter().all(|one| one.difference.path != "$.at"), "noise is not shown");
    assert!(report.samples.iter().any(|one| {
        (&*one.difference.primary, &*one.difference.shadow, &*one.request_id, &*one.target)
            == ("100", "101", "id-1", "/cart")
    }));
}

/// Mirrored requests until a place that differs in one answer of so many is confirmed; the median.
fn confirmed_after(one_of: u64) -> u64 {
    let rules = rules(&["json"], &[]);
    let mut found: Vec<u64> = (0..11_u64)
        .map(|seed| {
            let (mut tally, mut random) = (Tally::default(), seed * 977 + 1);
            (1..20_000).find(|request| {
                let noise = draw(&mut random).is_multiple_of(5);
                let differs = draw(&mut random).is_multiple_of(one_of) && !noise;
                let shadow = heard(200, if differs { r#"{"a":2}"# } else { r#"{"a":1}"# });
                tally.add(&pair(noise, heard(200, r#"{"a":1}"#), shadow), Some(&rules));
                request % 10 == 0 && tally.report().confirmed().count() == 1
            })
        })
        .map(|at| at.expect("it is found"))
        .collect();
    found.sort_unstable();
    found[found.len() / 2]
}

/// As the reference says.
#[test]
fn how_many_requests_a_difference_takes() {
    let (always, fiftieth) = (confirmed_after(1), confirmed_after(50));
    assert!((150..400).contains(&always), "{always}");
    assert!((2_300..3_300).contains(&fiftieth), "{fiftieth}");
}

#[test]
fn a_difference_as_frequent_as_noise_is_never_confirmed() {
    let rules = rules(&["json"], &[]);
    // How often anything differs, whoever answers, in a thousand.
    for share in [1_u64, 5, 20, 100, 500, 1_000] {
        for seed in 0..20_u64 {
            let (mut tally, mut random) = (Tally::default(), seed * 977 + 1);
            for _ in 0..3_000 {
                let (noise, differs) =
                    (draw(&mut random).is_multiple_of(5), draw(&mut random) % 1_000 < share);
                let shadow = heard(200, if differs { r#"{"a":2}"# } else { r#"{"a":1}"# });
                tally.add(&pair(noise, heard(200, r#"{"a":1}"#), shadow), Some(&rules));
            }
            assert_eq!(tally.report().confirmed().count(), 0, "{share} {seed}");
        }
    }
}

#[test]
fn what_is_kept_does_not_grow_with_what_is_sent() {
    let rules = rules(&["json"], &[]);
    let mut tally = Tally::default();
    for at in 0..500_u64 {
        let shadow = format!(r#"{{"k{at}x":1}}"#);
        tally.add(&pair(false, heard(200, "{}"), heard(200, &shadow)), Some(&rules));
    }
    let report = tally.report();
    assert_eq!(report.differing.len(), MAX_PATHS + 1);
    let other = report.differing.iter().find(|one| one.path == OTHER).expect("other");
    assert_eq!(other.pairs, 500 - MAX_PATHS as u64);
    assert!(report.samples.len() <= (MAX_PATHS + 1) * 3);
    let wide: Vec<u64> = (0..50_000).collect();
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    for (one, other) in [(json!(wide).to_string(), "[9]".to_owned()), (deep.clone(), deep.replace('1', "2"))]
    {
        assert!(found(&["json"], &[], &one, &other).len() <= 2);
    }
}

#[test]
fn failures_and_latency_are_counted_in_pairs_without_noise() {
    let mut tally = Tally::default();
    let slow = |status: u16| Heard { nanos: 10_000_000, ..heard(status, "") };
    for (noise, one, other) in
        [(false, 200, 200), (false, 200, 500), (false, 500, 200), (false, 503, 500), (true, 200, 500)]
    {
        tally.add(&pair(noise, heard(one, ""), slow(other)), None);
    }
    let report = tally.report();
    assert_eq!(report.paired, Paired { both_good: 1, stable_bad: 1, shadow_bad: 1, both_bad: 1 });
    let quantile = |side: usize| report.latency[side].quantile(0.5).expect("a latency");
    assert!((5_000_000..=5_350_000).contains(&quantile(0)), "{}", quantile(0));
    assert!((10_000_000..=10_700_000).contains(&quantile(1)), "{}", quantile(1));
    assert_eq!(report.differing, []);
}
