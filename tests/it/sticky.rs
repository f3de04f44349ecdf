//! What identifies a user, and the hash every language can compute.
//!
//! A row says where the key is; the arm is predicted with an independent copy of the published
//! formula, so a key read from the wrong place or hashed another way fails at once. Nothing here
//! may depend on which users happen to be drawn.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::crowd::{self, ask_with};
use crate::support::tools::run;
use crate::support::{Origin, Proxy, Request, ask, bucket, get, needs, share_is, upstreams, users};

/// The share of the canary in this file, and the buckets it therefore owns from 0 up.
const CANARY_BUCKETS: u16 = 3_000;

fn start(origins: &[&Origin], sticky: &str) -> Proxy {
    Proxy::start(&format!(
        "trustedProxies: [127.0.0.0/8]\n{}\
         routes: [{{ name: all, split: {{ stable: 70, canary: 30 }}, sticky: {sticky} }}]\n",
        upstreams(origins)
    ))
}

fn predicted(salt: &str, key: &str) -> &'static str {
    if bucket(salt, key) < CANARY_BUCKETS { "canary" } else { "stable" }
}

#[test]
fn a_key_is_read_from_the_first_place_that_has_one() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(
        &[&stable, &canary],
        "{ by: [{ header: x-user-id }, { cookie: uid }, { query: user }], salt: pepper }",
    );
    // Where the key is, and a request that also carries decoys further down the list.
    let places: [(&str, fn(&str) -> Request); 7] = [
        ("header", |key| get("/").header("x-user-id", key)),
        ("header in another case", |key| get("/").header("X-USER-ID", key)),
        ("cookie", |key| get("/").header("cookie", &format!("a=1; uid={key}; z=2"))),
        ("query", |key| get(&format!("/page?x=1&user={key}"))),
        ("header before cookie", |key| get("/").header("cookie", "uid=decoy").header("x-user-id", key)),
        ("cookie before query", |key| get("/?user=decoy").header("cookie", &format!("uid={key}"))),
        ("a cookie of a longer name is another cookie", |key| {
            get("/").header("cookie", &format!("xuid=decoy; uid={key}"))
        }),
    ];
    let users = users(200);
    for (place, request) in places {
        let arms = ask(proxy.web(), users.len(), |index| request(&users[index]));
        for (user, arm) in users.iter().zip(&arms) {
            assert_eq!(arm, predicted("pepper", user), "{user} by {place}");
        }
    }
    let sent = users.len() * places.len();
    proxy.settles("switchback_choices_total", &[("reason", "sticky")], sent as u64);
}

#[test]
fn the_salt_is_the_route_name_unless_written() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "{ by: [{ header: x-user-id }] }");
    let users = users(300);
    let arms = ask(proxy.web(), users.len(), |index| get("/").header("x-user-id", &users[index]));
    for (user, arm) in users.iter().zip(&arms) {
        assert_eq!(arm, predicted("all", user), "{user}");
    }
}

#[test]
fn a_client_address_is_a_key_behind_trusted_proxies() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "{ by: [clientIP] }");
    let address = |index: usize| format!("203.0.{}.{}", index / 250, index % 250 + 1);
    let count = 1_000;

    let arms = |decoy: &'static str| {
        ask(proxy.web(), count, |index| {
            get("/").header("x-forwarded-for", &format!("{decoy}{}", address(index)))
        })
    };
    let before = arms("");
    share_is("canary", crowd::count(&before, "canary"), count, 0.3, 4.0);
    assert_eq!(arms(""), before, "the same address again");
    // Only the last untrusted address is the client; what it claims about others is not believed.
    assert_eq!(arms("198.51.100.7, "), before, "with a spoofed address in front");
}

#[test]
fn a_client_without_a_key_is_drawn_at_random_and_counted_so() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(&[&stable, &canary], "{ by: [{ header: x-user-id }] }");
    let count = 2_000;

    let arms = ask(proxy.web(), count, |_| get("/"));

    share_is("canary", crowd::count(&arms, "canary"), count, 0.3, 5.0);
    let metrics = proxy.settles("switchback_choices_total", &[("reason", "random")], count as u64);
    assert_eq!(metrics.count("switchback_choices_total", &[("reason", "sticky")]), 0);
}

#[test]
fn an_issued_cookie_keeps_a_client_together_but_pins_no_arm() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = start(
        &[&stable, &canary],
        "{ by: [{ header: x-user-id }], issueCookie: { name: sb_id, maxAge: 30d } }",
    );
    let issued = ask_with(
        proxy.web(),
        200,
        |_| get("/"),
        |response| {
            let cookie = response.joined("set-cookie").expect("a cookie for a client without a key");
            (response.origin().to_owned(), cookie)
        },
    );
    let ids: Vec<_> = issued.iter().map(|(_, cookie)| cookie_value(cookie, "sb_id")).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len(), "every client has its own id");
    let attributes = issued[0].1.to_ascii_lowercase();
    for attribute in ["max-age=2592000", "path=/", "httponly"] {
        assert!(attributes.contains(attribute), "{attribute} in {attributes}");
    }

    let back = |index: usize| get("/").header("cookie", &format!("sb_id={}", ids[index]));
    let again = ask_with(proxy.web(), ids.len(), back, |response| {
        assert_eq!(response.header("set-cookie"), None, "an id is issued once");
        response.origin().to_owned()
    });
    let first: Vec<_> = issued.iter().map(|(arm, _)| arm.clone()).collect();
    assert_eq!(again, first, "every client stays");
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 2, "both arms have clients");
    assert_eq!(proxy.ask(&get("/").header("x-user-id", "u1")).header("set-cookie"), None);

    proxy.weights("all", &[("stable", 0), ("canary", 100)]);
    let moved = ask(proxy.web(), ids.len(), back);
    assert_eq!(crowd::count(&moved, "canary"), ids.len(), "the cookie holds no arm");
}

fn cookie_value(cookie: &str, name: &str) -> String {
    let pair = cookie.split(';').next().unwrap_or_default();
    let (known, value) = pair.split_once('=').expect("name=value");
    assert_eq!(known, name);
    value.to_owned()
}

#[test]
fn the_published_vectors_hold_for_python_and_for_the_proxy() {
    needs!("python3");
    let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/config/README.md");
    let vectors = vectors(&std::fs::read_to_string(readme).expect("config/README.md"));
    assert_eq!(vectors.len(), 20, "twenty vectors are published");

    let input: String =
        vectors.iter().map(|(salt, key, _)| format!("{}\n", serde_json::json!([salt, key]))).collect();
    let script = include_str!("support/bucket.py");
    let python = run(Command::new("python3").arg("-c").arg(script), input.as_bytes());
    assert_eq!(python.code, Some(0), "{}", python.err);
    let computed: Vec<u16> = python.out.lines().map(|line| line.parse().expect("a bucket")).collect();
    let published: Vec<_> = vectors.iter().map(|(_, _, bucket)| *bucket).collect();
    assert_eq!(computed, published, "python agrees with config/README.md");

    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let salts: BTreeSet<_> = vectors.iter().map(|(salt, _, _)| salt).collect();
    let routes: String = salts
        .iter()
        .enumerate()
        .map(|(index, salt)| {
            format!(
                "  - {{ name: r{index}, hostnames: [r{index}.test], split: {{ stable: 1, canary: 1 }}, \
                 sticky: {{ by: [{{ header: x-user-id }}], salt: {salt:?} }} }}\n"
            )
        })
        .collect();
    let proxy = Proxy::start(&format!("{}routes:\n{routes}", upstreams(&[&stable, &canary])));
    // Keys that a header cannot carry are covered by Python alone.
    let sendable = |key: &str| !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_graphic());
    let mut asked = 0;
    for (salt, key, published) in vectors.iter().filter(|(_, key, _)| sendable(key)) {
        let index = salts.iter().position(|known| *known == salt).expect("a route per salt");
        let request = get("/").host(&format!("r{index}.test")).header("x-user-id", key);
        assert_eq!(proxy.explain(&request)["bucket"], *published, "{salt:?} {key:?}");
        asked += 1;
    }
    assert!(asked >= 10, "only {asked} vectors could be sent as a header");
}

/// Rows of the `| salt | key | bucket |` table; cells are written as code.
fn vectors(readme: &str) -> Vec<(String, String, u16)> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    readme
        .lines()
        .filter_map(|line| {
            let mut cells = line.trim().strip_prefix('|')?.strip_suffix('|')?.split('|').map(cell);
            let (salt, key, bucket) = (cells.next()?, cells.next()?, cells.next()?);
            Some((salt, key, bucket.parse().ok()?))
        })
        .collect()
}
