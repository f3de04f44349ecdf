//! How `status` draws a rollout: where it is on its way, what is known, what it waits for.
//!
//! Pure: views in, text out. It must never say more of the evidence than the proxy does.

use super::look::{Look, Tone};
use super::remote_text::{add, clean};
use super::rollout_text::{against, failing, headline, not_judged, short, span};
use crate::wire;

/// The rollout of a route, a line each.
pub(super) fn rollout(rollout: &wire::Rollout, look: Look) -> String {
    let tone = tone(rollout);
    let mut text = look.line(2, tone, &headline(rollout));
    if !rollout.steps.is_empty() {
        text.extend(["    ", &steps(rollout, look), "\n"]);
    }
    text += &evidence(rollout, look);
    if let Some(wire::Samples { stable, canary }) = rollout.samples {
        let mut seen =
            format!("seen: canary {} bad of {}, stable {} of {}", canary.e, canary.n, stable.e, stable.n);
        if let Some(ratio) = rollout.detectable_ratio {
            add(&mut seen, format_args!("; {}x stable's failures would show by now", short(ratio)));
        }
        text += &look.line(4, Tone::Plain, &seen);
    }
    if !rollout.waiting_for.is_empty() {
        let about = rollout.eta.map_or_else(String::new, |eta| format!(", about {}", span(eta)));
        let waits = format!("waits for {}{about}", clean(&rollout.waiting_for.join(", ")));
        text += &look.line(4, Tone::Plain, &waits);
    } else if let Some(eta) = rollout.eta.filter(|eta| *eta >= 1.0 && rollout.state == "STAGE") {
        text += &look.line(4, Tone::Plain, &format!("next step in about {}", span(eta)));
    }
    if !rollout.reason.is_empty() {
        text += &look.line(4, tone, &clean(&rollout.reason));
    }
    for check in &rollout.checks {
        let (line, bad) = self::check(check);
        text += &look.line(4, if bad { Tone::Bad } else { Tone::Plain }, &line);
    }
    for one in rollout.failing.iter().filter(|one| one.arm != "stable") {
        text += &look.line(4, Tone::Bad, &format!("canary fails: {}", failing(one)));
    }
    text
}

fn tone(rollout: &wire::Rollout) -> Tone {
    match (&*rollout.state, rollout.verdict.as_deref()) {
        ("REVERTING" | "REVERTED" | "ABORTED", _) | (_, Some("harmful" | "suspect")) => Tone::Bad,
        ("HOLD" | "PAUSED", _) => Tone::Wary,
        ("PROMOTED" | "FINISHED", _) => Tone::Good,
        _ => Tone::Plain,
    }
}

/// `✔ 5% ── ▶ 25% ── 50% ── 100%`: what is passed, where it is, what is ahead.
fn steps(rollout: &wire::Rollout, look: Look) -> String {
    let (passed, here, line) = if look.ascii { ("+", ">", "--") } else { ("✔", "▶", "──") };
    let at = rollout.step as usize;
    let over = matches!(&*rollout.state, "PROMOTED" | "FINISHED");
    let live = matches!(&*rollout.state, "STAGE" | "HOLD" | "PAUSED" | "BAKE");
    let steps = rollout.steps.iter().enumerate().map(|(step, weight)| {
        let weight = format!("{}%", short(*weight));
        if over || live && step < at {
            look.paint(Tone::Good, &format!("{passed} {weight}"))
        } else if live && step == at {
            look.paint(Tone::Bold, &format!("{here} {weight}"))
        } else {
            look.paint(Tone::Dim, &weight)
        }
    });
    let line = look.paint(Tone::Dim, line);
    steps.collect::<Vec<_>>().join(&format!(" {line} "))
}

/// What speaks against it, and how far that is from convicting it.
fn evidence(rollout: &wire::Rollout, look: Look) -> String {
    let Some(evidence) = rollout.evidence.as_ref().filter(|evidence| evidence.threshold > 0.0) else {
        return String::new();
    };
    let part = evidence.log.unwrap_or(0.0) / evidence.threshold;
    let tone = match part {
        part if part >= 1.0 => Tone::Bad,
        part if part >= 0.5 => Tone::Wary,
        _ => Tone::Good,
    };
    let mut text = format!("    evidence {} {}\n", look.bar(part, tone), against(evidence));
    if let Some(quiet) = not_judged(evidence) {
        text += &look.line(4, Tone::Plain, &quiet);
    }
    text
}

/// `check latency: 0.3, fine`.
fn check(check: &wire::Check) -> (String, bool) {
    let value = check.value.map_or_else(|| "no value yet".to_owned(), short);
    let why = if check.why.is_empty() { String::new() } else { format!(": {}", clean(&check.why)) };
    let line = format!("check {}: {value}, {}{why}", clean(&check.name), clean(&check.state));
    (line, matches!(&*check.state, "silent" | "failing"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staged() -> wire::Rollout {
        wire::Rollout {
            version: "v2\x1b[2J".to_owned(),
            reason: "it needs more".to_owned(),
            rule: None,
            evidence: Some(wire::Evidence { log: Some(3.454), threshold: 6.908, ..Default::default() }),
            duration_seconds: 242.0,
            ..crate::cli::rollout_text::tests::rollout()
        }
    }

    #[test]
    fn a_rollout_is_a_track_a_bar_and_what_it_waits_for() {
        let told = rollout(&staged(), Look { ascii: true, ..Look::default() });
        assert_eq!(
            told,
            "  rollout v2\u{fffd}[2J: HOLD  step 2 of 3  weight 25%  undecided  since 4m 2s\n    \
             + 5% -- > 25% -- 100%\n    evidence ##########.......... E 31.63 of 1000.24\n    \
             seen: canary 0 bad of 50, stable 1 of 300; 12x stable's failures would show by now\n    \
             waits for 50 more canary requests, about 1m 30s\n    it needs more\n"
        );
    }

    #[test]
    fn what_is_not_judged_is_named_beside_the_evidence() {
        let quiet = vec!["latencyP50".to_owned(), "latencyP90".to_owned()];
        let evidence = staged().evidence.map(|one| wire::Evidence { not_judged: quiet, ..one });
        let told = rollout(&wire::Rollout { evidence, ..staged() }, Look { ascii: true, ..Look::default() });
        let lines = "E 31.63 of 1000.24\n    latencyP50, latencyP90: below 1 ms, not judged\n";
        assert!(told.contains(lines), "{told}");
    }

    #[test]
    fn a_promoted_one_has_passed_every_step_and_a_reverted_one_stands_nowhere() {
        let look = Look::default();
        let promoted = wire::Rollout { state: "PROMOTED".to_owned(), ..staged() };
        assert!(rollout(&promoted, look).contains("✔ 5% ── ✔ 25% ── ✔ 100%"));
        let promoted = wire::Rollout { ended_seconds: Some(7_200.0), ..promoted };
        assert!(rollout(&promoted, look).contains("  since 2h\n"), "the end counts");
        let reverted = wire::Rollout { state: "REVERTED".to_owned(), ..staged() };
        assert!(rollout(&reverted, look).contains("\n    5% ── 25% ── 100%\n"));
    }
}
