//! Connections of one worker to its endpoints: reuse, freshness, and what "not sent" means.
//!
//! Newest first; a connection that may be stale is looked at before it is written to; a request
//! that provably never left goes out again on a fresh connection. A connection whose exchange did
//! not end cleanly is closed, never reused.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;

use super::connect::{Connected, SharedIo, connect};
use super::deadline::{Deadline, Deadlines, within};
use crate::model::time::Tick;
use crate::model::{Client, FailureReason};
use crate::plan::{ConnectionSettings, Endpoint};

/// Shortest pause before an endpoint that refused is preferred again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Doublings of that pause.
const BACKOFF_DOUBLINGS: u32 = 5;

/// A request body on its way upstream, watched for who is late and who broke it.
#[derive(Debug)]
pub enum RequestBody {
    /// Nothing to send.
    Empty,
    /// The client's body as it comes.
    Streaming(Incoming, Rc<Upload>),
}

/// What is known of a request body under way.
#[derive(Debug)]
pub struct Upload {
    /// Whose it is.
    pub client: Rc<Client>,
    /// The worker's deadlines, for their clock.
    pub deadlines: Rc<Deadlines>,
    /// Bytes passed on.
    pub bytes: Cell<u64>,
    /// Bytes allowed; 0 is no bound.
    pub limit: u64,
    /// The whole body was passed on.
    pub ended: Cell<bool>,
    /// The client broke its own body.
    pub broken: Cell<bool>,
    /// The body grew over its limit.
    pub too_large: Cell<bool>,
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Self::Streaming(body, upload) = self.get_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(body).poll_frame(cx);
        match &polled {
            Poll::Pending => upload.client.on_body(Some(upload.deadlines.clock().tick())),
            Poll::Ready(Some(Ok(frame))) => {
                upload.client.on_body(None);
                let bytes = upload.bytes.get() + frame.data_ref().map_or(0, |data| data.len() as u64);
                upload.bytes.set(bytes);
                if upload.limit > 0 && bytes > upload.limit {
                    upload.too_large.set(true);
                    return Poll::Ready(Some(Err("the request body is over the limit".into())));
                }
            }
            Poll::Ready(Some(Err(_))) => upload.broken.set(true),
            Poll::Ready(None) => {
                upload.client.on_body(None);
                upload.ended.set(true);
            }
        }
        polled.map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(body, upload) => {
                let ended = body.is_end_stream();
                if ended {
                    upload.ended.set(true);
                }
                ended
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(body, _) => body.size_hint(),
        }
    }
}

/// The pools of one worker.
#[derive(Debug)]
pub struct Pools {
    deadlines: Rc<Deadlines>,
    /// By endpoint id, which is never reused.
    pools: RefCell<Vec<Option<Rc<Pool>>>>,
}

impl Pools {
    /// No connections yet.
    #[must_use]
    pub fn new(deadlines: Rc<Deadlines>) -> Self {
        Self { deadlines, pools: RefCell::default() }
    }

    /// The pool of an endpoint, made at its first use.
    #[must_use]
    pub fn of(&self, endpoint: &Endpoint) -> Rc<Pool> {
        let at = endpoint.cell.id.0 as usize;
        let mut pools = self.pools.borrow_mut();
        if pools.len() <= at {
            pools.resize_with(at + 1, || None);
        }
        let Some(slot) = pools.get_mut(at) else { return Rc::new(Pool::default()) };
        Rc::clone(slot.get_or_insert_with(Rc::default))
    }

    /// Drops idle connections past their time, and pools of endpoints for which `wanted` is false.
    pub fn sweep(&self, settings: impl Fn(u32) -> Option<ConnectionSettings>) {
        let now = self.deadlines.clock().tick();
        for (slot, id) in self.pools.borrow_mut().iter_mut().zip(0_u32..) {
            let Some(pool) = slot else { continue };
            match settings(id) {
                Some(settings) => pool.idle.borrow_mut().retain(|idle| idle.is_fresh(&settings, now)),
                None => {
                    pool.idle.borrow_mut().clear();
                    if Rc::strong_count(pool) == 1 {
                        *slot = None;
                    }
                }
            }
        }
    }
}

/// The connections of one worker to one endpoint.
#[derive(Debug, Default)]
pub struct Pool {
    idle: RefCell<Vec<Idle>>,
    in_flight: Cell<u32>,
    failures: Cell<u32>,
    avoid_until: Cell<Tick>,
    turn: Cell<usize>,
}

#[derive(Debug)]
struct Idle {
    connection: Connected,
    since: Tick,
    born: Tick,
}

impl Idle {
    fn is_fresh(&self, settings: &ConnectionSettings, now: Tick) -> bool {
        !self.connection.sender.is_closed()
            && now < self.since.after(settings.idle_timeout.0)
            && now < self.born.after(settings.max_age.0)
    }
}

/// A response with the connection it came on.
#[derive(Debug)]
pub struct Sent {
    /// The response.
    pub response: Response<Incoming>,
    /// Gives the connection back, or closes it.
    pub lease: Lease,
}

/// Why there is no response.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Cause.
    pub reason: FailureReason,
    /// What the log says.
    pub cause: String,
}

impl Pool {
    /// Requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    /// Whether the endpoint refused lately and others should be preferred.
    #[must_use]
    pub fn is_avoided(&self, now: Tick) -> bool {
        now < self.avoid_until.get()
    }

    /// Sends a request on the newest usable connection, or on a new one. The request is taken out
    /// of `outgoing`, and put back when it provably never left. `sent` is called when it goes out,
    /// for measuring without connect time.
    ///
    /// # Errors
    /// Why there is no response.
    pub async fn send(
        self: &Rc<Self>,
        deadlines: &Rc<Deadlines>,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
    ) -> Result<Sent, Refused> {
        let flight = Flight::new(self);
        while let Some(idle) = self.checkout(settings, deadlines.clock().tick()) {
            let Some(request) = outgoing.take() else { break };
            sent();
            let Idle { mut connection, born, .. } = idle;
            let lease = Lease::open(flight.again(), &connection, born, settings);
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok(Sent { response, lease: lease.with(connection.sender) }),
                Err(mut error) => {
                    *outgoing = error.take_message();
                    // With the message back, the connection was closed before anything was written.
                    if outgoing.is_none() {
                        return Err(failed(error.error()));
                    }
                }
            }
        }
        // Rare and large: boxed, so that every exchange does not carry room for it.
        Box::pin(self.send_fresh(deadlines, endpoint, settings, outgoing, sent, flight)).await
    }

    async fn send_fresh(
        &self,
        deadlines: &Rc<Deadlines>,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
        outgoing: &mut Option<Request<RequestBody>>,
        sent: impl Fn(),
        flight: Flight,
    ) -> Result<Sent, Refused> {
        let connected = self.connect(deadlines, endpoint, settings).await;
        let mut connection = connected.map_err(|(reason, cause)| Refused { reason, cause })?;
        let Some(request) = outgoing.take() else {
            return Err(Refused { reason: FailureReason::NoEndpoint, cause: "nothing to send".to_owned() });
        };
        sent();
        let lease = Lease::open(flight, &connection, deadlines.clock().tick(), settings);
        match connection.sender.try_send_request(request).await {
            Ok(response) => Ok(Sent { response, lease: lease.with(connection.sender) }),
            Err(mut error) => {
                *outgoing = error.take_message();
                Err(failed(error.error()))
            }
        }
    }

    /// The newest idle connection that is certainly not closed.
    fn checkout(&self, settings: &ConnectionSettings, now: Tick) -> Option<Idle> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let at = idle
                .iter()
                .rposition(|one| one.connection.sender.is_ready() || one.connection.sender.is_closed())?;
            let one = idle.remove(at);
            // One tick old means the loop may not have heard of a close yet: look at the socket.
            let usable = one.is_fresh(settings, now) && (one.since == now || !one.connection.io.is_spoilt());
            if usable {
                return Some(one);
            }
        }
    }

    async fn connect(
        &self,
        deadlines: &Rc<Deadlines>,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
    ) -> Result<Connected, (FailureReason, String)> {
        let addresses = endpoint.cell.addresses.load_full();
        let turn = self.turn.replace(self.turn.get().wrapping_add(1));
        let mut deadline = Deadline::new(deadlines, settings.connect_timeout.0);
        let connected = within(None, &mut deadline, connect(&addresses, turn, settings)).await;
        match connected {
            Some(Ok(connection)) => {
                self.failures.set(0);
                self.avoid_until.set(Tick(0));
                Ok(connection)
            }
            Some(Err(error)) => {
                self.avoid(deadlines.clock().tick());
                let cause = match error.kind() {
                    io::ErrorKind::NotFound if addresses.is_empty() => {
                        format!("{} has no address yet", endpoint.host)
                    }
                    _ => format!("connect to {}: {error}", endpoint.cell.url),
                };
                Err((FailureReason::Connect, cause))
            }
            None => {
                self.avoid(deadlines.clock().tick());
                let cause = format!("connect to {} took too long", endpoint.cell.url);
                Err((FailureReason::ConnectTimeout, cause))
            }
        }
    }

    fn avoid(&self, now: Tick) {
        let failures = self.failures.get().min(BACKOFF_DOUBLINGS);
        self.failures.set(failures + 1);
        self.avoid_until.set(now.after(BACKOFF_FIRST * 2_u32.pow(failures)));
    }
}

/// Counts a request in flight on an endpoint.
#[derive(Debug)]
struct Flight(Rc<Pool>);

impl Flight {
    fn new(pool: &Rc<Pool>) -> Self {
        pool.in_flight.set(pool.in_flight.get() + 1);
        Self(Rc::clone(pool))
    }

    fn again(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
    }
}

/// A connection in use. Dropped without [`Lease::give_back`] it is closed: its state is unknown.
#[derive(Debug)]
pub struct Lease {
    flight: Flight,
    io: SharedIo,
    task: tokio::task::AbortHandle,
    born: Tick,
    max_idle: u32,
    sender: Option<SendRequest<RequestBody>>,
    clean: bool,
}

impl Lease {
    fn open(flight: Flight, connection: &Connected, born: Tick, settings: &ConnectionSettings) -> Self {
        let (io, task) = (connection.io.clone(), connection.task.clone());
        Self { flight, io, task, born, max_idle: settings.max_idle, sender: None, clean: false }
    }

    fn with(mut self, sender: SendRequest<RequestBody>) -> Self {
        self.sender = Some(sender);
        self
    }

    /// The exchange ended cleanly: the connection may serve another.
    pub fn give_back(mut self, now: Tick) {
        self.clean = true;
        let Some(sender) = self.sender.take() else { return };
        let mut idle = self.flight.0.idle.borrow_mut();
        if sender.is_closed() || idle.len() >= self.max_idle as usize {
            return;
        }
        let connection = Connected { sender, io: self.io.clone(), task: self.task.clone() };
        idle.push(Idle { connection, since: now, born: self.born });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.clean {
            self.task.abort();
        }
    }
}

fn failed(error: &hyper::Error) -> Refused {
    let reason = if error.is_parse() || error.is_parse_too_large() || error.is_parse_status() {
        FailureReason::BadResponse
    } else {
        FailureReason::Reset
    };
    Refused { reason, cause: chain(error) }
}

/// An error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
