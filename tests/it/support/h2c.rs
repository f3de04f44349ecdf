//! A blocking HTTP/2 prior-knowledge client.
//!
//! It multiplexes like a browser or a gRPC client does, over one connection, and reports every
//! failed stream. It must never reconnect: a connection the proxy closed stays closed.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::client::{Request, Response};
use super::runtime;

#[derive(Clone)]
pub struct H2c {
    sender: SendRequest<BoxBody<Bytes, Infallible>>,
}

impl H2c {
    pub fn open(addr: SocketAddr) -> Self {
        let connected = runtime().block_on(async {
            let stream = TcpStream::connect(addr).await?;
            stream.set_nodelay(true)?;
            let (sender, conn) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .map_err(io::Error::other)?;
            tokio::spawn(conn);
            Ok::<_, io::Error>(sender)
        });
        Self { sender: connected.unwrap_or_else(|error| panic!("h2c to {addr}: {error}")) }
    }

    pub fn send(&self, request: &Request) -> io::Result<Response> {
        runtime().block_on(exchange(self.sender.clone(), request.clone(), whole(request)))
    }

    /// The same with a body whose length the peer cannot know in advance.
    pub fn send_unsized(&self, request: &Request) -> io::Result<Response> {
        let body = Unsized(Full::new(Bytes::from(request.body.clone())));
        runtime().block_on(exchange(self.sender.clone(), request.clone(), body.boxed()))
    }

    /// Several streams at once on this connection.
    pub fn send_together(&self, requests: &[Request]) -> Vec<io::Result<Response>> {
        let streams: Vec<_> = requests.iter().map(|request| self.start(request)).collect();
        runtime().block_on(async {
            let mut answers = Vec::with_capacity(streams.len());
            for stream in streams {
                answers.push(stream.await.unwrap_or_else(|error| Err(io::Error::other(error))));
            }
            answers
        })
    }

    /// One stream under way; aborting it resets the stream.
    pub fn start(&self, request: &Request) -> JoinHandle<io::Result<Response>> {
        runtime().spawn(exchange(self.sender.clone(), request.clone(), whole(request)))
    }

    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }
}

fn whole(request: &Request) -> BoxBody<Bytes, Infallible> {
    Full::new(Bytes::from(request.body.clone())).boxed()
}

async fn exchange(
    mut sender: SendRequest<BoxBody<Bytes, Infallible>>,
    request: Request,
    body: BoxBody<Bytes, Infallible>,
) -> io::Result<Response> {
    let mut builder = http::Request::builder()
        .method(request.method.as_str())
        .uri(format!("http://{}{}", request.host, request.target));
    for (name, value) in &request.headers {
        builder = builder.header(name, value);
    }
    let request = builder.body(body).map_err(io::Error::other)?;
    sender.ready().await.map_err(io::Error::other)?;
    let response = sender.send_request(request).await;
    let (head, body) = response.map_err(io::Error::other)?.into_parts();
    let collected = body.collect().await.map_err(io::Error::other)?;
    let trailers = collected.trailers().map(lines).unwrap_or_default();
    let body = collected.to_bytes().to_vec();
    Ok(Response { status: head.status.as_u16(), headers: lines(&head.headers), body, trailers })
}

fn lines(headers: &http::HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect()
}

/// Hides the length of a body, so that no content-length is sent.
struct Unsized(Full<Bytes>);

impl Body for Unsized {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.0).poll_frame(context)
    }
}
