//! Breakers by an operator's word, and a line in the journal for those that turned by themselves.
//!
//! What an operator opened stays open until the operator closes it: over reloads, not over a
//! restart, which begins with every breaker closed. It must never change a plan.

use serde_json::json;

use super::command::{BreakerAsk, BreakerDone, By};
use super::controller::Controller;
use super::order::{self, Direction};
use super::refusal::{Refusal, RefusalKind, mismatch};
use crate::ledger::guard::breaker::Turn;
use crate::spec::parse::guess;

impl Controller {
    /// Turns a breaker; it is in force when this returns.
    pub(super) fn turn_breaker(&mut self, ask: &BreakerAsk) -> Result<BreakerDone, Refusal> {
        let plan = self.publisher.current();
        let generation = plan.generation;
        let found = plan.upstreams.iter().find(|one| *one.name == *ask.upstream).ok_or_else(|| {
            let known: Vec<&str> = plan.upstreams.iter().map(|one| &*one.name).collect();
            let message = format!("there is no upstream `{}`", ask.upstream);
            Refusal::new(RefusalKind::NotFound, "unknown-upstream", message)
                .hint(guess(&ask.upstream, &known))
        })?;
        let breaker = found.breaker.as_ref().ok_or_else(|| {
            let message = format!("upstream `{}` has no breaker", ask.upstream);
            Refusal::new(RefusalKind::Conflict, "no-breaker", message)
                .hint(format!("write `breaker: {{}}` under upstreams.{}", ask.upstream))
                .generation(generation)
        })?;
        let direction = if ask.open { Direction::TowardStable } else { Direction::TowardCanary };
        order::check(direction, ask.expected, generation).map_err(|found| mismatch(found, generation))?;
        let before = breaker.cell.state();
        let changed = if ask.open { breaker.cell.hold() } else { breaker.cell.close() };
        let after = breaker.cell.state();
        if changed {
            let (upstream, actor) = (&ask.upstream, &ask.by.actor);
            tracing::warn!(%upstream, %actor, "breaker {after} by an operator");
            let what = if ask.open { "breaker-open" } else { "breaker-close" };
            let state = |state: &str| json!({ "upstream": ask.upstream, "breaker": state });
            self.journal(what, "", &ask.by, state(before), state(after));
        }
        Ok(BreakerDone { generation, before, after })
    }

    /// A breaker turned by itself.
    pub(super) fn breaker_turned(&mut self, upstream: &str, turn: Turn) {
        let (what, after) = match turn {
            Turn::Opened(why, attempts, failed) => {
                let state = "open";
                let why = why.label();
                let words = json!({ "upstream": upstream, "breaker": state, "why": why, "attempts": attempts, "failed": failed });
                ("breaker-open", words)
            }
            // A trial is no change that anybody made.
            Turn::HalfOpen => return,
            Turn::Closed => ("breaker-close", json!({ "upstream": upstream, "breaker": "closed" })),
        };
        self.journal(what, "", &By::actor("breaker"), serde_json::Value::Null, after);
    }
}
