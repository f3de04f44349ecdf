//! What people hear of flips: the log, the history, notices, and how slots are now.
//!
//! It must never decide anything, nor send what a receiver could take for markup.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Flips, Move, Outcome, Phase};
use crate::control::controller::Controller;
use crate::control::notices;
use crate::control::outbox::{Parcel, To};
use crate::plan::{Receiver, Way};
use crate::rollout::Record;
use crate::rollout::flip::Flip;
use crate::rollout::moves::{Level, Notice, Shifted};

/// How the slots of a route are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FlipReport {
    /// Its state.
    pub flip: Flip,
}

impl Flips {
    /// How all of them are.
    #[must_use]
    pub fn report(&self) -> BTreeMap<String, FlipReport> {
        let lives = self.lives.iter();
        lives.map(|(route, live)| (route.clone(), FlipReport { flip: live.flip.clone() })).collect()
    }
}

impl Controller {
    /// What an outcome has to say to people, for every receiver; put into the outbox.
    pub(in crate::control) fn put_out_flip(&mut self, route: &str, outcome: &Outcome) -> Vec<(u64, String)> {
        let plan = self.publisher.current();
        let said = outcome.moves.iter().filter_map(|one| match one {
            Move::Notify(notice) => Some(notice),
            _ => None,
        });
        let parcels: Vec<Parcel> = said
            .flat_map(|notice| plan.notify.iter().map(|receiver| parcel(receiver, route, outcome, notice)))
            .collect();
        parcels
            .into_iter()
            .map(|parcel| (parcel.hook.clone(), self.outbox.add(parcel)))
            .map(|(hook, number)| (number, hook))
            .collect()
    }

    /// Logs and keeps what an outcome decided.
    pub(in crate::control) fn tell_flip(
        &mut self,
        route: &str,
        outcome: &Outcome,
        weights: Option<&Shifted>,
    ) {
        for one in &outcome.moves {
            match one {
                Move::Notify(notice) => match notice.level {
                    Level::Info => tracing::info!(route, code = %notice.code, "{}", notice.text),
                    Level::Warning => tracing::warn!(route, code = %notice.code, "{}", notice.text),
                    Level::Error => tracing::error!(route, code = %notice.code, "{}", notice.text),
                },
                Move::Record(record) => {
                    let weights = weights.cloned().map(Box::new);
                    self.record(route, &Record { weights, ..Record::clone(record) });
                }
                _ => {}
            }
        }
    }
}

/// That nothing is left of an arm drained by hand.
pub(in crate::control) fn drained(
    receiver: &Receiver,
    route: &str,
    arm: &str,
    since: u64,
    notice: &Notice,
) -> Parcel {
    let text = format!("Info: route {route}: {}\nMore: switchback history {route}", notice.text);
    let body = match receiver.way {
        Way::Slack { .. } => json!({ "text": notices::escaped(&text) }),
        Way::Webhook { .. } => json!({
            "route": route,
            "arm": arm,
            "state": "DRAINED",
            "level": notice.level,
            "code": notice.code,
            "text": text,
            "run": 0,
            "key": notice.key,
        }),
    };
    let (route, hook, to) = (route.to_owned(), receiver.id.clone(), To::Receiver);
    Parcel { route, hook, to, key: notice.key, run: 0, since, answer: false, body }
}

fn parcel(receiver: &Receiver, route: &str, outcome: &Outcome, notice: &Notice) -> Parcel {
    let flip = &outcome.next;
    let text = text(route, flip, notice);
    let body = match receiver.way {
        Way::Slack { .. } => json!({ "text": notices::escaped(&text) }),
        Way::Webhook { .. } => json!({
            "route": route,
            "active": flip.active,
            "idle": flip.idle,
            "state": flip.phase.name(),
            "level": notice.level,
            "code": notice.code,
            "text": text,
            "run": flip.run,
            "key": notice.key,
        }),
    };
    Parcel {
        route: route.to_owned(),
        hook: receiver.id.clone(),
        to: To::Receiver,
        key: notice.key,
        run: flip.run,
        since: flip.started_at_millis,
        answer: false,
        body,
    }
}

fn text(route: &str, flip: &Flip, notice: &Notice) -> String {
    let level = match notice.level {
        Level::Info => "Info",
        Level::Warning => "Warning",
        Level::Error => "Error",
    };
    let Flip { active, idle, .. } = flip;
    let since = notices::time(flip.started_at_millis);
    let (impact, next) = match flip.phase {
        Phase::Verifying => (
            format!("none is known; all users are on {active}"),
            format!(
                "{active} is watched, and goes back by itself when it harms; `flip {route} --back` does so at once"
            ),
        ),
        Phase::FlippedBack => (
            format!("all users were on {idle} from then on; what it did to them stands above"),
            format!("{idle} gets nothing; repair it, then `flip {route}`"),
        ),
        Phase::Smoke | Phase::Steady => {
            (format!("none; all users are on {active}"), "nothing is left to be done".to_owned())
        }
    };
    format!(
        "{level}: route {route}: {}\nStatus: {}\nImpact: {impact}\nSince: {since}, when the flip was asked for\n\
         Done: all users are on {active}\nNext: {next}\nMore: switchback history {route}",
        notice.text,
        flip.phase.name()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flip_that_failed_says_whom_it_hurt_since_when_and_what_is_next() {
        let mut flip = Flip::new("blue", "green");
        (flip.phase, flip.started_at_millis) = (Phase::FlippedBack, 1_800_000_000_000);
        let notice =
            Notice { key: 7, level: Level::Error, code: "guard".into(), text: "6 of 6 failed".into() };
        let told = text("web", &flip, &notice);
        for part in [
            "Error: route web: 6 of 6 failed\nStatus: FLIPPED_BACK\nImpact: all users were on green",
            "\nSince: 2027-01-15T08:00:00Z",
            "\nDone: all users are on blue\nNext: green gets nothing; repair it",
        ] {
            assert!(told.contains(part), "{part} in {told}");
        }
    }
}
