//! Follows one run of a rollout to its end, telling each decision and each second's evidence once.
//!
//! Everything is read from the controller's own report and from the plan in force. It waits for
//! states, never for times, and must never wait for ever.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::screen::{ArmRow, Screen, bar};
use super::stage::Stage;
use crate::control::RolloutReport;
use crate::ledger::Seen;
use crate::rollout::moves::Summary;
use crate::rollout::{Phase, Record};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Looks between two pictures.
const PICTURE: u32 = 5;
/// How long a rollout may take to its end, many times what it takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(90);
/// Width of the bar of evidence.
const BAR: usize = 24;

/// What is told of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// Every decision, and every second's evidence.
    Seconds,
    /// Every decision.
    Decisions,
    /// That it is finished.
    End,
}

/// How a run ended.
pub(super) struct End {
    /// Its state.
    pub state: &'static str,
    /// The rule that spoke last.
    pub rule: String,
    /// Why, in a sentence.
    pub reason: String,
    /// From the edit of the file to the end.
    pub took: Duration,
    /// When it first had weight, and when it had none again.
    pub on_trial: (Option<Instant>, Option<Instant>),
}

/// What was told so far.
pub(super) struct Watch<'a> {
    stage: &'a Stage,
    began: Instant,
    run: Option<u64>,
    told: usize,
    second: Option<u64>,
    before: BTreeMap<Arc<str>, Seen>,
    on_trial: (Option<Instant>, Option<Instant>),
}

impl<'a> Watch<'a> {
    /// From now on: what the next run does. Begin it after this.
    pub(super) fn new(stage: &'a Stage) -> Self {
        Self {
            stage,
            began: Instant::now(),
            run: stage.report().map(|report| report.rollout.run),
            told: stage.decided(0).len(),
            second: None,
            before: stage.seen(),
            on_trial: (None, None),
        }
    }

    /// Waits for the end, and tells this much of the way there.
    ///
    /// # Errors
    /// It did not end within [`PATIENCE`].
    pub(super) async fn follow(mut self, screen: &mut Screen, telling: Telling) -> io::Result<End> {
        let mut looks = 0;
        loop {
            tokio::time::sleep(LOOK).await;
            self.weigh();
            let report = self.stage.report().filter(|report| Some(report.rollout.run) != self.run);
            if let Some(report) = &report {
                self.tell(screen, report, telling);
            }
            if let Some(ended) = report.as_ref().and_then(|report| self.end(report)) {
                screen.draw(self.arms());
                return Ok(ended);
            }
            if looks % PICTURE == 0 {
                screen.draw(self.picture(report.as_ref()));
            }
            looks += 1;
            if self.began.elapsed() > PATIENCE {
                return Err(too_long(report.as_ref()));
            }
        }
    }

    /// Notes when the canary got weight and when it lost it.
    fn weigh(&mut self) {
        match (self.stage.weight() > 0.0, self.on_trial) {
            (true, (None, _)) => self.on_trial.0 = Some(Instant::now()),
            (false, (Some(_), None)) => self.on_trial.1 = Some(Instant::now()),
            _ => {}
        }
    }

    fn tell(&mut self, screen: &mut Screen, report: &RolloutReport, telling: Telling) {
        let closely = telling == Telling::Seconds;
        if closely
            && let Some(finding) = &report.finding
            && report.rollout.phase.base().is_some()
            && self.second.replace(finding.at_second) != Some(finding.at_second)
        {
            screen.say(&self.line(&evidence(&Summary::of(finding), finding.cuts)));
        }
        for record in self.stage.decided(self.told) {
            self.told += 1;
            let convicted = record.found.as_ref().filter(|_| closely && record.to == Phase::Reverting.name());
            if let Some(found) = convicted {
                let cuts = report.finding.as_ref().and_then(|finding| finding.cuts);
                screen.say(&self.line(&evidence(found, cuts)));
            }
            if telling != Telling::End || record.to == Phase::Finished.name() {
                screen.say(&self.line(&decision(&record)));
            }
        }
    }

    fn line(&self, text: &str) -> String {
        format!("  {:4.1} s  {text}", self.began.elapsed().as_secs_f64())
    }

    fn end(&self, report: &RolloutReport) -> Option<End> {
        let rollout = &report.rollout;
        if rollout.is_live() || rollout.phase == Phase::Idle {
            return None;
        }
        let harm = self.stage.decided(0).into_iter().rev().take_while(|record| record.run == rollout.run);
        let harm = harm.filter(|record| record.to == Phase::Reverting.name()).last();
        let reason =
            harm.as_ref().map_or_else(|| rollout.reason.text.clone(), |record| record.reason.clone());
        let rule = harm.map(|record| record.code.to_string());
        Some(End {
            state: rollout.phase.name(),
            rule: rule.unwrap_or_else(|| "-".to_owned()),
            reason,
            took: self.began.elapsed(),
            on_trial: self.on_trial,
        })
    }

    /// Both arms since the watch began, and where the rollout is.
    fn picture(&self, report: Option<&RolloutReport>) -> Vec<String> {
        let mut lines = self.arms();
        if let Some(report) = report.filter(|report| report.rollout.is_live()) {
            let state = report.rollout.phase.name();
            let known = report.finding.as_ref();
            let known = known.map(|found| evidence(&Summary::of(found), found.cuts)).unwrap_or_default();
            lines.push(format!("    {state} {:.0} %  {known}", self.stage.weight()));
        }
        lines
    }

    fn arms(&self) -> Vec<String> {
        let (none, span) = (Seen::default(), self.began.elapsed().as_secs_f64().max(0.001));
        let now = self.stage.seen().into_iter();
        let seen: Vec<(Arc<str>, Seen)> = now
            .map(|(name, arm)| (Arc::clone(&name), arm.since(self.before.get(&name).unwrap_or(&none))))
            .collect();
        let total: u64 = seen.iter().map(|(_, arm)| arm.requests).sum();
        #[expect(clippy::cast_precision_loss, reason = "a demo counts thousands")]
        let row = |(name, arm): (Arc<str>, Seen)| ArmRow {
            observed: arm.requests as f64 * 100.0 / total.max(1) as f64,
            rate: arm.requests as f64 / span,
            errors: arm.errors,
            p50: arm.latency.quantile(0.5),
            p99: arm.latency.quantile(0.99),
            name,
        };
        seen.into_iter().rev().map(row).map(|row| row.line()).collect()
    }
}

fn too_long(report: Option<&RolloutReport>) -> io::Error {
    let patience = PATIENCE.as_secs();
    io::Error::other(report.map_or_else(
        || format!("the edit of the file began no rollout within {patience} s"),
        |report| {
            let (rollout, name) = (&report.rollout, report.rollout.phase.name());
            let (version, why) = (&rollout.identity.version, &rollout.reason.text);
            format!("{version} came to no end within {patience} s: it is {name}, {why}")
        },
    ))
}

/// What speaks against the version, beside what would convict it.
fn evidence(found: &Summary, cuts: Option<[u64; 3]>) -> String {
    let log = found.log.unwrap_or(f64::NEG_INFINITY);
    #[expect(clippy::cast_precision_loss, reason = "nanoseconds of a latency")]
    let cut = cuts.map(|[_, _, p99]| format!("  p99 cut {:.0} ms", p99 as f64 / 1e6)).unwrap_or_default();
    format!(
        "{} E {:>7} of {:.0}  canary {}/{} failed  stable {}/{}  {}{cut}",
        bar(log / found.threshold, BAR),
        number(log.exp()),
        found.threshold.exp(),
        found.canary.e,
        found.canary.n,
        found.stable.e,
        found.stable.n,
        found.verdict,
    )
}

fn number(evidence: f64) -> String {
    match evidence {
        few if few < 9.95 => format!("{few:.1}"),
        some if some < 99_999.5 => format!("{some:.0}"),
        _ => "> 99999".to_owned(),
    }
}

fn decision(record: &Record) -> String {
    let weight = record.after.map(|share| format!(" {:.0} %", share.ratio() * 100.0)).unwrap_or_default();
    // Why it is on its way back was said when it turned.
    let why = if record.from == Phase::Reverting.name() { "nobody is on it" } else { &*record.reason };
    format!("{}{weight}: {why}", record.to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_a_number_people_can_read() {
        for (evidence, text) in
            [(0.0, "0.0"), (9.94, "9.9"), (9.96, "10"), (1649.4, "1649"), (1e9, "> 99999")]
        {
            assert_eq!(number(evidence), text);
        }
    }
}
