//! What the analyzer says of one tick: a verdict, the rule that spoke, and what was known.
//!
//! It says what is true; what to do about it is the state machine's. It must never hold a decision.

use serde::{Deserialize, Serialize, Serializer};

use super::holdback::Worse;
use super::logs::{NOTHING, ln_add};
use super::policy::Preset;
use super::thresholds::Breach;

/// Parts of the total that errors and each latency cut have.
pub(super) const ERRORS_PART: f64 = 0.5;
/// See [`ERRORS_PART`].
pub(super) const CUT_PART: f64 = 1.0 / 6.0;

/// Is the canary harmful?
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// Everything the step demands has been shown.
    Healthy,
    /// Something speaks against it, not enough to convict.
    Suspect,
    /// Nothing speaks against it, and not enough for it.
    Undecided,
    /// It is.
    Harmful,
}

impl Verdict {
    /// As it is printed.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Suspect => "suspect",
            Self::Undecided => "undecided",
            Self::Harmful => "harmful",
        }
    }
}

/// The rule that spoke.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// None had to.
    None,
    /// The fast absolute rule.
    Guard,
    /// Errors, compared.
    Errors,
    /// Latency, compared: 0 is p50, 1 is p90, 2 is p99.
    Latency(usize),
    /// A fixed limit.
    Threshold(Breach),
    /// 4xx shares, compared.
    Behaviour,
    /// Traffic does not arrive as the router says.
    SampleRatio,
    /// Stable is failing too.
    StableUnhealthy,
    /// Failures of mirrored requests, compared in pairs.
    Pairs,
    /// It answers mirrored requests differently.
    Differences,
}

impl Rule {
    /// As it is printed.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Guard => "guard",
            Self::Errors => "errors",
            Self::Latency(0) => "latency-p50",
            Self::Latency(1) => "latency-p90",
            Self::Latency(_) => "latency-p99",
            Self::Threshold(breach) => breach.limit,
            Self::Behaviour => "behaviour",
            Self::SampleRatio => "sample-ratio",
            Self::StableUnhealthy => "stable-unhealthy",
            Self::Pairs => "pairs",
            Self::Differences => "differences",
        }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.label())
    }
}

/// Requests and bad ones of one arm in the step so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Requests.
    pub n: u64,
    /// Bad ones.
    pub e: u64,
}

/// The same of both arms, for people: no rule goes by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arms {
    /// Stable.
    pub stable: Seen,
    /// The canary.
    pub canary: Seen,
}

impl Arms {
    /// Adds what another moment saw.
    pub fn add(&mut self, stable: (u64, u64), canary: (u64, u64)) {
        for (sum, (n, e)) in [(&mut self.stable, stable), (&mut self.canary, canary)] {
            (sum.n, sum.e) = (sum.n.saturating_add(n), sum.e.saturating_add(e));
        }
    }
}

/// Natural logarithms of evidence; `None` where a metric has none yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ByMetric {
    /// Errors, compared.
    pub errors: Option<f64>,
    /// Latency at stable's median.
    pub latency_p50: Option<f64>,
    /// Latency at stable's 90th percentile.
    pub latency_p90: Option<f64>,
    /// Latency at stable's 99th percentile.
    pub latency_p99: Option<f64>,
    /// The guard.
    pub guard: Option<f64>,
    /// The guard's control.
    pub guard_control: Option<f64>,
    /// 4xx shares, compared.
    pub behaviour: Option<f64>,
    /// Arrivals against the router's probability.
    pub sample_ratio: Option<f64>,
    /// Failures of mirrored requests, in pairs.
    pub pairs: Option<f64>,
}

/// `None` for no evidence.
#[must_use]
pub fn known(ln: f64) -> Option<f64> {
    (ln > NOTHING).then_some(ln)
}

/// The evidence a verdict rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// `ln E`, all metrics together; `None` before the first tick.
    pub log: Option<f64>,
    /// `ln(1/alpha)`, what it must reach.
    pub threshold: f64,
    /// What the guard's own must reach.
    pub guard_threshold: f64,
    /// Each metric by itself.
    pub by_metric: ByMetric,
    /// Latency cuts at which the canary is slower by less than 1 ms: their evidence decides nothing.
    #[serde(skip_serializing_if = "is_none_of")]
    pub unnoticed: [bool; 3],
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_none_of(cuts: &[bool; 3]) -> bool {
    !cuts.contains(&true)
}

impl Evidence {
    /// `ln E` of the metrics that can decide: what people compare with the threshold. `log` is the same
    /// while every metric can.
    #[must_use]
    pub fn judged(&self) -> Option<f64> {
        if is_none_of(&self.unnoticed) {
            return self.log;
        }
        let ByMetric { errors, latency_p50, latency_p90, latency_p99, .. } = self.by_metric;
        let weighed = |ln: Option<f64>, part: f64| ln.map_or(NOTHING, |ln| ln + part.ln());
        let cuts = [latency_p50, latency_p90, latency_p99];
        let cut = |at: usize| weighed(cuts[at].filter(|_| !self.unnoticed[at]), CUT_PART);
        known(sum([weighed(errors, ERRORS_PART), cut(0), cut(1), cut(2)]))
    }

    /// Names of the metrics that cannot, as they are in [`ByMetric`].
    pub fn not_judged(&self) -> impl Iterator<Item = &'static str> {
        let cuts = ["latencyP50", "latencyP90", "latencyP99"].into_iter().zip(self.unnoticed);
        cuts.filter_map(|(name, unnoticed)| unnoticed.then_some(name))
    }

    /// What the rule that spoke went by, and what that must reach; a fixed limit goes by none.
    #[must_use]
    pub fn of_rule(&self, rule: &Rule) -> (Option<f64>, f64) {
        match rule {
            Rule::Guard => (self.by_metric.guard, self.guard_threshold),
            Rule::Behaviour => (self.by_metric.behaviour, self.threshold),
            Rule::SampleRatio => (self.by_metric.sample_ratio, self.threshold),
            Rule::Threshold(_) | Rule::Differences => (None, 0.0),
            Rule::None | Rule::Errors | Rule::Pairs | Rule::Latency(_) | Rule::StableUnhealthy => {
                (self.judged(), self.threshold)
            }
        }
    }
}

/// What a step still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", tag = "what")]
pub enum Waiting {
    /// Its minimum time.
    Dwell {
        /// Seconds left.
        seconds: f64,
    },
    /// Canary requests.
    Requests {
        /// How many more.
        more: u64,
    },
    /// Canary users, on a sticky route: one of them may send any number of requests.
    Users {
        /// How many more.
        more: u64,
    },
    /// Mirrored requests with both answers.
    Pairs {
        /// How many more.
        more: u64,
    },
    /// A smaller detectable effect.
    Detectable {
        /// The ratio that must be.
        target: f64,
        /// Requests of both arms until it is.
        more: f64,
    },
    /// Stable to be healthy.
    Stable,
    /// Less suspicion.
    Evidence,
}

/// Everything one tick's verdict rests on.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The tick's second.
    pub at_second: u64,
    /// The step, from 0.
    pub step: u32,
    /// The canary's weight, 0 to 1.
    pub weight: f64,
    /// Is it harmful?
    pub verdict: Verdict,
    /// Who says so.
    pub rule: Rule,
    /// Stable in this step.
    pub stable: Seen,
    /// The canary in this step.
    pub canary: Seen,
    /// 4xx answers of both arms in this step; `e` is their number.
    pub refused: Arms,
    /// Good answers that both arms gave slower than each of the cuts, since these were taken; `None`
    /// without cuts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow: Option<[Arms; 3]>,
    /// What speaks against it.
    pub evidence: Evidence,
    /// The effect matters; evidence behind a closed gate only suspects.
    pub effect: bool,
    /// The fixed limit that failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breach: Option<Breach>,
    /// The latency cuts in nanoseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cuts: Option<[u64; 3]>,
    /// Smallest ratio of bad shares that would have shown by now.
    pub detectable_ratio: Option<f64>,
    /// What is worse in this step than stable was over the rollout; delays, and never convicts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worse: Option<Worse>,
    /// What the step waits for; empty when healthy.
    pub waiting_for: Vec<Waiting>,
    /// Seconds until the step could be passed at the measured rate; `None` when it cannot be said.
    pub eta_seconds: Option<f64>,
    /// The confidence in force.
    pub confidence: Preset,
    /// Too few addresses were active to bound what one of them may add.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub few_clients: bool,
    /// Kinds and places in which its answers to mirrored requests differ, confirmed ones only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub differing: Vec<String>,
}

/// `ln` of the sum of the metrics' weighted evidence.
pub(super) fn sum(metrics: [f64; 4]) -> f64 {
    metrics.into_iter().fold(NOTHING, ln_add).max(NOTHING)
}

/// The metric with the most evidence, as the rule it is.
pub(super) fn strongest(metrics: &[f64; 4]) -> Rule {
    let most = (0..metrics.len()).max_by(|a, b| metrics[*a].total_cmp(&metrics[*b])).unwrap_or(0);
    most.checked_sub(1).map_or(Rule::Errors, Rule::Latency)
}

/// Seconds until nothing that time alone can bring is missing.
pub(super) fn eta(waiting: &[Waiting], rate: f64, weight: f64) -> Option<f64> {
    waiting.iter().try_fold(0.0, |most: f64, one| {
        #[expect(clippy::cast_precision_loss, reason = "requests of a step")]
        let seconds = match one {
            Waiting::Dwell { seconds } => *seconds,
            Waiting::Requests { more } | Waiting::Users { more } => *more as f64 / (rate * weight),
            Waiting::Detectable { more, .. } => more / rate,
            Waiting::Stable | Waiting::Evidence | Waiting::Pairs { .. } => f64::INFINITY,
        };
        seconds.is_finite().then_some(most.max(seconds))
    })
}
