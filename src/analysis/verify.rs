//! Is the slot that everybody was just sent to harmful? Nothing runs beside it to compare with.
//!
//! The guard bets on its bad share as it would for a canary, the fixed limits look at it, and the last
//! window of the slot before stands in for stable: what failed there as often is not the new slot's
//! doing. It must never hold anything that cannot be written down and read again.

use serde::{Deserialize, Serialize};

use super::bins::Bins;
use super::counts::{ArmCounts, Tick};
use super::guard::Guard;
use super::mixture::Schedule;
use super::policy::Policy;
use super::thresholds::{Breach, ENOUGH, Limits, Thresholds};

/// The new slot's bad share must be this many times the old one's.
const WORSE: f64 = 1.5;
/// Addresses it must have harmed once many are active: the guard asks for as many failures, and a
/// household has more than one address.
const LEAST_HARMED: u64 = 5;

/// What one slot left.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// Requests that ended.
    pub n: u64,
    /// Of these, bad.
    pub e: u64,
    /// Request sent to response head.
    pub latency: Bins,
    /// Whose they were, since the watch began; not remembered.
    #[serde(default, skip)]
    pub clients: Clients,
}

/// Of whom outcomes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clients {
    /// So few addresses are active that nothing bounds what one of them adds.
    pub few: bool,
    /// Addresses that were failed.
    pub failing: u64,
    /// Addresses that were answered slower than the limits allow.
    pub slow: u64,
}

impl Default for Clients {
    fn default() -> Self {
        Self { few: true, failing: 0, slow: 0 }
    }
}

impl Clients {
    /// Whether so many were harmed that no few of them decide for all.
    const fn speak(self, harmed: u64) -> bool {
        self.few || harmed >= LEAST_HARMED
    }

    const fn text(self) -> &'static str {
        if self.few { "; few clients: what one of them adds is not bounded" } else { "" }
    }
}

impl Left {
    /// The bad share, 0 to 1; 0 of nothing.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "requests of minutes")]
    pub fn share(&self) -> f64 {
        self.e as f64 / self.n.max(1) as f64
    }

    fn counts(&self) -> ArmCounts {
        ArmCounts { n: self.n, e: self.e, latency: Some(self.latency.clone()), ..ArmCounts::default() }
    }
}

/// Why it is harmful.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Harmful {
    /// `guard`, or the key of the limit.
    pub rule: &'static str,
    /// A sentence with the numbers.
    pub text: String,
}

/// One verification.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verifier {
    guard: Guard,
    schedule: Schedule,
    thresholds: Thresholds,
    ln_threshold: f64,
    /// The old slot's last window.
    before: Left,
    n: u64,
    e: u64,
    /// The last second it took.
    #[serde(default)]
    at: u64,
}

/// Failures that are tried out at most by [`Verifier::failures_left`].
const FORESEEN: u64 = 60;

impl Verifier {
    /// After the last window of the slot that served before.
    #[must_use]
    pub fn new(before: Left) -> Self {
        let policy = Policy::default();
        Self {
            guard: Guard::new(policy.max_bad, policy.availability),
            schedule: Schedule::new(1),
            thresholds: Thresholds::default(),
            ln_threshold: -policy.guard_alpha.ln(),
            before,
            n: 0,
            e: 0,
            at: 0,
        }
    }

    /// Requests of the new slot since the flip, and how many were bad.
    #[must_use]
    pub const fn seen(&self) -> (u64, u64) {
        (self.n, self.e)
    }

    /// The old slot's last window.
    #[must_use]
    pub const fn before(&self) -> &Left {
        &self.before
    }

    /// Whether so little was seen that silence says nothing.
    #[must_use]
    pub fn saw_little(&self, limits: Option<&Limits>) -> bool {
        self.n < limits.map_or(ENOUGH, |limits| limits.min_requests)
    }

    /// How many more failures, one a second and nothing else, would make it harmful; `None` when
    /// [`FORESEEN`] would not.
    #[must_use]
    pub fn failures_left(&self, limits: Option<&Limits>) -> Option<u64> {
        let mut tried = self.clone();
        let failure = Left { n: 1, e: 1, ..Left::default() };
        (1..=FORESEEN).find(|more| tried.second(limits, self.at + more, &failure).is_some())
    }

    /// Takes what the new slot left in one second.
    pub fn second(&mut self, limits: Option<&Limits>, second: u64, left: &Left) -> Option<Harmful> {
        (self.n, self.e, self.at) = (self.n + left.n, self.e + left.e, second);
        // The router sends it everything: no control runs beside it.
        let mut tick = Tick { at_second: second, w: 1.0, canary: left.counts(), ..Tick::default() };
        let grant = self.schedule.tick(second);
        let word = self.guard.tick(&grant, &tick, None, self.ln_threshold);
        let all = Left { n: self.n, e: self.e, ..Left::default() };
        let clients = left.clients;
        let proven = word.fires && clients.speak(clients.failing);
        if proven && (self.before.n < ENOUGH || all.share() >= WORSE * self.before.share()) {
            return Some(Harmful { rule: "guard", text: self.guard_text() + clients.text() });
        }
        let limits = limits?;
        if self.before.n >= limits.min_requests {
            tick.stable = self.before.counts();
        }
        let look = self.thresholds.tick(limits, &tick);
        let breach = look.breach.filter(|_| look.harmful)?;
        let harmed = match breach.limit {
            "maxP99" | "maxLatencyRatio" => clients.slow,
            _ => clients.failing,
        };
        let text = || breach_text(breach, self.n) + clients.text();
        clients.speak(harmed).then(|| Harmful { rule: breach.limit, text: text() })
    }

    fn guard_text(&self) -> String {
        let (percent, before) = (self.guard.limit() * 100.0, self.before.share() * 100.0);
        let compared = match self.before.n {
            0 => String::new(),
            _ => format!("; of the slot before {before:.2} % failed in its last minute"),
        };
        let Self { n, e, .. } = self;
        format!("guard: {e} of {n} requests failed since the flip, {percent:.2} % are tolerated{compared}")
    }
}

fn breach_text(breach: Breach, n: u64) -> String {
    let Breach { limit, measured, allowed } = breach;
    match limit {
        "maxP99" => format!(
            "{limit}: {:.0} ms is the 99th percentile, {:.0} ms is allowed",
            measured / 1e6,
            allowed / 1e6
        ),
        "maxErrorRatio" | "maxLatencyRatio" => {
            format!("{limit}: {measured:.2} times the slot before, {allowed} is allowed")
        }
        "minSuccessRate" => {
            format!(
                "{limit}: {:.2} % of {n} requests went well, {:.2} % is the least",
                measured * 100.0,
                allowed * 100.0
            )
        }
        _ => format!(
            "{limit}: {:.2} % of {n} requests failed, {:.2} % is allowed",
            measured * 100.0,
            allowed * 100.0
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Spot;
    use crate::spec::rollout::Thresholds as Written;
    use crate::spec::scalar::{Percent, Span};

    fn left(n: u64, e: u64, millis: u64) -> Left {
        Left { n, e, latency: [(millis * 1_000_000, n)].into_iter().collect(), ..Left::default() }
    }

    fn limits(written: Written) -> Option<Limits> {
        let minute = std::time::Duration::from_secs(60);
        Policy::verification(&Spot::unwritten(written), minute, "a.yaml").expect("limits")
    }

    /// The second in which it is harmful, and by which rule.
    fn judged(
        limits: Option<&Limits>,
        before: Left,
        each: impl Fn(u64) -> Left,
    ) -> Option<(u64, &'static str)> {
        let mut verifier = Verifier::new(before);
        (0..60).find_map(|second| {
            // It survives being written down at any time.
            let text = serde_json::to_string(&verifier).expect("written");
            verifier = serde_json::from_str(&text).expect("read");
            verifier.second(limits, second, &each(second)).map(|harm| (second, harm.rule))
        })
    }

    /// Name, limits, the slot before, what each second leaves, the rule that speaks.
    type Row<'a> = (&'a str, Option<&'a Limits>, Left, Left, Option<&'a str>);

    #[test]
    fn each_rule_speaks_soon_and_says_its_name() {
        let errors = limits(Written {
            max_error_rate: Some(Spot::unwritten(Percent::whole(1))),
            ..Written::default()
        });
        let slow = limits(Written { max_p99: Some(Spot::unwritten(Span::seconds(1))), ..Written::default() });
        let ratio = limits(Written {
            max_latency_ratio: Some(Spot::unwritten(crate::spec::scalar::Number(2.0))),
            ..Written::default()
        });
        let fine = || left(1_000, 0, 5);
        let rows: Vec<Row<'_>> = vec![
            ("well", errors.as_ref(), fine(), left(100, 0, 5), None),
            ("all fail", None, fine(), left(20, 20, 5), Some("guard")),
            ("all fail, nothing known before", None, Left::default(), left(20, 20, 5), Some("guard")),
            ("it failed as much before", None, left(1_000, 900, 5), left(20, 20, 5), None),
            ("two in a hundred", errors.as_ref(), fine(), left(100, 2, 5), Some("maxErrorRate")),
            ("half of what is allowed", errors.as_ref(), fine(), left(200, 1, 5), None),
            ("slow", slow.as_ref(), fine(), left(50, 0, 1_200), Some("maxP99")),
            ("not too slow", slow.as_ref(), fine(), left(50, 0, 900), None),
            ("three times the slot before", ratio.as_ref(), fine(), left(50, 0, 15), Some("maxLatencyRatio")),
            ("nothing known to compare with", ratio.as_ref(), Left::default(), left(50, 0, 15), None),
        ];
        for (name, limits, before, each, expected) in rows {
            let found = judged(limits, before, |_| each.clone());
            assert_eq!(found.map(|(_, rule)| rule), expected, "{name}");
            assert!(found.is_none_or(|(second, _)| second < 9), "{name}: {found:?}");
        }
        // One failure among few is no breach, however strict the limit.
        let one = |second: u64| left(2, u64::from(second == 3), 5);
        assert_eq!(judged(errors.as_ref(), fine(), one), None);
    }

    #[test]
    fn few_of_many_clients_decide_nothing_and_among_few_each_counts() {
        let errors = limits(Written {
            max_error_rate: Some(Spot::unwritten(Percent::whole(1))),
            ..Written::default()
        });
        let slow = limits(Written { max_p99: Some(Spot::unwritten(Span::seconds(1))), ..Written::default() });
        let fine = || left(1_000, 0, 5);
        let (bad, late) = (left(100, 20, 5), left(50, 0, 1_200));
        let many = |failing, slow| Clients { few: false, failing, slow };
        let rows = [
            ("guard", None, &bad, many(4, 50), None),
            ("guard", None, &bad, many(5, 0), Some("guard")),
            ("errors", errors.as_ref(), &left(100, 4, 5), many(4, 50), None),
            ("errors", errors.as_ref(), &left(100, 4, 5), many(5, 0), Some("maxErrorRate")),
            ("slow", slow.as_ref(), &late, many(50, 4), None),
            ("slow", slow.as_ref(), &late, many(0, 5), Some("maxP99")),
            ("few", slow.as_ref(), &late, Clients { few: true, failing: 0, slow: 1 }, Some("maxP99")),
        ];
        for (name, limits, each, clients, expected) in rows {
            let found = judged(limits, fine(), |_| Left { clients, ..each.clone() });
            assert_eq!(found.map(|(_, rule)| rule), expected, "{name} {clients:?}");
        }
        let told = |few| {
            let mut verifier = Verifier::new(fine());
            let clients = Clients { few, failing: 20, slow: 0 };
            let mut seconds =
                (0..9).filter_map(|at| verifier.second(None, at, &Left { clients, ..bad.clone() }));
            seconds.next().expect("harmful").text
        };
        assert!(told(true).contains("few clients") && !told(false).contains("few clients"));
    }

    #[test]
    fn what_could_never_speak_is_refused() {
        let written = Spot::unwritten(Written {
            max_error_rate: Some(Spot::unwritten(Percent::whole(1))),
            interval: Spot { value: Span::seconds(30), line: 3, column: 1, length: 1 },
            failures: Spot { value: 3, line: 3, column: 1, length: 1 },
            ..Written::default()
        });
        let verification =
            |seconds| Policy::verification(&written, std::time::Duration::from_secs(seconds), "a");
        assert_eq!(verification(60).expect_err("refused")[0].code, "cannot-decide");
        assert!(verification(90).expect("long enough").is_some());
        let none = Policy::verification(&Spot::default(), std::time::Duration::from_secs(60), "a");
        assert_eq!(none.expect("fine"), None);
    }
}
