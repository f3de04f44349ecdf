//! A proxy whose process is replaced again and again, and the service manager it tells of that.
//!
//! Only the first process is our child; who serves now is what the processes themselves tell the
//! notification socket. All of them are one process group, which ends with its test.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::client::{Conn, Request, Response};
use super::site::Site;
use super::tools::binary;
use super::wait::eventually;

pub struct Lineage {
    pub site: Site,
    first: Child,
    notices: UnixDatagram,
    heard: Mutex<Vec<String>>,
    /// Who serves now.
    pub main: u32,
}

impl Lineage {
    pub fn start(text: &str) -> Self {
        Self::start_at(Site::new(text))
    }

    pub fn start_at(site: Site) -> Self {
        let folder = site.folder();
        let notices = UnixDatagram::bind(folder.join("notify")).expect("a notification socket");
        notices.set_nonblocking(true).expect("a socket that does not block");
        symlink(binary(), folder.join("switchback")).expect("a link to the binary");
        let errors = File::create(folder.join("errors")).expect("a file for errors");
        let first = Command::new(folder.join("switchback"))
            .args(["run", "-c", "switchback.yaml"])
            .current_dir(&folder)
            .env("NOTIFY_SOCKET", folder.join("notify"))
            .env_remove("SWITCHBACK_TOKEN")
            .env_remove("STATE_DIRECTORY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .expect("start the binary under test");
        let main = first.id();
        let mut lineage = Self { site, first, notices, heard: Mutex::default(), main };
        eventually("it says that it is ready", || lineage.has_said("READY=1"));
        lineage.forget();
        lineage
    }

    /// What was said since the last look, one message an entry.
    pub fn said(&self) -> Vec<String> {
        let mut heard = self.heard.lock().expect("what was heard");
        let mut piece = [0; 1024];
        while let Ok(length) = self.notices.recv(&mut piece) {
            heard.push(String::from_utf8_lossy(&piece[..length]).into_owned());
        }
        heard.clone()
    }

    pub fn has_said(&self, what: &str) -> bool {
        self.said().iter().any(|message| message.lines().any(|line| line.starts_with(what)))
    }

    pub fn forget(&mut self) {
        self.said();
        self.heard.lock().expect("what was heard").clear();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.main).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("the process is there");
    }

    /// Replaces the process and waits until the old one is gone.
    #[track_caller]
    pub fn upgrade(&mut self) {
        let old = self.main;
        self.begin_upgrade();
        eventually("the old process ends", || self.is_gone(old));
    }

    /// Replaces the process; the old one may still finish what it serves.
    #[track_caller]
    pub fn begin_upgrade(&mut self) {
        self.forget();
        self.signal(Signal::USR2);
        let mut next = None;
        eventually("another process is in charge", || {
            let said = self.said();
            let mut lines = said.iter().flat_map(|message| message.lines());
            next = lines.find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok());
            next.is_some()
        });
        assert_ne!(next, Some(self.main));
        self.main = next.expect("just heard");
    }

    /// Whether a process of the lineage ended.
    pub fn is_gone(&mut self, pid: u32) -> bool {
        if pid == self.first.id() {
            return self.first.try_wait().expect("look at the child").is_some();
        }
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_none_or(|rest| rest.trim_start().is_empty() || rest.trim_start().starts_with('Z'))
    }

    /// How the first process ended.
    pub fn first_ended(&mut self) -> Option<ExitStatus> {
        self.first.try_wait().expect("look at the child")
    }

    /// Puts another program where the next process is started from.
    pub fn install(&self, script: Option<&str>) {
        let (draft, program) = (self.site.folder().join("draft"), self.site.folder().join("switchback"));
        match script {
            Some(script) => {
                fs::write(&draft, format!("#!/bin/sh\n{script}\n")).expect("a script");
                fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("a program");
            }
            None => symlink(binary(), &draft).expect("a link to the binary"),
        }
        fs::rename(draft, program).expect("the new program");
    }

    pub fn errors(&self) -> String {
        fs::read_to_string(self.errors_file()).unwrap_or_default()
    }

    fn errors_file(&self) -> PathBuf {
        self.site.folder().join("errors")
    }

    #[track_caller]
    pub fn ask(&self, request: &Request) -> Response {
        Conn::open(self.site.web()).ask(request)
    }

    #[track_caller]
    pub fn admin(&self, method: &str, path: &str, body: &str) -> Response {
        let request = Request::new(method, path).host(&self.site.admin().to_string());
        let request = request
            .header("authorization", &format!("Bearer {}", self.site.token()))
            .header("content-type", "application/json")
            .header("if-match", "*");
        let request = if body.is_empty() { request } else { Request { body: body.into(), ..request } };
        Conn::open(self.site.admin()).ask(&request)
    }
}

impl Drop for Lineage {
    fn drop(&mut self) {
        if let Some(group) = i32::try_from(self.first.id()).ok().and_then(Pid::from_raw) {
            // The group may be gone already.
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.first.wait();
        if std::thread::panicking() {
            for line in self.errors().lines().take(300) {
                eprintln!("[switchback] {line}");
            }
        }
    }
}
