//! The listening sockets of a process: given by whoever started it, or bound by itself.
//!
//! Connections wait in the queue of one socket and die with it, so a socket that was given is used
//! however many workers there are. It must never close one that somebody listens on elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::admin::{self, Bound};
use crate::net::bind;
use crate::plan::Plan;

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    /// Traffic.
    Listener,
    /// The operator.
    Admin,
    /// Probes and metrics.
    Metrics,
}

/// Which socket of the configuration it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Label {
    kind: Kind,
    /// The listener's name, `admin` or `metrics`.
    name: String,
    /// Address as the configuration writes it.
    address: String,
}

/// A socket that came from elsewhere.
#[derive(Debug)]
pub struct Found {
    /// What it is for, when whoever passed it knows.
    kind: Option<Kind>,
    name: String,
    address: String,
    socket: OwnedFd,
}

impl Found {
    /// A socket of the process before.
    #[must_use]
    pub fn passed(label: Label, socket: OwnedFd) -> Self {
        Self { kind: Some(label.kind), name: label.name, address: label.address, socket }
    }

    /// A socket of the init system: `name` is what it calls it, `address` what it is bound to.
    #[must_use]
    pub fn activated(name: String, address: String, socket: OwnedFd) -> Self {
        Self { kind: None, name, address, socket }
    }

    fn is(&self, wanted: &Label) -> bool {
        match self.kind {
            Some(kind) => kind == wanted.kind && self.address == wanted.address,
            None => self.name == wanted.name || self.address == wanted.address,
        }
    }
}

/// Sockets by what they are for.
#[derive(Debug, Default)]
pub struct Sockets {
    found: Vec<Found>,
    held: BTreeMap<Label, Vec<OwnedFd>>,
    bound: BTreeSet<Label>,
}

/// Sockets ready to accept.
#[derive(Debug)]
pub struct Taken {
    /// At least one per worker for every listener, in plan order.
    pub listeners: Vec<Vec<TcpListener>>,
    /// The operator's.
    pub admin: Bound,
    /// Of probes and metrics.
    pub metrics: Option<Bound>,
    /// All of them once more, to be passed on.
    pub passing: Passing,
}

/// Every listening socket once more, to be passed on or closed.
#[derive(Debug)]
pub struct Passing {
    sockets: Vec<(Label, OwnedFd)>,
    /// Listeners whose sockets nobody but this process has.
    bound: BTreeSet<Label>,
}

impl Passing {
    /// The sockets and what they are.
    #[must_use]
    pub fn sockets(&self) -> &[(Label, OwnedFd)] {
        &self.sockets
    }

    /// Closes the door of listeners nobody else has; false when there is none to wait for.
    #[must_use]
    pub fn close_doors(&self) -> bool {
        let own = self.sockets.iter().filter(|(label, _)| self.bound.contains(label));
        // One whose door stays open is closed as it is: who connects in that moment is reset.
        own.fold(false, |any, (_, socket)| bind::close_door(socket).is_ok() || any)
    }
}

impl Sockets {
    /// Begins with what came from elsewhere.
    #[must_use]
    pub fn of(found: Vec<Found>) -> Self {
        Self { found, ..Self::default() }
    }

    /// Takes or binds whatever a plan needs and is not held yet.
    ///
    /// # Errors
    /// What cannot be bound, in one line for the operator.
    pub fn hold(&mut self, plan: &Plan, workers: usize) -> Result<(), String> {
        for listener in plan.listeners.iter() {
            let cannot =
                |error| format!("listener {} cannot bind {}: {error}", listener.name, listener.address);
            self.hold_listener(of_listener(listener), listener.address, workers).map_err(cannot)?;
        }
        self.hold_alone(of_admin(plan)).map_err(|why| format!("admin.address: {why}"))?;
        if let Some(label) = of_metrics(plan) {
            self.hold_alone(label).map_err(|why| format!("metrics.address: {why}"))?;
        }
        Ok(())
    }

    fn hold_listener(&mut self, label: Label, address: SocketAddr, workers: usize) -> io::Result<()> {
        if self.held.contains_key(&label) {
            return Ok(());
        }
        let given = self.given(&label);
        let sockets = if given.is_empty() {
            self.bound.insert(label.clone());
            bind::bind(address, workers)?
        } else {
            bind::enough(given.into_iter().map(TcpListener::from).collect(), workers)?
        };
        self.held.insert(label, sockets.into_iter().map(OwnedFd::from).collect());
        Ok(())
    }

    fn hold_alone(&mut self, label: Label) -> Result<(), String> {
        if self.held.contains_key(&label) {
            return Ok(());
        }
        let mut sockets = self.given(&label);
        if sockets.is_empty() {
            sockets.push(match admin::bind(&label.address)? {
                Bound::Tcp(listener, _) => listener.into(),
                Bound::Unix(listener, _) => listener.into(),
            });
        }
        self.held.insert(label, sockets);
        Ok(())
    }

    fn given(&mut self, label: &Label) -> Vec<OwnedFd> {
        self.found.extract_if(.., |one| one.is(label)).map(|one| one.socket).collect()
    }

    /// Hands out what a plan needs; all of it must be held.
    ///
    /// # Errors
    /// The system's.
    pub fn take(mut self, plan: &Plan) -> io::Result<Taken> {
        for one in &self.found {
            tracing::warn!("a socket was given that nothing listens on: {} at {}", one.name, one.address);
        }
        let mut passing = Vec::new();
        for (label, sockets) in &self.held {
            for socket in sockets {
                passing.push((label.clone(), socket.try_clone()?));
            }
        }
        let mut listeners = Vec::new();
        for listener in plan.listeners.iter() {
            let sockets = self.held.remove(&of_listener(listener)).unwrap_or_default();
            listeners.push(sockets.into_iter().map(accepting).collect::<io::Result<Vec<_>>>()?);
        }
        let admin = self.one(&of_admin(plan))?;
        let metrics = of_metrics(plan).map(|label| self.one(&label)).transpose()?;
        Ok(Taken { listeners, admin, metrics, passing: Passing { sockets: passing, bound: self.bound } })
    }

    fn one(&mut self, label: &Label) -> io::Result<Bound> {
        let socket = self.held.remove(label).and_then(|mut sockets| sockets.pop());
        let socket = socket.ok_or_else(|| io::Error::other(format!("{} is not held", label.address)))?;
        if let Some(path) = label.address.strip_prefix("unix:") {
            let listener = UnixListener::from(socket);
            listener.set_nonblocking(true)?;
            return Ok(Bound::Unix(listener, PathBuf::from(path)));
        }
        let listener = accepting(socket)?;
        let address = listener.local_addr()?;
        Ok(Bound::Tcp(listener, address))
    }
}

fn accepting(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn of_listener(listener: &crate::plan::Listener) -> Label {
    let (name, address) = (listener.name.to_string(), listener.address.to_string());
    Label { kind: Kind::Listener, name, address }
}

fn of_admin(plan: &Plan) -> Label {
    let address = plan.process.admin_address.clone();
    Label { kind: Kind::Admin, name: "admin".to_owned(), address }
}

fn of_metrics(plan: &Plan) -> Option<Label> {
    let address = plan.process.metrics_address?.to_string();
    Some(Label { kind: Kind::Metrics, name: "metrics".to_owned(), address })
}
