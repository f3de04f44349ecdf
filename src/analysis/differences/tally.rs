//! What differed so far between a route and one of its mirrors, by kind and path.
//!
//! A bounded number of places, each with a few examples; what finds no room is counted as other. It
//! must never call a difference the copy's before stable was compared with itself often enough.

use std::collections::{BTreeMap, VecDeque};

use http::Method;
use serde::{Deserialize, Serialize};

use super::compare::compare;
use super::evidence::{BLOCK, Evidence, Labels};
use super::{Difference, Kind, shown};
use crate::analysis::Bins;
use crate::model::{CompareRules, Heard, Pair};

/// Places counted by themselves, at most.
pub const MAX_PATHS: usize = 64;
/// Place of everything else of a kind.
pub const OTHER: &str = "(other)";
/// Examples kept of a place.
pub const SAMPLES: usize = 3;
/// Pairs of stable and itself without which nothing is confirmed, and nothing is noise.
pub const LEAST_NOISE: u64 = 50;
/// Chance that anything is ever confirmed of a version that answers as stable does.
const ALPHA: f64 = 0.01;
/// Bounds of latency bins in one doubling.
const BINS_PER_DOUBLING: u32 = 16;

/// Which sides of mirrored pairs failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Paired {
    /// Neither.
    pub both_good: u64,
    /// Stable alone.
    pub stable_bad: u64,
    /// The copy alone.
    pub shadow_bad: u64,
    /// Both.
    pub both_bad: u64,
}

impl Paired {
    /// Counts a pair.
    pub fn add(&mut self, primary_failed: bool, shadow_failed: bool) {
        let count = match (primary_failed, shadow_failed) {
            (false, false) => &mut self.both_good,
            (true, false) => &mut self.stable_bad,
            (false, true) => &mut self.shadow_bad,
            (true, true) => &mut self.both_bad,
        };
        *count += 1;
    }

    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        self.both_good += other.both_good;
        self.stable_bad += other.stable_bad;
        self.shadow_bad += other.shadow_bad;
        self.both_bad += other.both_bad;
    }

    /// All pairs.
    #[must_use]
    pub const fn all(&self) -> u64 {
        self.both_good + self.stable_bad + self.shadow_bad + self.both_bad
    }
}

/// What is known about a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// The copy differs more often than stable differs from itself.
    Confirmed,
    /// Too little is known.
    Unconfirmed,
    /// Stable differs from itself there.
    Noise,
}

impl Standing {
    /// As it is printed.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unconfirmed => "unconfirmed",
            Self::Noise => "noise",
        }
    }
}

/// An example.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Wall-clock milliseconds.
    pub at_millis: u64,
    /// The id both sides were sent.
    pub request_id: String,
    /// Method.
    pub method: String,
    /// Path without its query.
    pub target: String,
    /// What differed.
    pub difference: Difference,
}

/// One place that differs.
#[derive(Clone, Debug, PartialEq)]
pub struct Differing {
    /// What kind.
    pub kind: Kind,
    /// Where.
    pub path: String,
    /// What is known about it.
    pub standing: Standing,
    /// Pairs with the copy's version in which it differed.
    pub pairs: u64,
    /// Pairs of stable and itself in which it differed.
    pub noise: u64,
}

/// What is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Which sides failed; without noise.
    pub paired: Paired,
    /// Pairs with the copy's version that were compared.
    pub pairs: u64,
    /// Pairs of stable and itself that were compared.
    pub noise: u64,
    /// Pairs whose bodies could not be compared.
    pub unread: u64,
    /// Places that differ: confirmed ones first, then by how often.
    pub differing: Vec<Differing>,
    /// Examples of what is not noise.
    pub samples: Vec<Sample>,
    /// Differences with the copy's version by kind, noise or not.
    pub by_kind: BTreeMap<Kind, u64>,
    /// Latency of stable's and of the copy's answers, of the same requests.
    pub latency: [Bins; 2],
}

impl Report {
    /// Places of which it is confirmed that the copy differs.
    pub fn confirmed(&self) -> impl Iterator<Item = &Differing> {
        self.differing.iter().filter(|one| one.standing == Standing::Confirmed)
    }
}

#[derive(Clone, Debug, Default)]
struct Track {
    /// Pairs whose copies might have gone to either side.
    seen: Labels,
    /// Pairs of methods that are never sent to stable twice: nothing tells what of them is noise.
    unsafe_pairs: u64,
    evidence: Evidence,
    samples: VecDeque<Sample>,
}

/// Counts what differs.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    paired: Paired,
    compared: Labels,
    unsafe_pairs: u64,
    unread: u64,
    block: Labels,
    tracks: BTreeMap<(Kind, String), Track>,
    by_kind: BTreeMap<Kind, u64>,
    latency: [Bins; 2],
}

impl Tally {
    /// Takes a pair; without rules only failures and latency are counted.
    pub fn add(&mut self, pair: &Pair, rules: Option<&CompareRules>) {
        if !pair.noise {
            self.paired.add(pair.primary.failed, pair.shadow.failed);
            self.time(&pair.primary, &pair.shadow);
        }
        let Some(rules) = rules else { return };
        let is_safe = [Method::GET, Method::HEAD, Method::OPTIONS].contains(&pair.method);
        let compared = compare(pair, rules);
        self.unread += u64::from(compared.body_unread);
        let mut met = Vec::new();
        for difference in compared.differences {
            let key = self.place(&difference);
            // Several places without room of their own are one.
            if met.contains(&key) {
                continue;
            }
            met.push(key.clone());
            if !pair.noise {
                *self.by_kind.entry(difference.kind).or_default() += 1;
            }
            let track = self.tracks.entry(key).or_default();
            if is_safe {
                track.seen.add(pair.noise);
                track.evidence.differs(pair.noise);
            } else {
                track.unsafe_pairs += 1;
            }
            if !pair.noise {
                track.sample(pair, difference);
            }
        }
        if is_safe {
            self.compared.add(pair.noise);
            self.block.add(pair.noise);
            self.close();
        } else {
            self.unsafe_pairs += 1;
        }
    }

    /// Ends the block when it is full.
    fn close(&mut self) {
        if self.block.both() >= BLOCK {
            let block = std::mem::take(&mut self.block);
            self.tracks.values_mut().for_each(|track| track.evidence.close(block));
        }
    }

    /// Under which place a difference is counted.
    fn place(&self, difference: &Difference) -> (Kind, String) {
        let key = (difference.kind, difference.path.clone());
        let room = self.tracks.len() < MAX_PATHS || self.tracks.contains_key(&key);
        if room { key } else { (difference.kind, OTHER.to_owned()) }
    }

    fn time(&mut self, primary: &Heard, shadow: &Heard) {
        // A latency needs the other side's for the same request.
        if primary.status != 0 && shadow.status != 0 {
            let [one, other] = &mut self.latency;
            one.add(bound(primary.nanos), 1);
            other.add(bound(shadow.nanos), 1);
        }
    }

    /// What is known by now.
    #[must_use]
    pub fn report(&self) -> Report {
        let mut differing: Vec<(Differing, &Track)> = self
            .tracks
            .iter()
            .map(|((kind, path), track)| {
                let standing = self.standing(track);
                let pairs = track.seen.canary + track.unsafe_pairs;
                let (kind, path, noise) = (*kind, path.clone(), track.seen.noise);
                (Differing { kind, path, standing, pairs, noise }, track)
            })
            .collect();
        differing.sort_by(|(one, _), (other, _)| {
            (one.standing, std::cmp::Reverse(one.pairs))
                .cmp(&(other.standing, std::cmp::Reverse(other.pairs)))
        });
        let told = differing.iter().filter(|(one, _)| one.standing != Standing::Noise);
        Report {
            paired: self.paired,
            pairs: self.compared.canary + self.unsafe_pairs,
            noise: self.compared.noise,
            unread: self.unread,
            samples: told.flat_map(|(_, track)| track.samples.iter().cloned()).collect(),
            differing: differing.into_iter().map(|(one, _)| one).collect(),
            by_kind: self.by_kind.clone(),
            latency: self.latency.clone(),
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a bound")]
    fn standing(&self, track: &Track) -> Standing {
        // Each place has its part of the total, and so has what finds no room of each kind.
        let threshold = ((MAX_PATHS + Kind::ALL.len()) as f64 / ALPHA).ln();
        if self.compared.noise < LEAST_NOISE {
            Standing::Unconfirmed
        } else if track.evidence.ln() >= threshold {
            Standing::Confirmed
        } else if track.seen.noise > 0 {
            Standing::Noise
        } else {
            Standing::Unconfirmed
        }
    }
}

impl Track {
    fn sample(&mut self, pair: &Pair, difference: Difference) {
        if self.samples.len() >= SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample {
            at_millis: pair.unix_millis,
            request_id: String::from_utf8_lossy(pair.request_id.as_bytes()).into_owned(),
            method: pair.method.to_string(),
            target: shown::target(&pair.path),
            difference,
        });
    }
}

/// The upper bound of a duration's bin: at most a sixteenth above it, at most a thousand bins.
fn bound(nanos: u64) -> u64 {
    let width = (nanos.max(1).ilog2() + 1).saturating_sub(BINS_PER_DOUBLING.ilog2() + 1);
    (nanos >> width).saturating_add(1).saturating_mul(1 << width)
}
