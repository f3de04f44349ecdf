//! When weights may rise: days and times of the day in a time zone.
//!
//! What a zone's offset is comes in: rules of time zones are data of the machine. A zone that became
//! unknown is closed; a file that names one is refused. It must never decide what a closed window does.

use std::fmt;

use crate::analysis::policy::Window;
use crate::model::time::UnixMillis;
use crate::spec::rollout::Day;

const SECONDS_PER_DAY: i64 = 86_400;
const WEEK: [Day; 7] = [Day::Thu, Day::Fri, Day::Sat, Day::Sun, Day::Mon, Day::Tue, Day::Wed];

/// When the next window opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// Wall clock, to the second.
    pub at: UnixMillis,
    /// Day of the week in its zone.
    pub day: Day,
    /// Minute of that day.
    pub minute: u16,
    /// IANA time zone.
    pub zone: String,
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:02}:{:02} {}", self.day, self.minute / 60, self.minute % 60, self.zone)
    }
}

impl Opening {
    /// How long it is until then: `3 h`.
    #[must_use]
    pub fn left(&self, wall: UnixMillis) -> String {
        let seconds = self.at.0.saturating_sub(wall.0).div_ceil(1_000);
        match seconds {
            0..60 => format!("{seconds} s"),
            60..5_400 => format!("{} min", seconds.div_ceil(60)),
            5_400..172_800 => format!("{} h", (seconds + 1_800) / 3_600),
            _ => format!("{} d", (seconds + 43_200) / 86_400),
        }
    }
}

/// Whether weights may rise: some window is open, or there is none. `offset` gives seconds east of
/// UTC of a zone at a moment.
#[must_use]
pub fn is_open(
    windows: &[Window],
    wall: UnixMillis,
    offset: impl Fn(&str, UnixMillis) -> Option<i32>,
) -> bool {
    windows.is_empty()
        || windows.iter().any(|window| {
            offset(&window.zone, wall).is_some_and(|east| holds(window, wall.seconds() + i64::from(east)))
        })
}

/// When the next window opens after a moment at which all are closed; `None` when no zone is known.
#[must_use]
pub fn opens(
    windows: &[Window],
    wall: UnixMillis,
    offset: impl Fn(&str, UnixMillis) -> Option<i32>,
) -> Option<Opening> {
    windows.iter().filter_map(|window| next(window, wall, &offset)).min_by_key(|opening| opening.at)
}

fn next(
    window: &Window,
    wall: UnixMillis,
    offset: &impl Fn(&str, UnixMillis) -> Option<i32>,
) -> Option<Opening> {
    let east = i64::from(offset(&window.zone, wall)?);
    let today = (wall.seconds() + east).div_euclid(SECONDS_PER_DAY);
    (today..=today + 7).filter(|day| is_on(window, *day)).find_map(|day| {
        let local = day * SECONDS_PER_DAY + i64::from(window.from_minute) * 60;
        let moment = |east: i64| u64::try_from(local - east).ok().map(|at| UnixMillis(at * 1_000));
        // The clock of the zone may have been changed by then.
        let then = offset(&window.zone, moment(east)?).map_or(east, i64::from);
        let at = moment(then).filter(|at| *at > wall)?;
        Some(Opening { at, day: weekday(day), minute: window.from_minute, zone: window.zone.clone() })
    })
}

/// Whether a local time, in seconds as if it were UTC, is in a window. One that goes over midnight
/// belongs to the day it begins on.
fn holds(window: &Window, local: i64) -> bool {
    let (day, minute) = (local.div_euclid(SECONDS_PER_DAY), local.rem_euclid(SECONDS_PER_DAY) / 60);
    let (from, until) = (i64::from(window.from_minute), i64::from(window.until_minute));
    if from < until {
        is_on(window, day) && minute >= from && minute < until
    } else {
        (is_on(window, day) && minute >= from) || (is_on(window, day - 1) && minute < until)
    }
}

fn is_on(window: &Window, day: i64) -> bool {
    window.days.is_empty() || window.days.contains(&weekday(day))
}

/// Of a day since the epoch, which was a Thursday.
fn weekday(day: i64) -> Day {
    let at = usize::try_from(day.rem_euclid(7)).unwrap_or(0);
    WEEK.get(at).copied().unwrap_or(Day::Thu)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thursday, 1 January 1970, at a time of the day.
    fn at(day: u64, hour: u64, minute: u64) -> UnixMillis {
        UnixMillis(((day * 24 + hour) * 60 + minute) * 60_000)
    }

    fn window(days: &[Day], from: u16, until: u16) -> Window {
        Window { days: days.to_vec(), from_minute: from * 60, until_minute: until * 60, zone: "UTC".into() }
    }

    #[test]
    fn a_window_is_open_on_its_days_between_its_times() {
        let work = window(&[Day::Thu, Day::Fri], 9, 16);
        let night = window(&[Day::Fri], 22, 6);
        let rows = [
            (&work, at(0, 8, 59), false),
            (&work, at(0, 9, 0), true),
            (&work, at(1, 15, 59), true),
            (&work, at(1, 16, 0), false),
            (&work, at(2, 12, 0), false),
            (&work, at(7, 12, 0), true),
            (&night, at(1, 21, 59), false),
            (&night, at(1, 22, 0), true),
            (&night, at(2, 5, 59), true),
            (&night, at(2, 6, 0), false),
            (&night, at(1, 5, 0), false),
            (&night, at(2, 23, 0), false),
        ];
        for (window, moment, open) in rows {
            assert_eq!(
                is_open(std::slice::from_ref(window), moment, |_, _| Some(0)),
                open,
                "{window:?} {moment:?}"
            );
        }
    }

    #[test]
    fn zones_shift_it_and_an_unknown_one_is_closed() {
        let work = [window(&[Day::Thu], 9, 16)];
        assert!(is_open(&[], at(0, 0, 0), |_, _| None));
        assert!(!is_open(&work, at(0, 12, 0), |_, _| None));
        assert!(is_open(&work, at(0, 8, 0), |_, _| Some(3_600)));
        assert!(!is_open(&work, at(0, 15, 0), |_, _| Some(3_600)));
        assert!(is_open(&work, at(0, 23, 0), |_, _| Some(-10 * 3_600)));
    }

    #[test]
    fn it_is_said_when_the_next_one_opens() {
        let work = window(&[Day::Thu, Day::Fri], 9, 16);
        let night = window(&[Day::Sat], 22, 6);
        let all = [work.clone(), night.clone()];
        let rows: [(&[Window], UnixMillis, &str, &str); 6] = [
            (&[], at(0, 0, 0), "", ""),
            (&all[..1], at(0, 6, 0), "Thu 09:00 UTC", "3 h"),
            (&all[..1], at(0, 16, 0), "Fri 09:00 UTC", "17 h"),
            (&all[..1], at(1, 16, 0), "Thu 09:00 UTC", "6 d"),
            (&all, at(1, 16, 0), "Sat 22:00 UTC", "30 h"),
            (&all, at(2, 21, 59), "Sat 22:00 UTC", "1 min"),
        ];
        for (windows, wall, text, left) in rows {
            let found = opens(windows, wall, |_, _| Some(0));
            let told = found.map_or_else(Default::default, |one| (one.to_string(), one.left(wall)));
            assert_eq!(told, (text.to_owned(), left.to_owned()), "{wall:?}");
        }
        assert_eq!(opens(&all, at(0, 0, 0), |_, _| None), None);
    }

    #[test]
    fn a_change_of_the_zone_s_clock_before_it_opens_is_seen() {
        // An hour is added on Friday at one o'clock UTC.
        let east = |_: &str, moment: UnixMillis| Some(if moment < at(1, 1, 0) { 3_600 } else { 7_200 });
        let work = [window(&[Day::Fri], 9, 16)];
        let opening = opens(&work, at(0, 12, 0), east).expect("a window");
        assert_eq!(opening.at, at(1, 7, 0));
        assert!(is_open(&work, opening.at, east) && !is_open(&work, at(1, 6, 59), east));
    }
}
