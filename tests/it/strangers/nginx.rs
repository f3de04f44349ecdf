//! The same generated requests straight to nginx and through the proxy.
//!
//! nginx writes down the target as it came and its own count of bytes, and hands everything to a
//! witness; all of it must be the same for both ways. Targets are odd but legal (RFC 3986).

use std::net::SocketAddr;

use crate::support::{Message, Proxy, Stranger, Wire, Witness, eventually, needs};

const REQUESTS: usize = 200;
const SEED: u64 = 0x5eed_0003;

/// nginx that logs each request in the manner of the strangers and passes it on unchanged.
pub(super) fn before(witness: SocketAddr) -> String {
    format!(
        "log_format it '$request_method $request_uri $request_length $status $body_bytes_sent $remote_port';\n\
         access_log @dir@/requests it;\nclient_max_body_size 0;\nkeepalive_requests 100;\n\
         upstream witness {{ server {witness}; keepalive 8; }}\n\
         server {{ listen 127.0.0.1:@port@; server_name _; merge_slashes off;\n\
         location / {{ proxy_pass http://witness; proxy_http_version 1.1; proxy_pass_request_headers on;\n\
         proxy_set_header Host $http_host; proxy_set_header Connection \"\"; proxy_read_timeout 30s; }} }}"
    )
}

struct Generated {
    bytes: Vec<u8>,
}

fn generate(random: &mut fastrand::Rng, number: usize) -> Generated {
    const PIECES: &[&str] = &[
        "a",
        "B",
        "0",
        "-",
        "_",
        "~",
        "!",
        "$",
        "&",
        "'",
        "(",
        ")",
        "*",
        "+",
        ",",
        ";",
        "=",
        ":",
        "@",
        "%20",
        "%2F",
        "%2f",
        "%3B",
        "%3F",
        "%25",
        "%C3%A9",
        "%e2%82%ac",
        "%41",
        "%7E",
        "index.html",
        "..a",
        "a..",
        ";v=1",
        "...",
        "%5C",
        "//",
        "/",
    ];
    const QUERY: &[&str] = &[
        "a=1", "&", "b", "=", "+", "%20", "/", "?", "%26", "x[]=1", "q=a;b", "%00", ":", "@", "..", "../",
        "//", "'", "&&", "%zz",
    ];
    const METHODS: &[&str] = &[
        "GET", "GET", "HEAD", "POST", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PROPFIND", "MKCOL",
        "PURGE",
    ];
    let some = |random: &mut fastrand::Rng, of: &[&str], most: usize| -> String {
        (0..random.usize(0..=most)).map(|_| of[random.usize(0..of.len())]).collect()
    };
    let mut target = format!("/{number}/{}", some(random, PIECES, 12));
    match random.u8(0..4) {
        0 => {}
        1 => target.push('?'),
        _ => target.push_str(&format!("?{}", some(random, QUERY, 12))),
    }
    let method = METHODS[random.usize(0..METHODS.len())];
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: shop.test\r\nX-Number: {number}\r\n");
    let body: Vec<u8> = match method {
        "POST" | "PUT" | "PATCH" | "PROPFIND" | "DELETE" => {
            let size = [0, 1, 17, 1000, 16_384, 70_000][random.usize(0..6)];
            (0..size).map(|_| random.u8(..)).collect()
        }
        _ => Vec::new(),
    };
    let bytes = if body.is_empty() && method != "POST" {
        format!("{head}\r\n").into_bytes()
    } else if random.bool() {
        head.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
        [head.as_bytes(), &body].concat()
    } else {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
        let mut bytes = head.into_bytes();
        for piece in body.chunks(random.usize(1..9000).max(body.len() / 50)) {
            bytes.extend_from_slice(format!("{:X}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(&[piece, b"\r\n".as_slice()].concat());
        }
        [bytes, b"0\r\n\r\n".to_vec()].concat()
    };
    Generated { bytes }
}

fn ask_all(addr: SocketAddr, requests: &[Generated]) -> Vec<Message> {
    let mut wire = Wire::open(addr);
    let ask = |request: &Generated| {
        let answer = wire.exchange(&request.bytes);
        let start = || request.bytes[..request.bytes.len().min(200)].escape_ascii().to_string();
        let answer = answer.unwrap_or_else(|error| panic!("{error} for {}", start()));
        if answer.closes() {
            wire = Wire::open(addr);
        }
        answer
    };
    requests.iter().map(ask).collect()
}

/// What nginx wrote, once all of it is there: `method target`, `request length`, `status`, `sent`.
fn log(nginx: &Stranger, count: usize) -> Vec<Vec<String>> {
    eventually(&format!("nginx has logged {count} requests"), || nginx.requests().len() >= count);
    let split = |line: &String| line.split(' ').map(str::to_owned).collect();
    nginx.requests().iter().map(split).collect()
}

#[test]
fn two_hundred_requests_reach_nginx_as_they_would_without_us() {
    needs!("nginx");
    let witness = Witness::start(super::echo);
    let nginx = Stranger::nginx(&before(witness.addr));
    let proxy = Proxy::start(&format!(
        "upstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        nginx.url()
    ));
    let mut random = fastrand::Rng::with_seed(SEED);
    let requests: Vec<_> = (0..REQUESTS).map(|number| generate(&mut random, number)).collect();

    let straight = ask_all(nginx.addr(), &requests);
    let straight_seen = witness.take();
    let through = ask_all(proxy.web(), &requests);
    let through_seen = witness.take();

    for (straight, through) in straight.iter().zip(&through) {
        assert_eq!(through.status(), straight.status(), "{straight:?}");
    }
    assert_eq!(straight_seen.len(), through_seen.len(), "requests behind nginx");
    for (straight, through) in straight_seen.iter().zip(&through_seen) {
        assert_eq!(through.start, straight.start, "the request line behind nginx");
        assert!(through.body == straight.body, "{}: another body", straight.start);
        assert_eq!(through.header("x-number"), straight.header("x-number"));
    }
    let logged = log(&nginx, 2 * REQUESTS);
    assert_eq!(logged.len(), 2 * REQUESTS, "nginx was asked as often as without us");
    let (straight, through) = logged.split_at(REQUESTS);
    let mut added = Vec::new();
    for (straight, through) in straight.iter().zip(through) {
        assert_eq!(through[..2], straight[..2], "method and target as nginx read them");
        assert_eq!(through[3], straight[3], "status of {straight:?}");
        let length = |line: &[String]| -> i64 { line[2].parse().expect("a request length") };
        added.push(length(through) - length(straight));
    }
    println!(
        "{REQUESTS} requests straight to nginx and through: same count, targets, statuses and bodies; \
         {} to {} bytes of head and framing added",
        added.iter().min().expect("some"),
        added.iter().max().expect("some"),
    );
}
