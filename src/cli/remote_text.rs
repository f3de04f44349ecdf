//! What remote verbs print for people.
//!
//! Pure: views in, text out. It must never print a control character that a name brought along.

use std::fmt::Write;

use crate::wire;

/// What a change of weights did.
pub(super) fn weights(route: &str, done: &wire::WeightsSet) -> String {
    let mut text = String::new();
    weight_lines(&mut text, route, &done.changed);
    add(&mut text, format_args!("generation {}\n", done.generation));
    text
}

/// What says the weights of a route that nobody's hand does.
pub(super) fn rules(route: &wire::Route) -> String {
    let guided = route.arms.iter().any(|arm| arm.source == "rollout");
    let name = clean(&route.name);
    match route.rollout.as_ref().filter(|_| guided && route.operator.is_none()) {
        Some(one) if matches!(one.state.as_str(), "PROMOTED" | "FINISHED") => {
            let (version, state) = (clean(&one.version), clean(&one.state));
            let back = if one.state == "PROMOTED" {
                format!("; back to {}: switchback rollout rollback {name}", clean(&one.from))
            } else {
                String::new()
            };
            format!("{name}: the rollout that was promoted rules again, {version} {state}{back}\n")
        }
        Some(one) => {
            format!("{name}: the rollout rules again, {} {}\n", clean(&one.version), clean(&one.state))
        }
        None if route.operator.is_none() => format!("{name}: the file rules again\n"),
        None => String::new(),
    }
}

/// What a flip did.
pub(super) fn flipped(route: &str, done: &wire::Flipped) -> String {
    let mut text = String::new();
    weight_lines(&mut text, route, &done.changed);
    let (active, idle, state) = (clean(&done.active), clean(&done.idle), clean(&done.state));
    add(&mut text, format_args!("{} active {active}, idle {idle}: {state}\n", clean(route)));
    if !done.text.is_empty() {
        let id = if done.id.is_empty() { String::new() } else { format!("{}: ", clean(&done.id)) };
        add(&mut text, format_args!("{id}{}\n", clean(&done.text)));
    }
    done.waiting_for.iter().for_each(|one| add(&mut text, format_args!("waits for: {}\n", clean(one))));
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
    let state = error.state.as_deref().map(|state| format!("state {}", clean(state)));
    let generation = error.generation.map(|generation| format!("generation {generation}"));
    let now: Vec<String> = state.into_iter().chain(generation).collect();
    if !now.is_empty() {
        add(&mut text, format_args!("\n  now: {}", now.join(", ")));
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

/// Milliseconds since the Unix epoch as RFC 3339, whole seconds.
pub(super) fn moment(millis: u64) -> String {
    let seconds = i64::try_from(millis / 1_000).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_says_what_rules_again() {
        let arm = |source: &str| wire::Arm { source: source.to_owned(), ..wire::Arm::default() };
        let rollout = |state: &str| wire::Rollout {
            version: "v2".to_owned(),
            state: state.to_owned(),
            from: "stable".to_owned(),
            ..wire::Rollout::default()
        };
        let hand = wire::ByHand::default();
        let rows = [
            ("file", None, None, "all: the file rules again\n"),
            (
                "rollout",
                Some("PROMOTED"),
                None,
                "all: the rollout that was promoted rules again, v2 PROMOTED; back to stable: switchback rollout rollback all\n",
            ),
            ("rollout", Some("REVERTED"), None, "all: the rollout rules again, v2 REVERTED\n"),
            ("file", Some("IDLE"), None, "all: the file rules again\n"),
            ("operator", Some("PROMOTED"), Some(hand), ""),
        ];
        for (source, state, operator, expected) in rows {
            let route = wire::Route {
                name: "all".to_owned(),
                arms: vec![arm(source)],
                rollout: state.map(rollout),
                operator,
                ..wire::Route::default()
            };
            assert_eq!(rules(&route), expected, "{source} {state:?}");
        }
    }

    #[test]
    fn a_refusal_says_how_it_is_now() {
        let error = wire::Error {
            message: "v2 is reverted\u{1b}".into(),
            hint: "say retry".into(),
            generation: Some(7),
            state: Some("REVERTED".into()),
            ..wire::Error::default()
        };
        assert_eq!(
            refusal(&error),
            "v2 is reverted\u{fffd} (say retry)\n  now: state REVERTED, generation 7"
        );
    }
}
