//! How `status` prints pins, drains and overrides.
//!
//! Pure: views in, text out.

use super::remote_text::{add, clean, moment};
use crate::wire;

/// A line each, and whether somebody should look at it.
pub(super) fn lines(route: &wire::Route) -> Vec<(String, bool)> {
    let arms = route.arms.iter();
    let pinned = arms.clone().filter_map(|arm| Some((pinned(arm)?, false)));
    let drains = arms.filter_map(|arm| Some((drain(&arm.name, arm.drain.as_ref()?), false)));
    let overrides = route
        .overrides
        .iter()
        .map(|one| (line(one), one.stale.is_some() || one.state != "active" || !one.off.is_empty()));
    pinned.chain(drains).chain(overrides).collect()
}

/// `canary: 12 of 40 requests by pin`.
fn pinned(arm: &wire::Arm) -> Option<String> {
    let pinned = arm.pinned?;
    Some(format!("{}: {pinned} of {} requests by pin", clean(&arm.name), arm.requests))
}

/// `canary: draining since 2026-12-01T00:00:00Z, the last pin is over at 2026-12-01T01:00:00Z`.
fn drain(arm: &str, drain: &wire::Drain) -> String {
    let mut text = format!("{}: {} since {}", clean(arm), clean(&drain.state), moment(drain.since_millis));
    if drain.state != "draining" {
        return text;
    }
    if drain.in_flight > 0 {
        add(&mut text, format_args!(", {} in flight", drain.in_flight));
    }
    if let Some(until) = drain.until_millis {
        add(&mut text, format_args!(", the last pin is over at {}", moment(until)));
    }
    text
}

/// `override plan (growth) -> canary  until 2026-12-24T00:00:00Z  123 hits, 4 in the last minute`.
fn line(one: &wire::Override) -> String {
    let mut text = format!("override {}", clean(&one.name));
    if let Some(owner) = &one.owner {
        add(&mut text, format_args!(" ({})", clean(owner)));
    }
    let shares: Vec<String> =
        one.split.iter().map(|(arm, percent)| format!("{} {percent}%", clean(arm))).collect();
    add(&mut text, format_args!(" -> {}", one.arm.as_deref().map_or_else(|| shares.join(", "), clean)));
    for (word, moment) in [("from", &one.active_from), ("until", &one.active_until)] {
        if let Some(moment) = moment {
            add(&mut text, format_args!("  {word} {}", clean(moment)));
        }
    }
    add(&mut text, format_args!("  {} hits", one.hits));
    if one.last_minute > 0 {
        add(&mut text, format_args!(", {} in the last minute", one.last_minute));
    }
    match one.state.as_str() {
        "active" | "pending" if !one.off.is_empty() => add(&mut text, format_args!("  {}", off(one))),
        "active" => {}
        "expired" => text.push_str("  EXPIRED: it catches nothing"),
        "void" => text.push_str("  VOID: its arm was taken back"),
        other => add(&mut text, format_args!("  {}", clean(other))),
    }
    if let Some(stale) = &one.stale {
        add(&mut text, format_args!("  STALE: {} since {}", clean(stale), clean(&one.since)));
    }
    text
}

/// `canary off: taken back, or 0 by hand; they are split like everybody else`.
fn off(one: &wire::Override) -> String {
    let pending = if one.state == "pending" { "pending  " } else { "" };
    let arms: Vec<String> = one.off.iter().map(|arm| clean(arm)).collect();
    let arms = arms.join(", ");
    format!("{pending}{arms} off: taken back, or 0 by hand; its users are split like everybody else")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_an_override_no_longer_leads_to_are_told() {
        let told = "off: taken back, or 0 by hand; its users are split like everybody else";
        let rows = [
            ("active", vec![], String::new(), false),
            ("active", vec!["canary"], format!("  canary {told}"), true),
            ("pending", vec!["canary", "next"], format!("  pending  canary, next {told}"), true),
            ("void", vec!["canary", "stable"], "  VOID: its arm was taken back".to_owned(), true),
            ("expired", vec!["canary"], "  EXPIRED: it catches nothing".to_owned(), true),
        ];
        for (state, off, expected, bad) in rows {
            let rule = wire::Override {
                name: "office".into(),
                split: [("canary".to_owned(), 30.0), ("stable".to_owned(), 70.0)].into(),
                state: state.into(),
                off: off.into_iter().map(str::to_owned).collect(),
                ..wire::Override::default()
            };
            let route = wire::Route { overrides: vec![rule], ..wire::Route::default() };
            let line = format!("override office -> canary 30%, stable 70%  0 hits{expected}");
            assert_eq!(lines(&route), [(line, bad)], "{state}");
        }
    }

    #[test]
    fn what_steers_is_told_a_line_each() {
        let rule = wire::Override {
            name: "plan\u{1b}".into(),
            owner: Some("growth".into()),
            arm: Some("canary".into()),
            active_until: Some("2026-12-24T00:00:00Z".into()),
            state: "active".into(),
            hits: 7,
            last_minute: 3,
            ..wire::Override::default()
        };
        let office = wire::Override {
            name: "office".into(),
            split: [("canary".to_owned(), 50.0), ("stable".to_owned(), 50.0)].into(),
            state: "expired".into(),
            stale: Some("never hit".into()),
            since: "2026-12-01T00:00:00Z".into(),
            ..wire::Override::default()
        };
        let canary = wire::Arm {
            name: "canary".into(),
            requests: 40,
            pinned: Some(12),
            drain: Some(wire::Drain {
                state: "draining".into(),
                since_millis: 0,
                until_millis: Some(60_000),
                in_flight: 2,
                ..wire::Drain::default()
            }),
            ..wire::Arm::default()
        };
        let route =
            wire::Route { arms: vec![canary], overrides: vec![rule, office], ..wire::Route::default() };
        let expected = [
            ("canary: 12 of 40 requests by pin", false),
            (
                "canary: draining since 1970-01-01T00:00:00Z, 2 in flight, the last pin is over at 1970-01-01T00:01:00Z",
                false,
            ),
            (
                "override plan\u{fffd} (growth) -> canary  until 2026-12-24T00:00:00Z  7 hits, 3 in the last minute",
                false,
            ),
            (
                "override office -> canary 50%, stable 50%  0 hits  EXPIRED: it catches nothing  \
                 STALE: never hit since 2026-12-01T00:00:00Z",
                true,
            ),
        ];
        let lines = lines(&route);
        let lines: Vec<(&str, bool)> = lines.iter().map(|(line, bad)| (line.as_str(), *bad)).collect();
        assert_eq!(lines, expected);
    }
}
