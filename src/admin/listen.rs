//! Accepting operators: a TCP address or a unix socket, with limits of its own.
//!
//! A silent or slow peer is cut off; connections are bounded, and who asks nothing makes room for who
//! does ([`super::room`]). It must never share a socket with traffic.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use super::room::{Asked, Room};
use crate::certs::{Certificates, Served};

/// Connections at once; for one more another is closed.
const MAX_CONNECTIONS: usize = 1024;
/// From the start of a connection or the last answer to the end of the next head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// From accept to the end of the TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest request head, in bytes.
const MAX_HEAD: usize = 32 << 10;
/// Pause after a failed accept, such as with no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long running answers are given at the end.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// How far a listener can be reached from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Only by its owner.
    Unix,
    /// Only from this machine.
    Loopback,
    /// From elsewhere.
    Address(IpAddr),
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Peer {
    /// Address; `None` on a unix socket.
    pub address: Option<IpAddr>,
}

/// A bound listener, not yet accepting.
#[derive(Debug)]
pub enum Bound {
    /// A TCP address.
    Tcp(std::net::TcpListener, SocketAddr),
    /// A unix socket.
    Unix(std::os::unix::net::UnixListener, PathBuf),
}

impl Bound {
    /// How far it can be reached from.
    #[must_use]
    pub fn exposure(&self) -> Exposure {
        match self {
            Self::Unix(..) => Exposure::Unix,
            Self::Tcp(_, address) if address.ip().is_loopback() => Exposure::Loopback,
            Self::Tcp(_, address) => Exposure::Address(address.ip()),
        }
    }

    /// The address bound, with the port the system chose.
    #[must_use]
    pub fn address(&self) -> String {
        match self {
            Self::Tcp(_, address) => address.to_string(),
            Self::Unix(_, path) => format!("unix:{}", path.display()),
        }
    }
}

/// Binds `host:port` or `unix:/path`. Needs no runtime.
///
/// # Errors
/// One sentence for the operator.
pub fn bind(address: &str) -> Result<Bound, String> {
    let bound = match address.strip_prefix("unix:") {
        Some(path) => bind_unix(Path::new(path)),
        None => bind_tcp(address),
    };
    bound.map_err(|error| format!("cannot bind {address}: {error}"))
}

fn bind_tcp(address: &str) -> io::Result<Bound> {
    let literal = address.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
    let address: SocketAddr =
        literal.as_deref().unwrap_or(address).parse().map_err(|_| io::Error::other("it is no host:port"))?;
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok(Bound::Tcp(listener, address))
}

fn bind_unix(path: &Path) -> io::Result<Bound> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is no socket is there"));
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there"));
        }
        _ => {}
    }
    // Bound under another name and moved when only its owner may connect: no moment is open to
    // others. The move also replaces a socket nobody listens on any more.
    let draft = PathBuf::from(format!("{}.{}~", path.display(), std::process::id()));
    let _ = std::fs::remove_file(&draft);
    let listener = std::os::unix::net::UnixListener::bind(&draft)?;
    let moved = std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| listener.set_nonblocking(true))
        .and_then(|()| std::fs::rename(&draft, path));
    if let Err(error) = moved {
        let _ = std::fs::remove_file(&draft);
        return Err(error);
    }
    Ok(Bound::Unix(listener, path.to_owned()))
}

/// Answers until `shutdown` completes, then finishes what is being answered; over TCP with TLS where
/// there are certificates. `shutdown` says whether another process listens on the same socket from
/// then on.
///
/// # Errors
/// When the listener cannot be handed to the runtime.
pub async fn serve(
    bound: Bound,
    router: Router,
    encrypted: Option<Arc<Certificates>>,
    shutdown: impl Future<Output = bool>,
) -> io::Result<()> {
    serve_within(bound, router, encrypted, shutdown, Room::new(MAX_CONNECTIONS)).await
}

/// The same with room for so many.
async fn serve_within(
    bound: Bound,
    router: Router,
    encrypted: Option<Arc<Certificates>>,
    shutdown: impl Future<Output = bool>,
    room: Room,
) -> io::Result<()> {
    let (stop, stopped) = watch::channel(false);
    let accepting = async {
        match &bound {
            Bound::Tcp(listener, _) => {
                let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
                over_tcp(&listener, &room, &router, encrypted.as_deref(), &stopped).await
            }
            Bound::Unix(listener, _) => {
                let listener = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let seat = room.seat().await?;
                            let (peer, asked) = (Peer::default(), seat.asked());
                            let conversation = converse(stream, peer, router.clone(), stopped.clone(), asked);
                            tokio::spawn(seat.hold(conversation));
                        }
                        Err(error) => pause(&error).await,
                    }
                }
            }
        }
    };
    let mut passed_on = false;
    let ended: io::Result<Infallible> = tokio::select! {
        ended = accepting => ended,
        passed = shutdown => {
            passed_on = passed;
            Err(io::Error::from(io::ErrorKind::Interrupted))
        }
    };
    if let Bound::Unix(_, path) = &bound
        && !passed_on
    {
        // A socket file that is gone already is what we want.
        let _ = std::fs::remove_file(path);
    }
    drop(bound);
    stop.send_replace(true);
    // Whoever is still being answered after that is cut off with the runtime.
    let _ = tokio::time::timeout(LAST_ANSWERS, room.is_empty()).await;
    match ended {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Accepts over TCP, with TLS where there are certificates.
async fn over_tcp(
    listener: &tokio::net::TcpListener,
    room: &Room,
    router: &Router,
    encrypted: Option<&Certificates>,
    stopped: &watch::Receiver<bool>,
) -> io::Result<Infallible> {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let seat = room.seat().await?;
                // A socket that refuses the option is only slower.
                let _ = stream.set_nodelay(true);
                let peer = Peer { address: Some(peer.ip().to_canonical()) };
                let (router, stopped, asked) = (router.clone(), stopped.clone(), seat.asked());
                match encrypted {
                    None => drop(tokio::spawn(seat.hold(converse(stream, peer, router, stopped, asked)))),
                    Some(certificates) => {
                        let Some(served) = certificates.admin_tls() else { continue };
                        tokio::spawn(seat.hold(async move {
                            if let Some(stream) = encrypt(stream, &served).await {
                                converse(stream, peer, router, stopped, asked).await;
                            }
                        }));
                    }
                }
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// The handshake; nobody is told why it failed, because nobody is known yet.
async fn encrypt(stream: TcpStream, served: &Served) -> Option<TlsStream<TcpStream>> {
    let accepting = TlsAcceptor::from(Arc::clone(&served.config)).accept(stream);
    tokio::time::timeout(HANDSHAKE_TIMEOUT, accepting).await.ok()?.ok()
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin listener cannot accept");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn converse<S>(stream: S, peer: Peer, router: Router, mut stopped: watch::Receiver<bool>, asked: Asked)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        let (under_way, answer) = (asked.begin(), router.clone().oneshot(request.map(Body::new)));
        async move { answer.await.map(|answer| answer.map(|body| under_way.until_sent(body))) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stopping = async move {
        // A sender that went away stops us as well.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopping => None,
    };
    if ended.is_none() {
        connection.as_mut().graceful_shutdown();
        // A peer that breaks off is its own affair.
        let _ = connection.await;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Stream;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Instant;

    use axum::body::Bytes;
    use axum::routing::get;
    use hyper::body::Frame;

    use super::*;

    const ROOM: usize = 8;

    /// An answer that never ends.
    struct Silence;

    impl hyper::body::Body for Silence {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Pending
        }
    }

    /// A listener with little room, where `/` answers and `/long` never ends.
    fn start() -> SocketAddr {
        let long = || async { Body::new(Silence) };
        let router = Router::new().route("/", get(|| async { "here" })).route("/long", get(long));
        let Ok(Bound::Tcp(listener, address)) = bind("127.0.0.1:0") else { panic!("a port") };
        let bound = Bound::Tcp(listener, address);
        tokio::spawn(serve_within(bound, router, None, std::future::pending(), Room::new(ROOM)));
        address
    }

    fn open(address: SocketAddr, text: &str) -> Stream {
        let mut stream = Stream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream.write_all(text.as_bytes()).expect("sent");
        stream
    }

    /// What came first; nothing when it was closed.
    fn first(stream: &mut Stream) -> String {
        let mut bytes = [0; 256];
        let read = stream.read(&mut bytes).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..read]).into_owned()
    }

    const ASK: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    const LONG: &str = "GET /long HTTP/1.1\r\nhost: localhost\r\n\r\n";

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn who_says_nothing_makes_way_for_who_asks_the_oldest_first() {
        let address = start();
        let work = move || {
            let began = Instant::now();
            let mut under_way = open(address, LONG);
            assert!(first(&mut under_way).starts_with("HTTP/1.1 200"));
            let mut kept = open(address, ASK);
            assert!(first(&mut kept).contains("here"));
            // As many as there is room for and as many again; the second half pushes out the first.
            let mut silent: Vec<Stream> = (0..2 * ROOM).map(|_| open(address, "")).collect();
            for _ in 0..20 {
                let mut asking = open(address, ASK);
                assert!(first(&mut asking).contains("here"));
            }
            assert_eq!(first(&mut kept), "", "who asked before and is silent now is as good as silent");
            assert_eq!(first(&mut silent[0]), "", "the oldest made way");
            assert!(began.elapsed() < HEAD_TIMEOUT, "nobody waited for a timeout");
            under_way.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
            let still = under_way.read(&mut [0; 1]).expect_err("it is neither closed nor answered");
            assert_eq!(still.kind(), io::ErrorKind::WouldBlock);
        };
        tokio::task::spawn_blocking(work).await.expect("it holds");
    }
}
