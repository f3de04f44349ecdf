//! Real nginx as origins, each answering its own name.
//!
//! An in-process origin agrees with our own idea of HTTP; nginx does not have to. One process
//! serves every name on its own loopback port from a generated configuration in a temporary
//! folder, and dies with the value. It must never touch the system's nginx configuration.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::eventually;
use super::ports::free_port;
use super::tools::find;

pub struct Nginx {
    folder: TempDir,
    process: Child,
    servers: Vec<(String, u16)>,
}

impl Nginx {
    /// One server per name. The caller has checked that nginx is installed.
    pub fn start(names: &[&str]) -> Self {
        let plain = |name: &&str| {
            let answers =
                format!("location / {{ add_header x-origin {name} always; return 200 \"{name}\\n\"; }}");
            ((*name).to_owned(), String::new(), answers)
        };
        Self::serving(&names.iter().map(plain).collect::<Vec<_>>())
    }

    /// Servers by name, what follows their port, and their directives.
    pub fn serving(servers: &[(String, String, String)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for nginx");
        let directives: Vec<_> =
            servers.iter().map(|(_, listen, body)| (listen.clone(), body.clone())).collect();
        let servers: Vec<_> = servers.iter().map(|(name, ..)| (name.clone(), free_port())).collect();
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration(&folder, &servers, &directives)).expect("write nginx.conf");
        let process = Command::new(find("nginx").expect("nginx was checked for"))
            .arg("-c")
            .arg(&file)
            .arg("-p")
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("start nginx");
        let nginx = Self { folder, process, servers };
        nginx.await_ports();
        nginx
    }

    pub fn port(&self, name: &str) -> u16 {
        let found = self.servers.iter().find(|(known, _)| known == name);
        found.expect("a server of that name").1
    }

    /// The `upstreams:` line of a configuration in which every server has its own name.
    pub fn upstreams(&self) -> String {
        let entries: Vec<_> =
            self.servers.iter().map(|(name, port)| format!("{name}: \"http://127.0.0.1:{port}\"")).collect();
        format!("upstreams: {{ {} }}\n", entries.join(", "))
    }

    fn await_ports(&self) {
        for (name, port) in &self.servers {
            eventually(&format!("nginx serves {name}: {}", self.log()), || {
                TcpStream::connect(("127.0.0.1", *port)).is_ok()
            });
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration(folder: &TempDir, servers: &[(String, u16)], directives: &[(String, String)]) -> String {
    let folder = folder.path().display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {folder}/{kind};\n"))
        .concat();
    let servers: String = servers
        .iter()
        .zip(directives)
        .map(|((_, port), (listen, body))| {
            format!("  server {{ listen 127.0.0.1:{port} {listen};\n    {body} }}\n")
        })
        .collect();
    // A single process, so that killing it leaves no worker behind.
    format!(
        "daemon off;\nmaster_process off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n{temporary}{servers}}}\n"
    )
}
