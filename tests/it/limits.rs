//! What a client may do and how long it may take, listener by listener.
//!
//! Each time limit is shown on two listeners at once: the strict one ends the connection, the
//! patient one, treated the same, still serves. So no row depends on how fast the machine is, and a
//! limit that is ignored fails.

use std::net::SocketAddr;

use crate::support::h2c::H2c;
use crate::support::{Behaviour, Conn, Origin, Proxy, Request, eventually, get, raw, upstreams};

/// Two listeners that differ in one thing, in front of one origin.
fn strict_and_patient(origin: &Origin, strict: &str, patient: &str) -> Proxy {
    Proxy::start(&format!(
        "listeners:\n  - {{ name: web, address: \"127.0.0.1:@web@\", {strict} }}\n  \
         - {{ name: second, address: \"127.0.0.1:@second@\", {patient} }}\n\
         {}routes: [{{ name: all, split: {{ app: 1 }}, timeouts: {{ request: 0s, upstream: 0s, streamIdle: 0s }} }}]\n",
        upstreams(&[origin])
    ))
}

const PATIENT: &str = "timeouts: { firstByte: 60s, header: 60s, bodyIdle: 60s, idle: 60s, sendStall: 60s }";

/// Waits for the proxy to end a connection; what it says before that is returned.
fn ended(conn: &mut Conn) -> String {
    String::from_utf8_lossy(&conn.rest()).into_owned()
}

/// A client that stops in the middle, and the rest of its request.
fn stops_in_the_middle(limit: &str, first: &str, rest: &str) {
    let origin = Origin::start("app");
    let proxy = strict_and_patient(&origin, &format!("timeouts: {{ {limit}: 1s }}"), PATIENT);
    let open = |addr: SocketAddr| {
        let mut conn = Conn::open(addr);
        conn.write(first.as_bytes()).expect("send the first part");
        conn
    };
    let (mut strict, mut patient) = (open(proxy.site.web()), open(proxy.site.second()));
    let said = ended(&mut strict);
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408"), "{limit}: {said:?}");
    patient.write(rest.as_bytes()).expect("send the rest");
    assert_eq!(
        patient.read_head("GET").expect("an answer").status,
        200,
        "{limit}: the patient listener waits"
    );
}

#[test]
fn a_connection_that_says_nothing_is_ended() {
    stops_in_the_middle("firstByte", "", "GET / HTTP/1.1\r\nhost: a\r\n\r\n");
}

#[test]
fn a_head_that_never_ends_is_ended() {
    stops_in_the_middle("header", "GET / HTTP/1.1\r\nhost: a\r\nx-slow", ": 1\r\n\r\n");
}

#[test]
fn a_request_body_that_stops_is_ended() {
    stops_in_the_middle("bodyIdle", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf", " done.");
}

#[test]
fn an_idle_connection_is_ended_and_an_old_one_says_so() {
    let origin = Origin::start("app");
    let proxy = strict_and_patient(&origin, "timeouts: { idle: 1s }", PATIENT);
    let (mut strict, mut patient) = (Conn::open(proxy.site.web()), Conn::open(proxy.site.second()));
    for conn in [&mut strict, &mut patient] {
        conn.ask(&get("/")).expect_status(200);
    }
    assert_eq!(ended(&mut strict), "", "closed without a word");
    patient.ask(&get("/")).expect_status(200);

    let proxy = strict_and_patient(&origin, "timeouts: { maxAge: 1s }", PATIENT);
    let (mut old, mut patient) = (Conn::open(proxy.site.web()), Conn::open(proxy.site.second()));
    eventually("an old connection is told to end, with a whole answer", || {
        assert!(!patient.ask(&get("/")).closes(), "only where it is configured");
        old.ask(&get("/")).expect_status(200).closes()
    });
    assert_eq!(ended(&mut old), "");
}

#[test]
fn a_client_that_does_not_read_is_ended() {
    let origin = Origin::start("app");
    let size = 64 << 20;
    origin.on("/down", Behaviour::Download(size));
    let proxy = strict_and_patient(&origin, "timeouts: { sendStall: 1s }", PATIENT);
    let (mut strict, mut patient) = (Conn::open(proxy.site.web()), Conn::open(proxy.site.second()));
    for conn in [&mut strict, &mut patient] {
        conn.begin(&get("/down")).expect("a head");
    }
    eventually("the origin of the stalled one is let go", || origin.abandoned() == 1);
    let mut got = 0;
    while let Some(piece) = patient.piece().expect("the patient listener waits") {
        got += piece.len() as u64;
    }
    assert_eq!(got, size);
}

#[test]
fn connections_are_bounded_in_all_and_by_address() {
    let origin = Origin::start("app");
    let proxy = strict_and_patient(&origin, "limits: { connections: 2 }", "limits: { connectionsPerIp: 1 }");
    let mut kept: Vec<_> = (0..2).map(|_| Conn::open(proxy.site.web())).collect();
    for conn in &mut kept {
        conn.ask(&get("/")).expect_status(200);
    }
    let refused = Conn::open(proxy.site.web()).send(&get("/"));
    assert!(refused.as_ref().map_or(true, |response| response.status == 503), "one too many: {refused:?}");
    kept.pop();
    eventually("a place is free again", || {
        let again = Conn::open(proxy.site.web()).send(&get("/"));
        again.is_ok_and(|response| response.status == 200)
    });

    let mut first = Conn::open(proxy.site.second());
    first.ask(&get("/")).expect_status(200);
    let refused = Conn::open(proxy.site.second()).send(&get("/"));
    assert!(
        refused.as_ref().map_or(true, |response| response.status == 503),
        "the same address: {refused:?}"
    );
    let mut other = Conn::open_from([127, 0, 0, 2], proxy.site.second());
    other.ask(&get("/")).expect_status(200);
    first.ask(&get("/")).expect_status(200);
}

#[test]
fn concurrent_streams_are_announced_as_written() {
    let origin = Origin::start("app");
    let proxy = strict_and_patient(&origin, "protocol: h2c, limits: { streams: 7 }", "protocol: h2c");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    for (addr, streams) in [(proxy.site.web(), 7), (proxy.site.second(), 100)] {
        let mut conn = Conn::open(addr);
        conn.write(preface).expect("send the preface");
        let settings = conn.http2_settings().expect("the server's settings");
        // RFC 9113 section 6.5.2: 3 is SETTINGS_MAX_CONCURRENT_STREAMS.
        assert_eq!(settings.get(&3), Some(&streams), "{settings:?}");
    }
}

#[test]
fn the_limits_in_force_are_shown_and_are_those_of_the_reference() {
    let origin = Origin::start("app");
    let text = format!("{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n", upstreams(&[&origin]));
    let shown = Proxy::start(&text).read("/api/v1/limits");
    let reference = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/README.md"));
    let reference = reference.expect("the reference");
    // The default that the reference gives for a key; sizes in bytes.
    let default = |key: &str| {
        let row = reference.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
        let row = row.unwrap_or_else(|| panic!("the reference does not name {key}"));
        let text = row.split('|').nth(2).expect("a default").trim().trim_matches('`');
        let sizes = [("KiB", 1_u64 << 10), ("MiB", 1 << 20)];
        let size =
            sizes.iter().find_map(|(unit, by)| Some(text.strip_suffix(unit)?.parse::<u64>().ok()? * by));
        size.map_or_else(|| text.to_owned(), |size| size.to_string())
    };
    let blocks = [
        ("limits", &shown["listeners"][0]["limits"]),
        ("timeouts", &shown["listeners"][0]["timeouts"]),
        ("limits", &shown["upstreams"][0]["limits"]),
        ("connection", &shown["upstreams"][0]["connection"]),
        ("timeouts", &shown["routes"][0]["timeouts"]),
        ("", &shown["routes"][0]["retry"]),
        ("budgets", &shown["budgets"]),
    ];
    for (block, values) in blocks {
        let values = values.as_object().unwrap_or_else(|| panic!("no {block} in {shown:#}"));
        for (name, value) in values {
            let key = if block.is_empty() { name.clone() } else { format!("{block}.{name}") };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned).replace("1m", "60s");
            assert_eq!(text, default(&key), "{key}");
        }
    }
}

#[test]
fn clients_that_stop_make_no_arm_look_bad() {
    let origin = Origin::start("app");
    origin.on("/hang", Behaviour::Hang).on("/up", Behaviour::Swallow);
    origin.on("/big", Behaviour::Download(64 << 20));
    // What fills the upstream, and what becomes of the next request.
    let upload = "POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf";
    let ask = |path: &str| format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
    for (text, outcome) in
        [(upload.to_owned(), "client_closed"), (ask("/big"), "client_closed"), (ask("/hang"), "error")]
    {
        let proxy = Proxy::start(&format!(
            "upstreams: {{ app: {{ endpoints: [\"{}\"], limits: {{ maxRequests: 4 }} }} }}\n\
             routes: [{{ name: all, split: {{ app: 1 }} }}]\nworkers: 1\n",
            origin.url()
        ));
        let crowd: Vec<_> = (0..4)
            .map(|_| {
                let mut conn = proxy.conn();
                conn.write(text.as_bytes()).expect("sent");
                if text == ask("/big") {
                    // The answer has begun, and nobody takes the rest of it.
                    conn.read_head("GET").expect("a head");
                }
                conn
            })
            .collect();
        let in_flight = || proxy.metrics().count("switchback_requests_in_flight", &[("arm", "app")]);
        eventually("the upstream is full", || in_flight() == 4);
        proxy.ask(&get("/")).expect_status(503);
        let metrics = proxy.settles("switchback_requests_total", &[("outcome", outcome)], 1);
        assert_eq!(metrics.count("switchback_requests_total", &[]), 1, "{outcome}");
        drop(crowd);
    }
}

#[test]
fn an_arm_that_one_client_fills_is_not_held_to_account_for_it() {
    let origins = ["stable", "canary"].map(Origin::start);
    origins[1].on("/hang", Behaviour::Hang);
    let text = format!(
        "trustedProxies: [\"127.0.0.1/32\"]\n\
         upstreams: {{ stable: \"{}\", canary: {{ endpoints: [\"{}\"], limits: {{ maxRequests: 16 }} }} }}\n\
         routes:\n  - name: all\n    split: {{ stable: 95, canary: 5 }}\n    \
         rollout: {{ version: v2, steps: [{{ weight: 50, dwell: 1h }}, 100], deadline: {{ step: 2h }}, \
         analysis: {{ confidence: low, warmup: {{ errors: 0, latency: 0 }} }} }}\n",
        origins[0].url(),
        origins[1].url()
    );
    let of = |address: usize, path: &str| get(path).header("x-forwarded-for", &format!("10.1.0.{address}"));
    // Whether all that fills the arm is of one address.
    for one in [true, false] {
        let proxy = Proxy::start(&text);
        let state = || proxy.read("/api/v1/routes/all")["rollout"]["state"].clone();
        eventually("it is on its step", || state() == "STAGE");
        for address in 0..200 {
            proxy.ask(&of(address % 50, "/")).expect_status(200);
        }
        let crowd: Vec<_> = (0..100)
            .map(|index| {
                let mut conn = proxy.conn();
                let asked = of(if one { 200 } else { index }, "/hang");
                conn.write(format!("{}\r\n", asked.head()).as_bytes()).expect("sent");
                conn
            })
            .collect();
        let canary = ("arm", "canary");
        let in_flight = || proxy.metrics().count("switchback_requests_in_flight", &[canary]);
        eventually("the arm is full", || in_flight() == 16);
        let full = (0..100).filter(|address| proxy.ask(&of(address % 50, "/")).status == 503).count();
        assert!(full > 10, "half of them: {full}");
        let ended =
            |outcome| proxy.metrics().count("switchback_requests_total", &[canary, ("outcome", outcome)]);
        if one {
            eventually("it is the client's doing", || ended("client_closed") >= full as u64);
            assert_eq!(ended("error"), 0);
            assert_eq!(state(), "STAGE");
        } else {
            eventually("it is an arm that answers nobody", || ended("error") >= full as u64);
        }
        drop(crowd);
    }
}

#[test]
fn an_arm_that_fails_is_held_to_account_though_the_one_that_would_save_it_is_full() {
    let origins = ["stable", "canary"].map(Origin::start);
    origins[0].on("/up", Behaviour::Swallow);
    origins[1].on("/", Behaviour::Answer(500, "broken"));
    let proxy = Proxy::start(&format!(
        "upstreams: {{ stable: {{ endpoints: [\"{}\"], limits: {{ maxRequests: 4 }} }}, canary: \"{}\" }}\n\
         routes:\n  - name: all\n    split: {{ stable: 100, canary: 0 }}\n    \
         retry: {{ when: [5xx], to: defaultArm }}\n    \
         overrides: [{{ name: try, arm: canary, when: {{ headers: [{{ name: x-canary, value: \"1\" }}] }} }}]\n\
         workers: 1\n",
        origins[0].url(),
        origins[1].url()
    ));
    let stalled: Vec<_> = (0..4)
        .map(|_| {
            let mut conn = proxy.conn();
            conn.write(b"POST /up HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf").expect("sent");
            conn
        })
        .collect();
    let in_flight = || proxy.metrics().count("switchback_requests_in_flight", &[("arm", "stable")]);
    eventually("the default arm is full", || in_flight() == 4);
    assert!(proxy.ask(&get("/").header("x-canary", "1")).status >= 500);
    proxy.settles("switchback_requests_total", &[("arm", "canary"), ("outcome", "error")], 1);
    drop(stalled);
}

#[test]
fn heads_are_bounded() {
    let origin = Origin::start("app");
    let proxy = strict_and_patient(
        &origin,
        "limits: { headerCount: 20, headerBytes: 8KiB, targetBytes: 1KiB }",
        "limits: { headerBytes: 64KiB, targetBytes: 16KiB }",
    );
    let many = (0..40).fold(get("/"), |request, index| request.header(&format!("x-{index}"), "v"));
    let rows = [
        (many, 431),
        (get("/").header("x-big", &"h".repeat(10_000)), 431),
        (get(&format!("/{}", "t".repeat(2_000))), 414),
    ];
    for (request, status) in rows {
        let strict = Conn::open(proxy.site.web()).ask(&request);
        assert_eq!(strict.status, status, "{}", &request.target[..1]);
        assert!(strict.closes(), "what follows on that connection cannot be trusted");
        assert_eq!(Conn::open(proxy.site.second()).ask(&request).status, 200, "within the other's limits");
    }
}

#[test]
fn a_body_over_its_limit_is_a_413_in_any_framing() {
    let origin = Origin::start("app");
    origin.on("/up", Behaviour::Swallow);
    let proxy = strict_and_patient(&origin, "limits: { bodyBytes: 64KiB }", "via: false");
    let sized = Request { body: vec![b'b'; 4 << 20], ..Request::new("POST", "/up") };
    assert_eq!(Conn::open(proxy.site.web()).ask(&sized).status, 413);
    assert_eq!(origin.requests(), 0, "a declared length is refused before anybody hears of it");

    for (addr, status) in [(proxy.site.web(), 413), (proxy.site.second(), 200)] {
        let mut conn = Conn::open(addr);
        let head = format!("{}transfer-encoding: chunked\r\n\r\n", Request::new("POST", "/up").head());
        conn.write(head.as_bytes()).expect("send the head");
        for _ in 0..8 {
            // The refusal may come while the body is still being sent.
            let _ = conn.write_chunk(&[b'b'; 16 << 10]);
        }
        let _ = conn.write(b"0\r\n\r\n");
        assert_eq!(conn.read_head("POST").expect("an answer").status, status);
    }
    let charged = [("outcome", "error")];
    assert_eq!(proxy.metrics().count("switchback_requests_total", &charged), 0, "no arm is to blame");
}

#[test]
fn ambiguous_paths_and_names_follow_the_listener() {
    let origin = Origin::start("app");
    let keep = "paths: { dotSegments: keep, encodedSlash: keep, underscores: keep }";
    let reject = "paths: { dotSegments: reject, encodedSlash: reject, underscores: reject }";
    let proxy = strict_and_patient(&origin, reject, keep);
    let rows = [
        get("/a/../b"),
        get("/a/%2e%2E/b"),
        get("/a/./b"),
        get("/a%2Fb"),
        get("/a%5cb"),
        get("/").header("x_under", "1"),
    ];
    for request in rows {
        let before = origin.requests();
        assert_eq!(Conn::open(proxy.site.web()).ask(&request).status, 400, "{request:?}");
        assert_eq!(origin.requests(), before, "{request:?}");
        assert_eq!(Conn::open(proxy.site.second()).ask(&request).status, 200, "{request:?}");
        assert_eq!(origin.last().target, request.target, "what is matched is what is forwarded");
    }
    // The default refuses dots and keeps the rest.
    let default =
        Proxy::start(&format!("{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n", upstreams(&[&origin])));
    assert_eq!(default.ask(&get("/a/../b")).status, 400);
    assert_eq!(default.ask(&get("/a%2Fb").header("x_under", "1")).status, 200);
}

#[test]
fn plaintext_http2_and_via_are_off_until_written() {
    let origin = Origin::start("app");
    let proxy = strict_and_patient(&origin, "protocol: auto", "protocol: h2c, via: true");
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = raw::exchange(proxy.site.web(), preface);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 5"),
        "{answer:?}"
    );
    assert_eq!(H2c::open(proxy.site.second()).send(&get("/")).expect("an answer").status, 200);
    assert!(origin.last().joined("via").is_some_and(|via| via.contains("switchback")));
    proxy.ask(&get("/")).expect_status(200);
    assert_eq!(origin.last().header("via"), None);
}

/// Paths and defaults of the reference's table of limits.
fn listed() -> Vec<(String, String)> {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/README.md"));
    let page = page.expect("the reference");
    let section = page.split("\n## Limits\n").nth(1).and_then(|rest| rest.split("\n## ").next());
    let lines = section.expect("a section").lines().filter(|line| line.starts_with("| `"));
    let cell =
        |line: &str, at| line.split('|').nth(at).unwrap_or_default().trim().trim_matches('`').to_owned();
    lines.map(|line| (cell(line, 1), cell(line, 2))).collect()
}

#[test]
fn every_limit_of_the_reference_is_in_force_unwritten_and_told() {
    let origin = Origin::start("app");
    let proxy =
        Proxy::start(&format!("{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n", upstreams(&[&origin])));
    let told = proxy.read("/api/v1/limits");
    let limits = listed();
    assert!(limits.len() >= 25, "{limits:?}");
    for (key, default) in limits {
        let place = key.replace("[]", ".0").replace("<name>", "0").replace('.', "/");
        let value = told.pointer(&format!("/{place}")).unwrap_or_else(|| panic!("{key} is not in {told:#}"));
        let same = match value {
            serde_json::Value::String(text) if text.ends_with('%') => *text == default,
            serde_json::Value::String(text) => {
                let span = |text: &str| humantime::parse_duration(text).expect("a duration");
                span(text) == span(&default)
            }
            number => {
                let size = default.parse::<bytesize::ByteSize>().expect("a number or a size");
                number.as_u64() == Some(size.as_u64())
            }
        };
        assert!(same, "{key} is {value}, not {default}");
    }
}
