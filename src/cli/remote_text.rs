//! What remote verbs print for people.
//!
//! Pure: views in, text out. It must never print a control character that a name brought along.

use std::fmt::Write;

use super::{mirror_text, rollout_text, steering_text};
use crate::wire;

/// The process and its routes as a table.
pub(super) fn status(status: &wire::Status, routes: &[wire::Route], colour: bool) -> String {
    let paint = Paint(colour);
    let mut text = String::new();
    let state =
        if status.status == "ready" { paint.green(&status.status) } else { paint.red(&status.status) };
    let up = humantime::format_duration(std::time::Duration::from_secs(status.uptime_seconds));
    add(
        &mut text,
        format_args!(
            "switchback {}  {state}  generation {}  up {up}  {} workers\n",
            status.version, status.generation, status.workers
        ),
    );
    for listener in &status.listeners {
        let name = clean(&listener.name);
        add(
            &mut text,
            format_args!(
                "listening on {} ({name}), {} connections\n",
                listener.address, listener.connections
            ),
        );
    }
    let load = &status.config.last_reload;
    if !load.ok {
        let line = format!("{} is refused; the last good configuration serves", clean(&status.config.path));
        add(&mut text, format_args!("{}\n", paint.red(&line)));
        for finding in &load.diagnostics {
            add(&mut text, format_args!("  {}\n", clean(&finding.to_string())));
        }
    }
    if status.state.detail != "ok" {
        add(&mut text, format_args!("{}\n", paint.red(&clean(&status.state.detail))));
    }
    for route in routes {
        add(&mut text, format_args!("\n{}\n", self::route(route, paint)));
    }
    text
}

const COLUMNS: [&str; 9] =
    ["ARM", "UPSTREAM", "WEIGHT", "SHARE", "REQUESTS", "ERRORS", "P50 MS", "P99 MS", "IN FLIGHT"];

fn route(route: &wire::Route, paint: Paint) -> String {
    let mut text = format!("{}  generation {}", paint.bold(&clean(&route.name)), route.generation);
    if let Some(pair) = &route.blue_green {
        add(&mut text, format_args!("  {}", slots(pair)));
    }
    if let Some(rollout) = &route.rollout {
        let line = rollout_text::line(rollout).replace('\n', "\n  ");
        let bad = matches!(rollout.verdict.as_deref(), Some("harmful" | "suspect"));
        add(&mut text, format_args!("\n  {}", if bad { paint.red(&line) } else { line }));
    }
    for objective in &route.slo {
        let line = objective_line(objective);
        let bad = objective.frozen || objective.alarm.is_some();
        add(&mut text, format_args!("\n  {}", if bad { paint.red(&line) } else { line }));
    }
    if route.arms.is_empty() {
        text.push_str("  answers by itself");
        return text;
    }
    let rows: Vec<[String; 9]> = route.arms.iter().map(row).collect();
    let widths: Vec<usize> = COLUMNS
        .iter()
        .enumerate()
        .map(|(at, name)| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0).max(name.len()))
        .collect();
    let line = |cells: &[String]| -> String {
        let cells = cells.iter().zip(&widths).enumerate().map(|(at, (cell, width))| {
            // Names to the left, numbers to the right.
            if at < 2 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ")
    };
    let heads = COLUMNS.map(str::to_owned);
    add(&mut text, format_args!("\n  {}", paint.dim(&line(&heads))));
    for (arm, row) in route.arms.iter().zip(&rows) {
        let line = line(row);
        let line = if arm.errors > 0 { paint.red(&line) } else { line };
        add(&mut text, format_args!("\n  {line}"));
    }
    for (line, bad) in steering_text::lines(route).into_iter().chain(mirror_text::lines(route)) {
        add(&mut text, format_args!("\n  {}", if bad { paint.red(&line) } else { line }));
    }
    text
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

fn row(arm: &wire::Arm) -> [String; 9] {
    let or_dash = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let mark = match arm.source.as_str() {
        "operator" => "*",
        "rollout" => "~",
        _ => "",
    };
    [
        clean(&arm.name),
        clean(&arm.upstream),
        format!("{}{mark}", arm.weight),
        arm.observed.map_or_else(|| "-".to_owned(), |share| format!("{:.2}%", share * 100.0)),
        arm.requests.to_string(),
        arm.errors.to_string(),
        or_dash(arm.p50_ms),
        or_dash(arm.p99_ms),
        arm.in_flight.to_string(),
    ]
}

/// What a change of weights did.
pub(super) fn weights(route: &str, done: &wire::WeightsSet) -> String {
    let mut text = String::new();
    weight_lines(&mut text, route, &done.changed);
    add(&mut text, format_args!("generation {}\n", done.generation));
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
    if !pair.reason.is_empty() {
        add(&mut text, format_args!("\n  {}", clean(&pair.reason)));
    }
    text
}

/// What a flip did.
pub(super) fn flipped(route: &str, done: &wire::Flipped) -> String {
    let mut text = String::new();
    weight_lines(&mut text, route, &done.changed);
    let (active, idle, state) = (clean(&done.active), clean(&done.idle), clean(&done.state));
    add(&mut text, format_args!("{} active {active}, idle {idle}: {state}\n", clean(route)));
    add(&mut text, format_args!("generation {}\n", done.generation));
    text
}

/// Weights that changed, a line each.
pub(super) fn weight_lines(text: &mut String, route: &str, changed: &[wire::Changed]) {
    let route = clean(route);
    for one in changed {
        add(text, format_args!("{route} {}: {} -> {}\n", clean(&one.arm), one.before, one.after));
    }
    if changed.is_empty() {
        add(text, format_args!("{route}: no weight changed\n"));
    }
}

/// What a reload did, or would do.
pub(super) fn reload(done: &wire::Reloaded) -> String {
    let mut text = String::new();
    for change in &done.changed {
        let route =
            if change.route.is_empty() { String::new() } else { format!("{}: ", clean(&change.route)) };
        let moved = if change.moved_percent > 0.0 {
            format!(" (moves {:.2}% of sticky users)", change.moved_percent)
        } else {
            String::new()
        };
        add(&mut text, format_args!("{route}{}{moved}\n", clean(&change.text)));
    }
    if done.changed.is_empty() {
        text.push_str("nothing changed\n");
    }
    for warning in &done.warnings {
        add(&mut text, format_args!("{}\n", clean(&warning.to_string())));
    }
    let dry = if done.dry_run { " (dry run: nothing was applied)" } else { "" };
    add(&mut text, format_args!("generation {}{dry}\n", done.generation));
    text
}

/// What would happen to a request.
pub(super) fn explained(told: &wire::Explained) -> String {
    let mut text = format!("{}\n", clean(&told.text));
    let rows = [
        ("route", told.route.as_deref().unwrap_or("")),
        ("arm", told.arm.as_deref().unwrap_or("")),
        ("upstream", told.upstream.as_deref().unwrap_or("")),
        ("reason", &told.reason),
        ("rule", &told.rule),
    ];
    for (name, value) in rows.into_iter().filter(|(_, value)| !value.is_empty()) {
        add(&mut text, format_args!("{name:<9} {}\n", clean(value)));
    }
    if let Some(bucket) = told.bucket {
        add(&mut text, format_args!("bucket    {bucket}\n"));
    }
    for range in &told.ranges {
        add(&mut text, format_args!("range     {}..={} {}\n", range.from, range.to, clean(&range.arm)));
    }
    add(&mut text, format_args!("generation {}\n", told.generation));
    text
}

/// A refusal with everything found.
pub(super) fn refusal(error: &wire::Error) -> String {
    let mut text = clean(&error.message);
    if !error.hint.is_empty() {
        add(&mut text, format_args!(" ({})", clean(&error.hint)));
    }
    for finding in &error.diagnostics {
        add(&mut text, format_args!("\n  {}", clean(&finding.to_string())));
    }
    if let Some(generation) = error.generation {
        add(&mut text, format_args!("\ngeneration {generation}"));
    }
    text
}

pub(super) fn add(text: &mut String, more: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = text.write_fmt(more);
}

/// Names come from configuration files; a terminal must not obey them.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|one| if one.is_control() { '\u{fffd}' } else { one }).collect()
}

/// Colours, or none.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
    fn bold(self, text: &str) -> String {
        self.with("1", text)
    }
    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
    fn green(self, text: &str) -> String {
        self.with("32", text)
    }
    fn red(self, text: &str) -> String {
        self.with("31", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_a_table_that_obeys_no_name() {
        let arm = |name: &str, errors| wire::Arm {
            name: name.to_owned(),
            upstream: "u".to_owned(),
            weight: 5,
            source: "operator".to_owned(),
            observed: Some(0.0512),
            requests: 1234,
            errors,
            p50_ms: Some(1.25),
            ..wire::Arm::default()
        };
        let route = wire::Route {
            name: "all\x1b[2J".to_owned(),
            generation: 7,
            arms: vec![arm("canary", 3), arm("stable", 0)],
            ..wire::Route::default()
        };
        let mut view = wire::Status { status: "ready".to_owned(), ..wire::Status::default() };
        view.config.last_reload.ok = true;
        view.state.detail = "ok".to_owned();
        let text = status(&view, &[route], false);
        assert!(!text.contains('\x1b'), "{text:?}");
        let line = "canary  u             5*  5.12%      1234       3     1.2       -          0";
        assert!(text.contains(line) && !text.contains("refused"), "{text}");
    }
}
