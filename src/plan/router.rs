//! Request head to route: hash tables by host and path, so that ten thousand routes cost what ten do.
//!
//! Tables are filled in [`Rank`] order and read most specific first; the first match whose
//! conditions hold wins. It must never look at more prefixes than the longest configured one has
//! segments, whatever path a client sends.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::FixedState;
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
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

    fn gate(&self) -> Gate {
        let plain = self.method.is_none() && self.conditions.is_empty() && self.networks.is_empty();
        Gate { listeners: self.listeners, plain }
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

/// Matches of one host pattern in one tier: where to look in [`Router::paths`], and the regexes.
#[derive(Debug)]
struct Site {
    id: u32,
    longest_prefix: usize,
    has_exact: bool,
    has_prefix: bool,
    /// In rank order.
    regexes: Vec<u32>,
}

impl Site {
    const fn new(id: u32) -> Self {
        Self { id, longest_prefix: 0, has_exact: false, has_prefix: false, regexes: Vec::new() }
    }
}

/// All matches of one written priority.
#[derive(Debug, Default)]
struct Tier {
    exact: Table<Site>,
    wildcard: Table<Site>,
    any: Option<Site>,
}

/// Matches of one path at one site, in rank order. Nearly always there is one, which costs no
/// further step through memory.
#[derive(Debug)]
struct Paths {
    path: Box<str>,
    site: u32,
    exact: bool,
    first: u32,
    #[expect(clippy::box_collection, reason = "seldom there; a Vec would make every entry 16 bytes longer")]
    more: Option<Box<Vec<u32>>>,
}

impl Paths {
    fn rules(&self) -> impl Iterator<Item = u32> + '_ {
        std::iter::once(self.first).chain(self.more.iter().flat_map(|more| more.iter().copied()))
    }
}

/// What is asked of every candidate, apart from the rest of its rule: a line of memory holds four.
#[derive(Clone, Copy, Debug)]
struct Gate {
    listeners: u64,
    /// Whether nothing else is asked.
    plain: bool,
}

/// Who owns which request.
#[derive(Debug, Default)]
pub struct Router {
    rules: Box<[MatchRule]>,
    gates: Box<[Gate]>,
    tiers: Box<[Tier]>,
    /// Every exact path and prefix of every site.
    paths: HashTable<Paths>,
}

impl Router {
    /// Builds the tables. Rules may come in any order.
    #[must_use]
    pub fn new(mut rules: Vec<MatchRule>) -> Self {
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.rank));
        let mut tiers: Vec<Tier> = Vec::new();
        let mut paths = HashTable::with_capacity(rules.len());
        let mut priority = None;
        let mut sites = 0;
        for (rule, index) in rules.iter().zip(0_u32..) {
            if priority.replace(rule.rank.priority) != Some(rule.rank.priority) {
                tiers.push(Tier::default());
            }
            let Some(tier) = tiers.last_mut() else { continue };
            let site = tier.site(&rule.host, &mut sites);
            match &rule.path {
                PathPattern::Regex(_) => site.regexes.push(index),
                PathPattern::Exact(path) => {
                    site.has_exact = true;
                    insert(&mut paths, site.id, true, path, index);
                }
                PathPattern::Prefix(path) => {
                    site.has_prefix = true;
                    site.longest_prefix = site.longest_prefix.max(path.len());
                    insert(&mut paths, site.id, false, path, index);
                }
            }
        }
        let gates = rules.iter().map(MatchRule::gate).collect();
        Self { rules: rules.into(), gates, tiers: tiers.into(), paths }
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
            for site in tier.sites(head.host) {
                reason = UnroutedReason::Match;
                if let Some(rule) = self.at(site, head) {
                    return Ok(Routed { route: rule.route as usize, rule });
                }
            }
        }
        Err(reason)
    }

    fn at<'p>(&'p self, site: &'p Site, head: &RequestHead<'_>) -> Option<&'p MatchRule> {
        if site.has_exact
            && let Some(rule) = self.first(site.id, true, head.path, head)
        {
            return Some(rule);
        }
        if site.has_prefix {
            let found = prefixes(head.path, site.longest_prefix)
                .find_map(|prefix| self.first(site.id, false, prefix, head));
            if found.is_some() {
                return found;
            }
        }
        let regexes = site.regexes.iter().filter_map(|index| self.rules.get(*index as usize));
        regexes.into_iter().find(|rule| {
            matches!(&rule.path, PathPattern::Regex(regex) if regex.is_match(head.path)) && rule.holds(head)
        })
    }

    /// The number of one of its matches: stays true for the life of the plan.
    #[must_use]
    pub fn number_of(&self, rule: &MatchRule) -> u32 {
        let (first, at) = (self.rules.as_ptr().addr(), std::ptr::from_ref(rule).addr());
        u32::try_from(at.saturating_sub(first) / size_of::<MatchRule>()).unwrap_or(u32::MAX)
    }

    /// A match by its number.
    #[must_use]
    pub fn rule(&self, number: u32) -> Option<&MatchRule> {
        self.rules.get(number as usize)
    }

    /// The first match of one path whose conditions hold.
    fn first(&self, site: u32, exact: bool, path: &str, head: &RequestHead<'_>) -> Option<&MatchRule> {
        let same = |one: &Paths| one.site == site && one.exact == exact && *one.path == *path;
        let found = self.paths.find(hash(site, exact, path), same)?;
        found.rules().find_map(|index| {
            let gate = self.gates.get(index as usize)?;
            let rule = self.rules.get(index as usize)?;
            let open = gate.listeners & (1 << head.listener) != 0 && (gate.plain || rule.holds(head));
            open.then_some(rule)
        })
    }
}

fn insert(paths: &mut HashTable<Paths>, site: u32, exact: bool, path: &str, rule: u32) {
    let same = |one: &Paths| one.site == site && one.exact == exact && *one.path == *path;
    match paths.entry(hash(site, exact, path), same, |one| hash(one.site, one.exact, &one.path)) {
        Entry::Occupied(mut found) => found.get_mut().more.get_or_insert_default().push(rule),
        Entry::Vacant(free) => {
            free.insert(Paths { path: path.into(), site, exact, first: rule, more: None });
        }
    }
}

fn hash(site: u32, exact: bool, path: &str) -> u64 {
    let mut hasher = FixedState::default().build_hasher();
    hasher.write_u64(u64::from(site) << 1 | u64::from(exact));
    hasher.write(path.as_bytes());
    hasher.finish()
}

impl Tier {
    /// The site of a host pattern, new when it is the pattern's first match.
    fn site(&mut self, host: &HostPattern, sites: &mut u32) -> &mut Site {
        let mut fresh = || {
            *sites += 1;
            Site::new(*sites)
        };
        match host {
            HostPattern::Exact(host) => self.exact.entry_ref(&**host).or_insert_with(fresh),
            HostPattern::Wildcard(host) => self.wildcard.entry_ref(&**host).or_insert_with(fresh),
            HostPattern::Any => self.any.get_or_insert_with(&mut fresh),
        }
    }

    /// Sites that serve a host, most specific first.
    fn sites<'t, 'h>(&'t self, host: &'h str) -> impl Iterator<Item = &'t Site> + use<'t, 'h> {
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
