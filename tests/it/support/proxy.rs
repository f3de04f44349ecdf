//! The real binary as a child process, with everything an operator can see of it.
//!
//! It reaches the product only through its command line, files, signals and sockets. It must never
//! outlive its test, and it prints the child's output when the test fails.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Conn, Request, Response, post};
use super::scrape::Scrape;
use super::site::Site;
use super::tools::binary;
use super::wait::{PATIENCE, becomes_true, eventually};

pub struct Proxy {
    pub site: Site,
    child: Child,
    out: Lines,
    err: Lines,
    readers: Vec<JoinHandle<()>>,
}

/// How long a counter may lag behind the answer it counts.
const SETTLING: Duration = Duration::from_secs(10);

type Lines = Arc<Mutex<Vec<String>>>;

impl Proxy {
    /// Writes the configuration to a fresh site and waits until the proxy says it is ready.
    pub fn start(text: &str) -> Self {
        Site::new(text).start()
    }

    pub fn start_at(site: Site) -> Self {
        let file = site.file();
        Self::start_reading(site, &file)
    }

    /// The same with a variable in its environment.
    pub fn start_with(site: Site, variable: &str, value: &Path) -> Self {
        let file = site.file();
        Self::spawn_with(site, &file, &[(variable, value)]).await_ready()
    }

    /// The same with a path of its own for `-c`.
    pub fn start_reading(site: Site, path: &Path) -> Self {
        Self::spawn_reading(site, path).await_ready()
    }

    /// The folder as it is mounted in a pod, with the site's state on a volume.
    pub fn start_mounted(site: Site, folder: &Path) -> Self {
        let state = site.state();
        Self::spawn_with(site, folder, &[("STATE_DIRECTORY", &state)]).await_ready()
    }

    fn await_ready(self) -> Self {
        let mut proxy = self;
        let ready = becomes_true(PATIENCE, || {
            assert!(proxy.exited().is_none(), "the proxy ended while starting");
            Conn::try_open(proxy.site.admin())
                .and_then(|mut conn| conn.send(&proxy.admin_request("GET", "/readyz")))
                .is_ok_and(|response| response.status == 200)
        });
        assert!(ready, "the proxy never became ready");
        proxy
    }

    /// Starts the binary without waiting for anything.
    pub fn spawn(site: Site) -> Self {
        let file = site.file();
        Self::spawn_reading(site, &file)
    }

    fn spawn_reading(site: Site, path: &Path) -> Self {
        Self::spawn_with(site, path, &[])
    }

    fn spawn_with(site: Site, path: &Path, variables: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(binary())
            .arg("run")
            .arg("-c")
            .arg(path)
            .current_dir(site.folder())
            .env_remove("SWITCHBACK_TOKEN")
            .env_remove("STATE_DIRECTORY")
            .env_remove("SSL_CERT_DIR")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the binary under test");
        let (out, err) = (Lines::default(), Lines::default());
        let readers = vec![
            collect(child.stdout.take().expect("piped stdout"), Arc::clone(&out)),
            collect(child.stderr.take().expect("piped stderr"), Arc::clone(&err)),
        ];
        Self { site, child, out, err, readers }
    }

    pub fn web(&self) -> SocketAddr {
        self.site.web()
    }

    pub fn conn(&self) -> Conn {
        Conn::open(self.web())
    }

    /// One request on a connection of its own.
    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        self.conn().ask(request)
    }

    // --- admin ---

    pub fn admin_request(&self, method: &str, path: &str) -> Request {
        Request::new(method, path).host(&self.site.admin().to_string())
    }

    #[track_caller]
    pub fn admin(&self, request: &Request) -> Response {
        Conn::open(self.site.admin()).ask(request)
    }

    #[track_caller]
    pub fn read(&self, path: &str) -> Value {
        let response = self.admin(&self.admin_request("GET", path));
        response.expect_status(200).json()
    }

    /// A mutation with everything the contract asks for; tests of refusals take things away.
    pub fn verb(&self, path: &str, body: &Value) -> Request {
        post(path, body.to_string())
            .host(&self.site.admin().to_string())
            .header("authorization", &format!("Bearer {}", self.site.token()))
            .header("content-type", "application/json")
            .header("if-match", "*")
    }

    #[track_caller]
    pub fn weights(&self, route: &str, weights: &[(&str, u32)]) -> Value {
        let weights: serde_json::Map<_, _> =
            weights.iter().map(|(arm, weight)| ((*arm).to_owned(), json!(weight))).collect();
        let path = format!("/api/v1/routes/{route}/weights");
        let response = self.admin(&self.verb(&path, &json!({ "weights": weights })));
        response.expect_status(200).json()
    }

    #[track_caller]
    pub fn reset_weights(&self, route: &str) -> Value {
        let path = format!("/api/v1/routes/{route}/weights");
        let response = self.admin(&self.verb(&path, &json!({ "reset": true })));
        response.expect_status(200).json()
    }

    #[track_caller]
    pub fn generation(&self) -> u64 {
        let status = self.read("/api/v1/status");
        status["generation"].as_u64().unwrap_or_else(|| panic!("no generation in {status}"))
    }

    #[track_caller]
    pub fn metrics(&self) -> Scrape {
        let response = self.admin(&self.admin_request("GET", "/metrics"));
        Scrape::parse(&response.expect_status(200).text())
    }

    /// Waits until a counter has this value: an exchange is counted at its end, which the client can
    /// see a moment before the counter moves.
    #[track_caller]
    pub fn settles(&self, name: &str, labels: &[(&str, &str)], count: u64) -> Scrape {
        let mut metrics = self.metrics();
        becomes_true(SETTLING, || {
            metrics = self.metrics();
            metrics.count(name, labels) == count
        });
        let have = metrics.count(name, labels);
        assert_eq!(have, count, "{name} {labels:?} in\n{}", metrics.family(name));
        metrics
    }

    /// What the proxy says it would do with a request of this shape.
    #[track_caller]
    pub fn explain(&self, request: &Request) -> Value {
        let encode = |text: &str| -> String {
            text.bytes()
                .map(|byte| match byte {
                    b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' => {
                        char::from(byte).to_string()
                    }
                    other => format!("%{other:02X}"),
                })
                .collect()
        };
        let url = format!("http://{}{}", request.host, request.target);
        let mut path = format!("/api/v1/explain?method={}&url={}", request.method, encode(&url));
        for (name, value) in &request.headers {
            path.push_str(&format!("&header={}", encode(&format!("{name}:{value}"))));
        }
        path.push_str("&clientIP=127.0.0.1");
        self.read(&path)
    }

    // --- configuration ---

    /// Replaces the file and waits until a new generation serves it.
    #[track_caller]
    pub fn reload(&self, text: &str) {
        let before = self.generation();
        self.site.write(text);
        self.await_generation_after(before);
    }

    #[track_caller]
    pub fn await_generation_after(&self, before: u64) {
        eventually(&format!("a generation after {before} serves"), || self.generation() > before);
    }

    // --- the process ---

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `TERM`, `HUP`, `INT`: by the shell's own kill, which needs no further program.
    pub fn signal(&self, name: &str) {
        let status = Command::new("sh")
            .arg("-c")
            .arg(format!("kill -{name} {}", self.pid()))
            .status()
            .expect("run sh");
        assert!(status.success(), "kill -{name} failed");
    }

    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("look at the child")
    }

    #[track_caller]
    pub fn await_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the proxy exits", || {
            status = self.exited();
            status.is_some()
        });
        status.expect("just seen")
    }

    /// Asks it to stop and returns its site for a new start.
    #[track_caller]
    pub fn stop(mut self) -> Site {
        self.signal("TERM");
        let status = self.await_exit();
        assert!(status.success(), "stopping ended with {status}");
        self.site.clone()
    }

    pub fn out(&self) -> Vec<String> {
        self.out.lock().expect("stdout lines").clone()
    }

    pub fn err(&self) -> Vec<String> {
        self.err.lock().expect("stderr lines").clone()
    }

    /// Resident memory now and at its highest, in KiB.
    pub fn memory(&self) -> Memory {
        let status =
            fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the proxy's /proc status");
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
                .and_then(|number| number.parse().ok())
                .unwrap_or_else(|| panic!("no {name} in {status}"))
        };
        Memory { now_kib: field("VmRSS:"), own_kib: field("RssAnon:"), peak_kib: field("VmHWM:") }
    }
}

#[allow(clippy::struct_field_names, reason = "the unit belongs to each name")]
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub now_kib: u64,
    /// Without the pages of the binary, of which an unoptimised build has several times as many.
    pub own_kib: u64,
    pub peak_kib: u64,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for reader in self.readers.drain(..) {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            for line in self.err().iter().chain(&self.out()).take(200) {
                eprintln!("[switchback] {line}");
            }
        }
    }
}

fn collect(pipe: impl Read + Send + 'static, sink: Lines) -> JoinHandle<()> {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).split(b'\n') {
            let Ok(line) = line else { return };
            let line = String::from_utf8_lossy(&line).into_owned();
            sink.lock().expect("output lines").push(line);
        }
    })
}
