//! Request head to route: hash tables by host and path, so that ten thousand routes cost what ten do.
//!
//! Tables are filled in [`Rank`] order and read most specific first; the first match whose
//! conditions hold wins. It must never look at more prefixes than the longest configured one has
//! segments, whatever path a client sends.

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use http::Method;
use ipnet::IpNet;

use super::rank::{HostRank, PathRank, Rank};
use crate::model::{RequestHead, UnroutedReason};
use crate::split::{Condition, condition::in_networks};

/// Which host a match serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum HostPattern {
    /// Every host.
    Any,
    /// Hosts that end in `.suffix`; never the suffix itself.
    Wildcard(Box<str>),
    /// One host, lower case.
    Exact(Box<str>),
}

impl HostPattern {
    /// Its precedence.
    #[must_use]
    pub fn rank(&self) -> HostRank {
        match self {
            Self::Any => HostRank::Any,
            Self::Wildcard(suffix) => HostRank::Wildcard(suffix.len()),
            Self::Exact(_) => HostRank::Exact,
        }
    }
}

/// Which path a match serves.
#[derive(Clone, Debug)]
pub enum PathPattern {
    /// Whole segments from the start, without a trailing slash; empty is every path.
    Prefix(Box<str>),
    /// The whole path.
    Exact(Box<str>),
    /// The whole path against an anchored expression.
    Regex(regex::Regex),
}

impl PathPattern {
    /// Its precedence.
    #[must_use]
    pub fn rank(&self) -> PathRank {
        match self {
            Self::Prefix(prefix) => PathRank::Prefix(prefix.len()),
            Self::Exact(_) => PathRank::Exact,
            Self::Regex(_) => PathRank::Regex,
        }
    }
}

/// One match of one route, compiled.
#[derive(Debug)]
pub struct MatchRule {
    /// Index of the route in the plan.
    pub route: u32,
    /// Host pattern.
    pub host: HostPattern,
    /// Path pattern.
    pub path: PathPattern,
    /// Method.
    pub method: Option<Method>,
    /// Conditions on headers, cookies and parameters.
    pub conditions: Box<[Condition]>,
    /// Networks the client must be in; empty is any.
    pub networks: Box<[IpNet]>,
    /// Listener indices it serves, as a bit set.
    pub listeners: u64,
    /// Its precedence.
    pub rank: Rank,
}

impl MatchRule {
    /// Whether everything but host and path holds.
    fn holds(&self, head: &RequestHead<'_>) -> bool {
        self.method.as_ref().is_none_or(|method| method == head.method)
            && self.conditions.iter().all(|condition| condition.holds(head))
            && (self.networks.is_empty() || in_networks(&self.networks, head.client_ip))
            && self.listeners & (1 << head.listener) != 0
    }

    /// Length of the matched prefix, for filters that replace it.
    #[must_use]
    pub fn prefix_len(&self) -> usize {
        match &self.path {
            PathPattern::Prefix(prefix) => prefix.len(),
            PathPattern::Exact(_) | PathPattern::Regex(_) => 0,
        }
    }
}

/// The route that owns a request and the match that won.
#[derive(Clone, Copy, Debug)]
pub struct Routed<'p> {
    /// Index of the route in the plan.
    pub route: usize,
    /// The winning match.
    pub rule: &'p MatchRule,
}

type Table<V> = HashMap<Box<str>, V, FixedState>;

/// Matches of one host pattern, by path; every list is in rank order.
#[derive(Debug, Default)]
struct PathTable {
    exact: Table<Vec<u32>>,
    prefix: Table<Vec<u32>>,
    regex: Vec<u32>,
    longest_prefix: usize,
}

/// All matches of one written priority.
#[derive(Debug, Default)]
struct Tier {
    exact: Table<PathTable>,
    wildcard: Table<PathTable>,
    any: Option<PathTable>,
}

/// Who owns which request.
#[derive(Debug, Default)]
pub struct Router {
    rules: Box<[MatchRule]>,
    tiers: Box<[Tier]>,
}

impl Router {
    /// Builds the tables. Rules may come in any order.
    #[must_use]
    pub fn new(mut rules: Vec<MatchRule>) -> Self {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.rank));
        let mut tiers: Vec<Tier> = Vec::new();
        let mut priority = None;
        for (rule, index) in rules.iter().zip(0_u32..) {
            if priority.replace(rule.rank.priority) != Some(rule.rank.priority) {
                tiers.push(Tier::default());
            }
            let Some(tier) = tiers.last_mut() else { continue };
            let table = match &rule.host {
                HostPattern::Exact(host) => tier.exact.entry_ref(&**host).or_insert_with(PathTable::default),
                HostPattern::Wildcard(host) => {
                    tier.wildcard.entry_ref(&**host).or_insert_with(PathTable::default)
                }
                HostPattern::Any => tier.any.get_or_insert_default(),
            };
            match &rule.path {
                PathPattern::Exact(path) => {
                    table.exact.entry_ref(&**path).or_insert_with(Vec::new).push(index);
                }
                PathPattern::Regex(_) => table.regex.push(index),
                PathPattern::Prefix(path) => {
                    table.longest_prefix = table.longest_prefix.max(path.len());
                    table.prefix.entry_ref(&**path).or_insert_with(Vec::new).push(index);
                }
            }
        }
        Self { rules: rules.into(), tiers: tiers.into() }
    }

    /// All matches, best first.
    #[must_use]
    pub fn rules(&self) -> &[MatchRule] {
        &self.rules
    }

    /// The route that owns the request.
    ///
    /// # Errors
    /// [`UnroutedReason::Host`] when no match serves the host at all, else [`UnroutedReason::Match`].
    pub fn route<'p>(&'p self, head: &RequestHead<'_>) -> Result<Routed<'p>, UnroutedReason> {
        let mut reason = UnroutedReason::Host;
        for tier in &self.tiers {
            for table in tier.tables(head.host) {
                reason = UnroutedReason::Match;
                if let Some(rule) = self.in_table(table, head) {
                    return Ok(Routed { route: rule.route as usize, rule });
                }
            }
        }
        Err(reason)
    }

    fn in_table<'p>(&'p self, table: &'p PathTable, head: &RequestHead<'_>) -> Option<&'p MatchRule> {
        let first = |list: Option<&'p Vec<u32>>| {
            let rules = list.into_iter().flatten().filter_map(|index| self.rules.get(*index as usize));
            rules.into_iter().find(|rule| rule.holds(head))
        };
        if let Some(rule) = first(table.exact.get(head.path)) {
            return Some(rule);
        }
        for prefix in prefixes(head.path, table.longest_prefix) {
            if let Some(rule) = first(table.prefix.get(prefix)) {
                return Some(rule);
            }
        }
        let regexes = table.regex.iter().filter_map(|index| self.rules.get(*index as usize));
        regexes.into_iter().find(|rule| {
            matches!(&rule.path, PathPattern::Regex(regex) if regex.is_match(head.path)) && rule.holds(head)
        })
    }
}

impl Tier {
    /// Tables that serve a host, most specific first.
    fn tables<'t, 'h>(&'t self, host: &'h str) -> impl Iterator<Item = &'t PathTable> + use<'t, 'h> {
        let suffixes = move || {
            host.match_indices('.').filter(|(at, _)| *at > 0).filter_map(|(at, _)| host.get(at + 1..))
        };
        let wildcard = (!self.wildcard.is_empty()).then(suffixes).into_iter().flatten();
        let exact = if self.exact.is_empty() { None } else { self.exact.get(host) };
        exact
            .into_iter()
            .chain(wildcard.filter_map(|suffix| self.wildcard.get(suffix)))
            .chain(self.any.as_ref())
    }
}

/// Prefixes of a path that end at a segment's end, longest first, none longer than `longest`.
fn prefixes(path: &str, longest: usize) -> impl Iterator<Item = &str> {
    let whole = (path.len() <= longest).then_some(path);
    let head = path.get(..=longest.min(path.len().saturating_sub(1))).unwrap_or(path);
    whole.into_iter().chain(head.rmatch_indices('/').filter_map(move |(at, _)| path.get(..at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_end_at_segments_and_stop_at_the_longest() {
        let all: Vec<_> = prefixes("/a/b/c", 99).collect();
        assert_eq!(all, ["/a/b/c", "/a/b", "/a", ""]);
        let short: Vec<_> = prefixes("/a/b/c", 2).collect();
        assert_eq!(short, ["/a", ""]);
        let slash: Vec<_> = prefixes("/a/", 99).collect();
        assert_eq!(slash, ["/a/", "/a", ""]);
        let none: Vec<_> = prefixes("/aaaa", 0).collect();
        assert_eq!(none, [""]);
    }
}
