//! WebSockets between the client and the server of the `websockets` library.
//!
//! Frames, fragments, pings, close codes and refusals must be what they are without us, and a tunnel
//! must not notice a reload, a change of weights, or that its arm no longer gets new requests.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::support::process::{Stranger, interpreter};
use crate::support::{Proxy, Wire, eventually, get, needs, tools};

fn server() -> Stranger {
    Stranger::script("ws_peer.py", &["server"])
}

fn config(server: &Stranger, more: &str) -> String {
    let url = server.url();
    format!(
        "upstreams: {{ app: \"{url}\", other: \"{url}\" }}\n\
         routes: [{{ name: all, split: {{ app: 1, other: 0 }}, upgrades: [websocket]{more} }}]\n"
    )
}

fn ask(url: &str, cases: &[&str]) -> Value {
    let mut command = interpreter("ws_peer.py");
    command.args(["client", &url.replace("http:", "ws:")]).args(cases);
    let finished = tools::run(&mut command, b"");
    assert_eq!(finished.code, Some(0), "{cases:?}: {}", finished.err);
    serde_json::from_str(&finished.out).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

#[test]
fn everything_said_over_a_socket_is_heard_as_without_us() {
    needs!("python:websockets");
    let cases = [
        "texts",
        "binaries",
        "uncompressed",
        "many_at_once",
        "fragments",
        "pings",
        "handshake",
        "refused",
        "closed_by_server",
        "closed_by_client",
        "aborted_by_server",
    ];
    let (alone, proxied) = (server(), server());
    let proxy = Proxy::start(&config(&proxied, ""));
    let straight = ask(&alone.url(), &cases);
    let through = ask(&format!("http://{}", proxy.web()), &cases);
    for case in cases {
        assert_eq!(through[case], straight[case], "{case}");
    }
    assert_eq!(through["texts"], json!([true, true, true, true, true, true, true]));
    assert_eq!(through["binaries"], json!([true, true, true, true, true]));
    assert_eq!(through["many_at_once"], json!(true));
    assert_eq!(through["refused"][0], 403);
    assert_eq!(through["aborted_by_server"], json!(["last words", 1006]));
}

/// A client that keeps one connection and echoes when told to.
struct Held {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Held {
    fn open(proxy: &Proxy) -> Self {
        let mut child = interpreter("ws_peer.py")
            .args(["hold", &format!("ws://{}", proxy.web())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start a client");
        let input = child.stdin.take().expect("piped stdin");
        let output = BufReader::new(child.stdout.take().expect("piped stdout"));
        let mut held = Self { child, input, output };
        assert_eq!(held.line(), "open", "the tunnel opens");
        held
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line from the client");
        line.trim().to_owned()
    }

    fn echoes(&mut self, word: &str) {
        writeln!(self.input, "{word}").expect("write to the client");
        assert_eq!(self.line(), word, "the tunnel is open");
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_tunnel_does_not_notice_reloads_and_weights() {
    needs!("python:websockets");
    let server = server();
    let proxy = Proxy::start(&config(&server, ""));
    let mut held = Held::open(&proxy);
    held.echoes("before");
    proxy.reload(&config(&server, ", timeouts: { streamIdle: 30s }"));
    held.echoes("after a reload");
    proxy.weights("all", &[("app", 0), ("other", 1)]);
    held.echoes("after its arm got weight 0");
    let text = config(&server, "").replace("upgrades: [websocket]", "timeouts: {}");
    proxy.reload(&text);
    held.echoes("after upgrades were taken away");
    assert_ne!(ask_status(&proxy), 101, "no new tunnel after that");
    drop(held);
    eventually("the tunnel is counted out", || {
        proxy.metrics().count("switchback_requests_in_flight", &[("route", "all")]) == 0
    });
}

fn ask_status(proxy: &Proxy) -> u16 {
    let request = get("/echo")
        .header("connection", "upgrade")
        .header("upgrade", "websocket")
        .header("sec-websocket-version", "13")
        .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
    let mut wire = Wire::open(proxy.web());
    wire.write(format!("{}\r\n", request.head()).as_bytes()).expect("send");
    wire.response("GET").expect("an answer").status()
}
