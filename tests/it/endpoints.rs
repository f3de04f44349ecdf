//! Endpoints that come and go, by file and by name, and who is sent where.
//!
//! What an operator takes away gets no request from then on, and no user notices.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::support::dns::{NameServer, Says};
use crate::support::load::Load;
use crate::support::ports::free_port;
use crate::support::{Origin, Proxy, Site, eventually, get};

const PACE: Duration = Duration::from_millis(5);

fn text(endpoints: &str, rest: &str) -> String {
    format!(
        "workers: 2\nupstreams: {{ app: {{ endpoints: [{endpoints}]{rest} }} }}\n\
         routes: [{{ name: all, split: {{ app: 1 }} }}]\n"
    )
}

fn urls<'a>(origins: impl IntoIterator<Item = &'a Origin>) -> String {
    origins.into_iter().map(|origin| format!("\"{}\"", origin.url())).collect::<Vec<_>>().join(", ")
}

/// A proxy that asks a name server of the test's own.
fn asking(names: &NameServer, text: &str) -> Proxy {
    let server = names.addr.to_string();
    Proxy::start_with(Site::new(text), "SWITCHBACK_NAMESERVER", server.as_ref())
}

/// One origin on an address of loopback of its own.
fn at(last: u8, port: u16) -> Origin {
    let address = Ipv4Addr::new(127, 0, 9, last);
    Origin::start_on(&format!("o{last}"), SocketAddr::from((address, port)))
}

fn ip(origin: &Origin) -> Ipv4Addr {
    match origin.addr {
        SocketAddr::V4(v4) => *v4.ip(),
        SocketAddr::V6(_) => unreachable!("loopback"),
    }
}

#[test]
fn ten_endpoints_are_replaced_in_the_file_under_load_and_nobody_notices() {
    let mut serving: Vec<Origin> = (0..10).map(|at| Origin::start(&format!("a{at}"))).collect();
    let proxy = Proxy::start(&text(&urls(&serving), ""));
    let load = Load::h1(proxy.web(), 4, PACE, |_| get("/"));
    for origin in &serving {
        origin.await_requests(1);
    }
    let mut removed: Vec<(Origin, usize)> = Vec::new();
    for turn in 0..10 {
        let fresh = Origin::start(&format!("b{turn}"));
        let old = std::mem::replace(&mut serving[turn], fresh);
        proxy.reload(&text(&urls(&serving), ""));
        eventually("the new one serves", || serving[turn].requests() > 0);
        eventually("the old one is let go of", || old.open() == 0);
        removed.push((old, 0));
        removed.last_mut().unwrap().1 = removed.last().unwrap().0.requests();
    }
    let report = load.stop();
    assert_eq!((report.failed, report.closed), (0, 0), "{report:?}");
    for (old, then) in &removed {
        assert!(*then > 0 && old.requests() == *then, "{then} became {}", old.requests());
    }
}

#[test]
fn ten_addresses_of_a_name_are_replaced_under_load_and_nobody_notices() {
    let (names, port) = (NameServer::start(), free_port());
    let mut serving: Vec<Origin> = (1..=10).map(|last| at(last, port)).collect();
    let tell = |serving: &[Origin]| names.has("app.test", &serving.iter().map(ip).collect::<Vec<_>>());
    tell(&serving);
    let proxy = asking(&names, &text(&format!("\"http://app.test:{port}\""), ""));
    let load = Load::h1(proxy.web(), 4, PACE, |_| get("/"));
    for origin in &serving {
        origin.await_requests(5);
    }
    let mut removed = Vec::new();
    for turn in 0..10_u8 {
        let slot = usize::from(turn);
        let old = std::mem::replace(&mut serving[slot], at(20 + turn, port));
        tell(&serving);
        eventually("the new one serves", || serving[slot].requests() > 0);
        eventually("the old one is let go of", || old.open() == 0);
        let then = old.requests();
        removed.push((old, then));
    }
    let report = load.stop();
    assert_eq!((report.failed, report.closed), (0, 0), "{report:?}");
    for (old, then) in &removed {
        assert_eq!(old.requests(), *then);
    }
}

#[test]
fn the_last_good_addresses_stay_when_nobody_answers_for_a_name() {
    let (names, port) = (NameServer::start(), free_port());
    let origin = at(1, port);
    names.has("app.test", &[ip(&origin)]);
    let proxy = asking(&names, &text(&format!("\"http://app.test:{port}\""), ""));
    assert_eq!(proxy.ask(&get("/")).status, 200);
    for says in [Says::Code(2), Says::Code(3), Says::Addresses(Vec::new(), 1)] {
        names.says("app.test", says);
        let asked = names.asked();
        eventually("it is asked again", || names.asked() >= asked + 4);
        assert_eq!(proxy.ask(&get("/")).status, 200);
    }
    eventually("the failure is told", || {
        proxy.err().iter().chain(&proxy.out()).any(|line| line.contains("name lookup failed"))
    });
    // And it comes back with what it says next.
    let next = at(2, port);
    names.has("app.test", &[ip(&next)]);
    eventually("the next answer counts", || {
        assert_eq!(proxy.ask(&get("/")).status, 200);
        next.requests() > 0
    });
}

#[test]
fn answers_to_nobodys_question_lead_nowhere_and_fill_no_log() {
    let (names, origin) = (NameServer::start(), Origin::start("app"));
    names.has("app.test", &[ip(&origin)]);
    names.makes_noise(2);
    let url = format!("\"http://app.test:{}\"", origin.addr.port());
    let proxy = asking(&names, &text(&url, ""));
    let before = names.asked();
    eventually("the name is asked for again and again", || names.asked() > before + 6);
    assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "app");
    let said = proxy.err();
    assert!(!said.iter().any(|line| line.contains("WARN")), "{said:?}");
}

#[test]
fn one_dead_address_of_a_name_costs_nobody_a_request() {
    let (names, port) = (NameServer::start(), free_port());
    let alive = at(1, port);
    names.has("app.test", &[ip(&alive), Ipv4Addr::new(127, 0, 9, 2)]);
    let proxy = asking(&names, &text(&format!("\"http://app.test:{port}\""), ""));
    for _ in 0..20 {
        assert_eq!(proxy.ask(&get("/")).status, 200);
    }
    assert_eq!(alive.requests(), 20);
}

#[test]
fn a_name_leads_to_what_the_hosts_file_says_and_never_to_ourselves() {
    let names = NameServer::start();
    let origin = Origin::start("app");
    let proxy = asking(&names, &text(&format!("\"http://localhost:{}\"", origin.addr.port()), ""));
    assert_eq!(proxy.ask(&get("/")).status, 200);
    // The admin port by a name is refused, as are addresses that only a machine itself should ask.
    names.has("inside.test", &[Ipv4Addr::LOCALHOST]);
    names.has("meta.test", &[Ipv4Addr::new(169, 254, 169, 254)]);
    for (endpoint, status) in [
        ("http://inside.test:@admin@", 503),
        ("http://meta.test:80", 503),
        // Written literally it is meant.
        ("http://127.0.0.1:@admin@", 200),
    ] {
        let proxy = asking(&names, &text(&format!("\"{endpoint}\""), ""));
        assert_eq!(proxy.ask(&get("/livez").host("localhost")).status, status, "{endpoint}");
    }
}

#[test]
fn users_stay_on_their_endpoint_when_another_is_removed() {
    let origins: Vec<Origin> = (0..4).map(|at| Origin::start(&format!("o{at}"))).collect();
    let sticky = |endpoints: &str| {
        text(endpoints, ", loadBalance: consistentHash")
            .replace("split:", "sticky: { by: [{ header: x-user }] }, split:")
    };
    let proxy = Proxy::start(&sticky(&urls(&origins)));
    let whose = || -> Vec<usize> {
        let user = |user: usize| {
            let before: Vec<_> = origins.iter().map(Origin::requests).collect();
            proxy.ask(&get("/").header("x-user", &format!("u{user}"))).expect_status(200);
            origins.iter().zip(before).position(|(one, before)| one.requests() > before).expect("one served")
        };
        (0..200).map(user).collect()
    };
    let first = whose();
    assert_eq!(first, whose(), "everybody comes back to the same one");
    for at in 0..4 {
        let share = first.iter().filter(|one| **one == at).count();
        assert!((25..=80).contains(&share), "{at}: {share} of 200");
    }
    proxy.reload(&sticky(&urls(&origins[..3])));
    let after = whose();
    for (was, is) in first.iter().zip(&after) {
        assert!(was == is || *was == 3, "moved from {was} to {is}");
    }
    assert!(after.iter().all(|one| *one != 3));
    // Who has no key goes wherever there is room.
    for _ in 0..20 {
        proxy.ask(&get("/")).expect_status(200);
    }
}

#[test]
fn endpoints_get_requests_by_their_weight() {
    let (light, heavy) = (Origin::start("light"), Origin::start("heavy"));
    let endpoints = format!("\"{}\", {{ url: \"{}\", weight: 3 }}", light.url(), heavy.url());
    for balance in ["p2c", "roundRobin", "leastRequest", "consistentHash"] {
        let before = (light.requests(), heavy.requests());
        let text = text(&endpoints, &format!(", loadBalance: {balance}"))
            .replace("split:", "sticky: { by: [{ header: x-user }] }, split:");
        let proxy = Proxy::start(&text);
        let mut client = proxy.conn();
        for user in 0..800 {
            client.ask(&get("/").header("x-user", &user.to_string())).expect_status(200);
        }
        let (light, heavy) = (light.requests() - before.0, heavy.requests() - before.1);
        assert_eq!(light + heavy, 800);
        assert!((130..=270).contains(&light), "{balance}: {light} and {heavy}");
    }
}

#[test]
fn a_name_server_that_keeps_silent_holds_nobody_else_up_at_the_start() {
    // It takes questions and never answers.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("a loopback port");
    let server = silent.local_addr().expect("a bound address").to_string();
    let origin = Origin::start("known");
    let names: String = (0..5).map(|at| format!("n{at}: \"http://n{at}.test:80\", ")).collect();
    let text = format!(
        "upstreams: {{ {names}known: \"{}\" }}\nroutes: [{{ name: all, split: {{ known: 1 }} }}]\n",
        origin.url()
    );
    let proxy = Proxy::start_with(Site::new(&text), "SWITCHBACK_NAMESERVER", server.as_ref());
    assert_eq!(proxy.ask(&get("/")).expect_status(200).origin(), "known");
    let said = proxy.err().iter().any(|line| line.contains("some names are still being looked up"));
    assert!(said, "{:#?}", proxy.err());
}
