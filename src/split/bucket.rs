//! The frozen hash from a sticky key to a bucket.
//!
//! `bucket = (xxh64(salt ++ 0x00 ++ key, seed 0) as u128 * 10000) >> 64`. Other languages agree with
//! it through the vectors in config/README.md. It must never change.

use xxhash_rust::xxh64::xxh64;

/// Number of buckets: one is 0.01 % of the users.
pub const BUCKETS: u16 = 10_000;

/// Length up to which `salt ++ 0x00 ++ key` is nearly always, and is hashed in one piece.
const SHORT: usize = 64;
/// Length up to which it is hashed in one piece at all.
const LONG: usize = 192;

/// The per-split seed with its separator, ready to be followed by a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Salt(Box<[u8]>);

impl Salt {
    /// A salt from text.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let mut bytes = text.as_bytes().to_vec();
        bytes.push(0);
        Self(bytes.into())
    }

    /// The text without its separator.
    #[must_use]
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.0.strip_suffix(&[0]).unwrap_or(&self.0))
    }

    /// The 64-bit hash of a key under this salt.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> u64 {
        // Clearing a buffer costs by its length.
        match self.0.len() + key.len() {
            length if length <= SHORT => self.joined::<SHORT>(key),
            length if length <= LONG => self.joined::<LONG>(key),
            _ => self.streamed(key),
        }
    }

    fn joined<const N: usize>(&self, key: &[u8]) -> u64 {
        let mut inline = [0_u8; N];
        let salt = self.0.len();
        let Some(joined) = inline.get_mut(..salt + key.len()) else { return self.streamed(key) };
        let (front, back) = joined.split_at_mut(salt);
        front.copy_from_slice(&self.0);
        back.copy_from_slice(key);
        xxh64(joined, 0)
    }

    fn streamed(&self, key: &[u8]) -> u64 {
        let mut state = xxhash_rust::xxh64::Xxh64::new(0);
        state.update(&self.0);
        state.update(key);
        state.digest()
    }
}

/// The bucket of a hash, or of 64 random bits: `0..BUCKETS`, uniform.
#[must_use]
pub const fn bucket_of(hash: u64) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "the product shifted by 64 is below BUCKETS")]
    let bucket = ((hash as u128 * BUCKETS as u128) >> 64) as u16;
    bucket
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_of_the_hash_are_the_ends_of_the_buckets() {
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn long_keys_hash_like_short_ones() {
        let salt = Salt::new("checkout");
        for length in [0, 1, 31, 32, 54, 55, 56, 182, 183, 184, 4096] {
            let key = vec![b'k'; length];
            let joined = [b"checkout\0", &*key].concat();
            assert_eq!(salt.hash(&key), xxh64(&joined, 0), "{length}");
            assert_eq!(salt.streamed(&key), xxh64(&joined, 0), "{length}");
        }
        assert_eq!(salt.hash(b"u42"), xxh64(b"checkout\0u42", 0));
    }
}
