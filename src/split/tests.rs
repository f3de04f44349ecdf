//! What a user notices of a decision: staying, moving only when it must be, being forced.

#![allow(clippy::type_complexity)]

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::ranges::widths;
use super::{
    ArmState, BUCKETS, Choice, Claim, Condition, IssueCookie, KeySource, Override, Ranges, Salt, Segment,
    Split, Subject, Test,
};
use crate::model::{ArmIx, ChoiceReason, RequestHead};

const STABLE: ArmIx = ArmIx(0);
const CANARY: ArmIx = ArmIx(1);
const THIRD: ArmIx = ArmIx(2);

/// Stable as the remainder, the others from slots 1 and 2.
fn ranges(weights: [u32; 3]) -> Ranges {
    let widths = widths(&weights, STABLE);
    let claims =
        [Claim { arm: CANARY, slot: 1, width: widths[1] }, Claim { arm: THIRD, slot: 2, width: widths[2] }];
    Ranges::lay_out(&claims, STABLE)
}

fn split(weights: [u32; 3]) -> Split {
    Split {
        salt: Salt::new("checkout"),
        keys: Box::new([KeySource::Header(HeaderName::from_static("x-user-id"))]),
        issue: None,
        pin: None,
        ranges: Some(ranges(weights)),
        overrides: Box::default(),
        arms: Box::new([ArmState::default(); 3]),
    }
}

/// Asks with headers and an entropy that fails the test when it is drawn unexpectedly.
fn choose(split: &Split, headers: &[(&'static str, &str)], now: i64, entropy: Option<u64>) -> Option<Choice> {
    let value = |text: &str| HeaderValue::try_from(text).unwrap();
    let headers: HeaderMap =
        headers.iter().map(|(name, text)| (HeaderName::from_static(name), value(text))).collect();
    let head = RequestHead {
        listener: 0,
        method: &Method::GET,
        host: "shop.test",
        path: "/",
        query: Some("user=q7"),
        headers: &headers,
        client_ip: IpAddr::from([192, 0, 2, 7]),
    };
    split.choose(&head, now, || entropy.expect("no entropy is needed"))
}

fn arm_of(split: &Split, user: &str) -> ArmIx {
    choose(split, &[("x-user-id", user)], 0, None).unwrap().arm
}

fn users(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("user-{number}")).collect()
}

#[test]
fn raising_an_arm_takes_users_only_from_the_remainder_and_lowering_gives_the_last_back() {
    let users = users(3_000);
    let mut before: Vec<ArmIx> = users.iter().map(|user| arm_of(&split([100, 0, 0]), user)).collect();
    for canary in 1..=100 {
        let now = split([100 - canary, canary, 0]);
        let after: Vec<ArmIx> = users.iter().map(|user| arm_of(&now, user)).collect();
        for (old, new) in before.iter().zip(&after) {
            assert!(old == new || (*old == STABLE && *new == CANARY), "at {canary} %");
        }
        before = after;
    }
    assert!(before.iter().all(|arm| *arm == CANARY), "100 % is everybody");
    let half: Vec<ArmIx> = users.iter().map(|user| arm_of(&split([50, 50, 0]), user)).collect();
    let again: Vec<ArmIx> = users.iter().map(|user| arm_of(&split([50, 50, 0]), user)).collect();
    assert_eq!(half, again);
}

#[test]
fn a_third_arm_that_grows_moves_nobody_between_the_others() {
    let users = users(3_000);
    let arms = |third| -> Vec<ArmIx> {
        users.iter().map(|user| arm_of(&split([90 - third, 10, third]), user)).collect()
    };
    let mut before = arms(0);
    for third in [1, 5, 10, 25, 50, 89, 90] {
        let after = arms(third);
        for (old, new) in before.iter().zip(&after) {
            assert!(old == new || (*old == STABLE && *new == THIRD));
        }
        before = after;
    }
    let gone = arms(0);
    assert!(before.iter().zip(&gone).all(|(old, new)| old == new || (*old == THIRD && *new == STABLE)));
}

/// Keys as they are met: an attacker's and a database's alike must not shift shares.
fn families() -> Vec<(&'static str, Box<dyn Fn(u32) -> String>)> {
    vec![
        ("sequential", Box::new(|n| n.to_string())),
        ("padded", Box::new(|n| format!("{n:012}"))),
        ("steps of 10000", Box::new(|n| (u64::from(n) * 10_000).to_string())),
        ("powers", Box::new(|n| (u64::from(n) << 32).to_string())),
        ("hexadecimal", Box::new(|n| format!("{n:032x}"))),
        ("uuid", Box::new(|n| format!("00000000-0000-4000-8000-{n:012x}"))),
        ("mail", Box::new(|n| format!("user{n}@example.com"))),
        ("address", Box::new(|n| format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255))),
        ("last byte", Box::new(|n| format!("appv{}{}", n / 2, n % 2 + 1))),
        (
            "first byte",
            Box::new(|n| format!("{}{}", char::from(b'a' + u8::try_from(n % 26).unwrap()), n / 26)),
        ),
        ("long", Box::new(|n| format!("{}{n}", "k".repeat(300)))),
        ("repeated", Box::new(|n| format!("{n}").repeat(4))),
    ]
}

#[test]
fn shares_hold_for_any_kind_of_key_and_salt() {
    const COUNT: u32 = 40_000;
    for (name, key) in families() {
        for salt in ["appv1", "appv2", "checkout", ""] {
            let hash = Salt::new(salt);
            for (first, width) in [(0, 500), (5_000, 2_500), (9_900, 100)] {
                let inside = |n: &u32| {
                    (first..first + width).contains(&super::bucket::bucket_of(hash.hash(key(*n).as_bytes())))
                };
                let hits = u32::try_from((0..COUNT).filter(inside).count()).unwrap();
                let share = f64::from(width) / f64::from(BUCKETS);
                let sigma = (f64::from(COUNT) * share * (1.0 - share)).sqrt();
                let off = (f64::from(hits) - f64::from(COUNT) * share) / sigma;
                // 144 drawings: one of them beyond 3 sigma is expected in every third run of other keys.
                assert!(off.abs() < 4.0, "{name} salt {salt:?} at {first}: {off:.2} sigma");
            }
        }
    }
}

#[test]
fn salts_are_independent_so_no_user_is_in_every_experiment() {
    let (a, b) = (Salt::new("checkout"), Salt::new("search"));
    let chosen = |salt: &Salt, user: &String| super::bucket::bucket_of(salt.hash(user.as_bytes())) < 1_000;
    let both = users(100_000).iter().filter(|user| chosen(&a, user) && chosen(&b, user)).count();
    assert!((900..1_100).contains(&both), "{both} of 1000");
}

#[test]
fn a_key_is_the_first_that_is_there_and_not_empty() {
    let mut split = split([50, 50, 0]);
    split.keys = Box::new([
        KeySource::Header(HeaderName::from_static("x-user-id")),
        KeySource::Cookie(b"uid"[..].into()),
        KeySource::Query(b"user"[..].into()),
        KeySource::ClientIp,
    ]);
    let hash = |key: &str| Some(Salt::new("checkout").hash(key.as_bytes()));
    let rows: [(&[(&'static str, &str)], &str); 5] = [
        (&[("x-user-id", "u1"), ("cookie", "uid=c1")], "u1"),
        (&[("x-user-id", ""), ("cookie", "a=b; uid=c1")], "c1"),
        (&[("cookie", "uid=")], "q7"),
        (&[("cookie", "uidx=c1")], "q7"),
        (&[], "q7"),
    ];
    for (headers, key) in rows {
        let choice = choose(&split, headers, 0, None).unwrap();
        assert_eq!((choice.key_hash, choice.reason), (hash(key), ChoiceReason::Sticky), "{key}");
    }
    split.keys = Box::new([KeySource::ClientIp]);
    assert_eq!(choose(&split, &[], 0, None).unwrap().key_hash, hash("192.0.2.7"));
}

#[test]
fn without_a_key_the_draw_decides_and_is_called_random() {
    let mut split = split([95, 5, 0]);
    let low = choose(&split, &[], 0, Some(0)).unwrap();
    assert_eq!((low.arm, low.reason, low.bucket, low.key_hash), (CANARY, ChoiceReason::Random, 0, None));
    let high = choose(&split, &[], 0, Some(u64::MAX)).unwrap();
    assert_eq!((high.arm, high.bucket), (STABLE, BUCKETS - 1));
    // The shortcut of a plain split and the long way agree.
    split.keys = Box::default();
    let mut long = split.clone();
    long.overrides = Box::new([rule("never", &[present("x-never")], Segment::Arm(THIRD))]);
    for draw in [0, 1 << 58, 1 << 60, 1 << 63, u64::MAX] {
        assert_eq!(choose(&split, &[], 0, Some(draw)), choose(&long, &[], 0, Some(draw)));
    }
}

#[test]
fn an_issued_id_is_the_key_of_the_next_request() {
    let mut split = split([50, 50, 0]);
    split.issue = Some(IssueCookie::new("sb_id", 60));
    split.keys = Box::new([
        KeySource::Header(HeaderName::from_static("x-user-id")),
        KeySource::Cookie(b"sb_id"[..].into()),
    ]);
    for draw in [1, 0x0123_4567_89ab_cdef, u64::MAX] {
        let first = choose(&split, &[], 0, Some(draw)).unwrap();
        let id = first.issue.expect("an id for a client without one");
        assert_eq!(first.reason, ChoiceReason::Sticky);
        let set = split.issue.as_ref().unwrap().header(id);
        let text = set.to_str().unwrap();
        assert_eq!(text.split_once("; ").unwrap().1, "Max-Age=60; Path=/; HttpOnly; SameSite=Lax");
        let cookie = text.split(';').next().unwrap();
        let next = choose(&split, &[("cookie", cookie)], 0, None).unwrap();
        assert_eq!(
            (next.arm, next.bucket, next.key_hash, next.issue),
            (first.arm, first.bucket, first.key_hash, None)
        );
    }
    assert_eq!(
        choose(&split, &[("x-user-id", "u")], 0, None).unwrap().issue,
        None,
        "a known client gets none"
    );
}

fn present(name: &'static str) -> Condition {
    Condition { subject: Subject::Header(HeaderName::from_static(name)), tests: Box::new([Test::Present]) }
}

fn rule(name: &str, conditions: &[Condition], segment: Segment) -> Override {
    Override {
        name: name.into(),
        owner: None,
        conditions: conditions.into(),
        networks: Box::default(),
        key_tests: Box::default(),
        active_from: None,
        active_until: None,
        segment,
        force: false,
        trusted: false,
    }
}

#[test]
fn the_first_override_that_holds_wins() {
    let mut split = split([100, 0, 0]);
    split.overrides = Box::new([
        rule("both", &[present("x-a"), present("x-b")], Segment::Arm(THIRD)),
        rule("a", &[present("x-a")], Segment::Arm(CANARY)),
        rule("any", &[], Segment::Arm(STABLE)),
    ]);
    let rows: [(&[(&'static str, &str)], ArmIx, u16); 4] = [
        (&[("x-a", "1"), ("x-b", "1")], THIRD, 0),
        (&[("x-a", "1")], CANARY, 1),
        (&[("x-b", "1")], STABLE, 2),
        (&[], STABLE, 2),
    ];
    for (headers, arm, rule) in rows {
        let headers = [headers, &[("x-user-id", "u")]].concat();
        let choice = choose(&split, &headers, 0, None).unwrap();
        assert_eq!((choice.arm, choice.rule, choice.reason), (arm, Some(rule), ChoiceReason::Override));
    }
}

#[test]
fn windows_include_their_start_and_exclude_their_end() {
    let mut split = split([100, 0, 0]);
    split.overrides = Box::new([Override {
        active_from: Some(100),
        active_until: Some(200),
        ..rule("w", &[], Segment::Arm(CANARY))
    }]);
    for (now, arm) in [(99, STABLE), (100, CANARY), (199, CANARY), (200, STABLE)] {
        assert_eq!(choose(&split, &[("x-user-id", "u")], now, None).unwrap().arm, arm, "{now}");
    }
}

#[test]
fn networks_and_key_tests_must_hold_too() {
    let mut split = split([100, 0, 0]);
    let networks = |text: &str| -> Box<[ipnet::IpNet]> { Box::new([text.parse().unwrap()]) };
    for (network, caught) in [("192.0.2.0/24", true), ("10.0.0.0/8", false), ("::/0", false)] {
        split.overrides =
            Box::new([Override { networks: networks(network), ..rule("n", &[], Segment::Arm(CANARY)) }]);
        assert_eq!(choose(&split, &[], 0, Some(0)).unwrap().rule.is_some(), caught, "{network}");
    }
    let tests = Box::new([Test::Prefix(b"beta-"[..].into())]);
    split.overrides = Box::new([Override { key_tests: tests, ..rule("k", &[], Segment::Arm(CANARY)) }]);
    assert_eq!(arm_of(&split, "beta-1"), CANARY);
    assert_eq!(arm_of(&split, "user-1"), STABLE);
    assert_eq!(choose(&split, &[], 0, Some(0)).unwrap().rule, None, "no key passes no test of it");
}

#[test]
fn a_segment_splits_its_users_by_the_same_buckets() {
    let mut split = split([100, 0, 0]);
    split.overrides = Box::new([rule("half", &[present("x-office")], Segment::Split(ranges([50, 50, 0])))]);
    let inside = users(2_000);
    let arms: Vec<ArmIx> = inside
        .iter()
        .map(|user| choose(&split, &[("x-user-id", user), ("x-office", "1")], 0, None).unwrap().arm)
        .collect();
    let canary = arms.iter().filter(|arm| **arm == CANARY).count();
    assert!((900..1_100).contains(&canary), "{canary}");
    for (user, arm) in inside.iter().zip(arms) {
        assert_eq!(arm, arm_of(&self::split([50, 50, 0]), user), "the same user, the same bucket");
        assert_eq!(arm_of(&split, user), STABLE, "outside the segment");
    }
}

#[test]
fn an_override_to_a_void_arm_is_void_unless_forced() {
    let mut split = split([100, 0, 0]);
    split.arms[CANARY.at()].void = true;
    let to_canary = rule("qa", &[], Segment::Arm(CANARY));
    split.overrides = Box::new([to_canary.clone(), rule("next", &[], Segment::Arm(THIRD))]);
    let choice = choose(&split, &[("x-user-id", "u")], 0, None).unwrap();
    assert_eq!((choice.arm, choice.rule), (THIRD, Some(1)), "the next rule is asked");
    split.overrides = Box::new([to_canary.clone()]);
    let choice = choose(&split, &[("x-user-id", "u")], 0, None).unwrap();
    assert_eq!((choice.arm, choice.reason), (STABLE, ChoiceReason::Sticky));
    split.overrides = Box::new([Override { force: true, ..to_canary }]);
    assert_eq!(arm_of(&split, "u"), CANARY);
}

#[test]
fn without_weight_only_an_override_speaks() {
    let mut split = split([100, 0, 0]);
    split.ranges = None;
    assert_eq!(choose(&split, &[("x-user-id", "u")], 0, None), None);
    assert_eq!(choose(&split, &[], 0, Some(1)), None);
    split.overrides = Box::new([rule("qa", &[present("x-qa")], Segment::Arm(CANARY))]);
    assert_eq!(choose(&split, &[("x-user-id", "u"), ("x-qa", "1")], 0, None).unwrap().arm, CANARY);
    assert_eq!(choose(&split, &[("x-user-id", "u")], 0, None), None);
}
