//! New configuration without a blip: every way a file changes, and what traffic notices.
//!
//! The promise is zero: no failed request, no closed connection, no lost counter, and never a plan
//! made of half a file. Edits are made the way editors and Kubernetes make them, not through a
//! private door.

use std::fs;
use std::io::{Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::load::{Load, Report};
use crate::support::nginx::Nginx;
use crate::support::site::replace;
use crate::support::{
    Behaviour, Conn, Gate, Origin, Proxy, Request, Site, eventually, get, long, needs, upstreams,
};

/// The stream of changes the promise is about: ten a second.
const EDIT_INTERVAL: Duration = Duration::from_millis(100);
/// Reloads after which allocator warm-up is over and growth would be a leak.
const WARM_UP: usize = 20;
const RSS_GROWTH_KIB: u64 = 5 * 1024;

/// Two origins, all traffic on one of them, so that one answer tells which plan serves.
struct Pair {
    stable: Origin,
    canary: Origin,
}

impl Pair {
    fn start() -> Self {
        Self { stable: Origin::start("stable"), canary: Origin::start("canary") }
    }

    fn text(&self, stable: u32, canary: u32) -> String {
        format!(
            "{}routes: [{{ name: all, split: {{ stable: {stable}, canary: {canary} }} }}]\n",
            upstreams(&[&self.stable, &self.canary])
        )
    }
}

fn all_on(proxy: &Proxy) -> String {
    proxy.ask(&get("/")).expect_status(200).origin().to_owned()
}

#[test]
fn edits_under_load_cost_no_request_and_close_no_connection() {
    needs!("nginx");
    let nginx = Nginx::start(&["stable", "canary"]);
    let (events, gate) = (Origin::start("events"), Gate::closed());
    let every = Duration::from_millis(20);
    events.on("/events", Behaviour::Lines("text/event-stream", every, gate.clone()));
    events.on("/download", Behaviour::Lines("application/octet-stream", every, gate.clone()));
    let head = nginx.upstreams().replace(" }", &format!(", events: \"{}\" }}", events.url()));
    let text = |round: usize| {
        format!(
            "{head}routes:\n  - {{ name: long, matches: [{{ path: /events }}, {{ path: /download }}], split: {{ events: 1 }} }}\n  \
             - {{ name: all, split: {{ stable: {}, canary: {} }}, sticky: {{ by: [{{ header: x-user-id }}] }} }}\n",
            100 - round % 99,
            1 + round % 99
        )
    };
    let rounds = if long() { 1_000 } else { 100 };
    let proxy = Proxy::start(&text(0));
    let user = |index: usize| get("/").header("x-user-id", &format!("user-{index}"));
    let pace = Duration::from_millis(10);
    let loads = [
        ("h1", Load::h1(proxy.web(), 16, pace, user)),
        ("h2c", Load::h2c(proxy.web(), 2, pace, user)),
        ("events", Load::streams(proxy.web(), 2, get("/events"))),
        ("download", Load::streams(proxy.web(), 2, get("/download"))),
    ];
    events.await_requests(4);

    let first = proxy.generation();
    let mut settled = proxy.memory().now_kib;
    let mut next = Instant::now();
    for round in 1..=rounds {
        proxy.reload(&text(round));
        if round == WARM_UP {
            settled = proxy.memory().now_kib;
        }
        next = (next + EDIT_INTERVAL).max(Instant::now());
        sleep(next.saturating_duration_since(Instant::now()));
    }
    let grown = proxy.memory().now_kib.saturating_sub(settled);
    assert!(proxy.generation() >= first + rounds as u64, "every edit is a generation");
    assert_eq!(events.requests(), 4, "no long answer ended before its time and was asked for again");
    gate.open();

    let reports: Vec<(&str, Report)> = loads.map(|(kind, load)| (kind, load.stop())).into();
    for (kind, report) in &reports {
        println!("{kind}: {report:?}");
        assert!(report.done > 0, "{kind} did something");
        assert_eq!((report.failed, report.closed), (0, 0), "{kind}: {report:?}");
    }
    assert!(grown <= RSS_GROWTH_KIB, "memory grew by {grown} KiB over {rounds} reloads");
    let done: usize = reports[..2].iter().map(|(_, report)| report.done).sum();
    // Counters survived every reload.
    proxy.settles("switchback_requests_total", &[("route", "all")], done as u64);
}

#[test]
fn a_kubernetes_volume_update_is_a_reload() {
    let pair = Pair::start();
    let site = Site::new(&pair.text(1, 0));
    let folder = site.folder();
    let publish = |version: &str, text: &str| {
        fs::create_dir(folder.join(version)).expect("a version folder");
        fs::write(folder.join(version).join("switchback.yaml"), site.render(text)).expect("write");
        symlink(version, folder.join("..data_tmp")).expect("a new link");
        fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("swap the link");
    };
    fs::remove_file(site.file()).expect("make room for the link");
    publish("..2026_01", &pair.text(1, 0));
    symlink("..data/switchback.yaml", site.file()).expect("the visible link");
    let proxy = site.start();
    assert_eq!(all_on(&proxy), "stable");

    for (version, weights, expected) in [("..2026_02", (0, 1), "canary"), ("..2026_03", (1, 0), "stable")] {
        let before = proxy.generation();
        publish(version, &pair.text(weights.0, weights.1));
        proxy.await_generation_after(before);
        assert_eq!(all_on(&proxy), expected, "{version}");
    }
}

#[test]
fn every_way_an_editor_saves_is_a_reload() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    let backup = |file: &Path| file.with_extension("yaml~");
    let ways: [(&str, &dyn Fn(&Path, &str)); 4] = [
        ("rename over", &|file, text| replace(file, text)),
        ("write in place", &|file, text| fs::write(file, text).expect("write")),
        ("remove and create", &|file, text| {
            fs::remove_file(file).expect("remove");
            fs::write(file, text).expect("create");
        }),
        ("keep a backup", &|file, text| {
            fs::rename(file, backup(file)).expect("rename to the backup");
            fs::write(file, text).expect("create");
            fs::remove_file(backup(file)).expect("remove the backup");
        }),
    ];
    for (index, (way, save)) in ways.into_iter().enumerate() {
        let (stable, canary, expected) = if index % 2 == 0 { (0, 1, "canary") } else { (1, 0, "stable") };
        let before = proxy.generation();
        save(&proxy.site.file(), &proxy.site.render(&pair.text(stable, canary)));
        proxy.await_generation_after(before);
        eventually(&format!("{way} takes effect"), || all_on(&proxy) == expected);
    }
}

fn last_reload(proxy: &Proxy) -> u64 {
    proxy.metrics().count("switchback_config_last_reload_successful", &[])
}

#[test]
fn half_a_file_changes_nothing_but_a_metric() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    assert_eq!(last_reload(&proxy), 1);
    let (before, whole) = (proxy.generation(), proxy.site.render(&pair.text(0, 1)));

    let torn = &whole[..whole.len() - 12];
    fs::write(proxy.site.file(), torn).expect("half a write");
    eventually("the failure is visible", || last_reload(&proxy) == 0);
    assert_eq!((all_on(&proxy).as_str(), proxy.generation()), ("stable", before));

    fs::write(proxy.site.file(), &whole).expect("the whole file");
    proxy.await_generation_after(before);
    assert_eq!((all_on(&proxy).as_str(), last_reload(&proxy)), ("canary", 1));
}

#[test]
fn a_refused_file_logs_its_warnings_as_warnings() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    let before = pair.text(1, 0);
    proxy.site.write(&before.replace("canary: 0", "ghost: 0"));
    let said = |what: &str| proxy.err().into_iter().find(|line| line.contains(what));
    eventually("it is refused", || said("was refused; the last good one").is_some());
    let warned = said("upstream `canary` is used by no route").expect("the warning");
    assert!(warned.contains("WARN") && !warned.contains("ERROR"), "{warned}");
    let refused = said("there is no upstream `ghost`").expect("the error");
    assert!(refused.contains("ERROR"), "{refused}");
    let total = said("was refused; the last good one").expect("the sum");
    assert!(total.contains("findings=1"), "warnings refuse nothing: {total}");
}

#[test]
fn a_hangup_reloads() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    let attempts = || proxy.metrics().count("switchback_config_reloads_total", &[]);
    let before = attempts();
    proxy.signal("HUP");
    eventually("the signal is an attempt to reload", || attempts() > before);
    assert_eq!(all_on(&proxy), "stable", "and not the end of the process");
}

#[test]
fn a_reload_by_verb_answers_with_what_it_did() {
    let pair = Pair::start();
    let site = Site::new(&pair.text(1, 0));
    // A file in no folder at all: no event tells of an edit, only a slow poll would.
    let gone = tempfile::tempdir_in(site.state().parent().expect("the site's folder")).expect("a folder");
    let mut nameless = tempfile::tempfile_in(gone.path()).expect("a nameless file");
    gone.close().expect("remove its folder");
    let link = format!("/proc/{}/fd/{}", std::process::id(), nameless.as_raw_fd());
    let mut write = |text: &str| {
        nameless.set_len(0).and_then(|()| nameless.rewind()).expect("empty it");
        nameless.write_all(text.as_bytes()).expect("write");
    };
    write(&site.render(&pair.text(1, 0)));
    fs::remove_file(site.file()).expect("make room for a link");
    symlink(link, site.file()).expect("link it");
    let proxy = site.start();
    let before = proxy.generation();

    write(&site.render(&pair.text(0, 1)));
    let dry = proxy.admin(&proxy.verb("/api/v1/reload?dryRun=true", &json!({})));
    assert_eq!((dry.status, proxy.generation()), (200, before), "{dry:?}");
    assert_eq!(all_on(&proxy), "stable", "a dry run serves nothing new");

    let done = proxy.admin(&proxy.verb("/api/v1/reload", &json!({}))).expect_status(200).json();
    assert!(done["generation"].as_u64() > Some(before), "{done}");
    assert_eq!(all_on(&proxy), "canary", "the answer comes after the publish");

    write("routes: [");
    let refused = proxy.admin(&proxy.verb("/api/v1/reload", &json!({})));
    assert_eq!(refused.status, 422, "{refused:?}");
    assert_eq!(all_on(&proxy), "canary");
}

#[test]
fn weights_by_verb_work_while_the_file_is_broken_and_hold_after_the_fix() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    fs::write(proxy.site.file(), "routes: [{ name: all, split: { stable: lots } }]\n")
        .expect("break the file");
    eventually("the failure is visible", || last_reload(&proxy) == 0);

    proxy.weights("all", &[("stable", 0), ("canary", 100)]);
    assert_eq!(all_on(&proxy), "canary", "the operator is not locked out");

    let before = proxy.generation();
    proxy.site.write(&format!("# fixed\n{}", pair.text(1, 0)));
    eventually("the fixed file loads", || last_reload(&proxy) == 1);
    proxy.await_generation_after(before);
    assert_eq!(all_on(&proxy), "canary", "the split was not edited, so the operator's word holds");

    proxy.reload(&pair.text(7, 0));
    assert_eq!(all_on(&proxy), "stable", "an edit of the split ends it");
}

#[test]
fn an_exchange_keeps_the_plan_it_began_with() {
    let pair = Pair::start();
    let gate = Gate::closed();
    pair.stable.on("/slow", Behaviour::Gated(gate.clone()));
    let proxy = Proxy::start(&pair.text(1, 0));
    let mut conn = proxy.conn();
    conn.write(format!("{}\r\n", get("/slow").head()).as_bytes()).expect("send");
    pair.stable.await_requests(1);

    proxy.reload(&pair.text(0, 1));
    assert_eq!(all_on(&proxy), "canary");
    gate.open();
    let response = conn.read_head("GET").expect("the old exchange ends well");
    assert_eq!((response.status, response.origin()), (200, "stable"));
    while conn.piece().expect("its body").is_some() {}
    assert_eq!(conn.ask(&get("/")).origin(), "canary", "the same connection, the new plan");
}

#[test]
fn counters_and_connections_survive_and_a_new_route_serves() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    let mut conn = proxy.conn();
    for _ in 0..10 {
        conn.ask(&get("/")).expect_status(200);
    }
    let extra = "  - { name: new, matches: [{ path: /new }], split: { canary: 1 } }\n";
    let routes = pair.text(1, 0).replace("routes: [{", "routes:\n  - {").replace("}]\n", "}\n");
    proxy.reload(&format!("{routes}{extra}"));

    assert_eq!(conn.ask(&get("/new")).origin(), "canary");
    proxy.settles("switchback_requests_total", &[("route", "all")], 10);
    proxy.settles("switchback_requests_total", &[("route", "new")], 1);
    proxy.reload(&pair.text(1, 0));
    assert_eq!(conn.ask(&get("/new")).origin(), "stable", "the removed route no longer owns its path");
}

#[test]
fn a_folder_of_files_is_one_configuration() {
    let pair = Pair::start();
    let site = Site::new(&upstreams(&[&pair.stable, &pair.canary]));
    let route = |split: &str| format!("routes: [{{ name: all, split: {{ {split} }} }}]\n");
    site.place("routes.yaml", &route("stable: 1, canary: 0"));
    site.place("notes.txt", "not: [yaml");
    let proxy = site.start_folder();
    assert_eq!(all_on(&proxy), "stable");

    let before = proxy.generation();
    site.place("routes.yaml", &route("stable: 0, canary: 1"));
    proxy.await_generation_after(before);
    assert_eq!(all_on(&proxy), "canary");

    site.place("broken.yaml", "upstreams: { canary: \"http://127.0.0.1:1\" }\n");
    eventually("a name given twice is refused as a whole", || last_reload(&proxy) == 0);
    assert_eq!(all_on(&proxy), "canary");
}

#[test]
fn a_folder_swapped_as_a_whole_is_noticed() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    let (folder, before) = (proxy.site.folder(), proxy.generation());
    let fresh = folder.with_extension("new");
    fs::create_dir(&fresh).expect("a second folder");
    fs::write(fresh.join("switchback.yaml"), proxy.site.render(&pair.text(0, 1))).expect("write");
    fs::rename(&folder, folder.with_extension("old")).expect("move the old folder away");
    fs::rename(&fresh, &folder).expect("put the new one in its place");
    proxy.await_generation_after(before);
    assert_eq!(all_on(&proxy), "canary");
    // The new folder is watched like the old one was.
    proxy.reload(&pair.text(1, 0));
    assert_eq!(all_on(&proxy), "stable");
}

#[test]
fn long_lived_connections_see_every_generation() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    let mut conns: Vec<Conn> = (0..32).map(|_| proxy.conn()).collect();
    let ask: Request = get("/");
    for round in 0..10 {
        let (stable, canary, expected) = if round % 2 == 0 { (0, 1, "canary") } else { (1, 0, "stable") };
        proxy.reload(&pair.text(stable, canary));
        for conn in &mut conns {
            assert_eq!(conn.ask(&ask).origin(), expected, "no worker serves an old plan in round {round}");
        }
    }
}

#[test]
fn after_the_answer_no_new_request_uses_the_old_weights() {
    let (pair, changes) = (Pair::start(), if long() { 10_000 } else { 200 });
    let proxy = Proxy::start(&pair.text(1, 0));
    let mut kept: Vec<Conn> = (0..8).map(|_| proxy.conn()).collect();
    for conn in &mut kept {
        conn.ask(&get("/")).expect_status(200);
    }
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(2), |_| get("/"));
    for round in 0..changes {
        let (weights, expected) = if round % 2 == 0 {
            ([("stable", 0), ("canary", 1)], "canary")
        } else {
            ([("stable", 1), ("canary", 0)], "stable")
        };
        proxy.weights("all", &weights);
        assert_eq!(all_on(&proxy), expected, "a new connection in round {round}");
        let idle = round % kept.len();
        assert_eq!(kept[idle].ask(&get("/")).origin(), expected, "an idle connection in round {round}");
    }
    let report = load.stop();
    assert_eq!((report.failed, report.closed), (0, 0), "{report:?}");
    assert!(report.done > changes / 2, "{report:?}");
}

// --- the way back ---

#[test]
fn an_earlier_configuration_serves_until_the_file_changes() {
    let pair = Pair::start();
    let proxy = Proxy::start(&pair.text(1, 0));
    let good = proxy.generation();
    proxy.reload(&pair.text(0, 1));
    assert_eq!(all_on(&proxy), "canary");
    let bad = proxy.generation();
    let written = fs::read_to_string(proxy.site.file()).expect("the file");
    let back = |proxy: &Proxy, generation: u64| {
        let asked = json!({ "generation": generation, "reason": "pages fail" });
        proxy.admin(&proxy.verb("/api/v1/config/rollback", &asked))
    };
    for generation in [0, 999] {
        let unknown = back(&proxy, generation).expect_status(404).json();
        assert_eq!(unknown["code"], "unknown-generation", "{unknown:#}");
    }
    let done = back(&proxy, good).expect_status(200).json();
    assert_eq!(done["warnings"][0]["code"], "rolled-back", "{done:#}");
    assert_eq!(all_on(&proxy), "stable");
    assert_eq!(fs::read_to_string(proxy.site.file()).expect("the file"), written);
    let known = proxy.read("/api/v1/config/history")["entries"].clone();
    let last = &known[2];
    assert_eq!((known.as_array().map(Vec::len), &last["backTo"]), (Some(3), &json!(good)), "{known:#}");
    assert_eq!(last["reason"], "pages fail");
    // A restart finds the file as it was gone back from, and still does not serve it.
    let site = proxy.site.clone();
    drop(proxy);
    let proxy = site.start();
    assert_eq!(all_on(&proxy), "stable");
    // Neither does a look at files that did not change; a load on purpose does.
    assert!(bad > good);
    let told = proxy.admin(&proxy.verb("/api/v1/reload", &json!({}))).expect_status(200).json();
    assert_eq!(told["warnings"], json!([]), "{told:#}");
    assert_eq!(all_on(&proxy), "canary");
    drop(proxy);
    let proxy = site.start();
    assert_eq!(all_on(&proxy), "canary", "what was loaded on purpose stays");
    let first = proxy.generation();
    proxy.reload(&pair.text(1, 0));
    back(&proxy, first).expect_status(200);
    assert_eq!(all_on(&proxy), "canary");
    proxy.reload(&pair.text(2, 0));
    assert_eq!(all_on(&proxy), "stable", "the file changed");
}
