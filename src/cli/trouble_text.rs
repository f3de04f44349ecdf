//! What `status` says first: whatever somebody should look at now.
//!
//! A picture that is read at night begins with what is wrong, in words. Pure: views in, text out. It
//! must never hide a trouble because another one is there, nor grow with the number of endpoints.

use std::collections::BTreeSet;

use super::look::{Look, Tone};
use super::remote_text::{clean, moment};
use crate::wire;

/// Endpoints that are named one by one at most; the others are counted.
const MAX_ENDPOINTS: usize = 8;

/// Everything that is wrong, in red; empty when nothing is.
pub(super) fn troubles(status: &wire::Status, routes: &[wire::Route], look: Look) -> String {
    let config = config(&status.config);
    let parts = parts(status);
    let lines = config.into_iter().chain(parts).chain(upstreams(status, routes)).chain(weightless(routes));
    lines.map(|(indent, line)| look.line(indent, Tone::Bad, &line)).collect()
}

/// The last load was refused, or it is an earlier configuration that serves.
fn config(config: &wire::Config) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    if let Some(back) = &config.rolled_back {
        let line = format!(
            "serves the configuration of generation {} again, since {} by {}; {} waits until it changes or \
             `switchback reload` loads it",
            back.to,
            moment(back.at_millis),
            because(&back.actor, &back.reason),
            clean(&config.path)
        );
        lines.push((0, line));
    }
    if !config.last_reload.ok {
        let line = format!("{} is refused; the last good configuration serves", clean(&config.path));
        lines.push((0, line));
        let findings = &config.last_reload.diagnostics;
        lines.extend(findings.iter().map(|finding| (2, clean(&finding.to_string()))));
    }
    lines
}

/// Parts of the process that are not ok, unless they were told in other words.
fn parts(status: &wire::Status) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    if status.state.detail != "ok" {
        lines.push((0, clean(&status.state.detail)));
    }
    let told = |part: &str, text: &str| match part {
        "config" => !status.config.last_reload.ok,
        "state" => text == status.state.detail,
        _ => false,
    };
    for (part, text) in status.checks.iter().filter(|(part, text)| *text != "ok" && !told(part, text)) {
        let part = if part == "certificates" { "a certificate is refused".to_owned() } else { clean(part) };
        lines.push((0, format!("{part}: {}", clean(text))));
    }
    lines
}

/// Upstreams that are not asked, or not at every endpoint.
fn upstreams(status: &wire::Status, routes: &[wire::Route]) -> Vec<(usize, String)> {
    let breakers = status.breakers.iter().filter(|(_, state)| *state != "closed");
    let mut lines: Vec<(usize, String)> =
        breakers.map(|(name, state)| (0, breaker(&clean(name), state))).collect();
    let dead = status.all_out.iter();
    lines.extend(dead.map(|name| (0, format!("all endpoints of upstream {} are out", clean(name)))));
    // Routes share upstreams.
    let arms = routes.iter().flat_map(|route| &route.arms);
    let out: BTreeSet<_> = arms
        .flat_map(|arm| arm.endpoints.iter().filter(|one| !one.healthy).map(move |one| (&arm.upstream, one)))
        .map(|(upstream, one)| (upstream, &one.address, &one.why))
        .collect();
    for (upstream, address, why) in out.iter().take(MAX_ENDPOINTS) {
        let why = if why.is_empty() { "it failed requests, or is on trial".to_owned() } else { clean(why) };
        lines.push((0, format!("endpoint {} of {} is out: {why}", clean(address), clean(upstream))));
    }
    if out.len() > MAX_ENDPOINTS {
        lines.push((0, format!("and {} more endpoints are out", out.len() - MAX_ENDPOINTS)));
    }
    lines
}

fn breaker(upstream: &str, state: &str) -> String {
    match state {
        "open" => format!("the breaker of upstream {upstream} is open: it gets no requests for now"),
        "half_open" => {
            format!(
                "the breaker of upstream {upstream} is half open: a few requests try it, no others get there"
            )
        }
        "held" => format!(
            "the breaker of upstream {upstream} is held open by hand: it gets no requests until `switchback \
             breaker close {upstream}`"
        ),
        other => format!("the breaker of upstream {upstream} is {}", clean(other)),
    }
}

/// Routes with arms of which none has weight.
fn weightless(routes: &[wire::Route]) -> impl Iterator<Item = (usize, String)> + '_ {
    let none = |route: &&wire::Route| !route.arms.is_empty() && route.arms.iter().all(|arm| arm.weight == 0);
    routes.iter().filter(none).map(|route| {
        let active = route.overrides.iter().any(|one| one.state == "active");
        let save = if active { " but whom an override catches" } else { "" };
        (0, format!("route {}: no arm has weight, everybody gets 503{save}", clean(&route.name)))
    })
}

/// `ann: "support reports errors"`.
pub(super) fn because(actor: &str, reason: &str) -> String {
    let reason = if reason.is_empty() { String::new() } else { format!(": \"{}\"", clean(reason)) };
    clean(actor) + &reason
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fine() -> wire::Status {
        let mut view = wire::Status { status: "ready".to_owned(), ..wire::Status::default() };
        view.config.path = "a.yaml".to_owned();
        view.config.last_reload.ok = true;
        view.state.detail = "ok".to_owned();
        let checks = ["config", "listeners", "state"].map(|part| (part.to_owned(), "ok".to_owned()));
        view.checks = checks.into();
        view.breakers = [("calm".to_owned(), "closed".to_owned())].into();
        view
    }

    fn with(change: impl FnOnce(&mut wire::Status)) -> wire::Status {
        let mut view = fine();
        change(&mut view);
        view
    }

    fn broken(state: &str) -> wire::Status {
        with(|view| drop(view.breakers.insert("api\x1b".to_owned(), state.to_owned())))
    }

    fn checked(part: &str, text: &str) -> wire::Status {
        with(|view| drop(view.checks.insert(part.to_owned(), text.to_owned())))
    }

    fn back() -> wire::RolledBack {
        let (actor, reason) = ("ann".to_owned(), "it broke".to_owned());
        wire::RolledBack { to: 3, actor, reason, at_millis: 1_800_000_000_000 }
    }

    fn refused(view: &mut wire::Status) {
        view.config.last_reload.ok = false;
        view.checks.insert("config".to_owned(), "serving the last good one; 1 findings".to_owned());
    }

    fn unwritten(view: &mut wire::Status) {
        view.state.detail = "the disk is full".to_owned();
        view.checks.insert("state".to_owned(), "the disk is full".to_owned());
    }

    #[test]
    fn what_is_wrong_with_the_process_is_said_once_and_in_words() {
        let rows = [
            (fine(), ""),
            (broken("open"), "the breaker of upstream api\u{fffd} is open: it gets no requests for now\n"),
            (
                broken("half_open"),
                "the breaker of upstream api\u{fffd} is half open: a few requests try it, no others get there\n",
            ),
            (
                broken("held"),
                "the breaker of upstream api\u{fffd} is held open by hand: it gets no requests until \
                 `switchback breaker close api\u{fffd}`\n",
            ),
            (with(|view| view.all_out.push("api".to_owned())), "all endpoints of upstream api are out\n"),
            (
                checked("certificates", "serving the ones before: a.pem: expired"),
                "a certificate is refused: serving the ones before: a.pem: expired\n",
            ),
            (checked("journal", "it cannot be read"), "journal: it cannot be read\n"),
            (with(unwritten), "the disk is full\n"),
            (with(refused), "a.yaml is refused; the last good configuration serves\n"),
            (
                with(|view| view.config.rolled_back = Some(back())),
                "serves the configuration of generation 3 again, since 2027-01-15T08:00:00Z by ann: \"it broke\"; \
                 a.yaml waits until it changes or `switchback reload` loads it\n",
            ),
        ];
        for (view, expected) in rows {
            assert_eq!(troubles(&view, &[], Look::default()), expected);
            let painted = troubles(&view, &[], Look { colour: true, ..Look::default() });
            assert!(painted.lines().all(|line| line.starts_with("\x1b[31m")), "{painted:?}");
        }
    }

    fn arm(weight: u32, endpoints: &[(&str, bool, &str)]) -> wire::Arm {
        let endpoints = endpoints.iter().map(|(address, healthy, why)| wire::Endpoint {
            address: (*address).to_owned(),
            healthy: *healthy,
            why: (*why).to_owned(),
        });
        wire::Arm {
            upstream: "api".to_owned(),
            weight,
            endpoints: endpoints.collect(),
            ..wire::Arm::default()
        }
    }

    fn route(arms: Vec<wire::Arm>, overrides: &[&str]) -> wire::Route {
        let named = |state: &&str| wire::Override { state: (*state).to_owned(), ..wire::Override::default() };
        let overrides = overrides.iter().map(named).collect();
        wire::Route { name: "web".to_owned(), arms, overrides, ..wire::Route::default() }
    }

    #[test]
    fn what_is_wrong_with_routes_is_said_once_and_in_words() {
        let some =
            [("http://a", true, "one probe failed"), ("http://b", false, "500"), ("http://c", false, "")];
        let many: Vec<String> = (0..MAX_ENDPOINTS + 2).map(|at| format!("http://{at}")).collect();
        let many: Vec<_> = many.iter().map(|address| (address.as_str(), false, "refused")).collect();
        let named = many.iter().take(MAX_ENDPOINTS);
        let all: String = named
            .map(|(address, ..)| format!("endpoint {address} of api is out: refused\n"))
            .collect::<Vec<_>>()
            .concat();
        let rows = [
            (route(vec![arm(1, &[]), arm(0, &[])], &[]), String::new()),
            (route(vec![], &[]), String::new()),
            (
                route(vec![arm(1, &some), arm(1, &some)], &[]),
                "endpoint http://b of api is out: 500\n\
                 endpoint http://c of api is out: it failed requests, or is on trial\n"
                    .to_owned(),
            ),
            (route(vec![arm(1, &many)], &[]), all + "and 2 more endpoints are out\n"),
            (
                route(vec![arm(0, &[]), arm(0, &[])], &["void"]),
                "route web: no arm has weight, everybody gets 503\n".to_owned(),
            ),
            (
                route(vec![arm(0, &[])], &["active"]),
                "route web: no arm has weight, everybody gets 503 but whom an override catches\n".to_owned(),
            ),
        ];
        for (route, expected) in rows {
            assert_eq!(troubles(&fine(), &[route], Look::default()), expected);
        }
    }
}
