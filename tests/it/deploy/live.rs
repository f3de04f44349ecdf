//! A real Prometheus with the shipped files scrapes the real process through an outage and a bad canary.
//!
//! Only addresses and durations of the files are rewritten, so that hours pass in seconds: which rules
//! there are, and what they say, is what is shipped. `SWITCHBACK_LONG=1` scrapes for two minutes.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use regex::Regex;
use serde_json::Value;

use super::{alerts, panels, text};
use crate::support::client::Conn;
use crate::support::load::Load;
use crate::support::origin::Behaviour;
use crate::support::ports::free_port;
use crate::support::tools::find;
use crate::support::wait::{PATIENCE, becomes_true};
use crate::support::{Origin, Site, Stranger, eventually, get, long, needs};

/// A certificate and its key, without their endings.
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/config/example");

/// A Prometheus that reads the shipped files; their times are shortened.
pub struct Prometheus(Stranger);

impl Prometheus {
    pub fn of(target: SocketAddr) -> Self {
        let stranger = Stranger::start("prometheus", |folder, port| {
            place(folder, target);
            let mut command = Command::new(find("prometheus").expect("prometheus was checked for"));
            command
                .arg(format!("--config.file={}", folder.join("prometheus.yml").display()))
                .arg(format!("--storage.tsdb.path={}", folder.join("data").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            command
        });
        let ready = get("/-/ready");
        eventually("Prometheus is ready", || {
            Conn::try_open(stranger.addr())
                .and_then(|mut conn| conn.send(&ready))
                .is_ok_and(|one| one.status == 200)
        });
        Self(stranger)
    }

    fn api(&self, path: &str) -> Value {
        let answer = Conn::open(self.0.addr()).ask(&get(&format!("/api/v1/{path}"))).json();
        assert_eq!(answer["status"], "success", "{path}: {answer:#}");
        answer["data"].clone()
    }

    /// Instances that are scraped well, and those that are not.
    pub fn targets(&self) -> [usize; 2] {
        let targets = self.api("targets")["activeTargets"].as_array().expect("targets").clone();
        let up = targets.iter().filter(|target| target["health"] == "up").count();
        [up, targets.len() - up]
    }

    fn fires(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let alerts = self.api("alerts")["alerts"].as_array().expect("alerts").clone();
        alerts.iter().any(|alert| {
            alert["state"] == "firing"
                && alert["labels"]["alertname"] == name
                && labels.iter().all(|(key, value)| alert["labels"][key] == *value)
        })
    }

    #[track_caller]
    fn await_firing(&self, name: &str, labels: &[(&str, &str)], fires: bool) {
        let seen = becomes_true(PATIENCE, || self.fires(name, labels) == fires);
        assert!(seen, "{name} {labels:?} is not {fires}: {:#}", self.api("alerts"));
    }

    /// Every rule with its error, once all were evaluated.
    fn rules(&self) -> Vec<(String, String, String)> {
        let groups = self.api("rules")["groups"].as_array().expect("groups").clone();
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().expect("rules"));
        let text = |rule: &Value, key: &str| rule[key].as_str().unwrap_or_default().to_owned();
        rules.map(|rule| (text(rule, "name"), text(rule, "health"), text(rule, "lastError"))).collect()
    }

    /// How many series a query has had since a moment.
    fn series(&self, query: &str, since: u64) -> usize {
        let range = format!("query_range?query={}&start={since}&end={}&step=1", encoded(query), now());
        self.api(&range)["result"].as_array().expect("a result").len()
    }
}

/// Hours become seconds in the order they had, and the target is the one under test.
fn place(folder: &Path, target: SocketAddr) {
    let config = text("prometheus/prometheus.yml")
        .replace("127.0.0.1:9902", &target.to_string())
        .replace("scrape_interval: 15s", "scrape_interval: 1s")
        .replace("scrape_timeout: 10s", "scrape_timeout: 1s")
        .replace("evaluation_interval: 15s", "evaluation_interval: 1s");
    assert!(config.contains(&target.to_string()) && config.matches(": 1s").count() == 3, "{config}");
    fs::write(folder.join("prometheus.yml"), config).expect("write its configuration");
    let waits = Regex::new(r"for: \d+m").expect("a pattern");
    for file in ["recording.yml", "alerts.yml"] {
        let mut rules = text(&format!("prometheus/{file}"));
        for (long, short) in [("5m", "5s"), ("30m", "8s"), ("1h", "8s"), ("6h", "15s"), ("3d", "20s")] {
            rules = rules.replace(&format!("[{long}]"), &format!("[{short}]"));
        }
        let rules = rules.replace("offset 15m", "offset 20s");
        fs::write(folder.join(file), waits.replace_all(&rules, "for: 1s").as_ref()).expect("write rules");
    }
}

fn encoded(text: &str) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._".contains(byte);
    text.bytes()
        .map(|byte| if plain(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

/// Three routes: one that promises nothing and has a rate, one that promises, and one with a rollout and a
/// shadow. Stable is probed, and one of two listeners has a certificate.
fn configuration(origins: &[Origin; 3]) -> String {
    let [stable, canary, next] = origins.each_ref().map(Origin::url);
    format!(
        "metrics: {{ address: \"127.0.0.1:@metrics@\" }}\n\
         listeners:\n\
         - {{ name: web, address: \"127.0.0.1:@web@\" }}\n\
         - {{ name: secure, address: \"127.0.0.1:@second@\", \
         tls: {{ certificates: [{{ cert: \"{EXAMPLE}.crt\", key: \"{EXAMPLE}.key\" }}] }} }}\n\
         upstreams: {{ stable: {{ endpoints: [\"{stable}\"], healthCheck: {{ interval: 1s }} }}, \
         canary: \"{canary}\", next: \"{next}\", \
         half: {{ endpoints: [\"{stable}\", \"http://127.0.0.1:{}\"] }} }}\n\
         routes:\n\
         - {{ name: plain, matches: [{{ path: /plain }}], split: {{ half: 100 }}, rateLimit: {{ requests: 10000 }} }}\n\
         - {{ name: promised, matches: [{{ path: /promised }}], split: {{ stable: 100 }}, \
         slo: {{ availability: 99.9%, latency: [{{ threshold: 300ms, target: 99% }}] }} }}\n\
         - {{ name: shop, split: {{ stable: 50, canary: 50 }}, \
         mirror: {{ to: next, percent: 100%, compare: [status, body] }}, \
         rollout: {{ version: v2, steps: [50, 100], deadline: {{ step: 2h }}, \
         analysis: {{ confidence: low, minRequests: 5, dwell: 1h, warmup: {{ errors: 0, latency: 0 }} }} }} }}\n",
        free_port()
    )
}

#[test]
fn a_real_prometheus_sees_an_outage_and_a_bad_canary_and_every_panel_has_data() {
    needs!("prometheus");
    let began = (Instant::now(), now());
    let origins = ["stable", "canary", "next"].map(Origin::start);
    let proxy = Site::new(&configuration(&origins)).start();
    let prometheus = Prometheus::of(proxy.site.metrics());
    let pace = Duration::from_millis(10);
    let loads = ["/plain", "/promised", "/"].map(|path| Load::h1(proxy.web(), 1, pace, move |_| get(path)));
    let shop = || proxy.read("/api/v1/routes/shop")["rollout"]["state"].clone();
    eventually("it is scraped", || prometheus.targets() == [1, 0]);
    eventually("the rollout is at its step", || shop() == "STAGE");

    let plain = [("route", "plain"), ("severity", "critical")];
    assert!(!prometheus.fires("SwitchbackErrorBudgetBurn", &plain));
    for path in ["/plain", "/promised"] {
        origins[0].on(path, Behaviour::Answer(500, "out"));
    }
    prometheus.await_firing("SwitchbackErrorBudgetBurn", &plain, true);
    let promised = [("route", "promised"), ("objective", "availability"), ("severity", "critical")];
    prometheus.await_firing("SwitchbackObjectiveBurn", &promised, true);
    assert!(!prometheus.fires("SwitchbackErrorBudgetBurn", &[("route", "shop")]), "the well route too");
    for path in ["/plain", "/promised"] {
        origins[0].on(path, Behaviour::Echo);
    }
    prometheus.await_firing("SwitchbackErrorBudgetBurn", &plain, false);

    origins[1].on("/", Behaviour::Answer(500, "broken"));
    eventually("the canary is put back", || shop() == "REVERTED");
    prometheus.await_firing("SwitchbackRolloutReverted", &[("route", "shop")], true);

    let broken: Vec<_> = prometheus.rules().into_iter().filter(|rule| rule.1 != "ok").collect();
    assert!(broken.is_empty(), "{broken:#?}");
    let shipped = alerts().len();
    let seen = prometheus.rules().iter().filter(|rule| rule.0.starts_with("Switchback")).count();
    assert_eq!(seen, shipped, "{:#?}", prometheus.rules());
    every_panel_has_data(&prometheus, began.1);
    if long() {
        let two_minutes = || began.0.elapsed() > Duration::from_secs(120);
        assert!(becomes_true(Duration::from_secs(130), two_minutes), "time stands still");
        assert_eq!(prometheus.series("up == 0", began.1), 0, "a scrape failed");
    }
    drop(loads);
    drop(proxy);
    prometheus.await_firing("SwitchbackDown", &[("severity", "critical")], true);
}

fn every_panel_has_data(prometheus: &Prometheus, since: u64) {
    let panels = panels();
    assert!(panels.len() > 30, "{panels:#?}");
    for (title, query) in panels {
        let asked = query
            .replace("$__rate_interval", "5s")
            .replace("$job", ".+")
            .replace("$route", ".+")
            .replace("offset 1m", "offset 3s");
        let found = becomes_true(PATIENCE, || prometheus.series(&asked, since) > 0);
        assert!(found, "panel `{title}` is empty: {asked}");
    }
}
