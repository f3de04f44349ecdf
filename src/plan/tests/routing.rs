//! The tables of the router give what a scan over every match in rank order gives.

#![allow(clippy::format_push_string)]

use std::cmp::Reverse;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use proptest::prelude::*;
use proptest::sample::select;

use super::plan;
use crate::model::{RequestHead, UnroutedReason};
use crate::plan::rank::{PathRank, Rank};
use crate::plan::router::{HostPattern, MatchRule, PathPattern, Router};
use crate::split::{Condition, Subject, Test};

#[derive(Clone, Debug)]
struct Asked {
    listener: usize,
    method: Method,
    host: &'static str,
    path: String,
    query: Option<&'static str>,
    headers: Vec<&'static str>,
    client: [u8; 4],
}

/// What the router must be equal to: every match, best first, asked one by one.
fn scan(rules: &[MatchRule], head: &RequestHead<'_>) -> Result<(u32, Reverse<usize>), UnroutedReason> {
    let mut sorted: Vec<&MatchRule> = rules.iter().collect();
    sorted.sort_by_key(|rule| Reverse(rule.rank));
    let serves = |rule: &&&MatchRule| match &rule.host {
        HostPattern::Any => true,
        HostPattern::Exact(host) => **host == *head.host,
        HostPattern::Wildcard(suffix) => {
            head.host.strip_suffix(&**suffix).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        }
    };
    let path = |rule: &MatchRule| match &rule.path {
        PathPattern::Exact(path) => **path == *head.path,
        PathPattern::Regex(regex) => regex.is_match(head.path),
        PathPattern::Prefix(prefix) => {
            let rest = head.path.strip_prefix(&**prefix);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let here: Vec<_> = sorted.iter().filter(serves).collect();
    let holds = |rule: &MatchRule| {
        rule.method.as_ref().is_none_or(|method| *method == *head.method)
            && rule.conditions.iter().all(|one| one.holds(head))
            && (rule.networks.is_empty() || rule.networks.iter().any(|net| net.contains(&head.client_ip)))
            && rule.listeners & (1 << head.listener) != 0
    };
    let found = here.iter().find(|rule| path(rule) && holds(rule));
    match found {
        Some(rule) => Ok((rule.route, rule.rank.order)),
        None if here.is_empty() => Err(UnroutedReason::Host),
        None => Err(UnroutedReason::Match),
    }
}

fn hosts() -> impl Strategy<Value = HostPattern> {
    prop_oneof![
        Just(HostPattern::Any),
        select(vec!["test", "a.test", "b.a.test"]).prop_map(|name| HostPattern::Wildcard(name.into())),
        select(vec!["test", "a.test", "b.a.test", "c.b.a.test"])
            .prop_map(|name| HostPattern::Exact(name.into())),
    ]
}

fn text_path() -> impl Strategy<Value = String> {
    (prop::collection::vec(select(vec!["a", "b", "ab", ""]), 0..4), any::<bool>())
        .prop_map(|(parts, slash)| format!("/{}{}", parts.join("/"), if slash { "/" } else { "" }))
}

fn paths() -> impl Strategy<Value = PathPattern> {
    prop_oneof![
        4 => text_path().prop_map(|path| PathPattern::Prefix(path.trim_end_matches('/').into())),
        2 => text_path().prop_map(|path| PathPattern::Exact(path.into())),
        1 => select(vec!["/a.*", "/.*b", "/a/[ab]+", ".*"])
            .prop_map(|text| PathPattern::Regex(regex::Regex::new(&format!("^(?:{text})$")).unwrap())),
    ]
}

fn rule() -> impl Strategy<Value = MatchRule> {
    let network = prop::option::weighted(0.2, select(vec!["10.0.0.0/8", "10.1.0.0/16", "::/0"]));
    let query = prop::option::weighted(0.2, Just("q"));
    (
        (hosts(), paths(), prop::option::of(select(vec![Method::GET, Method::POST]))),
        prop::collection::btree_set(select(vec!["x-a", "x-b"]), 0..3),
        (query, network, -1_i32..=1, select(vec![u64::MAX, 1, 2])),
    )
        .prop_map(|((host, path, method), headers, (query, network, priority, listeners))| {
            let present = |subject| Condition { subject, tests: Box::new([Test::Present]) };
            let named = headers.iter().map(|name| Subject::Header(HeaderName::from_static(name)));
            let asked = query.map(|name| Subject::Query(name.as_bytes().into()));
            let rank = Rank {
                priority,
                host: host.rank(),
                path: path.rank(),
                method: method.is_some(),
                headers: headers.len() + usize::from(network.is_some()),
                query: asked.iter().len(),
                order: Reverse(0),
            };
            let networks = network.iter().map(|text| text.parse().unwrap()).collect();
            let conditions = named.chain(asked).map(present).collect();
            MatchRule { route: 0, host, path, method, conditions, networks, listeners, rank }
        })
}

fn asked() -> impl Strategy<Value = Asked> {
    let host = select(vec![
        "test",
        "a.test",
        "b.a.test",
        "c.b.a.test",
        "d.c.b.a.test",
        "xtest",
        "other",
        "",
        ".test",
    ]);
    (
        (0_usize..2, select(vec![Method::GET, Method::POST, Method::PUT]), host),
        (text_path(), prop::option::of(select(vec!["q", "q=1", "p=1"]))),
        prop::collection::vec(select(vec!["x-a", "x-b"]), 0..3),
        select(vec![[10, 0, 0, 1], [10, 1, 0, 1], [192, 0, 2, 1]]),
    )
        .prop_map(|((listener, method, host), (path, query), headers, client)| Asked {
            listener,
            method,
            host,
            path,
            query,
            headers,
            client,
        })
}

impl Asked {
    fn with<R>(&self, ask: impl FnOnce(&RequestHead<'_>) -> R) -> R {
        let names = self.headers.iter().map(|name| HeaderName::from_static(name));
        let headers: HeaderMap = names.map(|name| (name, HeaderValue::from_static("1"))).collect();
        ask(&RequestHead {
            listener: self.listener,
            method: &self.method,
            host: self.host,
            path: &self.path,
            query: self.query,
            headers: &headers,
            client_ip: IpAddr::from(self.client),
        })
    }
}

/// Gives each rule a route and a place in the file.
fn numbered(mut rules: Vec<MatchRule>) -> Vec<MatchRule> {
    for (rule, order) in rules.iter_mut().zip(0_u32..) {
        rule.route = order / 2;
        rule.rank.order = Reverse(order as usize);
    }
    rules
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn routing_is_a_scan_in_rank_order(
        rules in prop::collection::vec(rule(), 0..40).prop_map(numbered),
        requests in prop::collection::vec(asked(), 30),
    ) {
        let expected: Vec<_> =
            requests.iter().map(|one| one.with(|head| scan(&rules, head))).collect();
        let router = Router::new(rules);
        for (one, expected) in requests.iter().zip(expected) {
            let found = one.with(|head| router.route(head).map(|routed| (routed.route, routed.rule.rank.order)));
            prop_assert_eq!(found.map(|(route, order)| (u32::try_from(route).unwrap(), order)), expected, "{:?}", one);
        }
    }
}

#[test]
fn ten_thousand_routes_are_each_found() {
    let mut text = super::BASE.to_owned() + "routes:\n";
    for n in 0..10_000 {
        let host = match n % 3 {
            0 => format!("h{n}.test"),
            1 => format!("\"*.w{n}.test\""),
            _ => "shared.test".to_owned(),
        };
        text += &format!(
            "- {{ name: r{n}, hostnames: [{host}], matches: [{{ path: /p{n}/x }}], split: {{ stable: 1, canary: 1 }} }}\n"
        );
    }
    let plan = plan(&text);
    for n in (0..10_000).step_by(7) {
        let (host, other) = match n % 3 {
            0 => (format!("h{n}.test"), UnroutedReason::Match),
            1 => (format!("deep.er.w{n}.test"), UnroutedReason::Match),
            _ => ("shared.test".to_owned(), UnroutedReason::Match),
        };
        let headers = HeaderMap::new();
        let head = |path| RequestHead {
            listener: 0,
            method: &Method::GET,
            host: &host,
            path,
            query: None,
            headers: &headers,
            client_ip: IpAddr::from([127, 0, 0, 1]),
        };
        let path = format!("/p{n}/x/y");
        let routed = plan.router.route(&head(&path)).unwrap();
        assert_eq!(&*plan.routes[routed.route].name, format!("r{n}"));
        assert_eq!(plan.router.route(&head("/p/x")).unwrap_err(), other);
        assert_eq!(
            plan.router.route(&RequestHead { host: "h.test", ..head(&path) }).unwrap_err(),
            UnroutedReason::Host
        );
    }
}

/// Precedence rows of Gateway API: of two matches that both hold, which wins and by what words.
#[test]
fn precedence() {
    let rows = [
        ("path: /a/b", "path: /a", "path prefix of 4 characters"),
        ("path: { exact: /a/b }", "path: /a/b", "exact path"),
        ("path: /a", "path: { regex: \"/a/.*\" }", "path prefix of 2 characters"),
        ("path: /a/b", "path: /a, method: GET, headers: [{ name: x, value: 1 }]", "path prefix of 4"),
        ("path: /a, method: GET", "path: /a, headers: [{ name: x, value: 1 }]", "method"),
        (
            "path: /a, headers: [{ name: x, value: 1 }, { name: y, value: 2 }]",
            "path: /a, headers: [{ name: x, value: 1 }], queryParams: [{ name: q, value: 1 }]",
            "2 header conditions",
        ),
        ("path: /a, queryParams: [{ name: q, value: 1 }]", "path: /a", "1 query condition"),
        ("path: /a, priority: 1", "path: { exact: /a/b }", "priority 1"),
        ("path: { regex: \"/a/.*\" }, priority: 1", "path: { exact: /a/b }", "priority 1"),
        ("path: { regex: \"/a/.*\" }", "path: { regex: \"/a/b\" }", "path regex"),
    ];
    let headers: HeaderMap = [("x", "1"), ("y", "2")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect();
    let head = RequestHead {
        listener: 0,
        method: &Method::GET,
        host: "a.test",
        path: "/a/b",
        query: Some("q=1"),
        headers: &headers,
        client_ip: IpAddr::from([127, 0, 0, 1]),
    };
    for (wins, loses, why) in rows {
        let route = |name: &str, rule: &str| {
            format!("{{ name: {name}, split: {{ stable: 1, canary: 1 }}, matches: [{{ {rule} }}] }}")
        };
        let (winner, loser) = (route("winner", wins), route("loser", loses));
        // List order decides only the last row, where nothing else does.
        let orders = if why == "path regex" {
            vec![(&winner, &loser)]
        } else {
            vec![(&winner, &loser), (&loser, &winner)]
        };
        for (first, second) in orders {
            let plan = plan(&format!("{}routes: [{first}, {second}]", super::BASE));
            let routed = plan.router.route(&head).unwrap();
            assert_eq!(&*plan.routes[routed.route].name, "winner", "{wins} over {loses}");
            assert!(routed.rule.rank.reason().contains(why), "{why} in {}", routed.rule.rank.reason());
        }
    }
    assert!(PathRank::Regex < PathRank::Prefix(0), "a regex ranks below every prefix");
}
