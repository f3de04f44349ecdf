//! A whole recording: the ticks, what else the analyzer was told, and what was decided, a line each.
//!
//! It exists so that a live rollout can be judged again, exactly, by this policy or another. Lines
//! with the key `event` are what a plain file of counts does not have; a reader of counts alone may
//! leave them out. It must never hold what cannot be written down and read again.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::counts::{CountsError, Reader as CountsReader, Tick, Writer as CountsWriter};
use super::finding::Finding;
use super::judge::Analyzer;

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Counts, and what was said of them when they were recorded.
    Tick(Box<Tick>, Option<Said>),
    /// Anything else, with its second.
    Told(u64, Told),
}

/// What the live analyzer said of a tick.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Said {
    /// The verdict's label.
    pub verdict: Cow<'static, str>,
    /// The rule's label.
    pub rule: Cow<'static, str>,
    /// `ln E`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<f64>,
}

impl Said {
    /// Of a finding.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        Self {
            verdict: finding.verdict.label().into(),
            rule: finding.rule.label().into(),
            log: finding.evidence.log,
        }
    }
}

/// What is no count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Told {
    /// A run began: the analyzer forgot everything.
    Begin {
        /// Name of the new version.
        version: String,
        /// Number of the run.
        run: u64,
        /// Requests per second that `confidence: auto` was chosen by.
        rate: f64,
    },
    /// The analyzer was told of a step.
    Step {
        /// The step, from 0.
        step: u32,
        /// The canary's weight in percent.
        w: f64,
    },
    /// What `confidence: auto` means was chosen anew.
    Choose {
        /// Requests per second that it was chosen by.
        rate: f64,
    },
    /// The process was started again.
    Resume {
        /// Seconds it was away.
        down: u64,
        /// What the analyzer knew, as it had been written down.
        #[serde(default)]
        analyzer: Option<Box<Analyzer>>,
    },
    /// The policy in force changed.
    Policy,
    /// A second was decided: what was true in it, and where the rollout was afterwards.
    Second(Second),
    /// Something else than a second moved the rollout: this is what it was then.
    State {
        /// Milliseconds of the clock of [`Second::ms`].
        ms: u64,
        /// The rollout as it is written down.
        rollout: serde_json::Value,
    },
    /// Seconds that were not recorded.
    Lost {
        /// How many.
        seconds: u64,
    },
    /// From a later version.
    #[serde(other)]
    Unknown,
}

/// The scene of a second, as far as it is not what it usually is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Second {
    /// Milliseconds of a clock that never steps.
    pub ms: u64,
    /// State of the rollout afterwards.
    pub state: Cow<'static, str>,
    /// Its step afterwards, from 0.
    pub step: u32,
    /// Requests per second of both arms, lately.
    pub rate: f64,
    /// Weights may not rise at this time.
    #[serde(skip_serializing_if = "is_false")]
    pub window_closed: bool,
    /// The old version has no endpoint.
    #[serde(skip_serializing_if = "is_false")]
    pub from_down: bool,
    /// The new version has no endpoint.
    #[serde(skip_serializing_if = "is_false")]
    pub to_down: bool,
    /// The state could not be written down.
    #[serde(skip_serializing_if = "is_false")]
    pub store_down: bool,
    /// The error budget was spent.
    #[serde(skip_serializing_if = "is_false")]
    pub budget_frozen: bool,
    /// A number from outside: the check's name, and `silent`, `hold` or `revert`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub check: Option<(String, Cow<'static, str>)>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_false(value: &bool) -> bool {
    !*value
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    t: u64,
    #[serde(flatten)]
    told: T,
}

/// Reads a recording line by line.
#[derive(Clone, Debug, Default)]
pub struct Reader(CountsReader);

impl Reader {
    /// Reads one line; `None` for an empty one.
    ///
    /// # Errors
    /// The line's number and what is wrong with it.
    pub fn line(&mut self, text: &str) -> Result<Option<Entry>, CountsError> {
        if !text.contains("\"event\"") {
            return Ok(self.0.said(text)?.map(|(tick, said)| Entry::Tick(Box::new(tick), said)));
        }
        self.0.begin(text)?;
        let Line { t, told } = self.0.parse(text)?;
        if matches!(told, Told::Resume { .. }) {
            self.0.went_back_to(t);
        }
        Ok(Some(Entry::Told(t, told)))
    }
}

/// Writes a recording line by line.
#[derive(Clone, Debug, Default)]
pub struct Writer(CountsWriter);

impl Writer {
    /// A tick as one line, without its end.
    #[must_use]
    pub fn tick(&mut self, tick: &Tick, said: Option<&Said>) -> String {
        self.0.said(tick, said)
    }

    /// Anything else as one line, without its end.
    #[must_use]
    pub fn told(t: u64, told: &Told) -> String {
        // Numbers, lists and maps with text keys always have a JSON form.
        serde_json::to_string(&Line { t, told }).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::analysis::counts::ArmCounts;
    use crate::analysis::{Bins, Policy};

    fn bins() -> impl Strategy<Value = Bins> {
        let upper = prop_oneof![1_u64..200_000_000_000, Just(u64::MAX)];
        prop::collection::vec((upper, 1_u64..50), 0..12).prop_map(|list| list.into_iter().collect())
    }

    fn arm(sticky: bool) -> impl Strategy<Value = ArmCounts> {
        let numbers = (0_u64..40, 0_u64..40, 0_u64..1_000, 0_u64..1_000, 0_u64..9, 0_u16..1_024);
        let more = (prop::option::of(bins()), bins(), prop::option::of(0_u64..40), any::<bool>());
        (numbers, more).prop_map(move |((e, refused, slots, bad, trusted, moments), more)| {
            let (latency, left, latency_bad, known) = more;
            let good = latency.as_ref().map_or(refused, Bins::total).max(refused);
            ArmCounts {
                n: good + e,
                e,
                latency,
                left,
                latency_bad,
                slots: sticky.then_some(slots + bad),
                bad_slots: if sticky { bad } else { 0 },
                warm_bad_slots: sticky.then_some(bad / 2),
                repeats: if sticky { good.min(trusted) } else { 0 },
                client_errors: refused,
                client_error_slots: sticky.then_some(slots / 2),
                bad_moments: known.then_some(moments),
                trusted: (trusted + e, e),
            }
        })
    }

    fn tick() -> impl Strategy<Value = Tick> {
        any::<bool>().prop_flat_map(|sticky| {
            let rest = (0.0_f64..=1.0, 0_u32..9, any::<bool>(), 0_u64..3);
            (arm(sticky), arm(sticky), rest).prop_map(
                |(stable, canary, (w, step, few_clients, at_second))| Tick {
                    at_second,
                    w,
                    step,
                    stable,
                    canary,
                    few_clients,
                },
            )
        })
    }

    proptest! {
        /// Several ticks of one second, seconds without a request and without a line among them.
        #[test]
        fn every_tick_is_read_as_it_was_written(mut ticks in prop::collection::vec(tick(), 1..20)) {
            let mut second = 0;
            for tick in &mut ticks {
                second += tick.at_second;
                tick.at_second = second;
            }
            let (mut writer, mut reader) = (Writer::default(), Reader::default());
            for (at, tick) in ticks.into_iter().enumerate() {
                let said = (at % 2 == 0).then(|| Said {
                    verdict: "healthy".into(), rule: "none".into(), log: Some(tick.w.ln()).filter(|ln| ln.is_finite()),
                });
                let line = writer.tick(&tick, said.as_ref());
                prop_assert_eq!(reader.line(&line).unwrap(), Some(Entry::Tick(Box::new(tick), said)), "{}", line);
            }
        }
    }

    #[test]
    fn what_else_was_told_is_read_as_it_was_written() {
        let mut analyzer = Analyzer::new(&Policy::default(), 12.0);
        analyzer.enter_step(&Policy::default(), 1, 0.05, 7);
        let second = Second {
            ms: 7_001,
            state: "HOLD".into(),
            step: 1,
            rate: 0.1 + 0.2,
            to_down: true,
            check: Some(("p99".into(), "silent".into())),
            ..Second::default()
        };
        let rows = [
            (
                Told::Begin { version: "v2".into(), run: 1, rate: 12.5 },
                r#"{"t":7,"event":"begin","version":"v2","run":1,"rate":12.5}"#,
            ),
            (Told::Choose { rate: 80.5 }, r#"{"t":7,"event":"choose","rate":80.5}"#),
            (Told::Step { step: 1, w: 5.0 }, r#"{"t":7,"event":"step","step":1,"w":5.0}"#),
            (Told::Policy, r#"{"t":7,"event":"policy"}"#),
            (
                Told::Second(second),
                r#"{"t":7,"event":"second","ms":7001,"state":"HOLD","step":1,"rate":0.30000000000000004,"toDown":true,"check":["p99","silent"]}"#,
            ),
            (
                Told::State { ms: 3, rollout: serde_json::json!({ "step": 1 }) },
                r#"{"t":7,"event":"state","ms":3,"rollout":{"step":1}}"#,
            ),
            (Told::Lost { seconds: 4 }, r#"{"t":7,"event":"lost","seconds":4}"#),
        ];
        for (told, line) in rows {
            assert_eq!(Writer::told(7, &told), line);
            assert_eq!(Reader::default().line(line), Ok(Some(Entry::Told(7, told))), "{line}");
        }
        let told = Told::Resume { down: 3, analyzer: Some(Box::new(analyzer)) };
        let line = Writer::told(7, &told);
        assert_eq!(Reader::default().line(&line), Ok(Some(Entry::Told(7, told))), "{line}");
        let later = r#"{"t":1,"event":"moon","phase":[1]}"#;
        assert_eq!(Reader::default().line(later), Ok(Some(Entry::Told(1, Told::Unknown))));
        assert!(Reader::default().line(r#"{"t":1,"event":"step","w":5}"#).is_err());
    }

    #[test]
    fn a_restart_may_go_back_to_what_was_written_down() {
        let line = |t: u64| format!(r#"{{"t":{t},"stable":{{"n":1,"e":0}},"canary":{{"n":1,"e":0}},"w":5}}"#);
        let mut reader = Reader::default();
        assert!(reader.line(&line(9)).is_ok());
        assert!(reader.line(&line(7)).is_err());
        assert!(reader.line(r#"{"t":6,"event":"resume","down":2}"#).is_ok());
        assert!(reader.line(&line(7)).is_ok());
    }
}
