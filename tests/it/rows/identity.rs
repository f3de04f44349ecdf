//! P01-P10: who the client is, what is said of it, and which bytes are matched (faults 1A, 1C).
//!
//! The origin's headers are compared as an exact multiset: a header too many is as wrong as one too
//! few. P09 and P10, trace context and request ids, are beyond the matrix.

use std::collections::BTreeSet;

use super::{Stage, Table, answers};
use crate::support::recorder::{After, Message, Recorder};
use crate::support::{Conn, Proxy};

const TRUSTED: &str = "trustedProxies: [127.0.0.0/8, 10.0.0.0/8, \"2001:db8::/32\"]\n";
const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Sends one request with these lines and gives what the origin saw.
fn sees(stage: &Stage, lines: &str) -> Message {
    stage.up.clear();
    let mut conn = Conn::open(stage.proxy.web());
    let sent = format!("GET /x HTTP/1.1\r\nHost: shop.test:81\r\n{lines}\r\n");
    conn.write(sent.as_bytes()).expect("send");
    assert_eq!(answers(&mut conn, &[], 1).statuses, [200], "{lines}");
    stage.up.last()
}

/// Header lines in an order of their own; an id of ours is any id.
fn multiset(headers: &[(String, String)], any: &[&str]) -> Vec<String> {
    let mut lines: Vec<_> = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", if any.contains(&name.as_str()) { "*" } else { value }))
        .collect();
    lines.sort();
    lines
}

#[track_caller]
fn is_exactly(message: &Message, expected: &[&str]) {
    let mut expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
    expected.push("x-request-id: *".to_owned());
    expected.sort();
    assert_eq!(multiset(&message.headers, &["x-request-id"]), expected);
}

const PLAIN: [&str; 4] = [
    "host: shop.test:81",
    "x-forwarded-for: 127.0.0.1",
    "x-forwarded-proto: http",
    "x-forwarded-host: shop.test:81",
];

fn plain_and(more: &[&'static str]) -> Vec<&'static str> {
    PLAIN.iter().chain(more).copied().collect()
}

#[test]
fn hop_by_hop() {
    let mut table = Table::new();
    let stage = Stage::polite();
    table.row("P01", "a bare request: nothing but what is ours", || is_exactly(&sees(&stage, ""), &PLAIN));
    table.row("P01", "what Connection names, on the way up", || {
        let message = sees(
            &stage,
            "Connection: keep-alive, X-Hop\r\nConnection: x-other,, te\r\nX-Hop: 1\r\nX-Hop: 2\r\nX-Other: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\n\
             Proxy-Authenticate: Basic\r\nTE: trailers\r\nUpgrade: foo/2\r\nHTTP2-Settings: AAMAAABk\r\n\
             X-End: kept\r\nX-End: twice\r\n",
        );
        is_exactly(&message, &plain_and(&["x-end: kept", "x-end: twice"]));
    });
    for name in
        ["Host", "Content-Length", "Cookie", "Authorization", "X-Forwarded-For", "Forwarded", "traceparent"]
    {
        table.row("P01", &format!("Connection: {name}"), || {
            let mark = stage.mark("bad_header");
            let mut conn = Conn::open(stage.proxy.web());
            let sent = format!("GET / HTTP/1.1\r\nHost: a\r\nCookie: a=1\r\nConnection: {name}\r\n\r\n");
            conn.write(sent.as_bytes()).expect("send");
            assert_eq!(answers(&mut conn, &[], 2).statuses, [400]);
            stage.refused(&mark);
        });
    }
    let origin = Recorder::start(|exchange| {
        exchange.read_body();
        let head = match exchange.message.target.as_str() {
            "/none" => "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n",
            "/list" => "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n",
            _ => "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        };
        let body =
            if exchange.message.target == "/none" || exchange.message.method == "HEAD" { "" } else { "ok" };
        let lines = "Connection: keep-alive, X-Hop\r\nConnection: close, set-cookie\r\nX-Hop: 1\r\n\
             Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authenticate: Basic\r\n\
             Proxy-Authentication-Info: x\r\nUpgrade: foo/2\r\nTE: x\r\nX-End: kept\r\nX-End: twice\r\n\
             Set-Cookie: a=1\r\n\r\n";
        exchange.send(format!("{head}{lines}{body}").as_bytes());
        After::Close
    });
    let down = Stage::new(origin, "", "");
    for (method, target, status, more) in [
        ("GET", "/", 200, Some("content-length: 2")),
        ("GET", "/list", 200, Some("content-length: 2")),
        ("HEAD", "/", 200, Some("content-length: 2")),
        ("GET", "/none", 204, None),
    ] {
        table.row("P01", &format!("what Connection names, on the way down: {method} {target}"), || {
            let mut conn = Conn::open(down.proxy.web());
            conn.write(format!("{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).expect("send");
            let response = conn.read_head(method).expect("an answer");
            assert_eq!(response.status, status, "{response:?}");
            let mut expected = vec!["x-end: kept", "x-end: twice", "set-cookie: a=1", "date: *"];
            expected.extend(more);
            expected.sort_unstable();
            assert_eq!(multiset(&response.headers, &["date"]), expected);
        });
    }
    table.end();
}

#[test]
fn forwarded_headers() {
    let mut table = Table::new();
    let (stranger, trusted) = (Stage::polite(), Stage::new(Recorder::polite(), TRUSTED, ""));
    let spoofed = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 7.7.7.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Host: evil\r\nX-Forwarded-Port: 1\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";
    table.row("P02", "a stranger's claims are replaced", || is_exactly(&sees(&stranger, spoofed), &PLAIN));
    table.row("P02", "a trusted proxy says nothing", || is_exactly(&sees(&trusted, ""), &PLAIN));
    table.row("P02", "a trusted proxy's lines are one, with it at the end", || {
        let lines = "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-For:  198.51.100.1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-Host: public.test\r\nX-Forwarded-Port: 443\r\n";
        is_exactly(
            &sees(&trusted, lines),
            &[
                "host: shop.test:81",
                "x-forwarded-for: 203.0.113.7, 198.51.100.1, 127.0.0.1",
                "x-forwarded-proto: https",
                "x-forwarded-host: public.test",
                "x-forwarded-port: 443",
            ],
        );
    });
    table.row("P03", "a stranger's Forwarded goes, none is invented", || {
        is_exactly(&sees(&stranger, "Forwarded: for=6.6.6.6;proto=https\r\n"), &PLAIN);
    });
    table.row("P03", "a trusted proxy's Forwarded gets one element more, as one line", || {
        let lines = "Forwarded: for=203.0.113.7;proto=https\r\nForwarded: for=\"[2001:db8::7]:4711\"\r\n";
        let message = sees(&trusted, lines);
        assert_eq!(
            message.values("forwarded"),
            ["for=203.0.113.7;proto=https, for=\"[2001:db8::7]:4711\", for=127.0.0.1;host=\"shop.test:81\";proto=http"]
        );
    });
    let walked = |top: &str, lines: &str| {
        let up = Recorder::polite();
        let proxy = Proxy::start(&format!(
            "{top}accessLog: {{ path: stdout }}\nupstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n",
            up.url()
        ));
        let stage = Stage { proxy, up };
        sees(&stage, lines);
        let mut client = String::new();
        crate::support::eventually("a line is logged", || {
            let lines = stage.proxy.out();
            let line = lines.iter().find(|line| line.contains("\"client\""));
            let line: Option<serde_json::Value> = line.and_then(|line| serde_json::from_str(line).ok());
            client = line.and_then(|line| Some(line["client"].as_str()?.to_owned())).unwrap_or_default();
            !client.is_empty()
        });
        client
    };
    for (what, top, lines, client) in [
        ("a stranger", "", "X-Forwarded-For: 6.6.6.6\r\n", "127.0.0.1"),
        (
            "the first stranger from the right",
            TRUSTED,
            "X-Forwarded-For: 6.6.6.6, 1.2.3.4, 10.0.0.9\r\n",
            "1.2.3.4",
        ),
        ("over two lines", TRUSTED, "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 1.2.3.4\r\n", "1.2.3.4"),
        (
            "Forwarded alone",
            TRUSTED,
            "Forwarded: for=6.6.6.6, for=\"1.2.3.4:1\", for=\"[2001:db8::1]\"\r\n",
            "1.2.3.4",
        ),
        ("both", TRUSTED, "X-Forwarded-For: 1.2.3.4\r\nForwarded: for=5.6.7.8\r\n", "1.2.3.4"),
    ] {
        table.row("P02", &format!("the client's address: {what}"), || assert_eq!(walked(top, lines), client));
    }
    table.end();
}

#[test]
fn via_and_host() {
    let mut table = Table::new();
    let stage = Stage::polite();
    table.row("P04", "Via passes and is not added", || {
        is_exactly(&sees(&stage, "Via: 1.0 fred\r\n"), &plain_and(&["via: 1.0 fred"]));
    });
    let listener = "listeners: [{ name: web, address: \"127.0.0.1:@web@\", via: true }]\n";
    let named = Stage::new(Recorder::polite(), listener, "");
    table.row("P04", "Via is added where it is asked for", || {
        let message = sees(&named, "Via: 1.0 fred\r\n");
        assert_eq!(message.values("via").join(", "), "1.0 fred, 1.1 switchback");
    });
    let rewritten = Stage::new(Recorder::polite(), "", ", filters: [{ rewrite: { hostname: inner.test } }]");
    table.row("P05", "Host as it came", || {
        assert_eq!(sees(&stage, "").values("host"), ["shop.test:81"]);
    });
    table.row("P05", "Host rewritten; the asked one is told", || {
        let message = sees(&rewritten, "");
        assert_eq!(message.values("host"), ["inner.test"]);
        assert_eq!(message.values("x-forwarded-host"), ["shop.test:81"]);
    });
    table.row("P05", "HTTP/1.0 without Host: the address it came to", || {
        stage.up.clear();
        let mut conn = Conn::open(stage.proxy.web());
        conn.write(b"GET /x HTTP/1.0\r\n\r\n").expect("send");
        assert_eq!(answers(&mut conn, &[], 2).statuses, [200]);
        let message = stage.up.last();
        assert_eq!(message.values("host"), [stage.proxy.web().to_string()]);
        assert!(message.is_canonical() && message.version == "HTTP/1.1", "{message:?}");
    });
    table.end();
}

/// Paths that one reader or another takes for something below `/admin`.
fn spellings() -> BTreeSet<String> {
    let before = [
        "/",
        "//",
        "///",
        "/./",
        "/x/../",
        "/%2e/",
        "/x/%2e%2e/",
        "/x/%2E./",
        "/%2f",
        "/x/..%2f",
        "/;v=1/",
        "/..;/",
        "/\\",
        "/x\\..\\",
        "/%5c",
        "/x/..%5c",
    ];
    let names = ["admin", "ADMIN", "%61dmin", "admin;v=1", "admin%3bv=1", "admin%00", "adminx", "a%64min"];
    let after = [
        "",
        "/",
        "/x",
        "//x",
        "/../x",
        "/%2e%2e/x",
        "%2fx",
        "%5cx",
        "\\x",
        ";/x",
        "/..;/x",
        "/.",
        "/x?a=/../b",
    ];
    before
        .iter()
        .flat_map(|before| names.iter().map(move |name| format!("{before}{name}")))
        .flat_map(|path| after.iter().map(move |after| format!("{path}{after}")))
        .collect()
}

#[test]
fn paths_against_a_closed_route() {
    let mut table = Table::new();
    let up = Recorder::polite();
    let listeners = "listeners:\n  - { name: web, address: \"127.0.0.1:@web@\" }\n  \
         - { name: second, address: \"127.0.0.1:@second@\", paths: { encodedSlash: reject } }\n";
    let proxy = Proxy::start(&format!(
        "{listeners}upstreams: {{ app: \"{}\" }}\nroutes:\n  \
         - {{ name: closed, matches: [{{ path: /admin }}], filters: [{{ respond: {{ status: 403 }} }}] }}\n  \
         - {{ name: all, split: {{ app: 1 }} }}\n",
        up.url()
    ));
    let stage = Stage { proxy, up };
    let groups: [(&str, &str, fn(&str) -> bool); 5] = [
        ("P06", "dot segments", |path| {
            let lower = path.to_ascii_lowercase().replace("%2e", ".");
            lower.contains("/.") || lower.contains("./")
        }),
        ("P07", "encoded slashes", |path| path.contains("%2f") || path.contains("%5c")),
        ("P07", "double slashes", |path| path.contains("//")),
        ("P08", "parameters", |path| path.contains(';') || path.contains("%3b")),
        ("P08", "backslashes, other spellings and all the rest", |_| true),
    ];
    let mut left = spellings();
    for (id, what, belongs) in groups {
        let (mine, others) = left.into_iter().partition::<BTreeSet<_>, _>(|path| belongs(path));
        left = others;
        table.row(id, &format!("{what}: {} spellings", mine.len()), || {
            for path in &mine {
                let open = probe(&stage, &stage.proxy.site.web(), path);
                let strict = probe(&stage, &stage.proxy.site.second(), path);
                let slash =
                    ["%2f", "%5c", "\\"].iter().any(|one| path.split('?').next().unwrap().contains(one));
                assert!(!slash || strict == 400, "{path}: {strict} where encoded slashes are refused");
                assert!(slash || strict == open, "{path}: {open} and {strict}");
            }
        });
    }
    table.end();
}

/// One path on one listener: refused, closed, or forwarded as it was matched; its status.
fn probe(stage: &Stage, addr: &std::net::SocketAddr, target: &str) -> u16 {
    stage.up.clear();
    let mut conn = Conn::open(*addr);
    conn.write(format!("GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes())
        .expect("send");
    let heard = answers(&mut conn, &[], 2);
    let status = heard.statuses[0];
    let path = target.split('?').next().unwrap_or_default();
    let below = path == "/admin" || path.starts_with("/admin/");
    let messages = stage.up.messages();
    match status {
        400 => assert_eq!(stage.up.bytes(), 0, "{target}"),
        403 => assert!(below && stage.up.bytes() == 0, "{target}: closed but not below the route"),
        200 => {
            assert!(!below, "{target}: got round the closed route");
            assert_eq!((messages.len(), messages[0].target.as_str()), (1, target), "matched and forwarded");
            let decoded =
                path.to_ascii_lowercase().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/");
            let dots = decoded
                .replace('\\', "/")
                .split('/')
                .any(|part| matches!(part.split(';').next(), Some("." | "..")));
            assert!(!dots, "{target}: dot segments went through");
        }
        other => panic!("{target}: {other}"),
    }
    status
}

#[test]
fn trace_context_and_request_ids() {
    let mut table = Table::new();
    let stage = Stage::polite();
    let trace =
        |message: &Message| (message.values("traceparent").join("|"), message.values("tracestate").join("|"));
    let many = vec!["a=1"; 33].join(",");
    let rows = [
        ("valid", format!("traceparent: {PARENT}\r\ntracestate: a=1,b=2\r\n"), PARENT, "a=1,b=2"),
        ("none", String::new(), "", ""),
        ("malformed", "traceparent: 00-zz-01\r\ntracestate: a=1\r\n".to_owned(), "", ""),
        (
            "zero ids",
            format!("traceparent: {}\r\n", PARENT.replace("b7ad6b7169203331", "0000000000000000")),
            "",
            "",
        ),
        ("twice", format!("traceparent: {PARENT}\r\ntraceparent: {PARENT}\r\n"), "", ""),
        ("state alone", "tracestate: a=1\r\n".to_owned(), "", ""),
        (
            "a state too long",
            format!("traceparent: {PARENT}\r\ntracestate: a={}\r\n", "x".repeat(520)),
            PARENT,
            "",
        ),
        ("a state of too many", format!("traceparent: {PARENT}\r\ntracestate: {many}\r\n"), PARENT, ""),
    ];
    for (what, lines, parent, state) in rows {
        table.row("P09", &format!("trace context: {what}"), || {
            assert_eq!(trace(&sees(&stage, &lines)), (parent.to_owned(), state.to_owned()));
        });
    }
    for (share, flags) in [("0%", "-00"), ("100%", "-01")] {
        let traced = Stage::new(Recorder::polite(), &format!("tracing: {{ sample: {share} }}\n"), "");
        table.row("P09", &format!("trace context: begun, {share} sampled"), || {
            let begun: BTreeSet<_> = (0..10).map(|_| trace(&sees(&traced, "")).0).collect();
            assert_eq!(begun.len(), 10, "{begun:?}");
            assert!(
                begun.iter().all(|one| one.len() == 55 && one.starts_with("00-") && one.ends_with(flags))
            );
            let valid = sees(&traced, &format!("traceparent: {PARENT}\r\n"));
            assert_eq!(valid.values("traceparent"), [PARENT]);
            assert_ne!(sees(&traced, "traceparent: x\r\n").values("traceparent"), ["x"]);
        });
    }
    for (what, id, kept) in [
        ("a short one", "abc-123", true),
        ("128 bytes", &"a".repeat(128), true),
        ("129 bytes", &"a".repeat(129), false),
        ("spaces", "a b", false),
        ("markup", "<script>", false),
        ("empty", "", false),
    ] {
        table.row("P10", &format!("request id: {what}"), || {
            let message = sees(&stage, &format!("X-Request-Id: {id}\r\n"));
            let ids = message.values("x-request-id");
            assert_eq!(ids.len(), 1);
            assert_eq!(ids[0] == id, kept, "{ids:?}");
            assert!(!ids[0].is_empty());
        });
    }
    table.row("P10", "request id: two lines are one", || {
        let message = sees(&stage, "X-Request-Id: a\r\nX-Request-Id: b\r\n");
        assert_eq!(message.values("x-request-id").len(), 1);
    });
    table.end();
}
