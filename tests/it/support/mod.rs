//! Topology helpers: scripted origins, the real binary, real nginx, and clients that see the wire.
//!
//! They exist so that a test reads as a drawing (who stands in front of whom) and a table (what is
//! asked, what is expected): only these files know sockets, processes and file formats.
//! They must never decide what is right: no helper asserts product behaviour beyond "it started".

pub mod client;
pub mod crowd;
pub mod dns;
pub mod flapper;
pub mod h2_origin;
pub mod h2c;
pub mod h2raw;
pub mod lineage;
pub mod load;
pub mod netns;
pub mod nginx;
pub mod origin;
pub mod parsers;
pub mod pki;
pub mod ports;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod raw;
pub mod recorder;
pub mod scrape;
pub mod site;
pub mod split;
pub mod tls;
pub mod tools;
pub mod wait;
pub mod wire;
pub mod witness;

use std::sync::OnceLock;

use tokio::runtime::{Builder, Runtime};

pub use client::{Conn, Request, Response, get, post};
pub use crowd::ask;
pub(crate) use netns::private_network;
pub use origin::{Behaviour, Gate, Origin, upstreams};
pub use process::Stranger;
pub use proxy::Proxy;
pub use scrape::Scrape;
pub use site::Site;
pub use split::{bucket, share_is, users};
pub use tools::long;
pub(crate) use tools::needs;
pub use wait::eventually;
pub use wire::{Message, Wire};
pub use witness::{Answer, Witness};

/// One runtime for every in-process origin and HTTP/2 client of a test process.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime for origins")
    })
}
