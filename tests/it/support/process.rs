//! Strangers as child processes: servers of other people's making, on loopback, gone with the test.
//!
//! A stranger is started with a port and a folder of its own and leads a process group, so that
//! what it forks dies with it. It must never outlive its test, listen beyond loopback or read the
//! machine's own configuration of that program.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;

use super::ports::free_port;
use super::tools::{find, python};
use super::wait::{PATIENCE, becomes_true};

/// A running server; dropping it kills its whole process group.
pub struct Stranger {
    name: String,
    folder: TempDir,
    port: u16,
    child: Child,
}

impl Stranger {
    /// Starts what `command` makes of a folder and a port, and waits until the port answers.
    pub fn start(name: &str, command: impl FnOnce(&Path, u16) -> Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder for a stranger");
        let port = free_port();
        let mut command = command(folder.path(), port);
        let output = fs::File::create(folder.path().join("output")).expect("a file for its output");
        let child = command
            .env("LOG", folder.path().join("requests"))
            .env("PORT", port.to_string())
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("one file for both"))
            .stderr(output)
            .process_group(0)
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
        let mut stranger = Self { name: name.to_owned(), folder, port, child };
        let listening = becomes_true(PATIENCE, || {
            let ended = stranger.child.try_wait().expect("look at a stranger");
            assert!(ended.is_none(), "{name} ended while starting: {}", stranger.output());
            TcpStream::connect(stranger.addr()).is_ok()
        });
        assert!(listening, "{name} never listened: {}", stranger.output());
        stranger
    }

    /// A script under `tests/it/strangers` run by the interpreter its ending names.
    pub fn script(file: &str, arguments: &[&str]) -> Self {
        Self::start(file, |_, _| {
            let mut command = interpreter(file);
            command.args(arguments);
            command
        })
    }

    /// nginx with these directives in its `http` block; `@port@` and `@dir@` are filled in.
    pub fn nginx(http: &str) -> Self {
        Self::start("nginx", |folder, port| {
            let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
            let temporary = kinds.map(|kind| format!("{kind}_temp_path @dir@/{kind};\n")).concat();
            // A single process, so that killing it leaves no worker behind.
            let text = format!(
                "daemon off;\nmaster_process off;\npid @dir@/pid;\nerror_log @dir@/errors;\n\
                 events {{ worker_connections 1024; }}\nhttp {{\n{temporary}{http}\n}}\n"
            );
            let mut command = program("nginx");
            command.arg("-c").arg(place(folder, "nginx.conf", &text, port)).arg("-p").arg(folder);
            command
        })
    }

    /// Apache httpd with these directives after the usual modules.
    pub fn apache(directives: &str) -> Self {
        Self::start("apache2", |folder, port| {
            let modules = ["mpm_event", "authz_core", "dir", "proxy", "proxy_http", "mime"];
            let modules = modules
                .map(|name| format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n"))
                .concat();
            let text = format!(
                "ServerRoot @dir@\nServerName apache.test\nListen 127.0.0.1:@port@\nPidFile @dir@/pid\n\
                 ErrorLog @dir@/errors\nTypesConfig /dev/null\n{modules}StartServers 1\n\
                 ServerLimit 1\nThreadsPerChild 25\nMaxRequestWorkers 25\n{directives}\n"
            );
            let mut command = program("apache2");
            command.arg("-X").arg("-f").arg(place(folder, "apache.conf", &text, port));
            command
        })
    }

    /// HAProxy with one frontend on its port and one server at `server`.
    pub fn haproxy(server: SocketAddr) -> Self {
        Self::start("haproxy", |folder, port| {
            let text = format!(
                "global\n  maxconn 500\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  \
                 timeout server 60s\nfrontend front\n  bind 127.0.0.1:@port@\n  default_backend back\n\
                 backend back\n  server one {server}\n"
            );
            let mut command = program("haproxy");
            command.arg("-db").arg("-f").arg(place(folder, "haproxy.cfg", &text, port));
            command
        })
    }

    pub fn addr(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addr())
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The lines it wrote about requests, in the order they came.
    pub fn requests(&self) -> Vec<String> {
        let text = fs::read(self.folder().join("requests")).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }

    /// Ends it as a crash or the kernel would: at once, every process of it.
    pub fn kill(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        if let Some(group) = group.filter(|_| self.child.try_wait().is_ok_and(|ended| ended.is_none())) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    fn output(&self) -> String {
        let read = |name| fs::read_to_string(self.folder().join(name)).unwrap_or_default();
        read("output") + &read("errors")
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            for line in self.output().lines().take(50) {
                eprintln!("[{}] {line}", self.name);
            }
        }
    }
}

/// Where a script or a template of the strangers lies.
pub fn stranger_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/strangers").join(name)
}

/// The interpreter of a script with the script as its first argument.
pub fn interpreter(file: &str) -> Command {
    let is_node = Path::new(file).extension().is_some_and(|ending| ending == "js");
    let mut command = if is_node { program("node") } else { Command::new(python()) };
    command.arg(stranger_file(file)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

fn program(name: &str) -> Command {
    Command::new(find(name).unwrap_or_else(|| panic!("{name} was not checked for")))
}

fn place(folder: &Path, name: &str, text: &str, port: u16) -> PathBuf {
    let file = folder.join(name);
    let text = text.replace("@port@", &port.to_string()).replace("@dir@", &folder.display().to_string());
    fs::write(&file, text).expect("write a stranger's configuration");
    file
}
