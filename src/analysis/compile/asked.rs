//! Whom a rollout asks and tells: checks and hooks.
//!
//! It must never accept a check that nothing can fail or pass, or a wait that nothing ends.

use super::{Findings, seconds};
use crate::analysis::policy::{Check, Hook, MAX_CHECKS, MAX_HOOKS, PLACEHOLDERS};
use crate::spec::Spot;
use crate::spec::parse::guess;
use crate::spec::rollout::{Analysis, Hook as Written, Rollout};
use crate::spec::scalar::Number;

impl Findings<'_> {
    pub(super) fn checks(&mut self, analysis: &Analysis) -> Vec<Check> {
        let mut checks: Vec<Check> = Vec::new();
        if let Some(over) = analysis.checks.get(MAX_CHECKS) {
            let message = format!("more than {MAX_CHECKS} checks");
            self.error(over, "too-many", message, "one query can hold several conditions");
        }
        for check in &analysis.checks {
            let bound = |written: &Option<Spot<Number>>| written.as_ref().map(|number| number.value.0);
            let (min, max) = (bound(&check.min), bound(&check.max));
            let bounded = min.is_some() || max.is_some();
            self.unless(bounded, check, "cannot-decide", "a check has neither min nor max", "add `max: 0.5`");
            let ordered = min.zip(max).is_none_or(|(min, max)| min <= max);
            self.unless(ordered, check, "cannot-decide", "no value is above min and below max", "swap them");
            self.unless(
                seconds(*check.interval) >= 1.0,
                &check.interval,
                "cannot-decide",
                "an interval is at least 1s",
                "30s is the default",
            );
            self.url(&check.prometheus.url);
            self.query(&check.prometheus.query);
            let unique = checks.iter().all(|other| other.name != *check.name.value);
            self.unless(
                unique,
                &check.name,
                "duplicate-name",
                "a check is named twice",
                "rename one of them",
            );
            checks.push(Check {
                name: check.name.value.clone(),
                url: check.prometheus.url.value.clone(),
                query: check.prometheus.query.value.clone(),
                min,
                max,
                interval: seconds(*check.interval),
                on_fail: check.on_fail,
            });
        }
        checks
    }

    pub(super) fn hooks(&mut self, written: &Rollout) -> Vec<Hook> {
        let mut hooks: Vec<Hook> = Vec::new();
        if let Some(over) = written.hooks.get(MAX_HOOKS) {
            let message = format!("more than {MAX_HOOKS} hooks");
            self.error(over, "too-many", message, "let one receiver pass things on");
        }
        for hook in &written.hooks {
            self.url(&hook.url);
            let unique = hooks.iter().all(|other| other.name != *hook.name.value);
            self.unless(unique, &hook.name, "duplicate-name", "a hook is named twice", "rename one of them");
            let plain = !hook.name.value.chars().any(char::is_control);
            let hint = "letters, digits, `-` and `.`";
            self.unless(plain, &hook.name, "bad-name", "a hook's name has control characters", hint);
            self.patience(hook);
            let deadline = hook.deadline.as_ref().map_or(*written.deadline.step, |own| **own);
            hooks.push(Hook {
                name: hook.name.value.clone(),
                event: hook.event,
                url: hook.url.value.clone(),
                timeout: seconds(hook.timeout),
                deadline: seconds(deadline),
                on_deadline: hook.on_deadline.as_ref().map(|own| own.value).unwrap_or_default(),
                metadata: hook.metadata.clone().into_iter().collect(),
                secret_file: hook.secret_file.as_ref().map(|file| file.value.clone()),
            });
        }
        hooks
    }

    /// Only gates wait, and only for some time.
    fn patience(&mut self, hook: &Spot<Written>) {
        let hint = "leave it out, or make the hook a confirm event";
        for written in [
            hook.deadline.as_ref().map(|own| own.with(())),
            hook.on_deadline.as_ref().map(|own| own.with(())),
        ] {
            let Some(spot) = written else { continue };
            let message = "nothing waits for this hook: only the confirm events have a deadline";
            self.unless(hook.event.is_gate(), &spot, "bad-value", message, hint);
        }
        if let Some(own) = hook.deadline.as_ref().filter(|own| own.0.is_zero()) {
            let message = "a deadline of 0 passes before anybody can answer";
            self.error(own, "cannot-decide", message, "leave it out for the step's deadline");
        }
    }

    fn query(&mut self, query: &Spot<String>) {
        self.unless(!query.trim().is_empty(), query, "bad-value", "a check asks nothing", "query: up");
        for word in query.split("{{").skip(1).map(|rest| rest.split("}}").next().unwrap_or_default().trim()) {
            if !PLACEHOLDERS.contains(&word) {
                let message = format!("nothing is filled in for `{{{{{word}}}}}`");
                self.error(query, "bad-value", message, &guess(word, &PLACEHOLDERS));
            }
        }
    }

    fn url(&mut self, url: &Spot<String>) {
        let fine =
            ["http://", "https://"].iter().any(|scheme| url.len() > scheme.len() && url.starts_with(scheme));
        self.unless(fine, url, "bad-address", "this is no address to ask", "write http://host:port/path");
    }
}
