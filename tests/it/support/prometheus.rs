//! A real Prometheus on loopback.

use std::fs;
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use super::ports::free_port;
use super::tools::find;
use super::{Conn, Site, get};

/// A Prometheus that scrapes one address every second; it can die and come back.
pub struct Prometheus {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Prometheus {
    pub fn of(site: &Site) -> Self {
        let folder = tempfile::tempdir().expect("a folder for Prometheus");
        let scrape = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs: [{{ job_name: it, static_configs: [{{ targets: [\"{}\"] }}] }}]\n",
            site.admin()
        );
        fs::write(folder.path().join("prometheus.yml"), scrape).expect("write its configuration");
        let mut prometheus = Self { folder, port: free_port(), child: None };
        prometheus.start();
        prometheus
    }

    /// The samples that a query finds now, with their labels; none while nobody answers.
    pub fn samples(&self, query: &str) -> Vec<(Value, f64)> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let Ok(mut conn) = TcpStream::connect(("127.0.0.1", self.port))
            .map(|_| Conn::open(([127, 0, 0, 1], self.port).into()))
        else {
            return Vec::new();
        };
        let answer = conn.ask(&get(&format!("/api/v1/query?query={encoded}")));
        if answer.status != 200 {
            return Vec::new();
        }
        let told = answer.json();
        let samples = told["data"]["result"].as_array().cloned().unwrap_or_default();
        let number = |one: &Value| one["value"][1].as_str().and_then(|text| text.parse().ok());
        samples.iter().filter_map(|one| Some((one["metric"].clone(), number(one)?))).collect()
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn start(&mut self) {
        let child = Command::new(find("prometheus").expect("prometheus was checked for"))
            .arg(format!("--config.file={}", self.folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", self.folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{}", self.port))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.child = Some(child.expect("start prometheus"));
    }

    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("kill prometheus");
            child.wait().expect("reap prometheus");
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        self.kill();
    }
}
