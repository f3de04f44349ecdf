//! A new connection of a pool: an address, TLS where it is asked for, and the protocol agreed on.
//!
//! All of it counts as connecting and shares one deadline, so that none of it is ever taken for an
//! origin's slowness. Nothing of a request was sent when it fails. It must never send one.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::connect::connect;
use super::deadline::{Deadline, within};
use super::destinations::{Idle, Spot, Stay};
use super::gate::{Place, millis};
use super::h1::Connection;
use super::h2::{Session, Sessions};
use super::pool::{Pool, Refused};
use super::stream::Stream;
use crate::model::FailureReason;
use crate::model::time::Tick;
use crate::plan::{ConnectionSettings, Endpoint, Upstream, UpstreamProtocol};

/// Between two lines of a worker's log about one endpoint that cannot be reached.
const TELL_AGAIN: Duration = Duration::from_secs(10);
/// Shortest pause before an endpoint that refused is preferred again.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Doublings of that pause.
const BACKOFF_DOUBLINGS: u32 = 5;
/// Time between two looks whether a new name has addresses by now.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// How long a request waits before it looks whether its endpoint is tried again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// What went wrong with a new connection.
enum Wrong {
    /// Nobody accepted it.
    Connect(io::Error),
    /// No TLS.
    Tls(String),
    /// It is not HTTP/2.
    Protocol(io::Error),
    /// Nothing, but the other protocol than the one hoped for was agreed on.
    Other,
}

impl Pool {
    /// Opens an HTTP/1.1 connection, to the destination at `first` if it accepts.
    pub(super) async fn open(
        &self,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
        place: Place,
        first: Option<&Rc<Spot>>,
        tunnel: bool,
    ) -> Result<Connection, Refused> {
        let (stream, spot) = self
            .connect(endpoint, settings, first, tunnel, async |stream: Stream, spot| {
                if !tunnel {
                    self.agreed_on_h2.set(Some(stream.speaks_h2()));
                }
                if stream.speaks_h2() { Err(Wrong::Other) } else { Ok((stream, Rc::clone(spot))) }
            })
            .await?;
        Ok(Connection::new(stream, self.shared.now(), place, Stay::at(&spot)))
    }

    /// Opens an HTTP/2 connection. Where the endpoint may choose and chose HTTP/1.1, the connection is
    /// kept for that, and the refusal says only that nothing was sent.
    pub(super) async fn open_session(
        &self,
        endpoint: &Endpoint,
        upstream: &Upstream,
        first: Option<&Rc<Spot>>,
        sessions: &Sessions,
    ) -> Result<Rc<Session>, Refused> {
        let may_choose = upstream.protocol == UpstreamProtocol::Auto;
        let open = async |stream: Stream, spot: &Rc<Spot>| {
            if may_choose {
                self.agreed_on_h2.set(Some(stream.speaks_h2()));
                if !stream.speaks_h2() {
                    let bounds = Self::bounds(upstream);
                    if let Some(place) = self.gate.open(bounds) {
                        let connection = Connection::new(stream, self.shared.now(), place, Stay::at(spot));
                        self.keep(Some(connection), upstream.connection.max_idle, bounds);
                    }
                    return Err(Wrong::Other);
                }
            }
            let secured = self.handshakes.is_some();
            let session = Session::open(stream, &self.shared.deadlines, sessions.room()).await;
            let session = session.map_err(Wrong::Protocol)?;
            session.is_at(spot, secured);
            Ok(session)
        };
        self.connect(endpoint, &upstream.connection, first, false, open).await
    }

    /// Connects and makes the stream a connection by `open`, both within the connect timeout.
    async fn connect<T>(
        &self,
        endpoint: &Endpoint,
        settings: &ConnectionSettings,
        first: Option<&Rc<Spot>>,
        tunnel: bool,
        open: impl AsyncFnOnce(Stream, &Rc<Spot>) -> Result<T, Wrong>,
    ) -> Result<T, Refused> {
        self.turn_to_connect(endpoint).await?;
        let mut deadline = Deadline::new(&self.shared.deadlines, settings.connect_timeout.0);
        let connecting = async {
            let order = self.order(endpoint, first).await.map_err(Wrong::Connect)?;
            let until = self.shared.now().after(BACKOFF_FIRST);
            let failed = |spot: &Spot| spot.avoid_until.set(until);
            let (spot, stream) = connect(&order, settings, failed).await.map_err(Wrong::Connect)?;
            let stream = match &self.handshakes {
                None => Stream::Plain(stream),
                Some(handshakes) => match handshakes.begin(stream, tunnel).await {
                    Ok(stream) => Stream::Tls(stream),
                    Err(why) => {
                        failed(&spot);
                        return Err(Wrong::Tls(why));
                    }
                },
            };
            spot.avoid_until.set(Tick(0));
            open(stream, &spot).await
        };
        let url = &endpoint.cell.url;
        let (reason, cause) = match within(None, &mut deadline, connecting).await {
            Some(Ok(connection)) => {
                self.is_well();
                return Ok(connection);
            }
            Some(Err(Wrong::Other)) => {
                self.is_well();
                let cause = format!("{url} speaks another protocol than the last time");
                return Err(Refused { reason: FailureReason::Connect, cause, unsent: true, answered: false });
            }
            Some(Err(Wrong::Protocol(error))) => {
                (FailureReason::BadResponse, format!("{url} does not speak the protocol: {error}"))
            }
            Some(Err(Wrong::Tls(why))) => (FailureReason::Tls, format!("no TLS with {url}: {why}")),
            Some(Err(Wrong::Connect(error))) if error.kind() == io::ErrorKind::NotFound => {
                (FailureReason::Connect, format!("{} has no address yet", endpoint.host))
            }
            Some(Err(Wrong::Connect(error))) => {
                (FailureReason::Connect, format!("connect to {url}: {error}"))
            }
            None => (FailureReason::ConnectTimeout, format!("connect to {url} took too long")),
        };
        self.tell(&cause);
        self.gate.connected(false, millis());
        self.avoid(self.shared.now());
        Err(Refused { reason, cause, unsent: true, answered: false })
    }

    /// The addresses in the order in which they are tried; those of a new name are waited for.
    async fn order(&self, endpoint: &Endpoint, first: Option<&Rc<Spot>>) -> io::Result<Vec<Rc<Spot>>> {
        let addresses = &endpoint.cell.addresses;
        while !addresses.is_asked() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.destinations.follow(addresses);
        let now = self.shared.now();
        let chosen = match first.filter(|spot| !spot.is_gone()) {
            Some(spot) => Some(Rc::clone(spot)),
            None => self.destinations.choose(now).map(|one| Rc::clone(&one.spot)),
        };
        let first = chosen.ok_or(io::ErrorKind::NotFound)?;
        Ok(self.destinations.order(&first, now))
    }

    /// Keeps a connection that may serve an exchange.
    pub(super) fn keep(&self, connection: Option<Connection>, max_idle: u32, bounds: super::gate::Bounds) {
        let Some(connection) = connection else { return };
        // Closed, its place can be taken by the worker whose requests wait.
        if self.gate.is_wanted_elsewhere(bounds) {
            return;
        }
        let Some(destination) = self.destinations.at(connection.spot()) else { return };
        if self.destinations.idle() < max_idle as usize {
            destination.idle.borrow_mut().push(Idle { connection, since: self.shared.now() });
            self.gate.returned();
        }
    }

    /// Waits until a connect may be tried; after one that failed few may, and whoever waits hears of
    /// their failure.
    async fn turn_to_connect(&self, endpoint: &Endpoint) -> Result<(), Refused> {
        let failures = self.gate.failures();
        while !self.gate.may_connect(millis()) {
            if self.gate.failures() != failures {
                let cause = format!("connect to {} failed for another request", endpoint.cell.url);
                return Err(Refused { reason: FailureReason::Connect, cause, unsent: true, answered: false });
            }
            let mut pause = Deadline::new(&self.shared.deadlines, RECONNECT_PAUSE);
            within(None, &mut pause, std::future::pending::<()>()).await;
        }
        Ok(())
    }

    /// Tells the log, once and not for every request that meets it.
    fn tell(&self, cause: &str) {
        let now = self.shared.now();
        if self.failures.get() == 0 && now >= self.quiet_until.get() {
            self.quiet_until.set(now.after(TELL_AGAIN));
            tracing::warn!("{cause}");
        }
    }

    fn is_well(&self) {
        self.gate.connected(true, millis());
        self.failures.set(0);
        self.avoid_until.set(Tick(0));
    }

    fn avoid(&self, now: Tick) {
        let failures = self.failures.get().min(BACKOFF_DOUBLINGS);
        self.failures.set(failures + 1);
        self.avoid_until.set(now.after(BACKOFF_FIRST * 2_u32.pow(failures)));
    }
}
