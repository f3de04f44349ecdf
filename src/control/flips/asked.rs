//! What operators ask of two slots: a flip, tried first, or the way back at once.
//!
//! It must never answer before every new request goes where the answer says.

use std::sync::Arc;

use serde_json::{Value, json};

use super::smoke::{self, Trial};
use super::{Event, Smoked, Trying, drop_stale_slots, flip_change};
use crate::control::batch::{Asked, Change, Reply};
use crate::control::command::{By, FlipAsk};
use crate::control::conduct::{refusal, said};
use crate::control::controller::Controller;
use crate::control::order::{self, Direction};
use crate::control::refusal::{Refusal, RefusalKind, find, mismatch};
use crate::plan::Route;
use crate::rollout::flip::{Move, Phase};

/// What a slot is: of another one nothing was tried.
fn identity(route: &Route, slot: &str) -> String {
    let arm = route.arms.iter().find(|arm| *arm.name == *slot);
    let urls = arm.map(|arm| arm.upstream.endpoints.iter().map(|one| &*one.cell.url).collect::<Vec<_>>());
    format!("{:x} {urls:?}", route.fingerprint)
}

impl Controller {
    /// An operator asks for a flip; the answer goes when it is done, or refused.
    pub(in crate::control) async fn flip(&mut self, ask: FlipAsk, reply: Reply) {
        let change = match self.flip_change(&ask) {
            Ok(change) => change,
            // An asker that went away loses only the answer.
            Err(refusal) => {
                let _ = reply.send(Err(refusal));
                return;
            }
        };
        let words = Some(json!({ "back": ask.back, "force": ask.force }));
        let tries = change.flip.as_ref().is_some_and(|outcome| outcome.moves.contains(&Move::Smoke));
        let asked = Asked { by: ask.by, what: "flip", words, reply };
        if !tries {
            self.change(Change { asked: Some(asked), ..change }).await;
            return self.follow_file().await;
        }
        self.change(change).await;
        self.try_slot(&ask.route, asked);
    }

    fn flip_change(&mut self, ask: &FlipAsk) -> Result<Change, Refusal> {
        let plan = self.publisher.current();
        let route = find(&plan, &ask.route)?;
        self.flips.follow(&plan);
        let no_slots = || {
            let message = format!("route `{}` has no slots", ask.route);
            Refusal::new(RefusalKind::Conflict, "no-slots", message)
                .hint("write `blueGreen` instead of `split`; `weights` moves the arms of a split")
                .generation(route.generation)
        };
        let event = Event::Asked { back: ask.back, force: ask.force, by: said(&ask.by) };
        let outcome = self.step_slots(route, &event).ok_or_else(no_slots)?;
        let direction = if ask.back { Direction::TowardStable } else { Direction::TowardCanary };
        let seen = order::check(direction, ask.expected, route.generation);
        seen.map_err(|found| mismatch(found, route.generation))?;
        let outcome = outcome.map_err(|why| refusal(&why, route.generation))?;
        if !ask.back && self.waits(&ask.route) {
            let message = "a change of this route is being written down";
            let busy = Refusal::new(RefusalKind::Conflict, "busy", message).hint("repeat it in a moment");
            return Err(busy.generation(route.generation));
        }
        Ok(flip_change(route, outcome))
    }

    /// Asks every endpoint of the idle slot what it must answer.
    fn try_slot(&mut self, name: &str, asked: Asked) {
        let plan = self.publisher.current();
        let (Some(route), Some(live)) = (plan.route_named(name), self.flips.lives.get_mut(name)) else {
            return;
        };
        let (told, run, name) = (self.flips.told.clone(), live.flip.run, name.to_owned());
        let (trial, of) = (Trial::of(route, &live.flip.idle), identity(route, &live.flip.idle));
        let task = tokio::spawn(async move {
            let failed = smoke::smoke(trial).await;
            // A controller that is gone needs no answer.
            let _ = told.send(Smoked { route: name, run, failed }).await;
        });
        live.trying = Some(Trying { asked, of, task });
    }

    /// The idle slot was tried.
    pub(in crate::control) async fn smoked(&mut self, smoked: Smoked) {
        let Smoked { route: name, run, failed } = smoked;
        let plan = self.publisher.current();
        let Some(route) = plan.route_named(&name).map(Arc::clone) else { return };
        let live = self.flips.lives.get_mut(&name);
        let live = live.filter(|live| live.flip.run == run && live.flip.phase == Phase::Smoke);
        let Some((idle, Trying { asked, of, .. })) =
            live.and_then(|live| Some((live.flip.idle.clone(), live.trying.take()?)))
        else {
            return;
        };
        let edited = || ("slot-edited", "the slot was edited while it was tried".to_owned());
        let failed = failed.or_else(|| (identity(&route, &idle) != of).then(edited));
        let event = Event::Smoked { run, failed: failed.clone(), by: said(&asked.by) };
        let Some(Ok(outcome)) = self.step_slots(&route, &event) else { return };
        let why = outcome.active().is_none().then(|| outcome.next.reason.clone());
        let change = flip_change(&route, outcome);
        let Some(why) = why else {
            self.change(Change { asked: Some(asked), ..change }).await;
            return self.follow_file().await;
        };
        self.change(change).await;
        let code = failed.map_or("rollout-live", |(code, _)| code);
        let hint = "repair it and flip again; `--force` flips all the same";
        let refusal = Refusal::new(RefusalKind::Conflict, code, why.text).hint(hint);
        // An asker that went away loses only the answer.
        let _ = asked.reply.send(Err(refusal.generation(route.generation)));
        self.follow_file().await;
    }

    /// A rollout does not begin while a flip of its slots is under way.
    pub(in crate::control) fn no_flip_under_way(&self, route: &Route) -> Result<(), Refusal> {
        if !self.flips.is_busy(&route.name) {
            return Ok(());
        }
        let message = "a flip of these slots is under way";
        let refusal = Refusal::new(RefusalKind::Conflict, "flip-under-way", message);
        Err(refusal.hint("wait, or `flip --back`").generation(route.generation))
    }

    /// Ends exchanges whose slots the plan in force has no more; whether there were any.
    pub(in crate::control) fn slots_ended(&mut self) -> bool {
        let plan = self.publisher.current();
        let ended = drop_stale_slots(&mut self.overlay, &plan);
        self.flips.follow(&plan);
        for route in &ended {
            tracing::warn!(route, "exchanged slots ended: the slots were edited or the route is gone");
            self.journal("slots-ended", route, &By::actor("file"), Value::Null, Value::Null);
        }
        !ended.is_empty()
    }
}
