//! Once a second: samples of the last minute, cells nobody uses, housekeeping of rare numbers.
//!
//! It must never change a plan.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::past::Past;
use crate::ledger::{Book, Recent};
use crate::model::time::Clock;
use crate::plan::Plans;

/// Time between two ticks.
pub const TICK: Duration = Duration::from_secs(1);

/// Ticks until it is dropped.
pub async fn run(
    book: Arc<Book>,
    recent: Arc<Mutex<Recent>>,
    (plans, past): (Plans, Past),
    clock: Arc<dyn Clock>,
    upkeep: Arc<dyn Fn() + Send + Sync>,
) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (book, recent, upkeep) = (Arc::clone(&book), Arc::clone(&recent), Arc::clone(&upkeep));
        let (plan, past) = (plans.load_full(), past.clone());
        let now = clock.now().0;
        // Summing the cells of ten thousand routes takes longer than a probe may wait.
        let work = tokio::task::spawn_blocking(move || {
            let mut recent = recent.lock().unwrap_or_else(PoisonError::into_inner);
            recent.sample(&book, now);
            let fresh = recent.fresh();
            drop(recent);
            if let Some(slice) = fresh {
                past.add(&plan, &slice);
            }
            drop(plan);
            book.retire(now);
            upkeep();
        });
        if let Err(error) = work.await {
            tracing::error!(%error, "a tick failed");
        }
    }
}
