//! Why a request goes where it goes: the very functions of the request path, told in words.
//!
//! It must never decide by itself; it calls [`super::Router::route`] and `Split::choose`.

use super::{Plan, Route};
use crate::model::{ArmIx, ChoiceReason, RequestHead, UnroutedReason};
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
