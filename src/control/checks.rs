//! Numbers from outside: one task asks for each of them while a rollout's canary has traffic.
//!
//! A step believes only what was answered since it began, and only for some time: a metric store that
//! does not answer is silence, never a failure. It must never hold up the controller, which looks at
//! the last answers alone, nor ask more than one question of a check at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::analysis::Policy;
use crate::analysis::policy::Check;
use crate::fetch::{Ask, Limits, Target, fetch};
use crate::rollout::state::{Base, Direction};
use crate::rollout::{CheckWord, Rollout, digits};
use crate::spec::rollout::OnFail;

/// How long an answer may take at most; a shorter interval shortens it.
const LONGEST_ANSWER: Duration = Duration::from_secs(10);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES: usize = 64 << 10;
/// Intervals without an answer after which the last one says nothing any more.
const STALE_AFTER: u32 = 3;
/// Longest reason, in characters.
const MAX_WHY: usize = 200;

/// The checks of one rollout.
#[derive(Debug, Default)]
pub struct Checks {
    about: Option<About>,
    asked: Vec<Asked>,
}

/// What answers are about: another step, run or question makes them another's.
#[derive(Debug, PartialEq)]
struct About {
    run: u64,
    step: u32,
    base: Base,
    checks: Vec<Check>,
}

/// One check and the task that asks for it.
#[derive(Debug)]
struct Asked {
    check: Check,
    since: Instant,
    last: Arc<Mutex<Last>>,
    task: JoinHandle<()>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was answered last.
#[derive(Clone, Debug, Default)]
struct Last {
    value: Option<(f64, Instant)>,
    /// Why the last question had no answer; empty when it had.
    why: String,
}

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Within bounds.
    Fine,
    /// Asked, and not yet answered in this step.
    Waiting,
    /// Not answered for too long.
    Silent,
    /// Out of bounds.
    Failing,
}

impl State {
    /// As it is printed.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Waiting => "waiting",
            Self::Silent => "silent",
            Self::Failing => "failing",
        }
    }
}

/// A check as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckReport {
    /// Its name.
    pub name: String,
    /// The last value in this step.
    pub value: Option<f64>,
    /// How it stands.
    pub state: State,
    /// Why the last question had no answer; empty when it had.
    pub why: String,
}

impl std::fmt::Display for CheckReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is {}", self.name, self.state.label())?;
        if let Some(value) = self.value {
            write!(f, ", its last value is {value}")?;
        }
        if self.why.is_empty() { Ok(()) } else { write!(f, " ({})", self.why) }
    }
}

impl Checks {
    /// Asks what a rollout needs to know now, and nothing else any more.
    pub fn follow(&mut self, route: &str, rollout: &Rollout, policy: &Policy) {
        let base = rollout.phase.base().filter(|base| *base != Base::Pending && !policy.checks.is_empty());
        let same = match (&self.about, base) {
            (Some(about), Some(base)) => {
                (about.run, about.step, about.base) == (rollout.run, rollout.step, base)
                    && about.checks == policy.checks
            }
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        self.asked.clear();
        self.about = base.map(|base| About {
            run: rollout.run,
            step: rollout.step,
            base,
            checks: policy.checks.clone(),
        });
        if self.about.is_some() {
            self.asked = policy.checks.iter().map(|check| Asked::begin(check, route, rollout)).collect();
        }
    }

    /// What they say together: what hurts most first.
    #[must_use]
    pub fn word(&self) -> CheckWord {
        let now = Instant::now();
        let mut word = CheckWord::Fine;
        for asked in &self.asked {
            let name = || asked.check.name.clone();
            let said = match asked.state(now).0 {
                State::Fine => continue,
                State::Waiting => CheckWord::Waiting(name()),
                State::Silent => CheckWord::Silent(name()),
                State::Failing => CheckWord::Failing(name(), asked.check.on_fail),
            };
            if weight(&said) > weight(&word) {
                word = said;
            }
        }
        word
    }

    /// The number of the check that [`Checks::word`] calls out of bounds, and the bound; empty when none is.
    #[must_use]
    pub fn number(&self) -> String {
        let CheckWord::Failing(name, _) = self.word() else { return String::new() };
        let asked = self.asked.iter().find(|asked| asked.check.name == name);
        asked
            .and_then(|asked| beyond(&asked.check, asked.state(Instant::now()).1.value?.0))
            .unwrap_or_default()
    }

    /// How each of them stands.
    #[must_use]
    pub fn report(&self) -> Vec<CheckReport> {
        let now = Instant::now();
        let reports = self.asked.iter().map(|asked| {
            let (state, last) = asked.state(now);
            let value = last.value.map(|(value, _)| value);
            CheckReport { name: asked.check.name.clone(), value, state, why: last.why }
        });
        reports.collect()
    }
}

/// How much a word matters beside another.
const fn weight(word: &CheckWord) -> u8 {
    match word {
        CheckWord::Fine => 0,
        CheckWord::Waiting(_) => 1,
        CheckWord::Silent(_) => 2,
        CheckWord::Failing(_, OnFail::Hold) => 3,
        CheckWord::Failing(_, OnFail::Revert) => 4,
    }
}

impl Asked {
    fn begin(check: &Check, route: &str, rollout: &Rollout) -> Self {
        let last = Arc::new(Mutex::new(Last::default()));
        let (query, heard) = (filled_in(check, route, rollout), Arc::clone(&last));
        let (every, url) = (every(check), check.url.clone());
        let task = tokio::spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                let answer = ask(&url, &query, every.min(LONGEST_ANSWER)).await;
                let mut last = heard.lock().unwrap_or_else(PoisonError::into_inner);
                match answer {
                    Ok(value) => *last = Last { value: Some((value, Instant::now())), why: String::new() },
                    Err(why) => last.why = why.chars().take(MAX_WHY).collect(),
                }
            }
        });
        Self { check: check.clone(), since: Instant::now(), last, task }
    }

    fn state(&self, now: Instant) -> (State, Last) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (state(&self.check, &last, self.since, now), last)
    }
}

fn every(check: &Check) -> Duration {
    // A policy has at least one second; a day is longer than a step.
    Duration::from_secs_f64(check.interval.clamp(1.0, 86_400.0))
}

/// How a check stands that was first asked at `since`.
fn state(check: &Check, last: &Last, since: Instant, now: Instant) -> State {
    let every = every(check);
    match last.value {
        Some((_, at)) if now.duration_since(at) >= every * STALE_AFTER => State::Silent,
        Some((value, _)) => {
            let fine = check.min.is_none_or(|min| value >= min) && check.max.is_none_or(|max| value <= max);
            if fine { State::Fine } else { State::Failing }
        }
        None if now.duration_since(since) < every + every.min(LONGEST_ANSWER) => State::Waiting,
        None => State::Silent,
    }
}

/// A number and the bound that it is beyond.
fn beyond(check: &Check, value: f64) -> Option<String> {
    let over = check.max.filter(|max| value > *max).map(|max| ("above its max", max));
    let (side, bound) = over.or_else(|| check.min.map(|min| ("below its min", min)))?;
    Some(format!("{}, {side} of {}", digits(value), digits(bound)))
}

/// The query with its placeholders filled in, as text between double quotes.
fn filled_in(check: &Check, route: &str, rollout: &Rollout) -> String {
    let (candidate, reference) = match rollout.direction {
        Direction::Forward => (&rollout.identity.to, &rollout.identity.from),
        Direction::Back => (&rollout.identity.from, &rollout.identity.to),
    };
    let seconds = every(check).as_secs();
    let mut text = String::new();
    let mut rest = check.query.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        let (word, tail) = after.split_once("}}").unwrap_or((after, ""));
        text.push_str(before);
        let value = match word.trim() {
            "route" => quoted(route),
            "canary" => quoted(candidate),
            "stable" => quoted(reference),
            "version" => quoted(&rollout.identity.version),
            "interval" => format!("{seconds}s"),
            // The policy knows no other.
            _ => String::new(),
        };
        text.push_str(&value);
        rest = tail;
    }
    text + rest
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Asks once; the number, or why there is none.
async fn ask(url: &str, query: &str, timeout: Duration) -> Result<f64, String> {
    let (target, path) = Target::of_url(url)?;
    let path = path.split('?').next().unwrap_or_default().trim_end_matches('/');
    let ask = Ask::get(format!("{path}/api/v1/query?query={}", utf8_percent_encode(query, NON_ALPHANUMERIC)));
    let limits = Limits { timeout, body: ANSWER_BYTES };
    let answer = fetch(&target, ask, limits).await.map_err(|error| error.to_string())?;
    let body = serde_json::from_slice::<Value>(&answer.body);
    if !answer.status.is_success() {
        let said = body.ok().and_then(|body| body["error"].as_str().map(|error| format!(": {error}")));
        return Err(format!("it answered {}{}", answer.status, said.unwrap_or_default()));
    }
    number(&body.map_err(|_| "its answer is no JSON".to_owned())?)
}

/// The one number of an answer of Prometheus' HTTP API.
fn number(body: &Value) -> Result<f64, String> {
    let data = &body["data"];
    let sample = match (data["resultType"].as_str(), data["result"].as_array()) {
        (Some("scalar"), Some(_)) => &data["result"],
        (Some("vector"), Some(list)) => match list.as_slice() {
            [] => return Err("the query found nothing".to_owned()),
            [one] => &one["value"],
            many => return Err(format!("the query found {} series instead of one", many.len())),
        },
        (Some(kind), _) => return Err(format!("a {kind} is no number")),
        (None, _) => return Err("its answer is not Prometheus'".to_owned()),
    };
    let value = sample[1].as_str().and_then(|text| text.parse::<f64>().ok());
    let value = value.ok_or_else(|| "its answer has no number".to_owned())?;
    if value.is_nan() { Err("the query gave NaN: no data to divide by".to_owned()) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::Identity;
    use serde_json::json;

    fn check() -> Check {
        Check {
            name: "errors".into(),
            url: "http://prom".into(),
            query: "up".into(),
            min: Some(0.0),
            max: Some(0.5),
            interval: 30.0,
            on_fail: OnFail::Revert,
        }
    }

    #[test]
    fn one_sample_is_a_number_and_nothing_else_is() {
        let vector = |samples: Value| json!({ "data": { "resultType": "vector", "result": samples } });
        let sample = |value: &str| json!({ "metric": {}, "value": [1.5, value] });
        let good = [
            (vector(json!([sample("0.25")])), 0.25),
            (vector(json!([sample("+Inf")])), f64::INFINITY),
            (json!({ "data": { "resultType": "scalar", "result": [1.5, "-3"] } }), -3.0),
        ];
        for (body, value) in good {
            assert_eq!(number(&body), Ok(value), "{body}");
        }
        let silent = [
            (vector(json!([])), "found nothing"),
            (vector(json!([sample("1"), sample("2")])), "2 series"),
            (vector(json!([sample("NaN")])), "NaN"),
            (vector(json!([sample("one")])), "no number"),
            (vector(json!([1])), "no number"),
            (json!({ "data": { "resultType": "matrix", "result": [] } }), "matrix"),
            (json!({ "status": "error" }), "not Prometheus'"),
            (json!([]), "not Prometheus'"),
        ];
        for (body, why) in silent {
            assert!(number(&body).is_err_and(|said| said.contains(why)), "{body}");
        }
    }

    #[test]
    fn a_check_waits_speaks_and_falls_silent() {
        let (check, since) = (check(), Instant::now());
        let at = |seconds: u64| since + Duration::from_secs(seconds);
        let heard = |value: f64, seconds: u64| Last { value: Some((value, at(seconds))), why: String::new() };
        let rows = [
            (Last::default(), 0, State::Waiting),
            (Last::default(), 39, State::Waiting),
            (Last::default(), 40, State::Silent),
            (heard(0.5, 10), 10, State::Fine),
            (heard(0.5, 10), 99, State::Fine),
            (heard(0.5, 10), 100, State::Silent),
            (heard(0.51, 10), 20, State::Failing),
            (heard(-0.1, 10), 20, State::Failing),
            (heard(f64::INFINITY, 10), 20, State::Failing),
            (heard(9.0, 10), 100, State::Silent),
        ];
        for (last, now, expected) in rows {
            assert_eq!(state(&check, &last, since, at(now)), expected, "{last:?} at {now}");
        }
    }

    #[test]
    fn placeholders_stay_text_between_quotes() {
        let identity = Identity {
            version: "v\"2".into(),
            from: "stable".into(),
            to: "canary".into(),
            ..Identity::default()
        };
        let mut rollout = Rollout::new(identity);
        let query = "rate(x{r=\"{{route}}\", a=\"{{ canary }}\", b!=\"{{stable}}\", v=\"{{version}}\"}[{{interval}}])";
        let check = Check { query: query.into(), ..check() };
        let expected = "rate(x{r=\"all\", a=\"canary\", b!=\"stable\", v=\"v\\\"2\"}[30s])";
        assert_eq!(filled_in(&check, "all", &rollout), expected);
        rollout.direction = Direction::Back;
        assert!(filled_in(&check, "all", &rollout).contains("a=\"stable\", b!=\"canary\""));
    }

    #[tokio::test]
    async fn what_hurts_most_is_said_and_a_new_step_begins_to_ask_again() {
        let policy =
            Policy { checks: vec![check(), Check { name: "b".into(), ..check() }], ..Policy::default() };
        let mut rollout = Rollout::new(Identity::default());
        rollout.phase = crate::rollout::Phase::Pending;
        let mut checks = Checks::default();
        checks.follow("all", &rollout, &policy);
        assert_eq!((checks.word(), checks.report().len()), (CheckWord::Fine, 0), "nobody has traffic yet");
        rollout.phase = crate::rollout::Phase::Stage;
        checks.follow("all", &rollout, &policy);
        assert_eq!(checks.word(), CheckWord::Waiting("errors".into()));
        let say = |checks: &Checks, at: usize, value: f64| {
            checks.asked[at].last.lock().unwrap().value = Some((value, Instant::now()));
        };
        say(&checks, 0, 0.1);
        assert_eq!(checks.word(), CheckWord::Waiting("b".into()));
        say(&checks, 1, 7.0);
        assert_eq!(checks.word(), CheckWord::Failing("b".into(), OnFail::Revert));
        checks.follow("all", &rollout, &policy);
        assert_eq!(checks.word(), CheckWord::Failing("b".into(), OnFail::Revert));
        rollout.step = 1;
        checks.follow("all", &rollout, &policy);
        assert_eq!(checks.word(), CheckWord::Waiting("errors".into()));
        rollout.phase = crate::rollout::Phase::Reverting;
        checks.follow("all", &rollout, &policy);
        assert!(checks.asked.is_empty());
    }
}
