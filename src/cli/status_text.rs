//! What `status` shows: the process, its configuration, and every route with its arms.
//!
//! Pure: views in, text out. It must never print a control character that a name brought along.

use super::look::{Column, Look, Tone, table};
use super::remote_text::{add, clean, moment};
use super::trouble_text::{because, troubles};
use super::{mirror_text, steering_text, track};
use crate::wire;

/// The process and its routes.
pub(super) fn status(status: &wire::Status, routes: &[wire::Route], look: Look) -> String {
    let ready = status.status == "ready";
    let state = look.paint(if ready { Tone::Good } else { Tone::Bad }, &clean(&status.status));
    let up = humantime::format_duration(std::time::Duration::from_secs(status.uptime_seconds));
    let mut text = format!(
        "switchback {}  {state}  generation {}  up {up}  {} workers\n",
        clean(&status.version),
        status.generation,
        status.workers
    );
    text += &troubles(status, routes, look);
    for listener in &status.listeners {
        let (name, address) = (clean(&listener.name), clean(&listener.address));
        let line = format!("listening on {address} ({name}), {} connections", listener.connections);
        text += &look.line(0, Tone::Plain, &line);
    }
    for route in routes {
        text.push('\n');
        text += &self::route(route, look);
    }
    if routes.iter().any(|route| !route.arms.is_empty()) {
        text.push('\n');
        text += &look.line(0, Tone::Dim, LAST_MINUTE);
    }
    text
}

const fn column(head: &'static str, right: bool, spare: u8) -> Column {
    Column { head, right, spare }
}

/// What the numbers of the tables are of.
const LAST_MINUTE: &str = "OBSERVED, REQUESTS, ERRORS and times are of the last minute.";

/// Names to the left, numbers to the right.
const COLUMNS: [Column; 10] = [
    column("ARM", false, 0),
    column("UPSTREAM", false, 1),
    column("WEIGHT", true, 0),
    column("SHARE", true, 0),
    column("OBSERVED", true, 0),
    column("REQUESTS", true, 0),
    column("ERRORS", true, 0),
    column("P50 MS", true, 3),
    column("P99 MS", true, 0),
    column("IN FLIGHT", true, 2),
];

fn route(route: &wire::Route, look: Look) -> String {
    let mut text =
        format!("{}  generation {}", look.paint(Tone::Bold, &clean(&route.name)), route.generation);
    if let Some(pair) = &route.blue_green {
        add(&mut text, format_args!("  {}", slots(pair)));
    }
    text.push_str(if route.arms.is_empty() { "  answers by itself\n" } else { "\n" });
    if let Some(pair) = route.blue_green.as_ref().filter(|pair| !pair.reason.is_empty()) {
        text += &look.line(2, Tone::Plain, &clean(&pair.reason));
    }
    for wait in route.blue_green.iter().flat_map(|pair| &pair.waiting_for) {
        text += &look.line(2, Tone::Wary, &format!("waits for: {}", clean(wait)));
    }
    if let Some(hand) = &route.operator {
        let since = moment(hand.at_millis);
        let line = format!("weights set by hand since {since} by {}", because(&hand.actor, &hand.reason));
        text += &look.line(2, Tone::Wary, &line);
    }
    if let Some(rollout) = &route.rollout {
        text += &track::rollout(rollout, look);
    }
    for objective in &route.slo {
        let bad = objective.frozen || objective.alarm.is_some();
        text += &look.line(2, if bad { Tone::Bad } else { Tone::Plain }, &objective_line(objective));
    }
    if route.arms.is_empty() {
        return text;
    }
    let total: u64 = route.arms.iter().map(|arm| u64::from(arm.weight)).sum();
    let rows: Vec<_> = route.arms.iter().map(|arm| row(arm, total)).collect();
    text += &table(look, 2, &COLUMNS, &rows);
    for (line, bad) in steering_text::lines(route).into_iter().chain(mirror_text::lines(route)) {
        text += &look.line(2, if bad { Tone::Bad } else { Tone::Plain }, &line);
    }
    text
}

fn row(arm: &wire::Arm, total: u64) -> (Tone, Vec<String>) {
    let or_dash = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let percent = |share: f64| format!("{:.2}%", share * 100.0);
    // Who set it: a person, or a rollout.
    let mark = match arm.source.as_str() {
        "operator" => "*",
        "rollout" => "~",
        _ => "",
    };
    #[expect(clippy::cast_precision_loss, reason = "weights are of 32 bits and arms are few")]
    let share = if total > 0 { percent(f64::from(arm.weight) / total as f64) } else { "-".to_owned() };
    let tone = match (arm.errors, arm.weight) {
        (1.., _) => Tone::Bad,
        (0, 0) => Tone::Dim,
        _ => Tone::Plain,
    };
    let cells = vec![
        clean(&arm.name),
        clean(&arm.upstream),
        format!("{}{mark}", arm.weight),
        share,
        arm.observed.map_or_else(|| "-".to_owned(), percent),
        arm.requests.to_string(),
        arm.errors.to_string(),
        or_dash(arm.p50_ms),
        or_dash(arm.p99_ms),
        arm.in_flight.to_string(),
    ];
    (tone, cells)
}

/// `slo availability 99.9%: 87.3% of the budget of 30d left  burns 1.2x over 1h`.
fn objective_line(objective: &wire::Objective) -> String {
    let mut text = format!(
        "slo {} {}%: {:.1}% of the budget of {} left",
        clean(&objective.objective),
        (objective.target * 1_000_000.0).round() / 10_000.0,
        objective.budget_remaining * 100.0,
        clean(&objective.window)
    );
    if let Some(hour) = objective.burn.iter().find(|burn| burn.window == "1h") {
        add(&mut text, format_args!("  burns {:.1}x over 1h", hour.rate));
    }
    if let Some(alarm) = &objective.alarm {
        add(&mut text, format_args!("  ALARM {}", clean(alarm)));
    }
    if objective.frozen {
        text.push_str("  no weight rises");
    }
    text
}

/// `active green, idle blue  VERIFYING 42 s more  3 in flight on blue: everything goes from blue to green`.
fn slots(pair: &wire::BlueGreen) -> String {
    let mut text = format!("active {}, idle {}", clean(&pair.active), clean(&pair.idle));
    if !pair.state.is_empty() && pair.state != "STEADY" {
        add(&mut text, format_args!("  {}", clean(&pair.state)));
    }
    if let Some(seconds) = pair.watched_for {
        add(&mut text, format_args!(" {:.0} s more", seconds.ceil()));
    }
    if let Some(count) = pair.draining {
        add(&mut text, format_args!("  {count} in flight on {}", clean(&pair.idle)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> wire::Status {
        let mut view = wire::Status { status: "ready".to_owned(), ..wire::Status::default() };
        view.config.last_reload.ok = true;
        view.state.detail = "ok".to_owned();
        view
    }

    fn routed() -> wire::Route {
        let arm = |name: &str, weight, errors| wire::Arm {
            name: name.to_owned(),
            upstream: "u".to_owned(),
            weight,
            source: "operator".to_owned(),
            observed: Some(0.0512),
            requests: 1234,
            errors,
            p50_ms: Some(1.25),
            ..wire::Arm::default()
        };
        wire::Route {
            name: "all\x1b[2J".to_owned(),
            generation: 7,
            arms: vec![arm("canary", 5, 3), arm("stable", 95, 0)],
            operator: Some(wire::ByHand {
                actor: "ann\x1b[2J".to_owned(),
                reason: "try it".to_owned(),
                at_millis: 1_800_000_000_000,
            }),
            ..wire::Route::default()
        }
    }

    #[test]
    fn a_status_is_a_table_that_obeys_no_name() {
        let text = status(&view(), &[routed()], Look::default());
        assert!(!text.contains('\x1b'), "{text:?}");
        let line = "canary  u             5*   5.00%     5.12%      1234       3     1.2       -          0";
        assert!(text.contains(line) && !text.contains("refused"), "{text}");
        let hand = "  weights set by hand since 2027-01-15T08:00:00Z by ann\u{fffd}[2J: \"try it\"\n";
        assert!(text.contains(hand), "{text}");
    }

    #[test]
    fn it_fits_80_columns_and_what_goes_first_is_what_can_be_spared() {
        let narrow = Look { columns: Some(80), ..Look::default() };
        let text = status(&view(), &[routed()], narrow);
        assert!(text.lines().all(|line| crate::cli::look::width(line) <= 80), "{text}");
        assert!(!text.contains("UPSTREAM") && text.contains("OBSERVED") && text.contains("P99 MS"), "{text}");
        assert!(!text.contains('\x1b'), "{text:?}");
        let painted = status(&view(), &[routed()], Look { colour: true, ..narrow });
        assert!(painted.contains("\x1b[31mcanary"), "an arm that fails is red: {painted:?}");
    }

    #[test]
    fn what_is_wrong_comes_first_and_what_the_numbers_are_of_last() {
        let mut view = view();
        view.listeners.push(wire::Listener { name: "web".to_owned(), ..wire::Listener::default() });
        view.all_out.push("api".to_owned());
        let text = status(&view, &[routed()], Look::default());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], "all endpoints of upstream api are out", "{text}");
        assert_eq!(lines.last(), Some(&LAST_MINUTE), "{text}");
        let answers = wire::Route { arms: Vec::new(), ..routed() };
        assert!(!status(&view, &[answers], Look::default()).contains("last minute"), "no numbers");
    }

    #[test]
    fn slots_say_what_the_idle_one_has_left() {
        let pair = |draining| wire::BlueGreen {
            active: "green".to_owned(),
            idle: "blue".to_owned(),
            state: "STEADY".to_owned(),
            draining,
            ..wire::BlueGreen::default()
        };
        let rows = [
            (None, "active green, idle blue"),
            (Some(0), "active green, idle blue  0 in flight on blue"),
            (Some(3), "active green, idle blue  3 in flight on blue"),
        ];
        for (draining, expected) in rows {
            assert_eq!(slots(&pair(draining)), expected);
        }
    }

    #[test]
    fn a_configuration_that_was_gone_back_to_is_told() {
        let mut view = view();
        view.config.path = "a.yaml".to_owned();
        view.config.rolled_back = Some(wire::RolledBack {
            to: 3,
            actor: "ann".to_owned(),
            reason: "checkout broke".to_owned(),
            at_millis: 1_800_000_000_000,
        });
        let text = status(&view, &[], Look::default());
        let line = "generation 3 again, since 2027-01-15T08:00:00Z by ann: \"checkout broke\"; a.yaml waits";
        assert!(text.contains(line), "{text}");
    }
}
