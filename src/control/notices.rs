//! What people are told: what happened, to whom, since when, what was done, and what they can do.
//!
//! Whoever reads it was asleep a minute ago and has nothing else open. It must never need a second
//! look to know whether users are hurt, nor hold what a receiver could take for markup or a secret.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::outbox::{Parcel, To};
use crate::model::time::UnixMillis;
use crate::plan::{Receiver, Way};
use crate::rollout::moves::{Level, Notice, Summary};
use crate::rollout::{Phase, Rollout, Share, Suffered};

/// Longest text, in characters.
const MAX_TEXT: usize = 3_000;

/// What a notice is about.
#[derive(Clone, Copy, Debug)]
pub struct About<'a> {
    /// The route.
    pub route: &'a str,
    /// The rollout before.
    pub before: &'a Rollout,
    /// And after.
    pub after: &'a Rollout,
    /// When.
    pub at: UnixMillis,
    /// Numbers from outside, one line each.
    pub checks: &'a [String],
    /// What failed in the step, and since when.
    pub suffered: &'a Suffered,
}

/// A notice as it is kept for one receiver.
#[must_use]
pub fn parcel(receiver: &Receiver, about: About<'_>, notice: &Notice) -> Parcel {
    let body = match receiver.way {
        Way::Slack { .. } => json!({ "text": escaped(&text(about, notice)) }),
        Way::Webhook { .. } => body(about, notice),
    };
    Parcel {
        route: about.route.to_owned(),
        hook: receiver.id.clone(),
        to: To::Receiver,
        key: notice.key,
        run: about.after.run,
        since: about.after.started_at_millis,
        answer: false,
        body,
    }
}

fn body(about: About<'_>, notice: &Notice) -> Value {
    let percent = |rollout: &Rollout| rollout.seen_canary_share().map(percent);
    json!({
        "route": about.route,
        "version": about.after.identity.version,
        "state": about.after.phase.name(),
        "level": notice.level,
        "code": notice.code,
        "text": text(about, notice),
        "weight": { "before": percent(about.before), "after": percent(about.after) },
        "impact": judged(about).map(|found| json!({
            "rule": found.rule,
            "stable": { "n": found.stable.n, "e": found.stable.e },
            "canary": { "n": found.canary.n, "e": found.canary.e },
        })),
        "since": time(began(about)),
        "next": next(about.after),
        "at": time(about.at.0),
        "run": about.after.run,
        "key": notice.key,
    })
}

/// The whole of it as people read it.
fn text(about: About<'_>, notice: &Notice) -> String {
    let (route, after) = (about.route, about.after);
    let level = match notice.level {
        Level::Info => "Info",
        Level::Warning => "Warning",
        Level::Error => "Error",
    };
    let mut text = format!("{level}: route {route}, version {}: {}", after.identity.version, notice.text);
    // Writing into memory cannot fail.
    let _ = write!(text, "\nStatus: {}", after.phase.name());
    let _ = write!(text, "\nImpact: {}", impact(about));
    let _ = write!(text, "\nSince: {}", since(about));
    let _ = write!(text, "\nDone: {}", users(about));
    let _ = write!(text, "\nNext: {}", next(after));
    for check in about.checks {
        let _ = write!(text, "\nCheck: {check}");
    }
    let _ = write!(text, "\nMore: switchback history {route}");
    if notice.level == Level::Error {
        let _ = write!(text, " --postmortem run-{}", after.run);
    }
    text.chars().take(MAX_TEXT).collect()
}

/// What was known when it happened; `None` before anything was judged.
fn judged(about: About<'_>) -> Option<&Summary> {
    about.after.found.as_ref().or(about.before.found.as_ref()).filter(|found| found.canary.n > 0)
}

/// How many requests went wrong, of how many, and what found it.
fn impact(about: About<'_>) -> String {
    let (candidate, reference) = (about.after.candidate(), about.after.reference());
    let Some(found) = judged(about) else {
        return format!("none is known: no request to {candidate} was judged in this step");
    };
    let Summary { stable, canary, rule, .. } = found;
    let mut text = format!(
        "{} of {} requests to {candidate} failed in this step ({reference}: {} of {})",
        canary.e, canary.n, stable.e, stable.n
    );
    if rule != "none" {
        let _ = write!(text, ", found by `{rule}`");
    }
    text
}

/// When it began to hurt, as far as that is known.
fn began(about: About<'_>) -> u64 {
    about.suffered.since_millis.unwrap_or(about.at.0)
}

/// What was done: whose requests go where.
fn users(about: About<'_>) -> String {
    let arm = &about.after.identity.to;
    match (about.before.seen_canary_share(), about.after.seen_canary_share()) {
        (Some(before), Some(after)) if before == after => {
            format!("{arm} has {} % of the traffic of both arms, as before", percent(after))
        }
        (Some(before), Some(after)) => {
            format!(
                "{arm} has {} % of the traffic of both arms, before it had {} %",
                percent(after),
                percent(before)
            )
        }
        _ => format!("{arm} has what the split of the file gives it"),
    }
}

fn since(about: About<'_>) -> String {
    let after = about.after;
    let mut text = time(began(about));
    if about.suffered.since_millis.is_some() {
        let candidate = after.candidate();
        let _ = write!(text, ", the first bad outcome of {candidate}; noticed {}", time(about.at.0));
    }
    if after.is_live() && after.phase.base() != Some(crate::rollout::state::Base::Pending) {
        let _ = write!(text, "; step {} began {}", after.step + 1, time(after.step_entered_at_millis));
    }
    let _ = write!(text, "; the rollout began {}", time(after.started_at_millis));
    text
}

/// What comes next by itself, or waits for somebody.
fn next(after: &Rollout) -> String {
    let (candidate, reference) = (after.candidate(), after.reference());
    match after.phase {
        Phase::Idle => "nothing is under way".to_owned(),
        Phase::Pending => format!("{candidate} gets no traffic yet; it begins by itself when it is ready"),
        Phase::Shadow => format!("copies of requests go to {candidate}; users see {reference} alone"),
        Phase::Stage => "it goes on by itself".to_owned(),
        Phase::Bake => {
            format!("{candidate} has all but a rest that it is compared with; it goes on by itself")
        }
        Phase::Hold { .. } => "its weight stays; it goes on by itself when this has passed".to_owned(),
        Phase::Paused { .. } => {
            "its weight stays until somebody says `rollout resume` or `rollout abort`".to_owned()
        }
        Phase::Reverting => {
            format!(
                "traffic returns to {reference} by itself, overrides to {candidate} are void; a minute after \
                 comes word whether {reference} is well"
            )
        }
        Phase::Reverted | Phase::Aborted => format!(
            "everything is on {reference}, nothing is left to be done for users; the version starts again by \
             `rollout retry` or under another name"
        ),
        Phase::Superseded => format!("everything is on {reference}; another version takes its place"),
        Phase::Promoted => format!("{} has everything", after.identity.to),
        Phase::Finished => format!("{} has everything again, with the new version", after.identity.from),
    }
}

fn percent(share: Share) -> f64 {
    f64::from(share.0) / 10_000.0
}

pub(super) fn time(millis: u64) -> String {
    let at = i64::try_from(millis / 1_000).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    at.map(|at| at.to_string()).unwrap_or_default()
}

/// Without what Slack takes for markup: nobody may call a whole channel by naming a version.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::finding::Seen;
    use crate::rollout::Identity;
    use crate::rollout::state::Hold;

    fn rollout(phase: Phase, share: Share) -> Rollout {
        let identity = Identity {
            version: "<!channel>".into(),
            from: "stable".into(),
            to: "canary".into(),
            ..Identity::default()
        };
        let mut rollout = Rollout::new(identity);
        (rollout.phase, rollout.share, rollout.run) = (phase, share, 3);
        rollout.started_at_millis = 1_800_000_000_000;
        rollout
    }

    #[test]
    fn a_notice_says_what_happened_to_whom_since_when_and_what_was_done() {
        let stage = rollout(Phase::Stage, Share::of(0.05));
        let rows = [
            (
                Phase::Reverting,
                Share::NONE,
                "canary has 0 % of the traffic of both arms, before it had 5 %",
                "returns to stable by itself",
            ),
            (
                Phase::Hold { reason: Hold::CheckSilent, over: crate::rollout::state::Base::Stage },
                Share::of(0.05),
                "canary has 5 % of the traffic of both arms, as before",
                "goes on by itself",
            ),
        ];
        for (phase, share, users, done) in rows {
            let mut after = rollout(phase, share);
            after.found = Some(Summary {
                verdict: "harmful".into(),
                rule: "errors".into(),
                log: None,
                threshold: 6.9,
                stable: Seen { n: 2258, e: 1 },
                canary: Seen { n: 126, e: 6 },
                detectable_ratio: None,
                eta_seconds: None,
            });
            let suffered = Suffered { since_millis: Some(1_800_000_057_000), ..Suffered::default() };
            let checks = ["latency is 0.3".to_owned()];
            let about = About {
                route: "shop",
                before: &stage,
                after: &after,
                at: UnixMillis(1_800_000_060_000),
                checks: &checks,
                suffered: &suffered,
            };
            let notice =
                Notice { key: 7, level: Level::Error, code: "guard".into(), text: "it fails".into() };
            let text = text(about, &notice);
            for part in [
                "Error: route shop",
                "it fails",
                users,
                done,
                &format!("Status: {}", after.phase.name()),
                "Impact: 6 of 126 requests to canary failed in this step (stable: 1 of 2258), found by `errors`",
                "Since: 2027-01-15T08:00:57Z, the first bad outcome of canary; noticed 2027-01-15T08:01:00Z",
                "history shop --postmortem run-3",
                "2027-01-15T08:00:00Z",
                "latency is 0.3",
                "switchback history shop",
            ] {
                assert!(text.contains(part), "{part} in {text}");
            }
            let webhook =
                Receiver { id: "w".into(), way: Way::Webhook { url: String::new(), secret_file: None } };
            let sent = parcel(&webhook, about, &notice);
            assert_eq!(
                (&sent.body["run"], &sent.body["key"], &sent.body["level"]),
                (&json!(3), &json!(7), &json!("error"))
            );
            assert_eq!(sent.body["impact"]["canary"], json!({ "n": 126, "e": 6 }));
            assert_eq!(sent.body["since"], "2027-01-15T08:00:57Z");
            assert!(sent.body["next"].as_str().is_some_and(|next| next.contains(done)), "{}", sent.body);
            let slack = Receiver { id: "s".into(), way: Way::Slack { url_file: "f".into() } };
            let sent = parcel(&slack, about, &notice).body;
            assert!(sent["text"].as_str().is_some_and(|text| text.contains("&lt;!channel&gt;")), "{sent}");
            assert_eq!(sent.as_object().map(serde_json::Map::len), Some(1));
        }
    }
}
