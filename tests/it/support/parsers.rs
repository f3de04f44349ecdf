//! What two reference parsers make of the bytes a proxy wrote upstream.
//!
//! If httparse and hyper read one request differently, so would two servers behind the proxy. It
//! must never normalise what a parser gave.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::recorder::Message;
use super::runtime;

/// One request as a parser saw it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Read {
    pub method: String,
    pub target: String,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

const MAX_HEADERS: usize = 128;
const PIPE: usize = 1 << 20;

/// The head by httparse; its body is cut by what it found.
pub fn httparse(raw: &[u8]) -> Read {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut fields);
    let httparse::Status::Complete(length) = request.parse(raw).expect("httparse reads it") else {
        panic!("httparse found no end of the head: {:?}", String::from_utf8_lossy(raw));
    };
    let headers: Vec<_> =
        request.headers.iter().map(|field| (field.name.to_ascii_lowercase(), field.value.to_vec())).collect();
    let chunked = headers.iter().any(|(name, _)| name == "transfer-encoding");
    let body = if chunked { unchunked(&raw[length..]) } else { raw[length..].to_vec() };
    Read {
        method: request.method.unwrap_or_default().to_owned(),
        target: request.path.unwrap_or_default().to_owned(),
        headers,
        body,
    }
}

/// The content of chunks, cut by httparse.
fn unchunked(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            panic!("httparse found no chunk: {:?}", String::from_utf8_lossy(rest));
        };
        let size = usize::try_from(size).expect("a small chunk");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[start..start + size]);
        rest = &rest[start + size + 2..];
    }
}

/// The requests by hyper's server.
pub fn hyper(raw: &[u8]) -> Vec<Read> {
    let found: Arc<Mutex<Vec<Read>>> = Arc::default();
    let seen = Arc::clone(&found);
    let raw = raw.to_vec();
    runtime().block_on(async move {
        let (mut ours, theirs) = tokio::io::duplex(PIPE);
        let service = service_fn(move |request: http::Request<Incoming>| {
            let seen = Arc::clone(&seen);
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.map(|body| body.to_bytes().to_vec()).unwrap_or_default();
                let fields = head.headers.iter();
                seen.lock().expect("requests").push(Read {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    headers: fields
                        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
                        .collect(),
                    body,
                });
                Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
            }
        });
        let serve = hyper::server::conn::http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(theirs), service);
        let talk = async {
            let _ = ours.write_all(&raw).await;
            let _ = ours.shutdown().await;
            let _ = ours.read_to_end(&mut Vec::new()).await;
        };
        let _ = tokio::join!(serve, talk);
    });
    let found = found.lock().expect("requests");
    found.clone()
}

/// Asserts that both read one request, the same one, and the one the recorder saw.
#[track_caller]
pub fn agree(message: &Message) {
    let one = httparse(&message.raw);
    let mut others = hyper(&message.raw);
    assert_eq!(others.len(), 1, "hyper read other requests: {others:?}");
    let mut other = others.remove(0);
    // A header map gathers the lines of one name.
    let mut one_sorted = one.clone();
    one_sorted.headers.sort();
    other.headers.sort();
    assert_eq!(one_sorted, other, "two parsers differ");
    assert_eq!(
        (one.method, one.target, one.body),
        (message.method.clone(), message.target.clone(), message.body.clone())
    );
}
