//! U01-U06: upgrades to WebSocket, and everything that only looks like one (faults 1A).
//!
//! A proxy that believes a request instead of the upstream's 101 lets a client speak to the upstream
//! behind everybody's back: so every row looks at what the origin read and whose connection it was.

use super::{Stage, Table, answers};
use crate::support::recorder::{After, Exchange, Recorder};
use crate::support::{Conn, eventually, get};

const ASK: &str = "GET /ws HTTP/1.1\r\nHost: shop.test\r\nConnection: keep-alive, Upgrade\r\n\
                   Upgrade: WebSocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZQ==\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Accept: s3pP\r\n\r\n";

/// Agrees on `/ws` and echoes, is polite everywhere else.
fn echoing(route: &str) -> Stage {
    stage(route, |exchange| {
        exchange.send(AGREE.as_bytes());
        exchange.echo();
        After::Close
    })
}

fn stage(route: &str, on_ws: impl Fn(&mut Exchange<'_>) -> After + Send + Sync + 'static) -> Stage {
    let up = Recorder::start(move |exchange| {
        if exchange.message.target == "/ws" {
            return on_ws(exchange);
        }
        if exchange.read_body() { exchange.ok() } else { After::Close }
    });
    Stage::new(up, "", route)
}

const ALLOWED: &str = ", upgrades: [websocket]";

fn heard(conn: &mut Conn, count: usize) -> String {
    (0..count).map(|_| char::from(conn.byte().expect("a byte of the tunnel"))).collect()
}

#[test]
fn a_tunnel_opens_after_the_upstream_agreed() {
    let mut table = Table::new();
    let stage = echoing(ALLOWED);
    table.row("U01", "bytes pass both ways, and the ends of both sides", || {
        let mut conn = Conn::open(stage.proxy.web());
        conn.write(ASK.as_bytes()).expect("send");
        let head = conn.read_head("GET").expect("an answer");
        assert_eq!((head.status, head.header("upgrade")), (101, Some("websocket")));
        assert_eq!(head.header("sec-websocket-accept"), Some("s3pP"));
        conn.write(b"ping").expect("send");
        assert_eq!(heard(&mut conn, 4), "ping");
        let asked = stage.up.last();
        let own: Vec<_> =
            ["connection", "upgrade", "sec-websocket-key"].map(|name| asked.values(name)).into();
        assert_eq!(own, [vec!["upgrade"], vec!["websocket"], vec!["dGhlIHNhbXBsZQ=="]]);
        drop(conn);
        eventually("the upstream's connection is ended", || stage.up.open() == 0);
        stage.proxy.settles("switchback_requests_total", &[("outcome", "ok"), ("code", "1xx")], 1);
    });
    table.row("U06", "what is sent before the answer waits for it", || {
        let mut conn = Conn::open(stage.proxy.web());
        conn.write(format!("{ASK}early").as_bytes()).expect("send");
        assert_eq!(conn.read_head("GET").expect("an answer").status, 101);
        assert_eq!(heard(&mut conn, 5), "early");
    });
    table.row("U01", "a tunnel takes the place of an unused connection", || {
        let stage = echoing(ALLOWED);
        // One connection for everybody: an idle one must not keep a tunnel waiting for its end.
        let text = format!(
            "upstreams: {{ app: {{ endpoints: [\"{}\"], limits: {{ maxConnections: 1 }}, connection: {{ idleTimeout: 60s }} }} }}\n\
             routes: [{{ name: all, split: {{ app: 1 }}{ALLOWED}, timeouts: {{ upstream: 10s }} }}]\n",
            stage.up.url()
        );
        let proxy = crate::support::Proxy::start(&text);
        proxy.ask(&get("/first")).expect_status(200);
        let mut conn = Conn::open(proxy.web());
        conn.write(ASK.as_bytes()).expect("send");
        assert_eq!(conn.read_head("GET").expect("an answer").status, 101);
    });
    table.row("U01", "a tunnel without a byte ends after streamIdle", || {
        let stage = echoing(", upgrades: [websocket], timeouts: { streamIdle: 300ms }");
        let mut conn = Conn::open(stage.proxy.web());
        conn.write(ASK.as_bytes()).expect("send");
        assert_eq!(conn.read_head("GET").expect("an answer").status, 101);
        assert!(conn.rest().is_empty(), "ended by the proxy");
        eventually("the upstream's connection is ended", || stage.up.open() == 0);
    });
    table.end();
}

#[test]
fn an_upstream_that_does_not_agree_gives_an_ordinary_answer() {
    let mut table = Table::new();
    table.row("U02", "200 to an upgrade, then the next request", || {
        let stage =
            stage(ALLOWED, |exchange| if exchange.read_body() { exchange.ok() } else { After::Close });
        let mut conn = Conn::open(stage.proxy.web());
        // What comes behind the head is a request, and only one.
        conn.write(format!("{ASK}{}\r\n", get("/next").head()).as_bytes()).expect("send");
        let heard = answers(&mut conn, &["GET", "GET"], 2);
        assert_eq!(
            (heard.statuses, heard.bodies),
            (vec![200, 200], vec!["GET /ws".into(), "GET /next".into()])
        );
        stage.heard(2);
        eventually("the connection that was asked to switch is closed", || stage.up.open() == 1);
    });
    for (what, answer) in [
        ("another protocol", "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"),
        ("no protocol", "HTTP/1.1 101 X\r\n\r\n"),
    ] {
        table.row("U02", &format!("101 to {what}"), || {
            let stage = stage(ALLOWED, move |exchange| {
                exchange.send(answer.as_bytes());
                After::Hang
            });
            let mut conn = Conn::open(stage.proxy.web());
            conn.write(ASK.as_bytes()).expect("send");
            assert_eq!(conn.read_head("GET").expect("an answer").status, 502);
            eventually("the upstream's connection is ended", || stage.up.open() == 0);
        });
    }
    table.end();
}

#[test]
fn nothing_else_is_an_upgrade() {
    let mut table = Table::new();
    let stage = echoing(ALLOWED);
    for (what, rest) in [
        ("a length", "Content-Length: 5\r\n\r\nhello"),
        ("chunks", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"),
    ] {
        table.row("U03", &format!("an upgrade with {what}"), || {
            let mark = stage.mark("upgrade");
            let mut conn = Conn::open(stage.proxy.web());
            let head = ASK.strip_suffix("\r\n").expect("a head");
            conn.write(format!("{head}{rest}").as_bytes()).expect("send");
            assert_eq!(answers(&mut conn, &[], 9).statuses, [400]);
            stage.refused(&mark);
        });
    }
    let plain = echoing("");
    let rows = [
        (
            "U04",
            "h2c",
            &stage,
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n",
        ),
        ("U05", "an unknown token", &stage, "Connection: Upgrade\r\nUpgrade: foo/2\r\n"),
        ("U05", "one of several tokens", &stage, "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n"),
        ("U05", "not named by Connection", &stage, "Upgrade: websocket\r\n"),
        ("U05", "a route that allows none", &plain, "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    ];
    for (id, what, stage, headers) in rows {
        table.row(id, what, || {
            stage.up.clear();
            let mut conn = Conn::open(stage.proxy.web());
            conn.write(format!("GET /plain HTTP/1.1\r\nHost: shop.test\r\n{headers}\r\n").as_bytes())
                .expect("send");
            let heard = answers(&mut conn, &["GET"], 1);
            assert_eq!(heard.statuses, [200]);
            let asked = stage.up.last();
            for name in ["connection", "upgrade", "http2-settings"] {
                assert_eq!(asked.header(name), None, "{name}");
            }
        });
    }
    table.end();
}
