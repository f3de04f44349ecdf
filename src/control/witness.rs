//! What was put back stays put back, even when the state file does not say so.
//!
//! The state file may be older than a revert that could not be written, or gone. Then the marks of a
//! full disk and the history are asked, and the safer one is believed. It must never give anybody
//! weight.

use std::collections::BTreeMap;

use super::absent::Absent;
use super::putback::{Marks, mark};
use super::rollouts::report::Line;
use super::store::Kept;
use crate::rollout::Record;
use crate::rollout::state::{Direction, MAX_SPOILED, Phase, Reason, Share};

/// Puts back what the state file has as live, when a mark or the history says that it was put back in
/// the same run or a later one.
pub fn believe(kept: &mut Kept, marks: &mut Marks, history: &[Line]) {
    let last: BTreeMap<&str, &Record> =
        versions(history).map(|line| (line.route.as_str(), &line.record)).collect();
    for (route, known) in &mut kept.by_route {
        let rollout = &mut known.rollout;
        // A mark of an earlier run was overruled by a person since.
        let marked = marks.remove(&mark(route, &rollout.identity.version));
        let marked = marked.is_some_and(|run| run >= rollout.run);
        if rollout.phase.base().is_none() {
            if marked {
                rollout.lock(&rollout.identity.version.clone());
            }
            continue;
        }
        let told = last.get(route.as_str()).filter(|record| {
            let walked_back = rollout.direction == Direction::Back && record.to == Phase::Promoted.name();
            let same = record.version == rollout.identity.version && record.run >= rollout.run;
            same && (walked_back || is_put_back(record))
        });
        if !marked && told.is_none() {
            continue;
        }
        let why = told.map_or("", |record| &record.reason);
        let text = format!("it was put back before the restart, which the state file did not say: {why}");
        rollout.run = rollout.run.max(told.map_or(0, |record| record.run));
        rollout.seq = rollout.seq.max(told.map_or(0, |record| record.key));
        rollout.reason =
            Reason { code: "put-back-before".into(), text: text.trim_end_matches([':', ' ']).to_owned() };
        (rollout.phase, rollout.share, rollout.manual) = (Phase::Reverting, Share::NONE, None);
    }
}

/// Remembers, of routes that the state file does not know, which versions the history says were put
/// back: none of them starts by itself.
pub fn recall_put_back(kept: &mut Kept, history: &[Line]) {
    let mut last: BTreeMap<&str, BTreeMap<&str, (usize, &Record)>> = BTreeMap::new();
    for (at, line) in history.iter().enumerate() {
        last.entry(&line.route).or_default().insert(&line.record.version, (at, &line.record));
    }
    for (route, versions) in last {
        if kept.by_route.contains_key(route) || kept.absent.contains_key(route) {
            continue;
        }
        let mut put_back: Vec<_> = versions.values().filter(|(_, record)| is_put_back(record)).collect();
        let Some((_, newest)) = put_back.iter().max_by_key(|(at, _)| *at) else { continue };
        let since_millis = newest.at_millis;
        put_back.sort_by_key(|(at, _)| *at);
        let over = put_back.len().saturating_sub(MAX_SPOILED);
        let records = || history.iter().filter(|line| line.route == route).map(|line| &line.record);
        let run = records().map(|record| record.run).max().unwrap_or(0);
        let seq = records().map(|record| record.key).max().unwrap_or(0);
        let spoiled = put_back.iter().skip(over).map(|(_, record)| record.version.clone()).collect();
        kept.absent.insert(route.to_owned(), Absent { since_millis, run, seq, spoiled });
    }
}

/// What was decided of versions; exchanges of slots have none.
fn versions(history: &[Line]) -> impl Iterator<Item = &Line> {
    history.iter().filter(|line| !line.record.version.is_empty())
}

fn is_put_back(record: &Record) -> bool {
    [Phase::Reverting, Phase::Reverted, Phase::Aborted].iter().any(|phase| phase.name() == record.to)
}
