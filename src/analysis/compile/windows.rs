//! The `windows` of a rollout block: times of the day, days of the week, zones.
//!
//! A window whose second time is before its first goes over midnight and belongs to the day it begins
//! on. It must never let one through that never opens, or whose zone nobody knows.

use super::Findings;
use crate::analysis::policy::Window;
use crate::model::{Diagnostic, Place};
use crate::spec::rollout::Window as Written;
use crate::spec::{Spec, Spot};

/// Most windows of one rollout: each is looked at every second.
const MAX_WINDOWS: usize = 32;
/// Minutes of a day.
const DAY: u16 = 24 * 60;

impl Findings<'_> {
    pub(super) fn windows(&mut self, written: &[Spot<Written>]) -> Vec<Window> {
        if let Some(beyond) = written.get(MAX_WINDOWS) {
            let message = format!("a rollout has at most {MAX_WINDOWS} windows");
            self.error(beyond, "too-many", message, "one window may name several days");
        }
        written.iter().take(MAX_WINDOWS).filter_map(|window| self.window(window)).collect()
    }

    fn window(&mut self, written: &Spot<Written>) -> Option<Window> {
        let times: Vec<Option<u16>> = written.between.iter().map(|time| minute(time)).collect();
        let [Some(from_minute), Some(until_minute)] = times[..] else {
            let message = "a window is between two times of the day";
            self.error(&written.between, "bad-value", message, "between: [\"09:00\", \"16:00\"]");
            return None;
        };
        let opens = from_minute != until_minute && from_minute < DAY;
        let hint = "its second time is excluded; [\"00:00\", \"24:00\"] is all day";
        self.unless(opens, &written.between, "cannot-decide", "the window never opens", hint);
        let days = written.days.as_ref();
        if let Some(none) = days.filter(|days| days.is_empty()) {
            let hint = "name days, such as [mon, tue], or leave `days` out for every day";
            self.error(none, "cannot-decide", "the window opens on no day", hint);
        }
        Some(Window {
            days: days.map(|days| days.value.clone()).unwrap_or_default(),
            from_minute,
            until_minute,
            zone: written.zone.value.clone(),
        })
    }
}

/// A finding for every window in a zone that is not known. Time zones are data of the machine, so
/// who knows them is asked.
#[must_use]
pub fn unknown_zones(spec: &Spec, knows: impl Fn(&str) -> bool) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for (source, file) in &spec.files {
        let rollouts = file.routes.iter().filter_map(|route| route.rollout.as_ref());
        for zone in rollouts.flat_map(|rollout| &rollout.windows).map(|window| &window.zone) {
            if !knows(zone) {
                let (line, column, length) = (zone.line, zone.column, zone.length);
                let place = Place { file: source.name.clone(), line, column, length };
                let message = format!("this machine knows no time zone `{}`", **zone);
                let hint = "an IANA name such as Europe/Paris; zones are in the system's tzdata";
                found.push(Diagnostic::error("unknown-zone", message).at(place).hint(hint));
            }
        }
    }
    found
}

/// Minutes since midnight of `HH:MM`, up to 24:00.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |part: &str| part.len() == 2 && part.bytes().all(|one| one.is_ascii_digit());
    if !digits(hours) || !digits(minutes) {
        return None;
    }
    let (hours, minutes): (u16, u16) = (hours.parse().ok()?, minutes.parse().ok()?);
    let all = hours * 60 + minutes;
    (minutes < 60 && all <= DAY).then_some(all)
}
