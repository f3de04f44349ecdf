//! A small origin: answers every request with its version after a moment.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Starts an origin on a free loopback port; it lives as long as the runtime.
pub(super) async fn start(version: &'static str, think: Duration) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let service = service_fn(move |_: Request<Incoming>| answer(version, think));
                // The proxy decides when a connection ends; a demo has nobody to tell.
                let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Ok(address)
}

async fn answer(version: &'static str, think: Duration) -> Result<Response<Full<Bytes>>, Infallible> {
    tokio::time::sleep(think).await;
    let mut response = Response::new(Full::new(Bytes::from_static(version.as_bytes())));
    response.headers_mut().insert("x-version", HeaderValue::from_static(version));
    Ok(response)
}
