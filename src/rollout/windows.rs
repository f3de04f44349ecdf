//! When weights may rise: days and times of the day in a time zone.
//!
//! What a zone's offset is comes in: rules of time zones are data of the machine. An unknown zone is
//! closed. It must never decide what a closed window does.

use crate::analysis::policy::Window;
use crate::model::time::UnixMillis;
use crate::spec::rollout::Day;

const SECONDS_PER_DAY: i64 = 86_400;
const WEEK: [Day; 7] = [Day::Thu, Day::Fri, Day::Sat, Day::Sun, Day::Mon, Day::Tue, Day::Wed];

/// Whether weights may rise: some window is open, or there is none. `offset` gives seconds east of
/// UTC of a zone at the moment.
#[must_use]
pub fn is_open(windows: &[Window], wall: UnixMillis, offset: impl Fn(&str) -> Option<i32>) -> bool {
    windows.is_empty()
        || windows.iter().any(|window| {
            offset(&window.zone).is_some_and(|east| holds(window, wall.seconds() + i64::from(east)))
        })
}

/// Whether a local time, in seconds as if it were UTC, is in a window. One that goes over midnight
/// belongs to the day it begins on.
fn holds(window: &Window, local: i64) -> bool {
    let (day, minute) = (local.div_euclid(SECONDS_PER_DAY), local.rem_euclid(SECONDS_PER_DAY) / 60);
    let (from, until) = (i64::from(window.from_minute), i64::from(window.until_minute));
    let on = |day: i64| {
        let weekday = usize::try_from(day.rem_euclid(7)).unwrap_or(0);
        window.days.is_empty() || window.days.contains(&WEEK[weekday])
    };
    if from < until {
        on(day) && minute >= from && minute < until
    } else {
        (on(day) && minute >= from) || (on(day - 1) && minute < until)
    }
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
                is_open(std::slice::from_ref(window), moment, |_| Some(0)),
                open,
                "{window:?} {moment:?}"
            );
        }
    }

    #[test]
    fn zones_shift_it_and_an_unknown_one_is_closed() {
        let work = [window(&[Day::Thu], 9, 16)];
        assert!(is_open(&[], at(0, 0, 0), |_| None));
        assert!(!is_open(&work, at(0, 12, 0), |_| None));
        assert!(is_open(&work, at(0, 8, 0), |_| Some(3_600)));
        assert!(!is_open(&work, at(0, 15, 0), |_| Some(3_600)));
        assert!(is_open(&work, at(0, 23, 0), |_| Some(-10 * 3_600)));
    }
}
