//! One tick of one route as the analyzer reads it, live or from a recorded file.
//!
//! A tick is one second of one weight epoch: an outcome belongs to the second in which it is known
//! and to the weights of its choice, so nothing is ever late. What else a recording holds is in
//! `recording`. It must never hold anything that cannot be written down and read again: a recording
//! gives the verdicts the live run gave.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::bins::{Bins, MAX_BINS};
use super::recording::Said;

/// Longest line of a recording in bytes.
pub const MAX_LINE: usize = 1 << 20;
/// Nanoseconds of a millisecond, the unit of the recording.
const MILLI: f64 = 1e6;
/// Parts of a second in which bad outcomes are told apart.
pub const MOMENTS: u8 = 10;

/// What both arms left in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tick {
    /// Seconds on a clock that never goes back; where it starts does not matter.
    pub at_second: u64,
    /// The router's probability of the canary among the two arms, 0 to 1.
    pub w: f64,
    /// Index of the rollout's step, from 0.
    pub step: u32,
    /// The arm that serves the old version.
    pub stable: ArmCounts,
    /// The arm that serves the new one.
    pub canary: ArmCounts,
    /// Too few addresses were active to bound what one of them may add.
    pub few_clients: bool,
}

/// What one arm left in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ArmCounts {
    /// Requests that ended and count.
    pub n: u64,
    /// Of these, bad.
    pub e: u64,
    /// Latency of good outcomes; of a sticky route each slot's first outcome only. `None` when
    /// latency was not measured.
    pub latency: Option<Bins>,
    /// How long those had waited who left before their answer.
    pub left: Bins,
    /// Bad outcomes that belong beside `latency`; `None` is `e`, or on a sticky route none.
    pub latency_bad: Option<u64>,
    /// Slots seen since the step began; `None` when the route is not sticky.
    pub slots: Option<u64>,
    /// Slots that were bad since the step began.
    pub bad_slots: u64,
    /// Slots that were bad since the step's warm-up ended; `None` when not counted.
    pub warm_bad_slots: Option<u64>,
    /// Good outcomes of slots that had been bad before.
    pub repeats: u64,
    /// Answers with a 4xx status.
    pub client_errors: u64,
    /// Slots that got a 4xx since the step began; `None` when not counted.
    pub client_error_slots: Option<u64>,
    /// In which tenths of the second bad outcomes fell, bit 0 the first; `None` when unknown.
    pub bad_moments: Option<u16>,
    /// Steered requests of trusted overrides: how many, and how many were bad. Not in `n` and `e`.
    pub trusted: (u64, u64),
}

impl ArmCounts {
    /// Outcomes beside which latency is compared, and how many of them were slow at `edge`.
    #[must_use]
    pub fn slow(&self, edge: u64) -> Option<(u64, u64)> {
        let latency = self.latency.as_ref()?;
        let bad = self.failed_beside_latency();
        let slow = latency.above(edge) + self.left.above(edge) + bad;
        Some((latency.total() + self.left.above(edge) + bad, slow))
    }

    /// Bad outcomes that count as slow beside the latency of good ones.
    #[must_use]
    pub fn failed_beside_latency(&self) -> u64 {
        self.latency_bad.unwrap_or(if self.slots.is_some() { 0 } else { self.e })
    }
}

/// A line that cannot be read: which, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct CountsError {
    /// From 1.
    pub line: usize,
    /// One sentence.
    pub why: String,
}

/// Reads a recording line by line.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    line: usize,
    epoch: Option<(f64, u32)>,
    last: u64,
}

impl Reader {
    /// Reads one line; `None` for an empty one.
    ///
    /// # Errors
    /// The line's number and what is wrong with it.
    pub fn line(&mut self, text: &str) -> Result<Option<Tick>, CountsError> {
        Ok(self.said(text)?.map(|(tick, _)| tick))
    }

    /// Reads one line, with what was said of it when it was recorded.
    pub(super) fn said(&mut self, text: &str) -> Result<Option<(Tick, Option<Said>)>, CountsError> {
        if !self.begin(text)? {
            return Ok(None);
        }
        let mut read: Line = self.parse(text)?;
        let said = read.live.take();
        let tick = self.tick(read).map_err(|why| self.fail(why))?;
        Ok(Some((tick, said)))
    }

    /// Counts a line; whether there is anything on it.
    pub(super) fn begin(&mut self, text: &str) -> Result<bool, CountsError> {
        self.line += 1;
        if text.len() > MAX_LINE {
            return Err(self.fail(format!("it has more than {MAX_LINE} bytes")));
        }
        Ok(!text.trim().is_empty())
    }

    pub(super) fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, CountsError> {
        serde_json::from_str(text).map_err(|error| self.fail(plain(&error)))
    }

    /// The process was started again, and went on from what it had written down last.
    pub(super) fn went_back_to(&mut self, second: u64) {
        self.last = second;
    }

    fn fail(&self, why: String) -> CountsError {
        CountsError { line: self.line, why }
    }

    /// Reads a whole text.
    ///
    /// # Errors
    /// The first line that cannot be read.
    pub fn all(text: &str) -> Result<Vec<Tick>, CountsError> {
        let mut reader = Self::default();
        text.lines().filter_map(|line| reader.line(line).transpose()).collect()
    }

    fn tick(&mut self, read: Line) -> Result<Tick, String> {
        let w = match (read.w, read.share, self.epoch) {
            (Some(percent), ..) if !(0.0..=100.0).contains(&percent) => {
                return Err(format!("w is {percent}, not a percentage from 0 to 100"));
            }
            (_, Some(share), _) if !(0.0..=1.0).contains(&share) => {
                return Err(format!("share is {share}, not a part from 0 to 1"));
            }
            (_, Some(share), _) => share,
            (Some(percent), None, _) => percent / 100.0,
            (None, None, Some((w, _))) => w,
            (None, None, None) => return Err("the first line needs w, the canary's weight in percent".into()),
        };
        let step = read.step.or(self.epoch.map(|(_, step)| step)).unwrap_or(0);
        if read.t < self.last {
            return Err(format!("t is {}, before the {} of the line above", read.t, self.last));
        }
        let stable = read.stable.counts().map_err(|why| format!("stable: {why}"))?;
        let canary = read.canary.counts().map_err(|why| format!("canary: {why}"))?;
        self.epoch = Some((w, step));
        self.last = read.t;
        Ok(Tick { at_second: read.t, w, step, stable, canary, few_clients: read.few_clients })
    }
}

/// Writes a recording line by line.
#[derive(Clone, Debug, Default)]
pub struct Writer {
    epoch: Option<(f64, u32)>,
}

impl Writer {
    /// The tick as one line, without its end.
    #[must_use]
    pub fn line(&mut self, tick: &Tick) -> String {
        self.said(tick, None)
    }

    /// The same, with what was said of it.
    pub(super) fn said(&mut self, tick: &Tick, said: Option<&Said>) -> String {
        let epoch = (tick.w, tick.step);
        let changed = self.epoch != Some(epoch);
        self.epoch = Some(epoch);
        let percent = tick.w * 100.0;
        let line = Line {
            t: tick.at_second,
            stable: ArmLine::of(&tick.stable),
            canary: ArmLine::of(&tick.canary),
            w: changed.then_some(percent),
            step: changed.then_some(tick.step),
            // A few numbers are no percentage that is read as the same number again.
            share: (changed && (percent / 100.0).to_bits() != tick.w.to_bits()).then_some(tick.w),
            few_clients: tick.few_clients,
            live: said.cloned(),
        };
        // Numbers, lists and maps with text keys always have a JSON form.
        serde_json::to_string(&line).unwrap_or_default()
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    t: u64,
    stable: ArmLine,
    canary: ArmLine,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    w: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    step: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<f64>,
    #[serde(default, skip_serializing_if = "is_default")]
    few_clients: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    live: Option<Said>,
}

/// Upper bound in milliseconds (`null`: none) and count.
type BinLine = (Option<f64>, u64);

#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct ArmLine {
    n: u64,
    e: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slots: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bad_slots: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    warm_bad_slots: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    repeats: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency: Option<Vec<BinLine>>,
    #[serde(default, skip_serializing_if = "is_default")]
    left: Vec<BinLine>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_bad: Option<u64>,
    #[serde(default, skip_serializing_if = "is_default")]
    client_errors: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_error_slots: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bad_moments: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "is_default")]
    trusted: (u64, u64),
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl ArmLine {
    fn counts(self) -> Result<ArmCounts, String> {
        let Self { n, e, slots, .. } = self;
        let at_most = |what: &str, part: u64, whole: u64, of: &str| {
            if part <= whole { Ok(()) } else { Err(format!("{what} is {part}, more than the {whole} {of}")) }
        };
        let bad_slots = self.bad_slots.unwrap_or(0);
        at_most("e", e, n, "requests")?;
        at_most("badSlots", bad_slots, slots.unwrap_or(bad_slots), "slots")?;
        at_most("warmBadSlots", self.warm_bad_slots.unwrap_or(0), bad_slots, "bad slots")?;
        at_most("repeats", self.repeats, n - e, "good requests")?;
        at_most("clientErrors", self.client_errors, n, "requests")?;
        at_most("trusted's second number", self.trusted.1, self.trusted.0, "trusted requests")?;
        let latency = self.latency.as_deref().map(bins).transpose()?;
        if let Some(latency) = &latency {
            at_most("latency's sum", latency.total(), n - e, "good requests")?;
        }
        let moment = |mask: u16, moment: u8| {
            if moment < MOMENTS {
                Ok(mask | 1 << moment)
            } else {
                Err(format!("badMoments has {moment}, not a tenth from 0 to 9"))
            }
        };
        let bad_moments = self.bad_moments.map(|list| list.into_iter().try_fold(0, moment)).transpose()?;
        Ok(ArmCounts {
            n,
            e,
            latency,
            left: bins(&self.left)?,
            latency_bad: self.latency_bad,
            // Bad slots alone say that the route is sticky.
            slots: slots.or(self.bad_slots),
            bad_slots,
            warm_bad_slots: self.warm_bad_slots,
            repeats: self.repeats,
            client_errors: self.client_errors,
            client_error_slots: self.client_error_slots,
            bad_moments,
            trusted: self.trusted,
        })
    }

    fn of(arm: &ArmCounts) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "bounds are below 2^53 nanoseconds, or none")]
        let line = |(upper, count): (u64, u64)| ((upper != u64::MAX).then_some(upper as f64 / MILLI), count);
        let moments = |mask: u16| (0..MOMENTS).filter(|moment| mask & 1 << moment != 0).collect::<Vec<_>>();
        Self {
            n: arm.n,
            e: arm.e,
            slots: arm.slots,
            bad_slots: arm.slots.map(|_| arm.bad_slots),
            warm_bad_slots: arm.warm_bad_slots,
            repeats: arm.repeats,
            latency: arm.latency.as_ref().map(|bins| bins.iter().map(line).collect()),
            left: arm.left.iter().map(line).collect(),
            latency_bad: arm.latency_bad,
            client_errors: arm.client_errors,
            client_error_slots: arm.client_error_slots,
            bad_moments: arm.bad_moments.map(moments),
            trusted: arm.trusted,
        }
    }
}

fn bins(list: &[BinLine]) -> Result<Bins, String> {
    if list.len() > MAX_BINS {
        return Err(format!("latency has {} bins, more than {MAX_BINS}", list.len()));
    }
    let bound = |(millis, count): &BinLine| match millis {
        None => Ok((u64::MAX, *count)),
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive and saturating"
        )]
        Some(millis) if *millis > 0.0 => Ok(((millis * MILLI).round() as u64, *count)),
        Some(millis) => Err(format!("latency has the upper bound {millis}, which is not above 0 ms")),
    };
    list.iter().map(bound).collect()
}

/// The library's words without the place: a line is one line long.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let end = text.rfind(" at line ").unwrap_or(text.len());
    let column = error.column();
    let text = text.get(..end).unwrap_or(&text);
    if column > 0 { format!("column {column}: {text}") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The line of the documentation.
    const LINE: &str = r#"{"t":12,"stable":{"n":950,"e":1,"slots":900,"badSlots":1,"latency":[[5,700],[10,200],[50,49]]},"canary":{"n":50,"e":0,"latency":[[5,40],[10,10]]},"w":5}"#;

    #[test]
    fn the_documented_line_is_read() {
        let tick = &Reader::all(LINE).unwrap()[0];
        assert_eq!((tick.at_second, tick.w, tick.step), (12, 0.05, 0));
        assert_eq!((tick.stable.n, tick.stable.slots, tick.stable.bad_slots), (950, Some(900), 1));
        let latency = tick.stable.latency.as_ref().unwrap();
        assert_eq!(
            latency.iter().collect::<Vec<_>>(),
            [(5_000_000, 700), (10_000_000, 200), (50_000_000, 49)]
        );
        assert_eq!(
            (tick.canary.n, tick.canary.slots, tick.canary.latency.as_ref().unwrap().total()),
            (50, None, 50)
        );
    }

    #[test]
    fn weight_and_step_hold_until_they_change() {
        let arm = r#""stable":{"n":1,"e":0},"canary":{"n":1,"e":1}"#;
        let text = format!(
            "{{\"t\":0,{arm},\"w\":1}}\n\n{{\"t\":1,{arm}}}\n{{\"t\":1,{arm},\"w\":50,\"step\":3}}\n{{\"t\":2,{arm}}}"
        );
        let ticks = Reader::all(&text).unwrap();
        let seen: Vec<_> = ticks.iter().map(|tick| (tick.at_second, tick.w, tick.step)).collect();
        assert_eq!(seen, [(0, 0.01, 0), (1, 0.01, 0), (1, 0.5, 3), (2, 0.5, 3)]);
    }

    #[test]
    fn what_is_written_is_read_again() {
        let arm = ArmCounts {
            n: 9,
            e: 2,
            latency: Some([(10_500, 3), (u64::MAX, 1)].into_iter().collect()),
            left: [(2_000_000, 1)].into_iter().collect(),
            latency_bad: Some(1),
            slots: Some(7),
            bad_slots: 2,
            warm_bad_slots: Some(1),
            repeats: 3,
            client_errors: 1,
            client_error_slots: Some(1),
            bad_moments: Some(0b10_0000_0001),
            trusted: (4, 1),
        };
        let tick = Tick {
            at_second: 3,
            w: 0.25,
            step: 2,
            stable: ArmCounts::default(),
            canary: arm,
            few_clients: true,
        };
        let next = Tick { at_second: 4, ..tick.clone() };
        let mut writer = Writer::default();
        let lines = [writer.line(&tick), writer.line(&next)];
        assert!(lines[0].contains("\"w\":25.0,\"step\":2") && !lines[1].contains("\"w\""), "{lines:?}");
        assert_eq!(Reader::all(&lines.join("\n")).unwrap(), [tick, next]);
    }

    #[test]
    fn a_line_that_cannot_be_says_why() {
        let rows = [
            ("{\"t\":1}", "line 2: column 7: missing field `stable`"),
            ("{", "line 2: column 1: EOF while parsing an object"),
            (
                r#"{"t":12,"stable":{"n":1,"e":2},"canary":{"n":0,"e":0}}"#,
                "line 2: stable: e is 2, more than the 1 requests",
            ),
            (r#"{"t":1,"stable":{"n":1,"e":0},"canary":{"n":0}}"#, "line 2: column 46: missing field `e`"),
            (
                r#"{"t":12,"stable":{"n":1,"e":0},"canary":{"n":0,"e":0},"w":101}"#,
                "line 2: w is 101, not a percentage from 0 to 100",
            ),
            (
                r#"{"t":0,"stable":{"n":1,"e":0},"canary":{"n":0,"e":0}}"#,
                "line 2: t is 0, before the 12 of the line above",
            ),
            (
                r#"{"t":13,"stable":{"n":1,"e":0},"canary":{"n":3,"e":1,"latency":[[5,3]]}}"#,
                "line 2: canary: latency's sum is 3, more than the 2 good requests",
            ),
            (
                r#"{"t":13,"stable":{"n":1,"e":0,"latency":[[0,1]]},"canary":{"n":3,"e":1}}"#,
                "line 2: stable: latency has the upper bound 0, which is not above 0 ms",
            ),
            (
                r#"{"t":13,"stable":{"n":1,"e":0,"slots":1,"badSlots":2},"canary":{"n":3,"e":1}}"#,
                "line 2: stable: badSlots is 2, more than the 1 slots",
            ),
            (
                r#"{"t":13,"stable":{"n":1,"e":0},"canary":{"n":3,"e":1,"badMoments":[10]}}"#,
                "line 2: canary: badMoments has 10, not a tenth from 0 to 9",
            ),
        ];
        for (line, says) in rows {
            let error = Reader::all(&format!("{LINE}\n{line}")).unwrap_err();
            assert_eq!(error.to_string(), says, "{line}");
        }
        let error = Reader::all(r#"{"t":1,"stable":{"n":1,"e":0},"canary":{"n":0,"e":0}}"#).unwrap_err();
        assert_eq!(error.why, "the first line needs w, the canary's weight in percent");
    }
}
