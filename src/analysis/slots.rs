//! Slots of a sticky route as a step counts them: cumulative sets in, what is new of them out.
//!
//! Sets only grow within a step, but for what is taken out of them when more addresses turn up. It
//! must never count a slot twice in one step.

use serde::{Deserialize, Serialize};

use super::counts::Tick;

/// Cumulative slot counts of the last tick, stable and canary; cleared at each step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Slots {
    pub seen: (u64, u64),
    pub bad: (u64, u64),
    #[serde(default)]
    warm_bad: (u64, u64),
    /// Too few addresses were active to bound what one of them adds.
    #[serde(default)]
    few: bool,
    pub client_errors: (u64, u64),
}

/// What is new about slots in one tick.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NewSlots {
    pub seen: (u64, u64),
    pub bad: (u64, u64),
    /// The same since the warm-up ended: a user who failed in it and fails again counts.
    pub warm_bad: (u64, u64),
    pub client_errors: Option<(u64, u64)>,
}

impl Slots {
    /// What is new since the last tick of this step; `None` when the route is not sticky.
    pub fn take(&mut self, tick: &Tick) -> Option<NewSlots> {
        let (stable, canary) = (&tick.stable, &tick.canary);
        if stable.slots.is_none() && canary.slots.is_none() {
            return None;
        }
        let grown = |last: &mut (u64, u64), now: (u64, u64)| {
            let new = (now.0.saturating_sub(last.0), now.1.saturating_sub(last.1));
            *last = (now.0.max(last.0), now.1.max(last.1));
            new
        };
        let seen = (stable.slots.unwrap_or(0), canary.slots.unwrap_or(0));
        let refused = stable.client_error_slots.zip(canary.client_error_slots);
        let warm_bad = stable.warm_bad_slots.zip(canary.warm_bad_slots);
        if self.few && !tick.few_clients {
            // What an address had added beyond its part is no longer in the sets.
            let least = |last: &mut (u64, u64), now: (u64, u64)| {
                *last = (last.0.min(now.0), last.1.min(now.1));
            };
            least(&mut self.bad, (stable.bad_slots, canary.bad_slots));
            warm_bad.inspect(|now| least(&mut self.warm_bad, *now));
        }
        self.few = tick.few_clients;
        let bad = grown(&mut self.bad, (stable.bad_slots, canary.bad_slots));
        Some(NewSlots {
            seen: grown(&mut self.seen, seen),
            bad,
            warm_bad: warm_bad.map_or(bad, |now| grown(&mut self.warm_bad, now)),
            client_errors: refused.map(|now| grown(&mut self.client_errors, now)),
        })
    }
}
