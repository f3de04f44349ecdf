//! Routes no request can reach: their matches repeat ones that win, or stand behind a catch-all of
//! higher priority.
//!
//! It must never call a route unreachable that some request could reach; it may miss some that are.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::{Findings, fingerprint};
use crate::model::{Diagnostic, Place};
use crate::plan::rank::{HostRank, PathRank, Rank};
use crate::plan::router::{HostPattern, MatchRule, PathPattern};
use crate::spec::rule::Match;
use crate::spec::{Spot, route};

/// What a match looks at, as one number, and how it ranks.
#[derive(Clone, Copy)]
struct Entry {
    rank: Rank,
    route: usize,
    listeners: u64,
}

struct Seen {
    name: String,
    place: Place,
    /// Conditions key and entry of each of its matches.
    entries: Vec<(u64, Entry)>,
}

/// Collects every route's matches, then reports the dead.
#[derive(Default)]
pub(super) struct Reachable {
    routes: Vec<Seen>,
}

impl Reachable {
    pub(super) fn add(&mut self, written: &route::Route, matched: &[MatchRule], file: &str) {
        let place = Place {
            file: file.to_owned(),
            line: written.name.line,
            column: written.name.column,
            length: written.name.length,
        };
        let route = self.routes.len();
        let everything = [Spot::unwritten(Match::default())];
        let matches = if written.matches.is_empty() { &everything[..] } else { &written.matches[..] };
        let per_match = matched.len().checked_div(matches.len()).unwrap_or(1).max(1);
        let entries = matched
            .iter()
            .enumerate()
            .filter_map(|(at, rule)| {
                let conditions = matches.get(at / per_match)?;
                Some((key(rule, conditions), Entry { rank: rule.rank, route, listeners: rule.listeners }))
            })
            .collect();
        self.routes.push(Seen { name: written.name.value.clone(), place, entries });
    }

    pub(super) fn report(self, findings: &mut Findings) {
        let mut best: HashMap<u64, Vec<Entry>, FixedState> = HashMap::default();
        let mut catch_all: Vec<Entry> = Vec::new();
        for (key, entry) in self.routes.iter().flat_map(|seen| &seen.entries) {
            best.entry(*key).or_default().push(*entry);
            if is_catch_all(&entry.rank) {
                catch_all.push(*entry);
            }
        }
        for (index, seen) in self.routes.iter().enumerate() {
            let winner = |key: &u64, entry: &Entry| {
                let same = best.get(key).into_iter().flatten();
                let wins = |other: &&Entry| {
                    other.route != index
                        && other.rank > entry.rank
                        && other.listeners & entry.listeners == entry.listeners
                };
                same.chain(&catch_all).find(wins).copied()
            };
            let winners: Option<Vec<Entry>> =
                seen.entries.iter().map(|(key, entry)| winner(key, entry)).collect();
            let Some(winner) = winners.as_ref().and_then(|list| list.first()) else { continue };
            let by = self.routes.get(winner.route).map_or("", |route| route.name.as_str());
            let message =
                format!("route `{}` can never be reached: route `{by}` takes all it matches", seen.name);
            findings.found.push(
                Diagnostic::error("unreachable-route", message)
                    .at(seen.place.clone())
                    .hint("remove it, narrow the other route, or give it a priority"),
            );
        }
    }
}

fn is_catch_all(rank: &Rank) -> bool {
    rank.host == HostRank::Any
        && rank.path == PathRank::Prefix(0)
        && !rank.method
        && rank.headers == 0
        && rank.query == 0
}

/// Everything a match looks at, as a number; equal numbers look at the same.
fn key(rule: &MatchRule, conditions: &Match) -> u64 {
    let host = match &rule.host {
        HostPattern::Any => (0, ""),
        HostPattern::Wildcard(name) => (1, &**name),
        HostPattern::Exact(name) => (2, &**name),
    };
    let path = match &rule.path {
        PathPattern::Prefix(path) => (0, &**path),
        PathPattern::Exact(path) => (1, &**path),
        PathPattern::Regex(regex) => (2, regex.as_str()),
    };
    let sorted = |list: &[Spot<crate::spec::rule::Predicate>]| {
        let mut keys: Vec<u64> = list.iter().map(fingerprint).collect();
        keys.sort_unstable();
        keys
    };
    fingerprint(&(
        host,
        path,
        conditions.method.as_deref(),
        sorted(&conditions.headers),
        sorted(&conditions.cookies),
        sorted(&conditions.query_params),
        &conditions.client_ip,
    ))
}
