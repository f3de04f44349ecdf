//! What each rule says of counts a reader can picture: one row, one rule, one second.

use proptest::prelude::*;

use super::counts::{Reader, Writer};
use super::evidence::{Bad, Excess};
use super::finding::{Finding, Rule, Verdict, Waiting};
use super::judge::CAUTION;
use super::mixture::Schedule;
use super::policy::{Policy, Preset};
use super::power::{choose, needed, step_seconds};
use super::thresholds::Limits;
use super::{Analyzer, ArmCounts, Tick};
use crate::spec::rollout::{Count, OnClientErrors};

/// One arm's second: requests, bad ones, and good ones at 20 ms with a twentieth at 60 ms.
fn arm(n: u64, e: u64) -> ArmCounts {
    slow_arm(n, e, 1)
}

/// The same, so many times slower.
fn slow_arm(n: u64, e: u64, times: u64) -> ArmCounts {
    let slow = (n - e) / 20;
    let bins = [(20_000_000 * times, n - e - slow), (60_000_000 * times, slow)];
    ArmCounts { n, e, latency: Some(bins.into_iter().collect()), ..ArmCounts::default() }
}

fn at(second: u64, w: f64, stable: ArmCounts, canary: ArmCounts) -> Tick {
    Tick { at_second: second, w, stable, canary, ..Tick::default() }
}

/// The first finding with this verdict, within ten minutes.
fn first(policy: &Policy, verdict: Verdict, tick: impl Fn(u64) -> Tick) -> Option<Finding> {
    let mut analyzer = Analyzer::new(policy, 1_000.0);
    (0..600).map(|second| analyzer.tick(policy, &tick(second))).find(|finding| finding.verdict == verdict)
}

/// When it is first called this, and by which rule.
fn when(policy: &Policy, verdict: Verdict, tick: impl Fn(u64) -> Tick) -> Option<(u64, &'static str)> {
    first(policy, verdict, tick).map(|finding| (finding.at_second, finding.rule.label()))
}

const HARMFUL: Verdict = Verdict::Harmful;

/// What happens, second by second, and who must convict it when.
type Row<'a> = (&'a str, Box<dyn Fn(u64) -> Tick>, Option<(u64, &'a str)>);

#[test]
fn each_rule_speaks_for_itself() {
    let policy = Policy::default();
    // A bad outcome of stable every tenth second: 0.1 %.
    let stable = |second: u64| arm(95, u64::from(second.is_multiple_of(10)));
    let rows: Vec<Row<'_>> = vec![
        ("healthy", Box::new(move |s| at(s, 0.05, stable(s), arm(5, 0))), None),
        ("all fail", Box::new(move |s| at(s, 0.05, stable(s), arm(5, 5))), Some((1, "guard"))),
        ("one in five fails", Box::new(move |s| at(s, 0.05, stable(s), arm(5, 1))), Some((11, "guard"))),
        (
            "a few in a hundred fail",
            Box::new(move |s| at(s, 0.05, stable(s), arm(5, u64::from(s % 5 == 1)))),
            Some((36, "errors")),
        ),
        ("both fail", Box::new(move |s| at(s, 0.05, arm(95, 57), arm(5, 3))), None),
        (
            "all fail, nothing to compare with",
            Box::new(move |s| at(s, 1.0, arm(0, 0), arm(5, 5))),
            Some((1, "guard")),
        ),
        (
            "both fail at bake, quietly",
            Box::new(move |s| at(s, 0.99, arm(u64::from(s % 40 == 0), 1 - (s % 40).min(1)), arm(5, 5))),
            None,
        ),
        (
            "all fail at bake, quietly",
            Box::new(move |s| at(s, 0.95, arm(u64::from(s % 5 == 0), 0), arm(2, 2))),
            Some((20, "guard")),
        ),
        ("both fail at bake", Box::new(move |s| at(s, 0.99, arm(1, 1), arm(99, 99))), None),
        ("slower", Box::new(move |s| at(s, 0.05, stable(s), slow_arm(5, 0, 2))), Some((62, "latency-p90"))),
        (
            "slower from the middle on",
            Box::new(move |s| at(s, 0.05, stable(s), slow_arm(5, 0, if s < 300 { 1 } else { 2 }))),
            Some((303, "latency-p90")),
        ),
        ("faster", Box::new(move |s| at(s, 0.05, slow_arm(95, 0, 2), arm(5, 0))), None),
        ("better", Box::new(move |s| at(s, 0.5, arm(50, 5), arm(50, 0))), None),
    ];
    for (name, tick, expected) in rows {
        let found = when(&policy, HARMFUL, tick);
        let close = match (found, expected) {
            (Some((second, rule)), Some((about, by))) => rule == by && second.abs_diff(about) <= 4,
            (found, expected) => found.is_none() && expected.is_none(),
        };
        assert!(close, "{name}: {found:?}, not {expected:?}");
    }
}

#[test]
fn failures_that_fall_together_only_suspect() {
    let policy = Policy::default();
    let burst = |second: u64, moments: u16| {
        let canary = if second == 20 { 25 } else { 5 };
        let bad = if second == 20 { 20 } else { 0 };
        let canary = ArmCounts { bad_moments: Some(moments), ..arm(canary, bad) };
        at(second, 0.05, arm(95, 0), canary)
    };
    assert_eq!(when(&policy, HARMFUL, |s| burst(s, 0b11)), None);
    assert_eq!(when(&policy, Verdict::Suspect, |s| burst(s, 0b11)), Some((20, "guard")));
    // The same number, spread over the second, is no burst.
    assert_eq!(when(&policy, HARMFUL, |s| burst(s, 0b10_1010_1011)), Some((20, "guard")));
}

#[test]
fn an_effect_nobody_would_revert_for_is_only_suspect() {
    let policy = Policy { bursts: Some(1), ..Policy::default() };
    // 2.0 % against 1.5 %: proven, but less than 1.5 times.
    let tick = |second: u64| at(second, 0.5, arm(10_000, 150), arm(10_000, 200));
    let found = first(&policy, Verdict::Suspect, tick).unwrap();
    assert_eq!(found.rule, Rule::Errors);
    assert_eq!(when(&policy, HARMFUL, tick), None);
}

#[test]
fn a_difference_nobody_could_notice_is_not_waited_for() {
    let policy = Policy::default();
    // Every answer 5 % slower than 2 ms: evidence that grows for ever, and a tenth of a millisecond.
    let bins = |nanos: u64, n: u64| ArmCounts {
        n,
        latency: Some([(nanos, n - n / 20), (2 * nanos, n / 20)].into_iter().collect()),
        ..ArmCounts::default()
    };
    let tick = |second| at(second, 0.5, bins(2_000_000, 500), bins(2_100_000, 500));
    let mut analyzer = Analyzer::new(&policy, 1_000.0);
    let last = (0..600).map(|second| analyzer.tick(&policy, &tick(second))).last().unwrap();
    assert!(last.evidence.log > Some(last.evidence.threshold), "{last:?}");
    // What is shown against the threshold is what could decide.
    let (shown, threshold) = last.evidence.of_rule(&last.rule);
    assert!(shown.is_none_or(|shown| shown < CAUTION.ln()) && threshold > 6.0, "{shown:?}: {last:?}");
    assert!(last.evidence.not_judged().any(|metric| metric == "latencyP50"), "{last:?}");
    assert_eq!((last.verdict, last.waiting_for.as_slice()), (Verdict::Healthy, &[][..]), "{last:?}");
}

#[test]
fn refusing_clients_holds_reverts_or_is_ignored() {
    let tick = |second: u64| {
        let canary = ArmCounts { client_errors: 5, ..arm(5, 0) };
        at(second, 0.05, ArmCounts { client_errors: 1, ..arm(95, 0) }, canary)
    };
    let rows = [
        (OnClientErrors::Hold, Verdict::Suspect, Some("behaviour")),
        (OnClientErrors::Hold, HARMFUL, None),
        (OnClientErrors::Revert, HARMFUL, Some("behaviour")),
        (OnClientErrors::Ignore, Verdict::Suspect, None),
    ];
    for (client_errors, verdict, rule) in rows {
        let policy = Policy { client_errors, ..Policy::default() };
        let found = when(&policy, verdict, tick).map(|(_, rule)| rule);
        assert_eq!(found, rule, "{client_errors:?} {verdict:?}");
    }
}

#[test]
fn what_was_refused_and_what_was_slow_is_counted() {
    let bins = |n: u64, refused: u64, slow: u64| ArmCounts {
        client_errors: refused,
        latency: Some([(18_000_000, n - slow), (60_000_000, slow)].into_iter().collect()),
        ..arm(n, 0)
    };
    let policy = Policy::default();
    let mut analyzer = Analyzer::new(&policy, 100.0);
    let tick = |second| at(second, 0.05, bins(95, 1, 0), bins(5, 5, 1));
    let last = (0..200).map(|second| analyzer.tick(&policy, &tick(second))).last().unwrap();
    let (refused, slow) = (last.refused, last.slow.unwrap()[2]);
    assert_eq!((refused.canary.n, refused.canary.e), (1_000, 1_000), "{last:?}");
    assert_eq!((refused.stable.n, refused.stable.e), (19_000, 200), "{last:?}");
    assert!(slow.canary.e > 0 && slow.canary.n == 5 * slow.canary.e && slow.stable.e == 0, "{slow:?}");
    assert!(last.verdict != Verdict::Healthy && last.eta_seconds.is_none(), "{last:?}");
}

#[test]
fn arrivals_that_do_not_fit_the_weight_hold() {
    let found = when(&Policy::default(), Verdict::Suspect, |second| at(second, 0.05, arm(90, 0), arm(10, 0)));
    assert!(found.is_some_and(|(_, rule)| rule == "sample-ratio"), "{found:?}");
}

#[test]
fn fixed_limits_are_counted_beside_the_evidence() {
    let limits = Limits {
        max_error_rate: None,
        max_error_points: None,
        max_error_ratio: None,
        min_success_rate: Some(0.99),
        max_p99: None,
        max_latency_ratio: None,
        window: 60,
        interval: 60,
        failures: 5,
        count: Count::Cumulative,
        min_requests: 20,
    };
    let policy = Policy { limits: Some(limits), ..Policy::default() };
    // Both arms at 2 %: no evidence, but the limit is a limit.
    let tick = |second: u64| at(second, 0.5, arm(50, 1), arm(50, 1));
    assert_eq!(when(&policy, Verdict::Suspect, tick), Some((59, "minSuccessRate")));
    assert_eq!(when(&policy, HARMFUL, tick), Some((299, "minSuccessRate")));
}

#[test]
fn nobody_is_healthy_on_silence() {
    let policy = Policy { preset: Some(Preset::High), ..Policy::default() };
    let busy = |second: u64| at(second, 0.05, arm(950, 1), arm(50, 0));
    let found = first(&policy, Verdict::Healthy, busy).unwrap();
    assert!((59..70).contains(&found.at_second), "{found:?}");
    assert!(
        found.waiting_for.is_empty() && found.detectable_ratio.is_some_and(|ratio| ratio <= 10.0),
        "{found:?}"
    );
    let quiet = |second: u64| at(second, 0.05, arm(1, 0), arm(u64::from(second.is_multiple_of(20)), 0));
    assert_eq!(when(&policy, Verdict::Healthy, quiet), None);
    let mut analyzer = Analyzer::new(&policy, 1.0);
    let last = (0..200).map(|second| analyzer.tick(&policy, &quiet(second))).last().unwrap();
    let needs = |want: fn(&Waiting) -> bool| last.waiting_for.iter().any(want);
    assert!(needs(|one| matches!(one, Waiting::Requests { more: 190 })), "{last:?}");
    assert!(needs(|one| matches!(one, Waiting::Detectable { .. })) && last.eta_seconds.is_some(), "{last:?}");
    assert_eq!(last.detectable_ratio, None);
}

#[test]
fn an_outage_does_not_make_a_step_look_proven() {
    let policy = Policy::default();
    let tick = |second: u64| at(second, 0.05, arm(950, 600), arm(50, 30));
    assert_eq!(when(&policy, Verdict::Healthy, tick), None);
    assert!(first(&policy, Verdict::Suspect, tick).is_some_and(|found| found.rule == Rule::StableUnhealthy));
}

#[test]
fn on_a_sticky_route_a_user_counts_once() {
    let policy = Policy::default();
    let slots = |arm: ArmCounts, seen: u64, bad: u64| ArmCounts { slots: Some(seen), bad_slots: bad, ..arm };
    // A bot fails every second; it is one slot.
    let bot = |second: u64| {
        at(second, 0.05, slots(arm(95, 0), 95 + 9 * second, 0), slots(arm(5, 4), 5 + second / 2, 1))
    };
    assert_eq!(when(&policy, HARMFUL, bot), None);
    // Every user of the canary fails.
    let all = |second: u64| {
        let seen = 5 + second / 2;
        at(second, 0.05, slots(arm(95, 0), 95 + 9 * second, 0), slots(arm(5, 5), seen, seen))
    };
    assert!(
        when(&policy, HARMFUL, all).is_some_and(|(second, _)| second <= 30),
        "{:?}",
        when(&policy, HARMFUL, all)
    );
}

#[test]
fn a_shared_second_of_two_weights_is_judged_by_each_weight() {
    let policy = Policy::default();
    let mut analyzer = Analyzer::new(&policy, 1_000.0);
    for second in 0..100 {
        analyzer.tick(&policy, &at(second, 0.01, arm(99, 0), arm(1, 0)));
    }
    analyzer.enter_step(&policy, 1, 0.05, 100);
    let late = analyzer.tick(&policy, &at(100, 0.01, arm(9, 0), arm(1, 1)));
    let new = analyzer.tick(&policy, &Tick { step: 1, ..at(100, 0.05, arm(90, 0), arm(5, 0)) });
    assert_eq!((late.canary.n, new.canary.n, new.step), (0, 5, 1));
    assert_eq!(new.verdict, Verdict::Undecided);
}

#[test]
fn written_down_and_read_again_it_goes_on_as_before() {
    let policy = Policy::default();
    let mut one = Analyzer::new(&policy, 100.0);
    let tick =
        |second: u64| at(second, 0.05, arm(95, second % 7), arm(5, u64::from(second.is_multiple_of(9))));
    for second in 0..130 {
        one.tick(&policy, &tick(second));
    }
    let text = serde_json::to_string(&one).unwrap();
    assert!(text.len() < 20_000, "{}", text.len());
    let mut two: Analyzer = serde_json::from_str(&text).unwrap();
    for second in 130..300 {
        let (a, b) = (one.tick(&policy, &tick(second)), two.tick(&policy, &tick(second)));
        let close = a.evidence.log.zip(b.evidence.log).is_some_and(|(a, b)| (a - b).abs() <= 1e-9 * a.abs());
        assert!(close && a.verdict == b.verdict && a.waiting_for == b.waiting_for, "{a:?}\n{b:?}");
    }
}

#[test]
fn a_recording_gives_the_verdicts_of_the_live_run() {
    let policy = Policy::default();
    let ticks: Vec<Tick> = (0..90)
        .map(|second| {
            let canary = ArmCounts { bad_moments: Some(0b101), ..slow_arm(5, second % 2, 1 + second / 60) };
            at(second, 0.05, arm(95, 1), canary)
        })
        .collect();
    let mut writer = Writer::default();
    let text: Vec<String> = ticks.iter().map(|tick| writer.line(tick)).collect();
    let (mut live, mut again) = (Analyzer::new(&policy, 100.0), Analyzer::new(&policy, 100.0));
    let read = Reader::all(&text.join("\n")).unwrap();
    assert_eq!(read.len(), ticks.len());
    for (tick, read) in ticks.iter().zip(&read) {
        assert_eq!(live.tick(&policy, tick), again.tick(&policy, read));
    }
}

#[test]
fn what_is_needed_is_what_the_notes_say_with_the_whole_price() {
    // The notes' 23 k, 15 k, 42 k and 34 k leave out ln 4.
    for (w, ratio, thousands) in
        [(0.01, 20.0, 26.45), (0.05, 10.0, 16.9), (0.25, 3.0, 48.1), (0.5, 3.0, 39.7)]
    {
        let needed = needed(0.001, 0.001, w, ratio, None) / 1_000.0;
        assert!((needed - thousands).abs() < 0.1, "{w}: {needed}");
    }
    assert!(needed(0.001, 0.001, 1.0, 3.0, None).is_infinite());
}

#[test]
fn auto_takes_the_highest_confidence_that_fits() {
    let policy = Policy::default();
    let rows = [
        (1_000.0, Preset::High, 0),
        (60.0, Preset::High, 0),
        (40.0, Preset::Normal, 0),
        (10.0, Preset::Low, 0),
        (1.0, Preset::Low, 1),
        (0.01, Preset::Low, 0),
        (0.0, Preset::Low, 0),
    ];
    for (rate, preset, first) in rows {
        assert_eq!(choose(&policy, rate), (preset, first), "{rate}");
    }
    let written = Policy { preset: Some(Preset::High), ..Policy::default() };
    assert_eq!(choose(&written, 1.0), (Preset::High, 0));
    let all = |preset, rate| {
        policy.steps.iter().map(|step| step_seconds(&policy, preset, step.weight, rate)).sum::<f64>() / 60.0
    };
    // Five dwells, and half a minute more each at 25 and 50 %, because one second is one trial.
    assert!((all(Preset::High, 1_000.0) - 6.1).abs() < 0.5, "{}", all(Preset::High, 1_000.0));
    assert!((all(Preset::High, 100.0) - 24.6).abs() < 0.5, "{}", all(Preset::High, 100.0));
}

proptest! {
    /// Whatever the errors of each second and wherever steps begin: over all ways the router could
    /// have dealt them to the arms, the mean of E is at most 1.
    #[test]
    fn evidence_has_a_mean_of_at_most_one_under_shuffled_labels(
        pattern in prop::collection::vec((0_u64..4, 0.01_f64..0.99, any::<bool>()), 1..6),
        slots in any::<bool>(),
    ) {
        let mean = deal(&pattern, slots, 0, 1.0, &(Excess::default(), Schedule::new(3)));
        prop_assert!(mean <= 1.0 + 1e-9, "{mean}");
    }
}

/// Sums `chance * E` over every dealing of the seconds from `second` on.
fn deal(
    pattern: &[(u64, f64, bool)],
    slots: bool,
    second: u64,
    chance: f64,
    state: &(Excess, Schedule),
) -> f64 {
    let Some(((bad, w, enters), rest)) = pattern.split_first() else { return chance * state.0.ln().exp() };
    (0..1_u64 << bad)
        .map(|labels| {
            let (mut errors, mut schedule) = state.clone();
            if *enters || second == 0 {
                schedule.enter(u32::try_from(second % 3).unwrap());
            }
            let grant = schedule.tick(second * 40);
            let canary = u64::from(labels.count_ones());
            let seen = Some(Bad::of(bad - canary, canary));
            if slots {
                errors.slots(&grant, *w, seen);
            } else {
                errors.requests(&grant, *w, seen, None);
            }
            let dealt =
                (0..*bad).map(|bit| if labels & (1 << bit) != 0 { *w } else { 1.0 - w }).product::<f64>();
            deal(rest, slots, second + 1, chance * dealt, &(errors, schedule))
        })
        .sum()
}

#[test]
fn fast_failures_are_called_failures() {
    let policy = Policy::default();
    // One in forty fails, faster than anything else is answered.
    let tick = |s: u64| at(s, 0.5, arm(200, 0), arm(200, 5));
    let mut analyzer = Analyzer::new(&policy, 400.0);
    let rules: Vec<_> = (0..120)
        .map(|s| analyzer.tick(&policy, &tick(s)))
        .filter(|found| matches!(found.verdict, Verdict::Suspect | Verdict::Harmful))
        .map(|found| found.rule)
        .collect();
    assert!(!rules.is_empty() && rules.iter().all(|rule| !matches!(rule, Rule::Latency(_))), "{rules:?}");
}

#[test]
fn a_small_holdback_is_compared_with_what_stable_was_before() {
    let policy = Policy::default();
    let worse = |bad: u64| {
        let mut analyzer = Analyzer::new(&policy, 100.0);
        analyzer.enter_step(&policy, 0, 0.5, 0);
        (0..60).for_each(|s| _ = analyzer.tick(&policy, &at(s, 0.5, arm(50, 0), arm(50, 0))));
        analyzer.enter_step(&policy, 1, 0.95, 60);
        let bake = |s| Tick { step: 1, ..at(s, 0.95, arm(5, 0), arm(95, bad)) };
        (60..80).map(|s| analyzer.tick(&policy, &bake(s))).last().and_then(|found| found.worse)
    };
    let found = worse(4).expect("four of ninety-five fail");
    assert_eq!((found.canary.n, found.canary.e, found.stable.n), (1_900, 80, 3_100));
    assert_eq!(worse(0), None);
}
