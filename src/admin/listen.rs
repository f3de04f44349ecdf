//! Accepting operators: a TCP address or a unix socket, with limits of its own.
//!
//! A silent or slow peer is cut off; connections are bounded. It must never share a socket with
//! traffic.

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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt;

use crate::certs::{Certificates, Served};

/// Connections at once; more wait in the backlog.
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
    let (stop, stopped) = watch::channel(false);
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let accepting = async {
        match &bound {
            Bound::Tcp(listener, _) => {
                let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
                over_tcp(&listener, &room, &router, encrypted.as_deref(), &stopped).await
            }
            Bound::Unix(listener, _) => {
                let listener = tokio::net::UnixListener::from_std(listener.try_clone()?)?;
                loop {
                    let permit = permit(&room).await?;
                    match listener.accept().await {
                        Ok((stream, _)) => {
                            let peer = Peer::default();
                            tokio::spawn(converse(stream, peer, router.clone(), stopped.clone(), permit));
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
    let every = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
    // Whoever is still being answered after that is cut off with the runtime.
    let _ = tokio::time::timeout(LAST_ANSWERS, room.acquire_many(every)).await;
    match ended {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Accepts over TCP, with TLS where there are certificates.
async fn over_tcp(
    listener: &tokio::net::TcpListener,
    room: &Arc<Semaphore>,
    router: &Router,
    encrypted: Option<&Certificates>,
    stopped: &watch::Receiver<bool>,
) -> io::Result<Infallible> {
    loop {
        let permit = permit(room).await?;
        match listener.accept().await {
            Ok((stream, peer)) => {
                // A socket that refuses the option is only slower.
                let _ = stream.set_nodelay(true);
                let peer = Peer { address: Some(peer.ip().to_canonical()) };
                let (router, stopped) = (router.clone(), stopped.clone());
                match encrypted {
                    None => drop(tokio::spawn(converse(stream, peer, router, stopped, permit))),
                    Some(certificates) => {
                        let Some(served) = certificates.admin_tls() else { continue };
                        tokio::spawn(async move {
                            if let Some(stream) = encrypt(stream, &served).await {
                                converse(stream, peer, router, stopped, permit).await;
                            }
                        });
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

async fn permit(room: &Arc<Semaphore>) -> io::Result<OwnedSemaphorePermit> {
    Arc::clone(room).acquire_owned().await.map_err(io::Error::other)
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "the admin listener cannot accept");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

async fn converse<S>(
    stream: S,
    peer: Peer,
    router: Router,
    mut stopped: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = hyper::service::service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
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
