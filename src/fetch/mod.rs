//! One small HTTP/1.1 client for control-plane conversations: one connection, one request.
//!
//! It exists so that the command line, hooks, checks and notices need no larger client. It must
//! never be used on the request path, follow a redirect, or read more than it was allowed.

pub mod target;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

pub use target::Target;
pub use tls::Trust;

/// What to ask.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Method.
    pub method: Method,
    /// Path with its query, from the slash.
    pub path: String,
    /// Headers; Host is the target's unless it is among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body.
    pub body: Bytes,
}

impl Ask {
    /// A GET without headers.
    #[must_use]
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: Vec::new(), body: Bytes::new() }
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Whole body.
    pub body: Bytes,
}

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// From the first attempt to connect to the last byte.
    pub timeout: Duration,
    /// Largest body accepted, in bytes.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), body: 64 << 20 }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody answers there.
    #[error("cannot connect to {0}: {1}")]
    Connect(String, #[source] std::io::Error),
    /// Nobody who can be trusted answers there.
    #[error("no TLS with {0}: {1}")]
    Tls(String, String),
    /// The conversation broke.
    #[error("the conversation broke off")]
    Protocol(#[from] hyper::Error),
    /// The request could not be written down.
    #[error("the request cannot be sent")]
    Request(#[from] http::Error),
    /// More was answered than allowed.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Asks once.
///
/// # Errors
/// When there is no whole answer in time; a status of 400 and up is an answer.
pub async fn fetch(target: &Target, ask: Ask, limits: Limits) -> Result<Answer, FetchError> {
    asked(target, None, ask, limits).await
}

/// Asks once, over TLS with others to trust than the machine does.
///
/// # Errors
/// The same.
pub async fn fetch_trusting(
    target: &Target,
    trust: &Trust,
    ask: Ask,
    limits: Limits,
) -> Result<Answer, FetchError> {
    asked(target, Some(trust), ask, limits).await
}

async fn asked(
    target: &Target,
    trust: Option<&Trust>,
    ask: Ask,
    limits: Limits,
) -> Result<Answer, FetchError> {
    let conversation = async {
        let refused = |error| FetchError::Connect(target.to_string(), error);
        match target {
            Target::Tcp { host, port } => {
                let stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
                talk(stream, target, ask, limits).await
            }
            Target::Tls { host, port } => {
                let stream = tokio::net::TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
                let shaken = match trust {
                    Some(trust) => trust.begin(stream).await,
                    None => tls::begin(host, stream).await,
                };
                let stream = shaken.map_err(|why| FetchError::Tls(target.to_string(), why))?;
                talk(stream, target, ask, limits).await
            }
            Target::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path).await.map_err(refused)?;
                talk(stream, target, ask, limits).await
            }
        }
    };
    let timed = tokio::time::timeout(limits.timeout, conversation).await;
    timed.unwrap_or(Err(FetchError::Timeout(limits.timeout)))
}

async fn talk<S>(stream: S, target: &Target, ask: Ask, limits: Limits) -> Result<Answer, FetchError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(ask.method).uri(ask.path);
    if !ask.headers.iter().any(|(name, _)| *name == http::header::HOST) {
        request = request.header(http::header::HOST, target.host_header());
    }
    for (name, value) in ask.headers {
        request = request.header(name, value);
    }
    let response = sender.send_request(request.body(Full::new(ask.body))?).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), limits.body).collect().await;
    driver.abort();
    match body {
        Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
        Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge(limits.body)),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(FetchError::Protocol(*error)),
            Err(_) => Err(FetchError::TooLarge(limits.body)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    /// Asks a server that answers one request with these bytes and then stays silent.
    async fn ask(answer: &'static str) -> Result<Answer, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a client");
            let mut head = vec![0; 1024];
            let read = stream.read(&mut head).await.expect("a request");
            assert!(head[..read].starts_with(b"GET /x?y HTTP/1.1\r\n"), "{head:?}");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            std::future::pending::<()>().await;
        });
        let target: Target = format!("http://{address}").parse().expect("a target");
        let limits = Limits { timeout: Duration::from_millis(300), body: 10 };
        fetch(&target, Ask::get("/x?y"), limits).await
    }

    #[tokio::test]
    async fn answers_are_whole_small_and_in_time() {
        let good = ask("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await.expect("an answer");
        assert_eq!((good.status.as_u16(), &good.body[..]), (404, &b"no"[..]));
        let large = ask("HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n12345678901").await;
        assert!(matches!(large, Err(FetchError::TooLarge(10))), "{large:?}");
        let slow = ask("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n1").await;
        assert!(matches!(slow, Err(FetchError::Timeout(_))), "{slow:?}");
        let nonsense = ask("hello\r\n\r\n").await;
        assert!(matches!(nonsense, Err(FetchError::Protocol(_))), "{nonsense:?}");
        let nobody = fetch(&Target::Unix("/dev/null/none".into()), Ask::get("/"), Limits::default()).await;
        assert!(matches!(nobody, Err(FetchError::Connect(..))), "{nobody:?}");
    }
}
