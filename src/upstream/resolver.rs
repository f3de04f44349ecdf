//! One name to its addresses and how long they hold: /etc/hosts, then the system's name servers.
//!
//! Name servers are asked directly, because the C library tells no TTL; where the system's settings
//! cannot be read it is asked after all. It must never run on a worker.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::system_conf::read_system_conf;

/// Environment variable with the `address:port` of a name server that is asked instead of those in
/// /etc/resolv.conf.
pub const NAMESERVER: &str = "SWITCHBACK_NAMESERVER";
/// How long one lookup may take.
const TIMEOUT: Duration = Duration::from_secs(4);
/// How long one name server may take.
const ONE_SERVER: Duration = Duration::from_secs(1);
/// Files whose change makes a new resolver.
const SETTINGS: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// When the settings were last changed.
type Stamp = [Option<SystemTime>; SETTINGS.len()];

/// What answers for names.
#[derive(Clone)]
pub struct Resolver {
    nameserver: Option<SocketAddr>,
    stamp: Stamp,
    /// `None` is the C library.
    direct: Option<TokioResolver>,
}

impl Resolver {
    /// By the settings of the system; `nameserver` is asked instead of its servers.
    #[must_use]
    pub fn new(nameserver: Option<SocketAddr>) -> Self {
        let built = direct(nameserver);
        let direct = built.map_err(|why| tracing::debug!("names are looked up by the system: {why}")).ok();
        Self { nameserver, stamp: stamp(), direct }
    }

    /// Reads the settings anew if they changed; says whether they did.
    pub fn renew(&mut self) -> bool {
        let changed = stamp() != self.stamp;
        if changed {
            *self = Self::new(self.nameserver);
        }
        changed
    }

    /// The addresses of a name, sorted, and how long they hold; `None` when nobody says.
    ///
    /// # Errors
    /// Why there are none, in a sentence.
    pub async fn lookup(&self, host: &str) -> Result<(Vec<IpAddr>, Option<Duration>), String> {
        let asked = async {
            let Some(direct) = &self.direct else {
                let found = tokio::net::lookup_host((host, 0)).await.map_err(|error| error.to_string())?;
                return Ok((found.map(|address| address.ip()).collect(), None));
            };
            let found = direct.lookup_ip(host).await.map_err(|error| error.to_string())?;
            let holds = found.valid_until().saturating_duration_since(Instant::now());
            Ok((found.iter().collect::<Vec<IpAddr>>(), Some(holds)))
        };
        let asked = tokio::time::timeout(TIMEOUT, asked).await;
        let (mut found, holds) = asked.unwrap_or_else(|_| Err(format!("no answer in {TIMEOUT:?}")))?;
        found.sort_unstable();
        found.dedup();
        if found.is_empty() { Err("it has no address".to_owned()) } else { Ok((found, holds)) }
    }
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("nameserver", &self.nameserver).finish_non_exhaustive()
    }
}

fn direct(nameserver: Option<SocketAddr>) -> Result<TokioResolver, String> {
    let (config, mut options) = match nameserver {
        Some(server) => (only(server), ResolverOpts::default()),
        None => read_system_conf().map_err(|error| format!("{}: {error}", SETTINGS[0]))?,
    };
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.timeout = options.timeout.min(ONE_SERVER);
    // Each lookup is a real one: how long an answer holds is kept here.
    options.cache_size = 0;
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(options).build().map_err(|error| error.to_string())
}

fn only(server: SocketAddr) -> ResolverConfig {
    let mut asked = NameServerConfig::udp_and_tcp(server.ip());
    asked.connections.iter_mut().for_each(|connection| connection.port = server.port());
    ResolverConfig::from_name_servers(vec![asked])
}

fn stamp() -> Stamp {
    SETTINGS.map(|file| std::fs::metadata(file).and_then(|meta| meta.modified()).ok())
}
