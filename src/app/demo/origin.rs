//! A small origin: answers every request with its version after a moment, and behaves as deployed.
//!
//! What it does wrong it does by counting, so a version always fails the same share. It must never
//! answer without saying which version it is.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

/// Time every answer takes.
const THINK: Duration = Duration::from_millis(2);
/// Time a slow answer takes beyond that.
pub(super) const SLOW: Duration = Duration::from_millis(300);
/// Response header: the version that answered.
pub(super) const VERSION: &str = "x-version";
/// Response header of answers that were made slow.
pub(super) const WAS_SLOW: &str = "x-slow";

/// A version and what is wrong with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Build {
    /// Its number: 2 is `v2`.
    pub version: usize,
    /// Every this many answers one is a 500; 0 is never.
    pub fails_every: u64,
    /// Every this many answers one is slow; 0 is never.
    pub slow_every: u64,
}

impl Build {
    /// Nothing is wrong with it.
    pub(super) const fn healthy(version: usize) -> Self {
        Self { version, fails_every: 0, slow_every: 0 }
    }
}

/// What runs, and how many requests it was asked.
struct Running {
    build: Build,
    asked: AtomicU64,
}

/// An origin on a free loopback port; it lives as long as the runtime.
pub(super) struct Origin {
    /// Where it listens.
    pub address: SocketAddr,
    running: Arc<ArcSwap<Running>>,
}

impl Origin {
    /// Starts it with its first version.
    pub(super) async fn start(build: Build) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let running = Arc::new(ArcSwap::from_pointee(Running { build, asked: AtomicU64::new(0) }));
        tokio::spawn(serve(listener, Arc::clone(&running)));
        Ok(Self { address, running })
    }

    /// Another version from the next request on.
    pub(super) fn deploy(&self, build: Build) {
        self.running.store(Arc::new(Running { build, asked: AtomicU64::new(0) }));
    }
}

async fn serve(listener: TcpListener, running: Arc<ArcSwap<Running>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let running = Arc::clone(&running);
        tokio::spawn(async move {
            let service = service_fn(move |_: Request<Incoming>| answer(running.load_full()));
            // The proxy decides when a connection ends; a demo has nobody to tell.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(running: Arc<Running>) -> Result<Response<Full<Bytes>>, Infallible> {
    let number = running.asked.fetch_add(1, Ordering::Relaxed) + 1;
    let Build { version, fails_every, slow_every } = running.build;
    let its_turn = |every: u64| every > 0 && number.is_multiple_of(every);
    let (fails, slow) = (its_turn(fails_every), its_turn(slow_every));
    tokio::time::sleep(if slow { THINK + SLOW } else { THINK }).await;
    let mut response = Response::new(Full::new(Bytes::from(format!("v{version}\n"))));
    if fails {
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    }
    response.headers_mut().insert(VERSION, HeaderValue::from(version));
    if slow {
        response.headers_mut().insert(WAS_SLOW, HeaderValue::from_static("1"));
    }
    Ok(response)
}
