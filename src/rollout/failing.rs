//! What failed, as decisions remember it: a few kinds of failing requests, with ids to look them up.
//!
//! It exists so that a notice says more than a number. It is bounded where it is counted
//! ([`TOP`] kinds of each arm); it must never weigh in a decision.

use serde::{Deserialize, Serialize};

/// Kinds kept of each arm, the most frequent first.
pub const TOP: usize = 3;

/// One kind of failing request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Failing {
    /// `canary`: the candidate; `stable`: the reference.
    pub arm: String,
    /// The route's match, as text.
    #[serde(rename = "match")]
    pub rule: String,
    /// The method, from a closed set.
    pub method: String,
    /// The status that the upstream answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there is none, or why it was bad despite it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Address of the endpoint; empty when there was none.
    pub endpoint: String,
    /// How many failed so in the step.
    pub count: u64,
    /// Ids of the first ones.
    pub request_ids: Vec<String>,
}

/// What failed and since when, in the present step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suffered {
    /// The most frequent kinds: at most [`TOP`] of the candidate, then as many of the reference.
    pub failing: Vec<Failing>,
    /// When the candidate's first bad outcome came, in wall-clock milliseconds.
    pub since_millis: Option<u64>,
}

impl Suffered {
    /// The kinds of one arm in a few words; `None` when there are none.
    #[must_use]
    pub fn words(&self, arm: &str) -> Option<String> {
        let kinds: Vec<String> =
            self.failing.iter().filter(|one| one.arm == arm).map(Failing::words).collect();
        (!kinds.is_empty()).then(|| format!("failing: {}", kinds.join("; ")))
    }
}

impl Failing {
    /// Method, match, what came, from whom, how often, and the ids.
    #[must_use]
    pub fn words(&self) -> String {
        let Self { rule, method, count, .. } = self;
        let what = self.status.map(|status| status.to_string()).or_else(|| self.cause.clone());
        // A match that asks for a method names it.
        let asked = if rule.starts_with(&format!("{method} ")) { "" } else { &format!("{method} ") };
        let mut text = format!("{asked}{rule}: {}", what.unwrap_or_default());
        if !self.endpoint.is_empty() {
            text = format!("{text} from {}", self.endpoint);
        }
        let ids = if self.request_ids.is_empty() {
            String::new()
        } else {
            format!(", such as {}", self.request_ids.join(" "))
        };
        let times = if *count == 1 { "once".to_owned() } else { format!("{count} times") };
        format!("{text} ({times}{ids})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_told_in_one_line_and_each_arm_apart() {
        let kind = |arm: &str, status, cause: Option<&str>, endpoint: &str| Failing {
            arm: arm.to_owned(),
            rule: "/pay".to_owned(),
            method: "POST".to_owned(),
            status,
            cause: cause.map(str::to_owned),
            endpoint: endpoint.to_owned(),
            count: 7,
            request_ids: vec!["a".to_owned(), "b".to_owned()],
        };
        let suffered = Suffered {
            failing: vec![
                kind("canary", Some(500), None, "http://10.0.0.2:80"),
                kind("canary", None, Some("no_endpoint"), ""),
                kind("stable", Some(503), None, "http://10.0.0.1:80"),
            ],
            since_millis: None,
        };
        assert_eq!(
            suffered.words("canary").as_deref(),
            Some(
                "failing: POST /pay: 500 from http://10.0.0.2:80 (7 times, such as a b); \
                 POST /pay: no_endpoint (7 times, such as a b)"
            )
        );
        assert_eq!(Suffered::default().words("canary"), None);
        let once = Failing { count: 1, ..suffered.failing[0].clone() };
        assert!(once.words().ends_with("(once, such as a b)"), "{}", once.words());
    }
}
