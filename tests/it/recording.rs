//! A live rollout, recorded while it happens, gives the same verdicts and moves when it is replayed.
//!
//! Real traffic through the real proxy, recorded by the command line as an operator would; then the
//! file and the very configuration are handed to `simulate`. Nothing is compared but what both say.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::tools::{Finished, switchback};
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Origin, Proxy, Site, eventually, get, upstreams};

/// Short times, and a confidence that little traffic reaches.
const QUICK: &str = "analysis: { confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 } }, bake: 1s";

fn start(origins: &[Origin; 2], steps: &str) -> Proxy {
    let text = format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, \
         rollout: {{ version: v2, steps: {steps}, autoStart: false, {QUICK} }} }}]\n",
        upstreams(&origins.each_ref())
    );
    Proxy::start(&text)
}

/// `status all --record live.jsonl`, under way.
struct Recorder(Child);

impl Recorder {
    fn start(site: &Site) -> Self {
        let (admin, token) = (format!("http://{}", site.admin()), site.state().join("admin.token"));
        let child = Command::new(env!("CARGO_BIN_EXE_switchback"))
            .args(["status", "all", "--record", "live.jsonl", "--admin", &admin, "--token-file"])
            .arg(token)
            .current_dir(site.folder())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the recorder");
        let file = site.folder().join("live.jsonl");
        eventually("the file is there", || file.exists());
        Self(child)
    }

    /// Waits for its end, and gives what it said.
    fn finish(mut self) -> (Option<i32>, String) {
        use std::io::Read;
        let mut code = None;
        let ended = becomes_true(2 * PATIENCE, || {
            code = self.0.try_wait().expect("wait for the recorder");
            code.is_some()
        });
        assert!(ended, "the recorder never ended");
        let mut said = String::new();
        self.0.stdout.take().expect("stdout").read_to_string(&mut said).expect("read");
        self.0.stderr.take().expect("stderr").read_to_string(&mut said).expect("read");
        (code.and_then(|code| code.code()), said)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

fn begin(proxy: &Proxy) {
    let started = proxy.admin(&proxy.verb("/api/v1/routes/all/rollout/start", &json!({})));
    assert_eq!(started.status, 200, "{started:?}");
}

fn await_end(proxy: &Proxy, state: &str) {
    let mut last = Value::Null;
    let ends = ["PROMOTED", "REVERTED", "ABORTED"];
    becomes_true(2 * PATIENCE, || {
        last = proxy.read("/api/v1/routes/all")["rollout"].clone();
        ends.iter().any(|end| last["state"] == *end)
    });
    assert_eq!(last["state"], state, "{last:#}\n{:#}", proxy.read("/api/v1/routes/all/history"));
}

fn replay(site: &Site, more: &[&str]) -> Finished {
    let config = site.file().display().to_string();
    let words = ["simulate", "--policy", &config, "--counts", "live.jsonl"];
    switchback(&site.folder(), &[&words[..], more].concat())
}

/// Replays what was recorded and compares every tick with what was said of it live.
fn same(site: &Site) -> Vec<Value> {
    let done = replay(site, &["--json"]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let ticks: Vec<Value> = done.out.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(!ticks.is_empty(), "{done:?}");
    for tick in &ticks {
        let live = &tick["recorded"];
        assert_eq!((&tick["verdict"], &tick["rule"]), (&live["verdict"], &live["rule"]), "{tick:#}");
        assert_eq!(tick["evidence"]["log"], live["log"], "to the last bit: {tick:#}");
        // Of two ticks of one second the last is decided about.
        if !live["state"].is_null() {
            assert_eq!(tick["state"], live["state"], "{tick:#}");
        }
        assert!(tick["differs"].is_null(), "{tick:#}");
    }
    let text = replay(site, &[]);
    let judged = ticks.len();
    assert!(text.out.contains(&format!("said the same of {judged} of {judged} ticks")), "{text:?}");
    ticks
}

/// The steps that live history took by itself, and how it ended.
fn lived(proxy: &Proxy) -> Vec<(String, u64)> {
    let told = proxy.read("/api/v1/routes/all/history");
    let records = told["records"].as_array().expect("records").clone();
    let taken = records.iter().filter(|one| one["kind"] == "analyzer").filter_map(|one| {
        let step = one["step"].as_u64()?;
        match (one["to"].as_str()?, one["code"].as_str()?) {
            ("REVERTING", _) => Some(("revert".to_owned(), step)),
            ("PROMOTED", _) => Some(("promote".to_owned(), step)),
            ("STAGE" | "BAKE", _) => Some(("advance".to_owned(), step)),
            _ => None,
        }
    });
    taken.collect()
}

fn replayed(ticks: &[Value]) -> Vec<(String, u64)> {
    let moves = ticks.iter().filter_map(|tick| {
        let (moved, step) = (tick["move"].as_str()?, tick["recorded"]["step"].as_u64());
        ["advance", "promote", "revert"].contains(&moved).then(|| (moved.to_owned(), step.unwrap_or(99)))
    });
    moves.collect()
}

#[test]
fn a_promotion_that_was_recorded_is_replayed_tick_by_tick() {
    let origins = ["stable", "canary"].map(Origin::start);
    let proxy = start(&origins, "[10, 50, 100]");
    let recorder = Recorder::start(&proxy.site);
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(4), |_| get("/"));
    begin(&proxy);
    await_end(&proxy, "PROMOTED");
    load.stop();
    let (code, said) = recorder.finish();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("the rollout is PROMOTED") && !said.contains("missing"), "{said}");
    let ticks = same(&proxy.site);
    assert_eq!(replayed(&ticks), lived(&proxy), "{:#}", proxy.read("/api/v1/routes/all/history"));
    let page = proxy.read("/api/v1/routes/all/ticks");
    let (lines, next) = (page["lines"].as_array().expect("lines").len(), page["next"].as_u64());
    assert!(lines > 0 && page["live"] == json!(false) && page["state"] == "PROMOTED", "{page:#}");
    let rest = proxy.read(&format!("/api/v1/routes/all/ticks?after={}", next.expect("a number")));
    assert_eq!(rest["lines"], json!([]), "{rest:#}");
    let again = Recorder::start(&proxy.site).finish();
    assert!(again.0 == Some(2) && again.1.contains("live.jsonl"), "nothing is written over: {again:?}");
}

#[test]
fn a_revert_that_was_recorded_is_replayed_tick_by_tick() {
    let origins = ["stable", "canary"].map(Origin::start);
    origins[1].on("/", Behaviour::Answer(500, "broken"));
    let proxy = start(&origins, "[50, 100]");
    let recorder = Recorder::start(&proxy.site);
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(4), |_| get("/"));
    begin(&proxy);
    await_end(&proxy, "REVERTED");
    load.stop();
    let (code, said) = recorder.finish();
    assert!(code == Some(0) && said.contains("the rollout is REVERTED"), "{said}");
    let ticks = same(&proxy.site);
    let last = ticks.last().expect("a tick");
    assert_eq!((&last["move"], &last["verdict"]), (&json!("revert"), &json!("harmful")), "{last:#}");
    assert_eq!(replayed(&ticks), lived(&proxy));
    // Another policy on the same counts: it says where it would have gone another way.
    let watching = proxy.site.file();
    let text = std::fs::read_to_string(&watching).expect("the configuration");
    proxy.site.place("other.yaml", &text.replace("autoStart: false", "autoStart: false, onHarm: observe"));
    let words = ["simulate", "--policy", "other.yaml", "--counts", "live.jsonl"];
    let other = switchback(&proxy.site.folder(), &words);
    assert!(other.code == Some(0) && other.out.contains("observe"), "{other:?}");
    assert!(other.out.contains("the recording is REVERTING"), "{other:?}");
}
