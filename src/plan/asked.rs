//! A request that was never sent, to be explained.
//!
//! The command line and the admin API build it the same way. It must never reach an upstream.

use std::net::IpAddr;

use http::header::{COOKIE, HOST};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};

use super::explain::Explanation;
use super::{Plan, Route};
use crate::model::RequestHead;
use crate::split::KeySource;

/// A request that was never sent.
#[derive(Clone, Debug)]
pub struct Asked {
    listener: usize,
    method: Method,
    host: String,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
    client_ip: IpAddr,
}

impl Asked {
    /// A request for a URL. Its Host is the header's when there is one; its listener is the one on
    /// the URL's port, else the first by name.
    #[must_use]
    pub fn new(plan: &Plan, method: Method, url: &Uri, headers: HeaderMap, client_ip: IpAddr) -> Self {
        let named = headers.get(HOST).and_then(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let authority = named.as_ref().or(url.authority());
        let port = url.port_u16();
        Self {
            listener: plan.listeners.iter().position(|one| Some(one.address.port()) == port).unwrap_or(0),
            method,
            host: authority.map(|found| found.host().to_ascii_lowercase()).unwrap_or_default(),
            path: Some(url.path()).filter(|path| !path.is_empty()).unwrap_or("/").to_owned(),
            query: url.query().map(str::to_owned),
            headers,
            client_ip,
        }
    }

    /// The same on a listener of this name.
    ///
    /// # Errors
    /// One sentence when there is none.
    pub fn on(mut self, plan: &Plan, listener: &str) -> Result<Self, String> {
        let found = plan.listeners.iter().position(|one| &*one.name == listener);
        self.listener = found.ok_or_else(|| format!("there is no listener `{listener}`"))?;
        Ok(self)
    }

    /// What would happen to it at Unix second `now`. `entropy` is drawn only without a key.
    pub fn explain<'p>(&self, plan: &'p Plan, now: i64, entropy: impl FnMut() -> u64) -> Explanation<'p> {
        let head = RequestHead {
            listener: self.listener,
            method: &self.method,
            host: &self.host,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
            client_ip: self.client_ip,
        };
        plan.explain(&head, now, entropy)
    }

    /// Puts a sticky key where a route looks first.
    ///
    /// # Errors
    /// One sentence when the route has no key or it cannot be carried there.
    pub fn place(&mut self, key: &str, route: &Route) -> Result<(), String> {
        match route.split.keys.first() {
            None => return Err(format!("route `{}` has no sticky key", route.name)),
            Some(KeySource::Header(name)) => self.set(name, key)?,
            Some(KeySource::Cookie(name)) => {
                // The first cookie of a name counts.
                let others: Vec<HeaderValue> = self.headers.get_all(COOKIE).iter().cloned().collect();
                self.set(&COOKIE, &format!("{}={key}", String::from_utf8_lossy(name)))?;
                for other in others {
                    self.headers.append(COOKIE, other);
                }
            }
            Some(KeySource::Query(name)) => {
                let encode = |bytes: &[u8]| percent_encode(bytes, NON_ALPHANUMERIC).to_string();
                let rest = self.query.take().map(|rest| format!("&{rest}")).unwrap_or_default();
                self.query = Some(format!("{}={}{rest}", encode(name), encode(key.as_bytes())));
            }
            Some(KeySource::ClientIp) => {
                self.client_ip = key.parse().map_err(|_| {
                    format!("route `{}` looks at the client's address first; `{key}` is none", route.name)
                })?;
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &HeaderName, value: &str) -> Result<(), String> {
        let value =
            HeaderValue::try_from(value).map_err(|_| format!("header {name} cannot carry the key"))?;
        self.headers.insert(name.clone(), value);
        Ok(())
    }
}
