//! What differs in one pair.
//!
//! Work is bounded by depth, by places looked at and by differences found, whatever the two origins
//! send. It must never compare what only looks alike because it was cut.

use http::header::CONTENT_ENCODING;
use serde_json::Value;

use super::path::{self, MAX_DEPTH, Step};
use super::shown::{self, REDACTED, is_secret};
use super::{Difference, Kind};
use crate::model::{BodyRule, CompareRules, Heard, Pair};

/// Differences found in one pair at most; others are not looked for.
pub const MAX_DIFFERENCES: usize = 32;
/// Values of one body that are looked at.
pub const MAX_VALUES: usize = 20_000;

/// What came of comparing a pair.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// What differs, each place once.
    pub differences: Vec<Difference>,
    /// Bodies were to be compared and could not be: cut, encoded, or too large in JSON.
    pub body_unread: bool,
}

/// Compares the two answers. Answers of two status classes differ in nothing else: bodies of an
/// error and of a page have nothing to do with one another.
#[must_use]
pub fn compare(pair: &Pair, rules: &CompareRules) -> Compared {
    let (primary, shadow) = (&pair.primary, &pair.shadow);
    let mut finder = Finder::new(rules);
    let (one, other) = (class(primary), class(shadow));
    if rules.status && (one != other || primary.grpc != shadow.grpc) {
        let place = if one == other { "grpc-status".to_owned() } else { format!("{one} -> {other}") };
        finder.add(Kind::Status, place, status(primary), status(shadow));
        return finder.done();
    }
    if primary.status == 0 || shadow.status == 0 {
        return finder.done();
    }
    for name in &rules.headers {
        let values = |heard: &Heard| {
            let all = heard.headers.get_all(name).into_iter();
            all.map(http::HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..])
        };
        let (one, other) = (values(primary), values(shadow));
        if one != other {
            let shown = |value: &[u8]| shown::header(name, value);
            finder.add(Kind::Header, name.as_str().to_owned(), shown(&one), shown(&other));
        }
    }
    match rules.body {
        BodyRule::None => {}
        _ if unread(primary) || unread(shadow) => finder.found.body_unread = true,
        BodyRule::Json => finder.json(primary, shadow),
        BodyRule::Bytes => finder.bytes(primary, shadow),
    }
    finder.done()
}

fn class(heard: &Heard) -> &'static str {
    match heard.status {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        500..600 => "5xx",
        _ => "none",
    }
}

fn status(heard: &Heard) -> String {
    let grpc = heard.grpc.map(|code| format!(", grpc-status {code}")).unwrap_or_default();
    if heard.status == 0 { "no answer".to_owned() } else { format!("{}{grpc}", heard.status) }
}

/// Cut, or packed so that equal content need not be equal bytes.
fn unread(heard: &Heard) -> bool {
    let packed = heard.headers.get(CONTENT_ENCODING);
    heard.cut || packed.is_some_and(|value| value != "identity")
}

/// Finds differences and remembers them within its bounds.
struct Finder<'a> {
    rules: &'a CompareRules,
    steps: Vec<Step<'a>>,
    values: usize,
    found: Compared,
}

impl<'a> Finder<'a> {
    fn new(rules: &'a CompareRules) -> Self {
        Self { rules, steps: Vec::new(), values: 0, found: Compared::default() }
    }

    fn done(self) -> Compared {
        self.found
    }

    fn is_full(&self) -> bool {
        self.found.differences.len() >= MAX_DIFFERENCES
    }

    fn add(&mut self, kind: Kind, path: String, primary: String, shadow: String) {
        let known = self.found.differences.iter().any(|one| one.kind == kind && one.path == path);
        if !known && !self.is_full() {
            self.found.differences.push(Difference { kind, path, primary, shadow });
        }
    }

    fn bytes(&mut self, primary: &Heard, shadow: &Heard) {
        if primary.body == shadow.body {
            return;
        }
        let same = primary.body.iter().zip(&shadow.body).take_while(|(one, other)| one == other).count();
        // What is in them is not shown: nobody knows which of it is a secret.
        let shown = |heard: &Heard| format!("{} bytes, another one at {same}", heard.body.len());
        self.add(Kind::Body, String::new(), shown(primary), shown(shadow));
    }

    fn json(&mut self, primary: &Heard, shadow: &Heard) {
        if primary.body == shadow.body {
            return;
        }
        let read = |heard: &Heard| serde_json::from_slice::<Value>(&heard.body).ok();
        match (read(primary), read(shadow)) {
            (Some(one), Some(other)) => {
                let mut inner = Finder::new(self.rules);
                inner.walk(&one, &other);
                for Difference { kind, path, primary, shadow } in inner.found.differences {
                    self.add(kind, path, primary, shadow);
                }
                self.found.body_unread |= inner.values > MAX_VALUES;
            }
            _ => self.bytes(primary, shadow),
        }
    }

    fn walk(&mut self, one: &'a Value, other: &'a Value) {
        self.values += 1;
        if self.values > MAX_VALUES || self.is_full() {
            return;
        }
        if self.steps.len() >= MAX_DEPTH {
            if one != other {
                self.differs(Kind::JsonValue, shown::json(one), shown::json(other));
            }
            return;
        }
        match (one, other) {
            (Value::Object(left), Value::Object(right)) => {
                for (key, value) in left {
                    self.within(Step::Key(key), |finder| match right.get(key) {
                        Some(against) => finder.walk(value, against),
                        None => finder.differs(Kind::JsonMissing, shown::json(value), String::new()),
                    });
                }
                for (key, value) in right.iter().filter(|(key, _)| !left.contains_key(*key)) {
                    self.within(Step::Key(key), |finder| {
                        finder.differs(Kind::JsonExtra, String::new(), shown::json(value));
                    });
                }
            }
            (Value::Array(left), Value::Array(right)) => {
                if left.len() != right.len() {
                    let shown = |list: &[Value]| format!("{} elements", list.len());
                    self.differs(Kind::Length, shown(left), shown(right));
                }
                for (at, (value, against)) in left.iter().zip(right).enumerate() {
                    self.within(Step::Element(at), |finder| finder.walk(value, against));
                }
            }
            _ if is_same(one, other) => {}
            _ => {
                let same = std::mem::discriminant(one) == std::mem::discriminant(other);
                let kind = if same { Kind::JsonValue } else { Kind::JsonType };
                self.differs(kind, shown::json(one), shown::json(other));
            }
        }
    }

    fn within(&mut self, step: Step<'a>, look: impl FnOnce(&mut Self)) {
        self.steps.push(step);
        look(self);
        self.steps.pop();
    }

    /// What is at the present place differs.
    fn differs(&mut self, kind: Kind, primary: String, shadow: String) {
        if self.is_full() || self.rules.ignore.iter().any(|written| path::covers(written, &self.steps)) {
            return;
        }
        let secret = self.steps.iter().any(|step| matches!(step, Step::Key(key) if is_secret(key)));
        let hidden = |text: String| if secret && !text.is_empty() { REDACTED.to_owned() } else { text };
        self.add(kind, path::text(&self.steps), hidden(primary), hidden(shadow));
    }
}

/// The same value; 1 and 1.0 are.
fn is_same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(left), Value::Number(right)) => {
            left == right || ((left.is_f64() || right.is_f64()) && left.as_f64() == right.as_f64())
        }
        _ => one == other,
    }
}
