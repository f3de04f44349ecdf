//! What a pin holds against: other routes, other arms, other times, other keys, changed bytes.

use std::net::IpAddr;

use http::Method;

use super::*;

const CURRENT: &str = "the-current-key-of-this-test";
const PREVIOUS: &str = "the-key-that-was-before-it";
const STABLE: ArmIx = ArmIx(1);
const CANARY: ArmIx = ArmIx(0);

fn arms() -> [PinArm; 2] {
    ["canary", "stable"].map(|name| PinArm { name: name.into(), epoch: 7, open: true })
}

fn pin_of(route: &str, keys: &str, arms: [PinArm; 2]) -> Pin {
    Pin::new("sb_arm", 3_600, route, PinKeys::from_lines(keys).unwrap(), arms)
}

fn pin() -> Pin {
    pin_of("shop", CURRENT, arms())
}

/// The value of the cookie given to a client at 1,000 s.
fn token(pin: &Pin, arm: ArmIx) -> String {
    let set = pin.header(arm, 1_000, 1_000, false).unwrap();
    let pair = set.to_str().unwrap().split(';').next().unwrap().to_owned();
    pair.strip_prefix("sb_arm=").unwrap().to_owned()
}

fn read_lines(pin: &Pin, lines: &[String], now: i64) -> Option<Pinned> {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(COOKIE, HeaderValue::try_from(line).unwrap());
    }
    let head = RequestHead {
        listener: 0,
        method: &Method::GET,
        host: "shop.test",
        path: "/",
        query: None,
        headers: &headers,
        client_ip: IpAddr::from([192, 0, 2, 7]),
    };
    pin.read(&head, now)
}

fn read(pin: &Pin, token: &str, now: i64) -> Option<Pinned> {
    read_lines(pin, &[format!("a=1; sb_arm={token}; b=2")], now)
}

#[test]
fn a_pin_names_its_arm_until_it_is_over() {
    let pin = pin();
    for arm in [STABLE, CANARY] {
        let token = token(&pin, arm);
        assert_eq!(token.len(), LENGTH);
        // Before it was given by more than clocks may differ; the moments around its ends.
        let rows = [(939, false), (940, true), (1_000, true), (4_599, true), (4_600, false), (-1, false)];
        for (now, holds) in rows {
            let expected = holds.then_some(Pinned { arm, again: None });
            assert_eq!(read(&pin, &token, now), expected, "{now}");
        }
    }
}

#[test]
fn a_pin_is_worth_nothing_elsewhere() {
    let token = token(&pin(), CANARY);
    let mut void = arms();
    void[0].epoch = 8;
    let mut closed = arms();
    closed[0].open = false;
    let swapped = arms().map(|arm| PinArm { name: format!("{}x", arm.name).into(), ..arm });
    let rows = [
        ("another route", pin_of("search", CURRENT, arms())),
        ("another key", pin_of("shop", PREVIOUS, arms())),
        ("another epoch", pin_of("shop", CURRENT, void)),
        ("an arm without pins", pin_of("shop", CURRENT, closed)),
        ("other arms", pin_of("shop", CURRENT, swapped)),
    ];
    for (what, pin) in rows {
        assert_eq!(read(&pin, &token, 1_001), None, "{what}");
    }
    // Neither can the parts of two routes' names and arms be moved across their border.
    let [canary, stable] = arms();
    let moved = Pin::new(
        "sb_arm",
        3_600,
        "shopc",
        PinKeys::from_lines(CURRENT).unwrap(),
        [PinArm { name: "anary".into(), ..canary }, stable],
    );
    assert_eq!(read(&moved, &token, 1_001), None);
}

#[test]
fn changed_and_cut_pins_are_none() {
    let pin = pin();
    let token = token(&pin, CANARY);
    for at in 0..token.len() {
        for bit in 0..7 {
            let mut bytes = token.clone().into_bytes();
            bytes[at] ^= 1 << bit;
            if bytes[at].is_ascii_graphic() && !matches!(bytes[at], b';' | b'"') {
                let changed = String::from_utf8(bytes).unwrap();
                assert_eq!(read(&pin, &changed, 1_001), None, "byte {at} bit {bit}: {changed}");
            }
        }
        assert_eq!(read(&pin, &token[..at], 1_001), None, "cut at {at}");
    }
    for wrong in [format!("{token}00"), token.to_uppercase(), format!("+{}", &token[1..]), "canary".into()] {
        assert_eq!(read(&pin, &wrong, 1_001), None, "{wrong}");
    }
}

#[test]
fn the_previous_key_reads_and_asks_for_another_signature() {
    let old = token(&pin_of("shop", PREVIOUS, arms()), CANARY);
    let both = pin_of("shop", &format!("{CURRENT}\n\n {PREVIOUS} \n"), arms());
    assert_eq!(read(&both, &old, 1_500), Some(Pinned { arm: CANARY, again: Some(1_000) }));
    let again = both.header(CANARY, 1_000, 1_500, true).unwrap();
    let text = again.to_str().unwrap();
    // It lasts no longer for it.
    assert!(text.ends_with("; Max-Age=3100; Path=/; HttpOnly; SameSite=Lax; Secure"), "{text}");
    let signed = &text["sb_arm=".len()..][..LENGTH];
    assert_eq!(read(&pin(), signed, 1_500), Some(Pinned { arm: CANARY, again: None }));
    assert_eq!(both.header(CANARY, 1_000, 4_600, false), None, "nothing is left of it");
}

#[test]
fn keys_are_one_or_two_lines_that_are_long_enough() {
    let short = "0123456789abcde";
    let rows = [
        (String::new(), "it is empty"),
        (" \n\n".to_owned(), "it is empty"),
        (short.to_owned(), "a key has 15 bytes, fewer than 16"),
        (format!("{CURRENT}\n{short}"), "a key has 15 bytes, fewer than 16"),
        (format!("{CURRENT}\n{PREVIOUS}\n{CURRENT}"), "more than two lines"),
    ];
    for (text, why) in rows {
        let refused = PinKeys::from_lines(&text).unwrap_err();
        assert!(refused.contains(why) && !refused.contains(short), "{refused}");
    }
    let shown = format!("{:?}", pin());
    assert!(!shown.contains(CURRENT), "{shown}");
}

#[test]
fn only_the_first_copies_are_looked_at() {
    let pin = pin();
    let good = token(&pin, CANARY);
    let forged = format!("{}{}", &good[..32], "0".repeat(64));
    let copies = |before: usize| -> Vec<String> {
        let line = |token: &str| format!("sb_arm={token}");
        std::iter::repeat_n(line(&forged), before).chain([line(&good)]).collect()
    };
    let found = Some(Pinned { arm: CANARY, again: None });
    for (before, expected) in [(0, found), (MAX_COPIES - 1, found), (MAX_COPIES, None), (59, None)] {
        assert_eq!(read_lines(&pin, &copies(before), 1_001), expected, "{before} lines before it");
        assert_eq!(read_lines(&pin, &[copies(before).join("; ")], 1_001), expected, "{before} crumbs");
    }
}

#[test]
fn the_cookie_is_taken_off_and_no_other() {
    let pin = pin();
    let rows: [(&[&str], &[&str]); 8] = [
        (&["SB_ARM=x; a=1; sb_arm =y;  Sb_Arm\t= z; sb_arm=\"q\"; sb_arm==; b=2"], &["a=1; b=2"]),
        (&["a=1; sb_arm=x; b=2"], &["a=1; b=2"]),
        (&["sb_arm=x; a=1"], &["a=1"]),
        (&["a=1;sb_arm=x"], &["a=1"]),
        (&["sb_arm=x"], &[]),
        (&["sb_arm=x", "a=1", "sb_arm=y; sb_arm=z; c=3"], &["a=1", "c=3"]),
        (&["sb_arms=x;  odd ;sb_arm", "xsb_arm=1"], &["sb_arms=x;  odd ;sb_arm", "xsb_arm=1"]),
        (&[], &[]),
    ];
    for (lines, expected) in rows {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        pin.strip(&mut headers);
        let left: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        assert_eq!(left, expected.iter().map(|line| line.as_bytes()).collect::<Vec<_>>(), "{lines:?}");
    }
}
