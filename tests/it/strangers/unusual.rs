//! Five hundred unusual but legal exchanges, each as its sender wrote it on the other side.
//!
//! `legal.rs` writes requests and answers that RFC 9110 and RFC 9112 allow. A raw client and a
//! scripted raw origin compare both directions: method, target, end-to-end header lines in order per
//! name, body, status and trailers. It must never call a difference harmless without its reason
//! standing here.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::legal::{Exchange, Sent, exchanges};
use crate::support::wire::{Framing, Lines};
use crate::support::{Answer, Message, Proxy, Wire, Witness, long};

const EXCHANGES: usize = 500;
const LONG: usize = 10_000;
const SEED: u64 = 0x5eed_0500;
/// Requests on one connection before the client opens another.
const PER_CONNECTION: usize = 7;

/// Concerns one connection only; never compared.
const HOPS: &[&str] =
    &["connection", "keep-alive", "te", "transfer-encoding", "expect", "upgrade", "proxy-connection"];
/// What the proxy adds to a request.
const ADDED: &[&str] =
    &["x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id", "traceparent"];

/// Lines by name, in order, without what is the connection's own; cookie lines as one.
fn meaning(lines: &Lines, without: &[&str]) -> Vec<(String, Vec<Vec<u8>>)> {
    let mut by_name: std::collections::BTreeMap<String, Vec<Vec<u8>>> = std::collections::BTreeMap::new();
    for (name, value) in lines {
        let name = name.to_ascii_lowercase();
        if !HOPS.contains(&name.as_str()) && !without.contains(&name.as_str()) {
            by_name.entry(name).or_default().push(value.clone());
        }
    }
    if let Some(crumbs) = by_name.get_mut("cookie") {
        *crumbs = vec![crumbs.join(b"; ".as_slice())];
    }
    by_name.into_iter().collect()
}

/// What differs between a message as sent and as received, in words.
fn differences(sent: &Sent, got: &Message, without: &[&str], trailers_due: bool) -> Vec<String> {
    let mut found = Vec::new();
    let (mut expected, mut have) = (meaning(&sent.headers, without), meaning(&got.headers, without));
    let framed = |lines: &Vec<(String, Vec<Vec<u8>>)>| {
        lines.iter().find(|(name, _)| name == "content-length").map(|(_, values)| values.clone())
    };
    if sent.word == "304" {
        // The server half we stand on drops it, as RFC 9110 section 8.6 allows (it says MAY).
        expected.retain(|(name, _)| name != "content-length");
    }
    // A length is the message's own where there is no body, and framing where there is one.
    if framed(&expected).is_none() {
        if sent.has_length && got.framing != Framing::Length(sent.body.len() as u64) {
            found.push(format!("sent with a length of {}, came as {:?}", sent.body.len(), got.framing));
        }
        expected.retain(|(name, _)| name != "content-length");
        have.retain(|(name, _)| name != "content-length");
    }
    for line in expected.iter().filter(|line| !have.contains(line)) {
        found.push(format!("missing: {}", shown(line)));
    }
    for line in have.iter().filter(|line| !expected.contains(line)) {
        found.push(format!("unexpected: {}", shown(line)));
    }
    if got.body != sent.body {
        found.push(format!("a body of {} bytes instead of {}", got.body.len(), sent.body.len()));
    }
    let (expected, have) = (meaning(&sent.trailers, &[]), meaning(&got.trailers, &[]));
    if have != expected && (trailers_due || !have.is_empty()) {
        found.push(format!("{} trailers instead of {}", have.len(), expected.len()));
    }
    found
}

fn shown((name, values): &(String, Vec<Vec<u8>>)) -> String {
    values.iter().fold(format!("{name}:"), |mut text, value| {
        let _ = write!(text, " [{}]", value.escape_ascii());
        text
    })
}

fn judge(exchange: &Exchange, arrived: &[Message], answer: &Message) -> Vec<String> {
    let mut found = Vec::new();
    match arrived {
        [message] => {
            let line = format!("{} {} HTTP/1.1", exchange.request.word, exchange.request.target);
            if message.start != line {
                found.push(format!("request line {:?} instead of {line:?}", message.start));
            }
            let due = !exchange.request.trailers.is_empty();
            let without = [ADDED, &["x-private"]].concat();
            if message.headers.iter().any(|(name, _)| name == "x-private") {
                found.push("a header for the next hop only was forwarded".to_owned());
            }
            found.extend(differences(&exchange.request, message, &without, due));
        }
        messages => found.push(format!("{} requests at the origin", messages.len())),
    }
    if answer.status().to_string() != exchange.answer.word {
        found.push(format!("status {} instead of {}", answer.status(), exchange.answer.word));
        return found;
    }
    // Whoever forwards an answer without Date may add one (RFC 9110 section 6.6.1).
    let dated = exchange.answer.headers.iter().any(|(name, _)| name == "Date");
    let without: &[&str] = if dated { &[] } else { &["date"] };
    let answered = differences(&exchange.answer, answer, without, exchange.takes_trailers);
    found.extend(answered.into_iter().map(|text| format!("answer: {text}")));
    found
}

#[test]
fn five_hundred_unusual_exchanges_pass_unchanged() {
    let count = if long() { LONG } else { EXCHANGES };
    let all = Arc::new(exchanges(SEED, count));
    let script = Arc::clone(&all);
    let witness = Witness::start(move |request| {
        let number = request.header("x-exchange").and_then(|text| text.parse::<usize>().ok());
        let Some(exchange) = number.and_then(|number| script.get(number)) else { return Answer::default() };
        let bytes = &exchange.answer.bytes;
        let size = (bytes.len() / exchange.answer.cuts).max(1);
        Answer { pieces: bytes.chunks(size).map(<[u8]>::to_vec).collect(), close: exchange.answer.close }
    });
    let proxy = Proxy::start(&format!(
        "upstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        witness.url()
    ));

    let mut wire = Wire::open(proxy.web());
    let (mut passed, mut failures) = (0, HashMap::new());
    for (number, exchange) in all.iter().enumerate() {
        let outcome = wire.exchange(&exchange.request.bytes);
        let closed = outcome.as_ref().map_or(true, Message::closes);
        let found = match outcome {
            Ok(answer) => judge(exchange, &witness.take(), &answer),
            Err(error) => {
                witness.take();
                vec![format!("no answer: {error}")]
            }
        };
        if found.is_empty() {
            passed += 1;
        } else {
            failures.insert(number, found);
        }
        if closed || exchange.request.close || number % PER_CONNECTION == 0 {
            wire = Wire::open(proxy.web());
        }
    }
    println!("{passed} of {count} unusual exchanges passed unchanged");
    let mut report = String::new();
    for (number, found) in failures.iter().take(30) {
        let head = |sent: &Sent| sent.bytes[..sent.bytes.len().min(100)].escape_ascii().to_string();
        let (request, answer) = (head(&all[*number].request), head(&all[*number].answer));
        let _ = write!(report, "\n#{number}: {found:#?}\n  request: {request}\n  answer: {answer}\n");
    }
    assert_eq!(passed, count, "{report}{:?}", witness.broken());
}
