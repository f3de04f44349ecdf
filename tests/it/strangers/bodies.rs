//! Bodies of unknown length from curl and Node: large ones in constant memory, small pieces at once.
//!
//! `tests/it/streaming.rs` does this with our own client and lengths; here a stranger sends and reads
//! chunks and HTTP/2 data, both directions at the same time. Memory is the proxy's own, from /proc.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::support::process::interpreter;
use crate::support::tools::{self, find};
use crate::support::{Behaviour, Gate, Origin, Proxy, eventually, long, needs, upstreams};

const MIB: u64 = 1024 * 1024;
/// How much the proxy may grow for bodies of any size, in KiB.
const GROWTH: u64 = 32 * 1024;
const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

fn in_front_of(origin: &Origin) -> Proxy {
    Proxy::start(&format!("{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n", upstreams(&[origin])))
}

fn curl(arguments: &[&str]) -> Command {
    let mut command = Command::new(find("curl").expect("checked for"));
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "100"]).args(arguments);
    command
}

#[test]
fn large_bodies_without_a_length_pass_in_constant_memory() {
    needs!("curl");
    let size = if long() { 1024 * MIB } else { 64 * MIB };
    let origin = Origin::start("app");
    origin
        .on("/loop", Behaviour::Loopback)
        .on("/up", Behaviour::Swallow)
        .on("/down", Behaviour::Download(size));
    let proxy = in_front_of(&origin);
    let url = |path: &str| format!("http://{}{path}", proxy.web());
    tools::run(&mut curl(&[&url("/")]), b"");
    let before = proxy.memory().peak_kib;
    for version in VERSIONS {
        // A pipe has no length: chunks in HTTP/1.1, plain data frames in HTTP/2.
        let upload = |path: &str, output: &str| {
            let curl = find("curl").expect("checked for").display().to_string();
            let line = format!(
                "head -c {size} /dev/zero | {curl} -q -sS --noproxy '*' --max-time 100 {version} -H Expect: -T - \
                 {output} {}",
                url(path)
            );
            let finished = tools::run(Command::new("sh").args(["-c", &line]), b"");
            assert_eq!(finished.code, Some(0), "{version} {path}: {}", finished.err);
            finished.out
        };
        assert_eq!(upload("/up", ""), size.to_string(), "{version}: up");
        assert_eq!(upload("/loop", "-o /dev/null -w %{size_download}"), size.to_string(), "{version}: both");
        let download = tools::run(
            &mut curl(&[version, "-o", "/dev/null", "-w", "%{size_download}", &url("/down")]),
            b"",
        );
        assert_eq!(download.out, size.to_string(), "{version}: down");
    }
    let grown = proxy.memory().peak_kib - before;
    println!("{grown} KiB more at the peak for bodies of {} MiB in chunks and over h2c", size / MIB);
    assert!(grown <= GROWTH, "memory grew by {grown} KiB for bodies of {size} bytes");
}

/// Each line is written only when the one before has come back.
#[test]
fn pieces_pass_at_once_in_both_directions() {
    needs!("node");
    let origin = Origin::start("app");
    origin.on("/loop", Behaviour::Loopback);
    let proxy = in_front_of(&origin);
    for version in ["http1", "http2"] {
        let mut command = interpreter("conversation.js");
        let finished = tools::run(command.args([&proxy.web().to_string(), version]), b"");
        assert_eq!((finished.code, finished.out.trim()), (Some(0), "10 end"), "{version}: {}", finished.err);
    }
}

#[test]
fn events_reach_curl_while_the_origin_is_still_sending() {
    needs!("curl");
    for version in VERSIONS {
        let (origin, gate) = (Origin::start("app"), Gate::closed());
        origin.on("/events", Behaviour::Lines("text/event-stream", Duration::from_millis(5), gate.clone()));
        let proxy = in_front_of(&origin);
        let mut child = curl(&[version, "-N", &format!("http://{}/events", proxy.web())])
            .stdout(Stdio::piped())
            .spawn()
            .expect("start curl");
        let mut lines = BufReader::new(child.stdout.take().expect("piped stdout")).lines();
        let seen = lines.by_ref().map_while(Result::ok).any(|line| line == "data: 9");
        assert!(seen, "{version}: events come before the end");
        gate.open();
        lines.for_each(drop);
        assert!(child.wait().expect("curl ends").success(), "{version}: a clean end");
        eventually("the exchange is counted", || {
            proxy.metrics().count("switchback_requests_total", &[("outcome", "ok")]) == 1
        });
    }
}
