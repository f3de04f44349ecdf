//! The published bucket formula, written a second time, and the arithmetic of shares.
//!
//! An independent copy is the point: if the product's hash drifts, tests that compare against this
//! one fail. It must never call the product's code.

use xxhash_rust::xxh64::xxh64;

pub const BUCKETS: u16 = 10_000;

/// Where a key falls: `xxh64(salt ++ 0x00 ++ key, seed 0)` scaled to 0..9999.
pub fn bucket(salt: &str, key: &str) -> u16 {
    let mut bytes = salt.as_bytes().to_vec();
    bytes.push(0);
    bytes.extend_from_slice(key.as_bytes());
    let scaled = (u128::from(xxh64(&bytes, 0)) * u128::from(BUCKETS)) >> 64;
    u16::try_from(scaled).expect("a bucket is below 10,000")
}

pub fn users(count: usize) -> Vec<String> {
    (0..count).map(|index| format!("user-{index}")).collect()
}

/// The first user whose bucket lies in the range; how a row says "someone who is on stable".
pub fn user_in(salt: &str, buckets: std::ops::Range<u16>) -> String {
    (0..1_000_000)
        .map(|index| format!("user-{index}"))
        .find(|user| buckets.contains(&bucket(salt, user)))
        .expect("every bucket has a user")
}

/// Asserts that `hits` of `total` is the share `expected`, within `sigmas` of the binomial spread.
#[track_caller]
pub fn share_is(what: &str, hits: usize, total: usize, expected: f64, sigmas: f64) {
    let (hits, total) = (float(hits), float(total));
    let spread = sigmas * (total * expected * (1.0 - expected)).sqrt();
    let off = (hits - total * expected).abs();
    assert!(
        off <= spread,
        "{what}: {hits} of {total} is not {expected} within {sigmas} sigma ({off:.0} > {spread:.0})"
    );
}

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).expect("test counts are small"))
}
