//! What passes through, what stops here, and what is added: heads, bodies, both ways.
//!
//! A proxy is judged by what the other side sees, so every fact is read at the origin or at the
//! client, never at the proxy. Failure modes live in `failures`, streaming in `streaming`.

use std::collections::BTreeSet;
use std::process::Command;

use crate::support::h2c::H2c;
use crate::support::raw::{RawOrigin, Script};
use crate::support::tools::run;
use crate::support::{Behaviour, Origin, Proxy, Request, get, needs, post, upstreams};

fn in_front_of(origin: &Origin) -> Proxy {
    Proxy::start(&format!("{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n", upstreams(&[origin])))
}

#[test]
fn hop_by_hop_headers_stop_here_on_the_way_up() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    let request = get("/")
        .header("connection", "keep-alive, X-Private-Hop")
        .header("x-private-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("proxy-connection", "keep-alive")
        .header("proxy-authorization", "Basic c2VjcmV0")
        .header("te", "deflate")
        .header("upgrade", "foo/2")
        .header("x-end-to-end", "kept");
    proxy.ask(&request).expect_status(200);
    let seen = origin.last();
    for name in ["x-private-hop", "keep-alive", "proxy-connection", "proxy-authorization", "te", "upgrade"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
    let connection = seen.joined("connection").unwrap_or_default();
    assert!(!connection.contains("hop"), "connection: {connection}");
    assert_eq!(seen.header("x-end-to-end"), Some("kept"));
}

#[test]
fn a_long_list_of_hop_by_hop_names_hides_nothing() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    let names: Vec<_> = (0..40).map(|index| format!("x-hop-{index}")).collect();
    let request = names
        .iter()
        .fold(get("/").header("connection", &names.join(", ")), |request, name| request.header(name, "1"));
    let response = proxy.ask(&request);
    let kept: Vec<_> = match response.status {
        // Refusing such a list is as good as honouring it.
        400 => Vec::new(),
        _ => origin.last().headers.into_iter().filter(|(name, _)| name.starts_with("x-hop")).collect(),
    };
    assert!(kept.is_empty(), "{}: {kept:?}", response.status);
}

#[test]
fn an_absolute_target_decides_the_host() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    let bytes = "GET http://real.test/path?q=1 HTTP/1.1\r\nHost: other.test\r\nConnection: close\r\n\r\n";
    let answer = crate::support::raw::exchange(proxy.web(), bytes.as_bytes());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer:?}");
    assert_eq!(
        (origin.last().header("host"), origin.last().target.as_str()),
        (Some("real.test"), "/path?q=1")
    );
}

#[test]
fn an_http_1_0_client_gets_an_answer_it_can_read() {
    let origin = Origin::start("app");
    origin.on("/stream", Behaviour::Download(100_000));
    let proxy = in_front_of(&origin);
    let answer = crate::support::raw::exchange(proxy.web(), b"GET /stream HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    assert!(head.starts_with("HTTP/1.") && head.contains(" 200"), "{head}");
    assert!(!head.to_ascii_lowercase().contains("transfer-encoding"), "{head}");
    assert_eq!(body.len(), 100_000);
}

#[test]
fn an_answer_of_our_own_leaves_the_connection_in_step() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&format!(
        "{}routes:\n  - {{ name: down, hostnames: [a.test], matches: [{{ path: /down }}], filters: [{{ respond: {{ status: 503, body: soon }} }}] }}\n  \
         - {{ name: moved, hostnames: [a.test], matches: [{{ path: /moved }}], filters: [{{ redirect: {{ path: {{ full: /new }} }} }}] }}\n  \
         - {{ name: all, hostnames: [a.test], split: {{ app: 1 }} }}\n",
        upstreams(&[&origin])
    ));
    let mut conn = proxy.conn();
    for (host, target, status) in
        [("a.test", "/down", 503), ("a.test", "/moved", 302), ("none.test", "/", 404)]
    {
        let refused = conn.ask(&post(target, vec![b'x'; 100_000]).host(host));
        assert_eq!(refused.status, status, "{target}");
        if refused.closes() {
            conn = proxy.conn();
        }
        // A connection that was not said to end must still work.
        assert_eq!(conn.ask(&get("/").host("a.test")).origin(), "app", "after {target}");
    }
    let head = proxy.ask(&Request::new("HEAD", "/down").host("a.test"));
    assert_eq!((head.status, head.body.len()), (503, 0));
    assert_eq!(origin.requests(), 3, "bodies never become requests");
}

#[test]
fn a_client_cannot_have_headers_of_weight_removed_on_the_way() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    for name in ["host", "x-forwarded-for", "cookie", "authorization"] {
        let request =
            get("/").header("cookie", "a=1").header("authorization", "x").header("connection", name);
        let response = proxy.ask(&request);
        assert_eq!((response.status, origin.requests()), (400, 0), "Connection: {name}");
    }
}

#[test]
fn hop_by_hop_headers_stop_here_on_the_way_down() {
    let origin = RawOrigin::start(Script::Send(
        b"HTTP/1.1 200 OK\r\nConnection: keep-alive, X-Private-Hop\r\nX-Private-Hop: 1\r\n\
          Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nX-End-To-End: kept\r\n\
          Content-Length: 2\r\n\r\nok"
            .to_vec(),
    ));
    let proxy = Proxy::start(&format!(
        "upstreams: {{ app: \"{}\" }}\nroutes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        origin.url()
    ));
    let response = proxy.ask(&get("/")).expect_status(200);
    for name in ["x-private-hop", "keep-alive", "proxy-connection"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("x-end-to-end"), Some("kept"));
    assert_eq!(response.text(), "ok");
}

#[test]
fn host_and_target_are_forwarded_as_they_came() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    for (host, target) in [
        ("shop.example.com", "/"),
        ("shop.example.com:8443", "/a/b?c=d&e=%2F%20"),
        ("SHOP.example.com", "/caf%C3%A9//double/;v=1"),
        ("127.0.0.1:1", "/?"),
    ] {
        proxy.ask(&get(target).host(host)).expect_status(200);
        assert_eq!((origin.last().header("host"), origin.last().target.as_str()), (Some(host), target));
        assert_eq!(origin.last().lines("host"), 1);
    }
}

#[test]
fn an_untrusted_client_cannot_claim_where_it_came_from() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    let spoofed = get("/")
        .host("shop.test:81")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x-forwarded-for", "7.7.7.7")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "evil.test")
        .header("x-forwarded-port", "443")
        .header("x-real-ip", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6;proto=https");
    for request in [get("/").host("shop.test:81"), spoofed] {
        proxy.ask(&request).expect_status(200);
        let seen = origin.last();
        assert_eq!(seen.joined("x-forwarded-for").as_deref(), Some("127.0.0.1"));
        assert_eq!(seen.joined("x-forwarded-proto").as_deref(), Some("http"));
        assert_eq!(seen.joined("x-forwarded-host").as_deref(), Some("shop.test:81"));
        assert!(!seen.joined("forwarded").unwrap_or_default().contains("6.6.6.6"));
        assert_ne!(seen.header("x-real-ip"), Some("6.6.6.6"));
        assert_ne!(seen.header("x-forwarded-port"), Some("443"));
    }
}

#[test]
fn a_trusted_proxy_is_believed_and_added_to_the_chain() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&format!(
        "trustedProxies: [127.0.0.0/8]\n{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n",
        upstreams(&[&origin])
    ));
    let request = get("/")
        .header("x-forwarded-for", "203.0.113.7")
        .header("x-forwarded-for", "198.51.100.1")
        .header("x-forwarded-proto", "https")
        .header("x-forwarded-host", "public.test");
    proxy.ask(&request).expect_status(200);
    let seen = origin.last();
    let chain = seen.joined("x-forwarded-for").unwrap_or_default().replace(' ', "");
    assert_eq!(chain, "203.0.113.7,198.51.100.1,127.0.0.1");
    assert_eq!(seen.lines("x-forwarded-for"), 1, "one line, or the spoofed first one wins");
    assert_eq!(seen.joined("x-forwarded-proto").as_deref(), Some("https"));
    assert_eq!(seen.joined("x-forwarded-host").as_deref(), Some("public.test"));
}

#[test]
fn every_request_has_an_id_of_its_own() {
    let origin = Origin::start("app");
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, hostnames: [shop.test], split: {{ app: 1 }} }}]\n",
        upstreams(&[&origin])
    ));
    for _ in 0..20 {
        proxy.ask(&get("/")).expect_status(200);
    }
    let ids: BTreeSet<_> =
        origin.seen().iter().map(|seen| seen.joined("x-request-id").expect("an id upstream")).collect();
    assert_eq!(ids.len(), 20, "{ids:?}");
    let refused = proxy.ask(&get("/").host("unknown.test")).expect_status(404);
    let id = refused.header("x-request-id").unwrap_or_default();
    assert!(!id.is_empty(), "an error can be quoted to the operator: {refused:?}");
}

#[test]
fn answers_without_a_body_keep_the_connection_and_their_headers() {
    let origin = Origin::start("app");
    origin.on("/gone", Behaviour::Answer(204, "")).on("/same", Behaviour::Answer(304, ""));
    let proxy = in_front_of(&origin);
    let mut conn = proxy.conn();
    let whole = conn.ask(&get("/"));
    let head = conn.ask(&Request::new("HEAD", "/"));
    assert_eq!((head.status, head.body.len()), (200, 0));
    let length: usize = head.header("content-length").expect("kept").parse().expect("a length");
    assert!(length > 0, "{head:?} against {whole:?}");
    for (target, status) in [("/gone", 204), ("/same", 304)] {
        let response = conn.ask(&get(target));
        assert_eq!((response.status, response.body.len()), (status, 0), "{target}");
    }
    assert_eq!(conn.ask(&get("/")).status, 200, "the connection is still in step");
    assert_eq!(origin.requests(), 5);
}

#[test]
fn bodies_of_every_framing_and_method_arrive_whole() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    let mut conn = proxy.conn();
    for method in ["POST", "PUT", "PATCH", "DELETE", "GET", "OPTIONS", "PURGE"] {
        for size in [1, 1_000, 200_000] {
            let body = vec![b'x'; size];
            let sized = Request { body: body.clone(), ..Request::new(method, "/sized") };
            conn.ask(&sized).expect_status(200);
            assert!(origin.last().body == body, "{method} of {size} bytes with a length");

            let head =
                format!("{}transfer-encoding: chunked\r\n\r\n", Request::new(method, "/chunked").head());
            conn.write(head.as_bytes()).expect("send the head");
            for piece in body.chunks(60_000) {
                conn.write_chunk(piece).expect("send a chunk");
            }
            conn.write(b"0\r\n\r\n").expect("send the last chunk");
            let response = conn.read_head(method).expect("an answer");
            assert_eq!(response.status, 200);
            while conn.piece().expect("the rest of the answer").is_some() {}
            assert!(origin.last().body == body, "{method} of {size} bytes in chunks");
        }
    }
    assert_eq!(origin.connections(), 1, "one upstream connection was enough");
}

#[test]
fn http2_clients_reach_an_http1_origin() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    let conn = H2c::open(proxy.web());
    let request = get("/a?b=c").host("shop.test:8080").header("x-user-id", "u1");
    let response = conn.send(&request).expect("an answer").expect_status(200);
    assert_eq!(response.origin(), "app");
    let seen = origin.last();
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!((seen.target.as_str(), seen.header("host")), ("/a?b=c", Some("shop.test:8080")));
    assert_eq!(seen.header("x-user-id"), Some("u1"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));

    for method in ["GET", "POST", "DELETE"] {
        let body = vec![b'z'; 150_000];
        let request = Request { body: body.clone(), ..Request::new(method, "/body") };
        conn.send_unsized(&request).expect("an answer").expect_status(200);
        assert!(origin.last().body == body, "{method} without a content-length");
    }
    let many = vec![get("/many"); 50];
    for answer in conn.send_together(&many) {
        assert_eq!(answer.expect("a stream's answer").status, 200);
    }
    assert!(!conn.is_closed());
}

#[test]
fn connections_to_an_origin_are_reused() {
    let origin = Origin::start("app");
    let proxy = in_front_of(&origin);
    let mut conn = proxy.conn();
    for round in 0..100 {
        let request = if round % 2 == 0 { get("/") } else { post("/", "body") };
        assert!(!conn.ask(&request).expect_status(200).closes());
    }
    assert_eq!((origin.requests(), origin.connections()), (100, 1));
}

#[test]
fn curl_gets_the_same_bytes_over_both_protocols() {
    needs!("curl");
    let origin = Origin::start("app");
    origin.on("/big", Behaviour::Download(3_000_000)).on("/up", Behaviour::Swallow);
    let proxy = in_front_of(&origin);
    let url = |path: &str| format!("http://{}{path}", proxy.web());
    // A megabyte makes curl ask for permission first: 100-continue is in the path.
    let upload = vec![b'u'; 2_000_000];
    for protocol in ["--http1.1", "--http2-prior-knowledge"] {
        let curl = |arguments: &[&str], input: &[u8]| {
            let mut command = Command::new("curl");
            command.args([
                "--silent",
                "--show-error",
                "--fail",
                "--max-time",
                "60",
                "--noproxy",
                "*",
                protocol,
            ]);
            let done = run(command.args(arguments), input);
            assert_eq!(done.code, Some(0), "{protocol} {arguments:?}: {}", done.err);
            done.out
        };
        assert_eq!(curl(&[&url("/big")], b"").len(), 3_000_000, "{protocol}");
        let got = curl(&["--data-binary", "@-", &url("/up")], &upload);
        assert_eq!(got, "2000000", "{protocol}");
    }
}
