//! Starting, refusing to start, restarting and stopping.
//!
//! An init system sees exit codes and one line of text; users see whether requests in flight end
//! well. A process that cannot do its job must say why in one line and leave, and one that is told
//! to stop must finish what it began.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::load::Load;
use crate::support::nginx::Nginx;
use crate::support::tools::{Finished, run, switchback};
use crate::support::{Behaviour, Conn, Gate, Origin, Proxy, Site, eventually, get, needs, upstreams};

fn text(origins: &[&Origin], shutdown: &str) -> String {
    format!("{shutdown}{}routes: [{{ name: all, split: {{ stable: 1, canary: 1 }} }}]\n", upstreams(origins))
}

#[test]
fn a_stop_under_load_finishes_every_exchange_and_exits_with_zero() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let gate = Gate::closed();
    for origin in [&stable, &canary] {
        let every = Duration::from_millis(5);
        origin.on("/slow", Behaviour::Gated(gate.clone()));
        origin.on("/events", Behaviour::Lines("text/event-stream", every, gate.clone()));
    }
    let mut proxy = Proxy::start(&text(&[&stable, &canary], ""));
    let addr = proxy.web();
    let waiting: Vec<_> = ["/slow", "/events", "/slow", "/events"]
        .map(|target| std::thread::spawn(move || Conn::open(addr).send(&get(target))))
        .into();
    let h2c = std::thread::spawn(move || crate::support::h2c::H2c::open(addr).send(&get("/slow")));
    eventually("all are in flight", || stable.requests() + canary.requests() == 5);

    proxy.signal("TERM");
    eventually("new connections are refused", || Conn::try_open(addr).is_err());
    assert!(proxy.exited().is_none(), "it stays for what is in flight");
    gate.open();
    for request in waiting {
        let response = request.join().expect("a client thread").expect("a whole answer");
        assert_eq!(response.status, 200);
    }
    assert_eq!(h2c.join().expect("a client thread").expect("a whole answer").status, 200);
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn every_busy_connection_is_told_that_it_ends() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut proxy = Proxy::start(&text(&[&stable, &canary], ""));
    let addr = proxy.web();
    // Each asks without a pause until an answer says that the connection ends.
    let clients: Vec<_> = (0..16)
        .map(|_| {
            std::thread::spawn(move || {
                let mut conn = Conn::open(addr);
                while !conn.send(&get("/"))?.expect_status(200).closes() {}
                Ok::<_, std::io::Error>(())
            })
        })
        .collect();
    eventually("all are busy", || stable.requests() + canary.requests() > 500);
    proxy.signal("TERM");
    for client in clients {
        let ended = client.join().expect("a client thread");
        assert!(ended.is_ok(), "a connection ended without a word: {ended:?}");
    }
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn readiness_fails_during_the_delay_while_requests_are_served() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut proxy = Proxy::start(&text(&[&stable, &canary], "shutdown: { delay: 6s, grace: 30s }\n"));
    let load = Load::h1(proxy.web(), 4, Duration::from_millis(5), |_| get("/"));
    proxy.signal("TERM");
    let ready = || proxy.admin(&proxy.admin_request("GET", "/readyz"));
    eventually("readiness fails", || ready().status == 503);
    assert!(
        ready().text().contains("drain") || ready().text().contains("shut"),
        "with the reason: {:?}",
        ready()
    );
    assert_eq!(proxy.admin(&proxy.admin_request("GET", "/livez")).status, 200, "alive all the same");
    proxy.ask(&get("/")).expect_status(200);
    let report = load.stop();
    assert!(report.done > 0);
    assert_eq!(report.failed, 0, "{report:?}");
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn an_interrupt_is_a_stop_too() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut proxy = Proxy::start(&text(&[&stable, &canary], ""));
    proxy.signal("INT");
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn ready_means_ready_to_stop_as_well() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut site = Site::new(&text(&[&stable, &canary], ""));
    for _ in 0..20 {
        // Stopping asserts a clean exit; a signal nobody handles yet would kill instead.
        site = site.start().stop();
    }
}

#[test]
fn grace_ends_what_never_ends() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    for origin in [&stable, &canary] {
        origin.on("/hang", Behaviour::Hang);
    }
    let mut proxy = Proxy::start(&text(&[&stable, &canary], "shutdown: { grace: 1s }\n"));
    let mut conn = proxy.conn();
    conn.write(format!("{}\r\n", get("/hang").head()).as_bytes()).expect("send");
    eventually("it is in flight", || stable.requests() + canary.requests() == 1);
    proxy.signal("TERM");
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn the_shutdown_is_that_of_the_newest_file() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    for origin in [&stable, &canary] {
        origin.on("/hang", Behaviour::Hang);
    }
    // What the process was started with would hold it for an hour, and no client in.
    let started = text(&[&stable, &canary], "shutdown: { delay: 0s, grace: 1h }\n");
    let edited = started.replace("delay: 0s, grace: 1h", "delay: 2s, grace: 1s");
    let mut proxy = Proxy::start(&started);
    let mut conn = proxy.conn();
    conn.write(format!("{}\r\n", get("/hang").head()).as_bytes()).expect("send");
    eventually("it is in flight", || stable.requests() + canary.requests() == 1);
    proxy.reload(&edited);
    let status = proxy.admin(&proxy.admin_request("GET", "/api/v1/status")).text();
    assert!(!status.contains("needs-restart"), "{status}");
    proxy.signal("TERM");
    eventually("readiness fails", || proxy.admin(&proxy.admin_request("GET", "/readyz")).status == 503);
    proxy.ask(&get("/")).expect_status(200);
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn a_longer_grace_of_the_newest_file_is_given_as_well() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let gate = Gate::closed();
    for origin in [&stable, &canary] {
        origin.on("/events", Behaviour::Lines("text/event-stream", Duration::from_millis(5), gate.clone()));
    }
    let started = text(&[&stable, &canary], "shutdown: { grace: 1s }\n");
    let mut proxy = Proxy::start(&started);
    let mut conn = proxy.conn();
    conn.begin(&get("/events")).expect("a head").expect_status(200);
    proxy.reload(&started.replace("grace: 1s", "grace: 1h"));
    let addr = proxy.web();
    proxy.signal("TERM");
    eventually("it drains", || Conn::try_open(addr).is_err());
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(3) {
        assert!(conn.piece().expect("it is not cut").is_some());
    }
    gate.open();
    while conn.piece().expect("a whole answer").is_some() {}
    assert_eq!(proxy.await_exit().code(), Some(0));
}

#[test]
fn real_load_generators_see_no_error() {
    needs!("nginx", "wrk", "h2load");
    let nginx = Nginx::start(&["stable", "canary"]);
    let proxy = Proxy::start(&format!(
        "{}routes: [{{ name: all, split: {{ stable: 95, canary: 5 }} }}]\n",
        nginx.upstreams()
    ));
    let url = format!("http://{}/", proxy.web());
    let wrk = run(Command::new("wrk").args(["-t1", "-c16", "-d3s", &url]), b"");
    assert_eq!(wrk.code, Some(0), "{wrk:?}");
    assert!(wrk.out.contains("requests in"), "{}", wrk.out);
    assert!(!wrk.out.contains("Non-2xx") && !wrk.out.contains("Socket errors"), "{}", wrk.out);

    for protocol in ["--h1", "--no-tls-proto=h2c"] {
        let load =
            run(Command::new("h2load").args(["-n", "10000", "-c", "8", "-m", "4", protocol, &url]), b"");
        let clean = "10000 done, 10000 succeeded, 0 failed, 0 errored, 0 timeout";
        assert!(load.out.contains(clean), "{protocol}: {}", load.out);
    }
}

#[test]
fn weights_by_verb_survive_a_restart_until_reset() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&text(&[&stable, &canary], ""));
    let all_on = |proxy: &Proxy, origin: &str| {
        let arms = crate::support::ask(proxy.web(), 50, |_| get("/"));
        arms.iter().all(|arm| arm == origin)
    };
    proxy.weights("all", &[("stable", 0), ("canary", 1)]);
    assert!(all_on(&proxy, "canary"));
    let restarted = proxy.stop().start();
    assert!(all_on(&restarted, "canary"), "the operator's word is state");
    let killed = restarted.site.clone();
    drop(restarted);
    let after_kill = killed.start();
    assert!(all_on(&after_kill, "canary"), "even after a kill");

    after_kill.reset_weights("all");
    let arms = crate::support::ask(after_kill.web(), 200, |_| get("/"));
    assert!(arms.iter().any(|arm| arm == "stable") && arms.iter().any(|arm| arm == "canary"));
    let reset = after_kill.stop().start();
    let arms = crate::support::ask(reset.web(), 200, |_| get("/"));
    assert!(arms.iter().any(|arm| arm == "stable"), "and so is the reset");
}

#[test]
fn a_damaged_or_missing_state_folder_is_no_obstacle() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&text(&[&stable, &canary], ""));
    proxy.weights("all", &[("stable", 0), ("canary", 1)]);
    let site = proxy.stop();
    for entry in fs::read_dir(site.state()).expect("the state folder") {
        let file = entry.expect("an entry").path();
        if file.extension().is_none_or(|kind| kind != "token") && file.is_file() {
            fs::write(&file, b"{\"half\": ").expect("damage the state");
        }
    }
    let damaged = site.start();
    assert_eq!(damaged.ask(&get("/")).status, 200);
    let site = damaged.stop();
    fs::remove_dir_all(site.state()).expect("remove the state");
    let fresh = site.start();
    let arms = crate::support::ask(fresh.web(), 200, |_| get("/"));
    assert!(arms.iter().any(|arm| arm == "stable"), "without state the file is the truth");
}

#[test]
fn a_state_folder_that_cannot_be_is_told_in_readiness_and_serves() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let site = Site::new(&format!("stateDir: \"@dir@/occupied\"\n{}", text(&[&stable, &canary], "")));
    site.place("occupied", "a file where the folder should be");
    let proxy = Proxy::spawn(site);
    eventually("traffic is served all the same", || {
        Conn::try_open(proxy.web())
            .and_then(|mut conn| conn.send(&get("/")))
            .is_ok_and(|response| response.status == 200)
    });
    let ready = proxy.admin(&proxy.admin_request("GET", "/readyz")).json();
    assert_ne!(ready["checks"]["state"], "ok", "{ready}");
}

#[test]
fn a_configuration_that_others_may_write_is_warned_about() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let site = Site::new(&text(&[&stable, &canary], ""));
    fs::set_permissions(site.file(), fs::Permissions::from_mode(0o666)).expect("open the file to all");
    let proxy = site.start();
    let warned = proxy.err().iter().any(|line| line.contains("WARN") && line.contains("writable"));
    assert!(warned, "{:?}", proxy.err());
}

#[test]
fn idle_memory_is_small_and_so_is_an_idle_connection() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let proxy = Proxy::start(&text(&[&stable, &canary], ""));
    proxy.ask(&get("/")).expect_status(200);
    let before = proxy.memory().own_kib;
    assert!(before <= 20 * 1024, "idle with {before} KiB");
    let count = 500;
    let conns: Vec<_> = (0..count)
        .map(|_| {
            let mut conn = proxy.conn();
            conn.ask(&get("/")).expect_status(200);
            conn
        })
        .collect();
    // Buffers are given back once a connection has been idle for a while.
    let mut grown = 0;
    eventually("500 idle connections take 12 KiB each at most", || {
        grown = proxy.memory().own_kib.saturating_sub(before);
        grown <= 12 * count
    });
    println!("{before} KiB idle, {grown} KiB for {} idle connections", conns.len());
}

/// Starting must fail: code 2 and one line that names the culprit.
fn refused(site: &Site, path: &str, named: &str) {
    let ended = switchback(&site.folder(), &["run", "-c", path]);
    assert_eq!(ended.code, Some(2), "{named}: {ended:?}");
    one_clear_line(&ended, named);
}

fn one_clear_line(ended: &Finished, named: &str) {
    let lines: Vec<_> = ended.err.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 1, "{named}: one line, not {:?}", ended.err);
    assert!(lines[0].contains(named), "{named} in {:?}", lines[0]);
    assert!(!ended.err.contains("panicked"), "{ended:?}");
}

#[test]
fn what_cannot_start_says_why_in_one_line_and_exits_with_two() {
    let origin = Origin::start("app");
    let good = format!("{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n", upstreams(&[&origin]));
    let site = Site::new(&good);
    refused(&site, "no-such-file.yaml", "no-such-file.yaml");
    refused(&site, "no/such/folder/x.yaml", "no/such/folder/x.yaml");

    let taken = TcpListener::bind(site.web()).expect("take the port");
    refused(&site, &site.file().display().to_string(), &site.web().port().to_string());
    drop(taken);
    let taken = TcpListener::bind(site.admin()).expect("take the admin port");
    refused(&site, &site.file().display().to_string(), &site.admin().port().to_string());
    drop(taken);

    for (address, named) in [("127.0.0.1:70000", "70000"), ("192.0.2.1:8080", "192.0.2.1")] {
        let site = Site::new(&format!("listeners: [{{ name: web, address: \"{address}\" }}]\n{good}"));
        refused(&site, &site.file().display().to_string(), named);
    }
}

#[test]
fn an_unreadable_file_is_named() {
    let origin = Origin::start("app");
    let site =
        Site::new(&format!("{}routes: [{{ name: all, split: {{ app: 1 }} }}]\n", upstreams(&[&origin])));
    fs::set_permissions(site.file(), fs::Permissions::from_mode(0o000)).expect("forbid reading");
    if fs::read(site.file()).is_ok() {
        // For root every file is readable; a folder in its place is not, for anybody.
        println!(
            "SKIPPED: lifecycle::an_unreadable_file_is_named: permissions do not bind this user; using a folder"
        );
        fs::remove_file(site.file()).expect("remove the file");
        fs::create_dir_all(site.file().join("deep.yaml")).expect("a folder in its place");
        refused(&site, &site.file().join("deep.yaml").display().to_string(), "deep.yaml");
        return;
    }
    refused(&site, &site.file().display().to_string(), "switchback.yaml");
}

#[test]
fn a_file_that_does_not_compile_does_not_start() {
    let site = Site::new("routes: [{ name: all, split: { nobody: 1 } }]\n");
    let ended = switchback(&site.folder(), &["run", "-c", &site.file().display().to_string()]);
    assert_eq!(ended.code, Some(1), "refused, as check would: {ended:?}");
    assert!(ended.err.contains("nobody") && ended.err.contains(":4:"), "place and name: {ended:?}");
}

#[test]
fn a_second_instance_cannot_silently_share_the_port() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let first = Proxy::start(&text(&[&stable, &canary], ""));
    let intruder = Site::new(&format!(
        "listeners: [{{ name: web, address: \"{}\" }}]\nupstreams: {{ stable: \"http://127.0.0.1:1\" }}\n\
         routes: [{{ name: all, split: {{ stable: 1 }} }}]\n",
        first.web()
    ));
    refused(&intruder, &intruder.file().display().to_string(), &first.web().port().to_string());
    let arms = crate::support::ask(first.web(), 100, |_| get("/"));
    assert!(arms.iter().all(|arm| !arm.is_empty()), "the first one serves everybody");
}

#[test]
fn a_second_process_is_kept_off_the_state_folder_of_the_first() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let first = Proxy::start(&text(&[&stable, &canary], ""));
    let other = Site::new(&format!(
        "stateDir: \"{}\"\n{}routes: [{{ name: all, split: {{ stable: 1 }} }}]\n",
        first.site.state().display(),
        upstreams(&[&stable])
    ));
    refused(&other, &other.file().display().to_string(), &format!("process {}", first.pid()));
    first.ask(&get("/")).expect_status(200);
    first.stop().start().ask(&get("/")).expect_status(200);
}

#[test]
fn many_idle_connections_do_not_stop_a_drain() {
    let (stable, canary) = (Origin::start("stable"), Origin::start("canary"));
    let mut proxy = Proxy::start(&text(&[&stable, &canary], ""));
    let mut conns: Vec<_> = (0..64).map(|_| proxy.conn()).collect();
    for conn in conns.iter_mut().take(32) {
        conn.ask(&get("/")).expect_status(200);
    }
    proxy.signal("TERM");
    assert_eq!(proxy.await_exit().code(), Some(0), "idle connections are let go, used or not");
}
