//! The `analysis` part of a rollout block: probabilities, what is bad, fixed limits.
//!
//! It must never accept a limit that always or never holds.

use super::Findings;
use crate::analysis::policy::Status;
use crate::analysis::thresholds::{ENOUGH, Limits};
use crate::spec::Spot;
use crate::spec::parse::guess;
use crate::spec::rollout::{Analysis, Thresholds};
use crate::spec::scalar::{Number, Percent, Span};

/// gRPC status names by code (gRPC core, `statuscodes.md`).
#[rustfmt::skip]
const GRPC: [&str; 17] = [
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
];
/// Smallest and largest probability of a false revert: below nothing would ever be proven in practice,
/// above every tenth healthy version would be put back.
const ALPHA: (f64, f64) = (1e-9, 0.1);
/// Most canary requests a step may need.
const MOST_REQUESTS: u64 = 10_000_000;
/// Largest `guard.maxBad`: above it no bad share is left to bet on.
const MOST_BAD: f64 = 0.6;
/// Longest window of thresholds in seconds.
const LONGEST_WINDOW: u64 = 24 * 3_600;

/// Seconds between two looks of a verification, and failed looks that make it harmful.
const VERIFY_INTERVAL: u64 = 4;
const VERIFY_FAILURES: u32 = 2;
/// Requests of which the slowest alone is not the 99th percentile.
const ENOUGH_FOR_P99: u64 = 100;
/// Most requests a look of a verification needs, however strict its limits are.
const MOST_VERIFY_REQUESTS: f64 = 1_000.0;

impl Findings<'_> {
    pub(super) fn alpha(&mut self, key: &str, alpha: &Spot<Number>) -> f64 {
        let fine = (ALPHA.0..=ALPHA.1).contains(&alpha.value.0);
        let message =
            format!("`{key}` is a probability above 0 and below 1, from {:e} to {}", ALPHA.0, ALPHA.1);
        let hint =
            "at 0 nothing is ever proven, at 1 everything is; 0.001 reverts 1 healthy version in 1,000";
        self.unless(fine, alpha, "cannot-decide", &message, hint);
        alpha.value.0
    }

    pub(super) fn max_bad(&mut self, written: &Spot<Percent>) -> f64 {
        let share = written.share();
        let fine = share > 0.0 && share <= MOST_BAD;
        let message = "`analysis.guard.maxBad` is above 0 % and at most 60 %";
        self.unless(fine, written, "cannot-decide", message, "5% is the default");
        share
    }

    pub(super) fn positive<T: Copy + Default + PartialEq>(
        &mut self,
        written: Option<&Spot<T>>,
        key: &str,
        hint: &str,
    ) -> Option<T> {
        let spot = written?;
        let message = format!("`{key}` is 0");
        self.unless(spot.value != T::default(), spot, "cannot-decide", &message, hint);
        Some(spot.value)
    }

    pub(super) fn min_requests(&mut self, written: Option<&Spot<u64>>) -> Option<u64> {
        let hint = "nobody is promoted unseen; leave it out for the confidence's own";
        let least = self.positive(written, "analysis.minRequests", hint)?;
        let (fine, spot) = (least <= MOST_REQUESTS, written?);
        let message =
            format!("`analysis.minRequests` is at most {MOST_REQUESTS}: no step would ever be passed");
        self.unless(fine, spot, "cannot-decide", &message, "leave it out for the confidence's own");
        Some(least)
    }

    pub(super) fn statuses(&mut self, analysis: &Analysis) -> Vec<Status> {
        let mut known = Vec::new();
        for written in &analysis.bad.statuses {
            match status(written) {
                Some(status) => known.push(status),
                None => {
                    let message = format!("`{}` is neither a status nor a class of them", **written);
                    self.error(written, "unknown-status", message, "write `5xx`, or a code such as `429`");
                }
            }
        }
        known
    }

    pub(super) fn grpc(&mut self, analysis: &Analysis) -> Vec<u8> {
        let mut known = Vec::new();
        for written in &analysis.bad.grpc {
            match GRPC.iter().zip(0..).find(|(name, code)| **name == written.as_str() && *code > 0) {
                Some((_, code)) => known.push(code),
                None => {
                    let message = format!("`{}` is no gRPC status that could be bad", **written);
                    self.error(written, "unknown-status", message, &guess(written, &GRPC[1..]));
                }
            }
        }
        known
    }

    pub(super) fn limits(&mut self, analysis: &Analysis) -> Option<Limits> {
        let spot = &analysis.thresholds;
        let Thresholds { window, interval, failures, .. } = &spot.value;
        let whole = |span: &Spot<Span>| span.0.as_secs();
        let message = "a window is from 1s to 24h";
        self.unless(
            (1..=LONGEST_WINDOW).contains(&whole(window)),
            window,
            "cannot-decide",
            message,
            "1m is the default",
        );
        self.unless(
            whole(interval) > 0,
            interval,
            "cannot-decide",
            "an interval is at least 1s",
            "30s is the default",
        );
        self.unless(
            **failures > 0,
            failures,
            "cannot-decide",
            "0 failures would always be harmful",
            "3 is the default",
        );
        let share = |written: &Option<Spot<Percent>>| written.as_ref().map(|percent| percent.share());
        for ratio in [&spot.max_error_ratio, &spot.max_latency_ratio].into_iter().flatten() {
            let hint = "1.1 allows a tenth more than stable";
            self.unless(
                ratio.value.0 >= 1.0,
                ratio,
                "cannot-decide",
                "a ratio is at least 1: below it stable itself would fail",
                hint,
            );
        }
        if let Some(all) = spot.min_success_rate.as_ref().filter(|rate| rate.share() >= 1.0) {
            self.error(
                all,
                "cannot-decide",
                "a success rate of 100 % reverts at the first failure of anybody",
                "write 99.9%",
            );
        }
        let ratio = |written: &Option<Spot<Number>>| written.as_ref().map(|number| number.value.0);
        let limits = Limits {
            max_error_rate: share(&spot.max_error_rate),
            max_error_points: share(&spot.max_error_points),
            max_error_ratio: ratio(&spot.max_error_ratio),
            min_success_rate: share(&spot.min_success_rate),
            max_p99: spot.max_p99.as_ref().map(|span| u64::try_from(span.0.as_nanos()).unwrap_or(u64::MAX)),
            max_latency_ratio: ratio(&spot.max_latency_ratio),
            window: whole(window),
            interval: whole(interval),
            failures: **failures,
            count: spot.count,
            min_requests: analysis.min_requests.as_ref().map_or(ENOUGH, |least| least.value),
        };
        limits.any().then_some(limits)
    }

    /// The limits of a verification: what is not written fits into its `span` of seconds.
    pub(super) fn verification(&mut self, written: &Spot<Thresholds>, span: u64) -> Option<Limits> {
        let mut thresholds = written.clone();
        let unwritten = |line: u32| line == 0;
        let short = |seconds: u64| Spot::unwritten(Span::seconds(seconds));
        if unwritten(thresholds.window.line) {
            thresholds.value.window = short(span.clamp(1, LONGEST_WINDOW));
        }
        if unwritten(thresholds.interval.line) {
            thresholds.value.interval = short(VERIFY_INTERVAL.min(span.max(1)));
        }
        if unwritten(thresholds.failures.line) {
            thresholds.value.failures =
                Spot::unwritten(if span >= 2 * VERIFY_INTERVAL { VERIFY_FAILURES } else { 1 });
        }
        let analysis = Analysis { thresholds, ..Analysis::default() };
        let mut limits = self.limits(&analysis)?;
        let looks = limits.interval * u64::from(limits.failures);
        let message = format!("the limits are harmful after {looks}s, the verification ends after {span}s");
        let hint = "lengthen `for`, or lower `interval` or `failures`";
        self.unless(span == 0 || looks <= span, written, "cannot-decide", &message, hint);
        // One failure, or one slow answer, is never a breach.
        let shares = [limits.max_error_rate, limits.min_success_rate.map(|least| 1.0 - least)];
        let strictest = shares.into_iter().flatten().filter(|share| *share > 0.0).fold(1.0, f64::min);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1")]
        let enough = (1.0 / strictest).ceil().min(MOST_VERIFY_REQUESTS) as u64;
        let latency = limits.max_p99.is_some() || limits.max_latency_ratio.is_some();
        limits.min_requests = enough.max(if latency { ENOUGH_FOR_P99 } else { ENOUGH });
        Some(limits)
    }
}

/// `5xx` or `503`.
fn status(text: &str) -> Option<Status> {
    let text = text.trim();
    if let Some(class) = text.strip_suffix("xx") {
        return class.parse().ok().filter(|class| (1..=5).contains(class)).map(Status::Class);
    }
    text.parse().ok().filter(|code| (100..=599).contains(code)).map(Status::Code)
}
