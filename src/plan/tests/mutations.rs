//! Damaged configurations: never a panic, always a place, and never half a plan.

use super::{BASE, load};

const SOUND: &str = "\
admin: { address: \"127.0.0.1:9901\", insecure: false }
metrics: { address: \"127.0.0.1:9902\" }
shutdown: { delay: 1s, grace: 30s }
workers: 2
trustedProxies: [10.0.0.0/8, ::1]
accessLog: { path: stdout, format: json, sample: 100%, debug: { header: x-debug } }
routes:
  - name: checkout
    listeners: [web]
    hostnames: [shop.example.com, \"*.shop.example.com\"]
    priority: 3
    matches:
      - { path: { prefix: /checkout }, method: POST }
      - path: /pay
        headers: [{ name: x-beta, value: \"1\" }]
        queryParams: [{ name: v, regex: \"[0-9]+\" }]
    split:
      stable: 95
      canary: { weight: 5, upstream: canary, slot: 1, requestHeaders: { set: { x-arm: canary } } }
    defaultArm: stable
    sticky:
      by: [{ header: x-user-id }, { cookie: uid }, { query: user }]
      salt: checkout
      issueCookie: { name: sb_id, maxAge: 30d }
    overrides:
      - { name: qa, when: { headers: [{ name: x-canary, value: always }] }, arm: canary }
      - { name: plan, owner: growth, when: { headers: [{ name: x-plan, in: [a, b] }] }, arm: canary, activeFrom: 2026-12-01T00:00:00Z, activeUntil: 2030-12-24T00:00:00Z }
      - { name: office, when: { clientIP: [192.0.2.0/24] }, trusted: true, split: { stable: 50, canary: 50 } }
      - { name: beta, when: { stickyKey: { inFile: beta.txt } }, arm: canary, force: true }
    timeouts: { request: 15s, upstream: 10s, streamIdle: 60s }
    filters:
      - { requestHeaders: { set: { a: b }, remove: [c] } }
      - { rewrite: { path: { prefix: / }, hostname: x.test } }
  - name: web
    blueGreen: { slots: [stable, canary], active: stable, preview: { hostnames: [p.test] } }
";

/// One way to damage a text, at a place drawn by `random`.
fn damage(text: &str, random: &mut fastrand::Rng) -> String {
    const JUNK: [&str; 24] = [
        "\t", " ", "\n", ":", ": ", "- ", "{", "}", "[", "]", ",", "\"", "'", "#", "&a ", "*a", "!!x ", "|",
        ">", "%", "\u{fffd}", "-1", "~", "\0",
    ];
    let mut lines: Vec<&str> = text.lines().collect();
    let line = random.usize(..lines.len());
    let boundary = |text: &str, at: usize| (0..=at).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let at = boundary(text, random.usize(..text.len()));
    match random.u8(..9) {
        0 => {
            lines.remove(line);
            lines.join("\n")
        }
        1 => {
            lines.insert(line, lines[random.usize(..lines.len())]);
            lines.join("\n")
        }
        2 => {
            let other = random.usize(..lines.len());
            lines.swap(line, other);
            lines.join("\n")
        }
        3 => text[..at].to_owned(),
        4 => format!("{}{}{}", &text[..at], random.choice(JUNK).unwrap(), &text[at..]),
        5 => {
            let end = boundary(text, (at + random.usize(1..8)).min(text.len()));
            format!("{}{}", &text[..at], &text[end.max(at)..])
        }
        6 => {
            let indented = format!("{}{}", " ".repeat(random.usize(1..4)), lines[line]);
            lines[line] = &indented;
            lines.join("\n")
        }
        7 => {
            // A word becomes another word of the file.
            let words: Vec<&str> =
                text.split(|one: char| !one.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
            let (from, to) = (*random.choice(&words).unwrap(), *random.choice(&words).unwrap());
            text.replacen(from, to, 1)
        }
        _ => text.replacen(random.char('a'..='z'), "", 1),
    }
}

#[test]
fn every_refusal_of_a_damaged_file_has_a_place_and_words() {
    let sound = format!("{BASE}{SOUND}");
    load(&sound).unwrap_or_else(|found| panic!("{found:#?}"));
    let mut random = fastrand::Rng::with_seed(2027);
    let (mut refused, mut total) = (0, 0);
    for round in 0..4_000 {
        let mut text = sound.clone();
        for _ in 0..=round % 3 {
            text = damage(&text, &mut random);
            if text.trim().is_empty() {
                break;
            }
        }
        total += 1;
        let Err(found) = load(&text) else { continue };
        refused += 1;
        assert!(!found.is_empty(), "{text}");
        for one in found {
            let lines = u32::try_from(text.lines().count()).unwrap();
            assert!(one.place.line >= 1 && one.place.line <= lines + 1, "{one:?}\n{text}");
            assert!(!one.place.file.is_empty() && !one.message.is_empty() && !one.code.is_empty(), "{one:?}");
            assert!(one.message.lines().count() == 1, "{one:?}");
        }
    }
    assert!(refused > total / 2, "only {refused} of {total} were refused");
}
