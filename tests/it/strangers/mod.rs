//! Strangers to our stack: servers, clients and languages that never heard of our libraries.
//!
//! What our own client and origin agree on may still be wrong, so every claim about forwarding is
//! tried here with nginx, Apache, HAProxy, Node, gunicorn, h11, curl, nghttp2, grpcio and
//! websockets, each straight and through the proxy: a difference is a failure.
//!
//! The echo contract that origins here follow (`origin.js`, `wsgi.py`, `origin_h11.py`, and
//! [`echo`] behind servers that run no program): `/status/N` answers that status, `/down/N` that
//! many bytes, `/chunked` three chunks, everything else its own head and body. Each answer says
//! `x-origin` and twice `x-twice`; each request becomes a line `METHOD TARGET LENGTH PORT`.
//! They must never be told whether the proxy stands before them.

mod bodies;
mod clients;
mod grpc;
mod kill;
mod legal;
mod nginx;
mod origins;
mod secured;
mod unusual;
mod websocket;

use crate::support::{Answer, Message};

/// The echo contract in this process, for the end of a chain.
fn echo(request: &Message) -> Answer {
    let (method, target) = (request.word(0), request.word(1));
    let path = target.split('?').next().unwrap_or("");
    let (kind, number) = path[1.min(path.len())..].split_once('/').unwrap_or(("", ""));
    let common = "x-origin: witness\r\nx-twice: one\r\nx-twice: two\r\n";
    let whole = |status: &str, extra: &str, content: &[u8]| {
        let size = content.len();
        let head = format!("HTTP/1.1 {status} Status\r\n{common}{extra}content-length: {size}\r\n\r\n");
        let content = if method == "HEAD" { b"" } else { content };
        Answer { pieces: vec![[head.as_bytes(), content].concat()], close: false }
    };
    match (kind, number) {
        ("status", "204" | "304") => {
            let tag = if number == "304" { "etag: \"v1\"\r\n" } else { "" };
            let head = format!("HTTP/1.1 {number} Status\r\n{common}{tag}\r\n");
            Answer { pieces: vec![head.into_bytes()], close: false }
        }
        ("status", _) => whole(number, "", format!("status {number}\n").as_bytes()),
        ("down", _) => whole("200", "", &vec![b'd'; number.parse().unwrap_or(0)]),
        _ if path == "/chunked" => {
            let head = format!("HTTP/1.1 200 OK\r\n{common}transfer-encoding: chunked\r\n\r\n");
            let chunk = |index| format!("8\r\npiece {index}\n\r\n").into_bytes();
            let end = b"0\r\n\r\n".to_vec();
            Answer { pieces: vec![head.into_bytes(), chunk(0), chunk(1), chunk(2), end], close: false }
        }
        _ => {
            let mut lines: Vec<Vec<u8>> = request
                .headers
                .iter()
                .map(|(name, value)| [name.as_bytes(), b": ", value, b"\n"].concat())
                .collect();
            lines.sort();
            let start = format!("{method} {target}\n").into_bytes();
            whole("200", "", &[start, lines.concat(), b"\n".to_vec(), request.body.clone()].concat())
        }
    }
}
