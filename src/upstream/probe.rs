//! One probe of one endpoint: a connection of its own, one question, and what is wrong with the answer.
//!
//! It runs beside the request path and uses none of its connections. It must never read more than
//! it needs, nor decide what follows.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, TE, USER_AGENT};
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::connect_any;
use super::stream::Stream;
use super::tls::Handshakes;
use crate::plan::guard::{Probe, ProbeAsk};
use crate::plan::{ConnectionSettings, Endpoint, Tls, Upstream, UpstreamProtocol};

/// Longest status line that is read, in bytes.
const STATUS_LINE: usize = 1 << 10;
/// Longest gRPC answer that is read, in bytes.
const MESSAGE: usize = 1 << 10;
/// `SERVING` of `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;
/// How probes name themselves.
const AGENT: &str = "switchback-probe";

/// Everything one probe needs.
#[derive(Debug)]
pub struct Question {
    addresses: Arc<Vec<SocketAddr>>,
    authority: String,
    probe: Probe,
    settings: ConnectionSettings,
    tls: Option<Arc<Tls>>,
    h2: bool,
}

impl Question {
    /// The probe of an endpoint.
    #[must_use]
    pub fn of(upstream: &Upstream, endpoint: &Endpoint, probe: &Probe) -> Self {
        let url = &endpoint.cell.url;
        Self {
            addresses: endpoint.cell.addresses.get(),
            authority: url.split_once("://").map_or(&**url, |(_, authority)| authority).to_owned(),
            probe: probe.clone(),
            settings: upstream.connection,
            tls: endpoint.tls.clone(),
            h2: upstream.protocol == UpstreamProtocol::H2,
        }
    }

    /// Asks; `None` is a good answer, else what is wrong.
    pub async fn ask(self) -> Option<String> {
        let limit = self.probe.timeout;
        match tokio::time::timeout(limit, self.asked()).await {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(why),
            Err(_) => Some(format!("no answer within {}", humantime::format_duration(limit))),
        }
    }

    async fn asked(&self) -> Result<(), String> {
        if self.addresses.is_empty() {
            return Err("no address yet".to_owned());
        }
        let connected = connect_any(&self.addresses, &self.settings).await;
        let stream = connected.map_err(|error| format!("cannot connect: {error}"))?;
        let stream = match &self.tls {
            None => Stream::Plain(stream),
            Some(tls) => {
                let shaken = Handshakes::new(tls).begin(stream, false).await;
                Stream::Tls(shaken.map_err(|why| format!("no TLS: {why}"))?)
            }
        };
        match &self.probe.ask {
            ProbeAsk::Tcp => Ok(()),
            ProbeAsk::Grpc(service) => self.grpc(stream, service).await,
            ProbeAsk::Http(path, good) => {
                let status = if stream.speaks_h2() || self.h2 {
                    self.get_h2(stream, path.as_str()).await?
                } else {
                    self.get_h1(stream, path.as_str()).await.map_err(|error| error.to_string())?
                };
                if good.contains(&status) { Ok(()) } else { Err(format!("status {status}")) }
            }
        }
    }

    async fn get_h1(&self, mut stream: Stream, path: &str) -> io::Result<u16> {
        let host = &self.authority;
        let head = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: {AGENT}\r\naccept: */*\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut line = BytesMut::with_capacity(STATUS_LINE);
        while !line.contains(&b'\n') && line.len() < STATUS_LINE {
            if stream.read_buf(&mut line).await? == 0 {
                break;
            }
        }
        status_of(&line).ok_or_else(|| io::Error::other("the answer is not HTTP"))
    }

    async fn get_h2(&self, stream: Stream, path: &str) -> Result<u16, String> {
        let request = self.request(Method::GET, path)?;
        let (status, _, _) = over_h2(stream, request, None).await?;
        Ok(status)
    }

    async fn grpc(&self, stream: Stream, service: &str) -> Result<(), String> {
        let mut request = self.request(Method::POST, "/grpc.health.v1.Health/Check")?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, http::HeaderValue::from_static("application/grpc"));
        headers.insert(TE, http::HeaderValue::from_static("trailers"));
        let (status, grpc, message) = over_h2(stream, request, Some(question(service))).await?;
        match (status, grpc) {
            (200, None | Some(0)) => {}
            (200, Some(code)) => return Err(format!("gRPC status {code}")),
            (status, _) => return Err(format!("status {status}")),
        }
        match serving(&message) {
            Some(SERVING) => Ok(()),
            Some(0) => Err("health UNKNOWN".to_owned()),
            Some(2) => Err("health NOT_SERVING".to_owned()),
            Some(3) => Err("health SERVICE_UNKNOWN".to_owned()),
            Some(other) => Err(format!("health {other}")),
            None => Err("the answer is not of grpc.health.v1".to_owned()),
        }
    }

    fn request(&self, method: Method, path: &str) -> Result<Request<()>, String> {
        let uri = format!("{}://{}{path}", if self.tls.is_some() { "https" } else { "http" }, self.authority);
        let built = Request::builder().method(method).uri(uri).header(USER_AGENT, AGENT).body(());
        let mut request = built.map_err(|error| error.to_string())?;
        request.headers_mut().remove(HOST);
        Ok(request)
    }
}

/// Status, gRPC status of the head, and the first bytes of the body.
type Answer = (u16, Option<u16>, Bytes);

/// One request on an HTTP/2 connection of its own.
async fn over_h2(stream: Stream, request: Request<()>, body: Option<Bytes>) -> Result<Answer, String> {
    let words = |error: h2::Error| error.to_string();
    let (mut sender, connection) = h2::client::handshake(stream).await.map_err(words)?;
    let exchange = async {
        poll_fn(|cx| sender.poll_ready(cx)).await?;
        let (response, mut upload) = sender.send_request(request, body.is_none())?;
        if let Some(body) = &body {
            upload.send_data(body.clone(), true)?;
        }
        let (head, mut stream) = response.await?.into_parts();
        let status = head.headers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse().ok());
        let mut message = BytesMut::new();
        while body.is_some() && message.len() < MESSAGE {
            let Some(piece) = stream.data().await else { break };
            let piece = piece?;
            message.extend_from_slice(&piece);
            if is_whole(&message) {
                break;
            }
        }
        Ok((head.status.as_u16(), status, message.freeze()))
    };
    tokio::select! {
        biased;
        answer = exchange => answer.map_err(words),
        _ = connection => Err("the connection ended".to_owned()),
    }
}

/// The status of a status line (RFC 9112 section 4).
fn status_of(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.").filter(|rest| matches!(rest, [b'0' | b'1', b' ', ..]))?;
    std::str::from_utf8(rest.get(2..5)?).ok()?.parse().ok()
}

/// A gRPC message of `HealthCheckRequest { string service = 1; }`.
fn question(service: &str) -> Bytes {
    let mut message = BytesMut::new();
    if !service.is_empty() {
        message.put_u8(0x0a);
        let mut left = service.len();
        while left >= 0x80 {
            message.put_u8(low(left) | 0x80);
            left >>= 7;
        }
        message.put_u8(low(left));
        message.put_slice(service.as_bytes());
    }
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    framed.unsplit(message);
    framed.freeze()
}

/// The lowest seven bits.
fn low(number: usize) -> u8 {
    u8::try_from(number & 0x7f).unwrap_or(0)
}

fn is_whole(message: &[u8]) -> bool {
    length(message).is_some_and(|length| message.len() >= 5 + length)
}

fn length(message: &[u8]) -> Option<usize> {
    let prefix: [u8; 4] = message.get(1..5)?.try_into().ok()?;
    usize::try_from(u32::from_be_bytes(prefix)).ok()
}

/// The status of `HealthCheckResponse { ServingStatus status = 1; }` in a gRPC message; `None` when
/// it is none.
fn serving(message: &[u8]) -> Option<u64> {
    if message.first() != Some(&0) {
        return None;
    }
    let fields = message.get(5..5 + length(message)?)?;
    match fields {
        [] => Some(0),
        [0x08, value @ ..] => {
            let end = value.iter().position(|byte| byte & 0x80 == 0).filter(|end| *end < 9)?;
            Some(value.get(..=end)?.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_read_strictly() {
        for (line, status) in [
            (&b"HTTP/1.1 200 OK\r\n"[..], Some(200)),
            (b"HTTP/1.0 503\r\n", Some(503)),
            (b"HTTP/1.1 20", None),
            (b"HTTP/2 200\r\n", None),
            (b"SSH-2.0-OpenSSH\r\n", None),
            (b"", None),
        ] {
            assert_eq!(status_of(line), status, "{line:?}");
        }
    }

    #[test]
    fn health_messages_are_written_and_read() {
        assert_eq!(&question("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&question("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = question(&"x".repeat(300));
        assert_eq!(&long[..8], [0, 0, 0, 1, 47, 0x0a, 0xac, 2]);
        for (message, status) in [
            (&[0, 0, 0, 0, 2, 8, 1][..], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            (&[0, 0, 0, 0, 3, 8, 0x81, 1], Some(129)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 9, 8, 1], None),
            (&[0, 0, 0], None),
            (&[], None),
        ] {
            assert_eq!(serving(message), status, "{message:?}");
        }
    }
}
