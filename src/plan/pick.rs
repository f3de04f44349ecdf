//! Which endpoint of an upstream: pure, entropy and busyness passed in.
//!
//! It must never wait and never change anything.

use super::Upstream;
use crate::spec::upstream::LoadBalance;

/// What a pick may know of the worker's view of endpoints, by index in the upstream.
pub trait View {
    /// Requests in flight on the endpoint.
    fn in_flight(&self, endpoint: usize) -> u32;
    /// Whether it may be picked.
    fn usable(&self, endpoint: usize) -> bool;
}

/// Picks an endpoint; `None` when none is usable. `entropy` is 64 uniform bits; `turn` counts
/// picks, for round robin.
#[must_use]
pub fn pick(upstream: &Upstream, view: &impl View, entropy: u64, turn: u64) -> Option<usize> {
    let count = upstream.endpoints.len();
    if count == 1 {
        return view.usable(0).then_some(0);
    }
    match upstream.load_balance {
        LoadBalance::P2c | LoadBalance::ConsistentHash => {
            let first = draw(upstream, entropy & 0xffff_ffff);
            let second = draw(upstream, entropy >> 32);
            let best = [first, second]
                .into_iter()
                .filter(|at| view.usable(*at))
                .min_by_key(|at| load(upstream, view, *at));
            best.or_else(|| least(upstream, view, entropy))
        }
        LoadBalance::LeastRequest => least(upstream, view, entropy),
        LoadBalance::RoundRobin => {
            let total = total_weight(upstream);
            let start = by_weight(upstream, turn % total);
            (0..count).map(|step| (start + step) % count).find(|at| view.usable(*at))
        }
    }
}

/// The least busy usable endpoint; of several, one at random.
fn least(upstream: &Upstream, view: &impl View, entropy: u64) -> Option<usize> {
    let count = upstream.endpoints.len();
    let first = draw(upstream, entropy & 0xffff_ffff);
    let usable = (0..count).map(|step| (first + step) % count).filter(|at| view.usable(*at));
    usable.min_by_key(|at| load(upstream, view, *at))
}

/// Requests in flight per weight, scaled so that integers compare well.
fn load(upstream: &Upstream, view: &impl View, at: usize) -> u64 {
    let weight = upstream.endpoints.get(at).map_or(1, |endpoint| endpoint.weight.max(1));
    (u64::from(view.in_flight(at)) << 16) / u64::from(weight)
}

fn total_weight(upstream: &Upstream) -> u64 {
    upstream.endpoints.iter().map(|endpoint| u64::from(endpoint.weight)).sum::<u64>().max(1)
}

/// An endpoint at random by weight, from 32 uniform bits.
fn draw(upstream: &Upstream, bits: u64) -> usize {
    by_weight(upstream, (bits * total_weight(upstream)) >> 32)
}

fn by_weight(upstream: &Upstream, mut at: u64) -> usize {
    for (index, endpoint) in upstream.endpoints.iter().enumerate() {
        let weight = u64::from(endpoint.weight);
        if at < weight {
            return index;
        }
        at -= weight;
    }
    0
}
