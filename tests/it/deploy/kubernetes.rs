//! Manifests against the schemas of Kubernetes, their configurations against the program, and both alive.
//!
//! The live tests run what a ConfigMap holds: only addresses are rewritten. There is no cluster here, so
//! that a kubelet does what the manifests ask of it is not shown.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::live::Prometheus;
use super::{documents, folder, parsed, yaml};
use crate::support::client::Conn;
use crate::support::tools::{find, python, run, switchback};
use crate::support::{Origin, Proxy, Response, Site, eventually, get, needs};

/// Folders that are applied whole.
const FOLDERS: [&str; 4] = ["base", "overlays/dev", "overlays/replicas", "sidecar"];

/// Files that hold whole objects.
const WHOLE: [&str; 9] = [
    "base/configmap.yaml",
    "base/deployment.yaml",
    "base/networkpolicy.yaml",
    "base/poddisruptionbudget.yaml",
    "base/service.yaml",
    "base/volume.yaml",
    "overlays/dev/namespace.yaml",
    "sidecar/app.yaml",
    "sidecar/configmap.yaml",
];

const CONFIGURATIONS: [&str; 3] =
    ["base/configmap.yaml", "overlays/replicas/configmap.yaml", "sidecar/configmap.yaml"];

fn objects() -> Vec<Value> {
    WHOLE.iter().flat_map(|file| documents(&format!("kubernetes/{file}"))).collect()
}

/// The configuration inside a ConfigMap.
fn configuration(file: &str) -> String {
    let map = yaml(&format!("kubernetes/{file}"));
    map["data"]["switchback.yaml"].as_str().expect("a configuration").to_owned()
}

pub fn seconds(text: &str) -> u64 {
    text.trim_end_matches('s').parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// How long a process with this configuration takes to end, at most.
pub fn ending(configuration: &Value) -> u64 {
    let part = |key: &str| seconds(configuration["shutdown"][key].as_str().expect("a duration"));
    part("delay") + part("grace")
}

// --- as text ---

/// Fails on an unknown or mistyped key.
const VALIDATE: &str = "import sys, yaml, kubernetes_validate as k\n\
for name in sys.argv[1:]:\n    \
for one in yaml.safe_load_all(sys.stdin if name == '-' else open(name)):\n        \
if one: k.validate(one, '1.37', strict=True)";

#[test]
fn every_manifest_fits_the_schema_of_its_kind() {
    needs!("python:kubernetes_validate");
    let here = folder().join("kubernetes");
    let validate = |files: &[&str], input: &[u8]| {
        let mut command = Command::new(python());
        let done = run(command.args(["-c", VALIDATE]).args(files).current_dir(&here), input);
        assert_eq!(done.code, Some(0), "{files:?}\n{}", done.err);
    };
    validate(&WHOLE, b"");
    // Where kubectl is at hand, what it makes of the overlays too; it asks no cluster for that.
    let Some(kubectl) = find("kubectl") else { return };
    for name in FOLDERS {
        let built = run(Command::new(&kubectl).args(["kustomize", name]).current_dir(&here), b"");
        assert_eq!(built.code, Some(0), "{name}: {}", built.err);
        assert!(built.out.contains("kind: Deployment"), "{name}: {}", built.out);
        validate(&["-"], built.out.as_bytes());
    }
}

#[test]
fn every_overlay_names_what_is_there() {
    for name in FOLDERS {
        let list = yaml(&format!("kubernetes/{name}/kustomization.yaml"));
        let here = folder().join("kubernetes").join(name);
        let paths =
            list["patches"].as_array().into_iter().flatten().filter_map(|patch| patch["path"].as_str());
        let resources = list["resources"].as_array().expect("resources").iter().filter_map(Value::as_str);
        let named: BTreeSet<_> = resources.chain(paths).collect();
        for path in &named {
            assert!(here.join(path).exists(), "{name}: {path}");
        }
        for file in fs::read_dir(&here).expect("a folder").map(|entry| entry.expect("an entry").file_name()) {
            let file = file.to_string_lossy().into_owned();
            assert!(file == "kustomization.yaml" || named.contains(&*file), "{name}: nobody names {file}");
        }
    }
}

#[test]
fn nothing_has_rights_it_does_not_need() {
    let mut containers = 0;
    for object in objects() {
        let kind = object["kind"].as_str().expect("a kind");
        assert!(!kind.contains("Role") && kind != "ServiceAccount", "{kind}");
        if kind != "Deployment" {
            continue;
        }
        let pod = &object["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false, "{pod:#}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{pod:#}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{pod:#}");
        let both = ["containers", "initContainers"].iter().filter_map(|key| pod[*key].as_array()).flatten();
        for container in both {
            let limits = &container["securityContext"];
            assert_eq!(limits["allowPrivilegeEscalation"], false, "{container:#}");
            assert_eq!(limits["readOnlyRootFilesystem"], true, "{container:#}");
            assert_eq!(limits["capabilities"]["drop"], json!(["ALL"]), "{container:#}");
            assert!(container["resources"]["limits"]["memory"].is_string(), "{container:#}");
            containers += 1;
        }
    }
    assert_eq!(containers, 3);
}

#[test]
fn pods_and_configurations_agree() {
    let pods = [
        ("base/deployment.yaml", "containers", "base/configmap.yaml"),
        ("sidecar/app.yaml", "initContainers", "sidecar/configmap.yaml"),
    ];
    for (file, kind, config) in pods {
        let object = documents(&format!("kubernetes/{file}")).remove(0);
        let pod = &object["spec"]["template"]["spec"];
        let proxy = &pod[kind][0];
        let config = parsed(config, &configuration(config));
        let end = pod["terminationGracePeriodSeconds"].as_u64().expect("a grace period");
        assert!(end > ending(&config), "{file}: killed after {end} s, while it drains");
        let port = |name: &str| {
            let ports = proxy["ports"].as_array().expect("ports");
            ports.iter().find(|port| port["name"] == name).expect("a port")["containerPort"].clone()
        };
        let address =
            |value: &Value| value.as_str().and_then(|text| text.rsplit(':').next()?.parse::<u64>().ok());
        assert_eq!(address(&config["metrics"]["address"]), port("metrics").as_u64());
        assert_eq!(address(&config["listeners"][0]["address"]), port("web").as_u64());
        for (probe, path) in
            [("startupProbe", "/startupz"), ("readinessProbe", "/readyz"), ("livenessProbe", "/livez")]
        {
            assert_eq!(proxy[probe]["httpGet"], json!({ "path": path, "port": "metrics" }), "{file}");
        }
        let mounts = proxy["volumeMounts"].as_array().expect("mounts");
        let folder = mounts.iter().find(|one| one["name"] == "config").expect("the configuration");
        assert!(
            folder["readOnly"] == true && folder["subPath"].is_null(),
            "{folder}: a swap would not be seen"
        );
    }
    // One process, one state: a second one needs another manifest.
    let gateway = yaml("kubernetes/base/deployment.yaml");
    assert_eq!(
        (&gateway["spec"]["replicas"], &gateway["spec"]["strategy"]["type"]),
        (&json!(1), &json!("Recreate"))
    );
    let shared = parsed("replicas", &configuration("overlays/replicas/configmap.yaml"));
    assert!(shared["routes"][0]["rollout"].is_null(), "replicas that share nothing cannot run one rollout");
}

#[test]
fn every_configuration_is_accepted_as_it_is() {
    for file in CONFIGURATIONS {
        let here = tempfile::tempdir().expect("a folder");
        fs::write(here.path().join("switchback.yaml"), configuration(file)).expect("write it");
        let checked = switchback(here.path(), &["check", "."]);
        assert_eq!(checked.code, Some(0), "{file}: {checked:?}");
        assert!(!checked.out.contains("warning") && !checked.err.contains("warning"), "{file}: {checked:?}");
    }
}

// --- alive ---

/// A shipped configuration with addresses of this machine; `{` keeps the site from adding to it.
fn here(file: &str, admin: &str, upstreams: &[(&str, &Origin)]) -> String {
    let mut config = parsed(file, &configuration(file));
    config["listeners"][0]["address"] = json!("127.0.0.1:@web@");
    config["metrics"]["address"] = json!("127.0.0.1:@metrics@");
    config["admin"] = json!({ "address": admin });
    for (name, origin) in upstreams {
        config["upstreams"][name] = json!(origin.url());
    }
    config.to_string()
}

/// The folder as a kubelet makes it: a link to a folder of the moment, nobody may write.
fn mounted(site: &Site) -> PathBuf {
    let folder = site.folder().join("mounted");
    let moment = folder.join("..2026_11_21");
    fs::create_dir_all(&moment).expect("a folder");
    fs::copy(site.file(), moment.join("switchback.yaml")).expect("copy it");
    symlink("..2026_11_21", folder.join("..data")).expect("a link");
    symlink("..data/switchback.yaml", folder.join("switchback.yaml")).expect("a link");
    for path in [moment.join("switchback.yaml"), moment, folder.clone()] {
        fs::set_permissions(&path, Permissions::from_mode(0o555)).expect("take rights away");
    }
    folder
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

fn ask(address: SocketAddr, path: &str) -> Response {
    Conn::open(address).ask(&get(path).host(&address.to_string()))
}

fn gateway(origins: &[Origin; 2]) -> Site {
    let upstreams = [("stable", &origins[0]), ("canary", &origins[1])];
    Site::new(&here("base/configmap.yaml", "127.0.0.1:@admin@", &upstreams))
}

#[test]
fn probes_and_prometheus_reach_their_own_address_while_the_admin_api_refuses() {
    needs!("prometheus");
    let origins = ["stable", "canary"].map(Origin::start);
    let site = gateway(&origins);
    let proxy = Proxy::start_mounted(site.clone(), &mounted(&site));
    for path in ["/startupz", "/readyz", "/livez", "/metrics"] {
        ask(site.metrics(), path).expect_status(200);
    }
    let prometheus = Prometheus::of(site.metrics());
    eventually("it is scraped", || prometheus.targets() == [1, 0]);
    let weights = json!({ "weights": { "stable": 0, "canary": 1 } });
    let verb = proxy.verb("/api/v1/routes/shop/weights", &weights);
    for path in ["/", "/api/v1/status", "/api/v1/config", "/openapi.json"] {
        assert_eq!(ask(site.metrics(), path).status, 404, "{path}");
    }
    // The token itself opens nothing there.
    let open = Conn::open(site.metrics()).ask(&verb.clone().host(&site.metrics().to_string()));
    assert_eq!(open.status, 404, "{open:?}");
    let mut anonymous = verb;
    anonymous.headers.retain(|(name, _)| name != "authorization");
    assert_eq!(proxy.admin(&anonymous).status, 401);
    assert_eq!(proxy.admin(&get("/api/v1/status").host("rebound.example")).status, 403);
    assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "stable");
}

#[test]
fn a_pod_that_is_replaced_in_the_middle_of_a_rollout_goes_on_at_the_same_weight() {
    let origins = ["stable", "canary"].map(Origin::start);
    let site = gateway(&origins);
    let folder = mounted(&site);
    let before = names(&folder);
    let mut proxy = Proxy::start_mounted(site.clone(), &folder);
    let rollout = |proxy: &Proxy| proxy.read("/api/v1/routes/shop")["rollout"].clone();
    let live = |proxy: &Proxy| ["STAGE", "HOLD"].iter().any(|state| rollout(proxy)["state"] == *state);
    eventually("the rollout has begun", || live(&proxy));
    for _ in 0..2 {
        let forced = json!({ "force": true, "reason": "a test" });
        let advance = proxy.verb("/api/v1/routes/shop/rollout/advance", &forced);
        proxy.admin(&advance).expect_status(200);
    }
    let weights = |proxy: &Proxy| {
        let route = proxy.read("/api/v1/routes/shop");
        let arms = route["arms"].as_array().expect("arms").clone();
        arms.iter().map(|arm| (arm["name"].clone(), arm["weight"].clone())).collect::<Vec<_>>()
    };
    let (step, given) = (rollout(&proxy)["step"].clone(), weights(&proxy));
    assert_eq!(step, 2, "{:#}", rollout(&proxy));
    proxy.signal("TERM");
    eventually("it is not ready, yet serves", || {
        ask(site.metrics(), "/readyz").status == 503 && proxy.ask(&get("/")).status == 200
    });
    assert!(proxy.await_exit().success());
    drop(proxy);
    let proxy = Proxy::start_mounted(site, &folder);
    eventually("the rollout is there", || live(&proxy));
    assert_eq!((rollout(&proxy)["step"].clone(), weights(&proxy)), (step, given));
    assert_eq!(names(&folder), before, "it wrote beside its configuration");
}

#[test]
fn the_sidecar_runs_as_shipped_in_front_of_one_app() {
    let app = Origin::start("orders");
    // Nobody answers for the canary's name here, as in a cluster before its first pod.
    let site = Site::new(&here("sidecar/configmap.yaml", "unix:@dir@/admin.sock", &[("stable", &app)]));
    let mut proxy = Proxy::spawn(site.clone());
    eventually("it is ready", || {
        assert!(proxy.exited().is_none(), "it ended: {:?}", proxy.err());
        Conn::try_open(site.metrics())
            .and_then(|mut conn| conn.send(&get("/readyz")))
            .is_ok_and(|answer| answer.status == 200)
    });
    for user in 0..100 {
        let answer = proxy.ask(&get("/").header("x-request-user", &format!("u{user}")));
        assert_eq!(answer.expect_status(200).origin(), "orders");
    }
    let socket = format!("unix:{}", site.folder().join("admin.sock").display());
    let status = switchback(&site.folder(), &["status", "--admin", &socket]);
    assert!(status.code == Some(0) && status.out.contains("orders"), "{status:?}");
    let metrics = ask(site.metrics(), "/metrics").expect_status(200).text();
    assert!(
        metrics.contains("switchback_requests_total{route=\"orders\",arm=\"canary\",upstream=\"stable\""),
        "{metrics}"
    );
}
