//! A written `rollout` block to a policy, or every reason why it cannot decide.
//!
//! It must never let a policy through that can only ever wait or only ever revert, and never stop
//! at the first finding.

mod asked;
mod judged;
mod windows;

pub use windows::unknown_zones;

use std::time::Duration;

use super::mixture::MAX_STEPS;
use super::policy::{Conduct, Policy, Preset, Step};
use super::thresholds::Limits;
use crate::model::{Diagnostic, Place};
use crate::spec::Spot;
use crate::spec::parse::guess;
use crate::spec::rollout::{Confidence, Rollout, Thresholds};
use crate::spec::route::Route;
use crate::spec::scalar::Span;

/// Longest name of a version in bytes: it is a metric label, part of a salt and of every record.
const LONGEST_VERSION: usize = 128;

impl Policy {
    /// The policy of a route's `rollout` block, read from `file`.
    ///
    /// # Errors
    /// Every finding: what is missing, and what could never decide.
    pub fn compile(route: &Route, file: &str) -> Result<Self, Vec<Diagnostic>> {
        let block = route.rollout.as_ref().map_or_else(|| route.name.with(()), |block| block.with(()));
        let mut findings = Findings { file, block, found: Vec::new() };
        let Some(written) = &route.rollout else {
            let message = format!("route `{}` has no rollout", *route.name);
            findings.error(
                &route.name,
                "no-rollout",
                message,
                "add `rollout: { version: v2, steps: [5, 50, 100] }`",
            );
            return Err(findings.found);
        };
        let policy = findings.policy(route, written);
        if findings.found.is_empty() { Ok(policy) } else { Err(findings.found) }
    }

    /// The fixed limits of a verification that lasts `span`, read from `file`; `None` without any.
    ///
    /// # Errors
    /// Every finding: what could never be harmful, or always is.
    pub fn verification(
        written: &Spot<Thresholds>,
        span: Duration,
        file: &str,
    ) -> Result<Option<Limits>, Vec<Diagnostic>> {
        let mut findings = Findings { file, block: written.with(()), found: Vec::new() };
        let limits = findings.verification(written, span.as_secs());
        if findings.found.is_empty() { Ok(limits) } else { Err(findings.found) }
    }
}

/// Collects what is wrong with one block.
struct Findings<'a> {
    file: &'a str,
    /// Where a value is that nobody wrote.
    block: Spot<()>,
    found: Vec<Diagnostic>,
}

impl Findings<'_> {
    fn error<T>(&mut self, spot: &Spot<T>, code: &'static str, message: impl Into<String>, hint: &str) {
        let spot = if spot.line > 0 { spot.with(()) } else { self.block };
        let place =
            Place { file: self.file.into(), line: spot.line, column: spot.column, length: spot.length };
        self.found.push(Diagnostic::error(code, message).at(place).hint(hint));
    }

    fn unless<T>(&mut self, fine: bool, spot: &Spot<T>, code: &'static str, message: &str, hint: &str) {
        if !fine {
            self.error(spot, code, message, hint);
        }
    }

    fn policy(&mut self, route: &Route, spot: &Spot<Rollout>) -> Policy {
        let written = &spot.value;
        let analysis = &written.analysis;
        let version = written.version.as_ref().map(|version| version.trim().to_owned()).unwrap_or_default();
        let place = written.version.as_ref().map_or_else(|| spot.with(()), |version| version.with(()));
        self.unless(
            !version.is_empty(),
            &place,
            "missing-key",
            "a rollout has no version",
            "add `version: v2`",
        );
        let fine = version.len() <= LONGEST_VERSION && !version.chars().any(char::is_control);
        let message = format!("a version has at most {LONGEST_VERSION} bytes and no control characters");
        self.unless(
            fine,
            &place,
            "bad-name",
            &message,
            "name it as your deploys do: v2.0.0, a tag, a digest",
        );
        let (from, to) = self.arms(route, spot);
        let (steps, shadow) = self.steps(spot);
        self.deadlines(written, &steps);
        Policy {
            version,
            from,
            to,
            steps,
            shadow,
            alpha: self.alpha("analysis.alpha", &analysis.alpha),
            max_bad: self.max_bad(&analysis.guard.max_bad),
            guard_alpha: self.alpha("analysis.guard.alpha", &analysis.guard.alpha),
            dwell: seconds(*analysis.dwell),
            warmup_errors: analysis.warmup.errors.0.as_secs(),
            warmup_latency: analysis.warmup.latency.0.as_secs(),
            bursts: self.positive(
                analysis.bursts.as_ref(),
                "analysis.bursts",
                "1 makes every failure a trial",
            ),
            preset: preset(analysis.confidence),
            availability: availability(route),
            written_min_requests: self.min_requests(analysis.min_requests.as_ref()),
            bad_statuses: self.statuses(analysis),
            bad_grpc: self.grpc(analysis),
            limits: self.limits(analysis),
            checks: self.checks(analysis),
            client_errors: written.client_errors,
            conduct: self.conduct(written),
        }
    }

    /// The two arms: as written, else the roles they have by name.
    fn arms(&mut self, route: &Route, spot: &Spot<Rollout>) -> (String, String) {
        let (from, to) = (spot.from.as_ref(), spot.to.as_ref());
        if let Some(pair) = &route.blue_green {
            for arm in [from, to].into_iter().flatten() {
                self.error(
                    arm,
                    "bad-value",
                    "slots say where a blue-green rollout goes",
                    "remove `from` and `to`",
                );
            }
            let idle = pair.slots.iter().find(|slot| slot.value != pair.active.value);
            return (pair.active.value.clone(), idle.map(|slot| slot.value.clone()).unwrap_or_default());
        }
        let names: Vec<&str> =
            route.split.iter().flat_map(|arms| arms.keys()).map(|name| name.as_str()).collect();
        let stable = from.map_or("stable", |from| from.as_str());
        let other = names.iter().find(|name| **name != stable).filter(|_| names.len() == 2);
        let canary = to.map_or_else(|| other.copied().unwrap_or("canary"), |to| to.as_str());
        for (arm, written) in [(stable, from), (canary, to)] {
            let place = written.map_or_else(|| spot.with(()), |written| written.with(()));
            let message = format!("the split has no arm `{arm}`");
            self.unless(names.contains(&arm), &place, "unknown-arm", &message, &guess(arm, &names));
        }
        let place = to.map_or_else(|| spot.with(()), |to| to.with(()));
        self.unless(
            stable != canary,
            &place,
            "bad-value",
            "a rollout goes from an arm to another",
            "name two arms",
        );
        (stable.to_owned(), canary.to_owned())
    }

    fn steps(&mut self, spot: &Spot<Rollout>) -> (Vec<Step>, Option<f64>) {
        let dwell = seconds(*spot.analysis.dwell);
        let (mut steps, mut shadow): (Vec<Step>, _) = (Vec::new(), None);
        for (index, written) in spot.steps.iter().enumerate() {
            let share = match (written.weight, written.shadow) {
                (Some(weight), None) => weight.share(),
                (None, Some(share)) => {
                    self.unless(
                        index == 0,
                        written,
                        "bad-step",
                        "a shadow step comes first",
                        "move it to the front",
                    );
                    self.unless(
                        share.share() > 0.0,
                        written,
                        "bad-step",
                        "a shadow of 0 % sees nothing",
                        "write 10",
                    );
                    shadow = Some(share.share());
                    continue;
                }
                _ => {
                    self.error(
                        written,
                        "bad-step",
                        "a step has one of weight and shadow",
                        "write `5` or `{ shadow: 10 }`",
                    );
                    continue;
                }
            };
            let before = steps.last().map_or(0.0, |step| step.weight);
            let rises = share > before;
            self.unless(
                rises,
                written,
                "steps-not-rising",
                "each step is above the one before, and the first above 0",
                "write them in rising order: 1, 5, 25, 50, 100",
            );
            let own = written.dwell.as_ref().map_or(dwell, |own| seconds(**own));
            steps.push(Step { weight: share, dwell: own, pause: written.pause });
        }
        let first = spot.steps.first().map_or_else(|| spot.with(()), |step| step.with(()));
        self.unless(
            !steps.is_empty(),
            &first,
            "bad-step",
            "a rollout has no step with live traffic",
            "steps: [1, 5, 25, 50, 100]",
        );
        self.unless(
            steps.len() < MAX_STEPS,
            &first,
            "bad-step",
            "a rollout has at most 63 steps",
            "take larger ones",
        );
        if steps.last().is_some_and(|step| step.weight < 1.0) {
            // Others promote from their largest weight; promoted is 100 % here.
            steps.push(Step { weight: 1.0, dwell, pause: false });
        }
        (steps, shadow)
    }

    fn deadlines(&mut self, written: &Rollout, steps: &[Step]) {
        let step = &written.deadline.step;
        let longest = steps.iter().map(|step| step.dwell).fold(0.0, f64::max);
        let hint = "give deadline.step several times the dwell";
        let message =
            format!("a step's deadline of {}s is not longer than its dwell of {longest}s", seconds(**step));
        self.unless(seconds(**step) > longest, step, "deadline-too-short", &message, hint);
        let warmup = &written.analysis.warmup.errors;
        let message = "the warm-up of errors outlasts the step's deadline: nothing would ever be compared";
        self.unless(warmup.0 < step.0, warmup, "deadline-too-short", message, "15s is the default");
        let whole = &written.deadline.rollout;
        let all: f64 = steps.iter().map(|step| step.dwell).sum::<f64>() + seconds(written.bake);
        let message = format!(
            "the rollout's deadline of {}s is not longer than its dwells and bake of {all}s",
            seconds(**whole)
        );
        self.unless(seconds(**whole) > all, whole, "deadline-too-short", &message, "24h is the default");
    }

    fn conduct(&mut self, written: &Rollout) -> Conduct {
        Conduct {
            step_deadline: seconds(*written.deadline.step),
            rollout_deadline: seconds(*written.deadline.rollout),
            on_step_deadline: written.on_step_deadline,
            windows: self.windows(&written.windows),
            on_harm: written.on_harm,
            bake: seconds(written.bake),
            revert_ramp: seconds(written.revert.ramp),
            auto_start: written.auto_start,
            hooks: self.hooks(written),
        }
    }
}

fn seconds(span: Span) -> f64 {
    span.0.as_secs_f64()
}

/// What the route promises; what is no promise is refused where objectives are compiled.
fn availability(route: &Route) -> f64 {
    let written = route.slo.as_ref().map(|slo| slo.availability.share());
    written.filter(|share| *share > 0.0 && *share < 1.0).unwrap_or(Policy::default().availability)
}

const fn preset(confidence: Confidence) -> Option<Preset> {
    match confidence {
        Confidence::Auto => None,
        Confidence::High => Some(Preset::High),
        Confidence::Normal => Some(Preset::Normal),
        Confidence::Low => Some(Preset::Low),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::policy::Status;
    use crate::spec::rollout::{OnFail, OnHarm, OnStepDeadline};
    use crate::spec::{Source, parse};

    fn compile(rollout: &str) -> Result<Policy, Vec<Diagnostic>> {
        let text = format!(
            "routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, rollout: {{ {rollout} }} }}]"
        );
        let spec = parse(vec![Source { name: "a.yaml".into(), text: text.clone() }])
            .unwrap_or_else(|one| panic!("{one}\n{text}"));
        Policy::compile(&spec.files[0].1.routes[0], "a.yaml")
    }

    #[test]
    fn a_block_that_writes_nothing_is_the_documented_default() {
        let policy = compile("version: v2").unwrap();
        assert_eq!(policy, Policy { version: "v2".into(), ..Policy::default() });
    }

    #[test]
    fn the_documented_block_compiles() {
        let policy = compile(
            "version: v2.0.0, from: stable, to: canary, steps: [{ shadow: 10 }, 1, 5, 25, { weight: 50, dwell: 5m, pause: true }, 100],
            analysis: { confidence: auto, alpha: 0.001, guard: { maxBad: 5%, alpha: 0.001 }, dwell: 60s, warmup: { errors: 15s, latency: 60s },
              bad: { statuses: [\"5xx\", 429], grpc: [UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE, DATA_LOSS] },
              thresholds: { maxErrorRate: 5%, maxErrorPoints: 1%, maxErrorRatio: 2, minSuccessRate: 99%, maxP99: 1s, maxLatencyRatio: 1.1, window: 1m, interval: 30s, failures: 3, count: cumulative },
              checks: [{ name: carts, prometheus: { url: \"http://prom:9090\", query: \"up\" }, min: 1, interval: 1m, onFail: hold }] },
            deadline: { step: 30m, rollout: 24h }, onStepDeadline: revert,
            windows: [{ days: [mon, tue], between: [\"09:00\", \"16:00\"], zone: Europe/Paris }],
            onHarm: pause, clientErrors: hold, bake: 10m, revert: { ramp: 0s }, autoStart: false,
            hooks: [{ name: smoke, event: preRollout, url: \"http://smoke/run\", timeout: 10s, metadata: { cmd: x } }, { name: ok, event: confirmPromotion, url: \"http://gate/ok\" }]",
        )
        .unwrap();
        assert_eq!(policy.shadow, Some(0.1));
        let weights: Vec<_> = policy.steps.iter().map(|step| (step.weight, step.dwell, step.pause)).collect();
        assert_eq!(weights[3..], [(0.5, 300.0, true), (1.0, 60.0, false)]);
        assert_eq!(policy.bad_statuses, [Status::Class(5), Status::Code(429)]);
        assert_eq!(policy.bad_grpc, [2, 4, 13, 14, 15]);
        let limits = policy.limits.unwrap();
        assert_eq!(
            (limits.max_p99, limits.max_latency_ratio, limits.window),
            (Some(1_000_000_000), Some(1.1), 60)
        );
        assert_eq!((policy.checks[0].min, policy.checks[0].on_fail), (Some(1.0), OnFail::Hold));
        let conduct = policy.conduct;
        assert_eq!(
            (conduct.on_step_deadline, conduct.on_harm, conduct.auto_start),
            (OnStepDeadline::Revert, OnHarm::Pause, false)
        );
        assert_eq!((conduct.windows[0].from_minute, conduct.windows[0].until_minute), (540, 960));
        assert_eq!((conduct.hooks.len(), conduct.hooks[1].timeout), (2, 10.0));
    }

    #[test]
    fn steps_that_end_below_100_are_promoted_from_there() {
        let policy = compile("version: v2, steps: [10, 20, 50]").unwrap();
        assert_eq!(policy.steps.iter().map(|step| step.weight).collect::<Vec<_>>(), [0.1, 0.2, 0.5, 1.0]);
    }

    #[test]
    #[rustfmt::skip]
    fn a_policy_that_cannot_decide_is_refused() {
        let long = format!("version: {}", "v".repeat(LONGEST_VERSION + 1));
        let windows = format!("version: v2, windows: [{}]", "{ between: ['09:00', '16:00'] },".repeat(33));
        let steps = (1..=64).map(|step| format!("{step}")).collect::<Vec<_>>().join(", ");
        let steps = format!("version: v2, steps: [{steps}]");
        let rows = [
            ("missing-key", "steps: [5, 100]"),
            ("missing-key", "version: ''"),
            ("bad-name", r#"version: "v2\u0007""#),
            ("bad-name", r#"version: "v2\nv3""#),
            ("bad-name", &long),
            ("unknown-arm", "version: v2, to: canery"),
            ("bad-value", "version: v2, to: stable"),
            ("steps-not-rising", "version: v2, steps: [5, 5, 100]"),
            ("steps-not-rising", "version: v2, steps: [0, 100]"),
            ("bad-step", "version: v2, steps: []"),
            ("bad-step", "version: v2, steps: [1, { shadow: 10 }, 100]"),
            ("bad-step", "version: v2, steps: [{ weight: 1, shadow: 10 }, 100]"),
            ("bad-step", "version: v2, steps: [{ pause: true }, 100]"),
            ("cannot-decide", "version: v2, analysis: { alpha: 0 }"),
            ("cannot-decide", "version: v2, analysis: { alpha: 1 }"),
            ("cannot-decide", "version: v2, analysis: { alpha: 0.2 }"),
            ("cannot-decide", "version: v2, analysis: { alpha: 1e-10 }"),
            ("cannot-decide", "version: v2, analysis: { guard: { alpha: 0 } }"),
            ("cannot-decide", "version: v2, analysis: { guard: { alpha: 0.5 } }"),
            ("cannot-decide", "version: v2, analysis: { guard: { alpha: 1e-12 } }"),
            ("cannot-decide", "version: v2, analysis: { guard: { maxBad: 0 } }"),
            ("cannot-decide", "version: v2, analysis: { guard: { maxBad: 90% } }"),
            ("cannot-decide", "version: v2, analysis: { minRequests: 0 }"),
            ("cannot-decide", "version: v2, analysis: { minRequests: 10000001 }"),
            ("cannot-decide", "version: v2, analysis: { bursts: 0 }"),
            ("deadline-too-short", "version: v2, deadline: { step: 30s }"),
            ("deadline-too-short", "version: v2, steps: [{ weight: 5, dwell: 2h }, 100]"),
            ("deadline-too-short", "version: v2, deadline: { rollout: 10m }"),
            ("deadline-too-short", "version: v2, analysis: { warmup: { errors: 1h } }"),
            ("unknown-status", "version: v2, analysis: { bad: { statuses: [6xx] } }"),
            ("unknown-status", "version: v2, analysis: { bad: { statuses: [700] } }"),
            ("unknown-status", "version: v2, analysis: { bad: { grpc: [UNAVAILBLE] } }"),
            ("cannot-decide", "version: v2, analysis: { thresholds: { maxErrorRate: 5%, failures: 0 } }"),
            ("cannot-decide", "version: v2, analysis: { thresholds: { maxErrorRate: 5%, interval: 0 } }"),
            ("cannot-decide", "version: v2, analysis: { thresholds: { maxErrorRatio: 0.5 } }"),
            ("cannot-decide", "version: v2, analysis: { thresholds: { minSuccessRate: 100% } }"),
            ("cannot-decide", "version: v2, analysis: { checks: [{ name: a, prometheus: { url: 'http://p', query: up } }] }"),
            ("bad-address", "version: v2, analysis: { checks: [{ name: a, prometheus: { url: 'p', query: up }, max: 1 }] }"),
            ("bad-value", "version: v2, analysis: { checks: [{ name: a, prometheus: { url: 'http://p', query: '' }, max: 1 }] }"),
            ("bad-value", "version: v2, analysis: { checks: [{ name: a, prometheus: { url: 'http://p', query: 'up{r=\"{{rout}}\"}' }, max: 1 }] }"),
            ("bad-value", "version: v2, hooks: [{ name: a, event: event, url: 'http://x', deadline: 1m }]"),
            ("bad-value", "version: v2, hooks: [{ name: a, event: preRollout, url: 'http://x', onDeadline: allow }]"),
            ("cannot-decide", "version: v2, hooks: [{ name: a, event: confirmRollout, url: 'http://x', deadline: 0 }]"),
            ("bad-address", "version: v2, hooks: [{ name: a, event: event, url: 'ftp://x' }]"),
            ("duplicate-name", "version: v2, hooks: [{ name: a, event: event, url: 'http://x' }, { name: a, event: event, url: 'http://x' }]"),
            ("bad-value", "version: v2, windows: [{ between: ['9', '16:00'] }]"),
            ("cannot-decide", "version: v2, windows: [{ between: ['09:00', '09:00'] }]"),
            ("cannot-decide", "version: v2, windows: [{ between: ['24:00', '06:00'] }]"),
            ("bad-value", "version: v2, windows: [{ between: ['09:00'] }]"),
            ("bad-value", "version: v2, windows: [{ between: ['09:00', '25:00'] }]"),
            ("bad-value", "version: v2, windows: [{ between: ['9:00', '10:60'] }]"),
            ("cannot-decide", "version: v2, windows: [{ days: [], between: ['09:00', '16:00'] }]"),
            ("too-many", &windows),
            ("bad-step", &steps),
        ];
        for (code, rollout) in rows {
            let found = compile(rollout).expect_err(rollout);
            assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), [code], "{rollout}: {found:?}");
            assert!(found[0].place.line > 0 && !found[0].hint.is_empty(), "{rollout}: {found:?}");
        }
    }

    #[test]
    fn what_is_just_within_bounds_is_taken() {
        for rollout in [
            "analysis: { alpha: 0.1, guard: { alpha: 1e-9 } }",
            "analysis: { alpha: 1e-9, guard: { alpha: 0.1 }, minRequests: 10000000 }",
            "windows: [{ days: [sat], between: ['22:00', '06:00'] }, { between: ['00:00', '24:00'] }]",
        ] {
            compile(&format!("version: v2, {rollout}"))
                .unwrap_or_else(|found| panic!("{rollout}: {found:?}"));
        }
    }

    #[test]
    fn as_many_are_asked_as_can_be_waited_for() {
        let many =
            |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(", ");
        let hooks = |count| many(count, &|at| format!("{{ name: h{at}, event: event, url: 'http://x' }}"));
        let check = |at| format!("{{ name: c{at}, prometheus: {{ url: 'http://p', query: up }}, max: 1 }}");
        let checks = |count| many(count, &check);
        compile(&format!("version: v2, hooks: [{}], analysis: {{ checks: [{}] }}", hooks(32), checks(16)))
            .unwrap();
        for block in [format!("hooks: [{}]", hooks(33)), format!("analysis: {{ checks: [{}] }}", checks(17))]
        {
            let found = compile(&format!("version: v2, {block}")).unwrap_err();
            assert_eq!(found.iter().map(|one| one.code).collect::<Vec<_>>(), ["too-many"], "{found:?}");
        }
    }

    #[test]
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "parts per million")]
    fn the_route_s_promise_is_the_policy_s() {
        let of = |slo: &str| {
            let text = format!(
                "routes: [{{ name: all, split: {{ stable: 95, canary: 5 }}, {slo} rollout: {{ version: v2 }} }}]"
            );
            let spec = parse(vec![Source { name: "a.yaml".into(), text }]).unwrap();
            (Policy::compile(&spec.files[0].1.routes[0], "a.yaml").unwrap().availability * 1e6).round() as u32
        };
        assert_eq!(
            [of(""), of("slo: {},"), of("slo: { availability: 99.95% },")],
            [999_000, 999_000, 999_500]
        );
    }

    #[test]
    fn zones_nobody_knows_are_refused_at_their_place() {
        let text = "routes:\n  - name: a\n    rollout:\n      windows:\n        \
                    - { between: ['09:00', '16:00'], zone: Europe/Pariss }\n        \
                    - { between: ['09:00', '16:00'], zone: Europe/Paris }\n        - { between: ['09:00', '16:00'] }\n";
        let spec = parse(vec![Source { name: "a.yaml".into(), text: text.into() }]).unwrap();
        let found = unknown_zones(&spec, |zone| ["Europe/Paris", "UTC"].contains(&zone));
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!((found[0].code, found[0].place.line), ("unknown-zone", 5), "{found:?}");
        assert!(found[0].message.contains("Europe/Pariss") && !found[0].hint.is_empty(), "{found:?}");
    }

    #[test]
    fn every_finding_is_given_at_once() {
        let found = compile("steps: [5, 1], analysis: { alpha: 2, minRequests: 0 }").unwrap_err();
        assert_eq!(found.len(), 4, "{found:?}");
    }
}
