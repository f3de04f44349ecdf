//! Which endpoint a user's key belongs to: rendezvous hashing with weights.
//!
//! Every endpoint draws a number from the key and its own address, and the best of those that may be
//! picked wins: when one leaves, only its own users move, and when it comes back they come back. It
//! must never depend on the order of the endpoints.

use xxhash_rust::xxh64::xxh64;

use super::Upstream;
use super::pick::View;

/// The endpoint of a key, which is a hash itself; `None` when none is usable.
#[must_use]
pub fn pick(upstream: &Upstream, view: &impl View, key: u64) -> Option<usize> {
    let usable = upstream.endpoints.iter().enumerate().filter(|(at, _)| view.usable(*at));
    let scored = usable.map(|(at, one)| (at, score(&one.cell.url, one.weight, key)));
    scored.max_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(at, _)| at)
}

/// `weight / -ln u` with u uniform in (0, 1): the largest is an endpoint's with the probability of its
/// weight (Schindelhauer and Schomaker 2005, the logarithmic method).
fn score(url: &str, weight: u32, key: u64) -> f64 {
    let hash = xxh64(url.as_bytes(), key);
    #[allow(clippy::cast_precision_loss, reason = "53 bits are exact")]
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of 10,000 keys among endpoints with weights.
    fn shares(endpoints: &[(&str, u32)]) -> Vec<(usize, u64)> {
        let best = |key: u64| {
            let scored =
                endpoints.iter().enumerate().map(|(at, (url, weight))| (at, score(url, *weight, key)));
            scored.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap().0
        };
        (0..10_000).map(|user: u64| (best(xxh64(&user.to_le_bytes(), 7)), user)).collect()
    }

    #[test]
    fn keys_follow_weights_and_only_those_of_a_removed_endpoint_move() {
        let all = [("http://a:1", 1), ("http://b:1", 1), ("http://c:1", 2)];
        let before = shares(&all);
        for (at, expected) in [(0, 2_500), (1, 2_500), (2, 5_000)] {
            let count = before.iter().filter(|(chosen, _)| *chosen == at).count();
            assert!(count.abs_diff(expected) < 200, "{at}: {count}");
        }
        let after = shares(&[all[2], all[0]]);
        for ((was, user), (is, _)) in before.iter().zip(&after) {
            let is = [2, 0][*is];
            assert!(*was == is || *was == 1, "{user} moved from {was} to {is}");
        }
    }
}
