//! What `rollout plan` prints.
//!
//! Pure: views in, text out. It must never advise what the proxy did not.

use super::look::{Column, Look, Tone, table};
use super::remote_text::{add, clean};
use super::rollout_text::{short, span};
use crate::wire;

const fn right(head: &'static str, spare: u8) -> Column {
    Column { head, right: true, spare }
}

const COLUMNS: [Column; 7] = [
    right("STEP", 0),
    right("WEIGHT", 0),
    right("DWELL", 1),
    right("REQUESTS", 2),
    right("MUST SEE", 0),
    right("SEES", 0),
    Column { head: "TAKES", right: false, spare: 0 },
];

/// What each step takes.
pub(super) fn plan(route: &str, plan: &wire::RolloutPlan, look: Look) -> String {
    let mut text = format!(
        "{} {}: {}, {} requests/s, confidence {}{}\n",
        clean(route),
        clean(&plan.version),
        clean(&plan.state),
        short(plan.rate),
        clean(&plan.confidence),
        if plan.auto { " (chosen by traffic)" } else { "" },
    );
    let rows: Vec<_> = plan.steps.iter().enumerate().map(|(at, step)| row(plan, at, step)).collect();
    text += &table(look, 2, &COLUMNS, &rows);
    text += &look.line(0, Tone::Plain, &total(plan));
    let deadline = plan.step_deadline_seconds;
    for (at, step) in plan.steps.iter().enumerate().skip(plan.first_step) {
        if step.seconds.is_some_and(|seconds| seconds > deadline) {
            let line = format!(
                "step {} takes longer than its deadline of {}: a larger weight or a lower confidence would fit",
                at + 1,
                span(deadline)
            );
            text += &look.line(0, Tone::Wary, &line);
        }
    }
    if let Some(crowded) = &plan.crowded {
        text += &look.line(0, Tone::Wary, &crowd(crowded));
    }
    if let Some(better) = &plan.better {
        text += &self::better(better, look);
    }
    text
}

fn row(plan: &wire::RolloutPlan, at: usize, step: &wire::PlannedStep) -> (Tone, Vec<String>) {
    let here = at == plan.step as usize && plan.state != "IDLE";
    let left_out = at < plan.first_step;
    let ratio =
        |ratio: Option<f64>| ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{}x", short(ratio)));
    let takes = if left_out {
        "left out".to_owned()
    } else {
        step.seconds.map_or_else(|| "?".to_owned(), span) + if step.pause { ", then waits" } else { "" }
    };
    let tone = match (left_out, here) {
        (true, _) => Tone::Dim,
        (_, true) => Tone::Bold,
        _ => Tone::Plain,
    };
    let cells = vec![
        format!("{}{}", if here { ">" } else { "" }, at + 1),
        format!("{}%", short(step.weight)),
        span(step.dwell_seconds),
        step.min_requests.to_string(),
        ratio(step.detectable_target),
        ratio(step.sees),
        takes,
    ];
    (tone, cells)
}

fn total(plan: &wire::RolloutPlan) -> String {
    let mut text = match plan.total_seconds {
        Some(total) => format!("about {} in all", span(total)),
        None => "no traffic is counted yet: how long it takes cannot be said".to_owned(),
    };
    let others = plan.alternatives.iter().filter(|(name, _)| **name != plan.confidence);
    let others: Vec<String> =
        others.filter_map(|(name, total)| Some(format!("{} {}", clean(name), span((*total)?)))).collect();
    if !others.is_empty() {
        add(&mut text, format_args!(" (with another confidence: {})", others.join(", ")));
    }
    text
}

/// `step 3 (50%) gives each of the canary's 1 endpoints 400 requests/s, one of stable's carries 200 …`.
fn crowd(crowded: &wire::Crowded) -> String {
    let wire::Crowded { step, weight, endpoints, needed, each, carried } = crowded;
    let whose = if *endpoints == 1 { "the canary's only endpoint" } else { "each endpoint of the canary" };
    let load = if *each > 0.0 {
        format!("{} requests/s, where one of stable's carries {}", short(*each), short(*carried))
    } else {
        "more than one of stable's carries".to_owned()
    };
    format!(
        "step {} ({}%) gives {whose} {load}: give it {needed}, or expect to measure its overload",
        step + 1,
        short(*weight)
    )
}

fn better(better: &wire::BetterSteps, look: Look) -> String {
    let percents = |steps: &[f64]| steps.iter().map(|one| short(*one)).collect::<Vec<_>>().join(", ");
    let line =
        format!("better: steps: [{}], about {} in all", percents(&better.steps), span(better.total_seconds));
    let mut text = look.line(0, Tone::Good, &line);
    for change in &better.changes {
        let weight = short(change.weight);
        let why = match (&*change.change, change.to, change.seconds) {
            ("adds-nothing", Some(to), _) => {
                format!("without {weight}%: it shows no more than {}% did", short(to))
            }
            ("too-long", _, Some(seconds)) => format!("without {weight}%: it takes {}", span(seconds)),
            ("too-long", ..) => format!("without {weight}%: it never ends"),
            _ => format!("with {weight}%, the smallest that fits"),
        };
        text += &look.line(2, Tone::Plain, &why);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_a_table_with_what_does_not_fit() {
        let step = |weight, target: Option<f64>, seconds| wire::PlannedStep {
            weight,
            sees: target.map(|target| target / 2.0),
            dwell_seconds: 60.0,
            detectable_target: target,
            min_requests: 100,
            seconds,
            ..wire::PlannedStep::default()
        };
        let view = wire::RolloutPlan {
            version: "v2".to_owned(),
            state: "STAGE".to_owned(),
            rate: 9.96,
            confidence: "normal".to_owned(),
            auto: true,
            steps: vec![step(1.0, Some(50.0), Some(4_000.0)), step(100.0, None, Some(600.0))],
            total_seconds: Some(4_600.0),
            step_deadline_seconds: 1_800.0,
            alternatives: [("low".to_owned(), Some(660.0)), ("normal".to_owned(), None)].into(),
            ..wire::RolloutPlan::default()
        };
        let told = plan("all", &view, Look::default());
        for part in [
            "all v2: STAGE, 9.96 requests/s, confidence normal (chosen by traffic)\n",
            "    >1      1%     1m       100       50x   25x  1h 6m 40s\n",
            "about 1h 16m 40s in all (with another confidence: low 11m)\n",
            "step 1 takes longer than its deadline of 30m",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
        let later = plan("all", &wire::RolloutPlan { first_step: 1, ..view.clone() }, Look::default());
        assert!(later.contains("50x   25x  left out\n") && !later.contains("takes longer"), "{later}");
    }

    #[test]
    fn a_better_list_and_too_few_endpoints_are_told() {
        let change = |weight, change: &str, seconds, to| wire::StepChange {
            weight,
            change: change.to_owned(),
            seconds,
            to,
        };
        let view = wire::RolloutPlan {
            better: Some(wire::BetterSteps {
                steps: vec![5.0, 25.0, 100.0],
                total_seconds: 660.0,
                changes: vec![
                    change(0.1, "too-long", Some(200_000.0), None),
                    change(6.0, "adds-nothing", None, Some(5.0)),
                ],
            }),
            crowded: Some(wire::Crowded {
                step: 2,
                weight: 50.0,
                endpoints: 1,
                needed: 2,
                each: 400.0,
                carried: 200.0,
            }),
            ..wire::RolloutPlan::default()
        };
        let told = plan("all", &view, Look::default());
        for part in [
            "better: steps: [5, 25, 100], about 11m in all\n",
            "  without 0.1%: it takes 2days 7h 33m 20s\n",
            "  without 6%: it shows no more than 5% did\n",
            "step 3 (50%) gives the canary's only endpoint 400 requests/s, where one of stable's carries 200: \
             give it 2",
        ] {
            assert!(told.contains(part), "{part:?} is not in\n{told}");
        }
    }
}
