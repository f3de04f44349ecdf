//! What verbs about rollouts print for people and for a pipeline's summary.
//!
//! Pure: views in, text out. It must never print a control character that a name brought along.

use std::time::Duration;

use super::remote_text::{add, clean, weight_lines};
use crate::wire;

/// What a verb did.
pub(super) fn moved(route: &str, verb: &str, done: &wire::RolloutMoved) -> String {
    let mut text = format!("{} {}: {}\n", clean(route), clean(&done.version), clean(&done.state));
    if verb == "finish" && done.changed.is_empty() {
        let line = "walks back to the arm that it came from by the same steps";
        add(&mut text, format_args!("{}: {line}\n", clean(route)));
    } else {
        weight_lines(&mut text, route, &done.changed);
    }
    add(&mut text, format_args!("generation {}\n", done.generation));
    text
}

/// The first line of a rollout in a status, without the route's name.
pub(super) fn headline(rollout: &wire::Rollout) -> String {
    let mut text = format!("rollout {}: {}", clean(&rollout.version), clean(&rollout.state));
    if let Some(back) = back(rollout) {
        add(&mut text, format_args!("  {back}"));
    }
    if rollout.state != "IDLE" && !rollout.steps.is_empty() {
        add(&mut text, format_args!("  step {} of {}", rollout.step + 1, rollout.steps.len()));
    }
    if let Some(share) = rollout.share {
        add(&mut text, format_args!("  weight {}%", short(share * 100.0)));
    }
    if let Some(verdict) = &rollout.verdict {
        add(&mut text, format_args!("  {}", clean(verdict)));
        if let Some(rule) = rollout.rule.as_deref().filter(|rule| *rule != "none") {
            add(&mut text, format_args!(" ({})", clean(rule)));
        }
    }
    // Of one that ended the end counts, and not how long it took.
    let since = rollout.ended_seconds.unwrap_or(rollout.duration_seconds);
    if since >= 1.0 {
        add(&mut text, format_args!("  since {}", span(since)));
    }
    text
}

/// Which way it goes, when that is back.
fn back(rollout: &wire::Rollout) -> Option<String> {
    rollout.back.then(|| {
        if rollout.state == "FINISHED" {
            format!("back on {}", clean(&rollout.from))
        } else {
            format!("walking back to {}, step by step", clean(&rollout.from))
        }
    })
}

/// How a rollout ended, or stands, with the evidence.
pub(super) fn verdict(route: &str, rollout: &wire::Rollout, word: &str) -> String {
    let mut text = format!("{} {}: {}\n", clean(route), clean(&rollout.version), clean(word));
    for (name, value) in rows(rollout) {
        add(&mut text, format_args!("{name:<12} {value}\n"));
    }
    text
}

/// The same as Markdown.
pub(super) fn markdown(route: &str, rollout: &wire::Rollout, word: &str) -> String {
    let mut text =
        format!("### {} {}: {}\n\n| | |\n|---|---|\n", cell(route), cell(&rollout.version), cell(word));
    for (name, value) in rows(rollout) {
        add(&mut text, format_args!("| {name} | {} |\n", cell(&value)));
    }
    text
}

/// A text as a table's cell of Markdown holds it.
pub(super) fn cell(text: &str) -> String {
    clean(text).replace('\\', "\\\\").replace('|', "\\|").replace('<', "&lt;")
}

/// One kind of failing request.
pub(super) fn failing(one: &wire::Failing) -> String {
    let from = if one.endpoint.is_empty() { String::new() } else { format!(" from {}", one.endpoint) };
    let ids = one.request_ids.join(" ");
    clean(&format!("{}: {}{from}, {} ({ids})", asked(one), what(one), times(one.count)))
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// Method and match; a match that asks for a method names it.
pub(super) fn asked(one: &wire::Failing) -> String {
    let named = one.rule.starts_with(&format!("{} ", one.method));
    if named { one.rule.clone() } else { format!("{} {}", one.method, one.rule) }
}

/// What came instead of an answer.
pub(super) fn what(one: &wire::Failing) -> String {
    one.status.map(|status| status.to_string()).or_else(|| one.cause.clone()).unwrap_or_default()
}

fn rows(rollout: &wire::Rollout) -> Vec<(&'static str, String)> {
    let mut rows = vec![("state", clean(&rollout.state)), ("reason", clean(&rollout.reason))];
    rows.extend(back(rollout).map(|back| ("direction", back)));
    if let Some(share) = rollout.share {
        rows.push(("weight", format!("{}%", short(share * 100.0))));
    }
    if let Some(verdict) = &rollout.verdict {
        rows.push(("verdict", clean(verdict)));
    }
    if let Some(rule) = rollout.rule.as_ref().filter(|rule| *rule != "none") {
        rows.push(("rule", clean(rule)));
    }
    if let Some(evidence) = rollout.evidence.as_ref().filter(|evidence| evidence.threshold > 0.0) {
        rows.push(("evidence", against(evidence)));
        rows.extend(not_judged(evidence).map(|quiet| ("not judged", quiet)));
    }
    if let Some(wire::Samples { stable, canary }) = rollout.samples {
        let seen = |seen: wire::Seen| format!("{} bad of {} requests", seen.e, seen.n);
        rows.push(("canary", seen(canary)));
        rows.push(("stable", seen(stable)));
    }
    for one in &rollout.failing {
        rows.push((if one.arm == "stable" { "stable fails" } else { "canary fails" }, failing(one)));
    }
    if let Some(ratio) = rollout.detectable_ratio {
        rows.push(("detectable", format!("{} times stable's failures", short(ratio))));
    }
    if !rollout.waiting_for.is_empty() {
        rows.push(("waits for", clean(&rollout.waiting_for.join(", "))));
    }
    if let Some(eta) = rollout.eta {
        rows.push(("about", span(eta)));
    }
    rows.retain(|(_, value)| !value.is_empty());
    rows
}

/// Decisions, one block each.
pub(super) fn history(records: &[wire::Record]) -> String {
    let mut text = String::new();
    for one in records {
        let version =
            if one.version.is_empty() { String::new() } else { format!(" {}", clean(&one.version)) };
        add(
            &mut text,
            format_args!(
                "{}  {}  {}{version}  {} -> {}  {}  by {}\n",
                clean(&one.at),
                clean(&one.id),
                clean(&one.route),
                clean(&one.from),
                clean(&one.to),
                moved_by(one),
                clean(&one.actor)
            ),
        );
        if !one.reason.is_empty() {
            add(&mut text, format_args!("  {}\n", clean(&one.reason)));
        }
        if let (Some(known), Some(wire::Samples { stable, canary })) = (&one.evidence, one.samples) {
            let evidence =
                wire::Evidence { log: known.log, threshold: known.threshold, ..wire::Evidence::default() };
            let rule =
                if known.rule == "none" { String::new() } else { format!(" by {}", clean(&known.rule)) };
            let weighed =
                if known.threshold > 0.0 { format!(", {}", against(&evidence)) } else { String::new() };
            add(
                &mut text,
                format_args!(
                    "  {}{rule}{weighed}; canary {} bad of {}, stable {} of {}\n",
                    clean(&known.verdict),
                    canary.e,
                    canary.n,
                    stable.e,
                    stable.n
                ),
            );
        }
        for kind in &one.failing {
            add(&mut text, format_args!("  {} fails: {}\n", clean(&kind.arm), failing(kind)));
        }
        for (key, value) in &one.annotations {
            add(&mut text, format_args!("  {}: {}\n", clean(key), clean(value)));
        }
    }
    if records.is_empty() {
        text.push_str("nothing was decided yet\n");
    }
    text
}

/// How well the versions of a route come out, in a line.
pub(super) fn dora(route: &str, dora: &wire::Dora) -> String {
    let rate = dora.change_failure_rate.map_or_else(
        || "no version ended yet".to_owned(),
        |rate| {
            let ended = dora.promoted + dora.put_back;
            format!("{}% of {ended} put back or stopped", short(rate * 100.0))
        },
    );
    let recovery = dora
        .median_recovery_seconds
        .map_or_else(|| "-".to_owned(), |seconds| format!("{} s", short(seconds)));
    let week = short(dora.deployments_per_week);
    format!(
        "DORA {}: {week} versions promoted a week, {rate}, median time to recover {recovery}\n",
        clean(route)
    )
}

/// What a decision moved: every arm where each was told, else the canary's percent.
fn moved_by(one: &wire::Record) -> String {
    let Some(wire::Shifted { before, after }) = &one.weights else {
        // What has no version is no rollout, and has no canary.
        let nothing = one.version.is_empty() && one.before.is_none() && one.after.is_none();
        return if nothing { "no weight".to_owned() } else { change(one.before, one.after) };
    };
    let arms = |weights: &std::collections::BTreeMap<String, u32>| {
        let arms = weights.iter().map(|(arm, weight)| format!("{} {weight}", clean(arm)));
        arms.collect::<Vec<_>>().join(", ")
    };
    if before == after {
        format!("stays {}", arms(after))
    } else {
        format!("{} -> {}", arms(before), arms(after))
    }
}

/// The canary's percent before and after.
pub(super) fn change(before: Option<f64>, after: Option<f64>) -> String {
    format!("{} -> {}", weight(before), weight(after))
}

fn weight(percent: Option<f64>) -> String {
    percent.map_or_else(|| "file".to_owned(), |percent| format!("{}%", short(percent)))
}

/// Evidence as people compare it: how many times likelier, and from where on it convicts.
pub(super) fn against(evidence: &wire::Evidence) -> String {
    let plain = |log: f64| {
        let value = log.exp();
        if value < 1e6 { short(value) } else { format!("10^{:.0}", log / std::f64::consts::LN_10) }
    };
    let now = evidence.log.map_or_else(|| "0".to_owned(), plain);
    format!("E {now} of {}", plain(evidence.threshold))
}

/// Metrics that speak against it and are left out of what is compared with the threshold.
pub(super) fn not_judged(evidence: &wire::Evidence) -> Option<String> {
    let named = !evidence.not_judged.is_empty();
    named.then(|| format!("{}: below 1 ms, not judged", clean(&evidence.not_judged.join(", "))))
}

/// At most two digits after the point, none that say nothing.
pub(super) fn short(number: f64) -> String {
    let text = format!("{number:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Seconds as people say them; below a minute with nothing after the point.
pub(super) fn span(seconds: f64) -> String {
    let whole = Duration::try_from_secs_f64(seconds.max(0.0).round()).unwrap_or(Duration::MAX);
    humantime::format_duration(whole).to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// On hold at its second step.
    pub fn rollout() -> wire::Rollout {
        wire::Rollout {
            version: "v2".to_owned(),
            state: "HOLD".to_owned(),
            step: 1,
            steps: vec![5.0, 25.0, 100.0],
            reason: "it needs 50 more canary requests".to_owned(),
            verdict: Some("undecided".to_owned()),
            rule: Some("none".to_owned()),
            evidence: Some(wire::Evidence { log: Some(0.693), threshold: 6.908, ..Default::default() }),
            detectable_ratio: Some(12.0),
            waiting_for: vec!["50 more canary requests".to_owned()],
            eta: Some(90.2),
            share: Some(0.25),
            samples: Some(wire::Samples {
                stable: wire::Seen { n: 300, e: 1 },
                canary: wire::Seen { n: 50, e: 0 },
            }),
            ..wire::Rollout::default()
        }
    }

    #[test]
    fn a_headline_says_state_step_weight_and_verdict() {
        assert_eq!(headline(&rollout()), "rollout v2: HOLD  step 2 of 3  weight 25%  undecided");
        let sure = wire::Evidence { log: Some(60.0), threshold: 6.908, ..Default::default() };
        assert_eq!(against(&sure), "E 10^26 of 1000.24");
    }

    #[test]
    fn a_walk_back_is_no_climb_and_a_limit_has_no_evidence() {
        let back = wire::Rollout { back: true, from: "stable".to_owned(), ..rollout() };
        let told = headline(&back);
        assert!(told.starts_with("rollout v2: HOLD  walking back to stable, step by step"), "{told}");
        assert!(verdict("all", &back, "HOLD").contains("direction    walking back to stable"));
        assert!(!headline(&rollout()).contains("walking"));
        let limit = wire::Rollout { evidence: Some(wire::Evidence::default()), ..rollout() };
        assert!(!verdict("all", &limit, "HOLD").contains("E 0"));
    }

    #[test]
    fn the_end_is_told_with_its_evidence_and_obeys_no_name() {
        let told = verdict("all\x1b[2J", &rollout(), "REVERTED");
        for part in ["all\u{fffd}[2J v2: REVERTED\n", "canary       0 bad of 50", "stable       1 bad of 300"]
        {
            assert!(told.contains(part), "{part} is not in\n{told}");
        }
        let evil = wire::Rollout { reason: "a | b <script>".to_owned(), ..rollout() };
        let table = markdown("all", &evil, "REVERTED");
        assert!(table.starts_with("### all v2: REVERTED\n\n| | |\n|---|---|\n| state | HOLD |\n"), "{table}");
        assert!(table.contains("| reason | a \\| b &lt;script> |\n"), "{table}");
    }
}
