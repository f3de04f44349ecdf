//! What a rollout asks of the outside and says to it: checks, hooks, notices, over http and https.
//!
//! The metric store is a real Prometheus that scrapes the proxy itself, the TLS server another's. What
//! is said must arrive at least once, in order, whoever dies in between, and must never hold a secret.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tempfile::TempDir;

use crate::support::load::Load;
use crate::support::origin::{Behaviour, Seen};
use crate::support::process::interpreter;
use crate::support::prometheus::Prometheus;
use crate::support::tools::run;
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Origin, Proxy, Site, Stranger, eventually, get, needs, upstreams};

/// Short times, and a confidence that little traffic reaches.
const QUICK: &str =
    "confidence: low, minRequests: 5, bursts: 1, dwell: 1s, warmup: { errors: 0, latency: 0 }";

fn pair() -> [Origin; 2] {
    ["stable", "canary"].map(Origin::start)
}

/// A configuration with one route, this rollout block, and further lines.
fn text(origins: &[Origin; 2], block: &str, more: &str) -> String {
    format!(
        "{}{more}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, rollout: {{ version: v2, {block} }} }}]\n",
        upstreams(&origins.each_ref())
    )
}

fn load(proxy: &Proxy) -> Load {
    Load::h1(proxy.web(), 4, Duration::from_millis(4), |_| get("/"))
}

fn rollout(proxy: &Proxy) -> Value {
    proxy.read("/api/v1/routes/all")["rollout"].clone()
}

fn records(proxy: &Proxy) -> Vec<Value> {
    proxy.read("/api/v1/routes/all/history")["records"].as_array().expect("records").clone()
}

/// Waits until the rollout is what is asked for.
#[track_caller]
fn await_rollout(proxy: &Proxy, what: &str, mut is: impl FnMut(&Value) -> bool) -> Value {
    let mut last = Value::Null;
    let reached = becomes_true(3 * PATIENCE, || {
        last = rollout(proxy);
        is(&last)
    });
    assert!(reached, "never {what}: {last:#}\n{}", json!(records(proxy)));
    last
}

#[track_caller]
fn await_state(proxy: &Proxy, state: &str) -> Value {
    await_rollout(proxy, state, |now| now["state"] == state)
}

/// Dies without a word.
fn killed(mut proxy: Proxy) -> Site {
    proxy.signal("KILL");
    proxy.await_exit();
    proxy.site.clone()
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).expect("JSON")
}

/// What reached a path of an origin, in order.
fn at(origin: &Origin, path: &str) -> Vec<Seen> {
    origin.seen().into_iter().filter(|seen| seen.target == path).collect()
}

fn key(seen: &Seen) -> String {
    seen.header("idempotency-key").expect("a key").to_owned()
}

// --- checks ---

#[test]
fn a_check_lets_go_on_holds_while_nobody_answers_and_goes_on_again() {
    needs!("prometheus");
    let origins = pair();
    let site = Site::new(&text(&origins, "", ""));
    let mut prometheus = Prometheus::of(&site);
    let query = "sum(rate(switchback_requests_total{route=\\\"{{route}}\\\", outcome=\\\"ok\\\"}[10s]))";
    let block = format!(
        "steps: [10, {{ weight: 50, dwell: 12s }}, 100], bake: 1s, analysis: {{ {QUICK}, checks: [\
         {{ name: traffic, prometheus: {{ url: \"{}\", query: \"{query}\" }}, min: 0.1, interval: 1s }}] }}",
        prometheus.url()
    );
    site.write(&text(&origins, &block, ""));
    let proxy = site.start();
    let load = load(&proxy);
    let fine = await_rollout(&proxy, "a fine check at the second step", |now| {
        now["step"] == 1 && now["checks"][0]["state"] == "fine"
    });
    assert_eq!(
        (&fine["checks"][0]["name"], &fine["state"]),
        (&json!("traffic"), &json!("STAGE")),
        "{fine:#}"
    );
    assert!(fine["checks"][0]["value"].as_f64() > Some(0.1), "{fine:#}");
    prometheus.kill();
    let held = await_state(&proxy, "HOLD");
    assert_eq!((&held["code"], &held["step"]), (&json!("check-silent"), &json!(1)), "{held:#}");
    assert_eq!(held["checks"][0]["state"], "silent", "{held:#}");
    assert!(held["checks"][0]["why"].as_str().is_some_and(|why| why.contains("refused")), "{held:#}");
    prometheus.start();
    await_rollout(&proxy, "promoted, and nobody asks any more", |now| {
        now["state"] == "PROMOTED" && now["checks"].is_null()
    });
    let report = load.stop();
    assert_eq!(report.failed, 0, "{report:?}");
}

#[test]
fn a_check_out_of_bounds_puts_the_canary_back() {
    needs!("prometheus");
    let origins = pair();
    let site = Site::new(&text(&origins, "", ""));
    let prometheus = Prometheus::of(&site);
    let query = "sum(switchback_requests_total{route=\\\"{{route}}\\\", arm=\\\"{{canary}}\\\"})";
    let block = format!(
        "steps: [{{ weight: 50, dwell: 1h }}, 100], deadline: {{ step: 2h }}, analysis: {{ {QUICK}, checks: [\
         {{ name: few, prometheus: {{ url: \"{}\", query: \"{query}\" }}, max: 5, interval: 1s, onFail: revert }}] }}",
        prometheus.url()
    );
    site.write(&text(&origins, &block, ""));
    let proxy = site.start();
    let load = load(&proxy);
    await_state(&proxy, "REVERTED");
    load.stop();
    let records = records(&proxy);
    let revert = records.iter().find(|record| record["to"] == "REVERTING").expect("a record of the revert");
    assert_eq!((&revert["code"], &revert["after"]), (&json!("check"), &json!(0.0)), "{revert:#}");
    assert!(revert["reason"].as_str().is_some_and(|reason| reason.contains("`few`")), "{revert:#}");
}

#[test]
fn what_is_no_number_is_silence_and_never_a_failure() {
    let (origins, store) = (pair(), Origin::start("store"));
    // Prometheus answers so when the query finds nothing.
    let path = "/prom/api/v1/query?query=up%7Barm%3D%22canary%22%7D";
    let empty = r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#;
    store.on("/prom/api/v1/query", Behaviour::Answer(200, empty));
    let block = format!(
        "steps: [50, 100], analysis: {{ {QUICK}, checks: [{{ name: up, max: 1, interval: 1s, \
         prometheus: {{ url: \"{}/prom/\", query: 'up{{arm=\"{{{{canary}}}}\"}}' }} }}] }}",
        store.url()
    );
    let proxy = Proxy::start(&text(&origins, &block, ""));
    let load = load(&proxy);
    let held = await_state(&proxy, "HOLD");
    assert_eq!(held["code"], "check-silent", "{held:#}");
    assert_eq!(held["checks"][0]["why"], "the query found nothing", "{held:#}");
    assert!(store.seen().iter().all(|seen| seen.target == path), "{:?}", store.last());
    assert!(records(&proxy).iter().all(|record| record["to"] != "REVERTING"));
    let good = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}"#;
    store.on("/prom/api/v1/query", Behaviour::Answer(200, good));
    await_rollout(&proxy, "goes on", |now| now["state"] == "STAGE" || now["state"] == "BAKE");
    load.stop();
}

// --- notices ---

#[test]
fn a_webhook_hears_every_notice_once_it_answers_signed_and_in_order() {
    let (origins, outside) = (pair(), Origin::start("outside"));
    outside.on("/hook", Behaviour::Answer(500, "not now")).on("/dead", Behaviour::Hang);
    let more = format!(
        "notify: [{{ webhook: {{ url: \"{0}/dead\" }} }}, {{ webhook: {{ url: \"{0}/hook\", secretFile: secret }} }}, \
         {{ slack: {{ urlFile: slack-url }} }}]\n",
        outside.url()
    );
    let site = Site::new(&text(&origins, &format!("steps: [50, 100], analysis: {{ {QUICK} }}"), &more));
    site.place("secret", "key\n");
    site.place("slack-url", &format!("{}/services/S3CRET\n", outside.url()));
    let proxy = site.start();
    eventually("it is told twice", || at(&outside, "/hook").len() >= 2);
    outside.on("/hook", Behaviour::Answer(200, "thanks"));
    eventually("it is told the next notice too", || {
        let seen = at(&outside, "/hook");
        seen.iter().any(|one| key(one) != key(&seen[0]))
    });
    let seen = at(&outside, "/hook");
    let first: Vec<_> = seen.iter().filter(|one| key(one) == key(&seen[0])).collect();
    assert!(first.len() >= 3, "{seen:?}");
    assert!(first.iter().all(|one| one.body == first[0].body), "{first:?}");
    let keys: Vec<u64> = seen.iter().map(|one| body(one)["key"].as_u64().expect("a number")).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    let mut mac = Hmac::<Sha256>::new_from_slice(b"key").expect("a key");
    mac.update(&first[0].body);
    let expected: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(first[0].header("x-switchback-signature"), Some(format!("sha256={expected}").as_str()));
    let told = body(first[0]);
    for (name, value) in [("route", json!("all")), ("version", json!("v2")), ("run", json!(1))] {
        assert_eq!(told[name], value, "{told:#}");
    }
    for name in ["state", "level", "code", "text", "weight", "at", "key"] {
        assert!(!told[name].is_null(), "{name} is not in {told:#}");
    }
    // Slack is told the same words while another receiver says nothing at all.
    eventually("slack is told", || !at(&outside, "/services/S3CRET").is_empty());
    let slack = body(&at(&outside, "/services/S3CRET")[0]);
    assert_eq!(slack.as_object().map(serde_json::Map::len), Some(1), "{slack:#}");
    let text = slack["text"].as_str().expect("a text");
    for part in ["route all, version v2", "Status: ", "Impact: ", "Since: ", "Done: ", "Next: "] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let shown = proxy.read("/api/v1/config").to_string() + &proxy.read("/api/v1/status").to_string();
    let logged = [proxy.out(), proxy.err()].concat().join("\n");
    assert!(!shown.contains("S3CRET") && !logged.contains("S3CRET"), "{shown}\n{logged}");
}

#[test]
fn a_notice_outlives_a_kill_between_decision_and_delivery() {
    let (origins, outside) = (pair(), Origin::start("outside"));
    origins[1].on("/", Behaviour::Answer(500, "broken"));
    outside.on("/hook", Behaviour::Answer(503, "away"));
    let more = format!("notify: [{{ webhook: {{ url: \"{}/hook\" }} }}]\n", outside.url());
    let proxy = Proxy::start(&text(&origins, &format!("steps: [50, 100], analysis: {{ {QUICK} }}"), &more));
    let load = load(&proxy);
    await_state(&proxy, "REVERTED");
    load.stop();
    eventually("somebody was tried", || !at(&outside, "/hook").is_empty());
    let tried = key(&at(&outside, "/hook")[0]);
    let site = killed(proxy);
    outside.on("/hook", Behaviour::Answer(200, "back"));
    let before = at(&outside, "/hook").len();
    let proxy = site.start();
    let heard = || at(&outside, "/hook").split_off(before);
    eventually("the revert is heard", || heard().iter().any(|one| body(one)["state"] == "REVERTED"));
    let states: Vec<_> = heard().iter().map(|one| body(one)["state"].clone()).collect();
    assert_eq!(key(&heard()[0]), tried, "the one that was tried comes first");
    assert!(states.contains(&json!("STAGE")) && states.contains(&json!("REVERTING")), "{states:?}");
    let revert = heard().into_iter().find(|one| body(one)["state"] == "REVERTING").expect("just seen");
    let revert = body(&revert);
    assert_eq!(
        (&revert["level"], &revert["weight"]),
        (&json!("error"), &json!({ "before": 50.0, "after": 0.0 }))
    );
    // What was heard is not said again: the file with it is written before the next start.
    let count = at(&outside, "/hook").len();
    let state = proxy.site.state().join("overlay.json");
    eventually("nothing is left to be said", || {
        let kept: Value = serde_json::from_str(&fs::read_to_string(&state).expect("a state")).expect("JSON");
        kept["state"]["outbox"].as_array().is_some_and(Vec::is_empty)
    });
    let proxy = killed(proxy).start();
    eventually("it has begun", || rollout(&proxy)["state"] == "REVERTED");
    assert_eq!(at(&outside, "/hook").len(), count);
}

#[test]
fn a_receiver_that_the_file_has_no_more_is_told_nothing_and_a_missing_secret_is_a_warning() {
    let (origins, outside) = (pair(), Origin::start("outside"));
    outside.on("/gone", Behaviour::Answer(503, "away"));
    let block = format!("steps: [50, 100], analysis: {{ {QUICK} }}");
    let gone = format!("{{ webhook: {{ url: \"{}/gone\", secretFile: nowhere }} }}", outside.url());
    let site = Site::new(&text(&origins, &block, &format!("notify: [{gone}]\n")));
    let proxy = site.start();
    let warned = || proxy.read("/api/v1/status")["config"]["lastReload"]["diagnostics"].to_string();
    assert!(warned().contains("unreadable-secret") && warned().contains("nowhere"), "{}", warned());
    site.place("nowhere", "key");
    eventually("somebody was tried with the key", || !at(&outside, "/gone").is_empty());
    let kept = format!("{{ webhook: {{ url: \"{}/kept\" }} }}", outside.url());
    proxy.reload(&text(&origins, &block, &format!("notify: [{kept}]\n")));
    let state = proxy.site.state().join("overlay.json");
    eventually("what was for it is given up", || {
        let state = fs::read_to_string(&state).expect("a state");
        !state.contains("/gone")
    });
}

// --- hooks ---

#[test]
fn every_kind_of_hook_is_called_and_a_gate_that_says_no_is_asked_again() {
    let (origins, outside) = (pair(), Origin::start("outside"));
    outside.on("/no", Behaviour::Answer(403, "no")).on("/back", Behaviour::Answer(404, "no need"));
    let url = outside.url();
    let hooks: Vec<_> = [
        ("pre", "preRollout", "pre"),
        ("each", "rollout", "each"),
        ("begin", "confirmRollout", "begin"),
        ("more", "confirmTrafficIncrease", "no"),
        ("back", "rollback", "back"),
        ("after", "postRollout", "after"),
        ("all", "event", "event"),
        ("held", "onHold", "held"),
        ("moved", "onTransition", "moved"),
    ]
    .iter()
    .map(|(name, event, path)| format!("{{ name: {name}, event: {event}, url: \"{url}/{path}\" }}"))
    .collect();
    let block = format!("steps: [50, 100], analysis: {{ {QUICK} }}, hooks: [{}]", hooks.join(", "));
    let proxy = Proxy::start(&text(&origins, &block, ""));
    let load = load(&proxy);
    let held = await_rollout(&proxy, "held by the gate", |now| {
        now["code"] == "gate" && now["reason"].as_str().is_some_and(|reason| reason.contains("403"))
    });
    assert!(held["waitingFor"][0].as_str().is_some_and(|who| who.starts_with("more")), "{held:#}");
    eventually("the gate is asked again", || at(&outside, "/no").len() >= 2);
    outside.on("/back", Behaviour::Answer(200, "put it back"));
    let ended = await_state(&proxy, "REVERTED");
    load.stop();
    assert!(ended["reason"].as_str().is_some_and(|reason| reason.contains("`back`")), "{ended:#}");
    for path in ["/pre", "/each", "/begin", "/no", "/back", "/after", "/event", "/held", "/moved"] {
        eventually(&format!("{path} was called"), || !at(&outside, path).is_empty());
    }
    let keys: Vec<_> = at(&outside, "/no").iter().map(key).collect();
    assert_ne!(keys[0], keys[1], "asking again is another question");
    let told = body(&at(&outside, "/after")[0]);
    assert_eq!((&told["event"], &told["phase"]), (&json!("postRollout"), &json!("REVERTED")), "{told:#}");
}

#[test]
fn a_gate_may_have_its_own_deadline_and_let_through() {
    let (origins, outside) = (pair(), Origin::start("outside"));
    outside.on("/no", Behaviour::Answer(503, "away"));
    let block = format!(
        "steps: [50, 100], analysis: {{ {QUICK} }}, hooks: [{{ name: go, event: confirmRollout, url: \"{}/no\", \
         deadline: 2s, onDeadline: allow }}]",
        outside.url()
    );
    let more = format!("notify: [{{ webhook: {{ url: \"{}/told\" }} }}]\n", outside.url());
    let proxy = Proxy::start(&text(&origins, &block, &more));
    await_rollout(&proxy, "let through", |now| now["state"] == "STAGE" || now["state"] == "HOLD");
    eventually("somebody is told", || {
        at(&outside, "/told").iter().any(|one| {
            let told = body(one);
            told["code"] == "gate-deadline" && told["text"].as_str().is_some_and(|text| text.contains("503"))
        })
    });
}

/// A root nobody knows, and a certificate of it for 127.0.0.1.
struct Certificates {
    folder: TempDir,
}

impl Certificates {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder for certificates");
        let certificates = Self { folder };
        let openssl = |arguments: &str| {
            let mut command = Command::new("openssl");
            command.args(arguments.split_whitespace()).current_dir(certificates.folder.path());
            let ended = run(&mut command, b"");
            assert_eq!(ended.code, Some(0), "openssl {arguments}: {ended:?}");
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
        for root in ["root", "other"] {
            openssl(&format!("req -x509 {key} -keyout {root}.key -out {root}.pem -subj /CN={root}"));
        }
        openssl(&format!(
            "req -x509 {key} -CA root.pem -CAkey root.key -keyout leaf.key -out leaf.pem -subj /CN=hook \
             -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1"
        ));
        certificates
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

#[test]
fn a_hook_over_https_is_called_when_its_root_is_trusted_and_refused_with_the_reason_when_not() {
    needs!("openssl");
    let (origins, certificates) = (pair(), Certificates::new());
    let outside = Stranger::start("tls_hook.py", |_, _| {
        let mut command = interpreter("tls_hook.py");
        command.arg(certificates.file("leaf.pem")).arg(certificates.file("leaf.key"));
        command
    });
    let url = outside.url().replace("http://", "https://");
    let config = |url: &str| {
        let hooks = format!("hooks: [{{ name: smoke, event: preRollout, url: \"{url}/smoke\" }}]");
        text(&origins, &format!("steps: [50, 100], analysis: {{ {QUICK} }}, {hooks}"), "")
    };
    let start = |url: &str, roots: &Path| Proxy::start_with(Site::new(&config(url)), "SSL_CERT_FILE", roots);
    let proxy = start(&url, &certificates.file("root.pem"));
    await_rollout(&proxy, "past the hook", |now| now["state"] == "STAGE" || now["state"] == "HOLD");
    assert!(outside.requests().iter().any(|line| line.starts_with("/smoke {")), "{:?}", outside.requests());
    drop(proxy);
    let named = url.replace("127.0.0.1", "localhost");
    let rows = [
        (&url, "other.pem", "name its root in SSL_CERT_FILE"),
        (&url, "nowhere.pem", "trusts no certificate"),
        (&named, "root.pem", "for another name"),
    ];
    for (url, roots, why) in rows {
        let proxy = start(url, &certificates.file(roots));
        let failed = || records(&proxy).into_iter().find(|record| record["code"] == "hook-failed");
        eventually("the failure is in the history", || failed().is_some());
        let failed = failed().expect("just seen");
        assert!(failed["reason"].as_str().is_some_and(|reason| reason.contains(why)), "{why}: {failed:#}");
        assert_eq!(rollout(&proxy)["state"], "PENDING");
    }
}
