//! Requests and answers that the standards allow and hardly anyone sends, from a seed.
//!
//! Each comes as bytes and as what those bytes mean, so that a test compares meaning. It must never
//! write a message that the contract lets the proxy refuse: dot segments, CONNECT, heads over the
//! limits, 16 KiB of chunk extensions.

use crate::support::wire::Lines;

/// What one side sends, as bytes and as what it means.
pub(super) struct Sent {
    pub(super) bytes: Vec<u8>,
    /// Where an answer is cut into writes.
    pub(super) cuts: usize,
    /// Method or status.
    pub(super) word: String,
    pub(super) target: String,
    pub(super) headers: Lines,
    pub(super) body: Vec<u8>,
    /// Announced trailers, which must arrive when the other side takes them.
    pub(super) trailers: Lines,
    pub(super) close: bool,
    pub(super) has_length: bool,
}

pub(super) struct Exchange {
    pub(super) request: Sent,
    pub(super) answer: Sent,
    pub(super) takes_trailers: bool,
}

fn pick<'a>(random: &mut fastrand::Rng, of: &[&'a str]) -> &'a str {
    of[random.usize(0..of.len())]
}

fn text(random: &mut fastrand::Rng, alphabet: &[u8], size: usize) -> String {
    (0..size).map(|_| char::from(alphabet[random.usize(0..alphabet.len())])).collect()
}

const TOKEN: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-!#$%&'*+.^`|~";

/// A field value: anything but controls, no blanks outside, and often stranger than needed.
fn value(random: &mut fastrand::Rng) -> Vec<u8> {
    match random.u8(0..9) {
        0 => Vec::new(),
        1 => (0..random.usize(1..60)).map(|_| random.u8(0x80..=0xff)).collect(),
        2 => b"one\ttwo  three\t\tfour".to_vec(),
        3 => b"\"quoted, with comma\"; a=\"\\\"\"".to_vec(),
        4 => (0x21..=0x7e).collect(),
        5 => text(random, TOKEN, 2000).into_bytes(),
        6 => "naïve — ünïcödé".as_bytes().to_vec(),
        7 => b",,".to_vec(),
        _ => {
            let size = random.usize(1..40);
            text(random, TOKEN, size).into_bytes()
        }
    }
}

/// Header lines that no proxy has business with, some of them repeated.
fn headers(random: &mut fastrand::Rng, most: usize, cased: bool) -> Lines {
    let count = if random.u8(0..12) == 0 { most } else { random.usize(0..8) };
    let mut lines: Lines = Vec::new();
    while lines.len() < count {
        let name = match random.u8(0..8) {
            0 => format!("x-{}", text(random, b"abcdefghij-", 180)),
            1 | 2 => lines.last().map_or("x-again".to_owned(), |(name, _)| name.clone()),
            3 => pick(random, &["accept", "accept-language", "cache-control", "x-a.b", "x!#$%&'*+^`|~"])
                .to_owned(),
            4 => format!("x-{}", lines.len() % 3),
            _ => format!("x-{}", text(random, b"abcdefghij0123456789-", 8)),
        };
        // Values of two kilobytes a hundred times would be over the limit of a head.
        let value = if count > 20 { b"v".to_vec() } else { value(random) };
        let name = if cased && random.bool() { name.to_ascii_uppercase() } else { name };
        lines.push((name, value));
    }
    lines
}

fn write_lines(random: &mut fastrand::Rng, bytes: &mut Vec<u8>, lines: &Lines) {
    for (name, value) in lines {
        let before = pick(random, &[" ", "", "\t", "   ", " \t "]);
        let after = pick(random, &["", "", " ", "\t"]);
        for part in [name.as_bytes(), b":", before.as_bytes(), value, after.as_bytes(), b"\r\n"] {
            bytes.extend_from_slice(part);
        }
    }
}

/// A body in chunks of odd sizes, with extensions, leading zeros and trailers.
fn chunks(random: &mut fastrand::Rng, body: &[u8], trailers: &Lines) -> Vec<u8> {
    let mut bytes = Vec::new();
    let size = if body.len() < 300 && random.bool() { 1 } else { random.usize(1..5000) };
    // Extensions have a bound per message; ten thousand chunks of them are over it.
    let extended = body.len() / size < 400;
    for piece in body.chunks(size) {
        let extension = match random.u8(0..8) {
            _ if !extended => "",
            0 => ";ext",
            1 => ";name=value",
            2 => ";q=\"quoted; semicolon\"",
            _ => "",
        };
        let number = match random.u8(0..3) {
            0 => format!("{:X}", piece.len()),
            1 => format!("000{:x}", piece.len()),
            _ => format!("{:x}", piece.len()),
        };
        bytes.extend_from_slice(format!("{number}{extension}\r\n").as_bytes());
        bytes.extend_from_slice(piece);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(pick(random, &["0\r\n", "000\r\n", "0;last\r\n"]).as_bytes());
    write_lines(random, &mut bytes, trailers);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn body(random: &mut fastrand::Rng) -> Vec<u8> {
    let size = match random.u8(0..10) {
        0 | 1 => 0,
        2 => 1,
        3..=7 => random.usize(2..300),
        8 => random.usize(300..9000),
        _ => 70_000,
    };
    (0..size).map(|_| random.u8(..)).collect()
}

fn trailers(random: &mut fastrand::Rng) -> Lines {
    (0..random.usize(1..4)).map(|number| (format!("x-trailer-{number}"), value(random))).collect()
}

fn target(random: &mut fastrand::Rng) -> String {
    const PATH: &[u8] = b"abcXYZ0189-._~!$&'()*+,;=:@/";
    const QUERY: &[u8] = b"abcXYZ0189-._~!$&'()*+,;=:@/?";
    let size = random.usize(0..40);
    let rest = text(random, PATH, size);
    // Dot segments are the operator's policy, tested elsewhere.
    let path = match random.u8(0..8) {
        0 => "/".to_owned(),
        1 => "//".to_owned(),
        2 => "/a//b///c/".to_owned(),
        3 => "/%7Euser/%C3%A9/%e2%82%ac/%2F/%20/%25".to_owned(),
        4 => "/;a=1;b/c;d".to_owned(),
        5 => "/*".to_owned(),
        _ => format!("/p{}", rest.replace('.', "_")),
    };
    match random.u8(0..8) {
        0 => format!("{path}?"),
        1 => format!("{path}?{}", text(random, QUERY, 7900 - path.len())),
        2 => format!("{path}?a=b?c=d&&=&e"),
        3 => format!("{path}?%00%ff%2F../..//"),
        4 | 5 => {
            let size = random.usize(0..60);
            format!("{path}?{}", text(random, QUERY, size))
        }
        _ => path,
    }
}

fn request(random: &mut fastrand::Rng, number: usize) -> (Sent, bool) {
    const METHODS: &[&str] = &[
        "GET",
        "GET",
        "GET",
        "HEAD",
        "POST",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "PROPFIND",
        "PROPPATCH",
        "M-SEARCH",
        "PURGE",
        "MKCOL",
        "LOCK",
        "REPORT",
        "QUERY",
        "BREW",
        "get",
        "X!#$%&'*+.^_`|~",
    ];
    let method = pick(random, METHODS);
    let mut path = target(random);
    let mut absolute = String::new();
    if random.u8(0..10) == 0 {
        // RFC 9112 section 3.2.2; an empty path is `/` in origin form (RFC 9110 section 4.2.3).
        absolute = pick(random, &["http://shop.test", "HTTP://shop.test", "http://shop.test:80"]).to_owned();
        if random.u8(0..3) == 0 {
            path = pick(random, &["", "?q=1"]).to_owned();
        }
    }
    let old = random.u8(0..25) == 0;
    let version = if old { "HTTP/1.0" } else { "HTTP/1.1" };
    let host = if absolute.ends_with(":80") { "shop.test:80" } else { "shop.test" };
    let has_body = !matches!(method, "GET" | "HEAD" | "get") || random.u8(0..6) == 0;
    let content = if has_body { body(random) } else { Vec::new() };
    let chunked = has_body && !old && random.bool();
    let has_length = has_body && !chunked;

    let mut lines = headers(random, 92, true);
    let near_limit = lines.len() > 20;
    lines.insert(0, ("Host".to_owned(), host.as_bytes().to_vec()));
    lines.push(("x-exchange".to_owned(), number.to_string().into_bytes()));
    if random.u8(0..6) == 0 && !near_limit {
        lines.push(("Cookie".to_owned(), b"a=1; b=\"2\"".to_vec()));
        lines.push(("Cookie".to_owned(), b"c=3".to_vec()));
    }
    if random.u8(0..8) == 0 {
        lines.push(("Range".to_owned(), b"bytes=0-9,-5".to_vec()));
        lines.push(("If-Range".to_owned(), b"\"strong\"".to_vec()));
    }
    let mut meant = lines.clone();
    let mut ending = Vec::new();
    if has_length {
        lines.push(("Content-Length".to_owned(), content.len().to_string().into_bytes()));
        ending.clone_from(&content);
    }
    if chunked {
        let sent = if random.u8(0..4) == 0 && !near_limit { trailers(random) } else { Vec::new() };
        if !sent.is_empty() {
            let names: Vec<_> = sent.iter().map(|(name, _)| name.as_str()).collect();
            let announced = ("Trailer".to_owned(), names.join(", ").into_bytes());
            lines.push(announced.clone());
            meant.push(announced);
        }
        lines.push(("Transfer-Encoding".to_owned(), b"chunked".to_vec()));
        ending = chunks(random, &content, &sent);
        let (head, takes) = finish(random, lines, old, near_limit, has_body);
        return (
            sent_request(random, method, (&absolute, &path), version, head, ending, meant, content, sent),
            takes,
        );
    }
    let (head, takes) = finish(random, lines, old, near_limit, has_length && !content.is_empty());
    let mut sent =
        sent_request(random, method, (&absolute, &path), version, head, ending, meant, content, Vec::new());
    sent.has_length = has_length;
    sent.close = old;
    (sent, takes)
}

/// Lines that concern the client's connection only; the answer says whether trailers are taken.
fn finish(
    random: &mut fastrand::Rng,
    mut lines: Lines,
    old: bool,
    near_limit: bool,
    body: bool,
) -> (Lines, bool) {
    let takes = !old && !near_limit && random.bool();
    if takes {
        lines.push(("TE".to_owned(), b"trailers".to_vec()));
        lines.push(("Connection".to_owned(), b"TE, x-private".to_vec()));
        lines.push(("X-Private".to_owned(), b"for the next hop only".to_vec()));
    }
    if body && !old && !near_limit && random.u8(0..6) == 0 {
        lines.push(("Expect".to_owned(), b"100-continue".to_vec()));
    }
    (lines, takes)
}

#[allow(clippy::too_many_arguments, reason = "a message has that many parts")]
fn sent_request(
    random: &mut fastrand::Rng,
    method: &str,
    (absolute, path): (&str, &str),
    version: &str,
    lines: Lines,
    ending: Vec<u8>,
    meant: Lines,
    body: Vec<u8>,
    trailers: Lines,
) -> Sent {
    // RFC 9112 section 2.2: empty lines before a request line are ignored.
    let leading = if random.u8(0..10) == 0 { "\r\n" } else { "" };
    let mut bytes = format!("{leading}{method} {absolute}{path} {version}\r\n").into_bytes();
    write_lines(random, &mut bytes, &lines);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&ending);
    let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    let word = method.to_owned();
    Sent { bytes, cuts: 1, word, target, headers: meant, body, trailers, close: false, has_length: false }
}

fn answer(random: &mut fastrand::Rng, method: &str, takes_trailers: bool) -> Sent {
    const CODES: &[&str] = &[
        "200", "200", "200", "201", "202", "203", "204", "206", "207", "226", "299", "300", "301", "304",
        "400", "401", "404", "410", "418", "421", "429", "451", "499", "500", "501", "507", "511", "599",
    ];
    let code = pick(random, CODES);
    let reason =
        pick(random, &[" OK", " ", " Reason with  spaces\tand tab", " na\u{ef}ve", " 200 Not", " !"]);
    let old = random.u8(0..10) == 0;
    let mut bytes = Vec::new();
    if !old && random.u8(0..8) == 0 {
        bytes.extend_from_slice(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n");
    }
    if !old && random.u8(0..10) == 0 {
        bytes.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
    }
    let version = if old { "HTTP/1.0" } else { "HTTP/1.1" };
    bytes.extend_from_slice(format!("{version} {code}{reason}\r\n").as_bytes());

    let mut lines = headers(random, 95, true);
    let near_limit = lines.len() > 20;
    if random.u8(0..5) == 0 && !near_limit {
        lines.push(("Set-Cookie".to_owned(), b"a=1; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT".to_vec()));
        lines.push(("Set-Cookie".to_owned(), b"b=\"2\"; Secure".to_vec()));
        lines.push(("set-cookie".to_owned(), b"a=3".to_vec()));
    }
    if random.u8(0..4) == 0 {
        lines.push(("Date".to_owned(), b"Tue, 15 Nov 1994 08:12:31 GMT".to_vec()));
    }
    if code == "206" {
        lines.push(("Content-Range".to_owned(), b"bytes 0-9/1000".to_vec()));
    }
    let mut meant = lines.clone();
    let mut content = Vec::new();
    let mut sent_trailers = Vec::new();
    let mut ending = Vec::new();
    let (mut close, mut has_length) = (old, false);
    let length = |size: usize| ("Content-Length".to_owned(), size.to_string().into_bytes());
    if code == "204" {
        // Nothing: RFC 9110 section 8.6 forbids a length here.
    } else if code == "304" || method == "HEAD" {
        lines.push(("ETag".to_owned(), b"W/\"weak\"".to_vec()));
        meant.push(("ETag".to_owned(), b"W/\"weak\"".to_vec()));
        if random.bool() {
            // The length of the body that a GET would have got.
            lines.push(length(random.usize(0..1_000_000)));
            meant.push(lines[lines.len() - 1].clone());
        }
    } else {
        content = body(random);
        match random.u8(0..3) {
            0 => {
                lines.push(length(content.len()));
                ending.clone_from(&content);
                has_length = true;
            }
            1 if !old => {
                if takes_trailers && !near_limit && random.bool() {
                    sent_trailers = trailers(random);
                    let names: Vec<_> = sent_trailers.iter().map(|(name, _)| name.as_str()).collect();
                    lines.push(("Trailer".to_owned(), names.join(",").into_bytes()));
                    meant.push(lines[lines.len() - 1].clone());
                }
                lines.push(("Transfer-Encoding".to_owned(), b"chunked".to_vec()));
                ending = chunks(random, &content, &sent_trailers);
            }
            _ => {
                ending.clone_from(&content);
                close = true;
            }
        }
    }
    if close && !old && random.bool() {
        lines.push(("Connection".to_owned(), b"close".to_vec()));
    }
    write_lines(random, &mut bytes, &lines);
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(&ending);
    let cuts = random.usize(1..6);
    Sent {
        bytes,
        cuts,
        word: code.to_owned(),
        target: String::new(),
        headers: meant,
        body: content,
        trailers: sent_trailers,
        close,
        has_length,
    }
}

/// Pairs of a request and its answer; the same seed gives the same pairs.
pub(super) fn exchanges(seed: u64, count: usize) -> Vec<Exchange> {
    let mut random = fastrand::Rng::with_seed(seed);
    (0..count)
        .map(|number| {
            let (request, takes_trailers) = request(&mut random, number);
            let answer = answer(&mut random, &request.word, takes_trailers);
            Exchange { request, answer, takes_trailers }
        })
        .collect()
}
