//! Where a proxy lives: its folder, its configuration file, and its reserved ports.
//!
//! A site outlives the process on it, so that restart tests start the same file, state and ports
//! again. Text given by a test lacks what every test would repeat (listener, admin, state folder);
//! this file adds it, and must never change anything else about the text.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use super::ports::free_port;
use super::proxy::Proxy;

#[derive(Clone)]
pub struct Site(Arc<Inner>);

struct Inner {
    folder: TempDir,
    web: u16,
    second: u16,
    admin: u16,
    metrics: u16,
    text: String,
}

impl Site {
    /// `text` may use `@web@ @second@ @admin@ @metrics@` for ports and `@dir@ @state@` for folders.
    pub fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the proxy");
        let site = Self(Arc::new(Inner {
            folder,
            web: free_port(),
            second: free_port(),
            admin: free_port(),
            metrics: free_port(),
            text: text.to_owned(),
        }));
        fs::create_dir_all(site.folder()).expect("a folder for the configuration");
        site.write(text);
        site
    }

    /// The same configuration on ports and state of its own: a second replica.
    pub fn twin(&self) -> Self {
        Self::new(&self.0.text)
    }

    pub fn start(&self) -> Proxy {
        Proxy::start_at(self.clone())
    }

    /// The same, told to read every file of the folder.
    pub fn start_folder(&self) -> Proxy {
        Proxy::start_reading(self.clone(), &self.folder())
    }

    /// The folder the configuration file is in.
    pub fn folder(&self) -> PathBuf {
        self.0.folder.path().join("config")
    }

    pub fn file(&self) -> PathBuf {
        self.folder().join("switchback.yaml")
    }

    pub fn state(&self) -> PathBuf {
        self.0.folder.path().join("state")
    }

    pub fn web(&self) -> SocketAddr {
        loopback(self.0.web)
    }

    pub fn second(&self) -> SocketAddr {
        loopback(self.0.second)
    }

    pub fn admin(&self) -> SocketAddr {
        loopback(self.0.admin)
    }

    pub fn metrics(&self) -> SocketAddr {
        loopback(self.0.metrics)
    }

    pub fn token(&self) -> String {
        let file = self.state().join("admin.token");
        let token = fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{} is not readable: {error}", file.display()));
        token.trim().to_owned()
    }

    /// The full text a configuration file gets for what a test wrote.
    pub fn render(&self, text: &str) -> String {
        let mut full = String::new();
        for (key, line) in [
            ("listeners:", "listeners: [{ name: web, address: \"127.0.0.1:@web@\", protocol: h2c }]\n"),
            ("admin:", "admin: { address: \"127.0.0.1:@admin@\" }\n"),
            ("stateDir:", "stateDir: \"@state@\"\n"),
        ] {
            // A text in JSON is one map and can only be complete.
            if !text.starts_with('{') && !text.lines().any(|known| known.starts_with(key)) {
                full.push_str(line);
            }
        }
        full.push_str(text);
        for (mark, port) in [
            ("@web@", self.0.web),
            ("@second@", self.0.second),
            ("@admin@", self.0.admin),
            ("@metrics@", self.0.metrics),
        ] {
            full = full.replace(mark, &port.to_string());
        }
        full.replace("@dir@", &self.folder().display().to_string())
            .replace("@state@", &self.state().display().to_string())
    }

    /// Puts a file beside the configuration, such as a list of users.
    pub fn place(&self, name: &str, content: &str) {
        replace(&self.folder().join(name), content);
    }

    /// Replaces the configuration the way editors do: a new file renamed over the old one.
    pub fn write(&self, text: &str) {
        replace(&self.file(), &self.render(text));
    }
}

/// Atomic for readers, as editors and deployment tools do it.
pub fn replace(file: &Path, content: &str) {
    let draft = file.with_extension("draft~");
    fs::write(&draft, content).expect("write a draft");
    fs::rename(&draft, file).expect("rename a draft over the file");
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}
