//! Why a request goes where it goes: the very functions of the request path, told in words.
//!
//! It must never decide by itself; it calls [`super::Router::route`] and `Split::choose`.

use super::filter::Answer;
use super::{Plan, Route};
use crate::model::{ArmIx, ChoiceReason, Explained, Range, RequestHead, UnroutedReason};
use crate::split::Choice;

/// What happens to one request.
#[derive(Debug)]
pub struct Explanation<'p> {
    /// The route and why it won.
    pub route: Result<(&'p Route, String), UnroutedReason>,
    /// The choice; `None` when no arm has weight or a filter answers.
    pub choice: Option<Choice>,
}

impl Plan {
    /// Explains one request. `entropy` is drawn only when the request has no key: the arm is then
    /// one of several.
    #[must_use]
    pub fn explain(&self, head: &RequestHead<'_>, now: i64, entropy: impl FnMut() -> u64) -> Explanation<'_> {
        let routed = match self.router.route(head) {
            Ok(routed) => routed,
            Err(reason) => return Explanation { route: Err(reason), choice: None },
        };
        let Some(route) = self.routes.get(routed.route) else {
            return Explanation { route: Err(UnroutedReason::Match), choice: None };
        };
        let choice =
            if route.filters.answer.is_some() { None } else { route.split.choose(head, now, entropy) };
        Explanation { route: Ok((route, routed.rule.rank.reason())), choice }
    }
}

impl Explanation<'_> {
    /// The same as data; `generation` is that of the plan, for requests no route owns.
    #[must_use]
    pub fn told(&self, plan: &Plan) -> Explained {
        let (route, why) = match &self.route {
            Ok(found) => found,
            Err(reason) => return nowhere(*reason, plan),
        };
        let range = |(arm, from, to): (&str, u16, u16)| Range { arm: arm.to_owned(), from, to };
        let mut told = Explained {
            route: Some(route.name.to_string()),
            why: why.clone(),
            ranges: route.bucket_ranges().into_iter().map(range).collect(),
            generation: route.generation.0,
            ..Explained::default()
        };
        let opening = format!("route `{}` ({why})", route.name);
        match (&route.filters.answer, &self.choice) {
            (Some(answer), _) => {
                let what = match answer {
                    Answer::Redirect(_) => "a redirect",
                    Answer::Respond(_) => "a fixed text",
                };
                "answer".clone_into(&mut told.reason);
                told.text = format!("{opening} answers with {what}");
            }
            (None, None) => {
                "none".clone_into(&mut told.reason);
                told.unrouted = Some(UnroutedReason::NoWeight.label().to_owned());
                told.text = format!("{opening} has no arm with weight: 503");
            }
            (None, Some(choice)) => {
                told.arm = Some(route.arm_name(choice.arm).to_owned());
                told.upstream = route.arm(choice.arm).map(|arm| arm.upstream.name.to_string());
                choice.reason.label().clone_into(&mut told.reason);
                route.rule_name(choice).clone_into(&mut told.rule);
                // An id that would be issued is another one next time.
                let keyed = choice.key_hash.is_some() && choice.issue.is_none();
                told.bucket = keyed.then_some(choice.bucket);
                told.text = format!("{opening}: {}", route.reason(choice));
            }
        }
        told
    }
}

fn nowhere(reason: UnroutedReason, plan: &Plan) -> Explained {
    let why = match reason {
        UnroutedReason::Host => "no route serves this host",
        UnroutedReason::Match | UnroutedReason::NoWeight => {
            "routes serve this host, but none matches the request"
        }
    };
    Explained {
        why: why.to_owned(),
        reason: "none".to_owned(),
        unrouted: Some(reason.label().to_owned()),
        text: format!("{why}: 404"),
        generation: plan.generation.0,
        ..Explained::default()
    }
}

impl Route {
    /// Arms with the buckets they own: `(arm, first, last)`, both ends included.
    #[must_use]
    pub fn bucket_ranges(&self) -> Vec<(&str, u16, u16)> {
        let ranges = self.split.ranges.iter().flat_map(super::super::split::ranges::Ranges::iter);
        ranges.map(|(from, to, arm)| (self.arm_name(arm), from, to)).collect()
    }

    /// An arm's name; empty for an index that does not exist.
    #[must_use]
    pub fn arm_name(&self, arm: ArmIx) -> &str {
        self.arm(arm).map_or("", |arm| &arm.name)
    }

    /// The name of the override that spoke; empty when none did.
    #[must_use]
    pub fn rule_name(&self, choice: &Choice) -> &str {
        let rule = choice.rule.and_then(|rule| self.split.overrides.get(usize::from(rule)));
        rule.map_or("", |rule| &rule.name)
    }

    /// One sentence on a choice.
    #[must_use]
    pub fn reason(&self, choice: &Choice) -> String {
        let arm = self.arm_name(choice.arm);
        match choice.reason {
            ChoiceReason::Override => format!("override `{}` names arm {arm}", self.rule_name(choice)),
            ChoiceReason::Pin => format!("a pin names arm {arm}"),
            ChoiceReason::Sticky => format!("bucket {} belongs to arm {arm}", choice.bucket),
            ChoiceReason::Random => format!("no key: drawn at random by weight, this time arm {arm}"),
            ChoiceReason::Redistributed => format!("redistributed to arm {arm}"),
        }
    }
}
