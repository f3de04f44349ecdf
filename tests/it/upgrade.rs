//! A new program in the place of a running one: nobody is refused, nothing is reset, and one process
//! at a time decides.
//!
//! The service manager's socket tells who is in charge. Whatever goes wrong with the new program must
//! leave the old one serving and able to decide.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::lineage::Lineage;
use crate::support::load::Load;
use crate::support::tools::{binary, find};
use crate::support::{Behaviour, Conn, Gate, Origin, Site, eventually, get, long, needs, upstreams};

fn text(origins: &[&Origin], more: &str) -> String {
    format!("{more}{}routes: [{{ name: all, split: {{ stable: 1, canary: 1 }} }}]\n", upstreams(origins))
}

fn origins() -> (Origin, Origin) {
    (Origin::start("stable"), Origin::start("canary"))
}

#[test]
fn upgrades_under_load_refuse_and_reset_nobody() {
    let (stable, canary) = origins();
    let mut lineage = Lineage::start(&text(&[&stable, &canary], ""));
    let (web, count) = (lineage.site.web(), if long() { 50 } else { 3 });
    // 1,000 requests a second where the machine can carry them.
    let kept = Load::h1(web, 6, Duration::from_millis(10), |_| get("/"));
    let fresh = Load::fresh(web, 4, Duration::from_millis(10), |_| get("/"));
    let began = Instant::now();
    let mut seen = BTreeSet::from([lineage.main]);
    for _ in 0..count {
        lineage.upgrade();
        assert!(seen.insert(lineage.main), "a process of its own");
    }
    let took = began.elapsed();
    let (kept, fresh) = (kept.stop(), fresh.stop());
    println!(
        "FIGURE | {count} binary upgrades in {took:.1?} | {} requests kept alive, {} on connections of their own | \
         {} and {} failed",
        kept.done, fresh.done, kept.failed, fresh.failed
    );
    assert!(kept.done > 0 && fresh.done > 0);
    assert_eq!((kept.failed, fresh.failed), (0, 0), "{kept:?} {fresh:?}");
    assert_eq!(lineage.first_ended().and_then(|status| status.code()), Some(0));
}

#[test]
fn what_was_decided_goes_with_the_state_and_workers_may_change() {
    let (stable, canary) = origins();
    let config = |workers: u32| text(&[&stable, &canary], &format!("workers: {workers}\n"));
    let mut lineage = Lineage::start(&config(2));
    let mut generation = 0;
    for (workers, arm) in [(2, "canary"), (3, "stable"), (1, "canary"), (2, "stable")] {
        let other = if arm == "canary" { "stable" } else { "canary" };
        let weights = format!("{{\"weights\":{{\"{arm}\":1,\"{other}\":0}}}}");
        let set = lineage.admin("POST", "/api/v1/routes/all/weights", &weights).expect_status(200).json();
        lineage.site.write(&config(workers));
        lineage.upgrade();
        // Sockets of workers that are gone must be accepted from as well.
        for _ in 0..50 {
            assert_eq!(lineage.ask(&get("/")).expect_status(200).origin(), arm, "{workers} workers");
        }
        let route = lineage.admin("GET", "/api/v1/routes/all", "").expect_status(200).json();
        assert_eq!(route["arms"][0]["source"], "operator", "{route}");
        generation = generation.max(set["generation"].as_u64().unwrap_or(0));
    }
    assert!(!lineage.errors().contains("lines were lost"), "{}", lineage.errors());
}

#[test]
fn a_new_program_that_cannot_start_leaves_the_old_one_in_charge() {
    let (stable, canary) = origins();
    let config = text(&[&stable, &canary], "");
    let mut lineage = Lineage::start(&config);
    let old = lineage.main;
    // What is where the new program should be, with what configuration, and what is said of it.
    let rows: [(Option<&str>, &str, &str); 5] = [
        (Some("exit 3"), &config, "exit status: 3"),
        (Some("kill -9 $$"), &config, "signal: 9"),
        (None, "nonsense: true\n", "exit status: 1"),
        (None, "listeners: [{ name: web, address: \"192.0.2.1:80\" }]\n", "exit status: 2"),
        (Some("exec sleep 60"), &config, "not able within 20 s"),
    ];
    for (failures, (program, config, named)) in rows.into_iter().enumerate() {
        lineage.install(program);
        lineage.site.write(config);
        lineage.signal(Signal::USR2);
        let said = || lineage.errors().matches("no upgrade").count() > failures;
        eventually("the old process says that it goes on", said);
        assert!(lineage.errors().contains(named), "{named} in {}", lineage.errors());
        assert!(lineage.first_ended().is_none());
        lineage.ask(&get("/")).expect_status(200);
        let weights = format!("{{\"weights\":{{\"stable\":1,\"canary\":{failures}}}}}");
        lineage.admin("POST", "/api/v1/routes/all/weights", &weights).expect_status(200);
    }
    assert!(!lineage.has_said("MAINPID"));
    lineage.install(None);
    lineage.site.write(&config);
    lineage.upgrade();
    assert_ne!(lineage.main, old);
    lineage.ask(&get("/")).expect_status(200);
}

/// A new program that says it is able, is told that the state is its own, and ends.
const QUITTER: &str = "exec python3 -c '
import json, socket
way = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=0)
way.settimeout(10)
more = True
while more:
    text, sockets, _, _ = socket.recv_fds(way, 65536, 253)
    word = json.loads(text)[\"Sockets\"]
    assert len(word[\"labels\"]) == len(sockets) > 0
    more = word[\"more\"]
way.send(b\"\\\"Able\\\"\")
assert json.loads(way.recv(65536)) == \"Yours\"
raise SystemExit(7)
'";

#[test]
fn one_that_ends_after_it_got_the_state_gives_it_back() {
    needs!("python3");
    let (stable, canary) = origins();
    let mut lineage = Lineage::start(&text(&[&stable, &canary], ""));
    lineage.install(Some(QUITTER));
    lineage.signal(Signal::USR2);
    eventually("the old process says that it goes on", || lineage.errors().contains("no upgrade"));
    assert!(lineage.errors().contains("exit status: 7"), "{}", lineage.errors());
    assert!(lineage.errors().contains("the state is written down"), "{}", lineage.errors());
    eventually("and decides", || lineage.errors().contains("deciding again"));
    let set =
        lineage.admin("POST", "/api/v1/routes/all/weights", "{\"weights\":{\"stable\":1,\"canary\":0}}");
    set.expect_status(200);
    assert_eq!(lineage.ask(&get("/")).origin(), "stable");
    lineage.install(None);
    lineage.upgrade();
    assert_eq!(lineage.ask(&get("/")).origin(), "stable");
}

#[test]
fn the_old_process_finishes_what_it_serves_and_a_stop_ends_the_new_one() {
    let (stable, canary) = origins();
    let gate = Gate::closed();
    for origin in [&stable, &canary] {
        origin.on("/slow", Behaviour::Gated(gate.clone()));
    }
    let mut lineage = Lineage::start(&text(&[&stable, &canary], ""));
    let (web, old) = (lineage.site.web(), lineage.main);
    let slow = std::thread::spawn(move || Conn::open(web).send(&get("/slow")));
    eventually("it is in flight", || stable.requests() + canary.requests() == 1);
    lineage.begin_upgrade();
    lineage.ask(&get("/")).expect_status(200);
    assert!(!lineage.is_gone(old), "it stays for what is in flight");
    let ready = lineage.admin("GET", "/readyz", "");
    assert_eq!(ready.status, 200, "the new process answers the operator");
    assert!(!lineage.has_said("STOPPING"), "the service goes on");
    gate.open();
    assert_eq!(slow.join().expect("a client").expect("a whole answer").status, 200);
    eventually("the old process ends", || lineage.is_gone(old));
    lineage.signal(Signal::TERM);
    let new = lineage.main;
    eventually("the new process ends", || lineage.is_gone(new));
    assert!(lineage.has_said("STOPPING=1"));
    assert!(Conn::try_open(web).is_err(), "nobody listens any more");
}

#[test]
fn a_stop_of_everything_after_an_upgrade_cuts_neither_of_the_two() {
    let (stable, canary) = origins();
    // What each process still serves when both are told to end, as a service manager tells a group.
    let gates = ["/old", "/new"].map(|path| {
        let gate = Gate::closed();
        for origin in [&stable, &canary] {
            origin.on(path, Behaviour::Gated(gate.clone()));
        }
        gate
    });
    let mut lineage = Lineage::start(&text(&[&stable, &canary], "shutdown: { grace: 20s }\n"));
    let (web, old) = (lineage.site.web(), lineage.main);
    let ask = |path: &'static str| std::thread::spawn(move || Conn::open(web).send(&get(path)));
    let first = ask("/old");
    eventually("it is in flight", || stable.requests() + canary.requests() == 1);
    lineage.begin_upgrade();
    let second = ask("/new");
    eventually("another is in flight", || stable.requests() + canary.requests() == 2);
    let new = lineage.main;
    for process in [old, new] {
        lineage.main = process;
        lineage.signal(Signal::TERM);
    }
    eventually("the old one has heard it", || lineage.errors().contains("told to end; it drains"));
    eventually("the new one has as well", || lineage.has_said("STOPPING=1"));
    assert!(!lineage.is_gone(old) && !lineage.is_gone(new), "both drain");
    gates.iter().for_each(Gate::open);
    for (what, asked) in [("old", first), ("new", second)] {
        let answer = asked.join().expect("a client");
        assert_eq!(answer.unwrap_or_else(|error| panic!("{what}: {error}")).status, 200, "{what}");
    }
    eventually("both end", || lineage.is_gone(old) && lineage.is_gone(new));
    assert!(!lineage.errors().contains("told twice"), "{}", lineage.errors());
}

#[test]
fn an_admin_socket_in_the_file_system_stays() {
    let (stable, canary) = origins();
    let site = Site::new(&text(&[&stable, &canary], "admin: { address: \"unix:@dir@/admin.sock\" }\n"));
    let socket = site.folder().join("admin.sock");
    let mut lineage = Lineage::start_at(site);
    for _ in 0..2 {
        lineage.upgrade();
        let mut conn = Conn::open_unix(&socket).expect("the socket is there");
        conn.ask(&get("/readyz").host("localhost")).expect_status(200);
    }
}

#[test]
fn a_stop_during_an_upgrade_stops_both() {
    let (stable, canary) = origins();
    let mut lineage = Lineage::start(&text(&[&stable, &canary], ""));
    lineage.install(Some("echo $$ > newcomer; exec sleep 60"));
    lineage.signal(Signal::USR2);
    let newcomer = || std::fs::read_to_string(lineage.site.folder().join("newcomer")).unwrap_or_default();
    eventually("the new process runs", || newcomer().trim().parse::<u32>().is_ok());
    let new: u32 = newcomer().trim().parse().expect("a process id");
    lineage.signal(Signal::TERM);
    eventually("the old process ends", || lineage.first_ended().is_some_and(|status| status.success()));
    eventually("and so did the new one", || lineage.is_gone(new));
}

#[test]
fn a_reload_is_told_to_the_service_manager() {
    let (stable, canary) = origins();
    let mut lineage = Lineage::start(&text(&[&stable, &canary], ""));
    lineage.signal(Signal::HUP);
    eventually("it says when it is over", || lineage.has_said("READY=1"));
    let said = lineage.said();
    assert!(said[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{said:?}");
    assert!(said.iter().any(|one| one.contains("STATUS=the configuration is in force")), "{said:?}");
    lineage.forget();
    lineage.site.write("nonsense: true\n");
    lineage.signal(Signal::HUP);
    eventually("and how it went", || lineage.has_said("STATUS=the last configuration was refused"));
    lineage.ask(&get("/")).expect_status(200);
}

#[test]
fn sockets_of_systemd_are_used_by_name_and_by_address() {
    needs!("systemd-socket-activate");
    let (stable, canary) = origins();
    let site = Site::new(&text(&[&stable, &canary], "workers: 2\n"));
    // The second listening address is none of the configuration's: only its name fits `web`.
    let (web, elsewhere, admin) = (site.web(), site.second(), site.admin());
    let activator = find("systemd-socket-activate").expect("just found");
    let mut command = std::process::Command::new(activator);
    command
        .args(["-l", &elsewhere.to_string(), "-l", &admin.to_string(), "--fdname=web:operator"])
        .arg(binary())
        .args([Path::new("run"), Path::new("-c"), &site.file()])
        .current_dir(site.folder())
        .stdin(std::process::Stdio::null());
    let mut child = Ended(command.spawn().expect("systemd-socket-activate"));
    let mut first = None;
    eventually("the socket is there", || {
        first = Conn::try_open(elsewhere).ok();
        first.is_some()
    });
    // It waited in the queue from before the program was started.
    first.expect("just opened").ask(&get("/")).expect_status(200);
    for _ in 0..20 {
        Conn::open(elsewhere).ask(&get("/")).expect_status(200);
    }
    assert!(Conn::try_open(web).is_err(), "the address of the file is not bound as well");
    let ready = Conn::open(admin).ask(&get("/readyz").host(&admin.to_string()));
    assert_eq!(ready.status, 200);
    assert!(child.0.try_wait().expect("look at the child").is_none());
}

/// A child that ends with its test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
