//! The operator's listener over real loopback sockets: every row of its security table.

use std::fs;
use std::io::Write;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

mod watching;

use super::*;
use crate::control::{self, Meters, SystemClock};

const CONFIG: &str = "\
listeners: [{ name: web, address: \"127.0.0.1:0\" }]
upstreams: { stable: \"http://127.0.0.1:1\", canary: \"http://127.0.0.1:2\" }
routes:
  - name: all
    sticky: { by: [{ header: x-user }] }
    overrides: [{ name: qa, when: { headers: [{ name: x-qa, value: \"1\" }] }, arm: canary }]
    split: { stable: 95, canary: 5 }
  - { name: gone, hostnames: [gone.test], filters: [{ respond: { status: 410 } }] }
";

struct Site {
    dir: tempfile::TempDir,
    admin: Admin,
    bound: Vec<(String, String)>,
    token: String,
    running: control::Running,
    health: Arc<Health>,
}

impl Drop for Site {
    fn drop(&mut self) {
        self.running.stop();
    }
}

impl Site {
    fn start() -> Self {
        Self::serving(CONFIG)
    }

    fn serving(text: &str) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("switchback.yaml");
        fs::write(&file, text).expect("written");
        fs::write(dir.path().join("viewer"), "viewer-token").expect("written");
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let booted = control::boot(&file, &Arc::default(), |_| 1, clock.now()).expect("good");
        let (plans, book) = (booted.publisher.plans(), Arc::clone(&booted.book));
        let state_dir = booted.state_dir.clone();
        let certificates = Arc::clone(&booted.certificates);
        let (cold, health) = (Arc::new(Cold::new()), Arc::new(Health::default()));
        let options = control::Options {
            health: Arc::clone(&health),
            meters: Meters::new(cold.recorder()),
            clock: Arc::clone(&clock),
            upkeep: Arc::new(|| {}),
            reloading: |_| {},
        };
        let running = control::start(booted, options);
        let admin = Admin::new(Parts {
            plans,
            book,
            recent: Arc::clone(&running.recent),
            control: running.control.clone(),
            certificates,
            health: Arc::clone(&health),
            cold,
            clock,
        });
        let mut site = Self { dir, admin, bound: Vec::new(), token: String::new(), running, health };
        let settings = crate::spec::process::Admin {
            viewer_token_file: Some(crate::spec::Spot::unwritten("viewer".to_owned())),
            ..Default::default()
        };
        let socket = format!("unix:{}", site.dir.path().join("admin.sock").display());
        for (name, address) in [("loopback", "127.0.0.1:0"), ("outside", "0.0.0.0:0"), ("unix", &socket)] {
            let bound = bind(address).expect("bound");
            let tokens = Tokens::open(&settings, site.dir.path(), &state_dir).expect("tokens");
            let gate = Gate::new(bound.exposure(), tokens, &["Proxy.Example".to_owned()]);
            site.bound.push((name.to_owned(), bound.address()));
            tokio::spawn(serve(bound, site.admin.router(gate), None, std::future::pending()));
        }
        let bound = bind("127.0.0.1:0").expect("bound");
        site.bound.push(("metrics".to_owned(), bound.address()));
        tokio::spawn(serve(bound, site.admin.metrics_router(), None, std::future::pending()));
        site.token = fs::read_to_string(state_dir.join(auth::FILE)).expect("a token").trim().to_owned();
        site
    }

    fn address(&self, listener: &str) -> String {
        let found = self.bound.iter().find(|(name, _)| name == listener).expect("a listener");
        found.1.replace("0.0.0.0", "127.0.0.1")
    }

    async fn raw(&self, listener: &str, request: &str) -> (u16, String, String) {
        let address = self.address(listener);
        let mut answer = Vec::new();
        if let Some(path) = address.strip_prefix("unix:") {
            let mut stream = UnixStream::connect(path).await.expect("connected");
            stream.write_all(request.as_bytes()).await.expect("sent");
            stream.read_to_end(&mut answer).await.expect("answered");
        } else {
            let mut stream = TcpStream::connect(&address).await.expect("connected");
            // A peer that refuses early stops reading and closes; what it answered is what counts then.
            let sent = stream.write_all(request.as_bytes()).await;
            let read = stream.read_to_end(&mut answer).await;
            assert!(!answer.is_empty(), "{sent:?}, {read:?}");
        }
        let answer = String::from_utf8(answer).expect("text");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    /// A request with these headers and a body; Host is localhost unless given.
    async fn ask(&self, listener: &str, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, Value) {
        let host = if headers.iter().any(|(name, _)| *name == "host") { "" } else { "host: localhost\r\n" };
        let lines: Vec<String> = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let headers = lines.concat();
        let length =
            if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        let request = format!("{line} HTTP/1.1\r\n{host}{headers}{length}connection: close\r\n\r\n{body}");
        let (status, head, body) = self.raw(listener, &request).await;
        assert!(
            head.contains("x-content-type-options: nosniff") && head.contains("cache-control: no-store"),
            "{head}"
        );
        assert!(!head.contains("access-control"), "{head}");
        (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("loopback", &format!("GET {path}"), &[], "").await
    }

    /// A verb with everything it needs, then changed by `edit`.
    async fn verb(&self, path: &str, body: &Value, drop: &str, add: &[(&str, &str)]) -> (u16, Value) {
        let bearer = format!("Bearer {}", self.token);
        let all =
            [("authorization", bearer.as_str()), ("content-type", "application/json"), ("if-match", "*")];
        let headers: Vec<_> =
            all.into_iter().filter(|(name, _)| *name != drop).chain(add.iter().copied()).collect();
        self.ask("loopback", &format!("POST {path}"), &headers, &body.to_string()).await
    }
}

const WEIGHTS: &str = "/api/v1/routes/all/weights";

#[tokio::test]
async fn the_exposure_table_holds() {
    let site = Site::start();
    let operator = format!("Bearer {}", site.token);
    let body = json!({ "weights": { "stable": 95, "canary": 5 } }).to_string();
    let read = "GET /api/v1/status";
    let verb = format!("POST {WEIGHTS}");
    let rows: &[(&str, &str, Option<&str>, u16)] = &[
        ("unix", read, None, 200),
        ("unix", &verb, None, 200),
        ("loopback", read, None, 200),
        ("loopback", &verb, None, 401),
        ("loopback", &verb, Some("Bearer viewer-token"), 403),
        ("loopback", &verb, Some("Basic x"), 401),
        ("loopback", &verb, Some(&operator), 200),
        ("outside", read, None, 401),
        ("outside", "GET /metrics", None, 401),
        ("outside", read, Some("Bearer wrong"), 401),
        ("outside", read, Some("Bearer viewer-token"), 200),
        ("outside", &verb, Some("Bearer viewer-token"), 403),
        ("outside", &verb, Some(&operator), 200),
        ("metrics", "GET /metrics", None, 200),
        ("metrics", "GET /livez", None, 200),
        ("metrics", read, Some(&operator), 404),
        ("metrics", &verb, Some(&operator), 404),
    ];
    for (listener, line, token, expected) in rows {
        let mut headers = vec![("content-type", "application/json"), ("if-match", "*")];
        headers.extend(token.map(|token| ("authorization", token)));
        let body = if line.starts_with("POST") { body.as_str() } else { "" };
        let (status, answer) = site.ask(listener, line, &headers, body).await;
        assert_eq!(status, *expected, "{listener} {line} {token:?}: {answer}");
    }
}

#[tokio::test]
async fn other_hosts_and_origins_are_refused_before_anything_else() {
    let site = Site::start();
    let address = site.address("loopback");
    let rows: &[(&[(&str, &str)], u16)] = &[
        (&[("host", &address)], 200),
        (&[("host", "[::1]:9901")], 200),
        (&[("host", "127.8.8.8")], 200),
        (&[("host", "PROXY.example:9901")], 200),
        (&[("host", "localhost"), ("origin", "http://localhost")], 200),
        (&[("host", "localhost"), ("sec-fetch-site", "same-origin")], 200),
        (&[("host", "evil.example")], 403),
        (&[("host", "localhost.evil.example")], 403),
        (&[("host", "10.0.0.1")], 403),
        (&[("host", "")], 403),
        (&[("host", "u@localhost")], 403),
        (&[("host", "localhost"), ("host", "localhost")], 403),
        (&[("host", "localhost"), ("origin", "http://evil.example")], 403),
        (&[("host", "localhost"), ("origin", "null")], 403),
        (&[("host", "localhost"), ("sec-fetch-site", "cross-site")], 403),
    ];
    for (headers, expected) in rows {
        let (status, answer) = site.ask("loopback", "GET /api/v1/status", headers, "").await;
        assert_eq!(status, *expected, "{headers:?}: {answer}");
    }
    let (status, _) = site.verb(WEIGHTS, &json!({}), "", &[("host", "evil.example")]).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn verbs_are_refused_in_the_order_of_the_contract() {
    let site = Site::start();
    let more = json!({ "weights": { "stable": 90, "canary": 10 }, "reason": "more" });
    let code = |(status, answer): (u16, Value)| (status, answer["code"].as_str().unwrap_or("").to_owned());
    let is = |status: u16, code: &str| (status, code.to_owned());
    assert_eq!(code(site.verb(WEIGHTS, &more, "content-type", &[]).await), is(400, "not-json"));
    let form = [("content-type", "text/plain")];
    assert_eq!(code(site.verb(WEIGHTS, &more, "content-type", &form).await), is(400, "not-json"));
    assert_eq!(code(site.verb(WEIGHTS, &more, "if-match", &[]).await), is(412, "if-match-missing"));
    let old = [("if-match", "\"99\"")];
    let (status, answer) = site.verb(WEIGHTS, &more, "if-match", &old).await;
    assert_eq!((status, &answer["generation"]), (409, &json!(1)), "{answer}");
    let nonsense = [("if-match", "x")];
    assert_eq!(code(site.verb(WEIGHTS, &more, "if-match", &nonsense).await), is(400, "bad-request"));
    for wrong in [json!({}), json!({ "weights": {}, "reset": true }), json!({ "wieghts": {} }), json!([])] {
        assert_eq!(code(site.verb(WEIGHTS, &wrong, "", &[]).await), is(400, "bad-request"), "{wrong}");
    }
    let unknown = json!({ "weights": { "canry": 1 } });
    assert_eq!(code(site.verb(WEIGHTS, &unknown, "", &[]).await), is(400, "unknown-arm"));
    let nowhere = "/api/v1/routes/none/weights";
    assert_eq!(code(site.verb(nowhere, &more, "", &[]).await), is(404, "unknown-route"));
    // It is refused for what it announces: whoever sends that all the same may be cut off meanwhile.
    let (length, bearer) = ((asked::MAX_BODY + 1).to_string(), format!("Bearer {}", site.token));
    let huge =
        [("authorization", &*bearer), ("content-type", "application/json"), ("content-length", &*length)];
    let line = format!("POST {WEIGHTS}");
    assert_eq!(code(site.ask("loopback", &line, &huge, "").await), is(413, "too-large"));
    assert_eq!(code(site.get("/api/v1/none").await), is(404, "not-found"));
    assert_eq!(code(site.get(WEIGHTS).await), is(405, "method-not-allowed"));

    let (status, answer) = site.verb(WEIGHTS, &more, "if-match", &[("if-match", "1")]).await;
    let changed = json!([
        { "arm": "canary", "before": 5, "after": 10 },
        { "arm": "stable", "before": 95, "after": 90 },
    ]);
    assert_eq!((status, answer), (200, json!({ "generation": 2, "changed": changed, "reason": "more" })));
    let relief = json!({ "weights": { "stable": 1 } });
    assert_eq!(site.verb(WEIGHTS, &relief, "if-match", &[]).await.0, 200);
    let (_, route) = site.get("/api/v1/routes/all").await;
    assert_eq!((&route["arms"][0]["weight"], &route["arms"][0]["source"]), (&json!(0), &json!("operator")));
}

#[tokio::test]
async fn wrong_tokens_are_bounded() {
    let site = Site::start();
    let wrong = [("authorization", "Bearer wrong")];
    for _ in 0..auth::MAX_FAILURES {
        assert_eq!(site.verb(WEIGHTS, &json!({}), "authorization", &wrong).await.0, 401);
    }
    assert_eq!(site.verb(WEIGHTS, &json!({}), "authorization", &wrong).await.0, 429);
    assert_eq!(site.get("/api/v1/status").await.0, 200);
}

#[tokio::test]
async fn probes_follow_the_life_of_the_process() {
    let site = Site::start();
    let probes = async || {
        let mut codes = Vec::new();
        for path in ["/livez", "/startupz", "/readyz"] {
            codes.push(site.get(path).await.0);
        }
        codes
    };
    assert_eq!(probes().await, [200, 503, 503]);
    site.health.listening();
    assert_eq!(probes().await, [200, 200, 200]);
    let ready = json!({ "status": "ready", "checks": { "config": "ok", "listeners": "ok", "state": "ok" } });
    assert_eq!(site.get("/readyz").await.1, ready);
    assert_eq!(site.get("/api/v1/status").await.1["checks"], ready["checks"]);
    site.health.draining();
    assert_eq!(probes().await, [200, 200, 503]);
    assert_eq!(site.get("/metrics").await.0, 200);
}

#[tokio::test]
async fn explain_tells_route_arm_and_bucket() {
    let site = Site::start();
    let url = "url=http%3A%2F%2Fshop.test%2Fa%3Fb%3D1";
    let ask = async |more: &str| site.get(&format!("/api/v1/explain?{url}{more}")).await.1;
    let sticky = ask("&header=x-user%3A%20u42").await;
    assert_eq!((&sticky["route"], &sticky["reason"]), (&json!("all"), &json!("sticky")), "{sticky}");
    assert_eq!(sticky["ranges"][0], json!({ "arm": "canary", "from": 0, "to": 499 }));
    assert_eq!(ask("&key=u42").await["bucket"], sticky["bucket"]);
    let forced = ask("&header=x-qa:1&header=x-user:u42&method=POST&clientIP=192.0.2.1").await;
    assert_eq!((&forced["arm"], &forced["rule"]), (&json!("canary"), &json!("qa")), "{forced}");
    assert_eq!(ask("").await["bucket"], Value::Null);
    let (_, answered) = site.get("/api/v1/explain?url=http://gone.test/").await;
    assert_eq!((&answered["route"], &answered["reason"]), (&json!("gone"), &json!("answer")), "{answered}");
    for wrong in ["", "?url=", "?url=/&clientIP=x", "?url=/&nonsense=1", "?url=/&listener=none"] {
        assert_eq!(site.get(&format!("/api/v1/explain{wrong}")).await.0, 400, "{wrong}");
    }
}

#[tokio::test]
async fn views_show_routes_and_reloads_tell_findings() {
    let site = Site::start();
    for path in ["/api/v1/config", "/api/v1/limits"] {
        let (status, view) = site.get(path).await;
        assert_eq!((status, &view["listeners"][0]["limits"]["headerCount"]), (200, &json!(100)), "{view}");
        assert!(!view.to_string().contains(&site.token));
    }
    // As the documentation says them.
    let (_, limits) = site.get("/api/v1/limits").await;
    for (at, value) in [
        ("/tlsHandshakeSeconds", 5),
        ("/http2/controlFramesPerSecond", 1_000),
        ("/http2/resetsPerSecond", 100),
        ("/interimAnswers", 32),
        ("/copiesPerWorker", 256),
        ("/probes", 64),
        ("/rateLimitKeys", 65_536),
        ("/config/fileBytes", 4 << 20),
        ("/admin/watchers", 16),
        ("/admin/wrongTokensPerMinute", 10),
    ] {
        assert_eq!(limits["fixed"].pointer(at), Some(&json!(value)), "{at} in {limits}");
    }
    let (_, routes) = site.get("/api/v1/routes").await;
    assert_eq!(routes["routes"][0]["arms"][1]["endpoints"][0]["address"], "http://127.0.0.1:1");
    assert_eq!(routes["routes"][0]["arms"][0]["observed"], Value::Null);
    let reload = "/api/v1/reload";
    let (status, same) = site.verb(reload, &json!({}), "", &[]).await;
    assert_eq!((status, &same["generation"], &same["changed"]), (200, &json!(1), &json!([])));
    fs::write(site.dir.path().join("switchback.yaml"), CONFIG.replace("canary: 5", "ghost: 5"))
        .expect("written");
    for path in [reload, "/api/v1/reload?dryRun=true"] {
        let (status, answer) = site.verb(path, &json!({}), "", &[]).await;
        assert_eq!(status, 422, "{answer}");
        let mut found = answer["diagnostics"].as_array().into_iter().flatten();
        assert!(found.any(|one| one["code"] == "unknown-upstream" && one["line"] == 7), "{answer}");
    }
}

#[tokio::test]
async fn a_socket_is_its_owners_alone_and_never_taken_from_the_living() {
    use std::os::unix::fs::PermissionsExt;
    let site = Site::start();
    let path = site.dir.path().join("admin.sock");
    let address = format!("unix:{}", path.display());
    assert_eq!(fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o600);
    assert!(bind(&address).is_err_and(|why| why.contains("listens there")));
    let stale = site.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).expect("bound"));
    assert!(bind(&format!("unix:{}", stale.display())).is_ok());
    let file = site.dir.path().join("switchback.yaml");
    assert!(bind(&format!("unix:{}", file.display())).is_err() && file.is_file());
}

#[tokio::test]
async fn the_exposition_satisfies_promtool_and_names_only_known_families() {
    let site = Site::start();
    let cell = site.admin.0.book.cell(&"all".into(), &"canary".into(), &"canary".into());
    let shard = cell.shard(crate::model::WorkerId(0)).expect("one worker");
    shard.begin();
    shard.record(&crate::model::Outcome {
        code: crate::model::CodeClass::Success,
        verdict: crate::model::Verdict::Ok,
        choice: crate::model::ChoiceReason::Sticky,
        failure: Some(crate::model::FailureReason::Reset),
        total_nanos: 3_000_000,
        upstream_nanos: Some(2_000_000),
        retries: [1, 0, 0, 0, 0],
    });
    let (status, text) = site.get("/metrics").await;
    let text = text.as_str().expect("text");
    assert_eq!(status, 200);
    for line in [
        "switchback_requests_total{route=\"all\",arm=\"canary\",upstream=\"canary\",code=\"2xx\",outcome=\"ok\"} 1",
        "switchback_request_duration_seconds_bucket{route=\"all\",arm=\"canary\",upstream=\"canary\",le=\"0.0025\"} 0",
        "switchback_request_duration_seconds_bucket{route=\"all\",arm=\"canary\",upstream=\"canary\",le=\"0.005\"} 1",
        "switchback_split_weight_ratio{route=\"all\",arm=\"canary\"} 0.05",
        "switchback_split_observed_ratio{route=\"all\",arm=\"canary\"} 1",
        "switchback_choices_total{route=\"all\",arm=\"canary\",reason=\"sticky\",rule=\"\"} 1",
        "switchback_rejected_total{reason=\"bad_host\"} 0",
        "switchback_upstream_limit{upstream=\"canary\",kind=\"max_requests\"} 1024",
        "switchback_config_generation 1",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    let known: Vec<&str> = crate::model::names::ALL.iter().map(|family| family.name).collect();
    for family in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(known.contains(&family), "{family}");
    }
    let Ok(mut promtool) = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
    else {
        eprintln!("promtool is not installed: its check was left out");
        return;
    };
    promtool.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("written");
    let checked = promtool.wait_with_output().expect("it ran");
    let said = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(checked.status.success() && said.is_empty(), "{said}");
}

const CLIMBING: &str = "/api/v1/routes/climbing";
const CLIMBING_ROUTE: &str = "  - name: climbing
    hostnames: [climbing.test]
    split: { stable: 95, canary: 5 }
    rollout: { version: v2, steps: [10, { weight: 50, pause: true }, 100], autoStart: false, analysis: { confidence: low } }
";

/// The rollout of the climbing route, once the controller has begun.
async fn climbing(site: &Site) -> Value {
    for _ in 0..1_000 {
        let (_, route) = site.get(CLIMBING).await;
        if !route["rollout"].is_null() {
            return route["rollout"].clone();
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it never began");
}

#[tokio::test]
async fn a_rollout_is_shown_wherever_its_route_is() {
    let site = Site::serving(&format!("{CONFIG}{CLIMBING_ROUTE}"));
    let rollout = climbing(&site).await;
    for (key, expected) in [
        ("version", json!("v2")),
        ("state", json!("IDLE")),
        ("step", json!(0)),
        ("steps", json!([10.0, 50.0, 100.0])),
        ("code", json!("auto-start-off")),
        ("verdict", Value::Null),
        ("evidence", Value::Null),
        ("detectableRatio", Value::Null),
        ("waitingFor", json!(["start"])),
        ("eta", Value::Null),
        ("share", json!(0.0)),
    ] {
        assert_eq!(rollout[key], expected, "{key} of {rollout:#}");
    }
    let (_, status) = site.get("/api/v1/status").await;
    assert_eq!(status["rollouts"]["climbing"]["state"], "IDLE", "{status}");
    let (_, routes) = site.get("/api/v1/routes").await;
    let shown: Vec<_> =
        routes["routes"].as_array().into_iter().flatten().map(|one| !one["rollout"].is_null()).collect();
    assert_eq!(shown, [false, false, true], "{routes}");
    let (_, route) = site.get(CLIMBING).await;
    assert_eq!(
        (&route["arms"][0]["source"], &route["arms"][0]["weight"]),
        (&json!("rollout"), &json!(0)),
        "{route}"
    );
    let (status, plan) = site.get(&format!("{CLIMBING}/rollout/plan")).await;
    assert_eq!((status, &plan["confidence"], &plan["auto"]), (200, &json!("low"), &json!(false)), "{plan}");
    assert_eq!(plan["steps"][1]["detectableTarget"], 30.0, "{plan}");
    assert_eq!(
        (&plan["steps"][1]["pause"], &plan["totalSeconds"]),
        (&json!(true), &Value::Null),
        "no traffic: {plan}"
    );
    let (status, refused) = site.get("/api/v1/routes/all/rollout/plan").await;
    assert_eq!((status, &refused["code"]), (409, &json!("no-rollout")), "{refused}");
    let (_, text) = site.get("/metrics").await;
    for line in [
        "switchback_rollout_state{route=\"climbing\",state=\"IDLE\"} 1",
        "switchback_rollout_state{route=\"climbing\",state=\"STAGE\"} 0",
        "switchback_rollout_step{route=\"climbing\"} 0",
        "switchback_arm_info{route=\"climbing\",arm=\"canary\",upstream=\"canary\",role=\"canary\",version=\"v2\"} 1",
    ] {
        assert!(
            text.as_str().is_some_and(|text| text.lines().any(|found| found == line)),
            "{line} is not in {text}"
        );
    }
}

/// Verb, body, header taken away, headers added, status, code.
type Row<'a> = (&'a str, Value, &'a str, &'a [(&'a str, &'a str)], u16, &'a str);

#[tokio::test]
async fn rollout_verbs_have_the_guards_of_weights_and_say_the_state() {
    let site = Site::serving(&format!("{CONFIG}{CLIMBING_ROUTE}"));
    climbing(&site).await;
    let at = |verb: &str| format!("{CLIMBING}/rollout/{verb}");
    let none = json!({});
    let rows: Vec<Row<'_>> = vec![
        ("start", none.clone(), "authorization", &[], 401, "unauthorized"),
        ("start", none.clone(), "content-type", &[("content-type", "text/plain")], 400, "not-json"),
        ("start", none.clone(), "if-match", &[], 412, "if-match-missing"),
        ("start", none.clone(), "if-match", &[("if-match", "\"99\"")], 409, "stale-generation"),
        ("start", json!({ "weight": 5 }), "", &[], 400, "bad-request"),
        ("start", json!({ "reason": "x".repeat(2_000) }), "", &[], 400, "bad-request"),
        ("start", json!({ "version": "v3" }), "", &[], 409, "other-version"),
        ("leap", none.clone(), "", &[], 404, "unknown-verb"),
        ("pause", none.clone(), "if-match", &[], 409, "not-live"),
        ("advance", json!({ "force": true }), "", &[], 400, "reason-missing"),
    ];
    for (verb, body, drop, add, status, code) in rows {
        let (answered, answer) = site.verb(&at(verb), &body, drop, add).await;
        assert_eq!((answered, &answer["code"]), (status, &json!(code)), "{verb} {body}: {answer}");
        if code == "not-live" {
            assert_eq!(answer["state"], "IDLE", "{answer}");
        }
    }
    let (status, answer) = site.verb("/api/v1/routes/all/rollout/start", &none, "", &[]).await;
    assert_eq!((status, &answer["code"]), (409, &json!("no-rollout")), "{answer}");
    let (status, answer) = site.verb("/api/v1/routes/none/rollout/start", &none, "", &[]).await;
    assert_eq!((status, &answer["code"]), (404, &json!("unknown-route")), "{answer}");
    assert_eq!(site.get(&at("start")).await.0, 405);

    let body = json!({ "reason": "go", "actor": "ann", "annotations": { "build": "42" } });
    let (status, moved) = site.verb(&at("start"), &body, "", &[]).await;
    assert_eq!(
        (status, &moved["state"], &moved["version"], &moved["reason"]),
        (200, &json!("PENDING"), &json!("v2"), &json!("go"))
    );
    let (status, moved) = site.verb(&at("rollback"), &none, "if-match", &[]).await;
    assert_eq!((status, &moved["state"]), (200, &json!("ABORTED")), "{moved}");
    let (_, history) = site.get(&format!("{CLIMBING}/history")).await;
    let records = history["records"].as_array().expect("records");
    let started = records.iter().find(|one| one["actor"] == "ann").expect("what she did");
    assert_eq!((&started["from"], &started["to"]), (&json!("IDLE"), &json!("PENDING")), "{history}");
    assert_eq!(
        (&started["annotations"]["build"], &started["kind"]),
        (&json!("42"), &json!("operator")),
        "{history}"
    );
    assert!(started["at"].as_str().is_some_and(|at| at.ends_with('Z')), "{history}");
    assert_eq!(site.get("/api/v1/routes/none/history").await.0, 404);
    assert_eq!(site.get("/api/v1/routes/all/history").await.1, json!({ "records": [] }));
}
