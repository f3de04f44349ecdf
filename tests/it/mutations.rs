//! Five hundred broken configurations: each is refused, named, and changes nothing.
//!
//! Operators make typing errors at the worst moment. Every mutant here is one edit of a good file
//! that must not load, with the line and the word the diagnostic has to point at. The seed is
//! fixed; a mutant that a newer contract makes valid is a finding, not something to skip.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::tools::switchback;
use crate::support::{Origin, Proxy, Site, get};

const MUTANTS: usize = 500;
const SEED: u64 = 0x5eed;

/// One key a line, so that a mutation has a line to be found at. `@app@` is an origin.
const GOOD: &str = "\
trustedProxies:
  - 10.0.0.0/8
shutdown:
  delay: 1s
  grace: 20s
upstreams:
  stable:
    endpoints:
      - url: \"@app@\"
        weight: 2
    loadBalance: p2c
    limits:
      maxRequests: 512
    connection:
      connectTimeout: 2s
      idleTimeout: 4s
      maxIdle: 32
  canary: \"@app@\"
routes:
  - name: checkout
    hostnames:
      - shop.example.com
    matches:
      - path:
          exact: /checkout
        method: POST
      - path:
          regex: /v[0-9]+/pay
        headers:
          - name: x-beta
            value: one
        queryParams:
          - name: v
            present: true
    split:
      stable: 95
      canary:
        weight: 5
        upstream: canary
        slot: 1
        requestHeaders:
          set:
            x-arm: canary
    defaultArm: stable
    sticky:
      by:
        - header: x-user-id
        - clientIP
      salt: pepper
    overrides:
      - name: qa
        when:
          headers:
            - name: x-canary
              value: always
        arm: canary
      - name: office
        when:
          clientIP:
            - 192.0.2.0/24
        arm: stable
    timeouts:
      request: 15s
      upstream: 10s
      streamIdle: 60s
    whenUnavailable: redistribute
  - name: web
    matches:
      - path:
          prefix: /
    split:
      stable: 1
";

/// A text, the line it is broken at (0: anywhere), and a word the diagnostic must contain.
struct Mutant {
    text: String,
    line: usize,
    word: String,
}

/// Replacements of a whole line that make it wrong, by what the line says now.
const WRONG_VALUES: &[(&str, &str, &str)] = &[
    ("      stable: 95", "      stable: -1", "-1"),
    ("      stable: 95", "      stable: 1.5", "1.5"),
    ("      stable: 95", "      stable: lots", "lots"),
    ("      stable: 95", "      stable: 99999999", "99999999"),
    ("        weight: 5", "        weight: many", "many"),
    ("        weight: 5", "        weight: -5", "-5"),
    ("        upstream: canary", "        upstream: canry", "canry"),
    ("        slot: 1", "        slot: 9", "slot"),
    ("    defaultArm: stable", "    defaultArm: stabel", "stabel"),
    ("        arm: canary", "        arm: canery", "canery"),
    ("        arm: stable", "        arm: nobody", "nobody"),
    ("  delay: 1s", "  delay: 1", "1"),
    ("  delay: 1s", "  delay: soon", "soon"),
    ("      request: 15s", "      request: 15", "15"),
    ("      upstream: 10s", "      upstream: 10 parsecs", "parsecs"),
    ("      streamIdle: 60s", "      streamIdle: -60s", "-60s"),
    ("      connectTimeout: 2s", "      connectTimeout: 2", "2"),
    ("      maxIdle: 32", "      maxIdle: few", "few"),
    ("      maxRequests: 512", "      maxRequests: -1", "-1"),
    ("    loadBalance: p2c", "    loadBalance: luck", "luck"),
    ("    whenUnavailable: redistribute", "    whenUnavailable: panic", "panic"),
    ("          regex: /v[0-9]+/pay", "          regex: \"/v[0-9+/pay\"", "regex"),
    ("          regex: /v[0-9]+/pay", "          regex: \"/v(\"", "regex"),
    ("  - 10.0.0.0/8", "  - 10.0.0.0/99", "10.0.0.0/99"),
    ("            - 192.0.2.0/24", "            - office", "office"),
    ("  canary: \"@app@\"", "  canary: \"ftp://127.0.0.1:1\"", "ftp"),
    ("  canary: \"@app@\"", "  canary: \"not an address\"", "not an address"),
    ("  - name: web", "  - name: checkout", "checkout"),
    ("      - name: office", "      - name: qa", "qa"),
    ("        - clientIP", "        - clientMood", "clientMood"),
];

fn mutant(random: &mut fastrand::Rng) -> Mutant {
    let lines: Vec<&str> = GOOD.lines().collect();
    match random.u8(0..10) {
        0..=4 => misspelt_key(&lines, random),
        5..=7 => {
            let (old, new, word) = WRONG_VALUES[random.usize(..WRONG_VALUES.len())];
            // Some lines occur twice; the mutation takes one of them.
            let places: Vec<_> = (0..lines.len()).filter(|at| lines[*at] == old).collect();
            let at = places[random.usize(..places.len())];
            replaced(&lines, at, new, at + 1, word)
        }
        8 => repeated_key(&lines, random),
        _ => torn(random),
    }
}

/// Line number of every `key:` line, with its indentation and key.
fn keys(lines: &[&str]) -> Vec<(usize, usize, String)> {
    lines
        .iter()
        .enumerate()
        .filter_map(|(at, line)| {
            let body = line.trim_start_matches([' ', '-']);
            let (key, _) = body.split_once(':')?;
            Some((at, line.len() - body.len(), key.to_owned()))
        })
        // Names given by the operator are not keys of the contract.
        .filter(|(_, _, key)| !["stable", "canary", "x-arm"].contains(&key.as_str()))
        .collect()
}

fn misspelt_key(lines: &[&str], random: &mut fastrand::Rng) -> Mutant {
    let keys = keys(lines);
    let (at, indent, key) = &keys[random.usize(..keys.len())];
    let letter = random.usize(..key.len());
    let misspelt = match random.u8(0..3) {
        0 => format!("{}{}{}", &key[..letter], random.lowercase(), &key[letter..]),
        1 => format!("{key}{key}"),
        _ => format!("x{}", key.to_uppercase()),
    };
    // An inserted letter can by chance spell another key of the contract; double it then.
    let misspelt =
        if keys.iter().any(|(_, _, known)| *known == misspelt) { format!("{key}{key}") } else { misspelt };
    let line = format!("{}{misspelt}{}", &lines[*at][..*indent], &lines[*at][indent + key.len()..]);
    replaced(lines, *at, &line, at + 1, &misspelt)
}

/// The same key twice in one map, the second time right below, with a scalar of its own.
fn repeated_key(lines: &[&str], random: &mut fastrand::Rng) -> Mutant {
    let scalars: Vec<_> =
        keys(lines).into_iter().filter(|(at, _, _)| !lines[*at].trim_end().ends_with(':')).collect();
    let (at, indent, key) = &scalars[random.usize(..scalars.len())];
    let again = format!("{}{}", " ".repeat(*indent), &lines[*at][*indent..]);
    let line = format!("{}\n{again}", lines[*at]);
    replaced(lines, *at, &line, 0, key)
}

/// The first part of the file and an open bracket, as a write that was interrupted.
fn torn(random: &mut fastrand::Rng) -> Mutant {
    let cut = random.usize(20..GOOD.len());
    Mutant { text: format!("{}\n\"[{{", &GOOD[..cut]), line: 0, word: String::new() }
}

fn replaced(lines: &[&str], at: usize, new: &str, line: usize, word: &str) -> Mutant {
    let mut lines = lines.to_vec();
    lines[at] = new;
    Mutant { text: format!("{}\n", lines.join("\n")), line, word: word.to_owned() }
}

/// Every finding of a JSON report as line and text, wherever the report puts it.
fn findings(report: &Value) -> Vec<(u64, String)> {
    match report {
        Value::Object(map) if map.contains_key("message") && map.contains_key("place") => {
            let line = map["place"]["line"].as_u64().unwrap_or(0);
            vec![(line, format!("{} {}", map["message"], map.get("hint").unwrap_or(&Value::Null)))]
        }
        Value::Object(map) => map.values().flat_map(findings).collect(),
        Value::Array(items) => items.iter().flat_map(findings).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn five_hundred_broken_files_are_refused_by_name_and_change_nothing() {
    let origin = Origin::start("app");
    let good = GOOD.replace("@app@", &origin.url());
    let proxy = Proxy::start(&good);
    let generation = proxy.generation();
    let scratch = Site::new(&good);
    let ok = switchback(&scratch.folder(), &["check", &scratch.file().display().to_string()]);
    assert_eq!(ok.code, Some(0), "the file the mutants come from is good: {ok:?}");
    // What every test's file gets in front of the mutated text moves its lines down.
    let offset = scratch.render("").lines().count();

    let mut random = fastrand::Rng::with_seed(SEED);
    let mut distinct = BTreeSet::new();
    for number in 0..MUTANTS {
        let mutant = mutant(&mut random);
        let text = mutant.text.replace("@app@", &origin.url());
        distinct.insert(text.clone());
        refused_by_check(&scratch, &mutant, &text, offset, number);

        proxy.site.write(&text);
        let response = proxy.admin(&proxy.verb("/api/v1/reload", &json!({})));
        assert_eq!(response.status, 422, "mutant {number} loads: {response:?}\n{text}");
        if number % 10 == 0 {
            assert_eq!(proxy.ask(&get("/")).origin(), "app", "the old plan serves after mutant {number}");
        }
    }
    assert!(distinct.len() > MUTANTS / 3, "only {} different mutants", distinct.len());
    assert_eq!(proxy.generation(), generation, "nothing was applied");
    proxy.reload(&format!("# fixed\n{good}"));
}

fn refused_by_check(scratch: &Site, mutant: &Mutant, text: &str, offset: usize, number: usize) {
    scratch.write(text);
    let file = scratch.file().display().to_string();
    let check = switchback(&scratch.folder(), &["check", "--format", "json", &file]);
    let what = || format!("mutant {number} ({:?} in line {}): {check:?}\n{text}", mutant.word, mutant.line);
    assert_eq!(check.code, Some(1), "{}", what());
    let report: Value =
        serde_json::from_str(&check.out).unwrap_or_else(|error| panic!("{error}: {}", what()));
    let findings = findings(&report);
    let named = findings.iter().any(|(line, text)| {
        let wanted = (mutant.line + offset) as u64;
        let in_line = if mutant.line == 0 { *line > 0 } else { *line == wanted };
        in_line && text.contains(&mutant.word)
    });
    assert!(named, "no finding names it: {findings:?}\n{}", what());
}
