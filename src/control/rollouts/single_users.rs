//! What one user alone can do to a verdict: the real counters, read as they are live, and judged.

use std::net::IpAddr;

use super::counts::{Epoch, tick};
use crate::analysis::{Analyzer, Finding, Policy, Verdict, Waiting, policy::Preset};
use crate::ledger::trial::{Ended, Fate, Placement, Read, Side, Trial, TrialTotals};
use crate::model::WorkerId;
use crate::spec::rollout::OnClientErrors;

/// Healthy addresses, and how many requests a second they make together.
const ADDRESSES: u32 = 200;
/// One bad outcome in so many of a healthy version.
const ONE_IN: u32 = 1_000;

/// Which arm the one user has, where there are keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Stable,
    Canary,
    /// A new key of the canary's for every request.
    Aimed,
}

/// What the one user asks for: both versions answer it alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    /// What the others ask for.
    Usual,
    /// What takes a second.
    Slow,
    /// What does not exist.
    Missing,
}

/// What the one user does, beside `ADDRESSES` others.
#[derive(Clone, Copy, Debug)]
struct Flood {
    rps: u32,
    /// Of a hundred requests.
    failing: u32,
    /// Second in which it begins.
    from: u64,
    at: At,
    asks: Asks,
    /// How many networks in IPv6 it has, and how far apart; 1 is one address.
    addresses: (u16, u16),
}

const NOBODY: Flood =
    Flood { rps: 0, failing: 0, from: 0, at: At::Stable, asks: Asks::Usual, addresses: (1, 0) };

/// A route for some minutes.
#[derive(Clone, Copy, Debug)]
struct Route {
    sticky: bool,
    w: f64,
    /// Requests of all others in a second.
    rps: u32,
    /// Addresses of all others, and users behind each.
    others: (u32, u32),
    /// Requests of a hundred that the canary fails.
    canary_fails: u32,
    flood: Flood,
}

fn slot_of(client: u32) -> u16 {
    (u64::from(client).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

impl Route {
    fn border(self) -> u16 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a slot")]
        let border = (self.w * 65_536.0) as u16;
        border
    }

    fn side(self, slot: u16, dice: &mut fastrand::Rng) -> Side {
        let canary = if self.sticky { slot < self.border() } else { dice.f64() < self.w };
        if canary { Side::Canary } else { Side::Stable }
    }

    /// The findings of so many seconds.
    fn judged(self, policy: &Policy, seconds: u64, seed: u64) -> Vec<Finding> {
        let mut dice = fastrand::Rng::with_seed(seed);
        let trial = Trial::new(1, 2, seed, Vec::new());
        let epoch = Epoch { w: self.w, step: 0, sticky: self.sticky };
        let mut analyzer = Analyzer::new(policy, f64::from(self.rps));
        let (mut before, mut read) = (TrialTotals::default(), Read::default());
        let mut findings = Vec::new();
        for second in 0..seconds {
            let mut events: Vec<(u64, bool)> = (0..self.rps).map(|_| (dice.u64(0..1_000), false)).collect();
            let flood = if second >= self.flood.from { self.flood.rps } else { 0 };
            events.extend((0..flood).map(|_| (dice.u64(0..1_000), true)));
            events.sort_unstable();
            for (milli, flooding) in events {
                let ended = if flooding { self.flooded(&mut dice) } else { self.other(&mut dice) };
                let ended = Ended { unix_millis: second * 1_000 + milli, ..ended };
                trial.record(WorkerId(dice.usize(..2)), &ended);
            }
            if analyzer.is_warm(second + 1) {
                trial.warmed();
            }
            let totals = trial.totals_since(&mut read, second);
            findings.push(analyzer.tick(policy, &tick(epoch, second, &totals, &before)));
            before = totals;
        }
        findings
    }

    fn other(self, dice: &mut fastrand::Rng) -> Ended {
        // Users come and go: a few are new in every second.
        let client = dice.u32(..self.others.0);
        let slot = slot_of(client + 7 + ADDRESSES * dice.u32(..self.others.1));
        let side = self.side(slot, dice);
        let fails = side == Side::Canary && dice.u32(..100) < self.canary_fails || dice.u32(..ONE_IN) == 0;
        self.ended(side, fails, 100 + client, slot)
    }

    fn flooded(self, dice: &mut fastrand::Rng) -> Ended {
        let slot = match self.flood.at {
            At::Stable => u16::MAX,
            At::Canary => 1,
            At::Aimed => dice.u16(..self.border()),
        };
        let fails = dice.u32(..100) < self.flood.failing;
        let ended = self.ended(self.side(slot, dice), fails, 1, slot);
        let (networks, apart) = self.flood.addresses;
        let network = 0x100 + apart * dice.u16(..networks);
        let site = IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, 1]);
        let address = if networks == 1 { ended.address } else { site };
        let nanos = if self.flood.asks == Asks::Slow { Some(1_000_000_000) } else { ended.nanos };
        Ended { address, nanos, client_error: self.flood.asks == Asks::Missing, ..ended }
    }

    fn ended(self, side: Side, fails: bool, client: u32, slot: u16) -> Ended {
        Ended {
            side,
            placement: Placement::Placed,
            fate: if fails { Fate::Bad } else { Fate::Good },
            client_error: false,
            slot: self.sticky.then_some(slot),
            nanos: Some(20_000_000),
            address: IpAddr::V4(client.into()),
            unix_millis: 0,
        }
    }
}

fn harmful(findings: &[Finding]) -> Option<(u64, &'static str)> {
    let found = findings.iter().find(|found| found.verdict == Verdict::Harmful)?;
    Some((found.at_second, found.rule.label()))
}

const ROUTE: Route =
    Route { sticky: false, w: 0.05, rps: 200, others: (ADDRESSES, 1), canary_fails: 0, flood: NOBODY };

#[test]
fn one_client_that_fails_puts_nothing_back() {
    for (sticky, at) in [(false, At::Stable), (true, At::Stable), (true, At::Canary), (true, At::Aimed)] {
        for w in [0.01, 0.05, 0.5] {
            for (seed, from) in [(0, 0), (1, 20), (2, 40)] {
                let flood = Flood { rps: 300, failing: 95, from, at, ..NOBODY };
                let findings = Route { sticky, w, flood, ..ROUTE }.judged(&Policy::default(), 60, seed);
                assert_eq!(harmful(&findings), None, "sticky {sticky}, at {at:?}, weight {w}, seed {seed}");
            }
        }
    }
}

#[test]
fn one_client_does_not_hide_that_a_third_of_the_others_fail() {
    let easy = |at| Flood { rps: 4_000, failing: 0, from: 0, at, ..NOBODY };
    let failing = |at| Flood { rps: 500, failing: 95, from: 0, at, ..NOBODY };
    for sticky in [false, true] {
        for flood in [NOBODY, easy(At::Stable), easy(At::Canary), failing(At::Stable), failing(At::Canary)] {
            let mut seconds: Vec<u64> = Vec::new();
            for seed in 0..5 {
                let route = Route { sticky, canary_fails: 30, flood, ..ROUTE };
                let found = harmful(&route.judged(&Policy::default(), 60, seed));
                seconds.push(found.map_or(99, |(second, _)| second));
            }
            seconds.sort_unstable();
            assert!(seconds[2] <= 30, "sticky {sticky}, {flood:?}: {seconds:?}");
        }
    }
}

#[test]
fn one_client_does_not_pass_a_step_for_the_others() {
    let policy = Policy { preset: Some(Preset::High), ..Policy::default() };
    for sticky in [false, true] {
        let flood = Flood { rps: 2_000, failing: 0, from: 0, at: At::Canary, ..NOBODY };
        let findings = Route { sticky, rps: 20, flood, ..ROUTE }.judged(&policy, 120, 1);
        let passed = findings.iter().find(|found| found.verdict == Verdict::Healthy);
        assert!(passed.is_none(), "sticky {sticky}: {passed:?}");
    }
}

#[test]
fn on_a_sticky_route_users_are_needed_and_not_requests() {
    let policy = Policy { written_min_requests: Some(20), ..Policy::default() };
    let waits = |sticky| {
        let findings = Route { sticky, ..ROUTE }.judged(&policy, 30, 1);
        findings.last().map(|found| found.waiting_for.clone()).unwrap_or_default()
    };
    let users = waits(true).iter().any(|one| matches!(one, Waiting::Users { more: 1..20 }));
    assert!(users, "ten of two hundred users are the canary's: {:?}", waits(true));
    let requests = waits(false).iter().any(|one| matches!(one, Waiting::Requests { .. }));
    assert!(!requests, "{:?}", waits(false));
}

/// The first finding that convicts or holds, after the moments in which only few are active.
fn objection(findings: &[Finding]) -> Option<(u64, Verdict, &'static str)> {
    let found = findings.iter().find(|found| matches!(found.verdict, Verdict::Harmful | Verdict::Suspect))?;
    Some((found.at_second, found.verdict, found.rule.label()))
}

#[test]
fn keys_that_were_tried_out_make_nothing_slow_refused_or_uneven() {
    let policy = Policy { client_errors: OnClientErrors::Revert, ..Policy::default() };
    for asks in [Asks::Usual, Asks::Slow, Asks::Missing] {
        for (w, others) in [(0.01, (600, 1)), (0.05, (60, 1)), (0.05, (200, 3)), (0.5, (60, 1))] {
            for (seed, from) in [(0, 2), (1, 20), (2, 40)] {
                let flood = Flood { rps: 5, from, at: At::Aimed, asks, ..NOBODY };
                let route = Route { sticky: true, w, rps: 60, others, flood, ..ROUTE };
                let found = objection(&route.judged(&policy, 120, seed));
                assert_eq!(found, None, "{asks:?}, weight {w}, {others:?} others, from {from}");
            }
        }
    }
}

#[test]
fn networks_of_one_site_and_three_sites_convict_nothing() {
    for (sites, apart) in [(3, 1), (3, 0x100), (4, 0x100)] {
        for (seed, from) in [(0, 2), (1, 20), (2, 40)] {
            let flood =
                Flood { rps: 3, failing: 100, from, at: At::Aimed, addresses: (sites, apart), ..NOBODY };
            let others = (3_200, 1);
            let route = Route { sticky: true, w: 0.01, rps: 300, others, flood, ..ROUTE };
            let findings = route.judged(&Policy::default(), 60, seed);
            assert_eq!(harmful(&findings), None, "{sites} networks, {apart} apart, from {from}");
        }
    }
}
