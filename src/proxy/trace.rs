//! W3C Trace Context: a valid `traceparent` passes unchanged, a broken one goes, a new one is begun
//! when the configuration asks for it.
//!
//! Nothing here decides what is traced elsewhere. It must never pass a `tracestate` without its
//! `traceparent`, and costs one flag where neither came.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that says which trace a request belongs to.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a version 00 traceparent (W3C Trace Context section 3.2.2).
const PARENT_BYTES: usize = 55;
/// Longest traceparent of a later version that is passed on.
const MAX_PARENT_BYTES: usize = 256;
/// Longest tracestate passed on, all lines together: what the standard asks to be able to carry.
const MAX_STATE_BYTES: usize = 512;
/// Most members of a tracestate (section 3.3.1.1).
const MAX_STATE_MEMBERS: usize = 32;
/// A whole share, in millionths.
const WHOLE: u64 = 1_000_000;

/// Removes a broken trace context and, when `sample` is written, begins one where none is left;
/// `sample` is the share marked as sampled, in millionths. `came` says whether any came at all; gives
/// whether one that came is kept.
pub fn settle(
    headers: &mut HeaderMap,
    came: bool,
    sample: Option<u32>,
    mut entropy: impl FnMut() -> u64,
) -> bool {
    let kept = came && keep_valid(headers);
    if let Some(share) = sample.filter(|_| !kept)
        && let Ok(parent) = HeaderValue::try_from(begin(share, &mut entropy))
    {
        headers.insert(TRACEPARENT, parent);
    }
    kept
}

/// Whether a valid traceparent is left.
fn keep_valid(headers: &mut HeaderMap) -> bool {
    let mut parents = headers.get_all(TRACEPARENT).iter();
    let valid = parents.next().is_some_and(|value| is_parent(value.as_bytes())) && parents.next().is_none();
    if !valid {
        headers.remove(TRACEPARENT);
    }
    if !valid || !is_bounded(headers) {
        headers.remove(TRACESTATE);
    }
    valid
}

/// `version-traceid-parentid-flags` in lower-case hex, ids not all zero, version not ff; later
/// versions may go on after a dash.
fn is_parent(value: &[u8]) -> bool {
    let hex = |from: usize, to: usize| {
        value.get(from..to).filter(|part| part.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
    };
    let nonzero = |part: Option<&[u8]>| part.is_some_and(|part| part.iter().any(|byte| *byte != b'0'));
    let Some(version) = hex(0, 2).filter(|version| *version != b"ff") else { return false };
    let length_fits = value.len() == PARENT_BYTES
        || version != b"00" && value.get(PARENT_BYTES) == Some(&b'-') && value.len() <= MAX_PARENT_BYTES;
    let dashes = [2, 35, 52].iter().all(|at| value.get(*at) == Some(&b'-'));
    length_fits && dashes && nonzero(hex(3, 35)) && nonzero(hex(36, 52)) && hex(53, 55).is_some()
}

/// Whether the tracestate is within what every receiver must accept.
fn is_bounded(headers: &HeaderMap) -> bool {
    let (mut bytes, mut members) = (0, 0);
    for line in headers.get_all(TRACESTATE) {
        bytes += line.len();
        members +=
            line.as_bytes().split(|byte| *byte == b',').filter(|one| !one.trim_ascii().is_empty()).count();
    }
    bytes <= MAX_STATE_BYTES && members <= MAX_STATE_MEMBERS
}

fn begin(share: u32, entropy: &mut impl FnMut() -> u64) -> String {
    let sampled = u8::from(entropy() % WHOLE < u64::from(share));
    // An id of zeros means none (section 3.2.2.3), so the last bit is set.
    format!("00-{:016x}{:016x}-{:016x}-{sampled:02x}", entropy(), entropy() | 1, entropy() | 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn settled(lines: &[(&'static str, &str)], sample: Option<u32>) -> Vec<(String, String)> {
        let mut headers: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()))
            .fold(HeaderMap::new(), |mut map, (name, value)| {
                map.append(name, value);
                map
            });
        let mut number = 0;
        settle(&mut headers, !lines.is_empty(), sample, || {
            number += 1;
            number
        });
        headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
    }

    #[test]
    fn a_valid_context_passes_unchanged_and_a_broken_one_goes_whole() {
        let later = format!("cc-{}-more", &GOOD[3..]);
        for parent in [GOOD, &later] {
            assert_eq!(
                settled(&[("traceparent", parent), ("tracestate", "a=1")], Some(0)).len(),
                2,
                "{parent}"
            );
        }
        let long = format!("{GOOD}-x");
        let upper = GOOD.to_uppercase();
        let rows = [
            "",
            "00",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            &long,
            &upper,
        ];
        for parent in rows {
            assert!(settled(&[("traceparent", parent), ("tracestate", "a=1")], None).is_empty(), "{parent}");
        }
        assert!(settled(&[("traceparent", GOOD), ("traceparent", GOOD)], None).is_empty());
        assert!(settled(&[("tracestate", "a=1")], None).is_empty());
    }

    #[test]
    fn an_unbounded_state_is_dropped_alone() {
        let fits = vec!["a=1"; 32].join(",");
        let (long, many) = (format!("a={}", "x".repeat(511)), vec!["a=1"; 33].join(","));
        assert_eq!(settled(&[("traceparent", GOOD), ("tracestate", &fits)], None).len(), 2);
        for state in [long, many] {
            assert_eq!(settled(&[("traceparent", GOOD), ("tracestate", &state)], None).len(), 1);
        }
    }

    #[test]
    fn a_context_is_begun_only_when_asked() {
        assert!(settled(&[], None).is_empty());
        for (share, flags) in [(0, "00"), (1_000_000, "01")] {
            let begun = settled(&[], Some(share));
            assert!(is_parent(begun[0].1.as_bytes()) && begun[0].1.ends_with(flags), "{begun:?}");
        }
    }
}
