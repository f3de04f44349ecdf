//! Why a command changes nothing: one type for every asker, and the checks that need no state.
//!
//! Every refusal says what to do about it. It must never be built from more of a request than the
//! names in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::order::Mismatch;
use crate::model::{Diagnostic, Generation};
use crate::plan::{Plan, Route};
use crate::spec::parse::guess;

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// No such route.
    NotFound,
    /// The request makes no sense.
    Invalid,
    /// The caller saw something older.
    Stale,
    /// The caller must say what it saw.
    MissingGeneration,
    /// Not possible in the present state.
    Conflict,
    /// The configuration has errors.
    Diagnostics,
    /// The controller is gone.
    Stopped,
}

/// Why nothing was changed.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// Stable kebab-case code.
    pub code: &'static str,
    /// One sentence.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// Generation in force: of the route for weights, of the configuration for reloads.
    pub generation: Option<Generation>,
    /// Findings about the configuration.
    pub diagnostics: Vec<Diagnostic>,
}

impl Refusal {
    /// A refusal with a sentence.
    #[must_use]
    pub fn new(kind: RefusalKind, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { kind, code, message, hint: String::new(), generation: None, diagnostics: Vec::new() }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }

    /// The same with the generation in force.
    #[must_use]
    pub fn generation(mut self, generation: Generation) -> Self {
        self.generation = Some(generation);
        self
    }

    /// The controller is gone.
    #[must_use]
    pub(super) fn stopped() -> Self {
        Self::new(RefusalKind::Stopped, "stopped", "the control plane is stopping")
    }
}

/// A route of a plan by name.
///
/// # Errors
/// With a guess at what was meant.
pub fn find<'a>(plan: &'a Plan, name: &str) -> Result<&'a Arc<Route>, Refusal> {
    plan.route_named(name).ok_or_else(|| {
        let known: Vec<&str> = plan.routes.iter().map(|route| &*route.name).collect();
        Refusal::new(RefusalKind::NotFound, "unknown-route", format!("there is no route `{name}`"))
            .hint(guess(name, &known))
    })
}

/// Weights for every arm of a route: those not named get 0.
///
/// # Errors
/// When an arm is unknown, none is named, or the route has none.
pub fn whole_split(route: &Route, weights: &BTreeMap<String, u32>) -> Result<BTreeMap<String, u32>, Refusal> {
    let invalid = |code, message: String| {
        Refusal::new(RefusalKind::Invalid, code, message).generation(route.generation)
    };
    let known: Vec<&str> = route.arms.iter().map(|arm| &*arm.name).collect();
    if known.is_empty() {
        return Err(invalid("no-split", format!("route `{}` answers by itself and has no arms", route.name)));
    }
    if let Some(unknown) = weights.keys().find(|arm| !known.contains(&arm.as_str())) {
        let message = format!("route `{}` has no arm `{unknown}`", route.name);
        return Err(invalid("unknown-arm", message).hint(guess(unknown, &known)));
    }
    if weights.is_empty() {
        let message = "no arm is named, so every arm would get 0".to_owned();
        return Err(invalid("no-weights", message).hint("name at least one arm"));
    }
    let weight = |arm: &&str| ((*arm).to_owned(), weights.get(*arm).copied().unwrap_or(0));
    Ok(known.iter().map(weight).collect())
}

/// What the caller saw does not allow the change.
pub(super) fn mismatch(mismatch: Mismatch, present: Generation) -> Refusal {
    let refusal = match mismatch {
        Mismatch::Stale => {
            let message = format!("generation {present} is in force");
            Refusal::new(RefusalKind::Stale, "stale-generation", message)
                .hint("look at it again, then repeat with its generation")
        }
        Mismatch::Missing => {
            let message = "this change needs an If-Match header with the generation it was based on";
            Refusal::new(RefusalKind::MissingGeneration, "if-match-missing", message)
                .hint(format!("If-Match: \"{present}\", or If-Match: \"*\" to not care"))
        }
    };
    refusal.generation(present)
}

/// The configuration has errors.
pub(super) fn refused(present: Generation, diagnostics: Vec<Diagnostic>) -> Refusal {
    let message = "the configuration has errors";
    let refusal = Refusal::new(RefusalKind::Diagnostics, "refused", message).generation(present);
    Refusal { diagnostics, ..refusal }
}
